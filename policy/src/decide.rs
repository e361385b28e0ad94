//! The first moment of a decision: may this caller ask this at all?
//!
//! Static refusals come first and in a fixed order, before the EHR is asked, so that they are the same before an empty
//! EHR: partner suspended, evidence expired, purpose, scope, patient, policy. Every type that the request touches needs
//! scope, compartment and policy to agree.

use fhir_profiles::ids::LogicalId;
use fhir_profiles::interaction::{Interaction, Touched};
use time::{Duration, OffsetDateTime};

use crate::cedar::{Asker, PolicySet, Verdict};
use crate::consent::ConsentReading;

use crate::partner::{Redaction, Status};
use crate::permit::{Judge, Permit};
use crate::purpose::PurposeOfUse;
use crate::question::Caller;
use crate::reach::{self, Reach};
use crate::reason::Reason;
use crate::scope::{Grant, ScopeContext, ScopeSet, letter};
use crate::subject::{Authentication, Subject};
use crate::touched;

/// All that a decision about a request rests on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub subject: &'a Subject,
    pub interaction: &'a Interaction,
    pub endpoint: &'a EndpointFacts,
    pub risk: Risk,
    pub now: OffsetDateTime,
}

/// What decisions need to know of the FHIR endpoint.
#[derive(Clone, Debug)]
pub struct EndpointFacts {
    pub name: String,
    pub role: EndpointRole,
    /// The base URLs under which this endpoint's resources are named (its own and the EHR's), without trailing slash.
    pub bases: Vec<String>,
    /// How the Consents of its patients are read, where FHIR leaves a choice.
    pub consents: ConsentReading,
}

/// In which role the endpoint's holder has Part 2 records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointRole {
    /// It is the program that made them.
    Program,
    /// A covered entity that received them under one consent for treatment, payment and operations (2.33(b)(1)).
    Recipient,
}

/// How behaviour analytics rate this caller now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Risk {
    Low,
    Elevated,
    High,
}

/// The type of the token's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserKind {
    None,
    Patient,
    Practitioner,
    PractitionerRole,
    RelatedPerson,
    Person,
    Other,
}

/// A refusal that follows from the request, the token and the configuration alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub reason: Reason,
    /// The ids of the policies that decided; empty where no policy was asked, or none permitted.
    pub policies: Vec<String>,
    /// The SMART v2 scope that would have covered the request, for `insufficient_scope`.
    pub needed_scope: Option<String>,
}

impl Denial {
    const fn because(reason: Reason) -> Self {
        Self { reason, policies: Vec::new(), needed_scope: None }
    }
}

/// Decides on a request.
///
/// # Errors
/// The first refusal in the fixed order of this module. Nothing in it depends on anything stored.
pub fn decide(set: &PolicySet, asked: &Asked<'_>) -> Result<Permit, Denial> {
    let purpose = standing(asked)?;
    let subject = asked.subject;
    let scopes = ScopeSet::parse(&subject.scopes).within(subject.partner.scopes.set());
    let reaches = reach::reaches(subject, asked.endpoint);
    let touched = touched::facts(asked.interaction);
    for fact in touched.iter().filter(|fact| touched::needs_scope(asked.interaction) && touched::refuses(fact)) {
        within_scope(&scopes, &reaches, fact)?;
    }
    let interaction = reach::constrain(asked.interaction, &touched, &scopes, &reaches)
        .map_err(|_| Denial::because(Reason::PatientMismatch))?;
    let asker = Asker::new(set, caller(asked, purpose));
    let mut policies = Vec::new();
    let mut would_deny = Vec::new();
    if touched.is_empty() {
        // A request that touches nothing was judged on nothing: sealed tokens are opened before they are decided on.
        return Err(Denial::because(Reason::PolicyForbids));
    }
    for fact in touched.iter().filter(|fact| touched::refuses(fact)) {
        let key = touched::target(asked.interaction, fact);
        let answer = set.target(&asker, &key);
        let ids = || answer.policies.iter().map(|policy| policy.id.clone()).collect();
        match answer.verdict {
            Verdict::Permit => {}
            Verdict::Error => {
                return Err(Denial { reason: Reason::PolicyError, policies: ids(), needed_scope: None });
            }
            Verdict::Deny => {
                let reason = answer.reason().unwrap_or(Reason::PolicyForbids);
                return Err(Denial { reason, policies: ids(), needed_scope: None });
            }
        }
        policies.extend(answer.policies);
        would_deny.extend(answer.would_deny);
    }
    let judge = Judge { scopes, reaches, asker, emergency: emergency(asked) };
    Ok(Permit::new(set, asked, interaction, judge, &policies, &would_deny))
}

/// A decision that is recorded and not carried out.
#[derive(Debug)]
pub struct Observed {
    /// To forward the request as it was asked.
    pub permit: Permit,
    /// Why [`decide`] would have refused it.
    pub would: Option<Denial>,
    /// Would [`decide`] have bound it to the caller's own patient?
    pub narrowed: bool,
}

