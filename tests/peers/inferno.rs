//! The server checks of Inferno's SMART App Launch 2.2 suite (and, marked `g10`, what its ONC suite asks of refusals), made
//! by a client of our own over real TLS, with the kit's provider behind broker and front mode.
//!
//! Each check goes by the name that Inferno gives it; `docs/smart-conformance.md` lists them, and a test compares.

use std::collections::BTreeMap;
use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use fhirwall::demo::client::{HttpsClient, Reply};
use fhirwall::identify::issuer::SignatureAlgorithm;
use fhirwall::identify::jwk::VerifyingKey;
use fhirwall::smart::clients::JWT_BEARER;
use fhirwall::smart::signing::SigningKey;
use http::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::browser::{Browser, Person};
use crate::processes::Packages;
use crate::site::{CLIENT, Ground, Mode, NOWHERE, ORIGIN, SERVICE, Site};

/// The pair of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const AMARA: Person<'_> = Person { login: "amara-osei", patient: None, unticks: None };

/// What Inferno would do, against one site.
struct Inferno {
    site: Site,
    client: HttpsClient,
    /// Where the endpoints are, as the site says.
    configuration: Value,
    passed: Vec<&'static str>,
}

impl Inferno {
    fn at(site: Site) -> Self {
        let client = site.world.anonymous().unwrap();
        Self { site, client, configuration: Value::Null, passed: Vec::new() }
    }

    #[track_caller]
    fn pass(&mut self, check: &'static str, holds: bool, said: impl Display) {
        assert!(holds, "{check}: {said}");
        self.passed.push(check);
    }

