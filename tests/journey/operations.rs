//! Operations: those that have a rule, each by its rule; no other.

use fhirwall::demo::ehr::Misbehaviour;
use serde_json::Value;

use crate::Stage;

fn ids(answer: &Value) -> Vec<String> {
    let entries = answer["entry"].as_array().cloned().unwrap_or_default();
    let ids = entries.iter().filter_map(|entry| entry["resource"]["id"].as_str());
    ids.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operation_returns_is_judged_row_by_row() {
    let stage = Stage::roomy().await;
    for (below, shown, hidden) in [
        ("/Patient/bruno-vale/$everything", "bruno-hypertension", "bruno-opioid-use"),
        ("/Patient/bruno-vale/$everything?_type=Condition,Patient", "bruno-hypertension", "bruno-opioid-use"),
        ("/Observation/$lastn?patient=bruno-vale&max=1", "bruno-blood-pressure-1", "bruno-drug-screen"),
    ] {
        let reply = stage.treatment(below).await;
        assert_eq!(reply.status, 200, "{below}: {}", reply.text());
        let ids = ids(&reply.json());
        assert!(ids.iter().any(|id| id == shown), "{below}: {ids:?}");
        assert!(!ids.iter().any(|id| id == hidden) && !reply.text().contains("pioid"), "{below}: {ids:?}");
    }
    let docref = async |patient: &str| stage.treatment(&format!("/DocumentReference/$docref?patient={patient}")).await;
    assert!(ids(&docref("amara-osei").await.json()).contains(&"amara-program-note".to_owned()));
    assert!(!ids(&docref("bruno-vale").await.json()).contains(&"bruno-program-note".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn terminology_is_read_by_whoever_may_read_its_resources() {
    let stage = Stage::roomy().await;
    let app = &stage.neighbours().treatment;
    let mut grant = stage.neighbours().grant(app);
    grant.scope = "user/CodeSystem.rs user/ValueSet.rs user/ConceptMap.rs".to_owned();
    let token = stage.neighbours().issuer.mint(&grant).unwrap();
    for (below, kind) in [
        ("/ValueSet/$expand?url=http://x", "ValueSet"),
        ("/CodeSystem/$lookup?system=http://x&code=a", "Parameters"),
        ("/CodeSystem/$validate-code?url=http://x&code=a", "Parameters"),
        ("/ValueSet/$validate-code?url=http://x&code=a", "Parameters"),
        ("/ConceptMap/$translate?url=http://x&code=a", "Parameters"),
    ] {
        let reply = app.client.get(&stage.url(below), &token).await.unwrap();
        assert_eq!(reply.status, 200, "{below}: {}", reply.text());
        assert_eq!(reply.json()["resourceType"], kind);
        stage.asked();
        assert_eq!(stage.research(below).await.status, 403, "{below}");
        assert_eq!(stage.asked(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_without_a_rule_are_refused_and_the_ehr_hears_nothing() {
    let stage = Stage::roomy().await;
    stage.asked();
    for (below, status) in [
        ("/Patient/dov-hart/$meta", 403),
        ("/Patient/$match", 403),
        ("/Composition/x/$document", 403),
        ("/Patient/dov-hart/$graphql?query=x", 403),
        ("/$graphql?query=x", 403),
        ("/Patient/$member-match", 403),
        ("/Observation/$stats", 403),
        ("/Encounter/dov-visit/$everything", 403),
        ("/Patient/$everything", 403),
        ("/Observation/$everything", 403),
        ("/Patient/dov-hart/$invented", 404),
        ("/$reindex", 403),
        ("/DocumentReference/$docref?patient=dov-hart&on-demand=true", 400),
    ] {
        let reply = stage.treatment(below).await;
        assert_eq!(reply.status, status, "{below}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{below}");
    }
    let app = &stage.neighbours().patient;
    let foreign = app.client.get(&stage.url("/Patient/bruno-vale/$everything"), &app.token).await.unwrap();
    assert_eq!(foreign.status, 403);
    assert_eq!(stage.asked(), Vec::<String>::new());
    let own = app.client.get(&stage.url("/Patient/amara-osei/$everything"), &app.token).await.unwrap();
    assert_eq!(own.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_is_said() {
    let stage = Stage::set().await;
    let metadata = stage.treatment("/metadata").await.json();
    let rest = &metadata["rest"][0];
    let names = |list: &Value, member: &str| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|one| one[member].as_str().unwrap().to_owned()).collect()
    };
    let system = names(&rest["interaction"], "code");
    assert!(system.contains(&"batch".to_owned()) && system.contains(&"transaction".to_owned()), "{system:?}");
    assert_eq!(names(&rest["operation"], "name"), ["export"]);
    let of = |kind: &str| {
        let all = rest["resource"].as_array().unwrap();
        names(&all.iter().find(|resource| resource["type"] == kind).unwrap()["operation"], "name")
    };
    assert_eq!(of("Patient"), ["everything", "export"]);
    assert_eq!(of("Observation"), ["lastn"]);
    assert_eq!(of("DocumentReference"), ["docref"]);
    assert_eq!(of("ValueSet"), ["expand", "validate-code"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ehr_does_not_offer_is_not_said_to_be_offered() {
    let codes = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
    };
    let stage = Stage::set().await;
    let metadata = stage.treatment("/metadata").await.json();
    assert_eq!(codes(&metadata["rest"][0]["interaction"]), ["transaction", "batch"]);
    let stage = Stage::set().await;
    let ehr = &stage.neighbours().ehr;
    let statement = serde_json::json!({
        "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{
            "mode": "server", "interaction": [{"code": "search-system"}], "resource": [
                {"type": "Patient", "interaction": [{"code": "read"}, {"code": "search-type"}, {"code": "history-type"}]},
                {"type": "Observation", "interaction": [{"code": "create"}], "operation": [{"name": "lastn"}]},
            ],
        }],
    });
    ehr.misbehave(Some("metadata"), Misbehaviour::Body(statement.to_string().into_bytes()));
    let metadata = stage.treatment("/metadata").await.json();
    let rest = &metadata["rest"][0];
    assert_eq!(codes(&rest["interaction"]), ["batch", "search-system"], "a batch is carried out entry by entry");
    assert_eq!(rest["operation"], Value::Null);
    let types: Vec<(String, Vec<String>)> = rest["resource"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["type"].as_str().unwrap().to_owned(), codes(&one["interaction"])))
        .collect();
    let expected = [("Observation", vec!["create"]), ("Patient", vec!["read", "search-type"])];
    assert_eq!(types, expected.map(|(kind, codes)| (kind.to_owned(), codes.into_iter().map(str::to_owned).collect())));
    let observation = rest["resource"].as_array().unwrap().iter().find(|one| one["type"] == "Observation").unwrap();
    assert_eq!(observation["operation"][0]["name"], "lastn");
    assert_eq!(observation["conditionalCreate"], false, "there is no search to find what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_says_nothing_is_asked_once_and_no_transaction_is_claimed_for_it() {
    let stage = Stage::set().await;
    let ehr = &stage.neighbours().ehr;
    ehr.misbehave(Some("metadata"), Misbehaviour::WrongContentType);
    let before = ehr.health_questions();
    for _ in 0..5 {
        let reply = stage.treatment("/metadata").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let codes = reply.json()["rest"][0]["interaction"].clone();
        assert_eq!(codes, serde_json::json!([{"code": "batch"}]));
    }
    // The gateway's own question whether the EHR is well may come in between.
    assert!(ehr.health_questions() - before <= 2, "{}", ehr.health_questions() - before);
}
