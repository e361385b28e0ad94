//! The engine beside a slow, plain reading of the same rules that shares no code with it, on random documents.
//!
//! `FHIRWALL_CASES` sets how many (20,000 by default), `FHIRWALL_SEED` where they start.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod generate;
mod model;

use fhir_profiles::engine::{Judge, Limits, RedactError, RedactOptions, ResourceFacts, Style, Totals, Verdict, scan};
use fhir_profiles::label::{Label, LabelKind, LabelSet};
use fhir_profiles::labeller::{Labeller, LabellerConfig};
use fhir_profiles::reference::Reference;
use serde_json::Value;

/// Withholds what is labelled Part 2, HIV or unknown; references to ids that begin with `h`; links other than `self`.
struct Strict;

fn rule(labels: LabelSet) -> Verdict {
    let hiv = Label::by_code("HIV", &[LabelKind::Sensitivity]).unwrap();
    if labels.intersects([Label::PART2, Label::UNKNOWN, hiv].into_iter().collect()) {
        Verdict::Withhold { rule: 1 }
    } else {
        Verdict::Show
    }
}

impl Judge for Strict {
    fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
        rule(facts.labels)
    }
    fn element(&self, _: u32, _: &ResourceFacts, labels: LabelSet) -> Verdict {
        rule(labels)
    }
    fn reference(&self, target: &Reference) -> Verdict {
        match target {
            Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => {
                if instance.id.as_str().starts_with('h') { Verdict::Withhold { rule: 2 } } else { Verdict::Show }
            }
            Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => Verdict::Show,
        }
    }
    fn link(&self, relation: &str, url: &str) -> Option<String> {
        (relation == "self").then(|| url.to_owned())
    }
}

/// Shows everything.
struct All;

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

fn labeller() -> Labeller {
    Labeller::new(LabellerConfig { bases: vec!["https://ehr/fhir".into()], ..LabellerConfig::default() })
}

/// What the engine shows: `None` if the root is withheld.
fn engine(document: &str, labeller: &Labeller, options: &RedactOptions<'_>) -> Option<Vec<u8>> {
    let scanned = scan(document.as_bytes(), &Limits::default(), labeller, generate::TODAY).expect(document);
    match scanned.redact(&Strict, options) {
        Ok(redacted) => Some(redacted.body),
        Err(RedactError::RootWithheld { .. }) => None,
    }
}

#[track_caller]
fn agree(document: &str, labeller: &Labeller, style: Style, full: bool, seed: u64) {
    let options = if full { RedactOptions::new(style) } else { RedactOptions::verbatim(style) };
    let value: Value = serde_json::from_str(document).unwrap();
    let expected = model::redact(&value, style == Style::Marked, full);
    let got = engine(document, labeller, &options);
    let parsed = got.as_deref().map(|body| serde_json::from_slice::<Value>(body).expect("the output is JSON"));
    if parsed != expected {
        let text = |v: &Option<Value>| v.as_ref().map_or_else(|| "(nothing)".to_owned(), Value::to_string);
        panic!(
            "seed {seed} {style:?} full={full}\ninput  {document}\nengine {}\nmodel  {}",
            text(&parsed),
            text(&expected)
        );
    }
    let Some(body) = got else { return };
    let text = String::from_utf8(body).unwrap();
    assert!(
        !text.contains(generate::CANARY),
        "seed {seed} {style:?}: a canary got out\ninput  {document}\noutput {text}"
    );
    let twice = engine(&text, labeller, &options).map(|body| String::from_utf8(body).unwrap());
    assert_eq!(twice.as_deref(), Some(text.as_str()), "seed {seed}: twice is once\ninput {document}");
}

#[test]
fn the_engine_agrees_with_the_plain_reading() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (cases, start) = (number("FHIRWALL_CASES", 20_000), number("FHIRWALL_SEED", 1));
    let labeller = labeller();
    let mut withheld = 0u64;
    for seed in start..start + cases {
        let document = generate::document(seed);
        let style = if seed.is_multiple_of(2) { Style::Silent } else { Style::Marked };
        agree(&document, &labeller, style, seed.is_multiple_of(3), seed);

        let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, generate::TODAY).unwrap();
        let everything = scanned.redact(&All, &RedactOptions::verbatim(style)).unwrap();
        assert!(everything.body == document.as_bytes(), "seed {seed}: nothing to hide, yet changed");
        let kept = RedactOptions { totals: Totals::Keep, ..RedactOptions::verbatim(style) };
        withheld += u64::from(scanned.redact(&Strict, &kept).is_err());
    }
    assert!(withheld < cases * 9 / 10, "most documents show something: {withheld} of {cases} did not");
}

/// Errors and debug output are for operators: content does not print.
#[test]
fn nothing_that_prints_holds_content() {
    let labeller = labeller();
    for seed in 1..500 {
        let document = generate::document(seed);
        let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, generate::TODAY).unwrap();
        let printed = format!(
            "{scanned:?} {:?}",
            scanned.redact(&Strict, &RedactOptions::new(Style::Silent)).map(|r| r.removals)
        );
        assert!(!printed.contains(generate::CANARY), "{printed}");
        let cut = document.get(..document.len() / 2).unwrap_or_default();
        let refused = scan(cut.as_bytes(), &Limits::default(), &labeller, generate::TODAY).unwrap_err();
        assert!(!format!("{refused:?} {refused}").contains(generate::CANARY));
    }
}

/// Every prefix and many mutations of a document: refused, or redacted without a canary, and never a panic.
#[test]
fn broken_documents_are_refused_or_redacted() {
    let labeller = labeller();
    for seed in 1..400 {
        let document = generate::document(seed).into_bytes();
        let mut random = generate::Random::new(seed);
        for _ in 0..40 {
            let mut bytes = document.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = b"{}[]\",:\\x0 "[random.below(11)],
                    _ => drop(bytes.remove(at)),
                }
                if bytes.is_empty() {
                    bytes.push(b'{');
                }
            }
            let ours = scan(&bytes, &Limits::default(), &labeller, generate::TODAY);
            let theirs: Result<Value, _> = serde_json::from_slice(&bytes);
            if let Ok(scanned) = ours {
                assert!(theirs.is_ok(), "accepted what serde_json refuses: {}", String::from_utf8_lossy(&bytes));
                if let Ok(redacted) = scanned.redact(&Strict, &RedactOptions::new(Style::Marked)) {
                    serde_json::from_slice::<Value>(&redacted.body).expect("the output is JSON");
                }
            }
        }
    }
}
