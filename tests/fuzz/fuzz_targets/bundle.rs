//! Any Bundle: no panic; a transaction that is written parses back and touches the same.
#![no_main]

use fhir_profiles::bundle;
use fhir_profiles::interaction::Interaction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(interaction) = bundle::parse(body, "https://b/fhir", bundle::MAX_ENTRIES) else { return };
    let touched = interaction.touched();
    let Interaction::Transaction { entries } = &interaction else { return };
    assert!(entries.iter().all(|entry| entry.request.is_ok()), "a transaction with a refused entry is refused");
    if let Some(written) = bundle::write(entries) {
        let again = bundle::parse(written.as_bytes(), "https://b/fhir", bundle::MAX_ENTRIES).expect("what is written parses");
        assert_eq!(again.touched(), touched);
    }
});
