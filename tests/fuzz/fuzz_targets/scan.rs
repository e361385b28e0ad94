//! Any bytes: no panic; what is accepted passes to the byte when all is permitted, and every resource is a document.
#![no_main]

#[path = "judges.rs"]
mod judges;

use fhir_profiles::engine::{Limits, RedactOptions, Style, grammar, scan};
use fhir_profiles::labeller::Labeller;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let labeller = Labeller::default();
    let Ok(document) = scan(bytes, &Limits::default(), &labeller, "2026-11-22") else { return };
    assert_eq!(grammar(bytes, &Limits::default()), Ok(()));
    for index in 0..document.resources().len() as u32 {
        scan(document.bytes_of(index), &Limits::default(), &labeller, "2026-11-22").expect("a resource is a document");
        let _ = document.codings(index);
    }
    let _ = (document.links(), document.total(), document.label_sources());
    let shown = document.redact(&judges::All, &RedactOptions::verbatim(Style::Silent)).expect("all is permitted");
    assert_eq!(shown.body, bytes);
});
