//! What a write does to security labels: stored ones are put back, stricter ones kept, lowering is refused (rule 12).
//!
//! A client that read a redacted or unlabelled copy sends back what it saw. Its update must not wash labels off.

use core::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::{self, Ambiguous};
use crate::label::CONFIDENTIALITY;

/// Why a write cannot be accepted as far as labels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelError {
    /// The stored or the new resource is not JSON with one reading.
    Unreadable,
    /// A label inside an element would be lost, or a label would be lowered where it cannot be put back.
    Lowered,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "the resource is not JSON with exactly one reading",
            Self::Lowered => "the write would remove or lower a security label",
        })
    }
}

impl core::error::Error for LabelError {}

impl From<Ambiguous> for LabelError {
    fn from(_: Ambiguous) -> Self {
        Self::Unreadable
    }
}

/// An update that is safe to send.
#[derive(Clone, PartialEq, Eq)]
pub struct Preserved {
    /// The update with stored `meta.security` and `meta.tag` put back; values keep their text.
    pub body: String,
    /// How many stored codings the client had left out or lowered.
    pub restored: usize,
    /// What the write adds that is not stored.
    pub adds: Added,
}

/// Additions to `meta` and to labels. Only a labelling role may make them (attack case 19).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Codings in `meta.security`, or elements with inline labels.
    pub labels: bool,
    /// Codings in `meta.tag`: an EHR may take them for the source of a record.
    pub tags: bool,
    /// URLs in `meta.profile`: a claim of the writer about the shape of its own resource.
    pub profiles: bool,
}

impl fmt::Debug for Preserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preserved").field("restored", &self.restored).field("adds", &self.adds).finish_non_exhaustive()
    }
}

/// Joins an update with the labels of what is stored. For a create, `stored` is `None`.
pub fn update(stored: Option<&[u8]>, update: &[u8]) -> Result<Preserved, LabelError> {
    let old = stored.map_or(Ok(Value::Null), json::parse)?;
    let new = json::parse(update)?;
    if new.get("resourceType").is_none() {
        return Err(LabelError::Unreadable);
    }
    let (old_inline, new_inline) = (inline(&old), inline(&new));
    if !within(&old_inline, &new_inline) {
        return Err(LabelError::Lowered);
    }
    let mut adds = Added { labels: !within(&new_inline, &old_inline), ..Added::default() };
    let mut restored = 0_usize;
    let mut lists: Vec<(&str, String)> = Vec::new();
    for list in ["security", "tag"] {
        let (kept, back, fresh) = joined(&codings(&old, list)?, &codings(&new, list)?, list == "security");
        restored = restored.saturating_add(back);
        match list {
            "security" => adds.labels |= fresh,
            _ => adds.tags |= fresh,
        }
        if !kept.is_empty() {
            lists.push((list, Value::Array(kept).to_string()));
        }
    }
    adds.profiles = profiles(&new).iter().any(|profile| !profiles(&old).contains(profile));
    let members = json::members(update)?;
    let meta = meta(members.iter().find(|(name, _)| name == "meta").map(|(_, raw)| &**raw), &lists)?;
    let body = with_meta(&members, meta.as_deref());
    Ok(Preserved { body, restored, adds })
}

/// For a patch, which is sent as it is: its post-image must have every label of the pre-image, none lower.
pub fn patch(pre: &Value, post: &Value) -> Result<Added, LabelError> {
    let (before, after) = (inline(pre), inline(post));
    let inline_kept = within(&before, &after);
    let (_, back, fresh) = joined(&codings(pre, "security")?, &codings(post, "security")?, true);
    let labels = fresh || !within(&after, &before);
    if inline_kept && back == 0 { Ok(Added { labels, ..Added::default() }) } else { Err(LabelError::Lowered) }
}

