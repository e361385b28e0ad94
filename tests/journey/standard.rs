//! Against a FHIR server that is not ours: what a client sees is what is there, minus what is hidden.

use fhirwall::demo::client::{HttpsClient, Reply};
use http::Method;
use serde_json::{Value, json};

use crate::Stage;
use crate::kit::FhirServer;
use crate::search::{ACT_CODE, link, replace, rows, unhurried};

async fn put(client: &HttpsClient, server: &FhirServer, resource: &Value) {
    let text = |name: &str| resource[name].as_str().unwrap();
    let url = format!("{}/{}/{}", server.base, text("resourceType"), text("id"));
    let headers = [("content-type", "application/fhir+json")];
    let reply = client.send(Method::PUT, &url, &headers, resource.to_string().into_bytes()).await.unwrap();
    assert!(reply.status.is_success(), "{}", reply.text());
}

/// What the server says without the gateway, and which of it is protected.
fn unfiltered(server: &FhirServer, below: &str) -> Vec<(String, bool)> {
    let bundle = server.search(below);
    let entries = bundle["entry"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let resource = &entry["resource"];
            let name = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
            (name, resource.to_string().contains("42CFRPart2"))
        })
        .collect()
}

async fn every_page(stage: &Stage, below: &str) -> (Vec<String>, usize) {
    let app = &stage.neighbours().research;
    let mut reply: Reply = stage.research(below).await;
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        seen.extend(rows(&reply, "match"));
        pages += 1;
        assert!(!reply.text().contains("127.0.0.1:8090") && !reply.text().contains("_offset"), "{}", reply.text());
        match link(&reply, "next") {
            Some(next) => reply = app.client.get(&next, &app.token).await.unwrap(),
            None => return (seen, pages),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_pages_through_another_server_and_sees_all_but_what_is_hidden() {
    let Some(server) = FhirServer::start() else { return };
    let stage = Stage::set_on(|neighbours| {
        unhurried(neighbours);
        let ehr = neighbours.ehr.base_url();
        replace(&neighbours.config_file(), &format!("urls: [{ehr}]"), &format!("urls: [{}]", server.base));
    })
    .await;
    let client = stage.neighbours().anonymous().unwrap();
    put(&client, &server, &json!({"resourceType": "Patient", "id": "p", "name": [{"family": "Kit"}]})).await;
    for number in 0..57 {
        let mut row = json!({
            "resourceType": "Observation", "id": format!("row-{number:02}"), "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
            "subject": {"reference": "Patient/p"}, "effectiveDateTime": format!("2026-01-01T00:{number:02}:00Z"),
        });
        if number % 3 == 1 || (20..30).contains(&number) {
            row["meta"] = json!({"security": [{"system": ACT_CODE, "code": "42CFRPart2"}]});
        }
        put(&client, &server, &row).await;
    }
    let all = unfiltered(&server, "Observation?patient=Patient/p&_count=100&_sort=date");
    assert_eq!(all.len(), 57);
    let expected: Vec<String> = all.iter().filter(|(_, hidden)| !hidden).map(|(name, _)| name.clone()).collect();
    assert!(expected.len() < 57);
    for size in [1, 4, 10, 50, 100] {
        let (seen, pages) =
            every_page(&stage, &format!("/Observation?patient=Patient/p&_sort=date&_count={size}")).await;
        assert_eq!(seen, expected, "pages of {size}");
        assert!(pages <= 57, "{pages} pages");
    }
    // With what brings other rows, and by its own identity.
    let included = stage.research("/Observation?patient=Patient/p&_count=100&_include=Observation:subject").await;
    assert_eq!(rows(&included, "include"), ["Patient/p"]);
    for (name, hidden) in all {
        let expected = if hidden { 404 } else { 200 };
        assert_eq!(stage.research(&format!("/{name}")).await.status, expected, "{name}");
    }
}
