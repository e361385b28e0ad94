//! Mutants of a policy set: each differs from it by one dropped condition, flipped operator or widened scope.
//!
//! A mutant that no table row and no proof tells from the original shows a rule that nothing holds in place.

use cedar_policy as cedar;
use serde_json::{Value, json};

use crate::cedar::PolicySet;

/// One mutant: the texts of a whole set, with what was done to it.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub policy: String,
    /// What was done, in words.
    pub change: String,
    /// The set's text with that one change.
    pub text: String,
}

/// Every mutant of a set.
pub fn mutants(set: &PolicySet) -> Vec<Mutant> {
    let policies: Vec<(String, Value)> = set.as_json();
    let mut found = Vec::new();
    for (at, (id, json)) in policies.iter().enumerate() {
        for (change, mutated) in of_policy(json) {
            let texts: Option<Vec<String>> = policies
                .iter()
                .enumerate()
                .map(|(other, (_, json))| text(if other == at { &mutated } else { json }))
                .collect();
            // What does not even print as Cedar is no mutant.
            if let Some(texts) = texts {
                found.push(Mutant { policy: id.clone(), change, text: texts.join("\n") });
            }
        }
    }
    found
}

fn text(json: &Value) -> Option<String> {
    cedar::Policy::from_json(None, json.clone()).ok()?.to_cedar()
}

fn of_policy(json: &Value) -> Vec<(String, Value)> {
    let mut found = scopes(json);
    let clauses = json.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    for (at, clause) in clauses.iter().enumerate() {
        let kind = clause.get("kind").and_then(Value::as_str).unwrap_or_default();
        let mut rest = clauses.clone();
        rest.remove(at);
        found.push((format!("the whole `{kind}` dropped"), with(json, "conditions", json!(rest))));
        let flipped = if kind == "when" { "unless" } else { "when" };
        found.push((
            format!("`{kind}` made `{flipped}`"),
            with(json, "conditions", replaced(&clauses, at, with(clause, "kind", json!(flipped)))),
        ));
        for (change, body) in clause.get("body").map(of_expression).unwrap_or_default() {
            let clause = with(clause, "body", body);
            found.push((format!("in `{kind}`: {change}"), with(json, "conditions", replaced(&clauses, at, clause))));
        }
    }
    found
}

fn scopes(json: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let other = if json.get("effect") == Some(&json!("permit")) { "forbid" } else { "permit" };
    // @reason and @basis belong to one effect; a flipped one without them still loads.
    found.push((format!("made a {other}"), with(json, "effect", json!(other))));
    if json.get("action").and_then(|action| action.get("op")) != Some(&json!("All")) {
        found.push(("the action widened to any".to_owned(), with(json, "action", json!({ "op": "All" }))));
    }
    let listed = json.get("action").and_then(|action| action.get("entities")).and_then(Value::as_array);
    for (at, dropped) in listed.into_iter().flatten().enumerate() {
        let mut rest = listed.cloned().unwrap_or_default();
        rest.remove(at);
        let action = json!({ "op": "in", "entities": rest });
        found.push((format!("the action {} dropped", named(dropped)), with(json, "action", action)));
    }
    found
}

/// Every expression that differs from this one in one place.
fn of_expression(expression: &Value) -> Vec<(String, Value)> {
    let Some((operator, operand)) = expression.as_object().and_then(|members| members.iter().next()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    match operator.as_str() {
        "&&" | "||" => {
            let flipped = if operator == "&&" { "||" } else { "&&" };
            found.push((format!("`{operator}` made `{flipped}`"), json!({ flipped: operand })));
            for (side, other) in [("left", "right"), ("right", "left")] {
                let (Some(kept), Some(dropped)) = (operand.get(other), operand.get(side)) else { continue };
                found.push((format!("dropped `{}`", words(dropped)), kept.clone()));
                found.extend(
                    of_expression(dropped)
                        .into_iter()
                        .map(|(change, mutated)| (change, json!({ operator: with(operand, side, mutated) }))),
                );
            }
        }
        "!" => {
            if let Some(inner) = operand.get("arg") {
                found.push(("`!` dropped".to_owned(), inner.clone()));
                let mutated = of_expression(inner).into_iter();
                found.extend(mutated.map(|(change, inner)| (change, json!({ "!": { "arg": inner } }))));
            }
        }
        "==" | "!=" => {
            let flipped = if operator == "==" { "!=" } else { "==" };
            found
                .push((format!("`{}`: `{operator}` made `{flipped}`", words(expression)), json!({ flipped: operand })));
        }
        "contains" | "containsAny" | "containsAll" => {
            found.push((format!("negated `{}`", words(expression)), negated(expression)));
            let other = match operator.as_str() {
                "containsAny" => Some("containsAll"),
                "containsAll" => Some("containsAny"),
                _ => None,
            };
            found.extend(other.map(|other| (format!("`{operator}` made `{other}`"), json!({ other: operand }))));
            for side in ["left", "right"] {
                let elements = operand.get(side).and_then(|side| side.get("Set")).and_then(Value::as_array);
                for (at, dropped) in elements.into_iter().flatten().enumerate() {
                    let mut rest = elements.cloned().unwrap_or_default();
                    rest.remove(at);
                    if !rest.is_empty() {
                        let mutated = json!({ operator: with(operand, side, json!({ "Set": rest })) });
                        found.push((format!("dropped {} from a list", named(dropped)), mutated));
                    }
                }
            }
        }
        // An attribute that is a truth value.
        "." => found.push((format!("negated `{}`", words(expression)), negated(expression))),
        _ => {}
    }
    found
}

fn negated(expression: &Value) -> Value {
    json!({ "!": { "arg": expression } })
}

fn with(object: &Value, member: &str, value: Value) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.insert(member.to_owned(), value);
    }
    object
}

fn replaced(clauses: &[Value], at: usize, clause: Value) -> Value {
    let mut clauses = clauses.to_vec();
    if let Some(old) = clauses.get_mut(at) {
        *old = clause;
    }
    json!(clauses)
}

/// An expression in Cedar's words.
fn words(expression: &Value) -> String {
    let whole = text(&json!({
        "effect": "permit",
        "principal": { "op": "All" }, "action": { "op": "All" }, "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": expression }],
    }));
    let whole = whole.unwrap_or_default();
    let body = whole.split_once("when {").and_then(|(_, body)| body.rsplit_once('}')).map_or("", |(body, _)| body);
    body.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The id in an entity literal.
fn named(entity: &Value) -> String {
    let entity = entity.get("Value").unwrap_or(entity);
    let entity = entity.get("__entity").unwrap_or(entity);
    let id = entity.get("id").and_then(Value::as_str).unwrap_or("an element");
    format!("`{id}`")
}
