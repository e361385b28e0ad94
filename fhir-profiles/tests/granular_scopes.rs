//! Granular scopes: what a criterion finds in a body, and that what cannot be evaluated denies.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use fhir_profiles::search::{CannotEvaluate, Query, matches_value};
use serde_json::{Value, json};

const BASES: &[&str] = &["https://ehr/fhir"];

fn evaluate(resource: &Value, criteria: &str) -> Result<bool, CannotEvaluate> {
    let kind = resource["resourceType"].as_str().unwrap().parse().unwrap();
    matches_value(resource, kind, &Query::criteria(kind, &criteria.replace('|', "%7C")).unwrap(), BASES)
}

#[track_caller]
fn finds(resource: &Value, criteria: &str) {
    assert_eq!(evaluate(resource, criteria), Ok(true), "{criteria}");
}

#[track_caller]
fn misses(resource: &Value, criteria: &str) {
    assert_eq!(evaluate(resource, criteria), Ok(false), "{criteria}");
}

#[track_caller]
fn denies(resource: &Value, criteria: &str) {
    assert!(evaluate(resource, criteria).is_err(), "{criteria}");
}

fn observation() -> Value {
    json!({
        "resourceType": "Observation", "id": "o", "status": "final",
        "meta": {"lastUpdated": "2024-05-01T10:00:00Z", "profile": ["http://p"]},
        "category": [
            {"coding": [{"system": "http://other", "code": "x"}]},
            {"coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"},
                {"code": "lab"}
            ]}
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5"}], "text": "glucose"},
        "subject": {"reference": "https://ehr/fhir/Patient/a"},
        "performer": [{"identifier": {"value": "p"}}],
        "effectivePeriod": {"start": "2024-04-30", "end": "2024-05-01T12:00:00Z"},
        "valueQuantity": {"value": 5.4, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    })
}

#[test]
fn tokens_are_compared_with_their_system() {
    let o = observation();
    finds(&o, "category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory");
    finds(&o, "category=laboratory");
    finds(&o, "category=nothing,laboratory");
    finds(&o, "category=|lab");
    finds(&o, "category=http://other|");
    misses(&o, "category=http://other|laboratory");
    misses(&o, "category=|laboratory");
    misses(&o, "category=Laboratory");
    misses(&o, "category=vital-signs");
    finds(&o, "category=laboratory&code=http://loinc.org|1234-5");
    misses(&o, "category=laboratory&code=9");
    finds(&o, "status=final");
    misses(&o, "status:not=final");
    finds(&o, "status:not=amended");
    denies(&o, "status=http://hl7.org/fhir/observation-status|final");
}

#[test]
fn references_are_compared_by_parts() {
    let o = observation();
    for mine in ["patient=a", "patient=Patient/a", "subject=Patient/a", "subject:Patient=a", "subject=a"] {
        finds(&o, mine);
    }
    for other in [
        "patient=b",
        "patient=ab",
        "subject=Group/a",
        "subject:Group=a",
        "performer=Practitioner/p",
        "subject=https://other/fhir/Patient/a",
    ] {
        misses(&o, other);
    }
}

#[test]
fn dates_are_compared_as_ranges() {
    let o = observation();
    for inside in [
        "date=2024",
        "date=ge2024-04-30",
        "date=le2024-05-02",
        "date=gt2024-04",
        "date=lt2024-05",
        "date=sa2024-04-29",
        "date=eb2024-05-02",
        "date=ne2024-05-01",
        "date=ge2024&date=lt2025",
        "_lastUpdated=2024-05-01",
    ] {
        finds(&o, inside);
    }
    for outside in [
        "date=2024-05-01",
        "date=gt2024-05-01",
        "date=lt2024-04-30",
        "date=sa2024-04-30",
        "date=eb2024-05-01",
        "date=2023",
        "_lastUpdated=gt2024-05-01T10:00:00Z",
    ] {
        misses(&o, outside);
    }
    denies(&o, "date=ap2024");
    let mut open = observation();
    open["effectivePeriod"] = json!({"start": "2024-04-30"});
    finds(&open, "date=gt2030");
    misses(&open, "date=2024");
    open["effectivePeriod"] = json!({"start": "soon"});
    denies(&open, "date=2024");
}

#[test]
fn quantities_strings_and_uris() {
    let o = observation();
    for inside in [
        "value-quantity=5.4",
        "value-quantity=5",
        "value-quantity=gt5|http://unitsofmeasure.org|mmol/L",
        "value-quantity=5.4||mmol/L",
        "_profile=http://p",
        "_id=o,x",
    ] {
        finds(&o, inside);
    }
    for outside in [
        "value-quantity=5.3",
        "value-quantity=5.40001",
        "value-quantity=gt5.4",
        "value-quantity=5.4|http://unitsofmeasure.org|mg",
        "_profile=http://q",
        "_id=x",
    ] {
        misses(&o, outside);
    }
    let p = json!({"resourceType": "Patient", "id": "a", "active": true,
        "name": [{"family": "Österberg", "given": ["Ann", "Lee"]}],
        "telecom": [{"system": "phone", "value": "555"}, {"system": "email", "value": "a@b.c"}],
        "address": [{"city": "Oslo"}], "birthDate": "1970-02-03"});
    for inside in [
        "name=öster",
        "given=lee",
        "family:exact=Österberg",
        "name:contains=berg",
        "address=os",
        "phone=555",
        "email=a@b.c",
        "telecom=555",
        "active=true",
        "birthdate=1970",
        "birthdate=lt1980-01-01",
    ] {
        finds(&p, &inside.replace('ö', "%C3%B6").replace('Ö', "%C3%96"));
    }
    for outside in [
        "given=ee",
        "family:exact=%C3%B6sterberg",
        "phone=a@b.c",
        "active=false",
        "address-city=Bergen",
        "birthdate=1971",
    ] {
        misses(&p, outside);
    }
}

#[test]
fn what_cannot_be_evaluated_denies() {
    let o = observation();
    for criteria in [
        "patient.name=x",
        "_has:Observation:derived-from:code=x",
        "code-value-quantity=x$5",
        "_include=Observation:subject",
        "_sort=date",
        "category=nothing&date=ap2024",
    ] {
        denies(&o, &criteria.replace('$', "%24"));
    }
    denies(&json!({"resourceType": "Patient", "id": "a", "deceasedBoolean": false}), "deceased=false");
    let observation = "Observation".parse().unwrap();
    let query = Query::criteria(observation, "status=final").unwrap();
    assert!(matches_value(&json!({"resourceType": "Condition", "status": "final"}), observation, &query, &[]).is_err());
    for twice in [&br#"{"resourceType":"Observation","status":"x","status":"final"}"#[..], b"", b"{"] {
        assert!(fhir_profiles::search::matches(twice, observation, &query, &[]).is_err());
    }
    for unknown in ["_filter=x", "category:in=x", "nothing=x", "_count=3", "_elements=code", "category=", "category"] {
        assert!(Query::criteria(observation, unknown).is_err(), "{unknown}");
    }
}

#[test]
fn a_body_without_the_element_never_matches_a_plain_criterion() {
    let bare = json!({"resourceType": "Observation", "id": "o"});
    for criteria in ["category=laboratory", "patient=a", "date=ne2024", "value-quantity=ne5", "status=final"] {
        misses(&bare, criteria);
    }
}
