//! Two judges for the redaction targets.
#![allow(dead_code, reason = "each target uses one or both")]

use fhir_profiles::engine::{Judge, ResourceFacts, Verdict};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::reference::Reference;

/// Shows everything.
pub struct All;

impl Judge for All {
    fn resource(&self, _: u32, _: &ResourceFacts) -> Verdict {
        Verdict::Show
    }
    fn element(&self, _: u32, _: &ResourceFacts, _: LabelSet) -> Verdict {
        Verdict::Show
    }
    fn reference(&self, _: &Reference) -> Verdict {
        Verdict::Show
    }
    fn link(&self, _: &str, url: &str) -> Option<String> {
        Some(url.to_owned())
    }
}

/// Withholds what is labelled Part 2 or by an unknown label, and every reference that leaves the document.
pub struct Strict;

pub fn forbidden(labels: LabelSet) -> bool {
    labels.contains(Label::PART2) || labels.contains(Label::UNKNOWN)
}

fn rule(labels: LabelSet) -> Verdict {
    if forbidden(labels) { Verdict::Withhold { rule: 0 } } else { Verdict::Show }
}

impl Judge for Strict {
    fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
        rule(facts.labels)
    }
    fn element(&self, _: u32, _: &ResourceFacts, labels: LabelSet) -> Verdict {
        rule(labels)
    }
    fn reference(&self, _: &Reference) -> Verdict {
        Verdict::Withhold { rule: 1 }
    }
    fn link(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}
