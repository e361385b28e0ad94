//! Nothing that describes a patient, and no credential, in what operators and strangers read: logs at their finest, spans,
//! metrics, the configuration, error answers. A canary is a word that stands nowhere else.
//!
//! What may name a patient's logical id, and the values that were searched for: the audit log and `/decisions/{id}`, which
//! reads it; both are guarded as records (45 CFR 164.312(b)). Content and credentials stand in neither.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fhirwall::config::LogFormat;
use fhirwall::demo::apps::App;
use fhirwall::demo::authorization_server::Flaw;
use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::{Neighbours, World};
use fhirwall::telemetry::Telemetry;
use http::Method;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use serde_json::json;

/// Of a record: only an answer that discloses it may hold it.
const NAME: &str = "Kanarienvogel";
const SSN: &str = "999-31-7731";
const PART2: &str = "Kanarienbefund";
const CONTENT: [&str; 3] = [NAME, SSN, PART2];
/// Searched for, or sent where it does not belong.
const SEARCHED: [&str; 2] = ["Kanariensuche", "999-31-7732"];
/// No identifier, no record: nobody may tell them on.
const FORGED: &str = "kanarien.zahl.zeichen";
const SECRET: &str = "kanarien-geheimnis";
const PATIENT: &str = "kanarien-patient";

/// Whatever is written is kept.
#[derive(Clone, Default, Debug)]
struct Kept(Arc<Mutex<String>>);

impl Kept {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().push_str(&format!("{batch:?}\n"));
        Ok(())
    }
}

#[track_caller]
fn silent<'a>(what: &str, text: &str, canaries: impl IntoIterator<Item = &'a str>) {
    for canary in canaries {
        if let Some(at) = text.find(canary) {
            let from = text.floor_char_boundary(at.saturating_sub(200));
            let to = text.ceil_char_boundary(at + 200);
            let around = text.get(from..to).unwrap_or_default();
            panic!("{what} tells {canary}: …{around}…");
        }
    }
}

fn plant(neighbours: &Neighbours) {
    let ehr = &neighbours.ehr;
    ehr.put(json!({
        "resourceType": "Patient", "id": PATIENT, "name": [{"family": NAME, "given": ["Lied"]}],
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-ssn", "value": SSN}],
    }));
    ehr.put(json!({
        "resourceType": "Condition", "id": "kanarien-befund", "subject": {"reference": format!("Patient/{PATIENT}")},
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}]},
        "code": {"text": PART2}, "note": [{"text": format!("{NAME}: {PART2}")}],
    }));
}

struct Journey<'a> {
    world: &'a World,
    replies: Vec<(String, Reply)>,
}

impl Journey<'_> {
    async fn ask(&mut self, app: &App, token: &str, method: Method, below: &str, kind: &str, body: &str) -> u16 {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("authorization", authorization.as_str())];
        if !kind.is_empty() {
            headers.push(("content-type", kind));
        }
        let url = format!("{}{below}", self.world.base_url());
        let reply = app.client.send(method.clone(), &url, &headers, body.to_owned()).await.unwrap();
        let status = reply.status.as_u16();
        self.replies.push((format!("{method} {below} ({status})"), reply));
        status
    }

    async fn get(&mut self, app: &App, below: &str) -> u16 {
        self.ask(app, &app.token, Method::GET, below, "", "").await
    }
}

