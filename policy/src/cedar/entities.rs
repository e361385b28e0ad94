//! The facts of a decision as Cedar sees them. Everything a policy can read of a record is in [`RecordKey`], which is
//! also the key verdicts are remembered under: no policy can read outside it.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::LabelSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::PolicySet;
use super::vocabulary::{Question, code, uid};
use crate::decide::{EndpointRole, Risk, UserKind};
use crate::partner::{Part2Basis, Redaction};
use crate::permit::ConsentTag;
use crate::purpose::PurposeOfUse;

/// What a request reaches, one type at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TargetKey {
    /// The action's name in the schema.
    pub(crate) action: &'static str,
    pub(crate) kind: ResourceType,
    /// The path's name in the schema.
    pub(crate) path: &'static str,
}

/// All that distinguishes one returned record from another, for policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordKey {
    pub(crate) kind: ResourceType,
    pub(crate) labels: LabelSet,
    pub(crate) consent: ConsentTag,
    pub(crate) relation: Relation,
    pub(crate) emergency_patient: bool,
    pub(crate) court_order: bool,
}

/// Whose record it is, seen from the caller's launch context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Relation {
    Own,
    Other,
    /// About no patient.
    None,
}

impl Relation {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other",
            Self::None => "none",
        }
    }
}

/// The caller's facts, as plain values.
#[derive(Clone, Debug)]
pub(crate) struct AskingFacts<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) active: bool,
    pub(crate) evidence_current: bool,
    pub(crate) basis: Part2Basis,
    pub(crate) purposes: &'a [PurposeOfUse],
    pub(crate) redaction: Redaction,
    pub(crate) jurisdiction: &'a str,
    pub(crate) purpose: PurposeOfUse,
    pub(crate) user: UserKind,
    pub(crate) strong: bool,
    pub(crate) mtls: bool,
    pub(crate) sender_constrained: bool,
    pub(crate) emergency: bool,
    pub(crate) risk: Risk,
    pub(crate) endpoint: EndpointRole,
    pub(crate) now: OffsetDateTime,
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
    pub(crate) fn new(set: &PolicySet, facts: &AskingFacts<'_>) -> Option<Self> {
        let uid = uid("App", facts.client_id)?;
        let purposes =
            facts.purposes.iter().map(|purpose| code("Purpose", purpose.code())).collect::<Option<Vec<_>>>()?;
        let attributes = HashMap::from([
            ("active".to_owned(), RestrictedExpression::new_bool(facts.active)),
            ("evidence_current".to_owned(), RestrictedExpression::new_bool(facts.evidence_current)),
            ("basis".to_owned(), code("Basis", facts.basis.code())?),
            ("purposes".to_owned(), RestrictedExpression::new_set(purposes)),
            ("silent".to_owned(), RestrictedExpression::new_bool(facts.redaction == Redaction::Silent)),
            ("jurisdiction".to_owned(), RestrictedExpression::new_string(facts.jurisdiction.to_owned())),
        ]);
        let app = Entity::new(uid.clone(), attributes, HashSet::new()).ok()?;
        Some(Self { uid, app, context: context(set, facts)? })
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

fn context(set: &PolicySet, facts: &AskingFacts<'_>) -> Option<Context> {
    let lineage = std::iter::successors(Some(facts.purpose), |purpose| purpose.parent());
    let purposes = lineage.map(|purpose| code("Purpose", purpose.code())).collect::<Option<Vec<_>>>()?;
    let mut pairs = vec![
        ("purpose".to_owned(), code("Purpose", facts.purpose.code())?),
        ("purposes".to_owned(), RestrictedExpression::new_set(purposes)),
        ("user".to_owned(), code("UserKind", facts.user.code())?),
        ("strong".to_owned(), RestrictedExpression::new_bool(facts.strong)),
        ("mtls".to_owned(), RestrictedExpression::new_bool(facts.mtls)),
        ("sender_constrained".to_owned(), RestrictedExpression::new_bool(facts.sender_constrained)),
        ("emergency".to_owned(), RestrictedExpression::new_bool(facts.emergency)),
        ("risk".to_owned(), code("Risk", facts.risk.code())?),
        ("endpoint".to_owned(), code("EndpointRole", facts.endpoint.code())?),
    ];
    // Reading a moment back from text costs more than all the rest: it is there for those who ask for it.
    if set.reads_time {
        let now = facts.now.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).ok()?.format(&Rfc3339).ok()?;
        pairs.push(("time".to_owned(), RestrictedExpression::new_datetime(now)));
    }
    Context::from_pairs(pairs).ok()
}
