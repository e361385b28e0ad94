//! A request that breaks an invariant, in FHIR's terms.

use cedar_policy::{Entity, EvalResult};
use cedar_policy_symcc::Env;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What the solver found: the question as tables and `policy explain` take it. It is synthetic; no data stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Counterexample(Value);

impl Counterexample {
    pub(super) fn of(env: &Env) -> Self {
        let request = &env.request;
        let entity = |uid: Option<&cedar_policy::EntityUid>| uid.and_then(|uid| env.entities.get(uid));
        let mut caller = entity(request.principal()).map(attributes).unwrap_or_default();
        caller.insert("app".to_owned(), json!(request.principal().map_or("", |app| app.id().unescaped())));
        for name in ["purpose", "user", "strong", "mtls", "sender_constrained", "emergency", "risk", "endpoint"] {
            if let Some(value) = request.context().and_then(|context| context.get(name)) {
                caller.insert(name.to_owned(), plain(&value));
            }
        }
        let lineage = request.context().and_then(|context| context.get("purposes")).map(|value| plain(&value));
        let mut about = entity(request.resource()).map(attributes).unwrap_or_default();
        let action = request.action().map_or("", |action| action.id().unescaped());
        let key = if action == "disclose" { "record" } else { "target" };
        if key == "target" {
            about.insert("action".to_owned(), json!(action));
        }
        let mut question = Map::new();
        question.insert("caller".to_owned(), Value::Object(caller));
        question.insert(key.to_owned(), Value::Object(about));
        // The solver chooses the purposes above a purpose freely; where it did, they decide.
        question.extend(lineage.map(|lineage| ("purposes_above".to_owned(), lineage)));
        Self(Value::Object(question))
    }

    fn text(&self, path: [&str; 2]) -> String {
        match self.0.get(path[0]).and_then(|of| of.get(path[1])) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                if items.is_empty() { "none".to_owned() } else { items.join(", ") }
            }
            Some(other) => other.to_string(),
            None => "any".to_owned(),
        }
    }
}

impl core::fmt::Display for Counterexample {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "  permitted: a partner with Part 2 basis {} (registered for {}), asking for {}, user type {}",
            self.text(["caller", "basis"]),
            self.text(["caller", "purposes"]),
            self.text(["caller", "purpose"]),
            self.text(["caller", "user"]),
        )?;
        if self.0.get("record").is_some() {
            write!(
                f,
                ",\n    sees a {} labelled {}; consents: {}; patient: {}",
                self.text(["record", "kind"]),
                self.text(["record", "labels"]),
                self.text(["record", "consent"]),
                self.text(["record", "patient"]),
            )?;
        } else {
            write!(f, ",\n    does {} on {}", self.text(["target", "action"]), self.text(["target", "kind"]))?;
        }
        write!(f, "\n  all facts: {}", self.0)
    }
}

fn attributes(entity: &Entity) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in entity.attrs().filter_map(|(name, value)| Some((name, value.ok()?))) {
        members.insert(name.to_owned(), plain(&value));
    }
    members
}

/// Codes for the enumerated entities, and plain values for the rest.
fn plain(value: &EvalResult) -> Value {
    match value {
        EvalResult::Bool(truth) => json!(truth),
        EvalResult::Long(number) => json!(number),
        EvalResult::String(text) | EvalResult::ExtensionValue(text) => json!(text),
        EvalResult::EntityUid(uid) => json!(uid.id().unescaped()),
        EvalResult::Set(set) => Value::Array(set.iter().map(plain).collect()),
        EvalResult::Record(record) => {
            Value::Object(record.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
    }
}
