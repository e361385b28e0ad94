//! What holds for any bytes: the laws of the redaction targets, and the two judges that they ask. The same file is played
//! on the seeds and on generated documents by `cargo test` (fhir-profiles/tests/fuzz.rs).
#![allow(dead_code, reason = "each target uses one law")]

use std::sync::LazyLock;

use fhir_profiles::engine::{
    Judge, Limits, LineWindows, RedactOptions, ResourceFacts, Style, Verdict, grammar, redact_lines, scan,
};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::Labeller;
use fhir_profiles::reference::Reference;

const TODAY: &str = "2026-11-22";

static LABELLER: LazyLock<Labeller> = LazyLock::new(Labeller::default);

/// Any bytes: no panic; what is accepted passes to the byte when all is permitted, and every resource is a document.
pub(crate) fn scanned(bytes: &[u8]) {
    let Ok(document) = scan(bytes, &Limits::default(), &LABELLER, TODAY) else { return };
    assert_eq!(grammar(bytes, &Limits::default()), Ok(()));
    for index in 0..document.resources().len() as u32 {
        scan(document.bytes_of(index), &Limits::default(), &LABELLER, TODAY).expect("a resource is a document");
        let _ = document.codings(index);
    }
    let _ = (document.links(), document.total(), document.label_sources());
    let shown = document.redact(&All, &RedactOptions::verbatim(Style::Silent)).expect("all is permitted");
    assert!(shown.body == bytes, "nothing is hidden, yet something changed");
}

/// Any document: what is shown is a document, holds nothing that the judge withholds, and is shown whole the next time.
pub(crate) fn redacted(bytes: &[u8]) {
    let Ok(document) = scan(bytes, &Limits::default(), &LABELLER, TODAY) else { return };
    for style in [Style::Silent, Style::Marked] {
        let options = RedactOptions::new(style);
        let Ok(redacted) = document.redact(&Strict, &options) else { continue };
        let shown = scan(&redacted.body, &Limits { max_depth: 128, ..Limits::default() }, &LABELLER, TODAY)
            .expect("what is shown is a document");
        for (index, facts) in shown.resources().iter().enumerate() {
            // The envelope itself is nobody's record.
            assert!(index == 0 || !forbidden(facts.labels), "a withheld resource is shown");
            assert!(!facts.inline.iter().any(|labels| forbidden(*labels)), "a withheld element is shown");
        }
        let again = shown.redact(&Strict, &options).expect("what may be seen once may be seen twice");
        assert!(again.body == redacted.body, "twice is once");
    }
}

/// Any lines, cut into any windows: the same lines come out as in one piece, or the same refusal.
pub(crate) fn windowed(size: usize, bytes: &[u8]) {
    let options = RedactOptions::verbatim(Style::Silent);
    let redact = |window: &[u8]| {
        let lines = redact_lines(window, &Limits::default(), &LABELLER, TODAY, &mut |_| Strict, &options);
        lines.map(|lines| lines.body)
    };
    let whole = redact(bytes);
    let mut windows = LineWindows::new();
    let mut shown = Vec::new();
    let mut refused = None;
    for window in bytes.chunks(size.max(1)) {
        match windows.push(window, usize::MAX).and_then(|lines| redact(&lines)) {
            Ok(body) => shown.extend(body),
            Err(error) => {
                refused.get_or_insert(error);
                break;
            }
        }
    }
    if refused.is_none() {
        match redact(&windows.finish()) {
            Ok(body) => shown.extend(body),
            Err(error) => refused = Some(error),
        }
    }
    match (whole, refused) {
        (Ok(whole), None) => assert!(whole == shown, "the windows show something else"),
        (Err(error), Some(refused)) => assert_eq!(error, refused),
        (whole, refused) => panic!("one piece {:?}, windows {refused:?}", whole.is_ok()),
    }
}

/// Shows everything.
pub(crate) struct All;

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
pub(crate) struct Strict;

pub(crate) fn forbidden(labels: LabelSet) -> bool {
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
