//! Request Bundles: every entry is the request it would be alone, and nothing hides in one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use fhir_profiles::bundle::{self, Entry};
use fhir_profiles::interaction::{Access, Interaction, ParseError, Path, RequestParts, interpret};
use serde_json::{Value, json};

const BASE: &str = "https://fhir.example.org/fhir";

fn post(body: &str) -> Result<Interaction, ParseError> {
    interpret(&RequestParts {
        method: "POST",
        path: "/",
        content_type: Some("application/fhir+json"),
        body: Some(body.as_bytes()),
        base: BASE,
        ..RequestParts::default()
    })
}

fn of_type(kind: &str, entries: &Value) -> Result<Interaction, ParseError> {
    post(&json!({"resourceType": "Bundle", "type": kind, "entry": entries}).to_string())
}

fn entry(method: &str, url: &str) -> Value {
    json!({"request": {"method": method, "url": url}})
}

fn with(method: &str, url: &str, resource: Value) -> Value {
    json!({"resource": resource, "request": {"method": method, "url": url}})
}

/// What a batch makes of one entry.
fn alone(entry: &Value) -> Result<Interaction, ParseError> {
    entries(&of_type("batch", &json!([entry])).unwrap())[0].request.clone()
}

fn entries(interaction: &Interaction) -> &[Entry] {
    let (Interaction::Batch { entries } | Interaction::Transaction { entries }) = interaction else {
        panic!("no Bundle: {interaction:?}")
    };
    entries
}

fn observation() -> Value {
    json!({"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/A"}})
}

#[test]
fn row_17_each_entry_is_its_own_request() {
    let delete = alone(&entry("DELETE", "Observation?patient=A,B")).unwrap();
    assert_eq!(delete.touched().iter().map(|fact| fact.access).collect::<Vec<_>>(), [Access::Delete, Access::Search]);
    assert!(matches!(alone(&entry("GET", "Patient/A/$everything")), Ok(Interaction::Operation { .. })));
    let mut conditional = with("POST", "Observation", observation());
    conditional["request"]["ifNoneExist"] = json!("patient=B");
    assert!(matches!(alone(&conditional), Ok(Interaction::ConditionalCreate { .. })));
    for (method, url) in [
        ("GET", "Patient/A"),
        ("GET", "/Patient/A"),
        ("GET", "https://fhir.example.org/fhir/Patient/A"),
        ("HEAD", "Patient/A"),
    ] {
        assert_eq!(alone(&entry(method, url)).unwrap().upstream().unwrap().path, "/Patient/A", "{url}");
    }
    for url in [
        "https://other/fhir/Patient/A",
        "https://fhir.example.org/fhirPatient/A",
        "https://fhir.example.org/fhir.evil/Patient/A",
        "//other/Patient/A",
        "urn:uuid:0",
        "Patient/A/../B",
        "Patient/%41",
        "Patient//A",
        "Patient/A/",
        "Patient/A#x",
    ] {
        let refused = alone(&entry("GET", url));
        assert!(matches!(refused, Err(ParseError::MalformedBundle | ParseError::MalformedPath)), "{url}: {refused:?}");
    }
    for method in ["TRACE", "get", "", "OPTIONS"] {
        assert_eq!(alone(&entry(method, "Patient/A")), Err(ParseError::NoInteraction), "{method}");
    }
    assert_eq!(alone(&entry("GET", "Patient?_filter=x")), Err(ParseError::ParameterNotAllowed));
    assert_eq!(alone(&entry("GET", "metadata")), Err(ParseError::UnsupportedInteraction));
    assert_eq!(alone(&entry("GET", "_page/abc")), Err(ParseError::UnsupportedInteraction));
}

#[test]
fn row_17_no_batch_hides_in_an_entry() {
    let inner = json!({"resourceType": "Bundle", "type": "batch", "entry": [entry("GET", "Patient/B")]});
    for url in ["", "/", BASE] {
        assert_eq!(alone(&with("POST", url, inner.clone())), Err(ParseError::NestedBundle), "{url}");
    }
    assert_eq!(alone(&with("POST", "Bundle", inner)), Err(ParseError::NestedBundle));
    let document = json!({"resourceType": "Bundle", "type": "document"});
    assert!(matches!(alone(&with("POST", "Bundle", document)), Ok(Interaction::Create { .. })));
}

