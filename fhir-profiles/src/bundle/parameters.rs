//! `Parameters` of an operation that was called with a body.

use serde_json::Value;

use crate::interaction::ParseError;
use crate::json;

/// The single primitive values of a `Parameters` resource, as text. Resources, parts and complex types are refused.
pub(crate) fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, ParseError> {
    let body = json::parse(body).map_err(|_| ParseError::MalformedBundle)?;
    let Value::Object(body) = body else { return Err(ParseError::MalformedBundle) };
    if body.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Err(ParseError::MalformedBundle);
    }
    let empty = Vec::new();
    let list = match body.get("parameter") {
        None => &empty,
        Some(Value::Array(list)) => list,
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            return Err(ParseError::MalformedBundle);
        }
    };
    list.iter().map(parameter).collect()
}

fn parameter(item: &Value) -> Result<(String, String), ParseError> {
    let Value::Object(members) = item else { return Err(ParseError::MalformedBundle) };
    let name = members.get("name").and_then(Value::as_str).ok_or(ParseError::MalformedBundle)?;
    let mut values = members.iter().filter(|(member, _)| *member != "name");
    let (Some((member, value)), None) = (values.next(), values.next()) else {
        return Err(ParseError::UnsupportedOperationParameter);
    };
    let text = match value {
        Value::String(text) if !text.trim().is_empty() && !text.contains(char::is_control) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            return Err(ParseError::UnsupportedOperationParameter);
        }
    };
    if member.starts_with("value") {
        Ok((name.to_owned(), text))
    } else {
        Err(ParseError::UnsupportedOperationParameter)
    }
}
