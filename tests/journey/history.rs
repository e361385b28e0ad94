//! Histories of many records: each version by its own labels, and by those of its record today.

use serde_json::json;

use crate::Stage;
use crate::search::{ACT_CODE, link, replace, unhurried};

fn versions(reply: &fhirwall::demo::client::Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let bundle = reply.json();
    let entries = bundle["entry"].as_array().into_iter().flatten();
    entries.map(|entry| entry["request"]["url"].as_str().unwrap_or_default().to_owned()).collect()
}

fn condition(id: &str, labelled: bool) -> serde_json::Value {
    let mut resource = json!({
        "resourceType": "Condition", "id": id, "code": {"text": "sprain"},
        "subject": {"reference": "Patient/dov-hart"},
    });
    if labelled {
        resource["meta"] = json!({"security": [{"system": ACT_CODE, "code": "42CFRPart2"}]});
    }
    resource
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_type_shows_what_may_be_seen_today() {
    let stage = Stage::set_on(unhurried).await;
    let ehr = &stage.neighbours().ehr;
    // Always open; labelled later; labelled in one version on the page, which guards the others there; deleted.
    for (id, labelled) in [
        ("open", false),
        ("open", false),
        ("later", false),
        ("later", true),
        ("before", true),
        ("before", false),
        ("gone", false),
    ] {
        ehr.put(condition(id, labelled));
    }
    ehr.delete("Condition", "gone");
    stage.queries();
    let mut reply = stage.treatment("/Condition/_history?_count=7").await;
    let mut seen = Vec::new();
    loop {
        seen.extend(versions(&reply));
        assert!(reply.json().get("total").is_none());
        assert!(!reply.text().contains("Condition/gone"), "{}", reply.text());
        let Some(next) = link(&reply, "next") else { break };
        assert!(next.starts_with(&stage.url("/_page/")));
        let app = &stage.neighbours().treatment;
        reply = app.client.get(&next, &app.token).await.unwrap();
    }
    let count = |id: &str| seen.iter().filter(|url| **url == format!("Condition/{id}")).count();
    assert_eq!((count("open"), count("later"), count("before"), count("gone")), (2, 0, 0, 0), "{seen:?}");
    assert!(count("bruno-hypertension") == 1 && count("bruno-opioid-use") == 0, "{seen:?}");
    let queries = stage.queries();
    assert!(queries[0].starts_with("GET /Condition/_history?_count=7"), "{queries:?}");
    assert!(queries.iter().all(|query| !query.starts_with("GET /Condition/") || query.contains("/_history")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_everything_is_bounded_and_judged() {
    let stage = Stage::set_on(|neighbours| {
        unhurried(neighbours);
        let file = neighbours.dir().join("partners/recovery-path.yaml");
        replace(&file, "basis: consent", "basis: program");
    })
    .await;
    let app = &stage.neighbours().treatment;
    stage.queries();
    // Its own program sees its records; audit events are among everything, and these are for programs and auditors.
    let reply = stage.treatment("/_history?_count=1000").await;
    let seen = versions(&reply);
    assert!(!seen.is_empty() && seen.len() <= 32, "{seen:?}");
    assert!(stage.queries()[0].starts_with("GET /_history?_count=32"));
    // Whoever may not ask for every type may not ask for all at once.
    let mut grant = stage.neighbours().grant(app);
    grant.scope = "user/Condition.rs user/Patient.rs".to_owned();
    let token = stage.neighbours().issuer.mint(&grant).unwrap();
    let reply = app.client.get(&stage.url("/_history"), &token).await.unwrap();
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(stage.queries(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_nothing_and_who_has_one_patient_get_no_history_of_many() {
    let stage = Stage::set().await;
    for below in ["/Condition/_history", "/Condition/bruno-hypertension/_history"] {
        let silent = stage.research(below).await;
        assert_eq!(silent.status, 403, "{below}: {}", silent.text());
    }
    // Everything has audit events in it.
    assert_eq!(stage.treatment("/_history").await.status, 403);
    let app = &stage.neighbours().patient;
    for below in ["/Condition/_history", "/_history"] {
        let own = app.client.get(&stage.url(below), &app.token).await.unwrap();
        assert_eq!(own.status, 403, "{below}: {}", own.text());
    }
    assert_eq!(stage.queries(), Vec::<String>::new());
    let own = app.client.get(&stage.url("/Condition/amara-hypertension/_history"), &app.token).await.unwrap();
    assert_eq!(own.status, 200, "{}", own.text());
    let other = app.client.get(&stage.url("/Condition/bruno-hypertension/_history"), &app.token).await.unwrap();
    assert_eq!(other.status, 404, "{}", other.text());
}
