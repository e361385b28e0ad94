//! One rule for every search parameter and modifier of R4: allowed, unsupported (400), not allowed (403), unknown (400).
//!
//! | parameter | rule |
//! |---|---|
//! | the type's own, `_id`, `_lastUpdated`, `_profile` | allowed, typed by the table |
//! | chains, `_has` | allowed to three steps; each type read is a touched fact |
//! | `_include`, `_revinclude`, `:iterate` | allowed by name; `*` is unsupported; each type is a touched fact |
//! | `_sort` | allowed, once, by the type's own parameters |
//! | `_security`, `_tag`, `_source` | not allowed: they ask which rows are labelled, or which program they are from |
//! | `_text`, `_content`, `_filter`, `_query`, `_list`, `_contained`, `_containedType`, `_score` | not allowed: no fact says what they read |
//! | `:exact`, `:contains`, `:[type]`, `:of-type` of identifiers, `:not` of a workflow status | allowed |
//! | `:missing`, `:identifier`, `:text`, `:in`, `:not-in`, `:above`, `:below`, other `:not` and `:of-type` | not allowed: they ask about what is absent, hidden, or elsewhere |

use crate::ids::{LogicalId, ResourceType};
use crate::interaction::{ParseError, Path};
use crate::reference::Reference;
use crate::search::{Kind, Parameter, Row, definition, value};

/// R4 gives chains no bound; three links reach every honest question.
const MAX_LINKS: usize = 3;

/// Alternatives of one parameter.
const MAX_ALTERNATIVES: usize = 1000;

/// Refuses a parameter that any of the types does not have, or that nobody may use. Own absolute references become
/// relative.
pub(super) fn allow(kinds: &[ResourceType], parameter: &mut Parameter, base: &str) -> Result<(), ParseError> {
    if parameter.values().count() > MAX_ALTERNATIVES {
        return Err(ParseError::TooManyParameters);
    }
    match parameter.name() {
        "_include" => include(kinds, parameter).map(|_| ()),
        "_revinclude" => revinclude(kinds, parameter).map(|_| ()),
        "_sort" => sort(kinds, parameter),
        _ => {
            localise(parameter, base);
            for kind in kinds {
                walk(*kind, parameter.key(), parameter.value(), &mut |_, _| {}, MAX_LINKS)?;
            }
            Ok(())
        }
    }
}

/// `_sort` lists its keys in one value; a second one has no meaning. Filters repeat as "and", includes as "also".
pub(super) fn once_each(given: &[Parameter]) -> Result<(), ParseError> {
    if given.iter().filter(|parameter| parameter.name() == "_sort").count() > 1 {
        return Err(ParseError::Repeated);
    }
    Ok(())
}

/// `https://our-base/Patient/a` is `Patient/a`: the EHR does not know our name.
fn localise(parameter: &mut Parameter, base: &str) {
    if base.is_empty() || !parameter.value.contains(base) {
        return;
    }
    let local = |one: &str| match one.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if matches!(Reference::parse(rest), Reference::Relative { .. }) => rest.to_owned(),
        _ => one.to_owned(),
    };
    let values: Vec<String> = parameter.values().map(local).collect();
    parameter.value = values.join(",").into();
}

