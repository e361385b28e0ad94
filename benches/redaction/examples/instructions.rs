//! One of two works, so many times over: redacting a page, or naming a request. What is counted is how many instructions one
//! more round takes, which no neighbour on the machine changes: `.ci/outside instructions`.
//!
//! `instructions redact|interpret ROUNDS`
#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement may stop at the first surprise")]

#[path = "../benches/redaction/corpus.rs"]
mod corpus;

use std::hint::black_box;

use fhir_profiles::engine::{Judge, Limits, RedactOptions, ResourceFacts, Style, Verdict, scan};
use fhir_profiles::interaction::{RequestParts, interpret};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::Labeller;
use fhir_profiles::reference::Reference;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [work, rounds] = arguments.as_slice() else { panic!("instructions redact|interpret ROUNDS") };
    let rounds: usize = rounds.parse().unwrap();
    match work.as_str() {
        "redact" => redact(rounds),
        "interpret" => (0..rounds).for_each(|_| name()),
        other => panic!("no such work: {other}"),
    }
}

/// Withholds Part 2 records and elements.
struct NoPart2;

impl NoPart2 {
    fn of(labels: LabelSet) -> Verdict {
        if labels.contains(Label::PART2) { Verdict::Withhold { rule: 0 } } else { Verdict::Show }
    }
}

impl Judge for NoPart2 {
    fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
        Self::of(facts.labels)
    }
    fn element(&self, _: u32, _: &ResourceFacts, labels: LabelSet) -> Verdict {
        Self::of(labels)
    }
    fn reference(&self, _: &Reference) -> Verdict {
        Verdict::Show
    }
    fn link(&self, _: &str, url: &str) -> Option<String> {
        Some(url.to_owned())
    }
}

/// A page of 100 KiB, as the bench has it.
fn redact(rounds: usize) {
    let labeller = Labeller::default();
    let page = corpus::bundle(100 << 10);
    for _ in 0..rounds {
        let document = scan(black_box(&page), &Limits::default(), &labeller, "2026-11-22").unwrap();
        black_box(document.redact(&NoPart2, &RedactOptions::verbatim(Style::Silent)).unwrap().body);
    }
}

/// A plain search, held to what the gateway asks of it.
fn name() {
    let parts = RequestParts {
        method: "GET",
        path: "/Observation",
        query: Some("patient=a&category=laboratory&date=ge2024-01-01&_count=50&_sort=-date"),
        base: "https://fhir.example.org/fhir",
        ..RequestParts::default()
    };
    let named = interpret(black_box(&parts)).unwrap();
    black_box((named.touched(), named.upstream()));
}