    async fn get(&self, url: &str, token: Option<&str>) -> Reply {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("origin", ORIGIN), ("accept", "application/json, application/fhir+json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.client.send(Method::GET, url, &headers, Vec::new()).await.unwrap()
    }

    async fn post(&self, endpoint: &str, form: &[(&str, &str)]) -> Reply {
        let headers = [("origin", ORIGIN), ("content-type", "application/x-www-form-urlencoded")];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client.send(Method::POST, &self.endpoint(endpoint), &headers, body.into_bytes()).await.unwrap()
    }

    fn endpoint(&self, name: &str) -> String {
        self.configuration[format!("{name}_endpoint")].as_str().unwrap().to_owned()
    }

    async fn discovers(&mut self) {
        let base = self.site.base.clone();
        let told = self.get(&format!("{base}/.well-known/smart-configuration"), None).await;
        let typed = told.header("content-type").starts_with("application/json");
        self.pass("well_known_endpoint", told.status == 200 && typed, told.text());
        self.pass("smart_cors_well_known_endpoint", shared(&told), "no origin is let in");
        self.configuration = told.json();
        let has = |name: &str, wanted: &str| {
            told.json()[name].as_array().is_some_and(|all| all.iter().any(|one| one == wanted))
        };
        let capabilities = told.json()["capabilities"].clone();
        let openid = has("capabilities", "sso-openid-connect");
        let fields = [
            ("authorization_endpoint", told.json()["authorization_endpoint"].is_string()),
            ("token_endpoint", told.json()["token_endpoint"].is_string()),
            ("capabilities", capabilities.as_array().is_some_and(|all| all.iter().all(Value::is_string))),
            ("authorization_code", has("grant_types_supported", "authorization_code")),
            ("S256", has("code_challenge_methods_supported", "S256")),
            ("no plain", !has("code_challenge_methods_supported", "plain")),
            ("issuer", told.json()["issuer"].is_string() == openid),
            ("jwks_uri", told.json()["jwks_uri"].is_string() == openid),
        ];
        let missing: Vec<&str> = fields.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect();
        self.pass("well_known_capabilities_stu2", missing.is_empty(), missing.join(", "));
        let metadata = self.get(&format!("{base}/metadata"), None).await;
        self.pass("smart_cors_metadata_request", metadata.status == 200 && shared(&metadata), metadata.text());
    }

    fn authorization_request(&self, scope: &str, state: &str, change: &[(&str, &str)]) -> String {
        let mut asked = BTreeMap::from([
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", NOWHERE),
            ("scope", scope),
            ("state", state),
            ("aud", &self.site.base),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        asked.extend(change.iter().copied());
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).finish();
        format!("{}?{query}", self.endpoint("authorization"))
    }

    /// Signs in, allows, and takes the code.
    async fn launches(&mut self, scope: &str, change: &[(&str, &str)]) -> String {
        let state = "a-state-of-the-app-0123456789";
        let start = self.authorization_request(scope, state, change);
        let mut browser = Browser::new(self.site.world.anonymous().unwrap());
        let (back, _) = browser.sign_in(&start, AMARA, NOWHERE).await;
        self.pass("smart_app_redirect_stu2", back.starts_with(NOWHERE), &back);
        let code = parameter(&back, "code");
        let same = parameter(&back, "state").as_deref() == Some(state);
        self.pass("smart_code_received", same && code.is_some() && parameter(&back, "error").is_none(), &back);
        code.unwrap()
    }

    async fn exchanges(&mut self, code: &str, asked: &str) -> Value {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", NOWHERE),
            ("client_id", CLIENT),
            ("code_verifier", VERIFIER),
        ];
        let told = self.post("token", &form).await;
        self.pass("smart_token_exchange_stu2_2", told.status == 200, told.text());
        self.pass("smart_token_response_body_stu2_2", is_token_answer(&told.json(), asked), told.text());
        self.pass("smart_token_response_headers", is_never_kept(&told), format!("{:?}", told.headers));
        self.pass("smart_cors_token_exchange", told.header("access-control-allow-origin") == ORIGIN, "not let in");
        told.json()
    }

    /// The identity of the user, verified as OpenID Connect wants it; gives the URL of the user's own record.
    async fn identifies(&mut self, id_token: &str) -> String {
        let parts: Vec<&str> = id_token.split('.').collect();
        let decoded = |at: usize| -> Value { serde_json::from_slice(&BASE64.decode(parts[at]).unwrap()).unwrap() };
        let (header, payload) = (decoded(0), decoded(1));
        self.pass("smart_openid_decode_id_token", parts.len() == 3 && header.is_object(), id_token.len());
        let issuer = payload["iss"].as_str().unwrap_or_default().to_owned();
        let configuration = self.get(&format!("{issuer}/.well-known/openid-configuration"), None).await;
        self.pass("smart_openid_retrieve_configuration", configuration.status == 200, configuration.text());
        let configuration = configuration.json();
        let wanted = [
            "issuer",
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
            "response_types_supported",
            "subject_types_supported",
            "id_token_signing_alg_values_supported",
        ];
        let missing: Vec<&str> = wanted.into_iter().filter(|name| configuration[name].is_null()).collect();
        let rs256 = configuration["id_token_signing_alg_values_supported"] == json!(["RS256"]);
        self.pass("smart_openid_required_configuration_fields", missing.is_empty() && rs256, missing.join(", "));
        let keys = self.get(configuration["jwks_uri"].as_str().unwrap(), None).await;
        let rsa: Vec<Value> =
            keys.json()["keys"].as_array().unwrap().iter().filter(|key| key["kty"] == "RSA").cloned().collect();
        let public = rsa.iter().all(|key| key.get("d").is_none());
        self.pass("smart_openid_retrieve_jwks", keys.status == 200 && !rsa.is_empty() && public, keys.text());
        let key = rsa.iter().find(|key| key["kid"] == header["kid"]);
        self.pass("smart_openid_token_header", header["alg"] == "RS256" && key.is_some(), &header);
        let key = VerifyingKey::from_jwk(key.unwrap().as_object().unwrap()).unwrap();
        let message = id_token.rsplit_once('.').unwrap().0;
        let signed = key.verifies(SignatureAlgorithm::Rs256, message.as_bytes(), parts[2]);
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let live = payload["exp"].as_i64().is_some_and(|until| until > now) && payload["iat"].is_i64();
        let named = payload["iss"] == configuration["issuer"] && payload["aud"] == CLIENT;
        let subject = payload["sub"].as_str().is_some_and(|sub| (1..256).contains(&sub.len()));
        self.pass("smart_openid_token_payload", signed && live && named && subject, &payload);
        let user = payload["fhirUser"].as_str().unwrap_or_default().to_owned();
        let own = user.strip_prefix(&format!("{}/", self.site.base)).is_some_and(|own| own == "Patient/amara-osei");
        self.pass("smart_openid_fhir_user_claim", own, &user);
        user
    }

    async fn refreshes(&mut self, token: &str, scope: Option<&str>, asked: &str) -> Value {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", CLIENT)];
        form.extend(scope.map(|scope| ("scope", scope)));
        let told = self.post("token", &form).await;
        self.pass("smart_token_refresh_stu2", told.status == 200, told.text());
        self.pass("smart_token_refresh_body", is_token_answer(&told.json(), asked), told.text());
        self.pass("smart_token_response_headers", is_never_kept(&told), format!("{:?}", told.headers));
        told.json()
    }

    /// Requests that have to be refused at the authorization endpoint: no code for any of them.
    async fn refuses(&mut self, check: &'static str, change: &[(&str, &str)]) {
        let state = format!("{check}-{}-0123456789", self.passed.len());
        let start = self.authorization_request("openid launch/patient patient/*.rs", &state, change);
        let told = self.client.send(Method::GET, &start, &[], Vec::new()).await.unwrap();
        let back = told.header("location").to_owned();
        let error = parameter(&back, "error").is_some() && parameter(&back, "code").is_none();
        self.pass(check, back.starts_with(NOWHERE) && error, &back);
    }

    #[track_caller]
    fn ends(self, checks: usize) {
        assert_eq!(self.passed.len(), checks, "{:?}", self.passed);
        println!("{} checks: {}", checks, self.passed.join(" "));
    }
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

fn shared(reply: &Reply) -> bool {
    [ORIGIN, "*"].contains(&reply.header("access-control-allow-origin"))
}

fn is_never_kept(reply: &Reply) -> bool {
    reply.header("cache-control").contains("no-store") && reply.header("pragma").contains("no-cache")
}

/// What RFC 6749 and SMART want of a token answer, and no scope that was not asked for.
fn is_token_answer(told: &Value, asked: &str) -> bool {
    let text = |name: &str| told[name].as_str().unwrap_or_default();
    let asked: Vec<&str> = asked.split(' ').collect();
    !text("access_token").is_empty()
        && text("token_type").eq_ignore_ascii_case("bearer")
        && told["expires_in"].as_u64().is_some_and(|seconds| seconds <= 3600)
        && !text("scope").is_empty()
        && text("scope").split(' ').all(|scope| asked.contains(&scope))
}

async fn site(mode: Mode) -> Option<(Inferno, SigningKey)> {
    let packages = Packages::found()?;
    let ground = Ground::lay().await;
    let key = ground.registers_a_service();
    let site = ground.open(&packages, mode, NOWHERE).await;
    Some((Inferno::at(site), key))
}

#[tokio::test]
async fn a_standalone_launch_passes_the_checks_of_inferno() {
    let Some((mut inferno, _)) = site(Mode::Broker).await else { return };
    let scope = "openid fhirUser launch/patient patient/*.rs offline_access";
    inferno.discovers().await;
    let code = inferno.launches(scope, &[]).await;
    let told = inferno.exchanges(&code, scope).await;
    assert_eq!(told["patient"], "amara-osei", "launch/patient");
    let user = inferno.identifies(told["id_token"].as_str().unwrap()).await;
    let read = inferno.get(&user, told["access_token"].as_str()).await;
    let let_in = read.header("access-control-allow-origin") == ORIGIN;
    inferno.pass("smart_cors_openid_fhir_user_claim", read.status == 200 && let_in, read.text());
    let told = inferno.refreshes(told["refresh_token"].as_str().unwrap(), None, scope).await;
    let narrow = "openid launch/patient patient/*.rs offline_access";
    inferno.refreshes(told["refresh_token"].as_str().unwrap(), Some(narrow), narrow).await;
    // A code counts once, and with its verifier alone.
    for (check, verifier) in [
        ("g10_invalid_code_verifier", "another-verifier-that-is-long-enough-to-be-one-0"),
        ("g10_blank_code_verifier", ""),
        ("g10_code_challenge_as_verifier", CHALLENGE),
    ] {
        let state = format!("{check}-0123456789");
        let start = inferno.authorization_request(scope, &state, &[]);
        let mut browser = Browser::new(inferno.site.world.anonymous().unwrap());
        let (back, _) = browser.sign_in(&start, AMARA, NOWHERE).await;
        let code = parameter(&back, "code").unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", NOWHERE),
            ("client_id", CLIENT),
            ("code_verifier", verifier),
        ];
        let told = inferno.post("token", &form).await;
        let refused = told.status == 400 && told.json()["access_token"].is_null() && is_never_kept(&told);
        inferno.pass(check, refused, told.text());
    }
    inferno.refuses("g10_invalid_aud", &[("aud", "https://other.example/fhir")]).await;
    inferno.refuses("g10_invalid_launch", &[("launch", "no-such-launch")]).await;
    inferno.refuses("g10_pkce_plain", &[("code_challenge_method", "plain"), ("code_challenge", VERIFIER)]).await;
    inferno.refuses("g10_pkce_missing", &[("code_challenge", "")]).await;
    inferno.ends(31);
}

#[tokio::test]
async fn an_ehr_launch_in_front_mode_passes_the_checks_of_inferno() {
    let Some((mut inferno, _)) = site(Mode::Front).await else { return };
    let scope = "openid fhirUser launch patient/*.rs offline_access";
    inferno.discovers().await;
    let launch = ("launch", "xyz-of-the-ehr");
    let start = inferno.authorization_request(scope, "the-state-of-a-look-0123456789", &[launch]);
    let there = inferno.client.send(Method::GET, &start, &[], Vec::new()).await.unwrap();
    let there = there.header("location").to_owned();
    inferno.pass("smart_launch_received", parameter(&there, "launch").as_deref() == Some(launch.1), &there);
    // OpenID Connect Core 1.0 section 11: the kit's provider keeps to it, and the app's own `prompt` is passed on.
    let code = inferno.launches(scope, &[launch, ("prompt", "consent")]).await;
    let told = inferno.exchanges(&code, scope).await;
    assert_eq!(told["patient"], "amara-osei", "the context of the launch is the issuer's");
    let patient = format!("{}/Patient/amara-osei", inferno.site.base);
    assert_eq!(inferno.get(&patient, told["access_token"].as_str()).await.status, 200);
    let told = inferno.refreshes(told["refresh_token"].as_str().unwrap(), None, scope).await;
    assert_eq!(inferno.get(&patient, told["access_token"].as_str()).await.status, 200);
    let narrow = "openid launch patient/*.rs offline_access";
    inferno.refreshes(told["refresh_token"].as_str().unwrap(), Some(narrow), scope).await;
    inferno.ends(17);
}

#[tokio::test]
async fn a_backend_service_passes_the_checks_of_inferno() {
    let Some((mut inferno, key)) = site(Mode::Broker).await else { return };
    inferno.discovers().await;
    let token_url = inferno.endpoint("token");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let assertion = |jti: &str, change: Value| {
        let mut claims =
            json!({"iss": SERVICE, "sub": SERVICE, "aud": token_url, "exp": now + 240, "iat": now, "jti": jti});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        key.sign("JWT", &claims).unwrap()
    };
    let scope = "system/Patient.rs system/Observation.rs";
    let form = |grant: &'static str, kind: &'static str, assertion: &str| {
        let form = [("grant_type", grant), ("scope", scope), ("client_assertion_type", kind)];
        let form = form.map(|(name, value)| (name, value.to_owned()));
        form.into_iter().chain([("client_assertion", assertion.to_owned())]).collect::<Vec<_>>()
    };
    let ask = async |inferno: &Inferno, form: Vec<(&str, String)>| {
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        inferno.post("token", &form).await
    };
    let refused = |told: &Reply| [400, 401].contains(&told.status.as_u16()) && told.json()["access_token"].is_null();
    let sound = |jti: &str| assertion(jti, json!({}));
    let told = ask(&inferno, form("not_a_grant_type", JWT_BEARER, &sound("1"))).await;
    inferno.pass("smart_backend_services_invalid_grant_type", told.status == 400 && refused(&told), told.text());
    let told = ask(&inferno, form("client_credentials", "not_an_assertion_type", &sound("2"))).await;
    inferno.pass("smart_backend_services_invalid_client_assertion", refused(&told), told.text());
    for (jti, change) in [
        ("3", json!({"iss": "not_a_client"})),
        ("4", json!({"sub": "not_a_client"})),
        ("5", json!({"aud": "https://other.example/token"})),
        ("6", json!({"exp": now - 120})),
        ("7", json!({"exp": now + 3600})),
        ("8", json!({"jti": ""})),
    ] {
        let told = ask(&inferno, form("client_credentials", JWT_BEARER, &assertion(jti, change.clone()))).await;
        inferno.pass("smart_backend_services_invalid_jwt", refused(&told), format!("{change}: {}", told.text()));
    }
    let told = ask(&inferno, form("client_credentials", JWT_BEARER, &sound("9"))).await;
    let success = [200, 201].contains(&told.status.as_u16());
    inferno.pass("smart_backend_services_auth_request_success", success, told.text());
    let whole = is_token_answer(&told.json(), scope) && told.json()["refresh_token"].is_null();
    inferno.pass("smart_backend_services_auth_response_body", whole && is_never_kept(&told), told.text());
    let access = told.json()["access_token"].as_str().unwrap().to_owned();
    let read = inferno.get(&format!("{}/Patient/dov-hart", inferno.site.base), Some(&access)).await;
    assert_eq!(read.status, 200, "{}", read.text());
    // Introspection, by the client whose token it is.
    for (jti, token, active) in [("10", access.as_str(), true), ("11", "not_a_token", false)] {
        let assertion = sound(jti);
        let form = [("token", token), ("client_assertion_type", JWT_BEARER), ("client_assertion", assertion.as_str())];
        let told = inferno.post("introspection", &form).await;
        let said = told.json();
        let (asked, body) = match active {
            true => ("smart_token_introspection_active_request", {
                let named = said["client_id"] == SERVICE && said["scope"] == scope;
                said["active"] == true && named && said["exp"].as_i64().is_some_and(|until| until > now)
            }),
            false => ("smart_token_introspection_invalid_request", said == json!({"active": false})),
        };
        inferno.pass(asked, told.status == 200, told.text());
        let answer = match active {
            true => "smart_token_introspection_active_response",
            false => "smart_token_introspection_invalid_response",
        };
        inferno.pass(answer, body, told.text());
    }
    inferno.ends(18);
}
