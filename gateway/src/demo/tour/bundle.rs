//! Reading searchsets for people: one row a resource, and what differs between two.

use serde_json::Value;

/// One resource in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) reference: String,
    pub(crate) summary: String,
    pub(crate) labels: String,
    pub(crate) details: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Same,
    Gone,
    Altered,
    Added,
}

/// What became of each resource, in the order of the first searchset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff {
    pub(crate) rows: Vec<(Change, Row)>,
}

impl Diff {
    /// Compares what the EHR holds with what an app got. Either may be a searchset or a single resource.
    pub(crate) fn between(before: &Value, after: &Value) -> Self {
        let (before, after) = (resources(before), resources(after));
        let mut rows = Vec::new();
        for old in &before {
            let Some(new) = after.iter().find(|new| reference(new) == reference(old)) else {
                rows.push((Change::Gone, row(old)));
                continue;
            };
            let details = altered(old, new);
            let change = if details.is_empty() { Change::Same } else { Change::Altered };
            rows.push((change, Row { details, ..row(old) }));
        }
        for new in &after {
            if !before.iter().any(|old| reference(old) == reference(new)) {
                rows.push((Change::Added, row(new)));
            }
        }
        Self { rows }
    }

    /// The references of the rows with this change.
    pub(crate) fn with(&self, change: Change) -> Vec<&str> {
        self.rows.iter().filter(|(its, _)| *its == change).map(|(_, row)| row.reference.as_str()).collect()
    }
}

/// The resources of a searchset, or the one resource.
pub(crate) fn resources(answer: &Value) -> Vec<&Value> {
    if answer.get("resourceType").and_then(Value::as_str) != Some("Bundle") {
        return if answer.is_object() { vec![answer] } else { vec![] };
    }
    let entries = answer.get("entry").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| entry.get("resource")).collect()
}

/// `Type/id`, or the type where there is no id.
pub(crate) fn reference(resource: &Value) -> String {
    let text = |key: &str| resource.get(key).and_then(Value::as_str);
    let kind = text("resourceType").unwrap_or("?");
    text("id").map_or_else(|| kind.to_owned(), |id| format!("{kind}/{id}"))
}

fn row(resource: &Value) -> Row {
    let codings = resource.pointer("/meta/security").and_then(Value::as_array);
    let labels: Vec<&str> = codings.into_iter().flatten().filter_map(|label| label.get("code")?.as_str()).collect();
    Row { reference: reference(resource), summary: summary(resource), labels: labels.join(" "), details: vec![] }
}

/// The code and its display, or whatever else tells a person what this is.
fn summary(resource: &Value) -> String {
    let text = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str);
    for code in ["/code", "/medicationCodeableConcept", "/type"] {
        let display = text(&format!("{code}/coding/0/display")).or_else(|| text(&format!("{code}/text")));
        if let Some(display) = display {
            let code = text(&format!("{code}/coding/0/code")).unwrap_or_default();
            return format!("{code:<8} {display}");
        }
    }
    let name = text("/name/0/family").map(|family| format!("{} {family}", text("/name/0/given/0").unwrap_or_default()));
    let outcome = || {
        let said = text("/issue/0/details/text").or_else(|| text("/issue/0/diagnostics")).unwrap_or_default();
        text("/issue/0/code").map(|code| format!("{code}  {said}"))
    };
    name.or_else(|| text("/title").map(str::to_owned)).or_else(outcome).unwrap_or_default()
}

/// The paths that differ, in words. What every server sets anew is left out.
fn altered(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if old == new || matches!(path, "/meta/versionId" | "/meta/lastUpdated") {
        return;
    }
    let shown = path.trim_start_matches('/').replace('/', ".");
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let path = format!("{path}/{key}");
                match b.get(key) {
                    Some(other) => compare(&path, value, other, found),
                    None if matches!(path.as_str(), "/meta/versionId" | "/meta/lastUpdated") => {}
                    None => found.push(format!("{} gone", path.trim_start_matches('/').replace('/', "."))),
                }
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                let path = format!("{path}/{key}");
                found.push(format!("{} now {}", path.trim_start_matches('/').replace('/', "."), brief(value)));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for item in a.iter().filter(|item| !b.contains(item)) {
                found.push(format!("{shown}: {} gone", brief(item)));
            }
            for item in b.iter().filter(|item| !a.contains(item)) {
                found.push(format!("{shown}: {} new", brief(item)));
            }
        }
        _ => found.push(format!("{shown} now {}", brief(new))),
    }
}

