//! A permit: the proof that a request was decided on, and the judge of what comes back.
//!
//! Only [`crate::decide::decide`] makes one; nothing is forwarded without it. Each returned resource is judged again, by
//! scope, compartment and policy (the second moment), since a permit to ask is none to see.

mod flat;

use std::collections::HashMap;
use std::sync::Arc;

use fhir_profiles::engine::{Place, ResourceFacts};
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::{Access, Interaction};
use fhir_profiles::label::{Label, LabelSet};
use time::OffsetDateTime;

use crate::cedar::{Answer, Asker, Obligations, PolicyMeta, PolicySet, Verdict};
use crate::consent::{ConsentOutcome, ConsentQuestion, ConsentReading, Part2Role};
use crate::decide::{Asked, EndpointRole};
use crate::partner::{Part2Basis, Partner, Recipient, Redaction};
use crate::purpose::PurposeOfUse;
use crate::question::{Caller, ConsentState, Record, Relation};
use crate::reach::{self, Membership, Reach};
use crate::reason::Reason;
use crate::scope::{Constraint, Grant, ScopeSet};
use crate::touched;

/// A decided request. Its fields are private: no other crate can make one or change one.
#[derive(Debug)]
pub struct Permit {
    interaction: Interaction,
    endpoint: String,
    partner: Arc<Partner>,
    judge: Judge,
    bases: Vec<String>,
    recipients: Vec<Recipient>,
    consents: ConsentReading,
    now: OffsetDateTime,
    epoch: String,
    policies: Vec<String>,
    would_deny: Vec<String>,
}

/// What the second moment needs of the first.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) scopes: ScopeSet,
    pub(crate) reaches: Vec<Reach>,
    pub(crate) asker: Asker,
    /// The patient of a valid emergency claim.
    pub(crate) emergency: Option<LogicalId>,
}

impl Permit {
    pub(crate) fn new(
        set: &PolicySet,
        asked: &Asked<'_>,
        interaction: Interaction,
        judge: Judge,
        policies: &[Arc<PolicyMeta>],
        would_deny: &[Arc<PolicyMeta>],
    ) -> Self {
        Self {
            interaction,
            endpoint: asked.endpoint.name.clone(),
            partner: Arc::clone(&asked.subject.partner),
            judge,
            bases: asked.endpoint.bases.clone(),
            recipients: recipients(asked),
            consents: asked.endpoint.consents.clone(),
            now: asked.now,
            epoch: set.epoch().to_owned(),
            policies: ids(policies),
            would_deny: ids(would_deny),
        }
    }

    /// The same for the request as it was asked, and whether that differs from the one that was decided on.
    pub(crate) fn unbound(self, asked: &Interaction) -> (Self, bool) {
        let narrowed = self.interaction != *asked;
        (Self { interaction: asked.clone(), ..self }, narrowed)
    }

    /// The request to forward: the one that was decided on, bound to the caller's patient where its scopes are.
    pub const fn interaction(&self) -> &Interaction {
        &self.interaction
    }

    /// How what is withheld looks to this partner.
    pub fn redaction(&self) -> Redaction {
        self.partner.part2.redaction
    }

    pub const fn purpose(&self) -> PurposeOfUse {
        self.caller().purpose
    }

    /// Must the consents of every patient in the answer be resolved, labelled or not? So that neither time nor an
    /// outage tells who has a label. Emergency access is ruled apart: nobody waits for a consent server there.
    pub fn needs_consents(&self) -> bool {
        // A claim under another purpose lifts nothing.
        let emergency = self.judge.emergency.is_some() && self.purpose().is_a(PurposeOfUse::Etreat);
        match self.partner.part2.basis {
            Part2Basis::None | Part2Basis::Consent | Part2Basis::Research => !emergency,
            Part2Basis::Patient | Part2Basis::Program | Part2Basis::Audit | Part2Basis::CourtOrder => false,
        }
    }

