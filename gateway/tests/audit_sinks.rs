//! Sinks are told every record at least once, in order, and a sink that is away holds up nobody.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fhirwall::audit::delivery::Delivery;
use fhirwall::audit::event::Site;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::audit::sinks::{FhirEndpoint, NdjsonFile, OcsfEndpoint, OtlpLogs, Sink, SinkError};
use fhirwall::audit::webhook::{AlertWebhook, Webhook, WebhookSecret};
use fhirwall::audit::{
    AuditConfig, AuditLog, AuditRecord, AuditUnavailable, EmergencyAccess, Kind, Record, SigningKey,
};
use fhirwall::clock::FixedClock;
use fhirwall::identify::fetch::{Fetch, FetchError};
use serde_json::Value;

type Told = Vec<(String, String, Value)>;

/// A server that remembers what it was told, and can be away.
#[derive(Clone, Debug, Default)]
struct Server {
    told: Arc<Mutex<Told>>,
    away: Arc<AtomicBool>,
    /// What it will never take, by a text of it, and how it says so.
    refuses: Arc<Mutex<Option<(String, u16)>>>,
}

#[async_trait]
impl Fetch for Server {
    async fn fetch(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        if self.away.load(Ordering::SeqCst) {
            return Ok(http::Response::builder().status(503).body(vec![]).unwrap());
        }
        let text = String::from_utf8_lossy(request.body()).into_owned();
        let refuses = self.refuses.lock().unwrap().clone();
        if let Some((_, status)) = refuses.filter(|(what, _)| text.contains(what.as_str())) {
            return Ok(http::Response::builder().status(status).body(vec![]).unwrap());
        }
        let body = serde_json::from_slice(request.body()).unwrap_or_else(|_| {
            // One JSON document a line.
            let text = std::str::from_utf8(request.body()).unwrap();
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
        });
        self.told.lock().unwrap().push((request.method().to_string(), request.uri().to_string(), body));
        Ok(http::Response::new(vec![]))
    }
}

impl Server {
    fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }
}

async fn log(dir: &std::path::Path, disclosures: u32) -> Arc<AuditLog> {
    let config = AuditConfig { segment_bytes: 2000, ..AuditConfig::new(dir, SigningKey::generate().unwrap().0) };
    let log = AuditLog::open(config, Arc::new(FixedClock::at(1_767_225_600))).unwrap();
    for n in 0..disclosures {
        log.record(disclosure(n)).await.unwrap();
    }
    log
}

fn disclosure(n: u32) -> Record {
    let (decision, interaction) = (format!("d{n}"), "read".to_owned());
    let patients = vec![format!("patient-{n}")];
    Record::disclosure(AuditRecord { decision, interaction, patients, ..AuditRecord::default() })
}

async fn drain(delivery: &Delivery) {
    while delivery.run().await.unwrap() > 0 {}
}

#[tokio::test]
async fn a_file_is_told_every_record_once_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.ndjson");
    let log = log(dir.path(), 600).await;
    let delivery = || Delivery::new("siem", Box::new(NdjsonFile(file.clone())), Arc::clone(&log));
    drain(&delivery()).await;
    log.record(disclosure(600)).await.unwrap();
    let second = delivery();
    assert!(second.behind() > 0);
    drain(&second).await;
    assert_eq!(second.behind(), 0);
    let text = fs::read_to_string(&file).unwrap();
    let seqs: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["metadata"]["sequence"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (1..=log.durable_seq()).collect();
    assert_eq!(seqs, expected);
    log.close().await;
}

/// A FHIR sink, and one that takes many records at once.
fn sinks(server: &Server) -> [Box<dyn Sink>; 2] {
    let client = || Arc::new(server.clone());
    let site = Site { name: "north".to_owned(), base_url: "https://fhir.example/fhir".to_owned() };
    let base_url = "https://audit.example/fhir".to_owned();
    [
        Box::new(FhirEndpoint { base_url, site, client: client(), authorization: None }),
        Box::new(OcsfEndpoint { url: "https://siem.example/in".to_owned(), client: client(), authorization: None }),
    ]
}

