//! What a patient, a regulator and an investigator ask of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;

use super::read::Entry;
use super::record::{AuditRecord, Kind};

/// An accounting of disclosures to one patient (45 CFR 164.528(b)(2); 42 CFR 2.25): for each, the date, the recipient,
/// what was disclosed, and on which ground; for intermediaries also 42 CFR 2.24.
#[derive(Clone, Serialize)]
pub struct Accounting {
    pub patient: String,
    pub disclosures: Vec<AccountedDisclosure>,
}

/// One row of an accounting.
#[derive(Clone, PartialEq, Serialize)]
pub struct AccountedDisclosure {
    #[serde(with = "time::serde::rfc3339")]
    pub date: OffsetDateTime,
    /// The app, and the person who used it.
    pub recipient: String,
    pub user: String,
    pub purpose: Option<String>,
    /// Types and ids of what was disclosed.
    pub instances: Vec<String>,
    /// Label codes: whether Part 2 records were among it.
    pub part2: bool,
    /// The consents it rested on.
    pub consents: Vec<String>,
    pub emergency: Option<String>,
    pub decision: String,
}

/// Whose records went to whom in a window (45 CFR 164.404; 42 CFR 2.16(b)).
#[derive(Clone, Debug, Default, Serialize)]
pub struct Incident {
    pub disclosures: u64,
    pub refusals: u64,
    /// By patient.
    pub patients: BTreeMap<String, Affected>,
    pub partners: BTreeSet<String>,
    pub users: BTreeSet<String>,
    pub addresses: BTreeSet<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub first: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last: Option<OffsetDateTime>,
    /// Records of other kinds that an investigator must know of: gaps, recoveries, sealed records that could not be read.
    pub gaps: u64,
    pub unreadable: u64,
}

/// What of one patient was disclosed.
#[derive(Clone, Default, Serialize)]
pub struct Affected {
    pub disclosures: u64,
    pub part2: bool,
    pub instances: BTreeSet<String>,
    pub recipients: BTreeSet<String>,
}

const PART2: &str = "42CFRPart2";

/// The disclosures of this patient's records among the entries. Reads of searches that found nothing disclose nothing.
pub fn accounting(patient: &str, entries: &[Entry]) -> Accounting {
    let of_patient = |record: &AuditRecord| record.patients.iter().any(|p| p == patient);
    let disclosures = entries
        .iter()
        .filter(|entry| entry.kind == Kind::Disclosure)
        .filter_map(|entry| Some((entry.time, entry.record()?)))
        .filter(|(_, record)| of_patient(record))
        .map(|(date, record)| AccountedDisclosure {
            date,
            recipient: record.partner.to_string(),
            user: record.fhir_user.unwrap_or_else(|| record.user.to_string()),
            purpose: record.purpose,
            // An answer about several patients lists the instances of all: only a lone patient's can be told apart.
            instances: if record.patients.len() == 1 { record.instances } else { Vec::new() },
            part2: record.labels.iter().any(|label| label == PART2),
            consents: record.consents,
            emergency: record.emergency.map(|emergency| emergency.reason),
            decision: record.decision,
        })
        .collect();
    Accounting { patient: patient.to_owned(), disclosures }
}

/// What the entries say of an incident. The caller chose them by partner, user and window.
pub fn incident(entries: &[Entry]) -> Incident {
    let mut incident = Incident::default();
    for entry in entries {
        if matches!(entry.kind, Kind::Gap | Kind::Recovery) {
            incident.gaps = incident.gaps.saturating_add(1);
        }
        if entry.body.is_none() {
            incident.unreadable = incident.unreadable.saturating_add(1);
        }
        let Some(record) = entry.record() else { continue };
        incident.first = incident.first.or(Some(entry.time));
        incident.last = Some(entry.time);
        incident.partners.insert(record.partner.to_string());
        incident.users.insert(record.user.to_string());
        incident.addresses.extend(record.address.clone());
        if entry.kind != Kind::Disclosure {
            if entry.kind == Kind::Refusal {
                incident.refusals = incident.refusals.saturating_add(1);
            }
            continue;
        }
        incident.disclosures = incident.disclosures.saturating_add(1);
        for patient in &record.patients {
            let affected = incident.patients.entry(patient.clone()).or_default();
            affected.disclosures = affected.disclosures.saturating_add(1);
            affected.part2 |= record.labels.iter().any(|label| label == PART2);
            affected.recipients.insert(format!("{} ({})", record.user, record.partner));
            affected.instances.extend(record.instances.iter().cloned());
        }
    }
    incident
}

impl fmt::Debug for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accounting({} disclosures)", self.disclosures.len())
    }
}

impl fmt::Debug for AccountedDisclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountedDisclosure({})", self.decision)
    }
}

impl fmt::Debug for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Affected({} disclosures)", self.disclosures)
    }
}
