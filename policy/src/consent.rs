//! What a patient's Consents mean for one recipient, purpose and set of labels.
//!
//! [`evaluate`] refuses by default: what is not certainly permitted is not permitted, what may be denied is denied.
//!
//! 1. Only `active` Consents speak, and only of their own patient. One that cannot be understood denies everything.
//! 2. Each is a tree of rules (`provision`). A rule holds where every element it states fits: period, actor, action,
//!    purpose, securityLabel, class, code, dataPeriod, data. Repeats are alternatives; what is absent constrains nothing.
//!    The root decides by its `type`, or else by `policyRule` (`OPTIN`, `OPTOUT`, `EMRGONLY`).
//! 3. Nested rules are exceptions: the deepest that holds decides, and of several a denial.
//! 4. What cannot be told (an unknown code or element, a date without a zone, a fact not given) is read both ways, and
//!    the less permissive reading counts: no match for a permit, a match for a denial.
//! 5. A permit counts only in a Consent of scope `patient-privacy` whose category reaches the purpose, and, for Part 2
//!    records, with the elements of 42 CFR 2.31(a). Psychotherapy and counseling notes, and proceedings against the
//!    patient, need a Consent of their own.
//! 6. Across Consents a denial overrides; no Consent that speaks is silence, which permits nothing by itself.

mod asked;
mod book;
mod explain;
mod facts;
mod json;
mod provision;
mod record;
mod scope;
mod separate;
mod terms;
mod walk;
mod when;

use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::label::LabelSet;
use fhir_profiles::reference::Reference;
use time::OffsetDateTime;

use crate::partner::Recipient;
use crate::purpose::PurposeOfUse;

use asked::Asked;
pub use asked::Element;
pub use book::{ConsentBook, FactsRead, NotThisPatient};
pub use explain::{Because, Explanation, Finding, explain};
pub use facts::RecordFacts;
pub use record::{ConsentRecord, Status, Unreadable, Why};
pub use scope::{ConsentScope, scopes};
pub use separate::{Expiry, Lack, Part2Elements, Part2Role, RecipientNamed, Signature};
pub use terms::{Code, ConsentAction};
use walk::Decision;
pub use walk::{Said, Step};
pub use when::{Match, TimeSpan, Zone};

/// What is asked of a patient's consents. Build it with [`ConsentQuestion::new`], then set what else is known: a fact
/// that is not given never helps a permit.
#[derive(Clone, Debug)]
pub struct ConsentQuestion<'a> {
    pub patient: &'a LogicalId,
    /// All names of who is to receive: the partner's, and the verified user's.
    pub recipients: &'a [Recipient],
    /// The names of who holds and discloses; needed where a Consent names a custodian.
    pub custodians: &'a [Recipient],
    pub purpose: PurposeOfUse,
    pub action: ConsentAction,
    pub labels: LabelSet,
    pub kind: ResourceType,
    pub about: About<'a>,
    pub now: OffsetDateTime,
    /// Where the Consents' dates were written.
    pub zone: Zone,
    pub part2: Part2Elements,
}

/// What is known of the resource itself; [`ConsentBook::facts_read`] tells whether it matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    pub instance: Option<&'a InstanceId>,
    /// When what it describes took place.
    pub time: Option<&'a TimeSpan>,
    /// All codes in it.
    pub codes: Option<&'a [Code]>,
    /// All references in it.
    pub references: Option<&'a [Reference]>,
    /// Its authors, performers, recorders.
    pub authors: Option<&'a [Reference]>,
}

/// How Consents are read where FHIR leaves a choice: what an organization decides once for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentReading {
    /// The names of who holds and discloses; needed where a Consent names a custodian.
    pub custodians: Vec<Recipient>,
    /// Where the Consents' dates were written.
    pub zone: Zone,
    /// How strictly the elements of 42 CFR 2.31(a) must show. The role is the endpoint's own.
    pub part2: Part2Elements,
}

impl Default for ConsentReading {
    fn default() -> Self {
        Self { custodians: Vec::new(), zone: Zone::ANYWHERE, part2: Part2Elements::default() }
    }
}