async fn successes_and_refusals(journey: &mut Journey<'_>, treatment: &App, research: &App) {
    for below in [format!("/Patient/{PATIENT}"), format!("/Condition?patient={PATIENT}")] {
        assert_eq!(journey.get(treatment, &below).await, 200, "{below}");
        journey.get(research, &below).await;
    }
    journey.get(research, "/Condition/kanarien-befund").await;
    for below in [
        "/Patient?family=Kanariensuche",
        "/Patient?identifier=http://hl7.org/fhir/sid/us-ssn|999-31-7732",
        "/Patient?kanariensuche=Kanariensuche",
        "/Patient?family:Kanariensuche=Kanariensuche",
        "/Patient?birthdate=Kanariensuche",
        "/Condition?_include=Condition:Kanariensuche",
        "/Kanariensuche/1",
        "/Patient/Kanariensuche%2F..",
        "/Patient/Kanariensuche_und_noch_viel_mehr",
        "/Patient/Kanariensuche/$everything?start=Kanariensuche",
        "/Patient/$Kanariensuche",
    ] {
        journey.get(treatment, below).await;
    }
    let form = "application/x-www-form-urlencoded";
    let search = "family=Kanariensuche&identifier=http://hl7.org/fhir/sid/us-ssn|999-31-7732";
    journey.ask(treatment, &treatment.token, Method::POST, "/Patient/_search", form, search).await;
}

async fn bad_credentials(journey: &mut Journey<'_>, treatment: &App) {
    let neighbours = &journey.world.neighbours;
    let expired = neighbours.issuer.mint_flawed(&neighbours.grant(treatment), Flaw::Expired).unwrap();
    for token in [FORGED, "kanarien-geheimnis", &expired] {
        assert_eq!(journey.ask(treatment, token, Method::GET, "/Patient/dov-hart", "", "").await, 401);
    }
    let below = format!("/Patient/dov-hart?access_token={FORGED}");
    journey.get(treatment, &below).await;
    // A client that puts its secret into the form, as many do.
    let form = format!("grant_type=authorization_code&code={FORGED}&client_id=kanarien&client_secret={SECRET}");
    let url = format!("{}/auth/token", neighbours.smart_url());
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let reply = neighbours.anonymous().unwrap().send(Method::POST, &url, &[kind], form).await.unwrap();
    journey.replies.push(("POST /auth/token".to_owned(), reply));
}

