//! Method, path, query, form and headers, read once into one interaction, or refused.

use crate::bundle;
use crate::ids::{InstanceId, LogicalId, ResourceType};
use crate::interaction::{Interaction, ParseError, RequestParts, SealedToken, format};
use crate::operation::{Operation, Target};
use crate::search::{Presentation, Query};
use crate::stated;

/// Names the interaction that a request asks for.
///
/// Refuses every request with two readings, every one that R4 does not define, and what its type's own rule allows nobody.
/// HEAD is GET (R4 http.html#general).
pub fn interpret(parts: &RequestParts<'_>) -> Result<Interaction, ParseError> {
    let interaction = named(parts)?;
    if stated::allows(&interaction) { Ok(interaction) } else { Err(ParseError::UnsupportedInteraction) }
}

fn named(parts: &RequestParts<'_>) -> Result<Interaction, ParseError> {
    let method = if parts.method == "HEAD" { "GET" } else { parts.method };
    let segments = segments(parts.path)?;
    accept(parts, &segments)?;
    if parts.if_none_exist.is_some() && method != "POST" {
        return Err(ParseError::Contradictory);
    }
    if parts.form.is_some() && segments.last() != Some(&"_search") {
        return Err(ParseError::UnsupportedMediaType);
    }
    let kind = |name: &str| name.parse::<ResourceType>().map_err(|_| ParseError::UnknownResourceType);
    let id = |text: &str| text.parse::<LogicalId>().map_err(|_| ParseError::InvalidId);

    match (method, segments.as_slice()) {
        ("GET", ["metadata"]) => capabilities(parts.query),
        ("GET", ["_page", token]) => without_query(parts, Interaction::Page { token: sealed(token)? }),
        ("GET", ["_export", token]) => without_query(parts, Interaction::ExportStatus { token: sealed(token)? }),
        ("DELETE", ["_export", token]) => without_query(parts, Interaction::ExportDelete { token: sealed(token)? }),
        ("GET", ["_export", token, file]) => {
            let file = file.parse().map_err(|_| ParseError::MalformedPath)?;
            without_query(parts, Interaction::ExportFile { token: sealed(token)?, file })
        }

        ("GET" | "POST", [.., operation]) if operation.starts_with('$') => self::operation(method, parts, &segments),

        ("GET", []) => {
            let (kinds, query) = Query::search_system(parts.query, None, parts.base)?;
            Ok(Interaction::SearchSystem { kinds, query })
        }
        ("POST", ["_search"]) => {
            let (kinds, query) = Query::search_system(parts.query, search_form(parts)?, parts.base)?;
            Ok(Interaction::SearchSystem { kinds, query })
        }
        ("POST", []) => bundled(parts),
        ("GET", ["_history"]) => Ok(Interaction::HistorySystem { query: history(parts.query)? }),

        ("GET", [name]) => search_type(kind(name)?, parts.query, None, parts.base),
        ("POST", [name, "_search"]) => search_type(kind(name)?, parts.query, search_form(parts)?, parts.base),
        ("GET", [name, "_history"]) => Ok(Interaction::HistoryType { kind: kind(name)?, query: history(parts.query)? }),
        ("GET", [name, text]) => {
            Ok(Interaction::Read { kind: kind(name)?, id: id(text)?, presentation: presentation(parts.query)? })
        }
        ("GET", [name, text, "_history"]) => {
            Ok(Interaction::HistoryInstance { kind: kind(name)?, id: id(text)?, query: history(parts.query)? })
        }
        ("GET", [name, text, "_history", version]) => Ok(Interaction::Vread {
            kind: kind(name)?,
            id: id(text)?,
            version: id(version)?,
            presentation: presentation(parts.query)?,
        }),
        ("GET", [compartment, text, name]) => self::compartment(kind(compartment)?, id(text)?, name, parts, None),
        ("POST", [compartment, text, name, "_search"]) => {
            self::compartment(kind(compartment)?, id(text)?, name, parts, search_form(parts)?)
        }

        ("POST", [name]) => create(kind(name)?, parts),
        ("PUT", [name, text]) => {
            let interaction = Interaction::Update { kind: kind(name)?, id: id(text)? };
            format::is_fhir_json(parts.content_type)?;
            without_query(parts, interaction)
        }
        ("PATCH", [name, text]) => {
            let interaction = Interaction::Patch { kind: kind(name)?, id: id(text)? };
            format::is_json_patch(parts.content_type)?;
            without_query(parts, interaction)
        }
        ("DELETE", [name, text]) => without_query(parts, Interaction::Delete { kind: kind(name)?, id: id(text)? }),
        ("PUT", [name]) => {
            let kind = kind(name)?;
            format::is_fhir_json(parts.content_type)?;
            Ok(Interaction::ConditionalUpdate { kind, condition: condition(kind, parts.query, parts.base)? })
        }
        ("PATCH", [name]) => {
            let kind = kind(name)?;
            format::is_json_patch(parts.content_type)?;
            Ok(Interaction::ConditionalPatch { kind, condition: condition(kind, parts.query, parts.base)? })
        }
        ("DELETE", [name]) => {
            let kind = kind(name)?;
            Ok(Interaction::ConditionalDelete { kind, condition: condition(kind, parts.query, parts.base)? })
        }
        (_, [name, ..]) if !name.starts_with(['_', '$']) && *name != "metadata" => {
            kind(name)?;
            Err(ParseError::NoInteraction)
        }
        _ => Err(ParseError::NoInteraction),
    }
}

