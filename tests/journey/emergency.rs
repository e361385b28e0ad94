//! Emergency access (42 CFR 2.51), whole: for whom, for how long, for which patient, on which authentication; on record, and
//! told to the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fhirwall::audit::event::{Site, events};
use fhirwall::audit::read::{Filter, entries};
use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::Stage;

const BRUNO: &str = "/MedicationRequest?patient=bruno-vale";
const CELIA: &str = "/Condition?patient=celia-moss";

impl Stage {
    /// A world in which the treating partner is registered for emergencies.
    async fn with_emergencies(extra: &str) -> Self {
        let stage = Self::set().await;
        stage.edit("partners/recovery-path.yaml", |text| text.replace("[TREAT]", "[TREAT, BTG]"));
        let emergency = "emergency: {acr_values: [hardware-key], discloser: \"Harbor House, records office\"}\n";
        stage.edit("fhirwall.yaml", |text| text + emergency + extra);
        let generation = stage.reload().await;
        assert_eq!(generation, 2, "{:?}", stage.world.gateway.live.status().rejected.map(|it| it.problems));
        stage
    }

    /// The clinician asks under an emergency claim for Bruno Vale, with `claims` in place of the good ones.
    async fn in_emergency(&self, method: Method, below: &str, claims: Value) -> Reply {
        let app = &self.neighbours().treatment;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let mut grant = self.neighbours().grant(app);
        grant.scope = "user/*.rs user/Condition.cud".to_owned();
        let good = json!({
            "purpose_of_use": "BTG", "amr": ["pwd", "mfa"], "auth_time": now - 60,
            "emergency": {
                "reason": "found unconscious, unknown medication", "patient": "bruno-vale", "until": now + 600,
                "name": "Dr. Noor Haddad", "affiliation": "Mill Street Family Clinic",
            },
        });
        let mut all: Map<String, Value> = good.as_object().unwrap().clone();
        all.extend(claims.as_object().unwrap().clone());
        all.retain(|_, value| !value.is_null());
        grant.claims = all;
        let token = self.neighbours().issuer.mint(&grant).unwrap();
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
        let body = if method == Method::GET { String::new() } else { r#"{"resourceType":"Condition"}"#.to_owned() };
        app.client.send(method, &self.url(below), &headers, body).await.unwrap()
    }

    async fn claims(&self, below: &str, claims: Value) -> Reply {
        self.in_emergency(Method::GET, below, claims).await
    }
}

fn rows(reply: &Reply) -> usize {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let entries = reply.json()["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().filter(|entry| entry["search"]["mode"] == "match").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_opens_the_one_patient_and_no_other() {
    let stage = Stage::with_emergencies("").await;
    let without = rows(&stage.claims(BRUNO, json!({"purpose_of_use": "TREAT", "emergency": null})).await);
    let opened = rows(&stage.claims(BRUNO, json!({})).await);
    assert!(opened > without, "{opened} rows in an emergency, {without} without");
    // Another patient has nothing to show, not even what is ordinary; and consents were not waited for.
    assert_eq!(rows(&stage.claims(CELIA, json!({})).await), 0);
    assert_eq!(rows(&stage.claims("/AllergyIntolerance?patient=dov-hart", json!({})).await), 0);
    assert!(rows(&stage.claims("/AllergyIntolerance?patient=dov-hart", json!({"purpose_of_use": "TREAT"})).await) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_strongly_authenticated_is_told_to_step_up() {
    let stage = Stage::with_emergencies("").await;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    stage.asked();
    for weak in [
        json!({"amr": ["pwd"]}),
        json!({"amr": null}),
        json!({"auth_time": now - 3_600}),
        json!({"auth_time": null}),
        json!({"amr": ["pwd"], "acr": "password"}),
        json!({"amr": ["pwd"], "acr": "hardware-key", "auth_time": now - 3_600}),
    ] {
        let reply = stage.claims(BRUNO, weak.clone()).await;
        assert_eq!(reply.status, 401, "{weak}: {}", reply.text());
        let challenge = reply.header("www-authenticate");
        for part in [r#"error="insufficient_user_authentication""#, r#"acr_values="hardware-key""#, r#"max_age="900""#]
        {
            assert!(challenge.contains(part), "{weak}: {challenge}");
        }
    }
    assert_eq!(stage.asked(), Vec::<String>::new(), "the EHR was not asked");
    assert!(rows(&stage.claims(BRUNO, json!({"amr": ["pwd"], "acr": "hardware-key"})).await) > 0);
    // Who asks for treatment is not asked to step up.
    let plain = json!({"purpose_of_use": "TREAT", "amr": null, "auth_time": null, "emergency": null});
    assert_eq!(stage.claims(BRUNO, plain).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_for_registered_partners_and_clinicians_with_a_complete_claim_for_its_time_and_for_reading() {
    let stage = Stage::with_emergencies("").await;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let claim = |until: i64| json!({"reason": "unconscious", "patient": "bruno-vale", "until": until});
    stage.asked();
    for (refused, status) in [
        (json!({"emergency": claim(now - 1)}), 403),
        (json!({"emergency": null}), 403),
        (json!({"emergency": {"reason": " ", "patient": "bruno-vale", "until": now + 600}}), 401),
        (json!({"emergency": {"reason": "unconscious", "until": now + 600}}), 401),
        (json!({"fhirUser": "Patient/bruno-vale"}), 403),
        (json!({"purpose_of_use": "ETREAT"}), 403),
    ] {
        let reply = stage.claims(BRUNO, refused.clone()).await;
        assert_eq!(reply.status, status, "{refused}: {}", reply.text());
        assert!(!reply.header("www-authenticate").contains("insufficient_user_authentication"), "{refused}");
    }
    let write = stage.in_emergency(Method::PUT, "/Condition/bruno-asthma", json!({})).await;
    assert_eq!(write.status, 403, "{}", write.text());
    assert_eq!(stage.asked(), Vec::<String>::new(), "the EHR was not asked");
    assert!(rows(&stage.claims(BRUNO, json!({"emergency": claim(now + 600)})).await) > 0);
    // The research partner is not registered for it, whatever its token says.
    let research = &stage.neighbours().research;
    let mut grant = stage.neighbours().grant(research);
    grant.claims = json!({"purpose_of_use": "BTG", "emergency": claim(now + 600)}).as_object().unwrap().clone();
    let token = stage.neighbours().issuer.mint(&grant).unwrap();
    let reply = research.client.get(&stage.url("/Patient?_id=bruno-vale"), &token).await.unwrap();
    assert_eq!(reply.status, 403, "{}", reply.text());
}

/// A program that fails the first message, and takes those after.
async fn program() -> (String, mpsc::UnboundedReceiver<Value>, Arc<AtomicU32>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/emergencies", socket.local_addr().unwrap());
    let (told, messages) = mpsc::unbounded_channel();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = socket.accept().await {
            let mut text = Vec::new();
            let mut part = [0_u8; 4096];
            let body = loop {
                let read = connection.read(&mut part).await.unwrap_or(0);
                text.extend_from_slice(&part[..read]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = whole.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        assert!(head.to_ascii_lowercase().contains("webhook-signature: v1,"), "{head}");
                        break body.to_owned();
                    }
                }
                if read == 0 {
                    break String::new();
                }
            };
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let status = if first { "500 Internal Server Error" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = connection.write_all(answer.as_bytes()).await;
            if !first {
                let _ = told.send(serde_json::from_str(&body).unwrap_or_default());
            }
        }
    });
    (url, messages, attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_2_51_c_wants_is_on_record_as_an_audit_event_and_with_the_program() {
    let (url, mut messages, attempts) = program().await;
    // Sinks are fixed at the start.
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = fhirwall::demo::world::Neighbours::start(dir.path(), None).await.unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = neighbours.dir().join("keys/webhook");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let sink = format!("audit: {{sinks: [{{kind: emergency, url: \"{url}\", secret_file: keys/webhook}}], dir: audit,");
    std::fs::write(&file, text.replace("audit: {dir: audit,", &sink)).unwrap();
    let stage = Stage { world: fhirwall::demo::world::World::between(neighbours).unwrap(), _dir: dir };
    stage.edit("partners/recovery-path.yaml", |text| text.replace("[TREAT]", "[TREAT, BTG]"));
    stage.edit("fhirwall.yaml", |text| text + "emergency: {discloser: \"Harbor House, records office\"}\n");
    assert_eq!(stage.reload().await, 2);

    let weak = stage.claims(BRUNO, json!({"amr": ["pwd"]})).await;
    assert_eq!(weak.status, 401);
    let reply = stage.claims(BRUNO, json!({})).await;
    assert!(rows(&reply) > 0);
    let decision = reply.header("x-request-id").to_owned();
    let record = stage.world.gateway.shared.audit.recent_decision(&decision).expect("a record");
    let emergency = &record["emergency"];
    assert_eq!(emergency["reason"], "found unconscious, unknown medication");
    assert_eq!(emergency["name"], "Dr. Noor Haddad");
    assert_eq!(emergency["affiliation"], "Mill Street Family Clinic");
    assert_eq!(emergency["discloser"], "Harbor House, records office");
    assert_eq!(emergency["patient"], "bruno-vale");

    // The program was away at first, and is told all the same.
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), messages.recv()).await.unwrap().unwrap();
    assert!(attempts.load(Ordering::SeqCst) >= 2);
    assert_eq!(told["type"], "fhirwall.emergency-disclosure");
    let data = &told["data"];
    assert_eq!(data["decision"], decision.as_str());
    assert_eq!(data["recipient"]["name"], "Dr. Noor Haddad");
    assert_eq!(data["recipient"]["affiliation"], "Mill Street Family Clinic");
    assert_eq!(data["discloser"], "Harbor House, records office");
    assert_eq!(data["nature"], "found unconscious, unknown medication");
    assert_eq!(data["patient"], "Patient/bruno-vale");
    assert!(data["disclosed_at"].as_str().is_some_and(|at| at.starts_with("20")), "{data}");
    assert!(data["records"].as_array().is_some_and(|records| !records.is_empty()), "{data}");

    let metrics = stage.world.gateway.shared.metrics.text().unwrap();
    assert!(metrics.contains(r#"fhirwall_emergency_accesses_total{outcome="disclosed"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"fhirwall_emergency_accesses_total{outcome="refused"} 1"#), "{metrics}");
    stage.world.gateway.shared.audit.close().await;
    let found = entries(&stage.neighbours().audit_dir(), None, &Filter::default()).unwrap();
    let alerts: Vec<&Value> = found
        .iter()
        .filter_map(|entry| entry.body.as_ref())
        .filter(|body| body["alert"] == "emergency-access")
        .collect();
    assert_eq!(alerts.len(), 1, "what was refused showed nothing");
    assert!(alerts.iter().all(|alert| !alert.to_string().contains("bruno")), "an alert names no patient");
    let site = Site { name: "fhirwall".to_owned(), base_url: stage.neighbours().base_url() };
    let events: Vec<Value> = found.iter().flat_map(|entry| events(entry, &site)).collect();
    let overrides: Vec<&Value> = events.iter().filter(|event| event["subtype"][0]["code"] == "110127").collect();
    assert_eq!(overrides.len(), 1);
    let event = overrides[0].to_string();
    for part in [
        "found unconscious",
        "Dr. Noor Haddad",
        "Mill Street",
        "Harbor House, records office",
        "Patient/bruno-vale",
        "BTG",
    ] {
        assert!(event.contains(part), "{part}: {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_slowed_down_by_no_rule_that_slows_the_same_user_down_otherwise() {
    let stage = Stage::with_emergencies("").await;
    stage.edit("fhirwall.yaml", |text| {
        let rule = "risk: {denied_requests: {threshold: 3, window: 5m, answer: throttle}}";
        text.replace("risk: {denied_requests: {threshold: 5000, window: 5m, answer: throttle}}", rule)
    });
    assert_eq!(stage.reload().await, 3);
    let ordinary = json!({"purpose_of_use": "TREAT", "emergency": null});
    let mut guesses = 0;
    while stage.claims(&format!("/Condition/guess-{guesses}"), ordinary.clone()).await.status != 429 {
        guesses += 1;
        assert!(guesses < 50, "guessing is never slowed down");
    }
    for _ in 0..10 {
        assert!(rows(&stage.claims(BRUNO, json!({})).await) > 0);
    }
    assert_eq!(stage.claims(BRUNO, ordinary).await.status, 429, "and without the emergency still is");
}
