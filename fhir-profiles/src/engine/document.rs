//! A document that was understood to its last byte.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::{Place, ResourceFacts};
use super::json::{Span, Text, decoded, index};
use super::tree::Tree;
use crate::codes::Dates;
use crate::ids::{InstanceId, ResourceType};
use crate::label::{LabelKind, LabelSet};
use crate::reference::Reference;

/// `Bundle.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BundleType {
    Document,
    Message,
    Transaction,
    TransactionResponse,
    Batch,
    BatchResponse,
    History,
    Searchset,
    Collection,
    /// A code that R4 does not have.
    Unknown,
}

impl BundleType {
    pub(super) fn of(code: &str) -> Self {
        match code {
            "document" => Self::Document,
            "message" => Self::Message,
            "transaction" => Self::Transaction,
            "transaction-response" => Self::TransactionResponse,
            "batch" => Self::Batch,
            "batch-response" => Self::BatchResponse,
            "history" => Self::History,
            "searchset" => Self::Searchset,
            "collection" => Self::Collection,
            _ => Self::Unknown,
        }
    }

    /// Is it the envelope of an answer, and nobody's record?
    pub(super) const fn transports(self) -> bool {
        match self {
            Self::Searchset | Self::History | Self::BatchResponse | Self::TransactionResponse => true,
            Self::Document | Self::Message | Self::Transaction | Self::Batch | Self::Collection | Self::Unknown => {
                false
            }
        }
    }

    /// Do its entries answer the entries of a request, one by one?
    pub(super) const fn answers_by_position(self) -> bool {
        match self {
            Self::BatchResponse | Self::TransactionResponse => true,
            Self::Searchset
            | Self::History
            | Self::Document
            | Self::Message
            | Self::Transaction
            | Self::Batch
            | Self::Collection
            | Self::Unknown => false,
        }
    }
}

/// What the engine needs of a resource beside its facts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site {
    pub(super) span: Span,
    /// The index in the array it stands in.
    pub(super) position: u32,
    pub(super) full_url: Option<Text>,
    pub(super) bundle_type: Option<BundleType>,
    /// The days its own dates cover.
    pub(super) days: Option<Dates>,
    /// Holds an absolute URL of this server.
    pub(super) own_urls: bool,
    /// Holds `instance.resourceType`.
    pub(super) instance_types: bool,
}

/// A reference stands here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) resource: u32,
    /// Where its text starts.
    pub(super) at: u32,
    /// Which of the document's references it is.
    pub(super) reference: u32,
}

/// A coding in a resource, with the path of the element that holds it (`category.coding`, array indexes left out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coding {
    pub path: String,
    pub system: Option<String>,
    pub code: Option<String>,
}

/// A document and what every resource in it is. Borrow of the bytes that were scanned.
#[derive(Clone)]
pub struct Document<'a> {
    pub(super) text: &'a str,
    pub(super) resources: Vec<ResourceFacts>,
    pub(super) sites: Vec<Site>,
    /// Each distinct reference, once.
    pub(super) references: Vec<Arc<Reference>>,
    /// Sorted by resource, then by place.
    pub(super) uses: Vec<Use>,
    /// Elements with labels of their own, by where they start; sorted.
    pub(super) labelled: Vec<(u32, LabelSet)>,
    pub(super) bases: Arc<[Box<str>]>,
}

/// Content never prints.
impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("resources", &self.resources).finish_non_exhaustive()
    }
}

impl<'a> Document<'a> {
    /// Every resource at any depth, in document order: a container before what it holds, the root first.
    pub fn resources(&self) -> &[ResourceFacts] {
        &self.resources
    }

    pub fn root(&self) -> Option<&ResourceFacts> {
        self.resources.first()
    }

    /// The type of the root, if it is a Bundle.
    pub fn bundle_type(&self) -> Option<BundleType> {
        self.sites.first().and_then(|site| site.bundle_type)
    }

