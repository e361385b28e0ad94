//! Bundles posted to the base: every entry is judged as the request it would be alone.

use fhirwall::audit::read::{Filter, scan};
use fhirwall::audit::{AuditRecord, Kind};
use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Value, json};
use std::ops::ControlFlow;

use crate::Stage;

const JSON: &str = "application/fhir+json";

impl Stage {
    pub(crate) async fn post(&self, app: &fhirwall::demo::apps::App, token: &str, body: &Value) -> Reply {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", JSON)];
        app.client.send(Method::POST, &self.url("/"), &headers, body.to_string().into_bytes()).await.unwrap()
    }

    async fn research_batch(&self, entries: &[Value]) -> Reply {
        let app = &self.neighbours().research;
        self.post(app, &app.token, &bundle("batch", entries)).await
    }

    /// A request of the research app on its own: what an entry is compared with.
    async fn alone(&self, entry: &Value) -> Reply {
        let app = &self.neighbours().research;
        let request = &entry["request"];
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let authorization = format!("Bearer {}", app.token);
        let mut headers = vec![("authorization", authorization.as_str())];
        let body = match &entry["resource"] {
            Value::Null => Vec::new(),
            resource @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                headers.push(("content-type", JSON));
                resource.to_string().into_bytes()
            }
        };
        let url = self.url(&format!("/{}", request["url"].as_str().unwrap()));
        app.client.send(method, &url, &headers, body).await.unwrap()
    }

    /// The records of this answer: its own, and those of its entries.
    pub(crate) fn records_under(&self, decision: &str) -> Vec<(Kind, AuditRecord)> {
        let mut found = Vec::new();
        let filter = Filter::default();
        scan(&self.neighbours().audit_dir(), None, &filter, |entry| {
            if let Some(record) = entry.record()
                && (&*record.request_id == decision || record.decision == decision)
            {
                found.push((entry.kind, record));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }
}

pub(crate) fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

pub(crate) fn entry(method: &str, url: &str) -> Value {
    json!({"request": {"method": method, "url": url}})
}

pub(crate) fn with(method: &str, url: &str, resource: &Value) -> Value {
    json!({"resource": resource, "request": {"method": method, "url": url}})
}

/// Without the decision's id, which differs from request to request, and what a server makes up for each searchset.
fn shape(mut body: Value) -> Value {
    if let Some(diagnostics) = body.pointer_mut("/issue/0/diagnostics") {
        *diagnostics = Value::Null;
    }
    if body["type"] == "searchset"
        && let Some(members) = body.as_object_mut()
    {
        members.remove("id");
        members.remove("meta");
    }
    body
}

/// What an entry says, and what a lone answer says.
fn said(entry: &Value) -> (String, Value) {
    let status = entry["response"]["status"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    let body = entry.get("resource").or_else(|| entry["response"].get("outcome")).cloned().unwrap_or_default();
    (status, shape(body))
}

fn said_alone(reply: &Reply) -> (String, Value) {
    (reply.status.as_str().to_owned(), shape(reply.json()))
}

fn asked_for() -> Vec<Value> {
    vec![
        entry("GET", "Condition/amara-hypertension"),
        entry("GET", "Condition/amara-opioid-use"),
        entry("GET", "Condition/there-is-none"),
        entry("GET", "Condition?patient=amara-osei"),
        entry("GET", "Condition?patient=nobody"),
        entry("GET", "Encounter/amara-visit"),
        entry("GET", "Condition?_filter=x"),
        entry("GET", "Patient/A/../B"),
        entry("DELETE", "Condition/amara-hypertension"),
        entry("GET", "Patient/amara-osei/$everything"),
        entry("GET", "Condition/amara-hypertension/$meta"),
        entry("GET", "Patient/dov-hart"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_batch_gets_what_it_would_get_alone() {
    let stage = Stage::roomy().await;
    let entries = asked_for();
    let reply = stage.research_batch(&entries).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["type"], "batch-response");
    let answers = answer["entry"].as_array().unwrap();
    assert_eq!(answers.len(), entries.len());
    for (entry, answer) in entries.iter().zip(answers) {
        let alone = stage.alone(entry).await;
        assert_eq!(said(answer), said_alone(&alone), "{entry}");
    }
    let statuses: Vec<String> = answers.iter().map(|answer| said(answer).0).collect();
    for status in ["200", "404", "403", "400"] {
        assert!(statuses.iter().any(|said| said == status), "{status} is among {statuses:?}");
    }
    let text = reply.text();
    for trace in ["42CFRPart2", "pioid", "F11", "\"total\"", "REDACTED"] {
        assert!(!text.contains(trace), "{trace} is in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ehr_hears_of_permitted_entries_alone_and_never_of_a_bundle() {
    let stage = Stage::set().await;
    stage.asked();
    let reply = stage
        .research_batch(&[
            entry("GET", "Condition/dov-hypertension"),
            entry("GET", "Encounter/amara-visit"),
            entry("GET", "https://other.example/fhir/Patient/dov-hart"),
            with("POST", "", &bundle("batch", &[entry("GET", "Patient/dov-hart")])),
            entry("POST", "Condition"),
        ])
        .await;
    let answer = reply.json();
    let statuses: Vec<String> = answer["entry"].as_array().unwrap().iter().map(|answer| said(answer).0).collect();
    assert_eq!(statuses, ["200", "403", "400", "400", "415"], "{answer}");
    let asked = stage.asked();
    assert!(asked.contains(&"GET /fhir/Condition/dov-hypertension".to_owned()), "{asked:?}");
    assert!(asked.iter().all(|asked| !asked.starts_with("POST") && !asked.contains("Encounter")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_order_and_duplication_each_entry_is_answered_the_same() {
    let stage = Stage::roomy().await;
    let entries = asked_for();
    let expected: Vec<(String, Value)> =
        stage.research_batch(&entries).await.json()["entry"].as_array().unwrap().iter().map(said).collect();
    let mut seed = 7usize;
    for round in 0..6 {
        // A shuffle with duplicates: any entry, any number of times.
        let picks: Vec<usize> = (0..entries.len() + round)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % entries.len()
            })
            .collect();
        let shuffled: Vec<Value> = picks.iter().map(|pick| entries[*pick].clone()).collect();
        let reply = stage.research_batch(&shuffled).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer = reply.json();
        for (pick, answer) in picks.iter().zip(answer["entry"].as_array().unwrap()) {
            assert_eq!(said(answer), expected[*pick], "{}", entries[*pick]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_writes_one_by_one_and_says_where() {
    let stage = Stage::set().await;
    let observation = json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/dov-hart"},
    });
    let mut labelled = observation.clone();
    labelled["meta"] = json!({"tag": [{"system": "urn:x", "code": "program"}]});
    let condition = stage.treatment("/Condition/dov-hypertension").await.json();
    let mut stale = with("PUT", "Condition/dov-hypertension", &condition);
    stale["request"]["ifMatch"] = json!("W/\"no-such-version\"");
    let mut fresh = with("PUT", "Condition/dov-hypertension", &condition);
    fresh["request"]["ifMatch"] = json!("W/\"1\"");
    let mut there = with("POST", "Observation", &observation);
    there["request"]["ifNoneExist"] = json!("_id=dov-blood-pressure-1");
    let mut seen = entry("GET", "Condition/dov-hypertension");
    seen["request"]["ifNoneMatch"] = json!("W/\"2\"");
    let entries = [
        seen,
        with("POST", "Observation", &observation),
        with("POST", "Observation", &labelled),
        stale,
        fresh,
        entry("DELETE", "Condition/there-is-none"),
        there,
    ];
    stage.asked();
    let token = stage.writing_token();
    let reply = stage.post(&stage.neighbours().treatment, &token, &bundle("batch", &entries)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    let answers = answer["entry"].as_array().unwrap();
    let statuses: Vec<String> = answers.iter().map(|answer| said(answer).0).collect();
    // The read goes last: it finds the version that the update made.
    assert_eq!(statuses, ["304", "201", "403", "412", "200", "404", "200"], "{answer}");
    let location = answers[1]["response"]["location"].as_str().unwrap();
    assert!(location.starts_with(&stage.url("/Observation/")), "{location}");
    assert_eq!(answers[1]["response"]["etag"], "W/\"1\"");
    assert_eq!(answers[4]["response"]["etag"], "W/\"2\"");
    assert_eq!(answers[6]["response"]["location"], stage.url("/Observation/dov-blood-pressure-1"));
    let asked = stage.asked();
    let writes: Vec<&String> = asked.iter().filter(|asked| !asked.starts_with("GET")).collect();
    assert_eq!(writes, ["POST /fhir/Observation", "PUT /fhir/Condition/dov-hypertension"], "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_has_a_record_of_its_own_before_the_batch_is_answered() {
    let stage = Stage::set().await;
    let entries = [
        entry("GET", "Patient/dov-hart"),
        entry("GET", "Condition/amara-opioid-use"),
        entry("GET", "Encounter/amara-visit"),
    ];
    let reply = stage.research_batch(&entries).await;
    let records = stage.records_under(reply.header("x-request-id"));
    let told: Vec<(Kind, String, Option<String>)> =
        records.iter().map(|(kind, record)| (*kind, record.interaction.clone(), record.reason.clone())).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.contains(&(Kind::Disclosure, "batch".into(), None)), "{told:?}");
    assert!(told.contains(&(Kind::Disclosure, "read".into(), None)), "{told:?}");
    assert!(told.contains(&(Kind::Refusal, "read".into(), Some("label-withheld".into()))), "{told:?}");
    assert!(told.contains(&(Kind::Refusal, "read".into(), Some("insufficient-scope".into()))), "{told:?}");
    // The decision that a refused entry names is the one on record.
    let named = reply.json()["entry"][1]["response"]["outcome"]["issue"][0]["diagnostics"].clone();
    assert!(records.iter().any(|(_, record)| named == format!("decision {}", record.decision)), "{named}");
    stage.world.gateway.shared.audit.close().await;
    let unrecorded = stage.research_batch(&entries).await;
    assert_eq!(unrecorded.status, 503, "{}", unrecorded.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_or_transaction_is_refused_and_the_ehr_hears_nothing() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().research;
    let read = entry("GET", "Patient/dov-hart");
    stage.asked();
    for kind in ["document", "message", "history", "searchset", "collection", "batch-response", "x"] {
        let reply = stage.post(app, &app.token, &bundle(kind, std::slice::from_ref(&read))).await;
        assert_eq!(reply.status, 400, "{kind}: {}", reply.text());
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    let few = stage.research_batch(&[read]).await;
    assert_eq!(few.status, 200);
    assert_eq!(few.json()["entry"][0]["resource"]["id"], "dov-hart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_as_many_entries_as_the_configuration_says() {
    let read = entry("GET", "Patient/dov-hart");
    let stage = Stage::with(|config| format!("{config}limits: {{bundle_entries: 3}}\n")).await;
    let app = &stage.neighbours().research;
    stage.asked();
    for kind in ["batch", "transaction"] {
        let reply = stage.post(app, &app.token, &bundle(kind, &vec![read.clone(); 4])).await;
        assert_eq!(reply.status, 413, "{kind}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{kind}");
        let reply = stage.post(app, &app.token, &bundle(kind, &vec![read.clone(); 3])).await;
        assert_eq!(reply.status, 200, "{kind}: {}", reply.text());
        assert!(!stage.asked().is_empty(), "{kind}");
    }
    // Where it says nothing, a Bundle may be long.
    let stage = Stage::roomy().await;
    let reply = stage.research_batch(&vec![entry("GET", "Encounter/amara-visit"); 600]).await;
    assert_eq!(reply.json()["entry"].as_array().map(Vec::len), Some(600), "{}", reply.status);
}

/// Every kind of entry that names one Observation: what reads it, and what changes it.
fn about(id: &str) -> (Vec<Value>, Vec<Value>) {
    let resource = json!({
        "resourceType": "Observation", "id": id, "status": "final", "code": {"text": "weight"},
        "subject": {"reference": "Patient/dov-hart"},
    });
    let mut created = with("POST", "Observation", &resource);
    created["resource"].as_object_mut().unwrap().remove("id");
    created["request"]["ifNoneExist"] = json!(format!("_id={id}"));
    let reads = vec![
        entry("GET", &format!("Observation/{id}")),
        entry("GET", &format!("Observation/{id}/_history/1")),
        entry("GET", &format!("Observation/{id}/_history")),
        entry("GET", &format!("Observation?_id={id}")),
        entry("GET", &format!("Observation?patient=bruno-vale&_id={id}")),
    ];
    let writes = vec![
        with("PUT", &format!("Observation/{id}"), &resource),
        with("PUT", &format!("Observation?_id={id}"), &resource),
        entry("DELETE", &format!("Observation/{id}")),
        entry("DELETE", &format!("Observation?_id={id}")),
        created,
    ];
    (reads, writes)
}

/// An answer of these ids and decisions, without them: what is left must not tell one record from another.
fn unnamed(reply: &Reply, id: &str) -> Value {
    fn forget(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for name in ["diagnostics", "lastUpdated", "location", "id", "etag"] {
                    if let Some(member) = members.get_mut(name) {
                        *member = json!("?");
                    }
                }
                members.values_mut().for_each(forget);
            }
            Value::Array(items) => items.iter_mut().for_each(forget),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut body: Value = serde_json::from_str(&reply.text().replace(id, "ID")).unwrap();
    forget(&mut body);
    let headers: Vec<&str> = reply.headers.keys().map(http::HeaderName::as_str).collect();
    json!([reply.status.as_u16(), headers, body])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_in_a_bundle_looks_like_what_is_missing() {
    let stage = Stage::roomy().await;
    let (hidden, missing, shown) = ("bruno-drug-screen", "bruno-drug-screet", "bruno-blood-pressure-1");
    let (research, treatment) = (&stage.neighbours().research, &stage.neighbours().treatment);
    let writing = stage.writing_token();
    let statuses = |reply: &Reply| -> Vec<String> {
        reply.json()["entry"].as_array().unwrap().iter().map(|answer| said(answer).0).collect()
    };
    // Who is told nothing, by every way to read; and who writes, by every way to change.
    let silent =
        async |kind: &str, entries: &[Value]| stage.post(research, &research.token, &bundle(kind, entries)).await;
    let marked = async |kind: &str, entries: &[Value]| stage.post(treatment, &writing, &bundle(kind, entries)).await;
    let (one, other) = (silent("batch", &about(hidden).0).await, silent("batch", &about(missing).0).await);
    assert_eq!(unnamed(&one, hidden), unnamed(&other, missing));
    assert_eq!(statuses(&one), ["404", "403", "403", "200", "200"], "no versions for who is told nothing");
    assert_eq!(statuses(&silent("batch", &about(shown).0).await), ["200", "403", "403", "200", "200"]);
    let versions = |id: &str| about(id).0[..3].to_vec();
    let (one, other) = (marked("batch", &versions(hidden)).await, marked("batch", &versions(missing)).await);
    assert_eq!(unnamed(&one, hidden), unnamed(&other, missing));
    assert_eq!(statuses(&one), ["404"; 3]);
    assert_eq!(statuses(&marked("batch", &versions(shown)).await), ["200"; 3]);
    stage.asked();
    let (one, other) = (marked("batch", &about(hidden).1).await, marked("batch", &about(missing).1).await);
    assert_eq!(unnamed(&one, hidden), unnamed(&other, missing));
    assert_eq!(statuses(&one), ["404", "404", "404", "404", "201"]);
    let writes: Vec<String> = stage.asked().into_iter().filter(|asked| !asked.starts_with("GET")).collect();
    assert_eq!(writes, ["POST /fhir/Observation", "POST /fhir/Observation"], "nothing of his was touched");
    for (one, other) in about(hidden).0.into_iter().zip(about(missing).0) {
        let (one_said, other_said) =
            (silent("transaction", std::slice::from_ref(&one)).await, silent("transaction", &[other]).await);
        assert_eq!(unnamed(&one_said, hidden), unnamed(&other_said, missing), "{one}");
    }
    for (one, other) in about(hidden).1.into_iter().zip(about(missing).1) {
        let (one_said, other_said) =
            (marked("transaction", std::slice::from_ref(&one)).await, marked("transaction", &[other]).await);
        assert_eq!(unnamed(&one_said, hidden), unnamed(&other_said, missing), "{one}");
    }
}