#[test]
fn a_resource_belongs_to_its_request() {
    assert!(matches!(alone(&with("POST", "Observation", observation())), Ok(Interaction::Create { .. })));
    let mut stored = observation();
    stored["id"] = json!("o");
    assert!(matches!(alone(&with("PUT", "Observation/o", stored.clone())), Ok(Interaction::Update { .. })));
    assert_eq!(alone(&with("PUT", "Observation/other", stored.clone())), Err(ParseError::MalformedBundle));
    assert_eq!(alone(&with("PUT", "Observation/o", observation())), Err(ParseError::MalformedBundle));
    assert_eq!(alone(&with("POST", "Condition", observation())), Err(ParseError::MalformedBundle));
    assert_eq!(alone(&with("GET", "Observation/o", stored)), Err(ParseError::MalformedBundle));
    assert!(alone(&entry("POST", "Observation")).is_err());
    assert_eq!(alone(&json!({"resource": observation()})), Err(ParseError::MalformedBundle));
    let mut modified = entry("GET", "Patient/A");
    modified["modifierExtension"] = json!([{"url": "x"}]);
    assert_eq!(alone(&modified), Err(ParseError::MalformedBundle));
    let mut tagged = entry("DELETE", "Observation/o");
    for (tag, right) in [("W/\"3\"", true), ("\"3\"", true), ("3", false), ("*", false), ("W/\"3\", W/\"4\"", false)] {
        tagged["request"]["ifMatch"] = json!(tag);
        assert_eq!(alone(&tagged).is_ok(), right, "{tag}");
    }
    let patch = json!({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W10="});
    assert!(alone(&with("PATCH", "Observation/o", patch)).is_err());
}

#[test]
fn conditional_references_are_searches_of_a_transaction() {
    let mut conditional = observation();
    conditional["performer"] = json!([{"reference": "Practitioner?identifier=x"}]);
    assert_eq!(alone(&with("POST", "Observation", conditional)), Err(ParseError::UnsupportedInteraction));
    let mut conditional = observation();
    conditional["performer"] = json!([{"reference": "Practitioner?identifier=x"}]);
    let transaction = of_type("transaction", &json!([with("POST", "Observation", conditional)])).unwrap();
    let touched = transaction.touched();
    let practitioner = touched.iter().find(|fact| fact.kind.as_str() == "Practitioner").unwrap();
    assert_eq!(practitioner.access, Access::Search);
    assert_eq!(entries(&transaction)[0].searches.len(), 1);
    let mut canonical = observation();
    canonical["extension"] = json!([{"url": "http://x?y", "valueUri": "http://x?y=z"}]);
    assert!(alone(&with("POST", "Observation", canonical)).is_ok());
}

#[test]
fn row_18_only_batch_and_transaction_are_requests() {
    for kind in ["document", "message", "history", "searchset", "collection", "batch-response", "Batch", ""] {
        assert_eq!(of_type(kind, &json!([])), Err(ParseError::BundleTypeNotAccepted), "{kind}");
    }
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"resourceType":"Bundle"}"#,
        r#"{"resourceType":"Patient","type":"batch"}"#,
        r#"{"resourceType":"Bundle","type":"message","type":"batch"}"#,
        r#"{"resourceType":"Bundle","type":"batch","entry":{}}"#,
        r#"{"resourceType":"Bundle","type":"batch","implicitRules":"x"}"#,
        r#"{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/A","url":"Patient/B"}}]}"#,
        "\u{feff}{\"resourceType\":\"Bundle\",\"type\":\"batch\"}",
    ] {
        assert_eq!(post(wrong), Err(ParseError::MalformedBundle), "{wrong}");
    }
    assert!(matches!(of_type("batch", &json!([])), Ok(Interaction::Batch { .. })));
    let many: Vec<Value> = (0..=bundle::MAX_ENTRIES).map(|_| entry("GET", "Patient/A")).collect();
    assert_eq!(of_type("batch", &json!(many)), Err(ParseError::TooManyEntries));
    let few = br#"{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/A"}}]}"#;
    assert!(bundle::parse(few, BASE, 1).is_ok());
    assert_eq!(bundle::parse(few, BASE, 0), Err(ParseError::TooManyEntries));
    let xml = RequestParts {
        method: "POST",
        path: "/",
        content_type: Some("application/fhir+xml"),
        body: Some(b"<Bundle/>"),
        ..RequestParts::default()
    };
    assert_eq!(interpret(&xml), Err(ParseError::UnsupportedMediaType));
}

