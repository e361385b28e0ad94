//! How a document is redacted, and what comes of it.

use crate::engine::facts::LabelSource;
use crate::label::LabelSet;

/// What a redacted resource says of itself (product: `part2.redaction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// REDACTED in `meta.security`, `data-absent-reason: masked` where an element is required, a `suppressed` outcome.
    Marked,
    /// Nothing differs from a record that never had it.
    Silent,
}

/// What becomes of `Bundle.total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Totals {
    /// It goes, whether or not anything was withheld: a total that is missing only sometimes would tell.
    Remove,
    /// The caller knows that nothing could have been withheld from this answer, or has corrected the total.
    Keep,
}

/// What travels with a disclosure of Part 2 records made with consent (42 CFR 2.32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The statement of 2.32(a); [`Notice::STATEMENT`] or [`Notice::SHORT_STATEMENT`].
    pub statement: String,
    /// A clear explanation of the scope of the consent, 2.32(b).
    pub scope: String,
}

impl Notice {
    /// 42 CFR 2.32(a)(1), as in force since 2024-04-16.
    pub const STATEMENT: &str = "This record which has been disclosed to you is protected by Federal confidentiality rules (42 CFR part 2). These rules prohibit you from using or disclosing this record, or testimony that describes the information contained in this record, in any civil, criminal, administrative, or legislative proceedings by any Federal, State, or local authority, against the patient, unless authorized by the consent of the patient, except as provided at 42 CFR 2.12(c)(5) or as authorized by a court in accordance with 42 CFR 2.64 or 2.65. In addition, the Federal rules prohibit you from making any other use or disclosure of this record unless at least one of the following applies: (i) Further use or disclosure is expressly permitted by the written consent of the individual whose information is being disclosed in this record or as otherwise permitted by 42 CFR part 2. (ii) You are a covered entity or business associate and have received the record for treatment, payment, or health care operations, or (iii) You have received the record from a covered entity or business associate as permitted by 45 CFR part 164, subparts A and E. A general authorization for the release of medical or other information is NOT sufficient to meet the required elements of written consent to further use or redisclose the record (see 42 CFR 2.31).";
    /// 42 CFR 2.32(a)(2).
    pub const SHORT_STATEMENT: &str = "42 CFR part 2 prohibits unauthorized use or disclosure of these records.";
}

/// How a document is redacted.
#[derive(Clone, Copy, Debug)]
pub struct RedactOptions<'a> {
    pub style: Style,
    /// Added to each shown resource that carries [`crate::label::Label::PART2`].
    pub notice: Option<&'a Notice>,
    pub totals: Totals,
    /// The constant informational outcome on every searchset and document in the silent style, and the `suppressed`
    /// outcome in the marked style where something was withheld.
    pub advisory: bool,
    /// Take free text out of OperationOutcomes of the upstream: diagnostics, texts and expressions quote records.
    pub strip_outcomes: bool,
    /// The base URL that clients see. URLs below one of the labeller's bases are rewritten to it.
    pub public_base: Option<&'a str>,
    /// The entry that answers for a withheld one in a batch or transaction response, where position is meaning: the
    /// text of a JSON object, the same as for an instance that does not exist.
    pub missing_entry: &'a str,
}

impl RedactOptions<'_> {
    /// Redaction with everything that goes with it.
    pub const fn new(style: Style) -> Self {
        Self {
            style,
            notice: None,
            totals: Totals::Remove,
            advisory: true,
            strip_outcomes: true,
            public_base: None,
            missing_entry: r#"{"response":{"status":"404 Not Found"}}"#,
        }
    }

    /// Nothing is added and nothing is tidied: what may be seen is the input, to the byte.
    pub const fn verbatim(style: Style) -> Self {
        Self { totals: Totals::Keep, advisory: false, strip_outcomes: false, ..Self::new(style) }
    }
}

/// How much went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// A resource, with all that stands in it.
    Resource,
    /// An element, for its inline labels, or because it cannot stand without one that went.
    Element,
    /// A reference to something withheld.
    Reference,
    /// A narrative, or free text that may repeat what went.
    Text,
    /// An element that had to stay, shown as masked.
    Masked,
}

/// One removal, for explanation and audit: where, why, for which labels. Never what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The resource in which, or which as a whole, was removed.
    pub resource: u32,
    /// From the root, such as `entry[3].resource.component[0]`.
    pub path: String,
    pub level: Level,
    /// The judge's rule. `None` where no rule spoke: what went only repeats or needs what a rule withheld.
    pub rule: Option<u32>,
    pub labels: LabelSet,
    pub source: Option<LabelSource>,
}

/// A redacted document.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted {
    pub body: Vec<u8>,
    pub removals: Vec<Removal>,
    /// The resources that are shown, wholly or in part, in order.
    pub disclosed: Vec<u32>,
    /// Of these, those that lack something.
    pub reduced: Vec<u32>,
}

/// The body never prints.
impl core::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Redacted").field("removals", &self.removals.len()).finish_non_exhaustive()
    }
}

/// Why there is nothing to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedactError {
    /// The root is withheld: the caller answers as for something that does not exist.
    RootWithheld { removals: Vec<Removal> },
}

impl core::fmt::Display for RedactError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::RootWithheld { .. } => f.write_str("the resource is withheld as a whole"),
        }
    }
}

impl core::error::Error for RedactError {}