#[tokio::test]
async fn a_record_that_a_sink_refuses_for_good_is_parked_and_the_others_are_told() {
    for (at, name) in ["fhir", "ocsf"].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 5).await;
        let server = Server::default();
        *server.refuses.lock().unwrap() = Some(("patient-2".to_owned(), 422));
        let sink = sinks(&server).into_iter().nth(at).unwrap();
        let delivery = Delivery::new(name, sink, Arc::clone(&log));
        drain(&delivery).await;
        // What became of it is on record, with the next batch, and is told too.
        log.sign_head().await;
        drain(&delivery).await;
        assert_eq!((delivery.parked(), delivery.behind()), (1, 0), "{name}");
        let told = format!("{:?}", server.told());
        assert!(
            ["patient-0", "patient-1", "patient-3", "patient-4"].iter().all(|patient| told.contains(patient)),
            "{name}: {told}"
        );
        assert!(!told.contains("patient-2"), "{name}");
        // It is found in the log by its number.
        let filter = Filter { kinds: vec![Kind::Alert], ..Filter::default() };
        let alerts = entries(dir.path(), None, &filter).unwrap();
        assert_eq!(alerts.len(), 1, "{name}");
        let says = alerts[0].body.as_ref().unwrap()["says"].as_str().unwrap().to_owned();
        let parked =
            entries(dir.path(), None, &Filter { patient: Some("patient-2".to_owned()), ..Filter::default() }).unwrap();
        assert!(says.contains(&format!("record {} ({})", parked[0].seq, parked[0].hash)), "{says}");
        log.close().await;
    }
}

#[tokio::test]
async fn a_sink_that_refuses_everything_or_its_caller_loses_nothing() {
    // A wrong form of everything, then a missing permission, a wrong place, and too much at once: the sink is to be mended.
    for status in [400, 401, 403, 404, 429] {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 5).await;
        let server = Server::default();
        let refused = if status == 400 { "" } else { "patient-2" };
        *server.refuses.lock().unwrap() = Some((refused.to_owned(), status));
        let [fhir, _] = sinks(&server);
        let delivery = Delivery::new("fhir", fhir, Arc::clone(&log));
        for _ in 0..3 {
            assert!(matches!(delivery.run().await, Err(SinkError::Refused(refused)) if refused == status));
        }
        assert_eq!(delivery.parked(), 0, "{status}");
        *server.refuses.lock().unwrap() = None;
        drain(&delivery).await;
        let told = format!("{:?}", server.told());
        assert!((0..5).all(|n| told.contains(&format!("patient-{n}"))), "{status}: {told}");
        log.close().await;
    }
}

#[tokio::test]
async fn a_sink_that_is_away_is_told_later_and_holds_up_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 3).await;
    let server = Server::default();
    let site = Site { name: "north".to_owned(), base_url: "https://fhir.example/fhir".to_owned() };
    let sink = FhirEndpoint {
        base_url: "https://audit.example/fhir".to_owned(),
        site,
        client: Arc::new(server.clone()),
        authorization: None,
    };
    let delivery = Delivery::new("fhir", Box::new(sink), Arc::clone(&log));
    server.away.store(true, Ordering::SeqCst);
    assert!(matches!(delivery.run().await, Err(SinkError::Refused(503))));
    assert!(log.record(disclosure(3)).await.is_ok());
    assert!(server.told().is_empty());
    server.away.store(false, Ordering::SeqCst);
    drain(&delivery).await;
    let told = server.told();
    // For each patient the read and the disclosure, each under its own id.
    assert_eq!(told.len(), 8);
    for (method, url, event) in &told {
        assert_eq!((method.as_str(), event["resourceType"].as_str()), ("PUT", Some("AuditEvent")));
        assert!(url.ends_with(&format!("/AuditEvent/{}", event["id"].as_str().unwrap())));
    }
    log.close().await;
}

