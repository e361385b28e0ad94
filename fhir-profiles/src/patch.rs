//! JSON Patch (RFC 6902) on a resource: read strictly, judged by what it touches, applied to see the post-image.
//!
//! Refused to everybody: `test`, which answers questions about what the caller may not see; any operation on the whole
//! resource, its type, its id, or anything in `meta`, where labels, tags and profiles stand.

use core::fmt;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, CopyOperation, MoveOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json;

/// More operations than this are no edit.
const MAX_OPERATIONS: usize = 200;

/// A patch that may be applied.
pub struct Patch {
    operations: Vec<PatchOperation>,
    /// The canonical text, values as the client wrote them.
    text: String,
}

/// Why a patch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatchError {
    /// 400: no RFC 6902 document, or one with two readings.
    Malformed,
    /// 403: `test`, or a path that nobody may patch.
    NotAllowed,
    /// 422: it does not apply to this resource. Only told to those who may see the resource whole.
    DoesNotApply,
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the patch is not a JSON Patch document",
            Self::NotAllowed => "the patch has an operation or a path that is not allowed",
            Self::DoesNotApply => "the patch does not apply to this resource",
        })
    }
}

impl core::error::Error for PatchError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperation {
    op: String,
    path: String,
    from: Option<String>,
    value: Option<Box<RawValue>>,
}

impl Patch {
    /// Reads a patch body.
    pub fn parse(body: &[u8]) -> Result<Self, PatchError> {
        json::parse(body).map_err(|_| PatchError::Malformed)?;
        let raw: Vec<RawOperation> = serde_json::from_slice(body).map_err(|_| PatchError::Malformed)?;
        if raw.is_empty() || raw.len() > MAX_OPERATIONS {
            return Err(PatchError::Malformed);
        }
        let operations = raw.iter().map(operation).collect::<Result<_, _>>()?;
        let text = format!("[{}]", raw.iter().map(canonical).collect::<Vec<_>>().join(","));
        Ok(Self { operations, text })
    }

    /// What is sent: the same operations, written from the parsed ones, decimals as the client wrote them.
    pub fn canonical(&self) -> &str {
        &self.text
    }

