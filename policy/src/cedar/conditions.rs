//! The conditions of policies taken apart: which of them hold for a question, and which were never put to the test.

use std::sync::Arc;

use cedar_policy as cedar;
use serde_json::{Value, json};

use super::{Answer, PolicyMeta, PolicySet, Verdict};
use crate::question::Question;
use crate::tables::Uncovered;

/// One condition of a policy: a leaf under its `&&`, `||` and `!`.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) text: String,
    /// Stands in an `unless`.
    pub(crate) negated: bool,
    probe: cedar::PolicySet,
}

impl PolicySet {
    /// The conditions of a policy in the order of its text.
    pub(crate) fn conditions(&self, meta: &PolicyMeta) -> Vec<Condition> {
        self.source(meta).map(conditions).unwrap_or_default()
    }

    fn source(&self, meta: &PolicyMeta) -> Option<&cedar::Policy> {
        self.sources.iter().find(|policy| policy.id().to_string() == meta.id)
    }

    /// The policies that decide, those in shadow mode left out, as one Cedar text.
    pub fn enforced_text(&self) -> String {
        let enforced = self.sources.iter().filter(|policy| policy.annotation("mode") != Some("shadow"));
        enforced.filter_map(cedar::Policy::to_cedar).collect::<Vec<_>>().join("\n")
    }

    /// Each policy's `@id` and its form as JSON, annotations included, in file order.
    pub(crate) fn as_json(&self) -> Vec<(String, Value)> {
        let json = |policy: &cedar::Policy| Some((policy.id().to_string(), policy.to_json().ok()?));
        self.sources.iter().filter_map(json).collect()
    }

    /// Does this condition hold for the question? `None` where the policy's scope does not fit, or evaluation fails.
    pub(crate) fn holds(&self, condition: &Condition, question: &Question) -> Option<bool> {
        match self.probe(&condition.probe, question).verdict {
            Verdict::Permit => Some(true),
            Verdict::Deny => Some(false),
            Verdict::Error => None,
        }
    }

    /// Does the policy's scope (its principal and action) fit the question?
    pub(crate) fn scope_fits(&self, meta: &PolicyMeta, question: &Question) -> bool {
        let scope = self.source(meta).and_then(scope_of);
        scope.is_some_and(|probe| self.probe(&probe, question).verdict == Verdict::Permit)
    }

    fn probe(&self, probe: &cedar::PolicySet, question: &Question) -> Answer {
        match self.build(question) {
            Some((request, entities)) => self.evaluate(probe, &request, &entities),
            None => Answer::error(),
        }
    }

    /// Conditions that none of these questions makes true, or none makes false.
    pub(crate) fn unexercised_conditions(&self, questions: &[&Question]) -> Vec<Uncovered> {
        let built: Vec<(cedar::Request, cedar::Entities)> =
            questions.iter().filter_map(|question| self.build(question)).collect();
        let mut found = Vec::new();
        for meta in self.listed.iter().map(Arc::as_ref) {
            let Some(scope) = self.source(meta).and_then(scope_of) else { continue };
            let verdict = |probe: &cedar::PolicySet, (request, entities): &(cedar::Request, cedar::Entities)| {
                self.evaluate(probe, request, entities).verdict
            };
            let fitting: Vec<&(cedar::Request, cedar::Entities)> =
                built.iter().filter(|built| verdict(&scope, built) == Verdict::Permit).collect();
            for condition in self.conditions(meta) {
                let seen: Vec<Verdict> = fitting.iter().map(|built| verdict(&condition.probe, built)).collect();
                for (value, missing) in
                    [(Verdict::Permit, "no row makes it true"), (Verdict::Deny, "no row makes it false")]
                {
                    if !seen.contains(&value) {
                        let condition = Some(condition.text.clone());
                        found.push(Uncovered { policy: meta.id.clone(), condition, missing });
                    }
                }
            }
        }
        found
    }
}

/// A probe that fits whatever the policy's principal and action fit.
fn scope_of(policy: &cedar::Policy) -> Option<cedar::PolicySet> {
    permit(&policy.to_json().ok()?, json!([]))
}

fn conditions(policy: &cedar::Policy) -> Vec<Condition> {
    let Ok(json) = policy.to_json() else { return Vec::new() };
    let mut found = Vec::new();
    for clause in json.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let negated = clause.get("kind").and_then(Value::as_str) == Some("unless");
        let mut leaves = Vec::new();
        if let Some(body) = clause.get("body") {
            collect_leaves(body, &mut leaves);
        }
        found.extend(leaves.into_iter().filter_map(|leaf| {
            let probe = permit(&json, json!([{ "kind": "when", "body": leaf }]))?;
            Some(Condition { text: text(&probe), negated, probe })
        }));
    }
    found
}

fn collect_leaves<'a>(body: &'a Value, leaves: &mut Vec<&'a Value>) {
    for operator in ["&&", "||"] {
        if let Some(sides) = body.get(operator) {
            for side in ["left", "right"].iter().filter_map(|side| sides.get(side)) {
                collect_leaves(side, leaves);
            }
            return;
        }
    }
    match body.get("!").and_then(|not| not.get("arg")) {
        Some(inner) => collect_leaves(inner, leaves),
        None => leaves.push(body),
    }
}

/// A policy with this one's scope and these conditions, that permits.
fn permit(of: &Value, conditions: Value) -> Option<cedar::PolicySet> {
    let mut json = of.clone();
    let members = json.as_object_mut()?;
    members.insert("effect".to_owned(), json!("permit"));
    members.insert("conditions".to_owned(), conditions);
    members.remove("annotations");
    let policy = cedar::Policy::from_json(Some(cedar::PolicyId::new("probe")), json).ok()?;
    cedar::PolicySet::from_policies([policy]).ok()
}

/// The one condition of a probe, in Cedar's words.
fn text(probe: &cedar::PolicySet) -> String {
    let whole = probe.policies().next().and_then(cedar::Policy::to_cedar).unwrap_or_default();
    let body = whole.split_once("when {").map_or("", |(_, body)| body);
    let body = body.rsplit_once('}').map_or(body, |(body, _)| body);
    body.split_whitespace().collect::<Vec<_>>().join(" ")
}
