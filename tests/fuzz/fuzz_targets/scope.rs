//! Any scope text: no panic, and granular criteria that are kept can be asked of a body without one either.
#![no_main]

use fhir_profiles::ids::ResourceType;
use fhir_profiles::search::{Query, matches};
use fhirwall_policy::scope::ScopeSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, body) = input;
    let scopes: Vec<&str> = text.split(' ').collect();
    let _ = ScopeSet::parse(&scopes);
    for kind in ["Observation", "Condition", "Patient", "DocumentReference"] {
        let kind: ResourceType = kind.parse().expect("a type");
        if let Some((_, criteria)) = text.split_once('?')
            && let Ok(query) = Query::criteria(kind, criteria)
        {
            let _ = matches(body, kind, &query, &["https://b/fhir"]);
        }
    }
});
