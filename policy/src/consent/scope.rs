//! What a consent that permits extends to, in words that may go to its recipient.

use core::fmt;

use fhir_profiles::ids::LogicalId;

use super::asked::Asked;
use super::provision::Rule;
use super::separate::is_tpo;
use super::terms::{LabelTerm, PurposeTerm};
use super::walk::{self, Decision};
use super::when::Bound;
use super::{ConsentBook, ConsentQuestion};
use crate::partner::Recipient;

/// The clear explanation of a consent's scope that accompanies each disclosure made with it (42 CFR 2.32(b)).
///
/// Its text names no patient, no consent id, and no other recipient than the one who asks: who else may receive the
/// records is not for this one to know.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsentScope {
    /// The consent that permits.
    pub consent: LogicalId,
    /// The asking recipient, by its own names; none where the consent names nobody.
    pub recipients: Vec<String>,
    /// Purpose codes (v3-ActReason); none where the consent names no purpose.
    pub purposes: Vec<&'static str>,
    /// Label codes; none where the consent covers all information.
    pub labels: Vec<&'static str>,
    /// The last day on which the permit holds, `YYYY-MM-DD`.
    pub until: Option<String>,
    /// It is a single consent for treatment, payment and health care operations (2.31(a)(4)(i), 2.33(a)(2)).
    pub tpo: bool,
}

/// The scopes of the consents that permit what is asked, one for each rule that does. Empty unless
/// [`super::evaluate`] permits.
pub fn scopes(book: &ConsentBook, question: &ConsentQuestion<'_>) -> Vec<ConsentScope> {
    if book.patient != *question.patient || !book.unreadable.is_empty() {
        return Vec::new();
    }
    let asked = Asked::new(book, question);
    let mut scopes = Vec::new();
    for record in &book.records {
        match walk::decide(&asked, record, None) {
            Decision::Permit(paths) => scopes.extend(paths.iter().map(|path| of_path(&asked, record.id(), path))),
            Decision::Deny => return Vec::new(),
            Decision::Silent => {}
        }
    }
    scopes.sort_by(|a, b| a.consent.cmp(&b.consent).then_with(|| a.to_string().cmp(&b.to_string())));
    scopes.dedup();
    scopes
}

fn of_path(asked: &Asked<'_>, consent: &LogicalId, path: &[&Rule]) -> ConsentScope {
    // A nested rule narrows its parent, so the nearest rule that states an element states it best.
    let nearest = |states: fn(&Rule) -> bool| path.iter().rev().find(|rule| states(rule));
    let names_somebody = path.iter().any(|rule| !rule.actors.is_empty());
    let purposes = nearest(|rule| !rule.purposes.is_empty()).map(|rule| rule.purposes.as_slice()).unwrap_or_default();
    let labels = nearest(|rule| !rule.labels.is_empty()).map(|rule| rule.labels.as_slice()).unwrap_or_default();
    ConsentScope {
        consent: consent.clone(),
        recipients: if names_somebody { asked.question.recipients.iter().map(name).collect() } else { Vec::new() },
        purposes: purposes.iter().filter_map(purpose_code).collect(),
        labels: labels.iter().filter_map(label_code).collect(),
        until: path.iter().filter_map(|rule| last_day(rule)).min(),
        tpo: is_tpo(path),
    }
}

fn name(recipient: &Recipient) -> String {
    match recipient {
        Recipient::Reference(reference) => reference.clone(),
        Recipient::Identifier { system, value } => format!("{system}|{value}"),
    }
}

const fn purpose_code(term: &PurposeTerm) -> Option<&'static str> {
    match term {
        PurposeTerm::Known(purpose) => Some(purpose.code()),
        PurposeTerm::Under(_) | PurposeTerm::Unknown => None,
    }
}

fn label_code(term: &LabelTerm) -> Option<&'static str> {
    match term {
        LabelTerm::Known(label) => Some(label.code()),
        LabelTerm::Unknown => None,
    }
}

fn last_day(rule: &Rule) -> Option<String> {
    match rule.period?.end {
        Bound::At(end) => end.last_day(),
        Bound::Open | Bound::Unknown => None,
    }
}

impl fmt::Display for ConsentScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disclosed with the patient's written consent. Recipient: ")?;
        write_list(f, &self.recipients, "as the consent describes")?;
        f.write_str(". Purpose: ")?;
        write_list(f, &self.purposes, "any")?;
        if self.tpo {
            f.write_str(" (single consent for treatment, payment and health care operations)")?;
        }
        f.write_str(". Information: ")?;
        write_list(f, &self.labels, "all")?;
        match &self.until {
            Some(day) => write!(f, ". Expires: at the end of {day}."),
            None => f.write_str(". Expires: when it is revoked."),
        }
    }
}

fn write_list<T: AsRef<str>>(f: &mut fmt::Formatter<'_>, items: &[T], none: &str) -> fmt::Result {
    if items.is_empty() {
        return f.write_str(none);
    }
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        f.write_str(item.as_ref())?;
    }
    Ok(())
}

impl fmt::Debug for ConsentScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentScope")
            .field("purposes", &self.purposes)
            .field("labels", &self.labels)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
