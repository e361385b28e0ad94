//! Templates: ceilings that partner files name. A template forbids; linked to a partner, it forbids that partner.
//!
//! `forbid (principal == ?principal, …)` becomes one policy for each partner under it, and one for an example partner,
//! `App::"under:<id>"`, which tables, mutations and proofs speak of: no other policy knows that name, so that what holds of
//! the example holds of every partner under the template.

use cedar_policy as cedar;
use serde_json::{Value, json};

use super::load::{Ceiling, PolicyProblem, Read, problem};
use super::meta::{Mode, PolicyMeta};

/// A template, checked.
pub(super) struct Template {
    meta: PolicyMeta,
    json: Value,
}

impl Template {
    /// # Errors
    /// Refuses a template that permits, that is in shadow mode, or whose slot is anywhere but in `principal == ?principal`.
    pub(super) fn read(file: &str, template: &cedar::Template) -> Result<Self, String> {
        let meta = PolicyMeta::read(file, template.effect(), template.annotations(), 0)?;
        if meta.permits {
            return Err(
                "a template is a ceiling, and a ceiling forbids: what a partner gets beyond others is a policy \
                        for that partner"
                    .to_owned(),
            );
        }
        if meta.mode == Mode::Shadow {
            return Err("a template cannot run in shadow mode: leave it out of the partner's file instead".to_owned());
        }
        let own_slot = matches!(template.principal_constraint(), cedar::TemplatePrincipalConstraint::Eq(None));
        if !own_slot || template.slots().count() != 1 {
            return Err("a template has one slot, in `principal == ?principal`".to_owned());
        }
        let json = template.to_json().map_err(|error| error.to_string())?;
        Ok(Self { meta, json })
    }

    /// The policy that it is for this app.
    fn of(&self, app: &str, id: String, position: usize) -> Result<Read, String> {
        let mut json = self.json.clone();
        let principal = json!({ "op": "==", "entity": { "type": "App", "id": app } });
        let members = json.as_object_mut().ok_or("the template has no form in JSON")?;
        members.insert("principal".to_owned(), principal);
        if let Some(annotations) = members.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.insert("id".to_owned(), json!(id));
        }
        let policy = cedar::Policy::from_json(None, json).map_err(|error| error.to_string())?;
        let template = Some(self.meta.id.clone());
        Ok(Read::new(&policy, PolicyMeta { id, template, position, ..self.meta.clone() }))
    }
}

/// Puts each template's policies behind the others: the example's, and one for each partner under it.
pub(super) fn link(templates: &[Template], ceilings: &[&Ceiling], policies: &mut Vec<Read>) -> Vec<PolicyProblem> {
    let mut problems = Vec::new();
    for template in templates {
        let Template { meta, .. } = template;
        if policies.iter().any(|other| other.meta.id == meta.id) {
            problems.push(problem(&meta.file, Some(&meta.id), "this @id is already in use".to_owned()));
            continue;
        }
        let under = ceilings.iter().filter(|ceiling| ceiling.template == meta.id);
        let partners = under.map(|ceiling| (ceiling.app.clone(), format!("{}@{}", meta.id, ceiling.app)));
        let example = (format!("under:{}", meta.id), meta.id.clone());
        for (app, id) in std::iter::once(example).chain(partners) {
            match template.of(&app, id, policies.len()) {
                Ok(read) => policies.push(read),
                Err(message) => problems.push(problem(&meta.file, Some(&meta.id), message)),
            }
        }
    }
    let known = |ceiling: &&&Ceiling| templates.iter().any(|template| template.meta.id == ceiling.template);
    for ceiling in ceilings.iter().filter(|ceiling| !known(ceiling)) {
        let known: Vec<&str> = templates.iter().map(|template| template.meta.id.as_str()).collect();
        let message = format!(
            "partner `{}` names it as a ceiling, and the set has no such template; it has {}",
            ceiling.app,
            known.join(", ")
        );
        problems.push(problem("ceilings", Some(&ceiling.template), message));
    }
    problems
}
