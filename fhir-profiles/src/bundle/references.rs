//! References in the resources of a transaction: to its own entries, and conditional ones (R4 http.html#trules).

use core::fmt;

use serde_json::Value;

use crate::ids::ResourceType;
use crate::interaction::{Interaction, ParseError, condition};
use crate::json::{self, Ambiguous};

/// A search that stands where a reference belongs: `Patient?identifier=…`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConditionalReference {
    /// As it stands in the resource.
    pub text: Box<str>,
    /// The search that it is. The one record that its owner may see and that it finds is what is meant.
    pub search: Interaction,
}

/// What is searched for may name a patient: it does not print.
impl fmt::Debug for ConditionalReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConditionalReference(..)")
    }
}

/// Every `reference` string at any depth.
pub(super) fn all(resource: &str) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(text) if name == "reference" => found.push(text.clone()),
                        Value::Null
                        | Value::Bool(_)
                        | Value::Number(_)
                        | Value::String(_)
                        | Value::Array(_)
                        | Value::Object(_) => collect(member, found),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str(resource) {
        collect(&value, &mut found);
    }
    found
}

/// Does a search stand in the resource where a reference belongs?
pub(super) fn has_conditional(resource: &str) -> bool {
    all(resource).iter().any(|reference| searched(reference).is_some())
}

/// The searches in a resource, each once.
///
/// # Errors
/// When one is no search with a criterion, or names another server.
pub(super) fn conditional(resource: &str, base: &str) -> Result<Vec<ConditionalReference>, ParseError> {
    let mut found: Vec<ConditionalReference> = Vec::new();
    for reference in all(resource) {
        let Some((path, query)) = searched(&reference) else { continue };
        if found.iter().any(|known| *known.text == *reference) {
            continue;
        }
        let kind: ResourceType = path.parse().map_err(|_| ParseError::UnsupportedInteraction)?;
        let query = condition(kind, Some(query), base)?;
        found.push(ConditionalReference {
            text: reference.as_str().into(),
            search: Interaction::SearchType { kind, query },
        });
    }
    Ok(found)
}

/// Path and query, if servers may take this for a search on a type: relative as R4 has it, or absolute as some read it.
fn searched(reference: &str) -> Option<(&str, &str)> {
    let (path, query) = reference.split_once('?')?;
    let last = path.rsplit('/').next().unwrap_or(path);
    last.parse::<ResourceType>().is_ok().then_some((path, query))
}

/// The resource with each reference that `instance` knows put in its place; all else keeps its text.
///
/// # Errors
/// When the resource has two readings.
pub fn resolved(resource: &str, instance: &dyn Fn(&str) -> Option<String>) -> Result<String, Ambiguous> {
    let text = resource.trim();
    if text.starts_with('{') {
        let mut members = Vec::new();
        for (name, member) in json::members(text.as_bytes())? {
            let named = (name == "reference").then(|| serde_json::from_str::<String>(member.get()).ok()).flatten();
            let member = match named.as_deref().and_then(instance) {
                Some(instance) => Value::from(instance).to_string(),
                None => resolved(member.get(), instance)?,
            };
            members.push((name, member));
        }
        return Ok(json::object(members.iter().map(|(name, member)| (name.as_str(), member.as_str()))));
    }
    if text.starts_with('[') {
        let items = json::items(text.as_bytes())?;
        let items: Vec<String> =
            items.iter().map(|item| resolved(item.get(), instance)).collect::<Result<_, Ambiguous>>()?;
        return Ok(format!("[{}]", items.join(",")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_put_in_place_and_nothing_else_changes() {
        let known = |text: &str| (text == "urn:uuid:1").then(|| "Patient/a".to_owned());
        let before = r#"{"resourceType":"Observation","note":[{"text":"urn:uuid:1"}],"subject":{"reference":"urn:uuid:1"},"performer":[{"reference":"urn:uuid:2"}],"valueQuantity":{"value":1.10}}"#;
        let after = resolved(before, &known).unwrap();
        assert_eq!(after, before.replacen(r#"{"reference":"urn:uuid:1"}"#, r#"{"reference":"Patient/a"}"#, 1));
        assert!(resolved(r#"{"a":1,"a":2}"#, &known).is_err());
    }

    #[test]
    fn a_search_in_place_of_a_reference_has_a_criterion_and_is_ours() {
        let of = |reference: &str| {
            let resource = format!(r#"{{"resourceType":"Observation","subject":{{"reference":"{reference}"}}}}"#);
            conditional(&resource, "https://b/fhir")
        };
        let found = of("Patient?identifier=urn:x%7C1").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(of("Patient/1").unwrap(), []);
        assert_eq!(of("https://other/fhir/x?y=z").unwrap(), []);
        assert!(of("Patient?").is_err());
        assert!(of("Patient?_filter=x").is_err());
        assert!(of("https://other/fhir/Patient?identifier=1").is_err());
    }
}
