//! The caller's facts as Cedar sees them, made once and used for any number of questions.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use time::format_description::well_known::Rfc3339;

use super::PolicySet;
use super::remembered::CallerNumber;
use super::vocabulary::{Question, code, uid};
use crate::question::Caller;

/// Who asks, put into Cedar's terms when a question is first really asked: most are answered from memory.
#[derive(Debug)]
pub(crate) struct Asker {
    caller: Caller,
    /// The number of the caller's facts, where verdicts outlive the request.
    number: Option<CallerNumber>,
    asking: OnceLock<Option<Asking>>,
}

impl Asker {
    pub(crate) fn new(set: &PolicySet, caller: Caller) -> Self {
        let number = if set.verdicts_outlive_the_request() { set.remembered.number(&caller) } else { None };
        Self { caller, number, asking: OnceLock::new() }
    }

    pub(crate) const fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) const fn number(&self) -> Option<CallerNumber> {
        self.number
    }

    pub(super) fn asking(&self, set: &PolicySet) -> Option<&Asking> {
        self.asking.get_or_init(|| Asking::new(set, &self.caller)).as_ref()
    }
}

/// Who asks, ready for any number of questions.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    uid: EntityUid,
    app: Entity,
    context: Context,
}

impl Asking {
    /// `None` only if a fact could not be put into Cedar's terms; that is an error, and errors deny.
    pub(crate) fn new(set: &PolicySet, caller: &Caller) -> Option<Self> {
        let uid = uid("App", &caller.app)?;
        let purposes =
            caller.registered().iter().map(|purpose| code("Purpose", purpose.code())).collect::<Option<Vec<_>>>()?;
        let attributes = HashMap::from([
            ("active".to_owned(), RestrictedExpression::new_bool(caller.active)),
            ("evidence_current".to_owned(), RestrictedExpression::new_bool(caller.evidence_current)),
            ("basis".to_owned(), code("Basis", caller.basis.code())?),
            ("purposes".to_owned(), RestrictedExpression::new_set(purposes)),
            ("silent".to_owned(), RestrictedExpression::new_bool(caller.silent)),
            ("jurisdiction".to_owned(), RestrictedExpression::new_string(caller.jurisdiction.clone())),
        ]);
        let app = Entity::new(uid.clone(), attributes, HashSet::new()).ok()?;
        Some(Self { uid, app, context: context(set, caller)? })
    }

    pub(super) const fn uid(&self) -> &EntityUid {
        &self.uid
    }

    pub(super) fn request(&self, question: Question) -> Option<(Request, Entities)> {
        let resource = question.resource.uid();
        let request = Request::new(self.uid.clone(), question.action, resource, self.context.clone(), None).ok()?;
        let entities = [self.app.clone(), question.resource].into_iter().chain(question.groups);
        Some((request, Entities::from_entities(entities, None).ok()?))
    }
}

fn context(set: &PolicySet, caller: &Caller) -> Option<Context> {
    let lineage = std::iter::successors(Some(caller.purpose), |purpose| purpose.parent());
    let purposes = lineage.map(|purpose| code("Purpose", purpose.code())).collect::<Option<Vec<_>>>()?;
    let mut pairs = vec![
        ("purpose".to_owned(), code("Purpose", caller.purpose.code())?),
        ("purposes".to_owned(), RestrictedExpression::new_set(purposes)),
        ("user".to_owned(), code("UserKind", caller.user.code())?),
        ("strong".to_owned(), RestrictedExpression::new_bool(caller.strong)),
        ("mtls".to_owned(), RestrictedExpression::new_bool(caller.mtls)),
        ("sender_constrained".to_owned(), RestrictedExpression::new_bool(caller.sender_constrained)),
        ("emergency".to_owned(), RestrictedExpression::new_bool(caller.emergency)),
        ("organization".to_owned(), RestrictedExpression::new_string(caller.organization.clone())),
        ("risk".to_owned(), code("Risk", caller.risk.code())?),
        ("endpoint".to_owned(), code("EndpointRole", caller.endpoint.code())?),
    ];
    // Reading a moment back from text costs more than all the rest: it is there for those who ask for it.
    if set.reads_time {
        let now = caller.time.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).ok()?.format(&Rfc3339).ok()?;
        pairs.push(("time".to_owned(), RestrictedExpression::new_datetime(now)));
    }
    Context::from_pairs(pairs).ok()
}
