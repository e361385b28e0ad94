//! All Consents of one patient.

use core::fmt;
use std::sync::Arc;

use fhir_profiles::ids::{LogicalId, ResourceType};

use super::provision::Rule;
use super::record::{ConsentRecord, Unreadable};

/// All Consents of one patient, those included that could not be read. A book that lacks one is a wrong book: build it
/// from a complete answer of the source, or not at all.
#[derive(Clone)]
pub struct ConsentBook {
    pub(super) patient: LogicalId,
    /// The bases under which the source names its own instances, without a trailing slash.
    pub(super) bases: Arc<[Box<str>]>,
    pub(super) records: Vec<ConsentRecord>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Refusal of a Consent that is not, or not certainly, this patient's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotThisPatient(());

/// Which facts about a resource, beyond its type and labels, the Consents in a book ask for. Where none is asked for, a
/// decision holds for every resource with the same type and labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactsRead {
    pub time: bool,
    pub codes: bool,
    /// The instance, its references, its authors.
    pub instance: bool,
}

impl FactsRead {
    /// Is any fact beyond type and labels asked for?
    pub const fn any(self) -> bool {
        self.time || self.codes || self.instance
    }
}

impl ConsentBook {
    /// An empty book: this patient has no Consent. `bases` are those under which the source names its own instances.
    pub const fn new(patient: LogicalId, bases: Arc<[Box<str>]>) -> Self {
        Self { patient, bases, records: Vec::new(), unreadable: Vec::new() }
    }

    /// Adds a Consent of this patient.
    ///
    /// # Errors
    /// [`NotThisPatient`] unless `Consent.patient` refers to exactly this patient on this server.
    pub fn add(&mut self, record: ConsentRecord) -> Result<(), NotThisPatient> {
        if !self.is_about(&record) {
            return Err(NotThisPatient(()));
        }
        self.records.push(record);
        Ok(())
    }

    /// Adds a Consent that could not be read, and may be this patient's. From then on every question is denied.
    pub fn add_unreadable(&mut self, unreadable: Unreadable) {
        self.unreadable.push(unreadable);
    }

    /// Whose Consents these are.
    pub const fn patient(&self) -> &LogicalId {
        &self.patient
    }

    /// How many Consents, readable or not.
    pub const fn len(&self) -> usize {
        self.records.len() + self.unreadable.len()
    }

    /// Has the patient no Consent at all?
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which facts the answer to a question can depend on.
    pub fn facts_read(&self) -> FactsRead {
        let mut read = FactsRead::default();
        for terms in self.records.iter().filter_map(|record| record.terms.as_ref()) {
            collect(&terms.root, &mut read);
        }
        read
    }

    fn is_about(&self, record: &ConsentRecord) -> bool {
        let bases: Vec<&str> = self.bases.iter().map(|base| &**base).collect();
        record
            .patient
            .on_server(&bases)
            .is_some_and(|named| named.kind == ResourceType::PATIENT && named.id == self.patient)
    }
}

fn collect(rule: &Rule, read: &mut FactsRead) {
    read.time |= rule.data_period.is_some();
    read.codes |= !rule.codes.is_empty() || !rule.classes.is_empty();
    read.instance |= !rule.data.is_empty();
    rule.exceptions.iter().for_each(|exception| collect(exception, read));
}

impl fmt::Debug for ConsentBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentBook")
            .field("records", &self.records.len())
            .field("unreadable", &self.unreadable.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for NotThisPatient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Consent is not certainly this patient's")
    }
}

impl core::error::Error for NotThisPatient {}