/// The path's segments, which are never percent-decoded: no FHIR path needs encoding, so an encoded one has two readings.
fn segments(path: &str) -> Result<Vec<&str>, ParseError> {
    if path.is_empty() || path == "/" {
        return Ok(Vec::new());
    }
    let path = path.strip_prefix('/').ok_or(ParseError::MalformedPath)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'$' | b'*');
    path.split('/')
        .map(|segment| {
            let is_one = !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(legal);
            if is_one { Ok(segment) } else { Err(ParseError::MalformedPath) }
        })
        .collect()
}

/// `_format` overrides `Accept`; where it stands it is judged with the rest of the query.
fn accept(parts: &RequestParts<'_>, segments: &[&str]) -> Result<(), ParseError> {
    let overridden = [parts.query, parts.form].into_iter().flatten().any(|text| text.contains("_format="));
    let also: &[&str] = match segments {
        ["_export", _, _] => &["application/fhir+ndjson", "application/ndjson"],
        // JSON Patch and kick-off clients name what they send or will fetch.
        [.., "$export"] => &["application/fhir+ndjson"],
        _ => &[],
    };
    if overridden { Ok(()) } else { format::acceptable(parts.accept, also) }
}

fn sealed(text: &str) -> Result<SealedToken, ParseError> {
    SealedToken::parse(text).ok_or(ParseError::MalformedPath)
}

/// For interactions that R4 gives no parameters: only presentation that changes nothing may stand there.
fn without_query(parts: &RequestParts<'_>, interaction: Interaction) -> Result<Interaction, ParseError> {
    let given = presentation(parts.query)?;
    if given.elements.is_empty() && given.summary.is_none() && given.count.is_none() && given.total.is_none() {
        Ok(interaction)
    } else {
        Err(ParseError::UnknownParameter)
    }
}

fn capabilities(query: Option<&str>) -> Result<Interaction, ParseError> {
    Query::typed(Query::decode(query)?, |name, value| match (name, value) {
        ("mode", "full") => Ok(()),
        ("mode", "normative" | "terminology") => Err(ParseError::UnsupportedParameter),
        _ => Err(ParseError::UnknownParameter),
    })?;
    Ok(Interaction::Capabilities)
}

/// A read takes `_elements`, `_summary`, `_format`, `_pretty`, and nothing that only a search has.
fn presentation(query: Option<&str>) -> Result<Presentation, ParseError> {
    let query = Query::typed(Query::decode(query)?, |_, _| Err(ParseError::UnknownParameter))?;
    let presentation = query.presentation();
    if presentation.count.is_some() || presentation.total.is_some() {
        return Err(ParseError::UnknownParameter);
    }
    Ok(presentation.clone())
}

/// R4 http.html#history: `_since`, `_count`; `_at` is not offered, `_list` asks for somebody's list.
fn history(query: Option<&str>) -> Result<Query, ParseError> {
    Query::typed(Query::decode(query)?, |name, value| match name {
        "_since" if crate::search::is_date(value) => Ok(()),
        "_since" => Err(ParseError::MalformedValue),
        "_at" => Err(ParseError::UnsupportedParameter),
        "_list" => Err(ParseError::ParameterNotAllowed),
        _ => Err(ParseError::UnknownParameter),
    })
}

