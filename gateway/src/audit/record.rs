//! What a record says: identifiers, codes and counts. Never content, never a credential.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::record::DecisionRecord;
use fhirwall_policy::subject::Subject;
use serde::{Deserialize, Serialize};

use crate::behaviour::RiskNote;

/// The kinds of record. The first four tell of requests, the others of the log and the gateway themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A change is about to be asked of the EHR. Durable before the EHR is asked.
    Attempt,
    /// Somebody is about to see something, or to be told that it is not there. Durable before the first body byte.
    Disclosure,
    /// An identified caller was refused.
    Refusal,
    /// How an exchange ended: bytes sent, aborted or not. Chained, not waited for.
    End,
    /// Refusals of callers that were never identified, counted over an interval.
    RefusalAggregate,
    /// The first record of a segment: names the chain, the segment and the key.
    Segment,
    /// A signature over the record before it.
    Head,
    /// The log was found with an incomplete last line after a crash, which was cut off.
    Recovery,
    /// Records were refused because the log could not be written, or ends were dropped because it was overloaded.
    Gap,
    /// Old segments were removed at the end of their retention.
    Retention,
    /// Tokens were ended: by whom, whose, and why.
    Token,
    /// Somebody read the audit log, or acted or was refused on the admin listener.
    Access,
    /// The behaviour of a caller was answered with more than observing.
    Risk,
    /// A lockdown began or ended.
    Lockdown,
    /// An alert was raised.
    Alert,
    /// A configuration generation went live, or was refused.
    Configuration,
}

impl Kind {
    pub const ALL: &'static [Self] = &[
        Self::Attempt,
        Self::Disclosure,
        Self::Refusal,
        Self::End,
        Self::RefusalAggregate,
        Self::Segment,
        Self::Head,
        Self::Recovery,
        Self::Gap,
        Self::Retention,
        Self::Token,
        Self::Access,
        Self::Risk,
        Self::Lockdown,
        Self::Alert,
        Self::Configuration,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Disclosure => "disclosure",
            Self::Refusal => "refusal",
            Self::End => "end",
            Self::RefusalAggregate => "refusal-aggregate",
            Self::Segment => "segment",
            Self::Head => "head",
            Self::Recovery => "recovery",
            Self::Gap => "gap",
            Self::Retention => "retention",
            Self::Token => "token",
            Self::Access => "access",
            Self::Risk => "risk",
            Self::Lockdown => "lockdown",
            Self::Alert => "alert",
            Self::Configuration => "configuration",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// One record, ready to be written: encoded once, for the log and for those who keep it in memory.
#[derive(Clone)]
pub struct Record {
    pub(super) kind: Kind,
    /// The decision that it tells of, if any.
    decision: Option<Box<str>>,
    /// `None`: it cannot be written as JSON.
    body: Option<Bytes>,
    /// May use the space kept back for emergency access when the disk is full.
    pub(super) reserved: bool,
}

impl Record {
    /// Before a change is asked of the EHR.
    pub fn attempt(record: impl Borrow<AuditRecord>) -> Self {
        Self::access(Kind::Attempt, record.borrow(), None)
    }

    /// Before the first byte of an answer's body.
    pub fn disclosure(record: impl Borrow<AuditRecord>) -> Self {
        Self::access(Kind::Disclosure, record.borrow(), None)
    }

    /// An identified caller was refused.
    pub fn refusal(record: impl Borrow<AuditRecord>) -> Self {
        Self::access(Kind::Refusal, record.borrow(), None)
    }

    pub fn end(end: End) -> Self {
        Self { kind: Kind::End, decision: None, body: encoded(&end), reserved: false }
    }

    /// A record about the gateway itself, with a body of its own shape.
    pub fn of(kind: Kind, body: serde_json::Value) -> Self {
        Self { kind, decision: None, body: encoded(&body), reserved: false }
    }

    /// A record of an access, with what policy decided and on which facts.
    pub(crate) fn access(kind: Kind, record: &AuditRecord, facts: Option<&DecisionRecord>) -> Self {
        let body = match facts {
            Some(_) => encoded(&Decided { record, facts }),
            None => encoded(record),
        };
        let decision = Some(record.decision.as_str().into());
        Self { kind, decision, body, reserved: record.emergency.is_some() }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Of an attempt, a disclosure or a refusal: the decision's id and the record as JSON.
    pub fn decided(&self) -> Option<(&str, &Bytes)> {
        Some((self.decision.as_deref()?, self.body.as_ref()?))
    }

    pub(super) fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }
}

fn encoded(body: &impl Serialize) -> Option<Bytes> {
    let mut out = Vec::with_capacity(1024);
    serde_json::to_writer(&mut out, body).ok()?;
    Some(Bytes::from(out))
}

/// The form of a record that carries its facts; see [`AuditRecord::facts`].
#[derive(Serialize)]
struct Decided<'a> {
    #[serde(flatten)]
    record: &'a AuditRecord,
    facts: Option<&'a DecisionRecord>,
}