#[tokio::test]
async fn a_fhir_server_that_refuses_a_reference_to_what_it_does_not_hold_is_told_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 3).await;
    let server = Server::default();
    *server.refuses.lock().unwrap() = Some(("\"reference\":\"Patient/patient-1\"".to_owned(), 400));
    let [fhir, _] = sinks(&server);
    let delivery = Delivery::new("fhir", fhir, Arc::clone(&log));
    drain(&delivery).await;
    assert_eq!((delivery.parked(), delivery.behind()), (0, 0));
    let told = server.told();
    assert_eq!(told.len(), 6);
    for (_, _, event) in &told {
        let what = |n: usize| event["entity"][n]["what"].clone();
        let patient = what(0);
        match patient["reference"].as_str() {
            Some(there) => assert!(["Patient/patient-0", "Patient/patient-2"].contains(&there), "{event}"),
            None => {
                assert_eq!(patient["identifier"]["value"], "Patient/patient-1", "{event}");
                assert_eq!(patient["identifier"]["system"], "https://fhir.example/fhir", "{event}");
                assert!(!event.to_string().contains("\"reference\""), "{event}");
            }
        }
    }
    assert_eq!(told.iter().filter(|(_, _, event)| event["entity"][0]["what"]["reference"].is_null()).count(), 2);
    log.close().await;
}

/// Takes what it is told, and then loses the connection once.
#[derive(Debug)]
struct TakesAndFails(Server, AtomicBool);

#[async_trait]
impl Sink for TakesAndFails {
    async fn deliver(&self, entries: &[fhirwall::audit::read::Entry]) -> Result<(), SinkError> {
        for entry in entries {
            self.0.told.lock().unwrap().push((String::new(), entry.hash.clone(), Value::Null));
        }
        if self.1.swap(false, Ordering::SeqCst) { Err(SinkError::Refused(500)) } else { Ok(()) }
    }
}

/// Answers in time only when it is told little, and keeps what it took.
#[derive(Debug, Default)]
struct Slow(Arc<Mutex<Vec<u64>>>);

#[async_trait]
impl Sink for Slow {
    async fn deliver(&self, entries: &[fhirwall::audit::read::Entry]) -> Result<(), SinkError> {
        if entries.len() > 20 {
            return Err(SinkError::Unreachable(FetchError::Timeout));
        }
        self.0.lock().unwrap().extend(entries.iter().map(|entry| entry.seq));
        Ok(())
    }
}

#[tokio::test]
async fn a_sink_too_slow_for_much_is_told_less_at_once_and_everything() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 300).await;
    let took: Arc<Mutex<Vec<u64>>> = Arc::default();
    let delivery = Delivery::new("slow", Box::new(Slow(Arc::clone(&took))), Arc::clone(&log));
    let mut failures = 0;
    while delivery.behind() > 0 {
        failures += u32::from(delivery.run().await.is_err());
        assert!(failures < 200, "{} behind", delivery.behind());
    }
    let expected: Vec<u64> = (1..=log.durable_seq()).collect();
    assert_eq!(*took.lock().unwrap(), expected);
    assert!(failures > 0);
    log.close().await;
}

#[tokio::test]
async fn a_doubtful_delivery_is_repeated_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 2).await;
    let server = Server::default();
    let sink = TakesAndFails(server.clone(), AtomicBool::new(true));
    let delivery = Delivery::new("odd", Box::new(sink), Arc::clone(&log));
    assert!(delivery.run().await.is_err());
    let first = server.told();
    drain(&delivery).await;
    let told = server.told();
    assert_eq!(told[first.len()..][..first.len()], first[..]);
    log.close().await;
}

