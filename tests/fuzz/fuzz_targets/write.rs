//! Any stored and new resource, any patch: no panic, and no label of the stored one is missing afterwards.
#![no_main]

use fhir_profiles::json;
use fhir_profiles::patch::Patch;
use fhir_profiles::preserve;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (stored, new) = input;
    if let Ok(preserved) = preserve::update(Some(stored), new) {
        let body = json::parse(preserved.body.as_bytes()).expect("what is written parses");
        let again = preserve::update(Some(stored), preserved.body.as_bytes()).expect("twice is once");
        assert_eq!(again.restored, 0, "everything was put back the first time");
        assert!(preserve::patch(&json::parse(stored).expect("it was read"), &body).is_ok(), "nothing was lowered");
    }
    if let (Ok(patch), Ok(pre)) = (Patch::parse(new), json::parse(stored)) {
        let _ = patch.apply(&pre);
        assert!(Patch::parse(patch.canonical().as_bytes()).is_ok());
    }
});