    /// What to ask of a patient's consents for records of this type and with these labels.
    pub fn consent_question<'a>(
        &'a self,
        patient: &'a LogicalId,
        kind: ResourceType,
        labels: LabelSet,
    ) -> ConsentQuestion<'a> {
        let mut question = ConsentQuestion::new(patient, &self.recipients, self.purpose(), labels, kind, self.now);
        question.custodians = &self.consents.custodians;
        question.zone = self.consents.zone;
        question.part2 = self.consents.part2;
        question.part2.role = match self.caller().endpoint {
            EndpointRole::Program => Part2Role::Program,
            EndpointRole::Recipient => Part2Role::Recipient,
        };
        question
    }

    /// The policies that permitted the request.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// The shadowed policies that would have refused it.
    pub fn would_deny(&self) -> &[String] {
        &self.would_deny
    }

    /// The effective scopes: the token's within the partner's ceiling.
    pub const fn scopes(&self) -> &ScopeSet {
        &self.judge.scopes
    }

    /// The caller's facts, as policies saw them.
    pub const fn caller(&self) -> &Caller {
        self.judge.asker.caller()
    }

    /// The endpoint's name.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// When it was decided.
    pub const fn decided_at(&self) -> OffsetDateTime {
        self.now
    }

    /// The epoch of the policy set that decided.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The constraints of granular scopes that records of this type may have to match; the gateway evaluates them.
    pub fn constraints(&self, kind: ResourceType) -> Vec<&Constraint> {
        let access = touched::shown_by(&self.interaction);
        self.judge
            .reaches
            .iter()
            .flat_map(|reach| match self.judge.scopes.grants(access, kind, reach.context) {
                Grant::Matching(constraints) => constraints,
                Grant::None | Grant::Whole => Vec::new(),
            })
            .collect()
    }

    /// May this resource be shown? Scope and compartment first, then policy, with the answer remembered in `memo`.
    pub fn disclose(
        &self,
        set: &PolicySet,
        memo: &mut Memo,
        facts: &ResourceFacts,
        question: &DisclosureFacts<'_>,
    ) -> Disclosure {
        self.judge(set, memo, facts, facts.labels, question, touched::shown_by(&self.interaction))
    }

    /// May this caller's write touch this record, as it was before or as it would be afterwards (rule 12)? The scope's
    /// letter is that of the write; compartment, labels and consents rule as for what is shown.
    pub fn touch(
        &self,
        set: &PolicySet,
        memo: &mut Memo,
        facts: &ResourceFacts,
        question: &DisclosureFacts<'_>,
        access: Access,
    ) -> Disclosure {
        self.judge(set, memo, facts, facts.labels, question, access)
    }

    /// May an element with these inline labels be shown, in this resource? The highest protection of both applies
    /// (DS4P 1.0.0, inline security labels).
    pub fn element(
        &self,
        set: &PolicySet,
        memo: &mut Memo,
        facts: &ResourceFacts,
        labels: LabelSet,
        question: &DisclosureFacts<'_>,
    ) -> Disclosure {
        let access = touched::shown_by(&self.interaction);
        self.judge(set, memo, facts, facts.labels.union(labels), question, access)
    }

    /// May a reference to this record be shown in another one? By labels and consents alone: a record outside the
    /// caller's scopes may be named, a protected one may not.
    pub fn mention(
        &self,
        set: &PolicySet,
        memo: &mut Memo,
        facts: &ResourceFacts,
        consent: &ConsentOutcome,
    ) -> Disclosure {
        if set.epoch() != self.epoch {
            return Disclosure::withhold(Reason::PolicyError);
        }
        let bases: Vec<&str> = self.bases.iter().map(String::as_str).collect();
        let key = self.key(facts, facts.labels, consent, &bases);
        self.remember(set, memo, key)
    }

    /// Is this record, with these labels, kept back by what holds in every mode, whatever scopes and compartments say?
    /// By a forbid that protects Part 2 records, by any forbid on a record that carries such a label, and by a policy
    /// that could not be evaluated: it might have been one of them.
    pub fn part2_forbids(
        &self,
        set: &PolicySet,
        memo: &mut Memo,
        facts: &ResourceFacts,
        labels: LabelSet,
        consent: &ConsentOutcome,
    ) -> bool {
        if set.epoch() != self.epoch {
            return true;
        }
        let bases: Vec<&str> = self.bases.iter().map(String::as_str).collect();
        let key = self.key(facts, labels, consent, &bases);
        // `ETHUD` and `OPIOIDUD` are kinds of `SUD`.
        let labelled = [Label::PART2, Label::SUD, Label::ETH].iter().any(|label| key.labels.contains(*label));
        match self.remember(set, memo, key) {
            Disclosure::Show { .. } => false,
            Disclosure::Withhold { reason: Reason::PolicyError, .. } => true,
            Disclosure::Withhold { policies, .. } => policies
                .iter()
                .any(|id| set.policy(id).is_none_or(|policy| policy.protects_part2 || (labelled && !policy.permits))),
        }
    }

    fn judge(
        &self,
        set: &PolicySet,
        memo: &mut Memo,
        facts: &ResourceFacts,
        labels: LabelSet,
        question: &DisclosureFacts<'_>,
        access: Access,
    ) -> Disclosure {
        let bases: Vec<&str> = self.bases.iter().map(String::as_str).collect();
        if set.epoch() != self.epoch {
            // A permit of one set is no permit of another.
            return Disclosure::withhold(Reason::PolicyError);
        }
        if let Err(reason) = self.within_scope(facts, question, &bases, access) {
            return Disclosure::withhold(reason);
        }
        let key = self.key(facts, labels, question.consent, &bases);
        self.remember(set, memo, key)
    }

    fn remember(&self, set: &PolicySet, memo: &mut Memo, key: Record) -> Disclosure {
        let remembered =
            memo.0.entry(key).or_insert_with(|| (set.record(&self.judge.asker, &key, |answer| disclosure(&answer)), 0));
        remembered.1 = remembered.1.saturating_add(1);
        remembered.0.clone()
    }

    fn key(&self, facts: &ResourceFacts, labels: LabelSet, consent: &ConsentOutcome, bases: &[&str]) -> Record {
        let labels = if facts.unknown_labels > 0 { labels.with(Label::UNKNOWN) } else { labels };
        let permitted = matches!(consent, ConsentOutcome::Permit { .. });
        Record {
            kind: facts.kind,
            labels,
            consent: match consent {
                ConsentOutcome::Permit { .. } => ConsentState::Permits,
                ConsentOutcome::Deny { .. } => ConsentState::Denies,
                ConsentOutcome::Silent => ConsentState::Silent,
            },
            // The consent engine permits these on a consent of their own alone (consent, rule 5).
            notes_consent: permitted && NOTES.iter().any(|note| labels.contains(*note)),
            proceedings_consent: permitted && self.purpose() == PurposeOfUse::Hlegal,
            patient: self.relation(facts, bases),
            emergency_patient: self.about(facts, self.judge.emergency.as_ref(), bases),
            court_order: self.ordered(facts, bases),
        }
    }

    /// Does a scope grant this record, in a context whose patient it belongs to?
    fn within_scope(
        &self,
        facts: &ResourceFacts,
        question: &DisclosureFacts<'_>,
        bases: &[&str],
        access: Access,
    ) -> Result<(), Reason> {
        if !self.needs_own_scope(facts) {
            return Ok(());
        }
        let mut refusal = Reason::OutsideCompartment;
        for reach in &self.judge.reaches {
            let granted = match self.judge.scopes.grants(access, facts.kind, reach.context) {
                Grant::None => continue,
                Grant::Whole => true,
                Grant::Matching(constraints) => constraints.into_iter().any(question.matches),
            };
            let inside = reach.patient.as_ref().is_none_or(|patient| match reach::membership(facts, patient, bases) {
                Membership::Own | Membership::Nobody => true,
                Membership::Other => false,
            });
            match (inside, granted) {
                (true, true) => return Ok(()),
                (true, false) => refusal = Reason::OutsideGranularScope,
                (false, _) => {}
            }
        }
        Err(refusal)
    }

    /// The container of an answer, the server's own messages, and contained resources come with what was asked for.
    fn needs_own_scope(&self, facts: &ResourceFacts) -> bool {
        match facts.place {
            Place::Contained | Place::EntryOutcome => false,
            Place::Root => {
                // `Parameters` carry what an operation says (R4 parameters.html), and are nobody's record.
                let said =
                    facts.kind.as_str() == "Parameters" && matches!(self.interaction, Interaction::Operation { .. });
                let container = said
                    || (facts.kind == ResourceType::BUNDLE && touched::shown_by(&self.interaction) == Access::Search);
                !container && facts.kind != ResourceType::OPERATION_OUTCOME
            }
            Place::Entry | Place::Parameter => facts.kind != ResourceType::OPERATION_OUTCOME,
        }
    }

    fn relation(&self, facts: &ResourceFacts, bases: &[&str]) -> Relation {
        let own = self.judge.reaches.iter().filter_map(|reach| reach.patient.as_ref());
        if own.clone().any(|patient| self.about(facts, Some(patient), bases)) {
            Relation::Own
        } else if facts.patients.is_empty() && facts.kind != ResourceType::PATIENT {
            Relation::None
        } else {
            Relation::Other
        }
    }

    fn about(&self, facts: &ResourceFacts, patient: Option<&LogicalId>, bases: &[&str]) -> bool {
        patient.is_some_and(|patient| reach::membership(facts, patient, bases) == Membership::Own)
    }

    fn ordered(&self, facts: &ResourceFacts, bases: &[&str]) -> bool {
        let valid = self.partner.court_orders.iter().filter(|order| self.now < order.expires);
        valid.into_iter().any(|order| self.about(facts, Some(&order.patient), bases))
    }
}

