//! Labels do not stay where they were put: a part is as sensitive as its whole, a version as its record, and what
//! happened in an Encounter as the Encounter.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{BundleType, Document};
use super::facts::{Place, ResourceFacts};
use super::json::{index, offset};
use crate::ids::{InstanceId, ResourceType};
use crate::label::{Label, LabelKind, LabelSet};
use crate::reference::Reference;

impl Document<'_> {
    /// The instances outside this document whose labels would spread into it: an Encounter or EpisodeOfCare that a
    /// record belongs to.
    pub fn label_sources(&self) -> Vec<InstanceId> {
        let held = self.visits_held();
        let visits = self.references().filter_map(local_instance).filter(|instance| spreads(instance.kind));
        let outside: BTreeSet<&InstanceId> = visits.filter(|instance| !held.contains(*instance)).collect();
        outside.into_iter().cloned().collect()
    }

    /// The visits that are records of this document. A contained one is known to its container alone.
    fn visits_held(&self) -> BTreeSet<InstanceId> {
        let visits = self.resources.iter().filter(|facts| spreads(facts.kind) && facts.place != Place::Contained);
        visits.filter_map(|facts| Some(InstanceId { kind: facts.kind, id: facts.id.clone()? })).collect()
    }

    /// The Binaries among the resources, by index. A Binary carries no label and names no patient: it is what the record
    /// is that it belongs to (R4 binary.html, `securityContext`; DocumentReference.content.attachment).
    pub fn binaries(&self) -> Vec<(u32, InstanceId)> {
        let binaries = self.resources.iter().zip(0u32..).filter(|(facts, _)| facts.kind == ResourceType::BINARY);
        binaries.filter_map(|(facts, at)| Some((at, InstanceId { kind: facts.kind, id: facts.id.clone()? }))).collect()
    }

    /// Gives a resource the patients of a record that it belongs to.
    pub fn belongs_to(&mut self, resource: u32, owner: &ResourceFacts) {
        if let Some(facts) = self.resources.get_mut(index(resource)) {
            facts.patients.extend(owner.patients.iter().cloned());
        }
    }

    /// Adds labels that were found elsewhere to the records they spread to: `resolved` answers for the instances of
    /// [`Document::label_sources`], and for a Binary with the labels of the document that refers to it. `None`: that could
    /// not be found out, so it counts as a label that nobody knows.
    pub fn take_over(&mut self, resolved: &dyn Fn(&InstanceId) -> Option<LabelSet>) {
        let (held, unknown) = (self.visits_held(), self.unknown);
        let labels_of = |instance: &InstanceId| resolved(instance).unwrap_or(unknown);
        for at in 0..self.resources.len() {
            let around = self.references_of(offset(at)).filter_map(local_instance);
            let mut labels = around
                .filter(|instance| spreads(instance.kind) && !held.contains(*instance))
                .fold(LabelSet::EMPTY, |labels, instance| labels.union(labels_of(instance)));
            let Some(facts) = self.resources.get_mut(at) else { continue };
            if let (ResourceType::BINARY, Some(id)) = (facts.kind, &facts.id) {
                labels = labels.union(labels_of(&InstanceId { kind: facts.kind, id: id.clone() }));
            }
            facts.inherit(about_content(labels, unknown));
        }
        self.spread_labels();
    }

    /// Spreads labels between container and contained, between versions of one record, from an Encounter to what
    /// happened in it, and from a DocumentReference to its Binary, until nothing changes; and from the Bundle that carries
    /// an answer to its entries what none of them explains.
    pub(super) fn spread_labels(&mut self) {
        self.spread_until_settled();
        let unexplained = self.unexplained_by_entries();
        if unexplained.is_empty() {
            return;
        }
        for facts in self.resources.iter_mut().filter(|facts| facts.parent == Some(0)) {
            facts.inherit(unexplained);
        }
        self.spread_until_settled();
    }

    /// The labels of the Bundle that carries an answer are the highest of its entries (R4 security-labels: "as
    /// confidential as the most confidential resource in it"; HCS: high-water mark), so what an entry is labelled with says
    /// nothing of its neighbours. A label that no entry explains was meant for all of them.
    fn unexplained_by_entries(&self) -> LabelSet {
        if !self.is_transport() {
            return LabelSet::EMPTY;
        }
        let Some((envelope, entries)) = self.resources.split_first() else { return LabelSet::EMPTY };
        let own = protective(envelope.labels);
        if own.is_empty() {
            return own;
        }
        let within = entries.iter().flat_map(|facts| facts.inline.iter().chain([&facts.labels]));
        let within = within.fold(LabelSet::EMPTY, |all, labels| all.union(*labels));
        let sensitive = within.contains(Label::PART2) || !within.of_kinds(&[LabelKind::Sensitivity]).is_empty();
        let explained = |label: Label| match label.kind() {
            LabelKind::Confidentiality => {
                within.confidentiality() >= Some(label) || (sensitive && label <= Label::RESTRICTED)
            }
            LabelKind::Unknown => false,
            LabelKind::Law
            | LabelKind::Sensitivity
            | LabelKind::Obligation
            | LabelKind::Refrain
            | LabelKind::Mark
            | LabelKind::Integrity => within.contains(label),
        };
        own.iter().filter(|label| !explained(*label)).collect()
    }

    /// The Bundle that carries an answer is nobody's record.
    pub(super) fn is_transport(&self) -> bool {
        self.bundle_type().is_some_and(BundleType::transports)
    }

    fn spread_until_settled(&mut self) {
        loop {
            let before: u64 = self.resources.iter().map(|facts| u64::from(facts.labels.len())).sum();
            if before == 0 {
                return;
            }
            self.spread_through_containers();
            if self.resources.len() > 1 {
                self.spread_between_versions();
                self.spread_along_references();
            }
            // Labels are only ever added.
            if self.resources.iter().map(|facts| u64::from(facts.labels.len())).sum::<u64>() == before {
                return;
            }
        }
    }

    fn spread_through_containers(&mut self) {
        for at in (0..self.resources.len()).rev() {
            let Some(facts) = self.resources.get(at) else { continue };
            let (labels, parent) = (facts.labels, facts.parent);
            if facts.place == Place::Contained
                && !labels.is_empty()
                && let Some(container) = parent.and_then(|parent| self.resources.get_mut(index(parent)))
            {
                container.inherit(protective(labels));
            }
        }
        let transport = self.is_transport();
        for at in 0..self.resources.len() {
            let parent = self.resources.get(at).and_then(|facts| facts.parent);
            let parent = parent.filter(|parent| !(transport && *parent == 0));
            let container = parent.and_then(|parent| self.resources.get(index(parent)));
            let labels = container.map_or(LabelSet::EMPTY, |container| container.labels);
            if !labels.is_empty()
                && let Some(facts) = self.resources.get_mut(at)
            {
                facts.inherit(protective(labels));
            }
        }
    }

    /// Versions of one record share the strictest labels of any of them.
    fn spread_between_versions(&mut self) {
        let labelled = self.labels_by_instance(|labels| !labels.is_empty());
        let sieve = Sieve::of(labelled.keys().map(|instance| instance.id.as_str()));
        for facts in self.resources.iter_mut().filter(|facts| facts.place != Place::Contained) {
            let Some(id) = facts.id.as_ref().filter(|id| sieve.may_hold(id.as_str())) else { continue };
            let instance = InstanceId { kind: facts.kind, id: id.clone() };
            if let Some(labels) = labelled.get(&instance) {
                facts.inherit(protective(*labels));
            }
        }
    }

    fn spread_along_references(&mut self) {
        let unknown = self.unknown;
        let labelled = self.labels_by_instance(|labels| !about_content(labels, LabelSet::EMPTY).is_empty());
        if labelled.is_empty() {
            return;
        }
        // To what refers to an Encounter ...
        let from_targets: Vec<LabelSet> = self
            .references
            .iter()
            .map(|reference| {
                let target = local_instance(reference).filter(|instance| spreads(instance.kind));
                target
                    .and_then(|instance| labelled.get(instance))
                    .map_or(LabelSet::EMPTY, |labels| about_content(*labels, unknown))
            })
            .collect();
        let mut to_binaries: BTreeMap<InstanceId, LabelSet> = BTreeMap::new();
        for used in &self.uses {
            let Some(facts) = self.resources.get_mut(index(used.resource)) else { continue };
            let labels = from_targets.get(index(used.reference)).copied().unwrap_or_default();
            if !labels.is_empty() {
                facts.inherit(labels);
            }
            // ... and to what a DocumentReference refers to.
            let content = about_content(facts.labels, unknown);
            if !content.is_empty()
                && facts.kind.as_str() == "DocumentReference"
                && let Some(binary) = self.references.get(index(used.reference)).and_then(|r| local_instance(r))
                && binary.kind == ResourceType::BINARY
            {
                let known = to_binaries.entry(binary.clone()).or_default();
                *known = known.union(content);
            }
        }
        if to_binaries.is_empty() {
            return;
        }
        for facts in self.resources.iter_mut().filter(|facts| facts.kind == ResourceType::BINARY) {
            let Some(id) = facts.id.clone() else { continue };
            if let Some(labels) = to_binaries.get(&InstanceId { kind: facts.kind, id }) {
                facts.inherit(*labels);
            }
        }
    }

    fn labels_by_instance(&self, counts: fn(LabelSet) -> bool) -> BTreeMap<InstanceId, LabelSet> {
        let mut found: BTreeMap<InstanceId, LabelSet> = BTreeMap::new();
        for facts in self.resources.iter().filter(|facts| facts.place != Place::Contained && counts(facts.labels)) {
            if let Some(id) = &facts.id {
                let labels = found.entry(InstanceId { kind: facts.kind, id: id.clone() }).or_default();
                *labels = labels.union(facts.labels);
            }
        }
        found
    }
}

