//! From JSON bytes and a verdict function to JSON bytes: what may be seen stays as it was to the byte, what may not is gone.
//!
//! Seam. Two steps, so that everything asynchronous (consents, references) can be resolved between them:
//! 1. [`scan`]: one strict pass finds every resource at any depth and says what it is ([`ResourceFacts`]).
//! 2. [`Document::redact`]: given a [`Judge`], writes the input minus what is withheld plus the listed patches.

use crate::ids::{InstanceId, LogicalId, ResourceType};
use crate::label::LabelSet;
use crate::reference::Reference;

/// Bounds of one document. Beyond any of them the document is withheld whole.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_bytes: usize,
    pub max_depth: u16,
    pub max_resources: u32,
}

/// Where a label came from; kept for explanation and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelSource {
    /// `meta.security`.
    Meta,
    /// DS4P `extension-inline-sec-label` on an element.
    Inline,
    /// A code list, by its index in the labeller.
    Code { list: u16 },
    /// A record of a Part 2 program by organization, location or source tag.
    Source,
    /// Taken over from the container or along a reference.
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

/// What the scanner found out about one resource. Identity is its own, never its position.
#[derive(Clone, Debug)]
pub struct ResourceFacts {
    /// The index of the resource that holds it.
    pub parent: Option<u32>,
    pub place: Place,
    pub kind: ResourceType,
    pub id: Option<LogicalId>,
    /// `Bundle.entry.search.mode` is `include` or `outcome`.
    pub search_mode: Option<SearchMode>,
    /// `meta.versionId`.
    pub version: Option<String>,
    /// The labels of the whole resource: its own, those of its containers, and those its codes or source give it.
    pub labels: LabelSet,
    /// Each label with where it came from.
    pub provenance: Vec<(crate::label::Label, LabelSource)>,
    /// `meta.security` codings that no table knows.
    pub unknown_labels: u32,
    /// The patients whose compartment the resource is in by its subject-type parameters; empty if it is about none.
    pub patients: Vec<Reference>,
    /// All references in the resource, outside contained resources.
    pub references: Vec<Reference>,
    /// The label sets of elements labelled inline, each once.
    pub inline: Vec<LabelSet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchMode {
    Match,
    Include,
    Outcome,
}

/// What may happen to a resource, an element, or a reference. The rule is an index the caller gave meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Show,
    Withhold { rule: u32 },
}

/// The caller's decisions. Pure: everything asynchronous was resolved before.
pub trait Judge {
    /// May this resource, as a whole, be seen?
    fn resource(&self, index: u32, facts: &ResourceFacts) -> Verdict;
    /// May an element with these inline labels be seen, in this resource?
    fn element(&self, index: u32, facts: &ResourceFacts, labels: LabelSet) -> Verdict;
    /// May a reference to an instance that is not in this document be seen? (Those in it follow their resource.)
    fn reference(&self, target: &Reference) -> Verdict;
    /// The URL to show for an absolute URL of the upstream, or `None` to leave it out.
    fn link(&self, relation: &str, url: &str) -> Option<String>;
}

/// `InstanceId` is re-exported for judges that key by it.
pub type Instance = InstanceId;
