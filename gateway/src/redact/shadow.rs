//! Candidate code lists: what they would change is counted and logged, and nothing else.
//!
//! An answer is scanned a second time with them, and the labels of each record compared. Counts and labels only: which
//! record it was stays where it is.

use std::collections::BTreeMap;

use fhir_profiles::engine::{Document, Limits, scan};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::Labeller;

use crate::telemetry::Metrics;

/// Compares the labels of an answer with those that the candidate lists would give it.
pub(super) fn compare(
    body: &[u8],
    document: &Document<'_>,
    candidate: &Labeller,
    (limits, today): (&Limits, &str),
    (endpoint, metrics): (&str, &Metrics),
) {
    // The same bytes were understood a moment ago.
    let Ok(other) = scan(body, limits, candidate, today) else { return };
    for ((label, change), records) in differences(document, &other) {
        metrics.label_shadow(label.code(), change, records);
        tracing::info!(endpoint, label = label.code(), change, records, "the candidate code lists differ");
    }
}

/// By label: how many records would gain it (`added`), and how many would lose it (`removed`).
fn differences(ours: &Document<'_>, theirs: &Document<'_>) -> BTreeMap<(Label, &'static str), u64> {
    let mut counts = BTreeMap::new();
    let mut count = |labels: LabelSet, change: &'static str| {
        for label in labels.iter() {
            *counts.entry((label, change)).or_default() += 1;
        }
    };
    for (_, added, removed) in ours.label_differences(theirs) {
        count(added, "added");
        count(removed, "removed");
    }
    counts
}

#[cfg(test)]
mod tests {
    use fhir_profiles::codes::{CodeEntry, CodeList, Dates, part2_lists};
    use fhir_profiles::label::LabelKind;
    use fhir_profiles::labeller::LabellerConfig;

    use super::*;

    #[test]
    fn what_new_lists_would_change_is_told_by_label_and_count() {
        let body = br#"{"resourceType":"Bundle","type":"searchset","entry":[
            {"resource":{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.20"}]}}},
            {"resource":{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]}}},
            {"resource":{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"I10"}]}}}]}"#;
        let hiv = Label::by_code("HIV", &[LabelKind::Sensitivity]).unwrap();
        let list = CodeList {
            name: "site-hiv".into(),
            version: "1".into(),
            source: "test".into(),
            labels: LabelSet::EMPTY.with(hiv),
            entries: vec![CodeEntry {
                system: "http://hl7.org/fhir/sid/icd-10-cm".into(),
                code: "B20".into(),
                dates: Dates::ALWAYS,
            }],
        };
        let scanned = |lists: Vec<CodeList>| {
            let labeller = Labeller::new(LabellerConfig { lists, ..LabellerConfig::default() });
            scan(body, &Limits::default(), &labeller, "2026-11-22").unwrap()
        };
        let (old, new) = (scanned(part2_lists()), scanned(vec![list]));
        let told: Vec<(&str, &str, u64)> = differences(&old, &new)
            .into_iter()
            .map(|((label, change), records)| (label.code(), change, records))
            .collect();
        assert_eq!(
            told,
            [("42CFRPart2", "removed", 1), ("SUD", "removed", 1), ("SPI", "removed", 1), ("HIV", "added", 1)]
        );
        assert!(differences(&old, &scanned(part2_lists())).is_empty(), "the same lists change nothing");
    }
}
