//! Any reference text: what names an instance names it wholly.
#![no_main]

use fhir_profiles::compartment::is_patient;
use fhir_profiles::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let bases = ["https://ehr/fhir"];
    let reference = Reference::parse(text);
    let Some(instance) = reference.on_server(&bases) else { return };
    let relative = instance.relative();
    assert_eq!(Reference::parse(&relative).on_server(&[]), Some(instance));
    let local = text.strip_prefix("https://ehr/fhir/").unwrap_or(text);
    assert!(local == relative || local.strip_prefix(&relative).is_some_and(|rest| rest.starts_with("/_history/")));
    let other = "z0".parse().expect("an id");
    assert_eq!(is_patient(&reference, &other, &bases), relative == "Patient/z0");
});