/// Identifiers do not print.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("kind", &self.kind).field("decision", &self.decision).finish_non_exhaustive()
    }
}

/// Who asked for what, what was decided, and what of whom was disclosed.
///
/// Identifiers of patients and resources, label codes, counts, policy and consent ids: what an accounting of
/// disclosures (45 CFR 164.528, 42 CFR 2.25) and an investigation (164.404, 2.16(b)) need, and no more.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditRecord {
    /// The decision's id, which the client saw in a refusal.
    pub decision: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request_id: Arc<str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The interaction's code in R4's restful-interaction code system: `read`, `search-type`, `update`.
    pub interaction: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    /// The instance that was named, `Type/id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The canonical search query. It may name a patient, as BALP's query entity does; the log is protected as PHI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,

    /// The partner's client id.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub partner: Arc<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub issuer: Arc<str>,
    /// `sub`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub user: Arc<str>,
    /// `fhirUser` as a relative reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fhir_user: Option<String>,
    /// `jti`, or a digest: never the token.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub token: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The network address the caller came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The thumbprint of the client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyAccess>,

    /// Whose records were disclosed, or asked for: logical ids, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<String>,
    /// The instances disclosed, `Type/id`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    /// The codes of the labels on what was disclosed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consents: Vec<String>,

    /// The HTTP status the client got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The reason code of a refusal: the true one, not the one the client saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The information-blocking exception that the refusal rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// How the caller's behaviour was rated, where it stood out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Arc<RiskNote>>,
    /// `observe` in a trial run; absent where decisions are carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// In a trial run: the decision, as it would have been carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would: Option<Would>,
    /// Of a record read back: what policy decided and on which facts, in policy's own versioned form ([`DecisionRecord`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<serde_json::Value>,
}

/// Emergency access, with what 42 CFR 2.51(c) wants documented: who received the records and their affiliation, who
/// disclosed, the nature of the emergency. Date and time are the record's own.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmergencyAccess {
    /// The nature of the emergency, in the caller's words.
    pub reason: String,
    /// The one patient it is claimed for.
    pub patient: String,
    /// When the claim ends.
    pub until: String,
    /// The recipient's name, where the claim states it; else the record's user is all that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The recipient's affiliation with a health care facility: as claimed, or the partner's name.
    pub affiliation: String,
    /// Who disclosed.
    pub discloser: String,
}

/// How much was held back, and by which rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Withheld {
    /// A reason code, or a policy or rule id.
    pub rule: String,
    pub count: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// What would have been decided, had the decision been carried out. Nothing in it: the request was permitted whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Would {
    /// The reason code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policies that decided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// All that would have been held back, with what was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// The request would have been bound to the caller's own patient; rows of others are not counted in `withheld`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub narrowed: bool,
}

/// How an exchange ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub decision: String,
    pub bytes: u64,
    /// The client, or the upstream, went away before the last byte.
    pub aborted: bool,
    /// Of a file of an export: how many of its lines were shown, and how many were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<u64>,
}

impl AuditRecord {
    /// A record about this caller's request, with everything else still empty.
    pub fn about(decision: impl Into<String>, subject: &Subject) -> Self {
        Self {
            decision: decision.into(),
            partner: Arc::clone(&subject.partner.client_id),
            issuer: Arc::clone(&subject.issuer),
            user: Arc::clone(&subject.sub),
            fhir_user: subject.fhir_user.as_ref().and_then(relative),
            token: Arc::clone(&subject.token_id),
            purpose: subject.purpose.map(|purpose| purpose.code().to_owned()),
            emergency: crate::emergency::documented(subject),
            ..Self::default()
        }
    }

    /// States why the request was refused, with the exception of 45 CFR part 171 that the refusal rests on.
    #[must_use]
    pub fn refused(mut self, reason: Reason, status: u16) -> Self {
        self.reason = Some(reason.code().to_owned());
        self.exception = exception(reason).map(str::to_owned);
        self.status = Some(status);
        self
    }
}