/// Follows a key to the parameter it ends in, and names every other type that is read on the way.
pub(super) fn walk(
    kind: ResourceType,
    key: &str,
    text: &str,
    seen: &mut dyn FnMut(ResourceType, Path),
    links: usize,
) -> Result<(), ParseError> {
    if let Some(reverse) = key.strip_prefix("_has:") {
        let links = links.checked_sub(1).ok_or(ParseError::MalformedChain)?;
        let mut parts = reverse.splitn(3, ':');
        let (Some(source), Some(link), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ParseError::MalformedChain);
        };
        let source: ResourceType = source.parse().map_err(|_| ParseError::MalformedChain)?;
        let row = reference(source, link)?;
        if !row.types().contains(&kind) {
            return Err(ParseError::MalformedChain);
        }
        seen(source, Path::Has);
        return walk(source, rest, text, seen, links);
    }
    let Some((link, rest)) = key.split_once('.') else { return last(kind, key, text) };
    let links = links.checked_sub(1).ok_or(ParseError::MalformedChain)?;
    let (name, target) = match link.split_once(':') {
        Some((name, target)) => (name, Some(target)),
        None => (link, None),
    };
    let types = reference(kind, name)?.types();
    if let Some(target) = target {
        let target = target.parse().map_err(|_| ParseError::MalformedChain)?;
        if !types.contains(&target) {
            return Err(ParseError::MalformedChain);
        }
        seen(target, Path::Chain);
        return walk(target, rest, text, seen, links);
    }
    // Without `:[type]` the chain reads every target type that has such a parameter (R4 search.html#chaining).
    let mut refusal = ParseError::MalformedChain;
    let mut leads = false;
    for target in types {
        let mut reached = vec![(target, Path::Chain)];
        match walk(target, rest, text, &mut |kind, path| reached.push((kind, path)), links) {
            Ok(()) => {
                leads = true;
                reached.into_iter().for_each(|(kind, path)| seen(kind, path));
            }
            Err(error @ (ParseError::ParameterNotAllowed | ParseError::MalformedValue)) => refusal = error,
            Err(_) => {}
        }
    }
    if leads { Ok(()) } else { Err(refusal) }
}

fn reference(kind: ResourceType, name: &str) -> Result<&'static Row, ParseError> {
    let row = definition(kind, name).ok_or(ParseError::UnknownParameter)?;
    if row.kind == Kind::Reference { Ok(row) } else { Err(ParseError::MalformedChain) }
}

/// The parameter that a key ends in.
fn last(kind: ResourceType, key: &str, text: &str) -> Result<(), ParseError> {
    let (name, modifier) = match key.split_once(':') {
        Some((name, modifier)) => (name, Some(modifier)),
        None => (key, None),
    };
    match name {
        "_id" | "_lastUpdated" | "_profile" => {
            if let Some(modifier) = modifier {
                return Err(refused_modifier(modifier));
            }
        }
        "_security" | "_tag" | "_source" | "_text" | "_content" | "_filter" | "_query" | "_list" | "_contained"
        | "_containedType" | "_score" | "_has" => return Err(ParseError::ParameterNotAllowed),
        _ if name.starts_with('_') => return Err(ParseError::UnknownParameter),
        _ => {}
    }
    let row = definition(kind, name).ok_or(ParseError::UnknownParameter)?;
    match modifier {
        None => plain(row, text),
        Some(modifier) => modified(row, modifier, text),
    }
}

fn plain(row: &Row, text: &str) -> Result<(), ParseError> {
    value::fits(row.kind, text)?;
    match (row.name, row.kind) {
        ("_id", _) => every(text, |one| one.parse::<LogicalId>().is_ok()),
        (_, Kind::Reference) => every(text, |one| fits_reference(row, one)),
        // Location.near: `lat|long|distance|units`.
        (_, Kind::Special) => Err(ParseError::UnsupportedParameter),
        _ => Ok(()),
    }
}

fn every(text: &str, mut fits: impl FnMut(&str) -> bool) -> Result<(), ParseError> {
    if value::alternatives(text).all(&mut fits) { Ok(()) } else { Err(ParseError::MalformedValue) }
}

/// A bare id, `Type/id` of a type that the parameter points at, or a URL.
fn fits_reference(row: &Row, one: &str) -> bool {
    if one.parse::<LogicalId>().is_ok() {
        return true;
    }
    match Reference::parse(one) {
        Reference::Relative { instance, version: None } => row.targets.contain(instance.kind),
        Reference::Relative { .. } | Reference::Contained(_) => false,
        Reference::Absolute { .. } | Reference::Urn(_) => true,
        // Canonical targets are URLs of any form.
        Reference::Opaque => one.contains(':'),
    }
}

