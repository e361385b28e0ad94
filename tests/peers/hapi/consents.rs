//! HAPI as the place of Consents, and as the place where AuditEvents are kept.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Stage, rows, tells};

/// A patient with a protected record of her own, and a consent as Amara's.
async fn consenting(stage: &Stage, id: &str) -> Value {
    stage.put(&json!({"resourceType": "Patient", "id": id, "name": [{"family": "Amsel", "given": ["Ruth"]}]})).await;
    let about = json!({"reference": format!("Patient/{id}")});
    let mut condition = stage.world.ehr.resource("Condition", "amara-opioid-use").unwrap();
    (condition["id"], condition["subject"]) = (json!(format!("{id}-opioid")), about.clone());
    condition.as_object_mut().unwrap().remove("encounter");
    stage.put(&condition).await;
    let mut consent = stage.world.ehr.resource("Consent", "amara-consent").unwrap();
    (consent["id"], consent["patient"]) = (json!(format!("{id}-consent")), about.clone());
    consent["performer"] = json!([about.clone()]);
    consent["verification"][0]["verifiedWith"] = about;
    consent
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_consent_holds_from_the_next_request_and_so_does_its_revocation() {
    for source in ["upstream", "server"] {
        let set = Stage::set_on(|neighbours, hapi| {
            let file = neighbours.config_file();
            let text = std::fs::read_to_string(&file).unwrap();
            let server = format!("consent: {{source: server, url: \"{hapi}\",");
            let text = if source == "server" { text.replace("consent: {source: upstream,", &server) } else { text };
            std::fs::write(&file, text).unwrap();
        });
        let Some(stage) = set.await else { return };
        let id = format!("ruth-{source}");
        let mut consent = consenting(&stage, &id).await;
        let app = &stage.world.treatment;
        let sees = async |wanted: bool, why: &str| {
            let read = stage.get(app, &format!("/Condition/{id}-opioid")).await;
            let found = stage.get(app, &format!("/Condition?patient={id}")).await;
            assert_eq!(read.status, if wanted { 200 } else { 404 }, "{why}: {}", read.text());
            assert_eq!(rows(&found, "match").len(), usize::from(wanted), "{why}: {}", found.text());
            assert!(wanted || tells(&found.text()).is_none(), "{why}: {}", found.text());
            println!("consent.source {source}: {why}: {}", read.status);
        };
        consent["status"] = json!("inactive");
        stage.put(&consent).await;
        sees(false, "not in force").await;
        consent["status"] = json!("active");
        stage.put(&consent).await;
        sees(true, "given a moment ago").await;
        consent["status"] = json!("inactive");
        stage.put(&consent).await;
        sees(false, "revoked a moment ago").await;
        // A second one, new to HAPI: searches that were made a moment ago know nothing of it.
        consent["status"] = json!("active");
        stage.put(&consent).await;
        sees(true, "given again").await;
        let mut denial = stage.world.ehr.resource("Consent", "celia-refusal").unwrap();
        denial["id"] = json!(format!("{id}-refusal-{}", super::writes::fresh()));
        for member in ["patient", "performer", "verification"] {
            denial[member] = consent[member].clone();
        }
        stage.put(&denial).await;
        sees(false, "a denial written a moment ago").await;
        denial["status"] = json!("inactive");
        stage.put(&denial).await;
        sees(true, "the denial withdrawn").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_takes_the_audit_events_and_finds_them_by_patient() {
    let set = Stage::set_on(|neighbours, hapi| {
        let file = neighbours.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let sink = format!("audit: {{sinks: [{{kind: fhir, url: \"{hapi}\"}}], dir: audit,");
        std::fs::write(&file, text.replace("audit: {dir: audit,", &sink)).unwrap();
    });
    let Some(stage) = set.await else { return };
    let app = &stage.world.treatment;
    let before = stage.stored("/AuditEvent?patient=dov-hart&_summary=count").await.json()["total"].as_u64().unwrap();
    for (below, status) in [
        ("/Patient/dov-hart", 200),
        ("/Condition?patient=dov-hart", 200),
        ("/Condition/amara-opioid-use", 200),
        ("/Condition/bruno-opioid-use", 404),
        ("/Patient/nobody-of-this-name", 404),
        ("/Observation?patient=nobody-of-this-name", 200),
        ("/Condition?_filter=x", 403),
    ] {
        assert_eq!(stage.get(app, below).await.status, status, "{below}");
    }
    let text = || stage.world.gateway.shared.metrics.text().unwrap();
    let of = |name: &str| {
        let text = text();
        let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let told = stage.stored("/AuditEvent?patient=dov-hart&_summary=count").await.json()["total"].as_u64().unwrap();
        // Read and search; and the disclosures of the two answers.
        if of("fhirwall_audit_sink_behind") == Some(0.0) && told >= before + 4 {
            break;
        }
        assert!(Instant::now() < until, "{:?} behind, {told} told", of("fhirwall_audit_sink_behind"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let parked: Vec<String> = text()
        .lines()
        .filter(|line| line.contains("parked") || line.contains("sink_refused"))
        .map(str::to_owned)
        .collect();
    println!("{parked:?}");
    let consents = stage.stored("/AuditEvent?entity=Consent/amara-consent&_count=1").await.json();
    assert!(consents["entry"].is_array(), "the decision by consent names the consent: {consents}");
    println!("AuditEvents at HAPI: none behind; found by patient, and by the consent that an answer rested on");
    assert!(parked.iter().filter(|line| !line.starts_with('#')).all(|line| line.ends_with(" 0")), "{parked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_leaves_out_at_the_source_what_a_silent_partner_may_never_see() {
    let set = Stage::set_on(|neighbours, _| {
        let file = neighbours.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("timeout: 10s", "timeout: 10s\n      security_not: true")).unwrap();
    });
    let Some(stage) = set.await else { return };
    let Some(plain) = Stage::set().await else { return };
    for below in [
        "/Condition?patient=bruno-vale",
        "/Condition?code=I10,F11.20,F11.21&_count=2",
        "/Observation?patient=bruno-vale&_count=3",
        "/MedicationRequest?patient=amara-osei,bruno-vale,celia-moss,dov-hart",
        "/List?patient=bruno-vale",
    ] {
        let gather = async |stage: &Stage| {
            let (mut found, mut reply) = (Vec::new(), stage.get(&stage.world.research, below).await);
            loop {
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert!(!reply.text().contains("_security"), "{}", reply.text());
                found.extend(rows(&reply, "match"));
                let Some(next) = super::link(&reply, "next") else {
                    // Two searches without an order need not come in the same one.
                    found.sort();
                    return found;
                };
                reply = stage.get(&stage.world.research, &next).await;
            }
        };
        let (pushed, judged) = (gather(&stage).await, gather(&plain).await);
        assert_eq!(pushed, judged, "{below}");
        assert!(!pushed.is_empty());
        // HAPI honours it: asked for the same itself, it gives fewer rows.
        let not = "_security:not=http://terminology.hl7.org/CodeSystem/v3-ActCode%7C42CFRPart2&_count=100";
        let all = rows(&plain.stored(below).await, "match").len();
        let fewer = rows(&plain.stored(&format!("{below}&{not}")).await, "match").len();
        println!(
            "{below}: {} rows with and without push-down; on HAPI's first page {all}, and {fewer} by `_security:not`",
            pushed.len()
        );
    }
}
