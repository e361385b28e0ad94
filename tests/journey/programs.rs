//! Records of a Part 2 program, known by where they come from alone (42 CFR 2.12: provenance decides).

use fhirwall::demo::ehr::Misbehaviour;
use serde_json::{Value, json};

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
async fn what_happened_in_a_visit_that_cannot_be_looked_up_is_of_unknown_sensitivity() {
    let stage = Stage::set().await;
    for resource in visit("clinic-visit", "Organization/mill-street-clinic") {
        stage.neighbours().ehr.put(resource);
    }
    let beside = json!({
        "resourceType": "Condition", "id": "no-visit", "subject": {"reference": "Patient/amara-osei"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "S93.401A"}]}
    });
    stage.neighbours().ehr.put(beside);
    let seen = async |stage: &Stage| {
        let rows = stage.research("/Condition?patient=amara-osei").await.text();
        [rows.contains("clinic-visit-sprain"), rows.contains("no-visit")]
    };
    for how in [Misbehaviour::ServerError, Misbehaviour::TruncatedJson, Misbehaviour::DieMidAnswer] {
        stage.neighbours().ehr.misbehave(Some("Encounter"), how.clone());
        assert_eq!(seen(&stage).await, [false, true], "{how:?}");
        assert_eq!(stage.research("/Condition/clinic-visit-sprain").await.status, 404, "{how:?}");
    }
    stage.neighbours().ehr.behave();
    assert_eq!(seen(&stage).await, [true, true]);
    assert_eq!(stage.research("/Condition/clinic-visit-sprain").await.status, 200);
    // A visit that the EHR does not have, and says so, was none to a program.
    stage.neighbours().ehr.put(json!({
        "resourceType": "Condition", "id": "lost-visit", "subject": {"reference": "Patient/amara-osei"},
        "encounter": {"reference": "Encounter/there-is-none"}
    }));
    assert_eq!(stage.research("/Condition/lost-visit").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn visits_are_looked_up_before_anything_else() {
    let stage = Stage::set().await;
    for mut resource in visit("clinic-visit", "Organization/mill-street-clinic") {
        if resource["resourceType"] == "Condition" {
            resource["evidence"] = json!([{"detail": [{"reference": "CarePlan/some-plan"}]}]);
        }
        stage.neighbours().ehr.put(resource);
    }
    stage.edit("fhirwall.yaml", |text| format!("{text}\nlimits: {{fetches_per_request: 1}}\n"));
    assert_eq!(stage.reload().await, 2);
    let rows = stage.research("/Condition?patient=amara-osei").await.text();
    assert!(rows.contains("clinic-visit-sprain") && !rows.contains("some-plan"), "{rows}");
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