/// What the policies' answer about a record means for it.
pub(crate) fn disclosure(answer: &Answer) -> Disclosure {
    let policies: Arc<[String]> = ids(&answer.policies).into();
    match answer.verdict {
        Verdict::Permit => Disclosure::Show {
            basis: answer.policies.iter().find_map(|policy| policy.basis.as_deref()).unwrap_or("policy").into(),
            obligations: answer.policies.iter().fold(Obligations::default(), |all, policy| all.and(policy.obligations)),
            policies,
            would_withhold: ids(&answer.would_deny).into(),
        },
        Verdict::Deny => Disclosure::Withhold { reason: answer.reason().unwrap_or(Reason::LabelWithheld), policies },
        Verdict::Error => Disclosure::Withhold { reason: Reason::PolicyError, policies },
    }
}

/// Both kinds of notes that no general consent opens.
const NOTES: [Label; 2] = [Label::PSYTHPN, Label::HIPAA_PSY_NOTES];

/// All names of who is to receive: the partner's, and the verified user's.
fn recipients(asked: &Asked<'_>) -> Vec<Recipient> {
    // A user of another server is nobody whom this server's Consents name.
    let bases: Vec<&str> = asked.endpoint.bases.iter().map(String::as_str).collect();
    let user = asked.subject.fhir_user.as_ref().and_then(|user| user.on_server(&bases)).map(InstanceId::relative);
    asked.subject.partner.consent_recipients.iter().cloned().chain(user.map(Recipient::Reference)).collect()
}

