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
        Misbehaviour::Body(b"[]".to_vec()),
        Misbehaviour::Body(b"{}".to_vec()),
        Misbehaviour::Body(b"".to_vec()),
    ] {
        stage.neighbours().ehr.misbehave(Some("Patient"), how.clone());
        let reply = stage.treatment("/Patient/amara-osei").await;
        assert_eq!(reply.status, 502, "{how:?}: {}", reply.text());
        assert!(!reply.text().contains("mara"), "{how:?}: {}", reply.text());
        let decision = reply.header("x-request-id").to_owned();
        let record = stage.world.gateway.shared.decisions.get(&decision).expect("a record");
        assert_eq!(record["status"], 502, "{how:?}");
    }
    stage.neighbours().ehr.behave();
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}