/// Decides as [`decide`] does, and lets the request go as it was asked: for a trial run.
///
/// # Errors
/// What no trial run lifts: a suspended partner (an operator's act), a forbid that protects Part 2 records, a policy that
/// could not be evaluated (it might have been such a forbid), and a request of which nothing can be judged.
pub fn observe(set: &PolicySet, asked: &Asked<'_>) -> Result<Observed, Denial> {
    let denial = match decide(set, asked) {
        Ok(permit) => {
            let (permit, narrowed) = permit.unbound(asked.interaction);
            return Ok(Observed { permit, would: None, narrowed });
        }
        Err(denial) => denial,
    };
    let purpose = asked.subject.purpose.filter(|_| !touched::facts(asked.interaction).is_empty());
    let (Some(purpose), false) = (purpose, holds_always(set, &denial)) else { return Err(denial) };
    let judge = Judge {
        scopes: ScopeSet::parse(&asked.subject.scopes).within(asked.subject.partner.scopes.set()),
        reaches: reach::reaches(asked.subject, asked.endpoint),
        asker: Asker::new(set, caller(asked, purpose)),
        emergency: emergency(asked),
    };
    let permit = Permit::new(set, asked, asked.interaction.clone(), judge, &[], &[]);
    Ok(Observed { permit, would: Some(denial), narrowed: false })
}

fn holds_always(set: &PolicySet, denial: &Denial) -> bool {
    let protects = |id: &String| set.policy(id).is_none_or(|policy| policy.protects_part2);
    matches!(denial.reason, Reason::PartnerSuspended | Reason::PolicyError) || denial.policies.iter().any(protects)
}

/// The caller's facts, as policies see them.
pub(crate) fn caller(asked: &Asked<'_>, purpose: PurposeOfUse) -> Caller {
    let subject = asked.subject;
    let partner = &subject.partner;
    Caller {
        app: partner.client_id.to_string(),
        active: partner.status == Status::Active,
        evidence_current: evidence_current(asked),
        basis: partner.part2.basis,
        purposes: partner.purposes_of_use.clone(),
        silent: partner.part2.redaction == Redaction::Silent,
        jurisdiction: partner.jurisdiction.clone(),
        purpose,
        user: user_kind(subject),
        strong: strong(&subject.authentication, asked.now),
        mtls: subject.authentication.mtls,
        sender_constrained: subject.authentication.sender_constrained,
        emergency: emergency(asked).is_some(),
        organization: subject.organization.as_deref().unwrap_or_default().to_owned(),
        risk: asked.risk,
        endpoint: asked.endpoint.role,
        time: asked.now,
    }
}

/// The partner's own standing: in this order, whatever is asked.
fn standing(asked: &Asked<'_>) -> Result<PurposeOfUse, Denial> {
    let partner = &asked.subject.partner;
    match partner.status {
        Status::Suspended => return Err(Denial::because(Reason::PartnerSuspended)),
        Status::Active => {}
    }
    if !evidence_current(asked) {
        return Err(Denial::because(Reason::EvidenceExpired));
    }
    match asked.subject.purpose {
        Some(purpose) if may_use(&partner.purposes_of_use, purpose) => Ok(purpose),
        Some(_) | None => Err(Denial::because(Reason::PurposeNotAllowed)),
    }
}

/// A registered purpose covers the kinds of it, but emergencies and proceedings must be registered by name.
pub fn may_use(registered: &[PurposeOfUse], purpose: PurposeOfUse) -> bool {
    let by_name_only = purpose.is_a(PurposeOfUse::Etreat) || purpose == PurposeOfUse::Hlegal;
    registered
        .iter()
        .any(|own| *own == purpose || (purpose.is_a(*own) && (!by_name_only || *own == PurposeOfUse::Etreat)))
}

fn evidence_current(asked: &Asked<'_>) -> bool {
    let partner = &asked.subject.partner;
    [partner.baa_expires, partner.assessment_expires].into_iter().flatten().all(|expires| asked.now < expires)
}

/// The patient of a claimed emergency, if the claim is complete and its time is not over.
fn emergency(asked: &Asked<'_>) -> Option<LogicalId> {
    let claim = asked.subject.emergency.as_ref()?;
    (asked.now < claim.until && !claim.reason.trim().is_empty()).then(|| claim.patient.clone())
}

fn user_kind(subject: &Subject) -> UserKind {
    match subject.fhir_user.as_ref().and_then(reach::instance) {
        None => UserKind::None,
        Some(instance) => match instance.kind.as_str() {
            "Patient" => UserKind::Patient,
            "Practitioner" => UserKind::Practitioner,
            "PractitionerRole" => UserKind::PractitionerRole,
            "RelatedPerson" => UserKind::RelatedPerson,
            "Person" => UserKind::Person,
            _ => UserKind::Other,
        },
    }
}

/// How old a strong authentication may be and still count as fresh.
pub const FRESH: Duration = Duration::minutes(15);

/// More than one factor (RFC 8176 `mfa`, a hardware key, or a strength that the configuration takes for it), and fresh.
fn strong(authentication: &Authentication, now: OffsetDateTime) -> bool {
    let factors = authentication.stepped_up
        || authentication.amr.iter().any(|method| ["mfa", "hwk", "sc"].contains(&method.as_str()));
    let fresh = authentication.auth_time.is_some_and(|at| at <= now && now - at <= FRESH);
    factors && fresh
}

fn within_scope(scopes: &ScopeSet, reaches: &[Reach], fact: &Touched) -> Result<(), Denial> {
    let granted = reaches.iter().any(|reach| scopes.grants(fact.access, fact.kind, reach.context) != Grant::None);
    if granted {
        return Ok(());
    }
    let context = reaches.first().map_or(ScopeContext::User, |reach| reach.context);
    Err(Denial {
        reason: Reason::InsufficientScope,
        policies: Vec::new(),
        needed_scope: Some(format!("{}/{}.{}", context.as_str(), fact.kind, letter(fact.access))),
    })
}