async fn bodies(journey: &mut Journey<'_>, treatment: &App) {
    let neighbours = &journey.world.neighbours;
    let mut grant = neighbours.grant(treatment);
    grant.scope = "user/*.rs user/Observation.cud user/Condition.cud".to_owned();
    let token = neighbours.issuer.mint(&grant).unwrap();
    let (json, patch) = ("application/fhir+json", "application/json-patch+json");
    let torn = format!(r#"{{"resourceType":"Observation","note":[{{"text":"{NAME} {PART2}"#);
    let twice = format!(r#"{{"resourceType":"Observation","resourceType":"{NAME}","status":"{SSN}"}}"#);
    let other = format!(r#"{{"resourceType":"Observation","id":"{PART2}","status":"final"}}"#);
    for body in [torn.as_str(), &twice, &other, NAME] {
        journey.ask(treatment, &token, Method::POST, "/Observation", json, body).await;
    }
    let change = format!(
        r#"[{{"op":"replace","path":"/{NAME}","value":"{SSN}"}},{{"op":"test","path":"/id","value":"{PART2}"}}]"#
    );
    for below in ["/Condition/bruno-hypertension", "/Condition/kanarien-befund"] {
        journey.ask(treatment, &token, Method::PATCH, below, patch, &change).await;
        journey.ask(treatment, &token, Method::PATCH, below, patch, &torn).await;
    }
    // What the EHR has against a write may hold what was written.
    let said = format!(
        r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","diagnostics":"{NAME} {SSN}"}}]}}"#
    );
    neighbours.ehr.misbehave(Some("Observation"), Misbehaviour::Body(said.into_bytes()));
    let good = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/dov-hart"}}"#;
    journey.ask(treatment, &token, Method::POST, "/Observation", json, good).await;
    neighbours.ehr.behave();
}

async fn a_bad_upstream(journey: &mut Journey<'_>, treatment: &App) {
    let named = format!(r#"{{"resourceType":"Patient","id":"{NAME}","name":[{{"family":"{NAME}"}}]}}"#);
    for how in [
        Misbehaviour::ServerError,
        Misbehaviour::TruncatedJson,
        Misbehaviour::DuplicateKeys,
        Misbehaviour::WrongContentType,
        Misbehaviour::DieMidAnswer,
        Misbehaviour::Unavailable,
        Misbehaviour::Redirect(format!("https://elsewhere.example/{NAME}?ssn={SSN}")),
        Misbehaviour::Body(named.into_bytes()),
        Misbehaviour::Body(format!("{NAME} {PART2}").into_bytes()),
    ] {
        journey.world.neighbours.ehr.misbehave(Some("Patient"), how.clone());
        let status = journey.get(treatment, &format!("/Patient/{PATIENT}")).await;
        assert!(status >= 500, "{how:?}: {status}");
    }
    journey.world.neighbours.ehr.behave();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_canary_sings_where_it_must_not() {
    let (logs, spans) = (Kept::default(), Kept::default());
    let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    let writer = logs.clone();
    let telemetry = Telemetry::start_on(move || writer.clone(), Some(provider), "trace", LogFormat::Json).unwrap();
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("mode: enforce", "mode: enforce\nsmart: {mode: front}")).unwrap();
    let world = World::between(neighbours).unwrap();
    plant(&world.neighbours);
    let (treatment, research) = (world.neighbours.treatment.clone(), world.neighbours.research.clone());
    let mut journey = Journey { world: &world, replies: Vec::new() };
    successes_and_refusals(&mut journey, &treatment, &research).await;
    bad_credentials(&mut journey, &treatment).await;
    bodies(&mut journey, &treatment).await;
    a_bad_upstream(&mut journey, &treatment).await;
    let replies = journey.replies;

    // Credentials are told nowhere; a signed token is told apart by its signature.
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let credentials = [signature(&treatment.token), signature(&research.token), FORGED.to_owned(), SECRET.to_owned()];
    let credentials: Vec<&str> = credentials.iter().map(String::as_str).collect();
    let record: Vec<&str> = CONTENT.iter().chain(&credentials).copied().collect();
    let everything: Vec<&str> = record.iter().chain(&SEARCHED).copied().chain([PATIENT]).collect();

    let admin = world.neighbours.admin_url();
    let stranger = world.neighbours.anonymous().unwrap();
    let mut told = Vec::new();
    for path in ["/metrics", "/config", "/readyz?verbose", "/livez", "/startupz"] {
        let reply = stranger.send(Method::GET, &format!("{admin}{path}"), &[], "").await.unwrap();
        told.push((path, reply.text()));
    }
    let mut explained = 0;
    for (what, reply) in &replies {
        let headers = format!("{:?}", reply.headers);
        silent(what, &headers, record.iter().copied().chain(SEARCHED));
        if reply.status.is_success() {
            silent(what, &reply.text(), credentials.iter().copied());
        } else {
            silent(what, &reply.text(), everything.iter().copied());
        }
        let id = reply.header("x-request-id");
        let url = format!("{admin}/decisions/{id}");
        let decision = stranger.send(Method::GET, &url, &[], "").await.unwrap();
        explained += usize::from(decision.status == 200);
        silent(&format!("the decision on {what}"), &decision.text(), record.iter().copied());
    }
    // The legitimate neighbours: what is disclosed is there, and what is guarded was looked at.
    assert!(replies[0].1.text().contains(NAME) && replies[0].1.text().contains(SSN));
    assert!(explained >= 15, "{explained} of {}", replies.len());
    for (path, text) in &told {
        silent(path, text, everything.iter().copied());
    }
    world.stop().await;
    telemetry.stop();
    let (logs, spans) = (logs.text(), spans.text());
    assert!(spans.contains("decide") && spans.contains("redact"), "the stages are spans");
    assert!(logs.lines().count() > 3, "{logs}");
    silent("a log line", &logs, everything.iter().copied());
    silent("a span", &spans, everything.iter().copied());
    // The log may name the patient by id, and what was searched for. It holds no content and no credential.
    let log = everything_in(&dir.path().join("audit"));
    assert!(log.contains(PATIENT));
    silent("the audit log", &log, record.iter().copied());
}

fn everything_in(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    text
}
