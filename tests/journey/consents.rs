//! Where consents come from, and what happens while they cannot be had: for the EHR itself and for a consent server alike.

use std::time::{Duration, Instant};

use fhirwall::demo::ehr::{EhrServer, Misbehaviour};

use crate::Stage;

const LABELLED: &str = "/Condition?patient=amara-osei";
const UNLABELLED: &str = "/AllergyIntolerance?patient=dov-hart";
const HIDDEN: &str = "amara-opioid-use";

/// A world whose consents come from a server of their own.
async fn with_server(cache: &str) -> (Stage, EhrServer) {
    let stage = patient().await;
    let server = stage.neighbours().consent_server().await.unwrap();
    let source = format!(
        "consent: {{source: server, url: \"{}\", ca_file: tls/site/ca.pem, \
         client_certificate_file: tls/site/gateway-client.pem, client_key_file: tls/site/gateway-client.key, \
         timeout: 1s, cache: {cache}, unreadable: deny}}",
        server.base_url()
    );
    stage.edit("fhirwall.yaml", |text| {
        text.replace("consent: {source: upstream, cache: 1ms, unreadable: deny}", &source)
    });
    assert_eq!(stage.reload().await, 3, "{:?}", stage.world.gateway.live.status().rejected.map(|it| it.problems));
    (stage, server)
}

fn lies() -> Vec<Misbehaviour> {
    let foreign = r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Consent",
        "id":"x","status":"active","patient":{"reference":"Patient/somebody-else"}},"search":{"mode":"match"}}]}"#;
    let short = r#"{"resourceType":"Bundle","type":"searchset","total":3,"entry":[]}"#;
    vec![
        // Down.
        Misbehaviour::ServerError,
        Misbehaviour::Unavailable,
        Misbehaviour::DieMidAnswer,
        // Slow: beyond the deadline of the search.
        Misbehaviour::Slow(Duration::from_secs(6)),
        // Lying.
        Misbehaviour::TruncatedJson,
        Misbehaviour::WrongContentType,
        Misbehaviour::Redirect("https://elsewhere.example/fhir/Consent".to_owned()),
        Misbehaviour::Body(foreign.as_bytes().to_vec()),
        Misbehaviour::Body(short.as_bytes().to_vec()),
        Misbehaviour::Body(b"{}".to_vec()),
    ]
}

/// While `source` misbehaves, whoever needs consents gets 503, labelled or not, and everybody else is served; when it
/// behaves again, so do the answers, without a restart.
async fn outages(stage: &Stage, source: &EhrServer) {
    let patient = &stage.neighbours().patient;
    for how in lies() {
        source.misbehave(Some("Consent"), how.clone());
        for below in [LABELLED, UNLABELLED] {
            let reply = stage.treatment(below).await;
            assert_eq!(reply.status, 503, "{how:?} {below}: {}", reply.text());
            assert!(reply.text().contains("consent-source-unavailable"), "{how:?} {below}: {}", reply.text());
        }
        // 42 CFR 2.23 asks for no consent.
        let own = patient.client.get(&stage.url(LABELLED), &patient.token).await.unwrap();
        assert_eq!(own.status, 200, "{how:?}: {}", own.text());
        source.behave();
        // A source that broke off is left alone for a moment before it is asked again.
        let until = Instant::now() + Duration::from_secs(60);
        let mut reply = stage.treatment(LABELLED).await;
        while reply.status != 200 && Instant::now() < until {
            tokio::task::yield_now().await;
            reply = stage.treatment(LABELLED).await;
        }
        assert_eq!(reply.status, 200, "after {how:?}: {}", reply.text());
        assert!(reply.text().contains(HIDDEN), "after {how:?}: {}", reply.text());
    }
}

/// A world that takes as many requests as a test sends.
async fn patient() -> Stage {
    let stage = Stage::set().await;
    stage.edit("fhirwall.yaml", |text| {
        text + "limits:\n  partner: {requests_per_second: 100000}\n  user: {requests_per_second: 100000}\n  address: {requests_per_second: 100000}\n"
    });
    stage.edit("partners/recovery-path.yaml", |text| {
        text.replace("requests_per_second: 50", "requests_per_second: 100000")
    });
    assert_eq!(stage.reload().await, 2);
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_gives_no_consents_closes_what_needs_them_and_opens_again() {
    let stage = patient().await;
    outages(&stage, &stage.neighbours().ehr).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_server_that_gives_none_closes_what_needs_them_and_opens_again() {
    let (stage, server) = with_server("1ms").await;
    outages(&stage, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_server_is_asked_in_the_ehrs_stead_with_the_gateways_own_credential() {
    let (stage, server) = with_server("1ms").await;
    stage.neighbours().ehr.forget();
    // What the EHR says of consents does not matter, and what the server says does.
    stage.neighbours().ehr.delete("Consent", "amara-consent");
    assert!(stage.treatment(LABELLED).await.text().contains(HIDDEN));
    server.delete("Consent", "amara-consent");
    let reply = stage.treatment(LABELLED).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains(HIDDEN), "{}", reply.text());
    assert!(stage.neighbours().ehr.log().iter().all(|request| !request.path.contains("/Consent")));
    let asked = server.log();
    assert!(asked.iter().any(|request| request.path.contains("/Consent")));
    assert!(asked.iter().all(|request| request.peer.as_deref().is_some_and(|peer| peer.contains("gateway"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_from_a_consent_server_is_used_within_the_bound_of_the_cache() {
    let (stage, server) = with_server("5m").await;
    assert!(stage.treatment(LABELLED).await.text().contains(HIDDEN));
    server.misbehave(Some("Consent"), Misbehaviour::ServerError);
    // Fresh enough for the one who was asked about, and nothing is known of the other.
    assert_eq!(stage.treatment(LABELLED).await.status, 200);
    assert_eq!(stage.treatment(UNLABELLED).await.status, 503);
    stage.neighbours().consents_changed("amara-osei").await.unwrap();
    assert_eq!(stage.treatment(LABELLED).await.status, 503);
    server.behave();
    assert_eq!(stage.treatment(LABELLED).await.status, 200);
    assert_eq!(stage.treatment(UNLABELLED).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_consents_are_read_is_configured() {
    let stage = Stage::set().await;
    let mut consent = stage.neighbours().ehr.resource("Consent", "amara-consent").unwrap();
    consent.as_object_mut().unwrap().remove("verification");
    consent["performer"] = serde_json::json!([{"reference": "Patient/amara-osei"}]);
    stage.neighbours().ehr.put(consent);
    assert!(stage.treatment(LABELLED).await.text().contains(HIDDEN));
    let metrics = stage.world.gateway.shared.metrics.text().unwrap();
    assert!(metrics.contains(r#"fhirwall_consent_evaluations_total{outcome="permit"}"#), "{metrics}");
    // Her consent is attributed to her, and nobody verified the form.
    stage.edit("fhirwall.yaml", |text| {
        text.replace("unreadable: deny}", "unreadable: deny, part2: {signature: verified}}")
    });
    assert_eq!(stage.reload().await, 2);
    assert!(!stage.treatment(LABELLED).await.text().contains(HIDDEN));
    stage.edit("fhirwall.yaml", |text| {
        text.replace("part2: {signature: verified}", "zone_west: \"-05:00\", zone_east: \"-08:00\"")
    });
    assert_eq!(stage.reload().await, 2, "east of east");
}
