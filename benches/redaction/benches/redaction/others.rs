//! The same redaction on the document models that others would use: labelled resources and elements at any depth go.

use serde_json::Value;
use sonic_rs::{JsonContainerTrait, JsonValueMutTrait, JsonValueTrait};

const INLINE: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";
const PART2: &str = "42CFRPart2";

pub(crate) fn value(input: &[u8]) -> Vec<u8> {
    let mut root: Value = serde_json::from_slice(input).unwrap();
    prune_value(&mut root);
    serde_json::to_vec(&root).unwrap()
}

fn value_goes(value: &Value) -> bool {
    let labelled = |list: Option<&Value>, test: &dyn Fn(&Value) -> bool| {
        list.and_then(Value::as_array).is_some_and(|items| items.iter().any(test))
    };
    let code = |coding: &Value| coding.get("code").and_then(Value::as_str) == Some(PART2);
    let resource = value.get("resource").unwrap_or(value);
    labelled(resource.get("meta").and_then(|meta| meta.get("security")), &code)
        || labelled(value.get("extension"), &|extension| {
            extension.get("url").and_then(Value::as_str) == Some(INLINE)
                && extension.get("valueCoding").is_some_and(code)
        })
}

/// Answers whether something went, so that what became empty goes too.
fn prune_value(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| !value_goes(item));
            items.iter_mut().for_each(prune_value);
        }
        Value::Object(members) => {
            let reduced = members.values().any(|member| {
                member.as_array().is_some_and(|items| {
                    items.iter().any(value_goes) && !items.iter().all(|i| i.get("resource").is_some())
                })
            });
            members.values_mut().for_each(prune_value);
            if reduced {
                members.retain(|_, member| member.as_array().is_none_or(|items| !items.is_empty()));
                if let Some(meta) = members.get_mut("meta").and_then(Value::as_object_mut) {
                    meta.remove("security");
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The slow and the fast answer say the same.
pub(crate) fn assert_same(slow: &[u8], fast: &[u8]) {
    let (slow, fast): (Value, Value) = (serde_json::from_slice(slow).unwrap(), serde_json::from_slice(fast).unwrap());
    if slow != fast {
        panic!("the redactions differ");
    }
}

pub(crate) fn simd(input: &[u8]) -> Vec<u8> {
    let mut copy = input.to_vec();
    let mut root = simd_json::to_borrowed_value(&mut copy).unwrap();
    prune_simd(&mut root);
    simd_json::to_vec(&root).unwrap()
}

fn simd_goes(value: &simd_json::BorrowedValue<'_>) -> bool {
    use simd_json::prelude::*;
    let code = |coding: &simd_json::BorrowedValue<'_>| coding.get_str("code") == Some(PART2);
    let resource = value.get("resource").unwrap_or(value);
    let security = resource.get("meta").and_then(|meta| meta.get_array("security"));
    security.is_some_and(|items| items.iter().any(code))
        || value.get_array("extension").is_some_and(|items| {
            items.iter().any(|e| e.get_str("url") == Some(INLINE) && e.get("valueCoding").is_some_and(code))
        })
}

fn prune_simd(value: &mut simd_json::BorrowedValue<'_>) {
    use simd_json::BorrowedValue;
    match value {
        BorrowedValue::Array(items) => {
            items.retain(|item| !simd_goes(item));
            items.iter_mut().for_each(prune_simd);
        }
        BorrowedValue::Object(members) => members.values_mut().for_each(prune_simd),
        BorrowedValue::Static(_) | BorrowedValue::String(_) => {}
    }
}

pub(crate) fn sonic(input: &[u8]) -> Vec<u8> {
    let mut root: sonic_rs::Value = sonic_rs::from_slice(input).unwrap();
    prune_sonic(&mut root);
    sonic_rs::to_vec(&root).unwrap()
}

fn sonic_goes(value: &sonic_rs::Value) -> bool {
    let code = |coding: &sonic_rs::Value| coding.get("code").as_str() == Some(PART2);
    let resource = value.get("resource").unwrap_or(value);
    let security = resource.get("meta").and_then(|meta| meta.get("security")).and_then(|list| list.as_array());
    security.is_some_and(|items| items.iter().any(code))
        || value.get("extension").and_then(|list| list.as_array()).is_some_and(|items| {
            items.iter().any(|e| e.get("url").as_str() == Some(INLINE) && e.get("valueCoding").is_some_and(code))
        })
}

fn prune_sonic(value: &mut sonic_rs::Value) {
    if let Some(items) = value.as_array_mut() {
        items.retain(|item| !sonic_goes(item));
        items.iter_mut().for_each(prune_sonic);
    } else if let Some(members) = value.as_object_mut() {
        members.iter_mut().for_each(|(_, member)| prune_sonic(member));
    }
}
