//! Labels that are known only when a resource, or the whole document, has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Members, Name, Role, Scanner};
use crate::codes::Dates;
use crate::engine::document::Document;
use crate::engine::facts::{LabelSource, Place};
use crate::engine::json::{Text, decoded, index};
use crate::ids::{InstanceId, ResourceType};
use crate::label::{CONFIDENTIALITY, Label, LabelSet};
use crate::reference::Reference;

/// A listed code, which counts if the resource is of these days.
pub(super) struct DatedLabel {
    resource: u32,
    list: u16,
    days: Dates,
}

impl<'a> Scanner<'a, '_> {
    pub(super) fn label(&mut self, labels: LabelSet, source: LabelSource) {
        if let Some(facts) = self.facts() {
            facts.label(labels, source);
        }
    }

    pub(super) fn unknown_label(&mut self) {
        let unknown = self.labeller.unknown();
        if let Some(facts) = self.facts() {
            facts.unknown_labels += 1;
            facts.label(unknown, LabelSource::Meta);
        }
    }

    pub(super) fn mark_program_record(&mut self) {
        self.label(LabelSet::EMPTY.with(Label::PART2), LabelSource::Source);
    }

    /// A (system, code) pair stands here.
    #[inline]
    pub(super) fn coded(&mut self, role: Role, system: Text, code: Text) {
        if role == Role::Security || self.in_security_label {
            let labels = self.labeller.label(&self.cursor.decoded(system), &self.cursor.decoded(code));
            match labels {
                _ if role != Role::Security => self.security_labels.push((self.current, labels)),
                Some(labels) => self.label(labels, LabelSource::Meta),
                None => self.unknown_label(),
            }
        }
        if role == Role::Tag
            && self.labeller.has_programs()
            && self.labeller.is_program_tag(&self.cursor.decoded(system), &self.cursor.decoded(code))
        {
            self.mark_program_record();
        }
        if let Some(codes) = self.systems.codes(&self.cursor, system, self.labeller) {
            let found = if code.escaped() {
                codes.find(&self.cursor.decoded(code))
            } else {
                codes.find(self.cursor.slice(code.span()))
            };
            let resource = self.current;
            self.dated.extend(found.iter().map(|(list, days)| DatedLabel { resource, list: *list, days: *days }));
        }
    }

    /// Widens the days that the resource being read is of.
    pub(super) fn note_date(&mut self, text: Text) {
        let covered = Dates::covered_by(&self.cursor.decoded(text));
        if let (Some(site), Some(days)) = (self.sites.get_mut(index(self.current)), covered) {
            site.days = Some(site.days.map_or(days, |known| known.joined(days)));
        }
    }

    /// Is the object being read a Period at the top of its resource that says when it happened?
    pub(super) fn in_dated_period(&self) -> bool {
        let steps = self.path.get(self.path_base..).unwrap_or_default();
        match steps {
            [step] => {
                let name = self.cursor.decoded(*step);
                name == "period" || name.ends_with("Period")
            }
            _ => false,
        }
    }

    /// Labels that depend on the type of the resource that just ended.
    pub(super) fn settle_labels(&mut self, kind: ResourceType, members: &Members) {
        // In a Consent and a Contract a security label is part of a rule about other records, not a label of this one.
        let describes_itself = !matches!(kind.as_str(), "Consent" | "Contract");
        let current = self.current;
        let from = self.security_labels.iter().rposition(|(resource, _)| *resource != current).map_or(0, |at| at + 1);
        for (_, labels) in self.security_labels.split_off(from) {
            match labels {
                _ if !describes_itself => {}
                Some(labels) => self.label(labels, LabelSource::Meta),
                None => self.unknown_label(),
            }
        }
        if let (Some(code), "Composition") = (members.text(Name::Confidentiality), kind.as_str()) {
            match self.labeller.label(CONFIDENTIALITY, &self.cursor.decoded(code)) {
                Some(labels) => self.label(labels, LabelSource::Meta),
                None => self.unknown_label(),
            }
        }
    }

    /// The document has ended: settles what depends on all of it.
    pub(super) fn conclude(mut self, today: Dates) -> Document<'a> {
        self.settle_dated_labels(today);
        self.settle_program_references();
        self.uses.sort_by_key(|used| (used.resource, used.at));
        self.labelled.sort_by_key(|(start, _)| *start);
        let mut document = Document {
            text: self.cursor.text,
            resources: self.resources,
            sites: self.sites,
            references: self.references.unique,
            uses: self.uses,
            labelled: self.labelled,
            own_urls: self.own_urls,
            bases: self.labeller.bases().into(),
            unknown: self.labeller.unknown(),
        };
        if self.saw_urn_subject {
            resolve_urn_subjects(&mut document);
        }
        share_subjects(&mut document);
        document.spread_labels();
        document
    }

    fn settle_dated_labels(&mut self, today: Dates) {
        for dated in core::mem::take(&mut self.dated) {
            let days = self.days_of(dated.resource).unwrap_or(today);
            if let Some(facts) = self.resources.get_mut(index(dated.resource))
                && dated.days.meets(days)
            {
                facts.label(self.labeller.list_labels(dated.list), LabelSource::Code { list: dated.list });
            }
        }
    }

    /// The days of a resource; those of its container if it is contained and undated.
    fn days_of(&self, at: u32) -> Option<Dates> {
        let own = self.sites.get(index(at))?.days;
        let facts = self.resources.get(index(at))?;
        match (own, facts.place, facts.parent) {
            (None, Place::Contained, Some(parent)) => self.days_of(parent),
            (own, _, _) => own,
        }
    }

    fn settle_program_references(&mut self) {
        if !self.labeller.has_programs() {
            return;
        }
        let names_program = |reference: &Arc<Reference>| match &**reference {
            Reference::Relative { instance, .. } => self.labeller.is_program_instance(instance),
            Reference::Absolute { .. } | Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => false,
        };
        let programs: Vec<bool> = self.references.unique.iter().map(names_program).collect();
        for used in &self.uses {
            if programs.get(index(used.reference)) == Some(&true)
                && let Some(facts) = self.resources.get_mut(index(used.resource))
            {
                facts.label(LabelSet::EMPTY.with(Label::PART2), LabelSource::Source);
            }
        }
        // A program's own entry in the directory is nobody's record.
        for facts in &mut self.resources {
            if is_directory(facts.kind) {
                facts.provenance.retain(|(_, source)| *source != LabelSource::Source);
                facts.labels = facts.provenance.iter().map(|(label, _)| *label).collect();
            }
        }
    }
}

