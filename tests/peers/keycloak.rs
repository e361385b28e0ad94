//! Keycloak as the provider behind the broker: sign-in, data, refresh; its keys rotate; a user disabled there is cut off.
//!
//! `.ci/outside keycloak` installs it and keeps what this prints. Here alone a test waits for real time to pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fhirwall::demo::client::{HttpsClient, Reply};
use http::Method;
use serde_json::{Value, json};

use crate::browser::{Browser, Person};
use crate::site::{CLIENT, Ground, NOWHERE, SECRET};

/// What the evidence states: no token lives longer after the user is disabled.
const LIFETIME: Duration = Duration::from_secs(5);
const LEEWAY: Duration = Duration::from_secs(30);
const AMARA: Person<'_> = Person { login: "amara", patient: None, unticks: None };
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A Keycloak of the test's own; it ends with it.
pub(crate) struct Keycloak {
    process: Child,
    url: String,
    client: HttpsClient,
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Keycloak {
    pub(crate) async fn start(home: &Path, dir: &Path, callback: &str, client: HttpsClient) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, unused) = (free(), free());
        let import = home.join("data/import");
        fs::create_dir_all(&import).unwrap();
        fs::write(import.join("hospital.json"), realm(callback).to_string()).unwrap();
        drop(fs::remove_dir_all(home.join("data/h2")));
        let log = fs::File::create(dir.join("keycloak.log")).unwrap();
        let process = Command::new(home.join("bin/kc.sh"))
            .args(["start-dev", "--import-realm", "--hostname=localhost", "--http-host=127.0.0.1"])
            .arg(format!("--https-port={port}"))
            .arg(format!("--http-port={unused}"))
            .arg(format!("--https-certificate-file={}", dir.join("tls/site/issuer.pem").display()))
            .arg(format!("--https-certificate-key-file={}", dir.join("tls/site/issuer.key").display()))
            .envs([("KC_BOOTSTRAP_ADMIN_USERNAME", "admin"), ("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin")])
            .env("JAVA_OPTS_APPEND", "-Xmx512m")
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("Keycloak starts");
        let keycloak = Self { process, url: format!("https://localhost:{port}"), client };
        let issuer = format!("{}/.well-known/openid-configuration", keycloak.issuer());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(900) {
            if keycloak.client.get(&issuer, "").await.is_ok_and(|reply| reply.status.is_success()) {
                println!("Keycloak is up");
                return keycloak;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("Keycloak does not come up: {}", fs::read_to_string(dir.join("keycloak.log")).unwrap_or_default());
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}/realms/hospital", self.url)
    }

    /// As its administrator.
    async fn admin(&self, method: Method, path: &str, body: &Value) -> Reply {
        let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let token = self.client.send(Method::POST, &url, &headers, form).await.unwrap().json();
        let authorization = format!("Bearer {}", token["access_token"].as_str().expect("an administrator's token"));
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let url = format!("{}/admin/realms/hospital{path}", self.url);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.client.send(method, &url, &headers, body).await.unwrap();
        assert!(reply.status.is_success(), "{path}: {}", reply.text());
        reply
    }
}

/// The realm: the gateway as a client, and one patient, whose record her id_token names.
fn realm(callback: &str) -> Value {
    json!({
        "realm": "hospital", "enabled": true, "sslRequired": "all",
        "clients": [{
            "clientId": "gateway", "secret": SECRET, "enabled": true, "publicClient": false,
            "standardFlowEnabled": true, "redirectUris": [callback], "protocol": "openid-connect",
            "attributes": {"pkce.code.challenge.method": "S256"},
            "defaultClientScopes": ["basic", "acr"], "optionalClientScopes": ["offline_access"],
            "protocolMappers": [{
                "name": "fhirUser", "protocol": "openid-connect", "protocolMapper": "oidc-usermodel-attribute-mapper",
                "config": {"user.attribute": "fhirUser", "claim.name": "fhirUser", "jsonType.label": "String",
                    "id.token.claim": "true", "access.token.claim": "false"},
            }],
        }],
        "users": [{
            "username": "amara", "enabled": true, "email": "amara@example.org", "emailVerified": true,
            "firstName": "Amara", "lastName": "Osei", "attributes": {"fhirUser": ["Patient/amara-osei"]},
            "credentials": [{"type": "password", "value": "x", "temporary": false}],
            "realmRoles": ["offline_access"],
        }],
        "roles": {"realm": [{"name": "offline_access"}]},
    })
}