/// The union, of confidentiality the stricter one; how many stored codings were put back; whether any is new.
fn joined(old: &[Value], new: &[Value], security: bool) -> (Vec<Value>, usize, bool) {
    let rank = |coding: &Value| if security { strictness(coding) } else { None };
    let strictest = old.iter().chain(new).filter_map(rank).max();
    let stays = |coding: &&Value| rank(coding).is_none_or(|rank| Some(rank) == strictest);
    let mut kept: Vec<Value> = new.iter().filter(stays).cloned().collect();
    let mut restored = 0_usize;
    for coding in old.iter().filter(stays) {
        if !kept.iter().any(|there| same(there, coding)) {
            kept.push(coding.clone());
            restored = restored.saturating_add(1);
        }
    }
    let fresh = new.iter().filter(stays).any(|coding| !old.iter().any(|there| same(there, coding)));
    (kept, restored, fresh)
}

/// U < L < M < N < R < V (v3-Confidentiality).
fn strictness(coding: &Value) -> Option<usize> {
    if coding.get("system").and_then(Value::as_str) != Some(CONFIDENTIALITY) {
        return None;
    }
    let code = coding.get("code").and_then(Value::as_str)?;
    ["U", "L", "M", "N", "R", "V"].iter().position(|known| *known == code)
}

fn same(a: &Value, b: &Value) -> bool {
    a.get("system") == b.get("system") && a.get("code") == b.get("code")
}

fn codings(resource: &Value, list: &str) -> Result<Vec<Value>, LabelError> {
    match resource.get("meta").and_then(|meta| meta.get(list)) {
        None => Ok(Vec::new()),
        Some(Value::Array(codings)) if codings.iter().all(Value::is_object) => Ok(codings.clone()),
        // A label list of another shape is one that some reader finds empty.
        Some(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => Err(LabelError::Unreadable),
    }
}

fn profiles(resource: &Value) -> Vec<&Value> {
    resource
        .get("meta")
        .and_then(|meta| meta.get("profile"))
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |all| all.iter().collect())
}

/// Every element that carries an inline label, with the names that lead to it and all that it holds: a label that moves to
/// another text, or a text that moves out from under its label, is another element. Positions are left out, so that a
/// list may be reordered. Sorted, with repeats.
fn inline(resource: &Value) -> Vec<(String, String)> {
    fn is_label(value: &Value) -> bool {
        let url = value.get("url").and_then(Value::as_str);
        url.is_some_and(|url| url.ends_with("/extension-inline-sec-label"))
    }
    fn holds_label(value: &Value) -> bool {
        let extensions = value.get("extension").and_then(Value::as_array);
        extensions.is_some_and(|extensions| extensions.iter().any(is_label))
    }
    fn collect(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, path, found)),
            Value::Object(members) => {
                if holds_label(value) {
                    found.push((path.to_owned(), value.to_string()));
                }
                for (name, member) in members {
                    let path = format!("{path}/{name}");
                    // `_birthDate` labels `birthDate`, item by item where it repeats.
                    let labels_sibling = match member {
                        Value::Array(items) => items.iter().any(holds_label),
                        Value::Object(_) => holds_label(member),
                        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
                    };
                    match name.strip_prefix('_').filter(|_| labels_sibling) {
                        Some(sibling) => {
                            let sibling = members.get(sibling).map(Value::to_string).unwrap_or_default();
                            found.push((path, format!("{member} {sibling}")));
                        }
                        None => collect(member, &path, found),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    collect(resource, "", &mut found);
    found.sort_unstable();
    found
}

/// Is every element of `some` in `all`, as often? Both are sorted.
fn within(some: &[(String, String)], all: &[(String, String)]) -> bool {
    let count = |list: &[(String, String)], one| list.iter().filter(|there| *there == one).count();
    some.iter().all(|one| count(some, one) <= count(all, one))
}

fn meta(meta: Option<&RawValue>, lists: &[(&str, String)]) -> Result<Option<String>, LabelError> {
    let members = meta.map_or(Ok(Vec::new()), |meta| json::members(meta.get().as_bytes()))?;
    if members.is_empty() && lists.is_empty() {
        return Ok(meta.map(|meta| meta.get().to_owned()));
    }
    let others = members
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "security" | "tag"))
        .map(|(name, raw)| (name.as_str(), raw.get()));
    Ok(Some(json::object(others.chain(lists.iter().map(|(name, text)| (*name, text.as_str()))))))
}

