//! JSON Patch (RFC 6902) on a stored resource.

use serde_json::Value;

/// The patch does not apply: malformed, a path that leads nowhere, or a failed test.
#[derive(Debug)]
pub(crate) struct NotApplicable;

/// Applies all operations in order, or none.
pub(crate) fn apply(mut document: Value, patch: &Value) -> Result<Value, NotApplicable> {
    for operation in patch.as_array().ok_or(NotApplicable)? {
        let text = |key: &str| operation.get(key).and_then(Value::as_str).ok_or(NotApplicable);
        let value = || operation.get("value").cloned().ok_or(NotApplicable);
        let path = pointer(text("path")?)?;
        match text("op")? {
            "add" => add(&mut document, &path, value()?)?,
            "remove" => drop(remove(&mut document, &path)?),
            "replace" => *at(&mut document, &path)? = value()?,
            "move" => {
                let from = pointer(text("from")?)?;
                let moved = remove(&mut document, &from)?;
                add(&mut document, &path, moved)?;
            }
            "copy" => {
                let from = pointer(text("from")?)?;
                let copied = at(&mut document, &from)?.clone();
                add(&mut document, &path, copied)?;
            }
            "test" if *at(&mut document, &path)? == value()? => {}
            _ => return Err(NotApplicable),
        }
    }
    Ok(document)
}

/// RFC 6901.
fn pointer(text: &str) -> Result<Vec<String>, NotApplicable> {
    match text.strip_prefix('/') {
        None if text.is_empty() => Ok(Vec::new()),
        None => Err(NotApplicable),
        Some(rest) => Ok(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()),
    }
}

fn at<'a>(document: &'a mut Value, path: &[String]) -> Result<&'a mut Value, NotApplicable> {
    path.iter().try_fold(document, |value, part| {
        match value {
            Value::Object(object) => object.get_mut(part),
            Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
        .ok_or(NotApplicable)
    })
}

fn add(document: &mut Value, path: &[String], value: Value) -> Result<(), NotApplicable> {
    let Some((last, parent)) = path.split_last() else {
        *document = value;
        return Ok(());
    };
    match at(document, parent)? {
        Value::Object(object) => {
            object.insert(last.clone(), value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index = last.parse::<usize>().ok().filter(|index| *index <= items.len()).ok_or(NotApplicable)?;
            items.insert(index, value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(NotApplicable),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &[String]) -> Result<Value, NotApplicable> {
    let (last, parent) = path.split_last().ok_or(NotApplicable)?;
    match at(document, parent)? {
        Value::Object(object) => object.shift_remove(last).ok_or(NotApplicable),
        Value::Array(items) => {
            let index = last.parse::<usize>().ok().filter(|index| *index < items.len()).ok_or(NotApplicable)?;
            Ok(items.remove(index))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(NotApplicable),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_as_rfc_6902_says() {
        let document = json!({"a": [1, 2], "b/c": {"d": 3}});
        for (patch, expected) in [
            (json!([{"op": "add", "path": "/a/-", "value": 9}]), json!({"a": [1, 2, 9], "b/c": {"d": 3}})),
            (json!([{"op": "add", "path": "/a/0", "value": 9}]), json!({"a": [9, 1, 2], "b/c": {"d": 3}})),
            (json!([{"op": "remove", "path": "/b~1c/d"}]), json!({"a": [1, 2], "b/c": {}})),
            (json!([{"op": "replace", "path": "/a", "value": 0}]), json!({"a": 0, "b/c": {"d": 3}})),
            (json!([{"op": "move", "from": "/a/0", "path": "/x"}]), json!({"a": [2], "b/c": {"d": 3}, "x": 1})),
            (json!([{"op": "copy", "from": "/a/0", "path": "/x"}]), json!({"a": [1, 2], "b/c": {"d": 3}, "x": 1})),
            (json!([{"op": "test", "path": "/a/1", "value": 2}]), document.clone()),
        ] {
            assert_eq!(apply(document.clone(), &patch).unwrap(), expected);
        }
        for patch in [
            json!({"op": "add"}),
            json!([{"op": "test", "path": "/a/1", "value": 3}]),
            json!([{"op": "remove", "path": "/nowhere"}]),
            json!([{"op": "add", "path": "/a/7", "value": 0}]),
            json!([{"op": "replace", "path": "a", "value": 0}]),
            json!([{"op": "shout", "path": "/a"}]),
        ] {
            assert!(apply(document.clone(), &patch).is_err(), "{patch}");
        }
    }
}
