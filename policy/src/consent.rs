//! What a patient's Consents mean for one recipient, purpose and set of labels.
//!
//! Seam: `gateway::decide` fetches the Consents of every patient in an answer, parses each with [`ConsentRecord::parse`],
//! and hands the outcome of [`evaluate`] to the permit. Unreadable is deny.

use fhir_profiles::ids::{LogicalId, ResourceType};
use fhir_profiles::label::LabelSet;
use time::OffsetDateTime;

use crate::partner::Recipient;
use crate::purpose::PurposeOfUse;

/// What is asked of a patient's consents.
#[derive(Clone, Debug)]
pub struct ConsentQuestion<'a> {
    pub patient: &'a LogicalId,
    pub recipients: &'a [Recipient],
    pub purpose: PurposeOfUse,
    pub labels: LabelSet,
    pub kind: ResourceType,
    pub now: OffsetDateTime,
}

/// What the consents say. Deny overrides permit; silence is neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentOutcome {
    /// At least one consent permits and none denies. The ids justify it.
    Permit { consents: Vec<LogicalId> },
    /// At least one consent denies, or one could not be read.
    Deny { consents: Vec<LogicalId> },
    /// No consent speaks to the question.
    Silent,
}
