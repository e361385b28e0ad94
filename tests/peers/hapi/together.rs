//! HAPI and Keycloak with the gateway between them: a patient signs in at the one, and reads what the other holds.

use std::fs;
use std::path::PathBuf;

use fhirwall::demo::client::HttpsClient;

use super::{behind, load, rows};
use crate::keycloak::{App, Keycloak};
use crate::site::{Ground, NOWHERE};

#[tokio::test]
async fn hapi_holds_what_a_patient_reads_who_signed_in_at_keycloak() {
    let home = std::env::var_os("FHIRWALL_KEYCLOAK").map(PathBuf::from);
    let (Some(home), Ok(hapi)) = (home, std::env::var("FHIRWALL_HAPI")) else {
        println!("skipped: no FHIRWALL_KEYCLOAK or no FHIRWALL_HAPI; run .ci/outside hapi");
        return;
    };
    let ground = Ground::lay().await;
    let client = HttpsClient::new(&fs::read(ground.ca_file()).unwrap(), None).unwrap();
    behind(ground.neighbours(), &hapi);
    load(ground.neighbours(), &hapi, &client).await;
    let callback = format!("{}/auth/callback", ground.base());
    let keycloak = Keycloak::start(&home, ground.dir(), &callback, client.clone()).await;
    let site = ground.open_before(&keycloak.issuer(), NOWHERE, "5m");
    let app = App { base: &site.base, client: client.clone() };

    let token = app.signs_in("hapi-and-keycloak-0123456789").await;
    assert_eq!(token["patient"], "amara-osei", "{token}");
    let token = token["access_token"].as_str().unwrap();
    let get = async |below: &str| client.get(&format!("{}{below}", site.base), token).await.unwrap();
    let direct = async |below: &str| {
        let headers = [("accept", super::JSON), ("cache-control", "no-cache")];
        client.send(http::Method::GET, &format!("{hapi}{below}"), &headers, "").await.unwrap()
    };
    // Her own records are hers (42 CFR 2.23), the program's among them.
    for below in ["/Patient/amara-osei", "/AllergyIntolerance/amara-penicillin", "/Condition/amara-opioid-use"] {
        let (reply, stored) = (get(below).await, direct(below).await);
        assert_eq!(reply.status, 200, "{below}: {}", reply.text());
        assert_eq!(reply.json()["id"], stored.json()["id"]);
        println!("signed in at Keycloak, {below} of HAPI: {}", reply.status);
    }
    let names = |reply| rows(reply, "match").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let below = "/Condition?patient=amara-osei&_sort=_id";
    let (found, stored) = (get(below).await, direct(below).await);
    let mut expected = names(&stored);
    expected.retain(|name| site.world.records().contains(name));
    assert_eq!(names(&found), expected);
    assert!(expected.contains(&"Condition/amara-opioid-use".to_owned()));
    // And nobody else's.
    for below in ["/Patient/bruno-vale", "/Condition/bruno-hypertension", "/Condition?patient=bruno-vale"] {
        let reply = get(below).await;
        assert!(matches!(reply.status.as_u16(), 403 | 404), "{below}: {}", reply.text());
        println!("signed in at Keycloak, {below} of HAPI: {}", reply.status);
    }
}