/// Types that say who there is, and never who was treated.
fn is_directory(kind: ResourceType) -> bool {
    matches!(
        kind.as_str(),
        "Organization"
            | "OrganizationAffiliation"
            | "Location"
            | "HealthcareService"
            | "Endpoint"
            | "Practitioner"
            | "PractitionerRole"
    )
}

/// `urn:uuid:` subjects are resolved by the `fullUrl` of an entry of the same document.
fn resolve_urn_subjects(document: &mut Document<'_>) {
    let mut patients: BTreeMap<String, Arc<Reference>> = BTreeMap::new();
    for (facts, site) in document.resources.iter().zip(&document.sites) {
        if let (Some(full_url), Some(id)) = (site.full_url, &facts.id) {
            let instance = InstanceId { kind: facts.kind, id: id.clone() };
            let reference = Arc::new(Reference::Relative { instance, version: None });
            patients.insert(decoded(document.text, full_url).into_owned(), reference);
        }
    }
    for facts in &mut document.resources {
        for patient in &mut facts.patients {
            if let Reference::Urn(urn) = &**patient
                && let Some(resolved) = patients.get(&**urn)
            {
                *patient = Arc::clone(resolved);
            }
        }
        facts.patients.retain(|patient| match &**patient {
            Reference::Relative { instance, .. } => instance.kind == ResourceType::PATIENT,
            Reference::Absolute { .. } | Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => true,
        });
    }
}

/// What is contained and names no subject is about the subject of its container.
fn share_subjects(document: &mut Document<'_>) {
    for at in 0..document.resources.len() {
        let Some(facts) = document.resources.get(at) else { continue };
        if facts.place != Place::Contained || !facts.patients.is_empty() {
            continue;
        }
        let of_parent = facts.parent.and_then(|parent| document.resources.get(index(parent)));
        let patients = of_parent.map(|parent| parent.patients.clone()).unwrap_or_default();
        if let Some(facts) = document.resources.get_mut(at) {
            facts.patients = patients;
        }
    }
}
