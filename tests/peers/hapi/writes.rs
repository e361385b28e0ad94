//! Writes: carried out by HAPI on what was judged, or refused with nothing changed.

use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Value, json};

use super::{JSON, Stage, put, said};

const SCOPE: &str = "user/*.rs user/Observation.cud user/Condition.cud";
const PATCH: &str = "application/json-patch+json";
/// She is this suite's own: what is written about her is in no other test's way.
const PATIENT: &str = "wren-alder";

impl Stage {
    async fn write(&self, method: Method, below: &str, more: &[(&str, &str)], body: &Value) -> Reply {
        let kind = if method == Method::PATCH { PATCH } else { JSON };
        let headers = [&[("content-type", kind)], more].concat();
        let headers = if body.is_null() { more } else { &headers };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(&self.world.treatment, SCOPE, method, below, headers, body).await
    }

    /// Writes the suite's own patient.
    pub(crate) async fn patient(&self) {
        self.put(&json!({"resourceType": "Patient", "id": PATIENT, "name": [{"family": "Alder", "given": ["Wren"]}]}))
            .await;
    }

    /// The version of a record that HAPI has.
    pub(crate) async fn version(&self, below: &str) -> u32 {
        self.stored(below).await.json()["meta"]["versionId"].as_str().unwrap().parse().unwrap()
    }
}

/// Something that no other run has written.
pub(crate) fn fresh() -> String {
    time::OffsetDateTime::now_utc().unix_timestamp_nanos().to_string()
}

fn observation(patient: &str, identifier: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "identifier": [{"system": "urn:test", "value": identifier}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "valueQuantity": {"value": 72, "unit": "/min"},
    })
}