#[test]
fn a_batch_refuses_one_entry_and_a_transaction_all() {
    let both = json!([entry("GET", "Patient/A"), entry("GET", "Patient?_filter=x")]);
    let batch = of_type("batch", &both).unwrap();
    assert!(entries(&batch)[0].request.is_ok());
    assert_eq!(entries(&batch)[1].request, Err(ParseError::ParameterNotAllowed));
    assert_eq!(of_type("transaction", &both), Err(ParseError::ParameterNotAllowed));
}

#[test]
fn a_transaction_writes_no_instance_twice_and_refers_to_its_own_entries() {
    let stored = json!({"resourceType": "Observation", "id": "o"});
    let twice = json!([with("PUT", "Observation/o", stored.clone()), entry("DELETE", "Observation/o")]);
    assert_eq!(of_type("transaction", &twice), Err(ParseError::MalformedBundle));
    assert!(of_type("batch", &twice).is_ok());
    assert!(
        of_type("transaction", &json!([with("PUT", "Observation/o", stored), entry("GET", "Observation/o")])).is_ok()
    );

    let urn = "urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9";
    let patient = json!({"fullUrl": urn, "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}});
    let child = with("POST", "Observation", json!({"resourceType": "Observation", "subject": {"reference": urn}}));
    assert!(of_type("transaction", &json!([patient, child])).is_ok());
    assert_eq!(of_type("transaction", &json!([child])), Err(ParseError::MalformedBundle));
    assert_eq!(of_type("transaction", &json!([patient, patient])), Err(ParseError::MalformedBundle));
}

#[test]
fn an_entry_of_a_transaction_goes_by_its_own_name() {
    let named = |url: &str| {
        let mut entry = with("PUT", "Patient/A", json!({"resourceType": "Patient", "id": "A"}));
        entry["fullUrl"] = json!(url);
        of_type("transaction", &json!([entry]))
    };
    assert!(named("urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9").is_ok());
    assert!(named(&format!("{BASE}/Patient/A")).is_ok());
    for other in [format!("{BASE}/Patient/B"), "https://other/fhir/Patient/A".into(), "Patient/B".into()] {
        assert_eq!(named(&other), Err(ParseError::MalformedBundle), "{other}");
    }
}

#[test]
fn facts_are_the_same_whatever_the_order_or_number_of_entries() {
    let a = entry("GET", "Observation?patient=A&_include=Observation:subject");
    let b = with("POST", "Observation", observation());
    let c = entry("GET", "Condition/x");
    let facts = |entries: Value| of_type("batch", &entries).unwrap().touched();
    let expected = facts(json!([a, b, c]));
    assert_eq!(facts(json!([c, b, a])), expected);
    assert_eq!(facts(json!([b, a, a, c, b])), expected);
    assert!(expected.iter().any(|fact| fact.path == Path::AnyOf));
}

#[test]
fn a_transaction_is_written_from_what_was_parsed() {
    let body = r#"{"resourceType":"Bundle","type":"transaction","signature":{"x":1},"entry":[
        {"fullUrl":"urn:uuid:1","search":{"mode":"match"},"resource":{"resourceType":"Observation","valueQuantity":{"value":1.10}},"request":{"method":"POST","url":"/Observation","extension":[]}},
        {"request":{"method":"GET","url":"Observation?patient=Patient%2FA&_elements=code"}},
        {"resource":{"resourceType":"Patient","id":"A"},"request":{"method":"PUT","url":"Patient/A","ifMatch":"W/\"3\""}}]}"#;
    let transaction = post(body).unwrap();
    let written = bundle::write(entries(&transaction)).unwrap();
    assert_eq!(
        written,
        concat!(
            r#"{"resourceType":"Bundle","type":"transaction","entry":["#,
            r#"{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Observation","valueQuantity":{"value":1.10}},"request":{"method":"POST","url":"Observation"}},"#,
            r#"{"request":{"method":"GET","url":"Observation?patient=Patient/A"}},"#,
            r#"{"resource":{"resourceType":"Patient","id":"A"},"request":{"method":"PUT","url":"Patient/A","ifMatch":"W/\"3\""}}]}"#,
        )
    );
    assert_eq!(post(&written).unwrap().touched(), transaction.touched());
    let conditional = of_type("transaction", &json!([entry("DELETE", "Observation?patient=A")])).unwrap();
    assert_eq!(bundle::write(entries(&conditional)), None, "conditions are resolved first");
    assert_eq!(transaction.upstream().unwrap().method.as_str(), "POST");
}
