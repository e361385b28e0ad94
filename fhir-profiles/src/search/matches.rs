//! Would this search find this resource? For granular scopes, on bodies that are read, written or returned as rows.
//!
//! What cannot be evaluated is an error, and an error denies: a constraint is never dropped. Where R4 leaves a server
//! room (case of tokens, accents in strings), the narrower reading is taken, so that a scope never grants more here.

use core::fmt;

use serde_json::Value;

use crate::ids::{LogicalId, ResourceType};
use crate::json;
use crate::reference::Reference;
use crate::search::date::Interval;
use crate::search::element::{Node, nodes};
use crate::search::value::{Prefix, prefix, split, unescaped};
use crate::search::{Kind, Parameter, Query, Row, definition};

/// The question has no answer here: deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotEvaluate(());

impl fmt::Display for CannotEvaluate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the search cannot be evaluated on this resource")
    }
}

impl core::error::Error for CannotEvaluate {}

/// Does the resource, as JSON text, satisfy every criterion of the query? `bases` are the server's own base URLs.
pub fn matches(resource: &[u8], kind: ResourceType, query: &Query, bases: &[&str]) -> Result<bool, CannotEvaluate> {
    let resource = json::parse(resource).map_err(|_| CannotEvaluate(()))?;
    matches_value(&resource, kind, query, bases)
}

/// As [`matches`], of a parsed resource.
pub fn matches_value(
    resource: &Value,
    kind: ResourceType,
    query: &Query,
    bases: &[&str],
) -> Result<bool, CannotEvaluate> {
    if resource.get("resourceType").and_then(Value::as_str) != Some(kind.as_str()) {
        return Err(CannotEvaluate(()));
    }
    let mut all = true;
    // Every criterion is evaluated, so that one that cannot be is never hidden behind one that is false.
    for parameter in query.all() {
        all &= satisfies(resource, kind, parameter, bases)?;
    }
    Ok(all)
}

pub(super) fn satisfies(
    resource: &Value,
    kind: ResourceType,
    parameter: &Parameter,
    bases: &[&str],
) -> Result<bool, CannotEvaluate> {
    if parameter.is_chained() {
        return Err(CannotEvaluate(()));
    }
    let row = definition(kind, parameter.name()).ok_or(CannotEvaluate(()))?;
    if row.paths.is_empty() {
        return Err(CannotEvaluate(()));
    }
    let found: Vec<Node<'_>> = row.paths().flat_map(|path| nodes(resource, path)).collect();
    let mut any = false;
    for one in parameter.values() {
        for node in &found {
            any |= agrees(*node, row, parameter.modifier(), one, bases)?;
        }
    }
    // R4 search.html#modifiers: `:not` also finds what has no value at all.
    Ok(if parameter.modifier() == Some("not") { !any } else { any })
}

fn agrees(
    node: Node<'_>,
    row: &Row,
    modifier: Option<&str>,
    one: &str,
    bases: &[&str],
) -> Result<bool, CannotEvaluate> {
    match (row.kind, modifier) {
        (Kind::Token, None | Some("not")) => token(node.value, one),
        (Kind::Uri, None) => Ok(node.value.as_str() == Some(plain(one)?.as_str())),
        (Kind::String, None | Some("exact" | "contains")) => string(node.value, modifier, &plain(one)?),
        (Kind::Date, None) => date(node, one),
        (Kind::Number, None) => number(node.value, one),
        (Kind::Quantity, None) => quantity(node.value, one),
        (Kind::Reference, None) => reference(node.value, row, None, &plain(one)?, bases),
        (Kind::Reference, Some(target)) => {
            let target = target.parse().map_err(|_| CannotEvaluate(()))?;
            reference(node.value, row, Some(target), &plain(one)?, bases)
        }
        (
            Kind::Token
            | Kind::Uri
            | Kind::String
            | Kind::Date
            | Kind::Number
            | Kind::Quantity
            | Kind::Composite
            | Kind::Special,
            _,
        ) => Err(CannotEvaluate(())),
    }
}

