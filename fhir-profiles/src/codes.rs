//! Labels that follow from clinical codes: dated lists, matched exactly by (system, code), each hit with its list.
//!
//! A code system has several names in the wild (a URL, a CMS URI, an OID). An alias leads each to one name; after that
//! the match is exact, so that `H00.34` in ICD-10 is never HCPCS `H0034`.

mod date;
mod part2;
mod systems;

pub use date::{Date, Dates};
pub use part2::{PART2_VERSION, part2_lists};
pub use systems::canonical_system;

use crate::label::LabelSet;

/// One code of a list, with the dates of service for which it has the listed meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeEntry {
    /// The canonical name of the code system.
    pub system: Box<str>,
    pub code: Box<str>,
    pub dates: Dates,
}

/// A list of codes that give a resource the same labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeList {
    /// Shown in explanations and records.
    pub name: Box<str>,
    /// Shown beside the name: which edition of the list decided.
    pub version: Box<str>,
    /// Where its entries come from.
    pub source: Box<str>,
    pub labels: LabelSet,
    pub entries: Vec<CodeEntry>,
}

/// The form in which codes of a system are compared: trimmed, upper case, and without the dot in ICD, where claims
/// leave it out. Both sides are brought into it.
pub fn comparable(system: &str, code: &str) -> String {
    let icd = system.starts_with("http://hl7.org/fhir/sid/icd-");
    code.trim().chars().filter(|c| !(icd && *c == '.')).map(|c| c.to_ascii_uppercase()).collect()
}
