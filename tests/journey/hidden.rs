//! What is hidden is gone, and what may be seen is there.

use crate::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn the_clinician_with_consent_sees_what_research_does_not() {
    let stage = Stage::set().await;
    let clinician = stage.treatment("/Condition?patient=amara-osei").await;
    assert_eq!(clinician.status, 200, "{}", clinician.text());
    let research = stage.research("/Condition?patient=amara-osei").await;
    assert_eq!(research.status, 200, "{}", research.text());
    let rows = |reply: &fhirwall::demo::client::Reply| {
        reply.json()["entry"]
            .as_array()
            .map(|entries| entries.iter().filter(|entry| entry["search"]["mode"] != "outcome").count())
            .unwrap_or_default()
    };
    assert!(rows(&clinician) > rows(&research), "{}\n{}", clinician.text(), research.text());
    let text = research.text();
    for trace in ["42CFRPart2", "\"total\"", "opioid", "Opioid", "F11", "REDACTED", "SUD"] {
        assert!(!text.contains(trace), "{trace} is in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_record_reads_like_a_missing_one() {
    let stage = Stage::set().await;
    let all = stage.treatment("/Condition?patient=amara-osei").await.json();
    let seen = stage.research("/Condition?patient=amara-osei").await.json();
    let ids = |bundle: &serde_json::Value| -> Vec<String> {
        bundle["entry"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|entry| entry["resource"]["resourceType"] == "Condition")
            .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (all, seen) = (ids(&all), ids(&seen));
    let hidden = all.iter().find(|id| !seen.contains(id)).expect("something is hidden");
    let shown = seen.first().expect("something is shown");
    assert_eq!(stage.research(&format!("/Condition/{shown}")).await.status, 200);
    let hidden = stage.research(&format!("/Condition/{hidden}")).await;
    let missing = stage.research("/Condition/there-is-none").await;
    assert_eq!(hidden.status, 404);
    assert_eq!(hidden.status, missing.status);
    let shape = |reply: &fhirwall::demo::client::Reply| {
        let id = reply.header("x-request-id").to_owned();
        reply.text().replace(&id, "ID")
    };
    assert_eq!(shape(&hidden), shape(&missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_guarded_by_the_labels_of_today() {
    let stage = Stage::set().await;
    let id = "bruno-hypertension";
    let version = |resource: &serde_json::Value| resource["meta"]["versionId"].as_str().unwrap().to_owned();
    let before = stage.neighbours().ehr.resource("Condition", id).unwrap();
    let old = format!("/Condition/{id}/_history/{}", version(&before));
    assert_eq!(stage.treatment(&old).await.status, 200);
    let mut labelled = before.clone();
    labelled["meta"]["security"] = serde_json::json!([
        {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}
    ]);
    stage.neighbours().ehr.put(labelled);
    for below in [&old, &format!("/Condition/{id}/_history"), &format!("/Condition/{id}")] {
        assert_eq!(stage.treatment(below).await.status, 404, "{below}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_hidden_or_missing_leaves_on_the_schedule() {
    let stage = Stage::set().await;
    let floor = fhirwall::schedule::MINIMUM;
    let app = &stage.neighbours().treatment;
    let mut grant = stage.neighbours().grant(app);
    grant.scope = "user/*.rs user/Observation.cud".to_owned();
    let authorization = format!("Bearer {}", stage.neighbours().issuer.mint(&grant).unwrap());
    let body = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/dov-hart"}}"#;
    for id in ["bruno-opioid-use", "bruno-there-is-no"] {
        for below in [format!("/Condition/{id}"), format!("/Condition/{id}/_history/1"), format!("/Condition?_id={id}")]
        {
            let asked = std::time::Instant::now();
            let reply = stage.treatment(&below).await;
            assert!(asked.elapsed() >= floor, "{below}");
            assert!(!reply.text().contains(id) || below.contains('?'), "{below}: {}", reply.text());
        }
        let condition = format!("code=F11.20&_id={id}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/fhir+json"),
            ("if-none-exist", condition.as_str()),
        ];
        let asked = std::time::Instant::now();
        let url = stage.url("/Observation");
        let reply = app.client.send(http::Method::POST, &url, &headers, body).await.unwrap();
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert!(asked.elapsed() >= floor * 3, "search, consents and create");
    }
}

/// Status, headers and body of an answer, without what names this request or this record.
fn told(reply: &fhirwall::demo::client::Reply, id: &str) -> serde_json::Value {
    let own = ["x-request-id", "date", "location", "content-length"];
    let headers: Vec<String> = reply
        .headers
        .iter()
        .map(|(name, value)| match own.contains(&name.as_str()) {
            true => name.as_str().to_owned(),
            false => format!("{name}: {}", value.to_str().unwrap()),
        })
        .collect();
    let mut body = reply.json();
    for (member, at) in [("id", ""), ("lastUpdated", "/meta"), ("diagnostics", "/issue/0")] {
        if let Some(named) = body.pointer_mut(at).and_then(|value| value.get_mut(member)) {
            *named = serde_json::json!("?");
        }
    }
    let body = body.to_string().replace(id, "ID");
    serde_json::json!([reply.status.as_u16(), headers, body.len(), body])
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_and_missing_have_one_status_the_same_headers_and_one_shape() {
    let stage = Stage::set().await;
    let (hidden, missing, shown) = ("bruno-opioid-use", "bruno-opioid-non", "bruno-hypertension");
    let app = &stage.neighbours().treatment;
    let url = |below: &str, id: &str| below.replace("ID", id);
    let treatment = async |below: &str, id: &str| stage.treatment(&url(below, id)).await;
    let research = async |below: &str, id: &str| stage.research(&url(below, id)).await;
    for below in ["/Condition/ID", "/Condition/ID/_history/1", "/Condition/ID/_history"] {
        let (one, other) = (treatment(below, hidden).await, treatment(below, missing).await);
        assert_eq!(told(&one, hidden), told(&other, missing), "{below}");
        assert_eq!(one.status, 404, "{below}");
        assert_eq!(treatment(below, shown).await.status, 200, "{below}");
    }
    for below in ["/Condition/ID", "/Condition?_id=ID", "/Condition?patient=bruno-vale&_id=ID"] {
        let (one, other) = (research(below, hidden).await, research(below, missing).await);
        assert_eq!(told(&one, hidden), told(&other, missing), "{below}");
        assert_ne!(told(&research(below, shown).await, shown), told(&other, missing), "{below}");
    }
    let mut grant = stage.neighbours().grant(app);
    grant.scope = "user/*.rs user/Condition.cud".to_owned();
    let authorization = format!("Bearer {}", stage.neighbours().issuer.mint(&grant).unwrap());
    let body = r#"{"resourceType":"Condition","code":{"text":"sprain"},"subject":{"reference":"Patient/dov-hart"}}"#;
    let create = async |id: &str| {
        let condition = format!("_id={id}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/fhir+json"),
            ("if-none-exist", condition.as_str()),
        ];
        app.client.send(http::Method::POST, &stage.url("/Condition"), &headers, body).await.unwrap()
    };
    let (one, other) = (create(hidden).await, create(missing).await);
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (201, 201));
    assert_eq!(told(&one, "-"), told(&other, "-"));
    assert_eq!(create(shown).await.status, 200, "what may be seen is there");
}
