//! Which references say whom a resource is about.

use std::sync::Arc;

use super::Scanner;
use crate::compartment::named_subjects;
use crate::engine::json::{Text, index};
use crate::ids::{InstanceId, LogicalId, ResourceType};
use crate::reference::Reference;

/// How deep the longest subject path is.
const STEPS: usize = 3;

/// A reference, and the member names that lead to it.
pub(super) struct Candidate {
    steps: [Option<Text>; STEPS],
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
        let mut candidate = Candidate { steps: [None; STEPS], reference };
        for (to, from) in candidate.steps.iter_mut().zip(steps) {
            *to = Some(*from);
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
        let paths = match self.last_subjects {
            Some((last, paths)) if last == kind => paths,
            Some(_) | None => named_subjects(kind),
        };
        self.last_subjects = Some((kind, paths));
        for candidate in self.subjects.get(from..).unwrap_or_default() {
            if !self.names_subject(paths, &candidate.steps) {
                continue;
            }
            let named = candidate.reference.and_then(|number| self.references.unique.get(index(number)));
            let patient = named.map_or_else(|| Arc::new(Reference::Opaque), Arc::clone);
            if patients.iter().any(|known| Arc::ptr_eq(known, &patient)) {
                continue;
            }
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

    /// Is one of these dotted paths made of these member names?
    #[inline(always)]
    fn names_subject(&self, paths: &[&str], steps: &[Option<Text>; STEPS]) -> bool {
        // Most subjects stand at the top of their resource, under a name as it is.
        match steps {
            [Some(step), None, None] if !step.escaped() => {
                paths.iter().any(|path| step.len() == path.len() && self.cursor.slice(step.span()) == *path)
            }
            _ => paths.iter().any(|path| self.leads_along(path, steps)),
        }
    }

    /// Is this dotted path made of these member names?
    fn leads_along(&self, path: &str, steps: &[Option<Text>; STEPS]) -> bool {
        let mut rest = Some(path);
        for step in steps.iter().flatten() {
            let name = self.cursor.decoded(*step);
            rest = rest.and_then(|rest| rest.strip_prefix(&*name));
            rest =
                rest.filter(|rest| rest.is_empty() || rest.starts_with('.')).map(|rest| rest.trim_start_matches('.'));
        }
        rest == Some("")
    }
}