fn ids(policies: &[Arc<PolicyMeta>]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for policy in policies {
        if !ids.contains(&policy.id) {
            ids.push(policy.id.clone());
        }
    }
    ids
}

/// What only the answer, or what belongs to it, can say about a resource.
#[derive(Clone, Copy)]
pub struct DisclosureFacts<'a> {
    /// What the consents of the resource's patients say; [`ConsentOutcome::Silent`] where none were asked for.
    pub consent: &'a ConsentOutcome,
    /// Does the resource match this constraint of a granular scope? What cannot be evaluated does not match.
    pub matches: &'a dyn Fn(&Constraint) -> bool,
}

impl core::fmt::Debug for DisclosureFacts<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DisclosureFacts").finish_non_exhaustive()
    }
}

/// May a record be shown?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disclosure {
    Show {
        /// The lawful basis, in a word: `ordinary`, `consent`, `patient-access`, `emergency`, …
        basis: Arc<str>,
        policies: Arc<[String]>,
        obligations: Obligations,
        /// Shadowed policies that would have withheld it.
        would_withhold: Arc<[String]>,
    },
    Withhold {
        reason: Reason,
        policies: Arc<[String]>,
    },
}

impl Disclosure {
    fn withhold(reason: Reason) -> Self {
        Self::Withhold { reason, policies: Arc::new([]) }
    }

    pub const fn is_shown(&self) -> bool {
        matches!(self, Self::Show { .. })
    }
}

/// Verdicts of one permit, by all that policies can read of a record. Not to be shared between permits.
#[derive(Debug, Default)]
pub struct Memo(pub(crate) HashMap<Record, (Disclosure, u32)>);