pub(crate) fn condition(id: &str, code: &str) -> Value {
    json!({
        "resourceType": "Condition", "id": id,
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]},
        "subject": {"reference": format!("Patient/{PATIENT}")},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_creates_updates_patches_and_deletes_what_was_judged() {
    let Some(stage) = Stage::set().await else { return };
    stage.patient().await;
    let fresh = fresh();
    // Create.
    let made = stage.write(Method::POST, "/Observation", &[], &observation(PATIENT, &fresh)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let location = made.header("location").to_owned();
    assert!(location.starts_with(&stage.url("/Observation/")), "{location}");
    assert!(!made.text().contains(&stage.hapi));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let below = format!("/Observation/{id}");
    let read = stage.get(&stage.world.treatment, &below).await;
    assert_eq!((read.status.as_u16(), read.text()), (200, stage.stored(&below).await.text()));
    println!("create: 201, located at the gateway, etag {}", made.header("etag"));

    // Conditional create: the one that is there is found.
    let exists = format!("identifier=urn:test%7C{fresh}");
    let again =
        stage.write(Method::POST, "/Observation", &[("if-none-exist", &exists)], &observation(PATIENT, &fresh)).await;
    println!("conditional create of what is there: {}", again.status);
    assert_eq!(again.status, 200, "{}", again.text());
    let other = format!("{fresh}-other");
    let exists = format!("identifier=urn:test%7C{other}");
    let new =
        stage.write(Method::POST, "/Observation", &[("if-none-exist", &exists)], &observation(PATIENT, &other)).await;
    assert_eq!(new.status, 201, "{}", new.text());

    // Update, by its version.
    let mut changed = stage.get(&stage.world.treatment, &below).await.json();
    changed["valueQuantity"]["value"] = json!(75);
    let etag = read.header("etag").to_owned();
    let updated = stage.write(Method::PUT, &below, &[("if-match", &etag)], &changed).await;
    assert_eq!(updated.status, 200, "{}", updated.text());
    assert_eq!(stage.stored(&below).await.json()["valueQuantity"]["value"], 75);
    let stale = stage.write(Method::PUT, &below, &[("if-match", &etag)], &changed).await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    println!("update: 200 by the version that was read ({etag}), 412 by an older one");

    // Conditional update.
    changed["valueQuantity"]["value"] = json!(76);
    let criteria = format!("/Observation?identifier=urn:test%7C{fresh}");
    let updated = stage.write(Method::PUT, &criteria, &[], &changed).await;
    assert_eq!(updated.status, 200, "{}", updated.text());
    assert_eq!(stage.stored(&below).await.json()["valueQuantity"]["value"], 76);

    // JSON Patch.
    let patch = json!([{"op": "replace", "path": "/valueQuantity/value", "value": 77}]);
    let patched = stage.write(Method::PATCH, &below, &[], &patch).await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert_eq!(stage.stored(&below).await.json()["valueQuantity"]["value"], 77);
    println!("conditional update and JSON Patch: 200, version {} at HAPI", stage.version(&below).await);

    // What HAPI refuses stays refused, without HAPI's words.
    let nowhere = stage.write(Method::POST, "/Observation", &[], &observation("nobody-here", "x")).await;
    println!("a reference to nothing: {}", nowhere.status);
    assert!(nowhere.status.is_client_error(), "{}", nowhere.text());
    assert!(!nowhere.text().contains("HAPI-"), "{}", nowhere.text());

    // Delete.
    let gone = stage.write(Method::DELETE, &below, &[], &Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    assert_eq!(stage.hapi(Method::GET, &below, &[], &Value::Null).await.status, 410);
    assert_eq!(stage.get(&stage.world.treatment, &below).await.status, 404);
    assert_eq!(stage.write(Method::DELETE, &below, &[], &Value::Null).await.status, 404);
    let criteria = format!("/Observation?identifier=urn:test%7C{other}");
    let gone = stage.write(Method::DELETE, &criteria, &[], &Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    println!("delete, and conditional delete: 204; read after it: 404 here, 410 at HAPI");
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_hidden_record_is_written_like_a_missing_one_and_no_label_is_lost() {
    let Some(stage) = Stage::set().await else { return };
    stage.patient().await;
    let before = stage.version("/Condition/bruno-opioid-use").await;
    let hidden = stage.stored("/Condition/bruno-opioid-use").await.json();
    let mut missing = hidden.clone();
    missing["id"] = json!("bruno-opioid-xyz");
    let note = json!([{"op": "add", "path": "/note", "value": [{"text": "x"}]}]);
    for (method, one, other) in
        [(Method::PUT, &hidden, &missing), (Method::PATCH, &note, &note), (Method::DELETE, &Value::Null, &Value::Null)]
    {
        let there = stage.write(method.clone(), "/Condition/bruno-opioid-use", &[], one).await;
        let absent = stage.write(method.clone(), "/Condition/bruno-opioid-xyz", &[], other).await;
        println!("{method} of a hidden record and of a missing one: {}", there.status);
        assert_eq!((there.status, said(&there)), (absent.status, said(&absent)), "{method}");
        assert!(there.status.is_client_error());
    }
    assert_eq!(stage.version("/Condition/bruno-opioid-use").await, before, "nothing was written");

    // A writer who leaves the labels out, or patches them away.
    let id = format!("amara-{}", fresh());
    let below = format!("/Condition/{id}");
    let codes = |resource: &Value| {
        let labels = resource["meta"]["security"].as_array().cloned().unwrap_or_default();
        labels.iter().filter_map(|label| label["code"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut labelled = stage.stored("/Condition/amara-opioid-use").await.json();
    labelled["id"] = json!(id);
    stage.put(&labelled).await;
    let labels = codes(&labelled);
    assert!(labels.len() > 2, "{labelled}");
    let shown = stage.get(&stage.world.treatment, &below).await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    let mut bare = shown.json();
    bare.as_object_mut().unwrap().remove("meta");
    bare["note"] = json!([{"text": "seen today"}]);
    let reply = stage.write(Method::PUT, &below, &[], &bare).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let stored = stage.stored(&below).await.json();
    assert_eq!(stored["note"][0]["text"], "seen today");
    assert!(labels.iter().all(|label| codes(&stored).contains(label)), "{stored}");
    let strip = json!([{"op": "remove", "path": "/meta/security"}]);
    let patched = stage.write(Method::PATCH, &below, &[], &strip).await;
    assert_eq!(patched.status, 403, "{}", patched.text());
    assert_eq!(codes(&stage.stored(&below).await.json()), codes(&stored));
    println!(
        "labels left out by an update ({}) are put back; patched away ({}) they stay",
        reply.status, patched.status
    );
    assert!(stage.hapi(Method::DELETE, &below, &[], &Value::Null).await.status.is_success());
}

fn entry(method: &str, url: &str) -> Value {
    json!({"request": {"method": method, "url": url}})
}

fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

fn statuses(answer: &Value) -> Vec<String> {
    let entries = answer["entry"].as_array().unwrap_or_else(|| panic!("{answer}"));
    entries.iter().map(|entry| entry["response"]["status"].as_str().unwrap().chars().take(3).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_batch_is_answered_entry_by_entry() {
    let Some(stage) = Stage::set().await else { return };
    stage.patient().await;
    let fresh = fresh();
    let entries = [
        entry("GET", "Patient/bruno-vale"),
        entry("GET", "Condition/bruno-opioid-use"),
        entry("GET", "Condition?patient=bruno-vale"),
        json!({"resource": observation(PATIENT, &fresh), "request": {"method": "POST", "url": "Observation"}}),
        json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}),
        entry("DELETE", "Condition/bruno-opioid-use"),
    ];
    let reply = stage.write(Method::POST, "/", &[], &bundle("batch", &entries)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    println!("batch: {:?}", statuses(&answer));
    assert_eq!(statuses(&answer), ["200", "404", "200", "201", "403", "404"], "{answer}");
    assert_eq!(answer["entry"][0]["resource"], stage.stored("/Patient/bruno-vale").await.json());
    assert_eq!(super::tells(&reply.text()), None, "{}", reply.text());
    assert!(!reply.text().contains(&stage.hapi));
    assert_eq!(stage.stored("/Condition/bruno-opioid-use").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_transaction_is_carried_out_whole_or_not_at_all() {
    const URN: &str = "urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9";
    let Some(stage) = Stage::set().await else { return };
    stage.patient().await;
    let fresh = fresh();
    let (kept, doomed) = (format!("wren-kept-{fresh}"), format!("wren-doomed-{fresh}"));
    stage.put(&condition(&kept, "I10")).await;
    stage.put(&condition(&doomed, "I10")).await;
    let mut update = stage.stored(&format!("/Condition/{kept}")).await.json();
    update["note"] = json!([{"text": "seen today"}]);
    let mut about = json!({
        "resourceType": "Condition", "subject": {"reference": format!("Patient/{PATIENT}")},
        "code": {"text": "palpitations"}, "evidence": [{"detail": [{"reference": URN}]}],
    });
    let mut made =
        json!({"resource": observation(PATIENT, &fresh), "request": {"method": "POST", "url": "Observation"}});
    made["fullUrl"] = json!(URN);
    let entries = [
        made.clone(),
        json!({"resource": about, "request": {"method": "POST", "url": "Condition"}}),
        put(&format!("Condition/{kept}"), update.clone()),
        entry("DELETE", &format!("Condition/{doomed}")),
        entry("GET", "Condition?patient=bruno-vale"),
        entry("GET", &format!("Condition/{kept}")),
    ];
    let reply = stage.write(Method::POST, "/", &[], &bundle("transaction", &entries)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    println!("transaction: {:?}", statuses(&answer));
    assert_eq!(statuses(&answer), ["201", "201", "200", "204", "200", "200"], "{answer}");
    let location = answer["entry"][0]["response"]["location"].as_str().unwrap();
    assert!(location.starts_with(&stage.url("/Observation/")), "{location}");
    let new = location.split("/Observation/").nth(1).unwrap().split('/').next().unwrap();
    let condition_at = answer["entry"][1]["response"]["location"].as_str().unwrap();
    let below = condition_at.strip_prefix(&stage.world.base_url()).unwrap().split("/_history").next().unwrap();
    let stored = stage.stored(below).await.json();
    assert_eq!(stored["evidence"][0]["detail"][0]["reference"], format!("Observation/{new}"));
    assert_eq!(stage.hapi(Method::GET, &format!("/Condition/{doomed}"), &[], &Value::Null).await.status, 410);
    assert_eq!(super::tells(&reply.text()), None, "{}", reply.text());
    assert!(!reply.text().contains(&stage.hapi), "{}", reply.text());

    // One entry that may not be: nothing of the whole happens.
    let (again, version) = (format!("{fresh}-again"), stage.version(&format!("/Condition/{kept}")).await);
    made["resource"] = observation(PATIENT, &again);
    update["note"] = json!([{"text": "not to be seen"}]);
    for (bad, status) in [
        (entry("DELETE", "Condition/bruno-opioid-use"), 404),
        (entry("DELETE", "Condition/bruno-opioid-xyz"), 404),
        (json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}), 403),
    ] {
        let entries = [made.clone(), put(&format!("Condition/{kept}"), update.clone()), bad.clone()];
        let reply = stage.write(Method::POST, "/", &[], &bundle("transaction", &entries)).await;
        assert_eq!(reply.status, status, "{bad}: {}", reply.text());
    }
    // And one that HAPI refuses.
    about["evidence"] = json!([{"detail": [{"reference": "Observation/there-is-none"}]}]);
    let entries = [made, json!({"resource": about, "request": {"method": "POST", "url": "Condition"}})];
    let reply = stage.write(Method::POST, "/", &[], &bundle("transaction", &entries)).await;
    println!("a transaction that HAPI refuses: {}", reply.status);
    assert!(reply.status.is_client_error(), "{}", reply.text());
    assert_eq!(stage.version(&format!("/Condition/{kept}")).await, version);
    let found = stage.stored(&format!("/Observation?identifier=urn:test%7C{again}")).await.json();
    assert_eq!(found["entry"], Value::Null, "{found}");
}