#[tokio::test]
async fn a_collector_gets_log_records_and_people_get_alerts_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 2).await;
    let alert = serde_json::json!({"alert": "mass-export", "partner": "app"});
    log.record(Record::of(Kind::Alert, alert)).await.unwrap();
    let (collector, people) = (Server::default(), Server::default());
    let client = Arc::new(collector.clone());
    let otlp = OtlpLogs { base_url: "https://otel.example".to_owned(), client, authorization: None };
    drain(&Delivery::new("otlp", Box::new(otlp), Arc::clone(&log))).await;
    let told = collector.told();
    let (_, url, body) = told.first().unwrap();
    assert_eq!(url, "https://otel.example/v1/logs");
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert!(records.iter().any(|r| r["attributes"][0]["value"]["stringValue"] == "fhirwall.audit.disclosure"));

    let secret = WebhookSecret::from_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let hook = AlertWebhook(Webhook {
        url: "https://pager.example/hook".to_owned(),
        client: Arc::new(people.clone()),
        secret,
        clock: Arc::new(FixedClock::at(1_767_225_700)),
    });
    drain(&Delivery::new("pager", Box::new(hook), Arc::clone(&log))).await;
    let told = people.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told.first().unwrap().2["type"], "fhirwall.alert");
    assert_eq!(told.first().unwrap().2["data"]["body"]["alert"], "mass-export");
    log.close().await;
}

#[tokio::test]
async fn ocsf_is_posted_in_batches_with_the_signed_heads() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 300).await;
    log.sign_head().await.unwrap();
    let server = Server::default();
    let sink = OcsfEndpoint {
        url: "https://siem.example/in".to_owned(),
        client: Arc::new(server.clone()),
        authorization: None,
    };
    let delivery = Delivery::new("siem", Box::new(sink), Arc::clone(&log));
    drain(&delivery).await;
    let told = server.told();
    assert!((2..10).contains(&told.len()), "{} requests for 300 records", told.len());
    let events: Vec<&Value> = told.iter().flat_map(|(_, _, body)| body.as_array().unwrap()).collect();
    assert_eq!(events.len() as u64, log.durable_seq());
    let head = events.iter().rev().find(|event| event["metadata"]["log_name"] == "head").unwrap();
    assert!(head["unmapped"]["signature"].is_string(), "{head}");
    log.close().await;
}

#[tokio::test]
async fn a_record_that_must_be_acknowledged_counts_only_then_and_an_emergency_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap().0;
    let config = AuditConfig { patience: std::time::Duration::from_millis(300), ..AuditConfig::new(dir.path(), key) };
    let log = AuditLog::open(config, Arc::new(FixedClock::at(1_767_225_600))).unwrap();
    let (taken, acknowledged) = tokio::sync::watch::channel(0);
    log.wait_for(vec![acknowledged]);
    assert_eq!(log.record(disclosure(0)).await, Err(AuditUnavailable::Slow));
    let emergency = Some(EmergencyAccess { reason: "unconscious".to_owned(), ..EmergencyAccess::default() });
    let record = AuditRecord { decision: "d1".to_owned(), emergency, ..AuditRecord::default() };
    let receipt = log.record(Record::disclosure(record)).await.unwrap();
    taken.send_replace(receipt.seq + 1);
    assert!(log.record(disclosure(2)).await.is_ok());
    // A sink that is gone for good acknowledges nothing.
    drop(taken);
    assert_eq!(log.record(disclosure(3)).await, Err(AuditUnavailable::Closed));
    log.close().await;
}

#[tokio::test]
async fn cursors_of_sinks_that_are_not_told_any_more_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 1).await;
    for name in ["old", "kept"] {
        let file = Box::new(NdjsonFile(dir.path().join(format!("{name}.ndjson"))));
        drain(&Delivery::new(name, file, Arc::clone(&log))).await;
    }
    fhirwall::audit::delivery::forget_all_but(dir.path(), &["kept"]).unwrap();
    let there = |name: &str| dir.path().join(format!("sink-{name}.cursor")).exists();
    assert_eq!((there("old"), there("kept")), (false, true));
    log.close().await;
}
