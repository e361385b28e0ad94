//! The elements at a path of the search-parameter table, with choices of type and repeats resolved.

use serde_json::Value;

use crate::ids::ResourceType;
use crate::reference::Reference;

/// One element value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
}

/// The types that a choice element (`value[x]`) may have in a parameter's path.
const CHOICES: &[&str] = &[
    "Age",
    "Annotation",
    "Boolean",
    "Canonical",
    "Code",
    "CodeableConcept",
    "Coding",
    "Date",
    "DateTime",
    "Decimal",
    "Duration",
    "Identifier",
    "Instant",
    "Integer",
    "Period",
    "Quantity",
    "Range",
    "Ratio",
    "Reference",
    "SampledData",
    "String",
    "Time",
    "Timing",
    "Uri",
];

/// Every value at the path, arrays flattened. Steps are JSON names with an optional filter (`subject[Patient]`).
pub(super) fn nodes<'a>(resource: &'a Value, path: &str) -> Vec<Node<'a>> {
    let mut found = vec![resource];
    for step in path.split('.') {
        let (name, filter) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
            Some((name, filter)) => (name, Some(filter)),
            None => (step, None),
        };
        found = found.into_iter().flat_map(|value| members(value, name)).filter(|value| keeps(value, filter)).collect();
    }
    found.into_iter().map(|value| Node { value }).collect()
}

fn members<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let Value::Object(members) = value else { return Vec::new() };
    let mut out = Vec::new();
    let is_choice = |key: &str| key.strip_prefix(name).is_some_and(|suffix| CHOICES.binary_search(&suffix).is_ok());
    let exact = members.get(name);
    let chosen = members.iter().filter(|(key, _)| exact.is_none() && is_choice(key)).map(|(_, value)| value);
    for value in exact.into_iter().chain(chosen) {
        match value {
            Value::Array(items) => out.extend(items.iter().filter(|item| !item.is_null())),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => out.push(value),
        }
    }
    out
}

fn keeps(value: &Value, filter: Option<&str>) -> bool {
    let Some(filter) = filter else { return true };
    if let Some((member, wanted)) = filter.split_once('=') {
        return value.get(member).and_then(Value::as_str) == Some(wanted);
    }
    let Ok(kind) = filter.parse::<ResourceType>() else { return false };
    let Some(text) = value.get("reference").and_then(Value::as_str) else { return false };
    match Reference::parse(text) {
        Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => instance.kind == kind,
        Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => false,
    }
}
