//! Forbids that further labels cannot lift: a record with more labels is forbidden by them too.

use cedar_policy as cedar;
use serde_json::Value;

use super::{Mode, PolicySet};

impl PolicySet {
    /// Is this policy an enforced forbid that reads the labels of a record only to find one that is there? By its form
    /// alone: what cannot be seen to be one is none.
    pub(crate) fn holds_for_more_labels(&self, id: &str) -> bool {
        let enforced = self.policy(id).is_some_and(|meta| meta.mode == Mode::Enforce);
        let source = self.sources.iter().find(|policy| policy.id().to_string() == id);
        enforced && source.is_some_and(|policy| policy.effect() == cedar::Effect::Forbid && only_finds_labels(policy))
    }
}

fn only_finds_labels(policy: &cedar::Policy) -> bool {
    let Ok(json) = policy.to_json() else { return false };
    let conditions = json.get("conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().all(|condition| {
        let body = condition.get("body").unwrap_or(&Value::Null);
        match condition.get("kind").and_then(Value::as_str) {
            Some("when") => only_finds(body),
            // What stands in an `unless` is negated.
            _ => !reads_labels(body),
        }
    })
}

/// `labels.contains(…)` and `labels.containsAny(…)`, joined by `&&` and `||` with what does not read labels.
fn only_finds(body: &Value) -> bool {
    let Some((operator, operands)) = body.as_object().and_then(|members| members.iter().next()) else {
        return !reads_labels(body);
    };
    let side = |name: &str| operands.get(name).unwrap_or(&Value::Null);
    match operator.as_str() {
        "&&" | "||" => only_finds(side("left")) && only_finds(side("right")),
        "contains" | "containsAny" if is_labels(side("left")) => !reads_labels(side("right")),
        _ => !reads_labels(body),
    }
}

fn is_labels(value: &Value) -> bool {
    value.get(".").and_then(|access| access.get("attr")).and_then(Value::as_str) == Some("labels")
}

fn reads_labels(value: &Value) -> bool {
    match value {
        Value::Object(members) => is_labels(value) || value.get("has").is_some() || members.values().any(reads_labels),
        Value::Array(items) => items.iter().any(reads_labels),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(condition: &str) -> PolicySet {
        let text = format!(
            "@id(\"all\") @cites(\"x\") @says(\"x\") permit (principal, action, resource);\n\
             @id(\"one\") @cites(\"x\") @says(\"x\") @reason(\"label-withheld\") \
             forbid (principal, action == Action::\"disclose\", resource) {condition};"
        );
        PolicySet::load(&[("one.cedar".to_owned(), text)]).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[track_caller]
    fn holds(condition: &str, expected: bool) {
        assert_eq!(set(condition).holds_for_more_labels("one"), expected, "{condition}");
    }

    #[test]
    fn a_forbid_holds_for_more_labels_if_it_only_finds_them() {
        holds(r#"when { resource.labels.contains(Label::"SUD") }"#, true);
        holds(r#"when { resource.labels.containsAny([Label::"SUD"]) } unless { resource.notes_consent }"#, true);
        holds(r#"when { context.mtls && resource.labels.contains(Label::"SUD") }"#, true);
        holds("when { context.mtls }", true);
        holds(r#"when { !resource.labels.contains(Label::"SUD") }"#, false);
        holds(r#"when { [Label::"SUD"].containsAll(resource.labels) }"#, false);
        holds(r#"when { resource.labels == [Label::"SUD"] }"#, false);
        holds(r#"unless { resource.labels.contains(Label::"SUD") }"#, false);
        holds(r#"when { if resource.labels.contains(Label::"SUD") then context.mtls else true }"#, false);
        assert!(!set("when { context.mtls }").holds_for_more_labels("all"), "a permit forbids nothing");
    }
}
