//! Which references say whom a resource is about.

use std::sync::Arc;

use super::Scanner;
use crate::engine::json::{Span, index};
use crate::ids::{InstanceId, LogicalId, ResourceType};
use crate::reference::Reference;

/// How deep the longest subject path is.
const STEPS: usize = 3;

/// A reference, and the member names that lead to it.
pub(super) struct Candidate {
    steps: [Span; STEPS],
    length: usize,
    /// `None`: the element names somebody without a reference.
    reference: Option<u32>,
}

impl Scanner<'_, '_> {
    /// Notes a Reference element that just ended.
    pub(super) fn candidate(&mut self, reference: Option<u32>) {
        let steps = self.path.get(self.path_base..).unwrap_or_default();
        if steps.is_empty() || steps.len() > STEPS {
            return;
        }
        let mut candidate = Candidate { steps: [Span::default(); STEPS], length: steps.len(), reference };
        for (to, from) in candidate.steps.iter_mut().zip(steps) {
            *to = *from;
        }
        self.subjects.push(candidate);
    }

    /// The patients of the resource that just ended; its candidates are those after `from`.
    pub(super) fn patients(&mut self, kind: ResourceType, id: Option<&LogicalId>, from: usize) -> Vec<Arc<Reference>> {
        let mut patients: Vec<Arc<Reference>> = Vec::new();
        if kind == ResourceType::PATIENT
            && let Some(id) = id
        {
            let instance = InstanceId { kind, id: id.clone() };
            patients.push(Arc::new(Reference::Relative { instance, version: None }));
        }
        for candidate in self.subjects.get(from..).unwrap_or_default() {
            let steps = candidate.steps.get(..candidate.length).unwrap_or_default();
            let is_subject = paths(kind).iter().any(|path| {
                path.split('.').count() == steps.len()
                    && path.split('.').zip(steps).all(|(step, span)| self.cursor.slice(*span) == step)
            });
            if !is_subject {
                continue;
            }
            let named = candidate.reference.and_then(|number| self.references.unique.get(index(number)));
            let patient = named.map_or_else(|| Arc::new(Reference::Opaque), Arc::clone);
            let relevant = match &*patient {
                Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => {
                    instance.kind == ResourceType::PATIENT
                }
                Reference::Urn(_) => {
                    self.saw_urn_subject = true;
                    true
                }
                Reference::Contained(_) | Reference::Opaque => true,
            };
            if relevant && !patients.contains(&patient) {
                patients.push(patient);
            }
        }
        self.subjects.truncate(from);
        patients
    }
}

/// The elements that say whom a resource of this type is about.
fn paths(kind: ResourceType) -> &'static [&'static str] {
    match kind.as_str() {
        "Patient" => &[],
        "Account" => &["subject"],
        "Appointment" => &["participant.actor"],
        "AppointmentResponse" | "Schedule" => &["actor"],
        "AuditEvent" => &["agent.who", "entity.what"],
        "Coverage" => &["beneficiary"],
        "EnrollmentRequest" => &["candidate"],
        "Group" => &["member.entity"],
        "Person" => &["link.target"],
        "Provenance" => &["target"],
        "ResearchSubject" => &["individual"],
        "SupplyRequest" => &["deliverTo"],
        "Task" => &["for"],
        "Library" | "Measure" | "PlanDefinition" | "ActivityDefinition" => &["subjectReference"],
        _ => &["subject", "patient"],
    }
}
