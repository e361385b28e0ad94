//! What analytics would have said of recorded traffic: for shadow mode, and before a threshold is changed.

use std::net::{IpAddr, Ipv4Addr};

use fhir_profiles::label::Label;
use fhirwall_policy::reason::Reason;
use time::OffsetDateTime;

use super::{Answer, Assessment, Behaviour, Observation, Prior};
use crate::audit::read::Entry;
use crate::audit::{AuditRecord, Kind};

/// One exchange, as the record tells it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub record: &'a AuditRecord,
    pub at: OffsetDateTime,
    pub refused: Option<Reason>,
    pub bytes: u64,
    /// What the partner file says is usual for this app.
    pub expected: Option<Prior>,
}

impl Seen<'_> {
    /// What it showed of its caller. What the gateway itself put in the way, or lacks, is no fault of the caller.
    pub fn observe(&self, behaviour: &Behaviour) -> super::Assessments {
        let Self { record, at, refused, bytes, expected } = *self;
        let patients: Vec<&str> = match refused {
            None => record.patients.iter().map(String::as_str).collect(),
            Some(_) => Vec::new(),
        };
        let address = record.address.as_ref().and_then(|text| text.parse().ok());
        behaviour.observe(&Observation {
            at,
            partner: &record.partner,
            issuer: &record.issuer,
            user: &record.user,
            token: Some(&*record.token).filter(|token| !token.is_empty()),
            address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            certificate: record.certificate.as_deref(),
            patients: &patients,
            part2: refused.is_none() && record.labels.iter().any(|label| label == Label::PART2.code()),
            refused: refused.is_some_and(speaks_of_the_caller),
            missing: refused.is_some_and(Reason::depends_on_stored_data) && record.instance.is_some(),
            bytes,
            emergency: record.emergency.is_some(),
            expected,
        })
    }
}

/// Hidden and missing count alike, lest the count tell which it was.
fn speaks_of_the_caller(reason: Reason) -> bool {
    match reason {
        Reason::RateLimited
        | Reason::Overloaded
        | Reason::RiskThrottled
        | Reason::RiskTerminated
        | Reason::StrongerAuthenticationNeeded
        | Reason::Lockdown
        | Reason::UpstreamUnintelligible
        | Reason::UpstreamUnavailable
        | Reason::UpstreamBusy
        | Reason::ConsentSourceUnavailable
        | Reason::IssuerUnavailable
        | Reason::AuditUnavailable
        | Reason::StateUnavailable
        | Reason::VersionConflict
        | Reason::PreconditionRequired => false,
        Reason::MalformedRequest
        | Reason::MisdirectedRequest
        | Reason::UnknownParameter
        | Reason::UnsupportedParameter
        | Reason::ParameterNotAllowed
        | Reason::UnsupportedInteraction
        | Reason::UnknownInteraction
        | Reason::MethodNotAllowed
        | Reason::UnknownOperation
        | Reason::OperationNotAllowed
        | Reason::NotAcceptable
        | Reason::UnsupportedMediaType
        | Reason::RequestTooLarge
        | Reason::NoCredentials
        | Reason::InvalidToken
        | Reason::CertificateMismatch
        | Reason::PartnerUnknown
        | Reason::PartnerSuspended
        | Reason::EvidenceExpired
        | Reason::PurposeNotAllowed
        | Reason::InsufficientScope
        | Reason::PatientMismatch
        | Reason::PolicyForbids
        | Reason::PolicyError
        | Reason::NotFound
        | Reason::LabelWithheld
        | Reason::ConsentDenies
        | Reason::OutsideCompartment
        | Reason::OutsideGranularScope
        | Reason::LabelWouldBeLowered => true,
    }
}

/// Runs recorded exchanges again, oldest first; `told` is handed every assessment that is graver than any of its caller
/// within the hour before.
pub fn replay<'e>(
    entries: impl Iterator<Item = &'e Entry>,
    behaviour: &Behaviour,
    expected: impl Fn(&str) -> Option<Prior>,
    mut told: impl FnMut(&Entry, &AuditRecord, &Assessment),
) -> u64 {
    let mut exchanges = 0_u64;
    for entry in entries.filter(|entry| matches!(entry.kind, Kind::Disclosure | Kind::Refusal)) {
        let Some(record) = entry.record() else { continue };
        let refused = record.reason.as_deref().and_then(Reason::from_code);
        let (bytes, expected) = (record.bytes.unwrap_or(0), expected(&record.partner));
        let assessed = Seen { record: &record, at: entry.time, refused, bytes, expected }.observe(behaviour);
        exchanges = exchanges.saturating_add(1);
        for assessment in std::iter::once(&assessed.user).chain(&assessed.app) {
            if assessment.rose && assessment.would > Answer::Observe {
                told(entry, &record, assessment);
            }
        }
    }
    exchanges
}
