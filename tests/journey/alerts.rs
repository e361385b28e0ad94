//! Alerts reach people, signed, once; lockdowns hold from the next request.

use std::time::Duration;

use base64::Engine as _;
use fhirwall::alerts::Alert;
use fhirwall::audit::webhook::WebhookSecret;
use fhirwall::demo::world::{Neighbours, World};
use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::Stage;
use crate::receiver::Receiver;

const SECRET: [u8; 32] = [7; 32];

/// A world that tells its alerts to this webhook.
async fn world_told_to(receiver: &Receiver) -> (World, TempDir) {
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let secret = base64::engine::general_purpose::STANDARD.encode(SECRET);
    let key = dir.path().join("keys/webhook");
    std::fs::write(&key, secret).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let sink = format!("{{kind: webhook, url: \"http://{}/hook\", secret_file: keys/webhook}}", receiver.address);
    let text = text.replace("audit: {dir: audit,", &format!("audit: {{sinks: [{sink}], dir: audit,"));
    let text = text.replace("denied_requests: {threshold: 5000,", "denied_requests: {threshold: 3,");
    std::fs::write(&file, text).unwrap();
    (World::between(neighbours).unwrap(), dir)
}

/// The alerts that were told, each with a good signature.
fn alerts(receiver: &Receiver) -> Vec<(String, String)> {
    let secret = WebhookSecret::from_text(&base64::engine::general_purpose::STANDARD.encode(SECRET)).unwrap();
    let told = receiver.told();
    let of = |told: &crate::receiver::Told| {
        let at = OffsetDateTime::from_unix_timestamp(told.header("webhook-timestamp").parse().unwrap()).unwrap();
        let signature = secret.signature(told.header("webhook-id"), at, &told.body);
        assert_eq!(told.header("webhook-signature"), signature);
        let message: Value = serde_json::from_str(&told.body).unwrap();
        let body = &message["data"]["body"];
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        (message["type"] == "fhirwall.alert").then(|| (text("alert"), text("subject")))
    };
    told.iter().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_a_suspended_partner_and_a_broken_chain_are_told_once_each_and_signed() {
    let receiver = Receiver::start();
    let (world, dir) = world_told_to(&receiver).await;
    let app = &world.research;
    let ask = |below: String| async move { app.client.get(&below, &app.token).await.unwrap().status.as_u16() };
    assert_eq!(ask(format!("{}/Patient?_id=amara-osei", world.base_url())).await, 200);
    // The demo's own certificates are short-lived, and that is told.
    let expiry = |(name, _): &(String, String)| name == Alert::CertificateExpiry.as_str();
    assert!(alerts(&receiver).iter().all(expiry), "nothing else yet");
    for number in 0..5 {
        ask(format!("{}/Condition/guess-{number}", world.base_url())).await;
    }
    receiver.until(|text| text.contains(Alert::Denials.as_str())).await;
    let file = dir.path().join("partners/cohort-lens.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("status: active", "status: suspended")).unwrap();
    let mut status = world.gateway.live.subscribe();
    status.mark_unchanged();
    world.gateway.reload();
    status.changed().await.unwrap();
    // It is slowed down by now: some of these are refused for that.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(2100)).await;
        ask(format!("{}/Patient?_id=amara-osei", world.base_url())).await;
    }
    receiver.until(|text| text.contains(Alert::SuspendedPartner.as_str())).await;

    world.gateway.look().await;
    let segment = dir.path().join("audit/audit-00000001.ndjson");
    let bytes = std::fs::read(&segment).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 40;
    // One byte in place: the gateway goes on writing behind it.
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    let put = |byte: u8| std::os::unix::fs::FileExt::write_at(&file, &[byte], at as u64).unwrap();
    put(bytes[at] ^ 1);
    world.gateway.look().await;
    world.gateway.look().await;
    put(bytes[at]);
    let metrics = world.gateway.shared.metrics.text().unwrap();
    assert!(metrics.contains("fhirwall_audit_chain_breaks_total 2"), "{metrics}");
    receiver.until(|text| text.contains(Alert::ChainBreak.as_str())).await;
    let told = alerts(&receiver);
    for alert in [Alert::Denials, Alert::SuspendedPartner, Alert::ChainBreak] {
        let of = |(name, _): &&(String, String)| name == alert.as_str();
        assert_eq!(told.iter().filter(of).count(), 1, "{told:?}");
    }
    assert!(told.contains(&(Alert::SuspendedPartner.as_str().to_owned(), "cohort-lens".to_owned())), "{told:?}");
    assert!(!receiver.text().contains("amara-osei"), "an alert names no patient");
}

#[tokio::test(flavor = "multi_thread")]
async fn part_2_data_of_many_patients_and_certificates_that_run_out_are_told() {
    let receiver = Receiver::start();
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let sink = format!("{{kind: otlp, url: \"http://{}\"}}", receiver.address);
    let text = text.replace("audit: {dir: audit,", &format!("audit: {{sinks: [{sink}], dir: audit,"));
    let text = text.replace("risk: {", "risk: {part2_access: {threshold: 1, window: 1h, answer: alert}, ");
    std::fs::write(&file, text).unwrap();
    let world = World::between(neighbours).unwrap();
    let app = &world.treatment;
    let url = format!("{}/Condition?_count=100", world.base_url());
    for _ in 0..2 {
        assert_eq!(app.client.get(&url, &app.token).await.unwrap().status, 200, "an alert stops nobody");
    }
    receiver.until(|text| text.contains(Alert::Part2Export.as_str())).await;
    // The demo's own certificates are short-lived ones.
    let ends = world.gateway.shared.metrics.text().unwrap();
    assert!(ends.contains("fhirwall_certificate_expiry_seconds{name="), "{ends}");
    assert_eq!(receiver.text().contains("certificate-expiry"), ends.lines().any(soon), "{ends}");
}

/// Is this the metric of a certificate with less than 30 days left?
fn soon(line: &str) -> bool {
    let seconds = line.strip_prefix("fhirwall_certificate_expiry_seconds").and_then(|line| line.rsplit(' ').next());
    seconds.is_some_and(|seconds| seconds.parse::<f64>().unwrap() < 30.0 * 86_400.0)
}

impl Stage {
    async fn ask_admin(&self, method: Method, below: &str, body: &str) -> (u16, Value) {
        let url = format!("{}{below}", self.neighbours().admin_url());
        let headers = [("x-fhirwall-admin", "1"), ("content-type", "application/json")];
        let client = self.neighbours().anonymous().unwrap();
        let reply = client.send(method, &url, &headers, body.to_owned()).await.unwrap();
        (reply.status.as_u16(), reply.json())
    }

    pub(crate) async fn lock_down(&self, scope: &str) -> String {
        let until = (OffsetDateTime::now_utc() + time::Duration::hours(1))
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        let order =
            format!(r#"{{"scope": {scope}, "until": "{until}", "reason": "a leak is suspected", "by": "officer"}}"#);
        let (status, body) = self.ask_admin(Method::POST, "/lockdowns", &order).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    async fn lift(&self, id: &str) {
        let body = r#"{"reason": "it was none", "by": "officer"}"#;
        assert_eq!(self.ask_admin(Method::POST, &format!("/lockdowns/{id}/lift"), body).await.0, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lockdown_holds_from_the_next_request_for_whom_it_names_and_for_nobody_else() {
    let stage = Stage::set().await;
    let hidden = || async { stage.treatment("/Condition/amara-opioid-use").await.status.as_u16() };
    let plain = || async { stage.treatment("/Patient/amara-osei").await.status.as_u16() };
    let research = || async { stage.research("/Patient?_id=amara-osei").await.status.as_u16() };
    assert_eq!((hidden().await, plain().await, research().await), (200, 200, 200));
    let app = &stage.neighbours().treatment;
    let grant = stage.neighbours().grant(app);
    let user = format!(r#"{{"user": {{"issuer": "{}", "sub": "{}"}}}}"#, stage.neighbours().issuer.issuer(), grant.sub);
    for (scope, expected) in [
        (r#""part2""#.to_owned(), (404, 200, 200)),
        (format!(r#"{{"partner": {{"client_id": "{}"}}}}"#, grant.client_id), (403, 403, 200)),
        (user, (403, 403, 200)),
        (r#"{"endpoint": {"name": "main"}}"#.to_owned(), (403, 403, 403)),
        (r#"{"endpoint": {"name": "another"}}"#.to_owned(), (200, 200, 200)),
    ] {
        let id = stage.lock_down(&scope).await;
        assert_eq!((hidden().await, plain().await, research().await), expected, "{scope}");
        stage.lift(&id).await;
        assert_eq!((hidden().await, plain().await, research().await), (200, 200, 200), "{scope} lifted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_reason_name_or_end_is_refused_and_so_is_a_form_of_another_page() {
    let stage = Stage::set().await;
    for body in [
        r#"{"scope": "part2", "until": "2020-01-01T00:00:00Z", "reason": "x", "by": "y"}"#,
        r#"{"scope": "part2", "until": "2999-01-01T00:00:00Z", "reason": "x", "by": "y"}"#,
        r#"{"scope": "part2", "reason": "x", "by": "y"}"#,
        r#"{"scope": "everything", "until": "2027-01-01T00:00:00Z", "reason": "x", "by": "y"}"#,
    ] {
        assert_eq!(stage.ask_admin(Method::POST, "/lockdowns", body).await.0, 400, "{body}");
    }
    let until = (OffsetDateTime::now_utc() + time::Duration::hours(1))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    for (reason, by) in [("", "officer"), ("leak", " ")] {
        let body = format!(r#"{{"scope": "part2", "until": "{until}", "reason": "{reason}", "by": "{by}"}}"#);
        assert_eq!(stage.ask_admin(Method::POST, "/lockdowns", &body).await.0, 400);
    }
    assert_eq!(stage.ask_admin(Method::POST, "/lockdowns/none/lift", r#"{"reason": "x", "by": "y"}"#).await.0, 404);
    let url = format!("{}/lockdowns", stage.neighbours().admin_url());
    let client = stage.neighbours().anonymous().unwrap();
    let forged = client.send(Method::POST, &url, &[], Vec::new()).await.unwrap();
    assert_eq!(forged.status, 403);
    let (_, listed) = stage.ask_admin(Method::GET, "/lockdowns", "").await;
    assert_eq!(listed["lockdowns"].as_array().map(Vec::len), Some(0));
}
