//! From JSON bytes and a verdict function to JSON bytes: what may be seen stays as it was to the byte, what may not is gone.
//!
//! Two steps, so that everything asynchronous (consents, references) can be resolved between them:
//! 1. [`scan`]: one strict pass finds every resource at any depth and says what it is ([`ResourceFacts`]).
//! 2. [`Document::redact`]: given a [`Judge`], writes the input minus what is withheld plus the listed patches.

mod document;
mod elements;
mod facts;
mod json;
mod redact;

mod scan;
mod skip;
mod spread;
mod stream;
mod tree;

pub use document::{BundleType, Coding, Document};
pub use facts::{Judge, LabelSource, Limits, Place, ResourceFacts, ScanError, SearchMode, Verdict};

pub use redact::{Level, Notice, RedactError, RedactOptions, Redacted, Removal, Style, Totals};
pub use scan::{grammar, scan};
pub use spread::spreads;
pub use stream::{LineWindows, RedactedLines, lines, redact_lines};

/// Re-exported for judges that key by it.
pub type Instance = crate::ids::InstanceId;