fn relative(reference: &fhir_profiles::reference::Reference) -> Option<String> {
    use fhir_profiles::reference::Reference;
    match reference {
        Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => Some(instance.relative()),
        Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => None,
    }
}

/// Patients' and users' identifiers do not print.
impl std::fmt::Debug for AuditRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditRecord").field("decision", &self.decision).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EmergencyAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EmergencyAccess(..)")
    }
}

/// The exception to information blocking (45 CFR part 171 subpart B) under which this refusal is lawful. `None` for
/// requests that were no understandable request for information, or asked for what does not exist.
pub fn exception(reason: Reason) -> Option<&'static str> {
    const PRIVACY: Option<&str> = Some("45 CFR 171.202");
    const SECURITY: Option<&str> = Some("45 CFR 171.203");
    const INFEASIBLE: Option<&str> = Some("45 CFR 171.204");
    // Health IT performance: 171.205(b) allows action against an app that harms the performance of the health IT.
    const PERFORMANCE: Option<&str> = Some("45 CFR 171.205");
    match reason {
        Reason::MalformedRequest
        | Reason::MisdirectedRequest
        | Reason::NotFound
        | Reason::VersionConflict
        | Reason::PreconditionRequired => None,
        Reason::LabelWithheld
        | Reason::ConsentDenies
        | Reason::OutsideCompartment
        | Reason::OutsideGranularScope
        | Reason::PurposeNotAllowed
        | Reason::PatientMismatch
        | Reason::PolicyForbids
        | Reason::LabelWouldBeLowered
        | Reason::ParameterNotAllowed
        | Reason::OperationNotAllowed
        | Reason::ConsentSourceUnavailable => PRIVACY,
        Reason::NoCredentials
        | Reason::InvalidToken
        | Reason::CertificateMismatch
        | Reason::StrongerAuthenticationNeeded
        | Reason::PartnerUnknown
        | Reason::PartnerSuspended
        | Reason::EvidenceExpired
        | Reason::InsufficientScope
        | Reason::PolicyError
        | Reason::RiskThrottled
        | Reason::RiskTerminated
        | Reason::Lockdown
        | Reason::IssuerUnavailable
        | Reason::AuditUnavailable
        | Reason::StateUnavailable => SECURITY,
        Reason::UnknownParameter
        | Reason::UnsupportedParameter
        | Reason::UnsupportedInteraction
        | Reason::UnknownInteraction
        | Reason::MethodNotAllowed
        | Reason::UnknownOperation
        | Reason::NotAcceptable
        | Reason::UnsupportedMediaType
        | Reason::RequestTooLarge
        | Reason::UpstreamUnintelligible
        | Reason::UpstreamUnavailable
        | Reason::UpstreamBusy => INFEASIBLE,
        Reason::RateLimited | Reason::Overloaded => PERFORMANCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(Kind::from_name("nothing"), None);
    }

    #[test]
    fn a_record_prints_no_identifier() {
        let record = AuditRecord { patients: vec!["p-secret".into()], user: "u-secret".into(), ..Default::default() };
        assert!(!format!("{:?}", Record::disclosure(record)).contains("secret"));
    }

    #[test]
    fn a_record_with_its_facts_is_read_back_whole() {
        let facts = serde_json::json!({
            "version": 1, "decision": "d", "time": "2026-11-22T12:00:00Z", "endpoint": "main", "user": "u",
            "caller": fhirwall_policy::question::Caller::default(), "interaction": "read", "targets": [], "scopes": [],
            "permitted": true, "policies": ["p"], "generation": 1, "epoch": "e",
        });
        let decided = DecisionRecord::from_json(&facts.to_string()).unwrap();
        let record = AuditRecord { decision: "d".into(), patients: vec!["p".into()], ..Default::default() };
        let written = Record::access(Kind::Disclosure, &record, Some(&decided));
        let (id, body) = written.decided().unwrap();
        let read: AuditRecord = serde_json::from_slice(body).unwrap();
        let again = DecisionRecord::from_json(&read.facts.clone().unwrap().to_string()).unwrap();
        assert_eq!((id, again), ("d", decided));
        assert_eq!(AuditRecord { facts: None, ..read }, record);
    }

    #[test]
    fn a_refusal_names_its_exception() {
        let refused = AuditRecord::default().refused(Reason::ConsentDenies, 404);
        assert_eq!(refused.reason.as_deref(), Some("consent-denies"));
        assert_eq!(refused.exception.as_deref(), Some("45 CFR 171.202"));
        assert_eq!(AuditRecord::default().refused(Reason::MalformedRequest, 400).exception, None);
    }
}