impl<'a> ConsentQuestion<'a> {
    /// May a resource of this type with these labels be disclosed to this recipient for this purpose, by a Part 2
    /// program, now?
    pub fn new(
        patient: &'a LogicalId,
        recipients: &'a [Recipient],
        purpose: PurposeOfUse,
        labels: LabelSet,
        kind: ResourceType,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            patient,
            recipients,
            custodians: &[],
            purpose,
            action: ConsentAction::Disclose,
            labels,
            kind,
            about: About::default(),
            now,
            zone: Zone::ANYWHERE,
            part2: Part2Elements::default(),
        }
    }
}

/// What the consents say. Deny overrides permit; silence is neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentOutcome {
    /// At least one consent permits and none denies. The ids justify it.
    Permit { consents: Vec<LogicalId> },
    /// At least one consent denies, or one could not be read, or the book is another patient's. The ids are those of the
    /// consents that deny, as far as they have one.
    Deny { consents: Vec<LogicalId> },
    /// No consent speaks to the question.
    Silent,
}

/// What all Consents of the patient, taken together, say to the question. The order of the book does not matter.
pub fn evaluate(book: &ConsentBook, question: &ConsentQuestion<'_>) -> ConsentOutcome {
    if book.patient != *question.patient {
        return ConsentOutcome::Deny { consents: Vec::new() };
    }
    let asked = Asked::new(book, question);
    let (mut permitting, mut denying) = (Vec::new(), Vec::new());
    for record in &book.records {
        match walk::decide(&asked, record, None) {
            Decision::Permit(_) => permitting.push(record.id.clone()),
            Decision::Deny => denying.push(record.id.clone()),
            Decision::Silent => {}
        }
    }
    denying.extend(book.unreadable.iter().filter_map(|unreadable| unreadable.id.clone()));
    if !denying.is_empty() || !book.unreadable.is_empty() {
        ConsentOutcome::Deny { consents: sorted(denying) }
    } else if !permitting.is_empty() {
        ConsentOutcome::Permit { consents: sorted(permitting) }
    } else {
        ConsentOutcome::Silent
    }
}

fn sorted(mut ids: Vec<LogicalId>) -> Vec<LogicalId> {
    ids.sort();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const CONSENT: &str = r#"{"resourceType":"Consent","id":"c1","status":"active",
        "scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
        "category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],
        "patient":{"reference":"Patient/a"},"provision":{"type":"permit"}}"#;

    fn outcome(json: &str, patient: &str) -> ConsentOutcome {
        let patient: LogicalId = patient.parse().unwrap();
        let mut book = ConsentBook::new("a".parse().unwrap(), [].into());
        match ConsentRecord::parse(json.as_bytes()) {
            Ok(record) => book.add(record).unwrap(),
            Err(unreadable) => book.add_unreadable(unreadable),
        }
        let now = datetime!(2026-03-01 12:00 UTC);
        let kind = "Condition".parse().unwrap();
        evaluate(&book, &ConsentQuestion::new(&patient, &[], PurposeOfUse::Treat, LabelSet::EMPTY, kind, now))
    }

    #[test]
    fn a_permit_names_the_consent_that_justifies_it() {
        assert_eq!(outcome(CONSENT, "a"), ConsentOutcome::Permit { consents: vec!["c1".parse().unwrap()] });
    }

    #[test]
    fn another_patients_book_answers_nothing_but_no() {
        assert_eq!(outcome(CONSENT, "b"), ConsentOutcome::Deny { consents: Vec::new() });
    }

    #[test]
    fn an_unreadable_consent_denies_under_its_id() {
        let unreadable = CONSENT.replace("\"provision\"", "\"modifierExtension\":[{\"url\":\"urn:x\"}],\"provision\"");
        assert_eq!(outcome(&unreadable, "a"), ConsentOutcome::Deny { consents: vec!["c1".parse().unwrap()] });
    }

    #[test]
    fn debug_output_holds_no_identifier() {
        let record = ConsentRecord::parse(CONSENT.as_bytes()).unwrap();
        let mut book = ConsentBook::new("a".parse().unwrap(), [].into());
        book.add(record.clone()).unwrap();
        let unreadable = ConsentRecord::parse(b"{\"id\":\"c1\"}").unwrap_err();
        let printed = format!("{record:?} {book:?} {unreadable:?} {unreadable}");
        assert!(!printed.contains("c1") && !printed.contains("Patient"), "{printed}");
    }
}
