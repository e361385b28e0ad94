//! A hostile EHR, and an audit log that cannot be written: nothing leaves that was not understood and recorded.

use fhirwall::demo::ehr::Misbehaviour;

use crate::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_withheld() {
    let stage = Stage::set().await;
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
    for how in [
        Misbehaviour::TruncatedJson,
        Misbehaviour::DuplicateKeys,
        Misbehaviour::GzipBomb,
        Misbehaviour::WrongContentType,
        Misbehaviour::DieMidAnswer,
        Misbehaviour::Redirect("https://elsewhere.example/fhir/Patient/amara-osei".to_owned()),
        Misbehaviour::ServerError,
        // Whole and well-formed, but another patient's record.
        Misbehaviour::Body(br#"{"resourceType":"Patient","id":"bruno-vale"}"#.to_vec()),
        Misbehaviour::Body(br#"{"resourceType":"Organization","id":"amara-osei"}"#.to_vec()),
        Misbehaviour::Body(b"[]".to_vec()),
        Misbehaviour::Body(b"{}".to_vec()),
        Misbehaviour::Body(b"".to_vec()),
    ] {
        stage.neighbours().ehr.misbehave(Some("Patient"), how.clone());
        let reply = stage.treatment("/Patient/amara-osei").await;
        assert_eq!(reply.status, 502, "{how:?}: {}", reply.text());
        assert!(!reply.text().contains("mara"), "{how:?}: {}", reply.text());
        let decision = reply.header("x-request-id").to_owned();
        let record = stage.world.gateway.shared.audit.recent_decision(&decision).expect("a record");
        assert_eq!(record["status"], 502, "{how:?}");
    }
    stage.neighbours().ehr.behave();
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_disclosed_without_a_record() {
    let stage = Stage::set().await;
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
    stage.world.gateway.shared.audit.close().await;
    for below in ["/Patient/amara-osei", "/Condition?patient=amara-osei", "/Patient/there-is-none"] {
        let reply = stage.treatment(below).await;
        assert_eq!(reply.status, 503, "{below}: {}", reply.text());
        assert!(reply.text().contains("audit-unavailable"), "{below}");
        assert!(!reply.text().contains("mara"), "{below}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_is_away_or_busy_is_told_as_such() {
    let stage = Stage::set().await;
    stage.neighbours().ehr.misbehave(Some("Patient"), Misbehaviour::Unavailable);
    let reply = stage.treatment("/Patient/amara-osei").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "7", "as the EHR said");
    stage.neighbours().ehr.behave();
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_source_that_is_away_closes_everything_that_needs_it() {
    let stage = Stage::set().await;
    stage.neighbours().ehr.misbehave(Some("Consent"), Misbehaviour::ServerError);
    // Labelled or not: the treatment partner's basis is consent, the patient's own app needs none.
    for below in ["/Condition?patient=amara-osei", "/AllergyIntolerance?patient=bruno-vale"] {
        let reply = stage.treatment(below).await;
        assert_eq!(reply.status, 503, "{below}: {}", reply.text());
        assert!(reply.text().contains("consent-source-unavailable"), "{below}");
    }
    let app = &stage.neighbours().patient;
    let own = app.client.get(&stage.url("/Condition?patient=amara-osei"), &app.token).await.unwrap();
    assert_eq!(own.status, 200, "{}", own.text());
    stage.neighbours().ehr.behave();
    assert_eq!(stage.treatment("/Condition?patient=amara-osei").await.status, 200);
}