fn plain(one: &str) -> Result<String, CannotEvaluate> {
    unescaped(one).map_err(|_| CannotEvaluate(()))
}

/// `code`, `|code`, `system|code`, `system|` against code, boolean, Coding, CodeableConcept, Identifier, ContactPoint.
fn token(value: &Value, one: &str) -> Result<bool, CannotEvaluate> {
    let parts: Vec<String> = split(one, '|').map(plain).collect::<Result<_, _>>()?;
    let (system, code) = match parts.as_slice() {
        [code] => (None, code.as_str()),
        [system, code] => (Some(system.as_str()), code.as_str()),
        _ => return Err(CannotEvaluate(())),
    };
    match value {
        // The system of a bare code is implied by its element, which no table here knows.
        Value::String(_) | Value::Bool(_) | Value::Number(_) if system.is_some_and(|system| !system.is_empty()) => {
            Err(CannotEvaluate(()))
        }
        Value::String(text) => Ok(text == code),
        Value::Bool(flag) => Ok(code == if *flag { "true" } else { "false" }),
        Value::Number(number) => Ok(number.to_string() == code),
        Value::Object(members) => match members.get("coding") {
            Some(Value::Array(codings)) => Ok(codings.iter().any(|coding| coded(coding, "code", system, code))),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                Err(CannotEvaluate(()))
            }
            None => Ok(coded(value, "code", system, code) || coded(value, "value", system, code)),
        },
        Value::Null | Value::Array(_) => Err(CannotEvaluate(())),
    }
}

fn coded(value: &Value, member: &str, system: Option<&str>, code: &str) -> bool {
    let Some(own) = value.get(member).and_then(Value::as_str) else { return false };
    let own_system = value.get("system").and_then(Value::as_str);
    match system {
        None => own == code,
        Some("") => own == code && own_system.is_none(),
        Some(system) => own_system == Some(system) && (code.is_empty() || own == code),
    }
}