/// What tells an element apart, for people.
fn brief(value: &Value) -> String {
    if let Some(items) = value.as_array() {
        return items.iter().map(brief).collect::<Vec<_>>().join(", ");
    }
    if let Some(reason) = absent_reason(value) {
        return format!("“absent: {reason}”");
    }
    if let Some(url) = value.get("url").and_then(Value::as_str) {
        let name = url.rsplit('/').next().unwrap_or(url);
        let says = value
            .as_object()
            .into_iter()
            .flatten()
            .find(|(key, _)| key.starts_with("value"))
            .map(|(_, says)| says.as_str().map_or_else(|| brief(says), |text| format!("“{text}”")));
        return format!("{name} {}", says.unwrap_or_default());
    }
    for key in ["code", "text", "reference", "display", "title"] {
        if let Some(text) = value.get(key).and_then(Value::as_str) {
            return format!("“{text}”");
        }
    }
    match value.pointer("/item/reference").or_else(|| value.pointer("/coding/0/code")).and_then(Value::as_str) {
        Some(text) => format!("“{text}”"),
        None => value.to_string(),
    }
}

/// The `data-absent-reason` of an element, or of the element in it.
fn absent_reason(value: &Value) -> Option<&str> {
    let extensions = [value.pointer("/extension"), value.pointer("/item/extension")];
    let mut codes = extensions.into_iter().flatten().filter_map(Value::as_array).flatten();
    codes.find_map(|extension| {
        extension
            .get("url")?
            .as_str()?
            .ends_with("/data-absent-reason")
            .then(|| extension.get("valueCode")?.as_str())?
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_extension_is_named_and_says_what_it_says() {
        let display =
            json!({"url": "http://hl7.org/fhir/x/StructureDefinition/sec-display", "valueString": "No redisclosure."});
        assert_eq!(brief(&json!([display])), "sec-display “No redisclosure.”");
        let coded = json!({"url": "https://a/basis", "valueCoding": {"code": "42CFRPart2"}});
        assert_eq!(brief(&coded), "basis “42CFRPart2”");
    }

    #[test]
    fn a_diff_names_what_went_what_changed_and_what_came() {
        let condition = |id: &str, note: &str| json!({"resourceType": "Condition", "id": id, "note": note});
        let before = json!({"resourceType": "Bundle", "entry": [
            {"resource": condition("a", "x")}, {"resource": condition("b", "x")}, {"resource": condition("c", "x")},
        ]});
        let after = json!({"resourceType": "Bundle", "entry": [
            {"resource": condition("c", "y")}, {"resource": condition("a", "x")},
            {"resource": {"resourceType": "OperationOutcome", "issue": [{"code": "suppressed"}]}},
        ]});
        let diff = Diff::between(&before, &after);
        assert_eq!(diff.with(Change::Same), ["Condition/a"]);
        assert_eq!(diff.with(Change::Gone), ["Condition/b"]);
        assert_eq!(diff.with(Change::Altered), ["Condition/c"]);
        assert_eq!(diff.with(Change::Added), ["OperationOutcome"]);
    }

    #[test]
    fn details_say_which_items_are_gone() {
        let before = json!({"resourceType": "List", "id": "l", "entry": [
            {"item": {"reference": "Condition/a"}}, {"item": {"reference": "Condition/b"}},
        ], "meta": {"versionId": "3"}});
        let after = json!({"resourceType": "List", "id": "l", "entry": [{"item": {"reference": "Condition/a"}}]});
        let diff = Diff::between(&before, &after);
        assert_eq!(diff.rows[0].1.details, ["entry: “Condition/b” gone", "meta gone"]);
    }
}
