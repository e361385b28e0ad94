//! Any document: what is shown is a document, holds nothing that the judge withholds, and is shown whole the next time.
#![no_main]

#[path = "judges.rs"]
mod judges;

use fhir_profiles::engine::{Limits, RedactOptions, Style, scan};
use fhir_profiles::labeller::Labeller;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let labeller = Labeller::default();
    let Ok(document) = scan(bytes, &Limits::default(), &labeller, "2026-11-22") else { return };
    for style in [Style::Silent, Style::Marked] {
        let options = RedactOptions::new(style);
        let Ok(redacted) = document.redact(&judges::Strict, &options) else { continue };
        let shown = scan(&redacted.body, &Limits { max_depth: 128, ..Limits::default() }, &labeller, "2026-11-22")
            .expect("what is shown is a document");
        for (index, facts) in shown.resources().iter().enumerate() {
            // The envelope itself is nobody's record.
            assert!(index == 0 || !judges::forbidden(facts.labels), "a withheld resource is shown");
            assert!(!facts.inline.iter().any(|labels| judges::forbidden(*labels)), "a withheld element is shown");
        }
        let again = shown.redact(&judges::Strict, &options).expect("what may be seen once may be seen twice");
        assert_eq!(again.body, redacted.body);
    }
});