/// Starts with, ignoring case; of a HumanName or Address, any of its parts (R4 search.html#string).
fn string(value: &Value, modifier: Option<&str>, one: &str) -> Result<bool, CannotEvaluate> {
    let fits = |text: &str| match modifier {
        Some("exact") => text == one,
        Some(_) => text.to_lowercase().contains(&one.to_lowercase()),
        None => text.to_lowercase().starts_with(&one.to_lowercase()),
    };
    match value {
        Value::String(text) => Ok(fits(text)),
        Value::Object(members) => {
            const PARTS: &[&str] = &[
                "text",
                "family",
                "given",
                "prefix",
                "suffix",
                "line",
                "city",
                "district",
                "state",
                "postalCode",
                "country",
            ];
            let parts = PARTS.iter().filter_map(|part| members.get(*part));
            let texts = parts.flat_map(|part| match part {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => vec![part],
            });
            Ok(texts.filter_map(Value::as_str).any(fits))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Err(CannotEvaluate(())),
    }
}

fn reference(
    value: &Value,
    row: &Row,
    target: Option<ResourceType>,
    one: &str,
    bases: &[&str],
) -> Result<bool, CannotEvaluate> {
    let text = match value {
        Value::String(canonical) => return Ok(canonical == one),
        Value::Object(members) => match members.get("reference") {
            Some(Value::String(text)) => text,
            // A logical reference names no instance.
            None => return Ok(false),
            Some(_) => return Err(CannotEvaluate(())),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return Err(CannotEvaluate(())),
    };
    let own = Reference::parse(text);
    let Some(own) = own.on_server(bases) else { return Ok(text == one) };
    if let Ok(id) = one.parse::<LogicalId>() {
        return Ok(own.id == id && target.map_or_else(|| row.types().contains(&own.kind), |target| own.kind == target));
    }
    let asked = Reference::parse(one);
    let asked = asked.on_server(bases);
    Ok(asked.is_some_and(|asked| asked == own && target.is_none_or(|target| own.kind == target)))
}

fn date(node: Node<'_>, one: &str) -> Result<bool, CannotEvaluate> {
    let (prefix, text) = prefix(one);
    let asked = Interval::parse(text).ok_or(CannotEvaluate(()))?;
    let own = match node.value {
        Value::String(text) => Interval::parse(text).ok_or(CannotEvaluate(()))?,
        Value::Object(period)
            if period.keys().all(|key| matches!(key.as_str(), "start" | "end" | "id" | "extension")) =>
        {
            let bound = |name: &str| match period.get(name) {
                None => Ok(None),
                Some(value) => value.as_str().and_then(Interval::parse).map(Some).ok_or(CannotEvaluate(())),
            };
            let (start, end) = (bound("start")?, bound("end")?);
            if start.is_none() && end.is_none() {
                return Ok(false);
            }
            Interval { start: start.map_or(i128::MIN, |i| i.start), end: end.map_or(i128::MAX, |i| i.end) }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(CannotEvaluate(()));
        }
    };
    // R4 search.html#prefix, by ranges.
    let within = asked.start <= own.start && own.end <= asked.end;
    Ok(match prefix {
        Prefix::Eq => within,
        Prefix::Ne => !within,
        Prefix::Gt => own.end > asked.end,
        Prefix::Lt => own.start < asked.start,
        Prefix::Ge => own.end > asked.end || within,
        Prefix::Le => own.start < asked.start || within,
        Prefix::Sa => own.start > asked.end,
        Prefix::Eb => own.end < asked.start,
        Prefix::Ap => return Err(CannotEvaluate(())),
    })
}

fn number(value: &Value, one: &str) -> Result<bool, CannotEvaluate> {
    let own = value.as_f64().ok_or(CannotEvaluate(()))?;
    let (prefix, text) = prefix(one);
    let asked: f64 = text.parse().map_err(|_| CannotEvaluate(()))?;
    // "100" means 99.5 to 100.5: half of the last digit that was given (R4 search.html#number).
    let half = 0.5 * 10_f64.powi(last_digit(text).ok_or(CannotEvaluate(()))?);
    let equal = own >= asked - half && own < asked + half;
    Ok(match prefix {
        Prefix::Eq => equal,
        Prefix::Ne => !equal,
        Prefix::Gt | Prefix::Sa => own > asked,
        Prefix::Lt | Prefix::Eb => own < asked,
        Prefix::Ge => own >= asked,
        Prefix::Le => own <= asked,
        Prefix::Ap => return Err(CannotEvaluate(())),
    })
}

/// The power of ten of the last significant digit.
fn last_digit(text: &str) -> Option<i32> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    exponent.checked_sub(i32::try_from(fraction).ok()?)
}

/// `number`, `number|system|code`, `number||code`.
fn quantity(value: &Value, one: &str) -> Result<bool, CannotEvaluate> {
    let own = value.get("value").ok_or(CannotEvaluate(()))?;
    let parts: Vec<&str> = split(one, '|').collect();
    let (asked, unit) = match parts.as_slice() {
        [asked] => (*asked, None),
        [asked, system, code] => (*asked, Some((plain(system)?, plain(code)?))),
        _ => return Err(CannotEvaluate(())),
    };
    if value.get("comparator").is_some() {
        return Err(CannotEvaluate(()));
    }
    let text = |member: &str| value.get(member).and_then(Value::as_str);
    let same_unit = unit.is_none_or(|(system, code)| {
        if system.is_empty() {
            text("code") == Some(&code) || text("unit") == Some(&code)
        } else {
            text("system") == Some(&system) && text("code") == Some(&code)
        }
    });
    Ok(number(own, asked)? && same_unit)
}
