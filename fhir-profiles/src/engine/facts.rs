//! What the scanner says of a resource, and what a judge may answer.

use core::fmt;
use std::sync::Arc;

use crate::ids::{LogicalId, ResourceType};
use crate::label::{Label, LabelSet};
use crate::reference::Reference;

/// Bounds of one document. Beyond any of them the document is withheld whole.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_bytes: usize,
    /// Nesting of objects and arrays; values above 128 count as 128.
    pub max_depth: u16,
    pub max_resources: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_depth: 64, max_resources: 200_000 }
    }
}

/// Why a document was not understood to its last byte. Carries nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScanError {
    /// Not RFC 8259.
    Syntax,
    /// Not UTF-8, or a lone surrogate: readers would disagree on the text.
    Encoding,
    /// A member name stands twice in one object: readers would disagree on the value.
    DuplicateMember,
    TooLarge,
    TooDeep,
    TooManyResources,
    /// A resource is required here and something else stands here.
    NotAResource,
    /// `resourceType` is no R4 resource type.
    UnknownType,
    /// `resourceType` stands in an object where no resource may stand.
    MisplacedResource,
    /// An object stands where FHIR has an array, or the reverse, on a path that labels or resources depend on.
    Shape,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not JSON",
            Self::Encoding => "not well-formed Unicode",
            Self::DuplicateMember => "a member name stands twice in one object",
            Self::TooLarge => "larger than the configured bound",
            Self::TooDeep => "nested deeper than the configured bound",
            Self::TooManyResources => "more resources than the configured bound",
            Self::NotAResource => "no resource where one is required",
            Self::UnknownType => "not an R4 resource type",
            Self::MisplacedResource => "a resource where none may stand",
            Self::Shape => "an object where an array belongs, or the reverse",
        })
    }
}

impl core::error::Error for ScanError {}

/// Where a label came from; kept for explanation and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelSource {
    /// `meta.security`, `DocumentReference.securityLabel`, `Composition.confidentiality`.
    Meta,
    /// DS4P `extension-inline-sec-label`.
    Inline,
    /// A code list, by its index in the labeller.
    Code { list: u16 },
    /// A record of a Part 2 program by organization, location or source tag.
    Source,
    /// Taken over from the container, from what it contains, or along a reference.
    Propagated,
}

/// Where a resource stands in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Root,
    /// `Bundle.entry[].resource`, of the root or of a nested Bundle.
    Entry,
    /// `Bundle.entry[].response.outcome`.
    EntryOutcome,
    Contained,
    /// `Parameters.parameter[..].resource`.
    Parameter,
}

/// `Bundle.entry.search.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchMode {
    Match,
    Include,
    Outcome,
}

/// What the scanner found out about one resource. Identity is its own, never its position.
#[derive(Clone)]
pub struct ResourceFacts {
    /// The index of the resource that holds it.
    pub parent: Option<u32>,
    pub place: Place,
    pub kind: ResourceType,
    /// `None` if absent or not a legal id.
    pub id: Option<LogicalId>,
    pub search_mode: Option<SearchMode>,
    /// The labels of the whole resource: its own, those of its containers and of what it contains, and those its codes
    /// or its source give it.
    pub labels: LabelSet,
    /// Each label with where it came from.
    pub provenance: Vec<(Label, LabelSource)>,
    /// Label codings that no table knows; each also put [`Label::UNKNOWN`] into `labels`.
    pub unknown_labels: u32,
    /// The patients that the resource is about by its subject-type elements; empty if it is about none. A subject
    /// that names no instance (by identifier or display alone) is [`Reference::Opaque`].
    pub patients: Vec<Arc<Reference>>,
    /// The label sets of elements labelled inline, each once.
    pub inline: Vec<LabelSet>,
}

impl ResourceFacts {
    /// A resource with nothing known but its identity.
    pub const fn bare(kind: ResourceType, id: Option<LogicalId>) -> Self {
        Self {
            parent: None,
            place: Place::Root,
            kind,
            id,
            search_mode: None,
            labels: LabelSet::EMPTY,
            provenance: Vec::new(),
            unknown_labels: 0,
            patients: Vec::new(),
            inline: Vec::new(),
        }
    }

    pub(super) fn label(&mut self, labels: LabelSet, source: LabelSource) {
        for label in labels.iter() {
            if !self.provenance.contains(&(label, source)) {
                self.provenance.push((label, source));
            }
        }
        self.labels = self.labels.union(labels);
    }

    /// Takes labels over; only those that are new get a provenance.
    pub(super) fn inherit(&mut self, labels: LabelSet) {
        let new = labels.without(self.labels);
        if !new.is_empty() {
            self.label(new, LabelSource::Propagated);
        }
    }
}

/// Ids are PHI: only the kind, the place and the labels print.
impl fmt::Debug for ResourceFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceFacts")
            .field("kind", &self.kind)
            .field("place", &self.place)
            .field("labels", &self.labels)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}

/// What may happen to a resource, an element, or a reference. The rule is an index the caller gave meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Show,
    Withhold { rule: u32 },
}

/// The caller's decisions. Pure: everything asynchronous was resolved before.
///
/// Asked for every resource but the Bundle that transports an answer (a root of type searchset, history,
/// batch-response or transaction-response): that one is nobody's record, and its labels stand on each of its entries.
/// OperationOutcomes are asked for like any other resource.
pub trait Judge {
    /// May this resource, as a whole, be seen?
    fn resource(&self, index: u32, facts: &ResourceFacts) -> Verdict;
    /// May an element with these inline labels be seen, in this resource? The labels of the resource stand in `facts`.
    fn element(&self, index: u32, facts: &ResourceFacts, labels: LabelSet) -> Verdict;
    /// May a reference to an instance that is not in this document be seen? (Those in it follow their resource.)
    fn reference(&self, target: &Reference) -> Verdict;
    /// The URL to show for a `Bundle.link`, or `None` to leave it out.
    fn link(&self, relation: &str, url: &str) -> Option<String>;
}