fn with_meta(members: &[(String, Box<RawValue>)], meta: Option<&str>) -> String {
    let mut written: Vec<(&str, &str)> = Vec::with_capacity(members.len() + 1);
    for (name, raw) in members.iter().filter(|(name, _)| name != "meta") {
        written.push((name, raw.get()));
        if let (Some(meta), "resourceType") = (meta, name.as_str()) {
            written.push(("meta", meta));
        }
    }
    json::object(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ACT: &str = crate::label::ACT_CODE;

    fn labelled(labels: &[(&str, &str)]) -> Value {
        let security: Vec<Value> =
            labels.iter().map(|(system, code)| json!({"system": system, "code": code})).collect();
        json!({"resourceType": "Condition", "id": "c", "meta": {"versionId": "3", "security": security}, "code": {"text": "x"}})
    }

    fn codes(preserved: &Preserved) -> Vec<String> {
        let body: Value = serde_json::from_str(&preserved.body).unwrap();
        codings(&body, "security").unwrap().iter().map(|coding| coding["code"].as_str().unwrap().to_owned()).collect()
    }

    fn updated(stored: &Value, new: &Value) -> Result<Preserved, LabelError> {
        update(Some(stored.to_string().as_bytes()), new.to_string().as_bytes())
    }

    #[test]
    fn stored_labels_are_put_back() {
        let stored = labelled(&[(CONFIDENTIALITY, "R"), (ACT, "SUD"), (ACT, "42CFRPart2")]);
        let bare = json!({"resourceType": "Condition", "id": "c", "code": {"text": "y"}});
        let preserved = updated(&stored, &bare).unwrap();
        assert_eq!(codes(&preserved), ["R", "SUD", "42CFRPart2"]);
        assert_eq!((preserved.restored, preserved.adds), (3, Added::default()));
        let same = updated(&stored, &stored).unwrap();
        assert_eq!((same.restored, same.adds), (0, Added::default()));
    }

    #[test]
    fn the_stricter_confidentiality_stays() {
        let (normal, restricted) = (labelled(&[(CONFIDENTIALITY, "N")]), labelled(&[(CONFIDENTIALITY, "R")]));
        let lowered = updated(&restricted, &normal).unwrap();
        assert_eq!((codes(&lowered), lowered.restored), (vec![String::from("R")], 1));
        let raised = updated(&normal, &restricted).unwrap();
        assert_eq!((codes(&raised), raised.restored, raised.adds.labels), (vec![String::from("R")], 0, true));
    }

    #[test]
    fn a_write_that_adds_labels_tags_or_profiles_says_so() {
        let plain = json!({"resourceType": "Condition", "id": "c"});
        let added = |labels, tags, profiles| Added { labels, tags, profiles };
        for (meta, expected) in [
            (json!({"security": [{"system": ACT, "code": "SUD"}]}), added(true, false, false)),
            (json!({"tag": [{"code": "x"}]}), added(false, true, false)),
            (json!({"profile": ["p"]}), added(false, false, true)),
        ] {
            let new = json!({"resourceType": "Condition", "id": "c", "meta": meta});
            assert_eq!(updated(&plain, &new).unwrap().adds, expected, "{new}");
            assert_eq!(update(None, new.to_string().as_bytes()).unwrap().adds, expected);
        }
        let new = json!({"resourceType": "Condition", "id": "c", "meta": {"versionId": "1"}});
        assert_eq!(updated(&plain, &new).unwrap().adds, Added::default());
    }

    #[test]
    fn inline_labels_are_not_lost() {
        let label = json!({"url": "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label", "valueCoding": {"system": ACT, "code": "SUD"}});
        let stored = json!({"resourceType": "Condition", "id": "c", "note": [{"extension": [label], "text": "x"}]});
        let washed = json!({"resourceType": "Condition", "id": "c", "note": [{"text": "x"}]});
        assert_eq!(updated(&stored, &washed).map(|_| ()), Err(LabelError::Lowered));
        assert!(updated(&stored, &stored).is_ok());
        assert!(updated(&washed, &stored).unwrap().adds.labels);
        assert_eq!(patch(&stored, &washed), Err(LabelError::Lowered));
        assert!(patch(&washed, &stored).unwrap().labels);
    }

    #[test]
    fn an_inline_label_stays_with_what_it_labels() {
        let label = json!([{"url": "http://x/extension-inline-sec-label", "valueCoding": {"code": "SUD"}}]);
        let of = |notes: Value| json!({"resourceType": "Patient", "id": "c", "note": notes});
        let stored = of(json!([{"extension": label, "text": "a"}, {"text": "b"}]));
        let reordered = of(json!([{"text": "b"}, {"extension": label, "text": "a"}]));
        let moved = of(json!([{"text": "a"}, {"extension": label, "text": "b"}]));
        assert!(updated(&stored, &reordered).is_ok());
        assert_eq!(updated(&stored, &moved).map(|_| ()), Err(LabelError::Lowered));
        let twice = of(json!([{"extension": label, "text": "a"}, {"extension": label, "text": "a"}]));
        assert_eq!(updated(&twice, &stored).map(|_| ()), Err(LabelError::Lowered));

        let born = |date: &str, labels: &Value| json!({"resourceType": "Patient", "birthDate": date, "_birthDate": {"extension": labels}});
        assert!(updated(&born("1970", &label), &born("1970", &label)).is_ok());
        assert_eq!(updated(&born("1970", &label), &born("1970", &json!([]))).map(|_| ()), Err(LabelError::Lowered));
        assert_eq!(updated(&born("1970", &label), &born("1971", &label)).map(|_| ()), Err(LabelError::Lowered));
    }

    #[test]
    fn a_patch_may_not_lower() {
        let (normal, restricted) = (labelled(&[(CONFIDENTIALITY, "N")]), labelled(&[(CONFIDENTIALITY, "R")]));
        assert_eq!(patch(&restricted, &normal), Err(LabelError::Lowered));
        assert!(patch(&normal, &restricted).unwrap().labels);
        assert_eq!(patch(&restricted, &restricted), Ok(Added::default()));
    }

    #[test]
    fn labels_of_another_shape_are_unreadable() {
        let stored = labelled(&[(ACT, "SUD")]);
        for security in [json!({"system": ACT, "code": "SUD"}), json!("SUD"), json!([["SUD"]]), json!(null)] {
            let odd = json!({"resourceType": "Condition", "id": "c", "meta": {"security": security}});
            assert_eq!(updated(&stored, &odd).map(|_| ()), Err(LabelError::Unreadable), "{odd}");
            assert_eq!(updated(&odd, &stored).map(|_| ()), Err(LabelError::Unreadable), "{odd}");
        }
        let twice = br#"{"resourceType":"Condition","meta":{},"meta":{}}"#;
        assert_eq!(update(None, twice).map(|_| ()), Err(LabelError::Unreadable));
    }

    #[test]
    fn the_rest_keeps_its_text() {
        let stored = labelled(&[(ACT, "SUD")]).to_string();
        let new = br#"{"resourceType":"Observation","valueQuantity":{"value":1.10}}"#;
        let preserved = update(Some(stored.as_bytes()), new).unwrap();
        assert!(preserved.body.contains(r#""valueQuantity":{"value":1.10}"#));
    }
}
