//! Any query beside any form: merged without loss, or refused.
#![no_main]

use fhir_profiles::interaction::{RequestParts, interpret};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (query, form) = input;
    let parts = RequestParts {
        method: "POST",
        path: "/Observation/_search",
        query: Some(query),
        form: Some(form),
        content_type: Some("application/x-www-form-urlencoded"),
        ..RequestParts::default()
    };
    let Ok(merged) = interpret(&parts) else { return };
    let sent = merged.upstream().expect("a search is sent");
    assert!(sent.query.is_empty(), "nothing of a form stands in a URL");
    let form = sent.form.as_deref().expect("a form stays a form");
    let again = interpret(&RequestParts { query: None, form: Some(form), ..parts }).expect("what is sent parses");
    assert_eq!(again.touched(), merged.touched());
    let alone = |text| interpret(&RequestParts { method: "GET", path: "/Observation", query: text, ..RequestParts::default() });
    let kind = "Observation".parse().expect("a type");
    if let (Ok(url), Some(all)) = (alone(Some(query)), merged.query()) {
        let keys = |asked: &fhir_profiles::search::Query| asked.iter().map(|p| (p.key().to_owned(), p.value().to_owned())).collect::<Vec<_>>();
        let merged = keys(all);
        assert!(keys(url.query().expect("a query")).iter().all(|given| merged.contains(given)), "no criterion of the URL is lost");
        let _ = all.patient_constraint(kind);
    }
});
