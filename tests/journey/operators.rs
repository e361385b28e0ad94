//! The admin address over mutual TLS: each role its own, every act on record.

use std::collections::HashMap;

use fhirwall::demo::client::{HttpsClient, Reply};
use fhirwall::demo::world::{Neighbours, World};
use http::Method;
use tempfile::TempDir;

use crate::Stage;

const ROLES: &str = "
  tls: {certificate_file: tls/site/gateway.pem, key_file: tls/site/gateway.key, client_auth: required, client_ca_file: tls/partners/ca.pem, crl_files: [tls/partners/ca.crl]}
  roles:
    - {role: viewer, certificates: [{san_uri: \"spiffe://staff.example/vera\"}]}
    - {role: operator, certificates: [{san_uri: \"spiffe://staff.example/otto\"}]}
    - {role: privacy, certificates: [{san_uri: \"spiffe://staff.example/paula\"}]}
keys:";

async fn staffed() -> (Stage, HashMap<&'static str, HttpsClient>) {
    let dir = TempDir::new().unwrap();
    let mut neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let mut people = HashMap::new();
    for name in ["nobody", "vera", "otto", "paula"] {
        people.insert(name, neighbours.stranger(name, &format!("spiffe://staff.example/{name}")).unwrap());
    }
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    std::fs::write(neighbours.config_file(), text.replace("\nkeys:", ROLES)).unwrap();
    (Stage { world: World::between(neighbours).unwrap(), _dir: dir }, people)
}

impl Stage {
    async fn act(&self, client: &HttpsClient, method: &Method, below: &str) -> Result<Reply, String> {
        let url = format!("{}{below}", self.neighbours().admin_url().replace("http://", "https://"));
        client.send(method.clone(), &url, &[("x-fhirwall-admin", "1")], "").await.map_err(|error| error.to_string())
    }

    fn log(&self) -> String {
        let files = std::fs::read_dir(self.neighbours().audit_dir()).unwrap();
        let texts = files.filter_map(|file| std::fs::read(file.unwrap().path()).ok());
        texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_own_and_it_is_on_record() {
    let (stage, people) = staffed().await;
    let reply = stage.treatment("/Patient/amara-osei").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let decision = format!("/decisions/{}", reply.header("x-request-id"));
    let (get, post) = (Method::GET, Method::POST);
    // By path: nobody, viewer, operator, privacy officer.
    for (method, below, statuses) in [
        (&get, "/livez", [200, 200, 200, 200]),
        (&get, "/readyz", [200, 200, 200, 200]),
        (&get, "/metrics", [200, 200, 200, 200]),
        (&get, "/readyz?verbose", [403, 200, 200, 200]),
        (&get, "/config", [403, 200, 200, 200]),
        (&get, decision.as_str(), [403, 403, 403, 200]),
        (&post, "/consents/changed", [403, 403, 204, 403]),
        (&get, "/no/such/page", [403, 404, 404, 404]),
    ] {
        for (name, status) in ["nobody", "vera", "otto", "paula"].into_iter().zip(statuses) {
            let reply = stage.act(&people[name], method, below).await.unwrap();
            assert_eq!(reply.status, status, "{name} {method} {below}: {}", reply.text());
        }
    }
    let log = stage.log();
    for (name, below, allowed) in [
        ("paula", decision.as_str(), true),
        ("otto", decision.as_str(), false),
        ("otto", "/consents/changed", true),
        ("nobody", "/consents/changed", false),
    ] {
        let by = format!("spiffe://staff.example/{name}");
        let told = log
            .lines()
            .any(|line| line.contains(&by) && line.contains(below) && line.contains(&format!("\"allowed\":{allowed}")));
        assert!(told, "{name} {below} {allowed} is not on record");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_staff_there_is_no_handshake() {
    let (stage, people) = staffed().await;
    assert!(stage.act(&stage.neighbours().anonymous().unwrap(), &Method::GET, "/livez").await.is_err());
    let plain = format!("{}/livez", stage.neighbours().admin_url());
    assert!(stage.neighbours().anonymous().unwrap().send(Method::GET, &plain, &[], "").await.is_err());
    assert_eq!(stage.act(&people["nobody"], &Method::GET, "/livez").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_on_record_is_not_done() {
    let (stage, people) = staffed().await;
    stage.world.gateway.shared.audit.close().await;
    let reply = stage.act(&people["otto"], &Method::POST, "/consents/changed").await.unwrap();
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(stage.act(&people["otto"], &Method::GET, "/livez").await.unwrap().status, 200);
}
