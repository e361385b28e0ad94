//! What the solver found, read back from its model.

use cedar_policy::{Entity, EvalResult};
use cedar_policy_symcc::Env;
use serde_json::{Map, Value, json};

use super::Counterexample;

pub(super) fn counterexample(env: &Env) -> Counterexample {
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
    Counterexample(Value::Object(question))
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
