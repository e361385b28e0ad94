//! A document that was understood to its last byte.

use core::fmt;
use std::sync::Arc;

use super::facts::ResourceFacts;
use super::json::{Span, Text, decoded, index};
use super::tree::Tree;
use crate::codes::Dates;
use crate::label::LabelSet;
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
    /// The entry that holds it, if it is the resource of one.
    pub(super) entry: Option<Span>,
    /// The index in the array it stands in.
    pub(super) position: u32,
    pub(super) full_url: Option<Text>,
    /// `meta.versionId`.
    pub(super) version: Option<Text>,
    pub(super) bundle_type: Option<BundleType>,
    /// The days its own dates cover.
    pub(super) days: Option<Dates>,
    /// Has a `link` that is no string.
    pub(super) has_links: bool,
    /// Has an object where no Bundle has one.
    pub(super) is_odd: bool,
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
    /// Where absolute URLs of this server start; sorted.
    pub(super) own_urls: Vec<u32>,
    pub(super) bases: Arc<[Box<str>]>,
    /// What a label that nobody knows counts as.
    pub(super) unknown: LabelSet,
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

    /// What another edition of the lists says of the same bytes: by resource, the labels it would add and those it would
    /// not give. The two documents must be scans of the same text.
    pub fn label_differences(&self, other: &Document<'_>) -> Vec<(u32, LabelSet, LabelSet)> {
        let both = self.resources.iter().zip(&other.resources).zip(0u32..);
        both.filter(|((ours, theirs), _)| ours.labels != theirs.labels)
            .map(|((ours, theirs), at)| (at, theirs.labels.without(ours.labels), ours.labels.without(theirs.labels)))
            .collect()
    }

    /// `fullUrl` of the entry that holds a resource.
    pub fn full_url(&self, resource: u32) -> Option<String> {
        let text = self.sites.get(index(resource))?.full_url?;
        Some(decoded(self.text, text).into_owned())
    }

    /// `meta.versionId` of a resource.
    pub fn version(&self, resource: u32) -> Option<String> {
        let text = self.sites.get(index(resource))?.version?;
        Some(decoded(self.text, text).into_owned())
    }

    /// (relation, url) of each link of the root Bundle.
    pub fn links(&self) -> Vec<(String, String)> {
        let tree = self.envelope();
        let links = tree.member(tree.root(), "link").map(|link| tree.items(link)).unwrap_or_default();
        let text = |node, name| tree.member(node, name).and_then(|value| tree.string(value)).unwrap_or_default();
        links.iter().map(|link| (text(*link, "relation").into_owned(), text(*link, "url").into_owned())).collect()
    }

    /// `total` of the root Bundle.
    pub fn total(&self) -> Option<u64> {
        let tree = self.envelope();
        tree.member(tree.root(), "total").and_then(|total| tree.written(total).parse().ok())
    }

    /// The root Bundle, in which the entries are leaves.
    fn envelope(&self) -> Tree<'a> {
        let held = self.held_by(0);
        let mut entries: Vec<Span> = held.iter().filter_map(|(_, held)| self.sites.get(index(*held))?.entry).collect();
        entries.dedup_by_key(|entry| entry.start);
        Tree::but(self, 0, held, &entries)
    }

    /// Each distinct reference of the document, local absolute ones as relative.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter().map(|reference| &**reference)
    }

    /// The references in one resource, outside the resources it holds.
    pub fn references_of(&self, resource: u32) -> impl Iterator<Item = &Reference> {
        self.uses_of(resource).iter().filter_map(|used| self.reference(used.reference))
    }

    pub(super) fn has_own_url(&self, span: Span) -> bool {
        let first = self.own_urls.partition_point(|start| *start < span.start);
        self.own_urls.get(first).is_some_and(|start| *start < span.end)
    }

    pub(super) fn reference(&self, number: u32) -> Option<&Reference> {
        self.references.get(index(number)).map(|reference| &**reference)
    }

    /// The resources that stand directly in this one, with where they stand, in order.
    pub(super) fn held_by(&self, resource: u32) -> Vec<(Span, u32)> {
        let span = self.sites.get(index(resource)).map(|site| site.span).unwrap_or_default();
        let after = self.resources.iter().zip(&self.sites).zip(0u32..).skip(index(resource) + 1);
        let within = after.take_while(|((_, site), _)| site.span.start < span.end);
        let mut held = Vec::with_capacity(if resource == 0 { self.resources.len() } else { 0 });
        held.extend(
            within.filter(|((facts, _), _)| facts.parent == Some(resource)).map(|((_, site), at)| (site.span, at)),
        );
        held
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
}