/// The form of a `_search`; an empty one is a form too, so that the EHR is asked the way the client asked.
fn search_form<'a>(parts: &RequestParts<'a>) -> Result<Option<&'a str>, ParseError> {
    format::is_form(parts.content_type)?;
    Ok(Some(parts.form.unwrap_or_default()))
}

fn search_type(
    kind: ResourceType,
    url: Option<&str>,
    form: Option<&str>,
    base: &str,
) -> Result<Interaction, ParseError> {
    Ok(Interaction::SearchType { kind, query: Query::search(&[kind], url, form, base)? })
}

/// The condition of a write: a search with at least one criterion and nothing of presentation.
///
/// An empty condition would match everything, and that is never what was meant (R4 http.html#cond-update).
pub(crate) fn condition(kind: ResourceType, text: Option<&str>, base: &str) -> Result<Query, ParseError> {
    let query = Query::search(&[kind], text, None, base)?;
    let shapes_answer = |name: &str| matches!(name, "_include" | "_revinclude" | "_sort");
    if query.is_empty() {
        return Err(ParseError::NoInteraction);
    }
    if query.iter().any(|parameter| shapes_answer(parameter.name())) || *query.presentation() != Presentation::default()
    {
        return Err(ParseError::UnknownParameter);
    }
    Ok(query)
}

fn create(kind: ResourceType, parts: &RequestParts<'_>) -> Result<Interaction, ParseError> {
    format::is_fhir_json(parts.content_type)?;
    match parts.if_none_exist {
        None => without_query(parts, Interaction::Create { kind }),
        Some(text) => {
            without_query(parts, Interaction::Create { kind })?;
            // R4 http.html#ccreate: "just the search parameters (what would be in the URL following the "?")".
            let text = text.strip_prefix('?').unwrap_or(text);
            Ok(Interaction::ConditionalCreate { kind, condition: condition(kind, Some(text), parts.base)? })
        }
    }
}

/// `Patient/x/Type` is the type's search held to the patient. `*` is refused: `$everything` has a rule, and it has none.
fn compartment(
    kind: ResourceType,
    id: LogicalId,
    name: &str,
    parts: &RequestParts<'_>,
    form: Option<&str>,
) -> Result<Interaction, ParseError> {
    if kind != ResourceType::PATIENT || name == "*" {
        return Err(
            if matches!(kind.as_str(), "Patient" | "Encounter" | "RelatedPerson" | "Practitioner" | "Device") {
                ParseError::UnsupportedInteraction
            } else {
                ParseError::NoInteraction
            },
        );
    }
    let kind = name.parse::<ResourceType>().map_err(|_| ParseError::UnknownResourceType)?;
    let query = Query::search(&[kind], parts.query, form, parts.base)?;
    let query = query.with_patient(kind, &id).ok_or(ParseError::NoInteraction)?;
    Ok(Interaction::SearchCompartment { patient: id, kind, query })
}

fn operation(method: &str, parts: &RequestParts<'_>, segments: &[&str]) -> Result<Interaction, ParseError> {
    let kind = |name: &str| name.parse::<ResourceType>().map_err(|_| ParseError::UnknownResourceType);
    let (name, target) = match segments {
        [name] => (name, Target::System),
        [on, name] => (name, Target::Type(kind(on)?)),
        [on, id, name] => {
            let id = id.parse().map_err(|_| ParseError::InvalidId)?;
            (name, Target::Instance(InstanceId { kind: kind(on)?, id }))
        }
        _ => return Err(ParseError::NoInteraction),
    };
    let operation = Operation::at(name.strip_prefix('$').unwrap_or_default(), &target)?;
    let mut pairs = Query::decode(parts.query)?;
    if method == "POST" {
        format::is_fhir_json(parts.content_type)?;
        let inside = bundle::parameters(parts.body.ok_or(ParseError::MalformedBundle)?)?;
        if inside.iter().any(|(name, _)| pairs.iter().any(|(outside, _)| outside == name)) {
            return Err(ParseError::Contradictory);
        }
        pairs.extend(inside);
    }
    Ok(Interaction::Operation { operation, target, query: operation.query(pairs)? })
}

fn bundled(parts: &RequestParts<'_>) -> Result<Interaction, ParseError> {
    format::is_fhir_json(parts.content_type)?;
    if parts.query.is_some_and(|query| !query.is_empty()) {
        presentation(parts.query)?;
    }
    if parts.if_none_exist.is_some() {
        return Err(ParseError::Contradictory);
    }
    bundle::parse(parts.body.unwrap_or_default(), parts.base, parts.max_entries)
}