/// One app at the gateway, known by its name and held by PKCE.
pub(crate) struct App<'a> {
    pub(crate) base: &'a str,
    pub(crate) client: HttpsClient,
}

impl App<'_> {
    pub(crate) async fn signs_in(&self, state: &str) -> Value {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", NOWHERE),
            ("scope", "openid fhirUser launch/patient patient/*.rs offline_access"),
            ("state", state),
            ("aud", self.base),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let start = format!("{}/auth/authorize?{}", self.base, query.finish());
        let (back, _) = Browser::new(self.client.clone()).sign_in(&start, AMARA, NOWHERE).await;
        let back = url::Url::parse(&back).unwrap();
        let code = back.query_pairs().find(|(name, _)| name == "code").unwrap_or_else(|| panic!("{back}")).1;
        let fields = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", NOWHERE)];
        self.token(&[&fields[..], &[("code_verifier", VERIFIER)]].concat()).await
    }

    async fn refreshes(&self, token: &Value) -> Value {
        let refresh = token["refresh_token"].as_str().expect("a refresh token");
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await
    }

    async fn token(&self, fields: &[(&str, &str)]) -> Value {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).append_pair("client_id", CLIENT);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let url = format!("{}/auth/token", self.base);
        self.client.send(Method::POST, &url, &headers, form.finish()).await.unwrap().json()
    }

    /// The status of a read of her own record.
    async fn reads(&self, token: &Value) -> u16 {
        let token = token["access_token"].as_str().unwrap_or_else(|| panic!("{token}"));
        self.client.get(&format!("{}/Patient/amara-osei", self.base), token).await.unwrap().status.as_u16()
    }
}

#[tokio::test]
async fn keycloak_behind_the_broker_rotates_its_keys_and_a_user_disabled_there_is_cut_off() {
    let Some(home) = std::env::var_os("FHIRWALL_KEYCLOAK").map(PathBuf::from) else {
        println!("skipped: no FHIRWALL_KEYCLOAK; run .ci/outside keycloak");
        return;
    };
    let ground = Ground::lay().await;
    let client = HttpsClient::new(&fs::read(ground.ca_file()).unwrap(), None).unwrap();
    let callback = format!("{}/auth/callback", ground.base());
    let keycloak = Keycloak::start(&home, ground.dir(), &callback, client.clone()).await;
    let site = ground.open_before(&keycloak.issuer(), NOWHERE, &format!("{}s", LIFETIME.as_secs()));
    let app = App { base: &site.base, client };

    let first = app.signs_in("keycloak-first-0123456789").await;
    assert_eq!((&first["patient"], first["id_token"].is_string()), (&json!("amara-osei"), true), "{first}");
    assert_eq!(app.reads(&first).await, 200);
    let second = app.refreshes(&first).await;
    assert_eq!(app.reads(&second).await, 200);
    println!("sign-in, launch context, id_token, data and refresh: as SMART says");

    let key = json!({"name": "next", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
        "config": {"priority": ["200"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]}});
    keycloak.admin(Method::POST, "/components", &key).await;
    // Keys are asked for at most once in ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let begun = Instant::now();
    let rotated = app.signs_in("keycloak-rotated-012345678").await;
    assert_eq!(app.reads(&rotated).await, 200);
    println!(
        "its signing key rotated: the next sign-in passes ({:.1} s, login included)",
        begun.elapsed().as_secs_f32()
    );

    let users = keycloak.admin(Method::GET, "/users?username=amara", &Value::Null).await.json();
    let user = format!("/users/{}", users[0]["id"].as_str().unwrap());
    let held = app.refreshes(&rotated).await;
    keycloak.admin(Method::PUT, &user, &json!({"enabled": false})).await;
    let disabled = Instant::now();
    let refused = app.refreshes(&held).await;
    assert!(refused.get("access_token").is_none(), "{refused}");
    println!("disabled at Keycloak: the next refresh is refused ({})", refused["error"]);
    while app.reads(&held).await == 200 {
        assert!(disabled.elapsed() <= LIFETIME + LEEWAY + Duration::from_secs(2), "still served");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!(
        "the access token at hand is refused after {:.1} s; stated: its lifetime ({} s here) and 30 s of leeway",
        disabled.elapsed().as_secs_f32(),
        LIFETIME.as_secs()
    );
}
