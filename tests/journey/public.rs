//! What anybody may know, and what a browser page may do.

use http::Method;

use crate::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_capabilities_need_no_token_and_name_only_our_urls() {
    let stage = Stage::set().await;
    let client = &stage.neighbours().treatment.client;
    let base = stage.neighbours().base_url();
    let root = base.strip_suffix("/fhir").unwrap();
    for url in [
        format!("{base}/metadata"),
        format!("{base}/.well-known/smart-configuration"),
        format!("{root}/.well-known/oauth-protected-resource/fhir"),
    ] {
        let reply = client.send(Method::GET, &url, &[], Vec::new()).await.unwrap();
        assert_eq!(reply.status, 200, "{url}: {}", reply.text());
        assert!(!reply.text().contains(&stage.neighbours().ehr.base_url()), "{url}");
    }
    let smart = client
        .send(Method::GET, &format!("{base}/.well-known/smart-configuration"), &[("accept", "text/html")], Vec::new())
        .await
        .unwrap();
    assert_eq!(smart.header("content-type"), "application/json");
    assert_eq!(smart.json()["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    let metadata = client.send(Method::GET, &format!("{base}/metadata"), &[], Vec::new()).await.unwrap();
    assert_eq!(metadata.json()["implementation"]["url"], base.as_str());
    assert_eq!(stage.asked(), Vec::<String>::new(), "the EHR is asked for none of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_for_registered_origins_alone() {
    let stage = Stage::set().await;
    let client = &stage.neighbours().treatment.client;
    let url = stage.url("/Patient/amara-osei");
    for origin in ["https://evil.example", "null"] {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let reply = client.send(Method::OPTIONS, &url, &headers, Vec::new()).await.unwrap();
        assert_eq!(reply.status, 405, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), "", "{origin}");
    }
    let anywhere = client
        .send(Method::GET, &stage.url("/metadata"), &[("origin", "https://evil.example")], Vec::new())
        .await
        .unwrap();
    assert_eq!(anywhere.header("access-control-allow-origin"), "*");
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_are_cut_here_and_never_by_the_ehr() {
    let stage = Stage::set().await;
    stage.neighbours().ehr.forget();
    let reply = stage.treatment("/Condition?patient=amara-osei&_elements=code").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = &reply.json()["entry"][0]["resource"];
    assert!(entry.get("code").is_some() && entry.get("onsetDateTime").is_none(), "{entry}");
    let seen = stage.neighbours().ehr.log();
    assert!(seen.iter().all(|request| !request.query.clone().unwrap_or_default().contains("_elements")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_through_sealed_links_that_only_their_owner_opens() {
    let stage = Stage::set().await;
    let first = stage.treatment("/Observation?patient=amara-osei&_count=2").await.json();
    let next = |bundle: &serde_json::Value| -> Option<String> {
        let links = bundle["link"].as_array()?;
        let next = links.iter().find(|link| link["relation"] == "next")?;
        Some(next["url"].as_str()?.to_owned())
    };
    let link = next(&first).expect("there is a next page");
    assert!(link.starts_with(&stage.url("/_page/")), "{link}");
    let app = &stage.neighbours().treatment;
    let second = app.client.get(&link, &app.token).await.unwrap();
    assert_eq!(second.status, 200, "{}", second.text());
    assert_ne!(second.json()["entry"][0]["resource"]["id"], first["entry"][0]["resource"]["id"]);
    stage.asked();
    let other = &stage.neighbours().research;
    assert_eq!(other.client.get(&link, &other.token).await.unwrap().status, 404);
    let edited = link.replacen("/_page/", "/_page/A", 1);
    assert_eq!(app.client.get(&edited, &app.token).await.unwrap().status, 404);
    assert_eq!(stage.asked(), Vec::<String>::new());
}