fn modified(row: &Row, modifier: &str, text: &str) -> Result<(), ParseError> {
    match (row.kind, modifier) {
        (Kind::String, "exact" | "contains") => value::fits(row.kind, text),
        (Kind::Token, "not") if asks_for_workflow_state(row.name) => value::fits(row.kind, text),
        (Kind::Token, "of-type") if row.name == "identifier" => {
            // `system|code|value` of the identifier's type (R4 search.html#token).
            every(text, |one| value::split(one, '|').filter(|part| !part.is_empty()).count() == 3)
        }
        (Kind::Reference, _) if modifier.parse::<ResourceType>().is_ok() => {
            let Ok(target) = modifier.parse() else { return Err(ParseError::UnknownModifier) };
            if !row.types().contains(&target) {
                return Err(ParseError::UnknownModifier);
            }
            every(text, |one| {
                one.parse::<LogicalId>().is_ok()
                    || matches!(Reference::parse(one), Reference::Relative { instance, version: None } if instance.kind == target)
            })
        }
        _ => Err(refused_modifier(modifier)),
    }
}

fn refused_modifier(modifier: &str) -> ParseError {
    match modifier {
        "missing" | "exact" | "contains" | "text" | "in" | "not-in" | "above" | "below" | "not" | "of-type"
        | "identifier" => ParseError::ParameterNotAllowed,
        _ => ParseError::UnknownModifier,
    }
}

/// Whether a record was entered in error or is still active is asked of every list, and names no condition.
fn asks_for_workflow_state(name: &str) -> bool {
    matches!(
        name,
        "status" | "clinical-status" | "verification-status" | "lifecycle-status" | "active" | "intent" | "doc-status"
    )
}

/// A checked `_include` or `_revinclude`.
pub(super) struct Included {
    pub(super) source: ResourceType,
    pub(super) row: &'static Row,
    pub(super) target: Option<ResourceType>,
}

pub(super) fn include(kinds: &[ResourceType], parameter: &Parameter) -> Result<Included, ParseError> {
    let (included, iterate) = included(parameter)?;
    if !iterate && !kinds.contains(&included.source) {
        return Err(ParseError::MalformedValue);
    }
    Ok(included)
}

pub(super) fn revinclude(kinds: &[ResourceType], parameter: &Parameter) -> Result<Included, ParseError> {
    let (included, iterate) = included(parameter)?;
    let reached = included.target.map_or_else(|| included.row.types(), |target| vec![target]);
    if !iterate && !kinds.iter().any(|kind| reached.contains(kind)) {
        return Err(ParseError::MalformedValue);
    }
    Ok(included)
}

/// `Source:parameter[:Target]` (R4 search.html#revinclude). `:recurse` was never R4's.
pub(super) fn included(parameter: &Parameter) -> Result<(Included, bool), ParseError> {
    let iterate = match parameter.key().split_once(':') {
        None => false,
        Some((_, "iterate")) => true,
        Some(_) => return Err(ParseError::UnknownModifier),
    };
    let mut parts = parameter.value().split(':');
    let (source, name, target) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if source == "*" || name == Some("*") {
        return Err(ParseError::UnsupportedParameter);
    }
    let (Some(name), None) = (name, parts.next()) else { return Err(ParseError::MalformedValue) };
    let source = source.parse().map_err(|_| ParseError::MalformedValue)?;
    let row = reference(source, name).map_err(|_| ParseError::MalformedValue)?;
    let target = match target {
        None => None,
        Some(target) => Some(target.parse().map_err(|_| ParseError::MalformedValue)?),
    };
    if target.is_some_and(|target| !row.types().contains(&target)) {
        return Err(ParseError::MalformedValue);
    }
    Ok((Included { source, row, target }, iterate))
}

fn sort(kinds: &[ResourceType], parameter: &Parameter) -> Result<(), ParseError> {
    if parameter.key() != "_sort" {
        return Err(ParseError::UnknownModifier);
    }
    for name in parameter.value().split(',') {
        let name = name.strip_prefix('-').unwrap_or(name);
        for kind in kinds {
            sort_key(*kind, name)?;
        }
    }
    Ok(())
}

fn sort_key(kind: ResourceType, name: &str) -> Result<(), ParseError> {
    match name {
        "_id" | "_lastUpdated" => return Ok(()),
        _ if name.starts_with('_') => return Err(ParseError::ParameterNotAllowed),
        _ => {}
    }
    match definition(kind, name).ok_or(ParseError::UnknownParameter)?.kind {
        Kind::Composite | Kind::Special => Err(ParseError::UnsupportedParameter),
        Kind::Number | Kind::Date | Kind::String | Kind::Token | Kind::Reference | Kind::Quantity | Kind::Uri => Ok(()),
    }
}
