//! Records of a Part 2 program, known by where they come from alone (42 CFR 2.12: provenance decides).

use serde_json::{Value, json};

use fhirwall::demo::ehr::Misbehaviour;

use crate::Stage;

/// A visit at an organization, and what came of it: a harmless diagnosis and a document, labelled by nobody.
fn visit(name: &str, organization: &str) -> [Value; 4] {
    let patient = json!({"reference": "Patient/amara-osei"});
    let encounter = json!({"reference": format!("Encounter/{name}")});
    [
        json!({
            "resourceType": "Encounter", "id": name, "status": "finished", "class": {"code": "AMB"},
            "subject": patient, "serviceProvider": {"reference": organization}
        }),
        json!({
            "resourceType": "Condition", "id": format!("{name}-sprain"), "subject": patient, "encounter": encounter,
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "S93.401A"}]}
        }),
        json!({
            "resourceType": "DocumentReference", "id": format!("{name}-letter"), "status": "current",
            "subject": patient, "context": {"encounter": [encounter]},
            "content": [{"attachment": {"contentType": "text/plain", "url": format!("Binary/{name}-text")}}]
        }),
        json!({"resourceType": "Binary", "id": format!("{name}-text"), "contentType": "text/plain", "data": "AAAA"}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_program_is_withheld_though_nothing_in_it_says_so_and_its_neighbour_passes() {
    let stage = Stage::set().await;
    for resource in visit("program-visit", "Organization/harbor-house")
        .into_iter()
        .chain(visit("clinic-visit", "Organization/mill-street-clinic"))
    {
        stage.neighbours().ehr.put(resource);
    }
    let seen = async |stage: &Stage| {
        let mut seen = Vec::new();
        for below in ["Condition/clinic-visit-sprain", "Condition/program-visit-sprain"] {
            seen.push(stage.research(&format!("/{below}")).await.status.as_u16());
        }
        let rows = stage.research("/Condition?patient=amara-osei").await.text();
        (seen, rows.contains("clinic-visit-sprain"), rows.contains("program-visit-sprain"))
    };
    // Nothing says that Harbor House is a program: both are ordinary records.
    assert_eq!(seen(&stage).await, (vec![200, 200], true, true));
    stage.edit("fhirwall.yaml", |text| {
        text.replace(
            "part2: {role: program}",
            "part2: {role: program, programs: {references: [Organization/harbor-house]}}",
        )
    });
    assert_eq!(stage.reload().await, 2);
    assert_eq!(seen(&stage).await, (vec![200, 404], true, false));
    // With the patient's consent both are shown, and the Binary goes with the document that refers to it.
    for name in ["program-visit", "clinic-visit"] {
        for below in ["Condition/ID-sprain", "DocumentReference/ID-letter", "Binary/ID-text"] {
            let below = below.replace("ID", name);
            assert_eq!(stage.treatment(&format!("/{below}")).await.status, 200, "{below}");
        }
    }
    stage.neighbours().revoke_consent(time::OffsetDateTime::now_utc());
    for (name, status) in [("program-visit", 404), ("clinic-visit", 200)] {
        for below in ["Condition/ID-sprain", "DocumentReference/ID-letter", "Binary/ID-text"] {
            let below = below.replace("ID", name);
            assert_eq!(stage.treatment(&format!("/{below}")).await.status.as_u16(), status, "{below} without consent");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_named_wrongly_never_goes_live() {
    let stage = Stage::set().await;
    stage.edit("fhirwall.yaml", |text| {
        text.replace("part2: {role: program}", "part2: {role: program, programs: {references: [Patient/amara-osei]}}")
    });
    assert_eq!(stage.reload().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_whose_documents_cannot_be_asked_for_may_be_anybodys_and_is_withheld() {
    let stage = Stage::set().await;
    let ehr = &stage.neighbours().ehr;
    let text = json!({
        "resourceType": "Binary", "id": "text", "contentType": "text/plain", "data": "AAAA",
        "securityContext": {"reference": "Patient/amara-osei"}
    });
    ehr.put(text);
    stage.neighbours().revoke_consent(time::OffsetDateTime::now_utc());
    assert_eq!(stage.treatment("/Binary/text").await.status, 200, "it is the patient's, and no document says more");
    ehr.misbehave(Some("DocumentReference"), Misbehaviour::ServerError);
    assert_eq!(stage.treatment("/Binary/text").await.status, 404, "a document of a program may refer to it");
    ehr.behave();
    assert_eq!(stage.treatment("/Binary/text").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_is_that_of_the_patient_it_names_and_of_no_other_whom_a_record_is_about() {
    let stage = Stage::set().await;
    let account = |name: &str, subjects: Value| {
        stage.neighbours().ehr.put(json!({
            "resourceType": "Account", "id": name, "status": "active", "subject": subjects,
            "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}]}
        }));
    };
    let consented = json!({"reference": "Patient/amara-osei"});
    account("own", json!([consented]));
    account("shared", json!([consented, {"identifier": {"system": "urn:example:mrn", "value": "7"}}]));
    account("elsewhere", json!([consented, {"reference": "https://elsewhere.example/fhir/Patient/7"}]));
    for (name, status) in [("own", 200), ("shared", 404), ("elsewhere", 404)] {
        assert_eq!(stage.treatment(&format!("/Account/{name}")).await.status.as_u16(), status, "{name}");
    }
}