fn local_instance(reference: &Reference) -> Option<&InstanceId> {
    match reference {
        Reference::Relative { instance, .. } => Some(instance),
        Reference::Absolute { .. } | Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => None,
    }
}

/// Tells most texts that are not in a set at once.
pub(super) struct Sieve([u64; 64]);

impl Sieve {
    pub(super) fn of<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut sieve = Self([0; 64]);
        for text in texts {
            let (word, bit) = Self::place(text);
            if let Some(bits) = sieve.0.get_mut(word) {
                *bits |= bit;
            }
        }
        sieve
    }

    pub(super) fn may_hold(&self, text: &str) -> bool {
        let (word, bit) = Self::place(text);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Told by both ends and the length: ids differ there, if not everywhere.
    fn place(text: &str) -> (usize, u64) {
        let bytes = text.as_bytes();
        let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        };
        let ends = first.rotate_left(29).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ last;
        let hash = ends.wrapping_add(bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> 58) as usize, 1 << (hash >> 52 & 63))
    }
}

/// What happened in an Encounter or an episode at a program is a record of that program: its labels spread.
pub fn spreads(kind: ResourceType) -> bool {
    matches!(kind.as_str(), "Encounter" | "EpisodeOfCare")
}

/// Of the labels of a container or of what it contains, those that protect: not what is to be done or was done with it.
fn protective(labels: LabelSet) -> LabelSet {
    labels.of_kinds(&[
        LabelKind::Confidentiality,
        LabelKind::Law,
        LabelKind::Sensitivity,
        LabelKind::Refrain,
        LabelKind::Unknown,
    ])
}

/// Of the labels of a neighbour, those that are about the content: its law, its sensitivity, and what nobody knows,
/// with what that counts as.
fn about_content(labels: LabelSet, unknown: LabelSet) -> LabelSet {
    let content = labels.of_kinds(&[LabelKind::Law, LabelKind::Sensitivity, LabelKind::Unknown]);
    if content.contains(Label::UNKNOWN) { content.union(unknown) } else { content }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_with_a_record_does_not_spread() {
        let labels: LabelSet =
            [Label::PART2, Label::REDACTED, Label::RESTRICTED, Label::PROCESS_INLINE].into_iter().collect();
        assert_eq!(protective(labels), [Label::PART2, Label::RESTRICTED].into_iter().collect());
        assert_eq!(about_content(labels, LabelSet::EMPTY), [Label::PART2].into_iter().collect());
    }
}