    /// The bytes of a resource as they stand in the document; empty for an index that is none.
    pub fn bytes_of(&self, resource: u32) -> &'a [u8] {
        self.text_of(resource).as_bytes()
    }

    pub(super) fn text_of(&self, resource: u32) -> &'a str {
        self.sites.get(index(resource)).map(|site| super::json::slice(self.text, site.span)).unwrap_or_default()
    }

    /// `fullUrl` of the entry that holds a resource.
    pub fn full_url(&self, resource: u32) -> Option<String> {
        let text = self.sites.get(index(resource))?.full_url?;
        Some(decoded(self.text, text).into_owned())
    }

    /// (relation, url) of each link of the root Bundle.
    pub fn links(&self) -> Vec<(String, String)> {
        let tree = Tree::of(self, 0);
        let links = tree.member(tree.root(), "link").map(|link| tree.items(link)).unwrap_or_default();
        let text = |node, name| tree.member(node, name).and_then(|value| tree.string(value)).unwrap_or_default();
        links.iter().map(|link| (text(*link, "relation").into_owned(), text(*link, "url").into_owned())).collect()
    }

    /// `total` of the root Bundle.
    pub fn total(&self) -> Option<u64> {
        let tree = Tree::of(self, 0);
        tree.member(tree.root(), "total").and_then(|total| tree.written(total).parse().ok())
    }

    /// Each distinct reference of the document, local absolute ones as relative.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter().map(|reference| &**reference)
    }

    /// The references in one resource, outside the resources it holds.
    pub fn references_of(&self, resource: u32) -> impl Iterator<Item = &Reference> {
        self.uses_of(resource).iter().filter_map(|used| self.reference(used.reference))
    }

    pub(super) fn reference(&self, number: u32) -> Option<&Reference> {
        self.references.get(index(number)).map(|reference| &**reference)
    }

    pub(super) fn uses_of(&self, resource: u32) -> &[Use] {
        let from = self.uses.partition_point(|used| used.resource < resource);
        let to = self.uses.partition_point(|used| used.resource <= resource);
        self.uses.get(from..to).unwrap_or_default()
    }

    /// Every coding of a resource at any depth, for search parameters and granular scopes; read when asked for.
    pub fn codings(&self, resource: u32) -> Vec<Coding> {
        Tree::of(self, resource).codings()
    }

    /// The value of a top-level member that is a string or a number, as text.
    pub fn value(&self, resource: u32, name: &str) -> Option<String> {
        let tree = Tree::of(self, resource);
        let node = tree.member(tree.root(), name)?;
        Some(tree.string(node).map_or_else(|| tree.written(node).to_owned(), std::borrow::Cow::into_owned))
    }

    /// The instances outside this document whose labels would spread into it: an Encounter or EpisodeOfCare that a
    /// record belongs to.
    pub fn label_sources(&self) -> Vec<InstanceId> {
        let here = self.instances();
        let outside = self.references.iter().filter_map(|reference| match &**reference {
            Reference::Relative { instance, .. } if spreads(instance.kind) => Some(instance),
            Reference::Relative { .. }
            | Reference::Absolute { .. }
            | Reference::Contained(_)
            | Reference::Urn(_)
            | Reference::Opaque => None,
        });
        let mut found: Vec<InstanceId> = outside.filter(|instance| !here.contains_key(*instance)).cloned().collect();
        found.sort();
        found.dedup();
        found
    }

    /// Adds labels that were found elsewhere to the records they spread to: `resolved` answers for the instances of
    /// [`Document::label_sources`], and for a Binary with the labels of the document that refers to it.
    pub fn take_over(&mut self, resolved: &dyn Fn(&InstanceId) -> LabelSet) {
        for at in 0..self.resources.len() {
            let resource = super::json::offset(at);
            let mut labels = LabelSet::EMPTY;
            for reference in self.references_of(resource) {
                if let Reference::Relative { instance, .. } = reference
                    && spreads(instance.kind)
                {
                    labels = labels.union(spreading(resolved(instance)));
                }
            }
            let own = self.resources.get(at).and_then(|facts| {
                let id = facts.id.clone()?;
                (facts.kind == ResourceType::BINARY).then_some(InstanceId { kind: facts.kind, id })
            });
            labels = own.map_or(labels, |binary| labels.union(spreading(resolved(&binary))));
            if let Some(facts) = self.resources.get_mut(at) {
                facts.inherit(labels);
            }
        }
        self.spread_labels();
    }

    /// The resources of the document by identity, contained ones left out.
    pub(super) fn instances(&self) -> BTreeMap<InstanceId, Vec<u32>> {
        let mut instances: BTreeMap<InstanceId, Vec<u32>> = BTreeMap::new();
        for (facts, at) in self.resources.iter().zip(0u32..) {
            if let (Some(id), true) = (&facts.id, facts.place != Place::Contained) {
                instances.entry(InstanceId { kind: facts.kind, id: id.clone() }).or_default().push(at);
            }
        }
        instances
    }

    /// Spreads labels between container and contained, between versions of one record, from an Encounter to what
    /// happened in it, and from a DocumentReference to its Binary, until nothing changes.
    pub(super) fn spread_labels(&mut self) {
        if self.resources.iter().all(|facts| facts.labels.is_empty()) {
            return;
        }
        let instances = if self.resources.len() > 1 { self.instances() } else { BTreeMap::new() };
        loop {
            let before: Vec<LabelSet> = self.resources.iter().map(|facts| facts.labels).collect();
            self.spread_through_containers();
            self.spread_along_references(&instances);
            if self.resources.iter().map(|facts| facts.labels).eq(before) {
                return;
            }
        }
    }

    fn spread_through_containers(&mut self) {
        for at in (0..self.resources.len()).rev() {
            let Some(facts) = self.resources.get(at) else { continue };
            let (labels, parent) = (facts.labels, facts.parent);
            if facts.place == Place::Contained
                && let Some(container) = parent.and_then(|parent| self.resources.get_mut(index(parent)))
            {
                container.inherit(protective(labels));
            }
        }
        for at in 0..self.resources.len() {
            let parent = self.resources.get(at).and_then(|facts| facts.parent);
            let labels = parent.and_then(|parent| self.resources.get(index(parent))).map(|container| container.labels);
            if let (Some(labels), Some(facts)) = (labels, self.resources.get_mut(at)) {
                facts.inherit(protective(labels));
            }
        }
    }

    fn spread_along_references(&mut self, instances: &BTreeMap<InstanceId, Vec<u32>>) {
        // Versions of one record share the strictest labels of any of them.
        for versions in instances.values().filter(|versions| versions.len() > 1) {
            let labels = |at: &u32| self.resources.get(index(*at)).map_or(LabelSet::EMPTY, |facts| facts.labels);
            let all = versions.iter().map(labels).fold(LabelSet::EMPTY, LabelSet::union);
            for at in versions {
                if let Some(facts) = self.resources.get_mut(index(*at)) {
                    facts.inherit(all);
                }
            }
        }
        for use_at in 0..self.uses.len() {
            let Some(Use { resource, reference, .. }) = self.uses.get(use_at).copied() else { continue };
            let Some(Reference::Relative { instance, .. }) = self.references.get(index(reference)).map(|r| &**r) else {
                continue;
            };
            let Some(from_kind) = self.resources.get(index(resource)).map(|facts| facts.kind) else { continue };
            let binary = instance.kind == ResourceType::BINARY && from_kind.as_str() == "DocumentReference";
            if !binary && !spreads(instance.kind) {
                continue;
            }
            for target in instances.get(instance).map(Vec::as_slice).unwrap_or_default() {
                let (from, to) = if binary { (resource, *target) } else { (*target, resource) };
                let labels = self.resources.get(index(from)).map_or(LabelSet::EMPTY, |facts| facts.labels);
                if let Some(facts) = self.resources.get_mut(index(to)) {
                    facts.inherit(spreading(labels));
                }
            }
        }
    }
}

/// What happened in an Encounter or an episode at a program is a record of that program.
fn spreads(kind: ResourceType) -> bool {
    matches!(kind.as_str(), "Encounter" | "EpisodeOfCare")
}

/// Of the labels of a container or of what it contains, those that protect: not what is to be done or was done with it.
fn protective(labels: LabelSet) -> LabelSet {
    let protects = |label: &crate::label::Label| match label.kind() {
        LabelKind::Confidentiality
        | LabelKind::Law
        | LabelKind::Sensitivity
        | LabelKind::Refrain
        | LabelKind::Unknown => true,
        LabelKind::Obligation | LabelKind::Mark | LabelKind::Integrity => false,
    };
    labels.iter().filter(protects).collect()
}

/// Of the labels of a neighbour, those that are about the content: its law, its sensitivity, and what nobody knows.
fn spreading(labels: LabelSet) -> LabelSet {
    let about_content = |label: &crate::label::Label| match label.kind() {
        LabelKind::Law | LabelKind::Sensitivity | LabelKind::Unknown => true,
        LabelKind::Confidentiality
        | LabelKind::Obligation
        | LabelKind::Refrain
        | LabelKind::Mark
        | LabelKind::Integrity => false,
    };
    labels.iter().filter(about_content).collect()
}