    /// The first name of every path that is read or written, sorted: the elements that must be visible to the writer.
    pub fn elements(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .operations
            .iter()
            .flat_map(|operation| match operation {
                PatchOperation::Copy(CopyOperation { from, path })
                | PatchOperation::Move(MoveOperation { from, path }) => {
                    vec![from, path]
                }
                PatchOperation::Add(AddOperation { path, .. })
                | PatchOperation::Remove(RemoveOperation { path })
                | PatchOperation::Replace(ReplaceOperation { path, .. }) => vec![path],
                PatchOperation::Test(_) => Vec::new(),
            })
            .filter_map(|path| path.first().map(|token| token.decoded().into_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The resource as it would be afterwards. For judging: number texts may differ from what the EHR will store.
    pub fn apply(&self, resource: &Value) -> Result<Value, PatchError> {
        let mut image = resource.clone();
        json_patch::patch(&mut image, &self.operations).map_err(|_| PatchError::DoesNotApply)?;
        Ok(image)
    }
}

fn operation(raw: &RawOperation) -> Result<PatchOperation, PatchError> {
    let path = pointer(&raw.path)?;
    let from = raw.from.as_deref().map(pointer).transpose()?;
    let value = match &raw.value {
        Some(value) => Some(serde_json::from_str::<Value>(value.get()).map_err(|_| PatchError::Malformed)?),
        None => None,
    };
    Ok(match (raw.op.as_str(), from, value) {
        ("add", None, Some(value)) => PatchOperation::Add(AddOperation { path, value }),
        ("replace", None, Some(value)) => PatchOperation::Replace(ReplaceOperation { path, value }),
        ("remove", None, None) => PatchOperation::Remove(RemoveOperation { path }),
        ("move", Some(from), None) => PatchOperation::Move(MoveOperation { from, path }),
        ("copy", Some(from), None) => PatchOperation::Copy(CopyOperation { from, path }),
        ("test", _, _) => return Err(PatchError::NotAllowed),
        _ => return Err(PatchError::Malformed),
    })
}

/// A pointer below a base element that may be patched.
fn pointer(text: &str) -> Result<PointerBuf, PatchError> {
    if text.len() > 512 {
        return Err(PatchError::Malformed);
    }
    let pointer = PointerBuf::parse(text).map_err(|_| PatchError::Malformed)?;
    let first = pointer.first().map(|token| token.decoded().into_owned());
    match first.as_deref() {
        None | Some("" | "meta" | "_meta" | "id" | "_id" | "resourceType" | "implicitRules" | "_implicitRules") => {
            Err(PatchError::NotAllowed)
        }
        Some(_) => Ok(pointer),
    }
}

fn canonical(raw: &RawOperation) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let (op, path, from) = (quoted(&raw.op), quoted(&raw.path), raw.from.as_deref().map(quoted));
    let members = [
        ("op", Some(op.as_str())),
        ("from", from.as_deref()),
        ("path", Some(path.as_str())),
        ("value", raw.value.as_deref().map(RawValue::get)),
    ];
    json::object(members.into_iter().filter_map(|(name, text)| text.map(|text| (name, text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Patch, PatchError> {
        Patch::parse(text.as_bytes())
    }

    #[track_caller]
    fn refuses(text: &str, error: PatchError) {
        assert_eq!(parse(text).map(|_| ()), Err(error), "{text}");
    }

    #[test]
    fn a_plain_edit_is_applied_and_written_canonically() {
        let patch = parse(r#"[ {"op":"replace", "path":"/status", "value":"final"}, {"path":"/valueQuantity/value","op":"add","value":1.10}, {"op":"remove","path":"/note/0"} ]"#).unwrap();
        assert_eq!(
            patch.canonical(),
            r#"[{"op":"replace","path":"/status","value":"final"},{"op":"add","path":"/valueQuantity/value","value":1.10},{"op":"remove","path":"/note/0"}]"#
        );
        assert_eq!(patch.elements(), ["note", "status", "valueQuantity"]);
        let pre = json!({"resourceType": "Observation", "status": "preliminary", "valueQuantity": {"value": 1}, "note": [{"text": "x"}]});
        let post = patch.apply(&pre).unwrap();
        assert_eq!(
            post,
            json!({"resourceType": "Observation", "status": "final", "valueQuantity": {"value": 1.1}, "note": []})
        );
        assert_eq!(patch.apply(&json!({"resourceType": "Observation"})).map(|_| ()), Err(PatchError::DoesNotApply));
    }

    #[test]
    fn the_post_image_shows_another_patient() {
        let patch = parse(r#"[{"op":"replace","path":"/subject/reference","value":"Patient/b"}]"#).unwrap();
        let post = patch.apply(&json!({"resourceType": "Observation", "subject": {"reference": "Patient/a"}})).unwrap();
        assert_eq!(post["subject"]["reference"], "Patient/b");
    }

    #[test]
    fn questions_and_whole_resources_are_not_allowed() {
        refuses(r#"[{"op":"test","path":"/status","value":"final"}]"#, PatchError::NotAllowed);
        refuses(
            r#"[{"op":"replace","path":"","value":{"subject":{"reference":"Patient/b"}}}]"#,
            PatchError::NotAllowed,
        );
        refuses(r#"[{"op":"remove","path":"/meta/security/0"}]"#, PatchError::NotAllowed);
        refuses(r#"[{"op":"add","path":"/meta/tag/-","value":{}}]"#, PatchError::NotAllowed);
        refuses(r#"[{"op":"copy","from":"/meta/security","path":"/note"}]"#, PatchError::NotAllowed);
        refuses(r#"[{"op":"move","from":"/note","path":"/meta"}]"#, PatchError::NotAllowed);
        refuses(r#"[{"op":"move","from":"","path":"/contained/0"}]"#, PatchError::NotAllowed);
        refuses(r#"[{"op":"replace","path":"/id","value":"b"}]"#, PatchError::NotAllowed);
        refuses(r#"[{"op":"replace","path":"/resourceType","value":"Patient"}]"#, PatchError::NotAllowed);
    }

    #[test]
    fn a_patch_has_one_reading() {
        for wrong in [
            "",
            "{}",
            "[]",
            r#"[{"op":"add","op":"remove","path":"/x","value":1}]"#,
            r#"[{"op":"add","path":"/x"}]"#,
            r#"[{"op":"remove","path":"/x","value":1}]"#,
            r#"[{"op":"add","path":"x","value":1}]"#,
            r#"[{"op":"add","path":"/x~2","value":1}]"#,
            r#"[{"op":"Add","path":"/x","value":1}]"#,
            r#"[{"op":"move","path":"/x"}]"#,
            r#"[{"op":"add","path":"/x","value":1,"extra":1}]"#,
        ] {
            refuses(wrong, PatchError::Malformed);
        }
    }
}
