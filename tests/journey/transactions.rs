//! Transactions: all of it or nothing, and never more than its caller could do alone.

use fhirwall::audit::Kind;
use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;
use crate::bundles::{bundle, entry, with};

const URN: &str = "urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9";

fn observation(subject: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": subject},
    })
}

fn condition(evidence: &str) -> Value {
    json!({
        "resourceType": "Condition", "subject": {"reference": "Patient/dov-hart"},
        "evidence": [{"detail": [{"reference": evidence}]}],
    })
}

fn named(mut entry: Value, url: &str) -> Value {
    entry["fullUrl"] = json!(url);
    entry
}

impl Stage {
    async fn transaction(&self, entries: &[Value]) -> Reply {
        let token = self.writing_token();
        self.post(&self.neighbours().treatment, &token, &bundle("transaction", entries)).await
    }

    /// What was sent to the EHR's base since the last look.
    fn bundles_sent(&self) -> Vec<Value> {
        let seen = self.neighbours().ehr.log();
        self.neighbours().ehr.forget();
        let sent = seen.iter().filter(|seen| seen.method != Method::GET);
        sent.map(|seen| serde_json::from_slice(&seen.body).unwrap_or_default()).collect()
    }
}

fn statuses(answer: &Value) -> Vec<&str> {
    let entries = answer["entry"].as_array().unwrap();
    entries.iter().map(|entry| entry["response"]["status"].as_str().unwrap().get(..3).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_one_bundle_of_judged_versions_with_its_references() {
    let stage = Stage::set().await;
    let mut update = stage.treatment("/Condition/amara-opioid-use").await.json();
    update["meta"].as_object_mut().unwrap().remove("security");
    update["note"] = json!([{"text": "seen today"}]);
    stage.bundles_sent();
    let reply = stage
        .transaction(&[
            named(with("POST", "Observation", &observation("Patient/dov-hart")), URN),
            with("POST", "Condition", &condition(URN)),
            with("PUT", "Condition/amara-opioid-use", &update),
            entry("GET", "Condition/amara-opioid-use"),
            entry("DELETE", "Observation/dov-blood-pressure-1"),
        ])
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["type"], "transaction-response");
    assert_eq!(statuses(&answer), ["201", "201", "200", "200", "204"], "{answer}");
    let sent = stage.bundles_sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0]["type"], "transaction");
    assert_eq!(sent[0]["entry"][1]["resource"]["evidence"][0]["detail"][0]["reference"], URN);
    assert_eq!(sent[0]["entry"][2]["request"]["ifMatch"], "W/\"1\"");
    assert_eq!(sent[0]["entry"][3]["request"]["ifMatch"], "W/\"1\"");
    // The label that the writer left out was put back before it was sent.
    assert!(sent[0]["entry"][2]["resource"].to_string().contains("42CFRPart2"));
    let location = answer["entry"][0]["response"]["location"].as_str().unwrap();
    assert!(location.starts_with(&stage.url("/Observation/")), "{location}");
    let new = answer["entry"][0]["resource"]["id"].as_str().unwrap();
    let detail = &answer["entry"][1]["resource"]["evidence"][0]["detail"][0]["reference"];
    assert_eq!(*detail, format!("Observation/{new}"));
    assert_eq!(answer["entry"][3]["resource"]["note"][0]["text"], "seen today");
    assert!(!reply.text().contains(&stage.neighbours().ehr.base_url()));

    let records = stage.records_under(reply.header("x-request-id"));
    let attempt = records.iter().find(|(kind, _)| *kind == Kind::Attempt).unwrap();
    assert_eq!(
        attempt.1.instances,
        ["Observation", "Condition", "Condition/amara-opioid-use", "Observation/dov-blood-pressure-1"]
    );
    assert_eq!(attempt.1.patients, ["amara-osei", "dov-hart"]);
    let whole = records.iter().find(|(kind, of)| *kind == Kind::Disclosure && of.interaction == "transaction").unwrap();
    assert!(whole.1.instances.contains(&format!("Observation/{new}")), "{:?}", whole.1.instances);
    assert_eq!(whole.1.patients, ["amara-osei", "dov-hart"]);
    assert_eq!(records.iter().filter(|(kind, _)| *kind == Kind::Disclosure).count(), 6, "its own and one an entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_entry_refuses_the_whole_and_nothing_is_written() {
    let stage = Stage::roomy().await;
    let good = with("POST", "Observation", &observation("Patient/dov-hart"));
    let hidden = stage.neighbours().ehr.resource("Condition", "bruno-opioid-use").unwrap();
    let mut missing = hidden.clone();
    missing["id"] = json!("there-is-none");
    let mut labelled = observation("Patient/dov-hart");
    labelled["meta"] = json!({"tag": [{"system": "urn:x", "code": "program"}]});
    let mut stale = entry("DELETE", "Condition/dov-hypertension");
    stale["request"]["ifMatch"] = json!("W/\"9\"");
    let mut twice =
        with("PUT", "Condition/dov-hypertension", &stage.treatment("/Condition/dov-hypertension").await.json());
    twice["request"]["url"] = json!("Condition?_id=dov-hypertension");
    stage.bundles_sent();
    let mut hidden_and_missing = Vec::new();
    for (bad, status) in [
        (with("PUT", "Condition/bruno-opioid-use", &hidden), 404),
        (with("PUT", "Condition/there-is-none", &missing), 404),
        (entry("GET", "Condition/bruno-opioid-use"), 404),
        (entry("GET", "Condition/there-is-none"), 404),
        (entry("DELETE", "Condition?_id=bruno-opioid-use"), 404),
        (entry("DELETE", "Condition?_id=there-is-none"), 404),
        (with("POST", "Patient", &json!({"resourceType": "Patient"})), 403),
        (with("POST", "Observation", &labelled), 403),
        (stale, 412),
        (entry("GET", "Condition?_filter=x"), 403),
        (entry("GET", "https://other.example/fhir/Patient/dov-hart"), 400),
        (with("POST", "", &bundle("batch", &[])), 400),
        (entry("GET", "$export"), 403),
        (named(good.clone(), &stage.url("/Patient/bruno-vale")), 400),
        (with("POST", "Observation", &observation("urn:uuid:nowhere")), 400),
    ] {
        for entries in [[good.clone(), bad.clone()], [bad.clone(), good.clone()]] {
            let reply = stage.transaction(&entries).await;
            assert_eq!(reply.status, status, "{bad}: {}", reply.text());
            if status == 404 {
                hidden_and_missing.push(reply.text().replace(reply.header("x-request-id"), "ID"));
            }
            assert_eq!(stage.bundles_sent(), Vec::<Value>::new(), "{bad}");
        }
    }
    hidden_and_missing.dedup();
    assert_eq!(hidden_and_missing.len(), 1, "{hidden_and_missing:?}");
    let overlap = stage.transaction(&[twice, entry("DELETE", "Condition/dov-hypertension")]).await;
    assert_eq!(overlap.status, 400, "{}", overlap.text());
    assert_eq!(stage.bundles_sent(), Vec::<Value>::new());
    assert_eq!(stage.transaction(&[good]).await.status, 200);
    assert_eq!(stage.bundles_sent().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_reference_is_a_judged_search_for_one_record() {
    let stage = Stage::roomy().await;
    let about = |subject: &str| [with("POST", "Observation", &observation(subject))];
    stage.bundles_sent();
    let reply = stage.transaction(&about("Patient?family=Hart")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["entry"][0]["resource"]["subject"]["reference"], "Patient/dov-hart");
    assert_eq!(stage.bundles_sent()[0]["entry"][0]["resource"]["subject"]["reference"], "Patient/dov-hart");
    for (subject, status) in [
        ("Patient?family=Nobody", 404),
        // What is hidden is not found.
        ("Condition?_id=bruno-opioid-use", 404),
        ("Patient?gender=male", 412),
        ("Patient?_filter=x", 403),
        ("Patient?", 404),
        ("https://other.example/fhir/Patient?family=Hart", 403),
    ] {
        let reply = stage.transaction(&about(subject)).await;
        assert_eq!(reply.status, status, "{subject}: {}", reply.text());
        assert_eq!(stage.bundles_sent(), Vec::<Value>::new(), "{subject}");
    }
    // In a batch R4 has none of them.
    let token = stage.writing_token();
    let batch = bundle("batch", &about("Patient?family=Hart"));
    let reply = stage.post(&stage.neighbours().treatment, &token, &batch).await;
    assert_eq!(statuses(&reply.json()), ["403"]);
    assert_eq!(stage.bundles_sent(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_not_created_and_is_referred_to() {
    let stage = Stage::set().await;
    let mut there = named(with("POST", "Observation", &observation("Patient/dov-hart")), URN);
    there["request"]["ifNoneExist"] = json!("_id=dov-blood-pressure-1");
    stage.bundles_sent();
    let reply = stage.transaction(&[there, with("POST", "Condition", &condition(URN))]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(statuses(&answer), ["200", "201"]);
    assert_eq!(answer["entry"][0]["response"]["location"], stage.url("/Observation/dov-blood-pressure-1"));
    let sent = stage.bundles_sent();
    assert_eq!(sent[0]["entry"].as_array().unwrap().len(), 1);
    let detail = &sent[0]["entry"][0]["resource"]["evidence"][0]["detail"][0]["reference"];
    assert_eq!(*detail, "Observation/dov-blood-pressure-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patients_app_reaches_nobody_else_through_a_transaction() {
    let stage = Stage::roomy().await;
    let app = &stage.neighbours().patient;
    let post = async |entries: &[Value]| stage.post(app, &app.token, &bundle("transaction", entries)).await;
    let own = with("POST", "Observation", &observation("Patient/amara-osei"));
    stage.bundles_sent();
    for bad in [
        with("POST", "Observation", &observation("Patient/bruno-vale")),
        with("POST", "Observation", &observation("Patient?family=Vale")),
        entry("GET", "Patient/bruno-vale"),
        entry("GET", "Observation?patient=amara-osei,bruno-vale"),
        entry("DELETE", "Observation?patient=amara-osei,bruno-vale"),
        entry("GET", "Patient/bruno-vale/$everything"),
    ] {
        let reply = post(&[own.clone(), bad.clone()]).await;
        assert!([403, 404].contains(&reply.status.as_u16()), "{bad}: {}", reply.text());
        assert_eq!(stage.bundles_sent(), Vec::<Value>::new(), "{bad}");
    }
    let reply = post(&[own, entry("GET", "Patient/amara-osei")]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(stage.bundles_sent().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_without_transactions_is_sent_none() {
    let stage = Stage::set().await;
    stage.neighbours().ehr.offer_no_transactions();
    stage.bundles_sent();
    let good = with("POST", "Observation", &observation("Patient/dov-hart"));
    let reply = stage.transaction(std::slice::from_ref(&good)).await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("unsupported-interaction"));
    assert_eq!(stage.bundles_sent(), Vec::<Value>::new());
    let token = stage.writing_token();
    let reply = stage.post(&stage.neighbours().treatment, &token, &bundle("batch", &[good])).await;
    assert_eq!(statuses(&reply.json()), ["201"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fits_no_entry_is_withheld() {
    let stage = Stage::set().await;
    let entries =
        [with("POST", "Observation", &observation("Patient/dov-hart")), entry("GET", "Condition/dov-hypertension")];
    let secret = stage.neighbours().ehr.resource("Condition", "bruno-opioid-use").unwrap();
    let answer = |entries: Value| {
        let body = json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries});
        Misbehaviour::Body(body.to_string().into_bytes())
    };
    let ok = json!({"status": "200"});
    for how in [
        answer(json!([])),
        answer(json!([{"resource": secret}])),
        answer(json!([{"resource": secret, "response": ok}, {"resource": secret, "response": ok}])),
        Misbehaviour::Body(br#"{"resourceType":"Bundle","type":"searchset"}"#.to_vec()),
        Misbehaviour::TruncatedJson,
        Misbehaviour::DuplicateKeys,
    ] {
        stage.neighbours().ehr.misbehave(Some(""), how.clone());
        let reply = stage.transaction(&entries).await;
        assert_eq!(reply.status, 502, "{how:?}: {}", reply.text());
        assert!(!reply.text().contains("pioid"));
    }
    let another = json!([{"resource": secret, "response": {"status": "201", "location": "Observation/x"}}]);
    stage.neighbours().ehr.misbehave(Some(""), answer(another));
    let reply = stage.transaction(&entries).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(statuses(&reply.json()), ["201", "200"]);
    assert!(!reply.text().contains("pioid"), "another record is no answer to a write: {}", reply.text());
    stage.neighbours().ehr.behave();
    assert_eq!(statuses(&stage.transaction(&entries).await.json()), ["201", "200"]);
}
