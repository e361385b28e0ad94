//! Events for a FHIR server that does not hold what they refer to.

use serde_json::{Value, json};

use super::event::Site;

/// The event with logical references (R4 references.html#logical) in the place of literal ones: what was referred to, as an
/// identifier at this site. References that begin with one of `pointing` stay.
pub(super) fn named(mut event: Value, site: &Site, pointing: &[&str]) -> Value {
    name_references(&mut event, site, pointing);
    event
}

fn name_references(value: &mut Value, site: &Site, pointing: &[&str]) {
    match value {
        Value::Object(fields) => {
            let literal = fields.get("reference").and_then(Value::as_str).map(str::to_owned);
            if let Some(literal) = literal.filter(|literal| !pointing.iter().any(|kept| literal.starts_with(kept))) {
                fields.remove("reference");
                if fields.contains_key("identifier") {
                    fields.entry("display").or_insert_with(|| json!(literal));
                } else {
                    fields.insert("identifier".to_owned(), json!({"system": site.base_url, "value": literal}));
                }
            }
            fields.values_mut().for_each(|value| name_references(value, site, pointing));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| name_references(value, site, pointing)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
