//! A browser, an app and its back channel, for the flows of front and broker mode.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use fhirwall::clock::FixedClock;
use fhirwall::identify::Identifier;
use fhirwall::identify::fetch::Fetch;
use fhirwall::identify::issuer::IssuerConfig;
use fhirwall::identify::partners::{ClientKeys, ClientSecret, ClientType, Mtls, PartnerEntry, Partners};
use fhirwall::identify::state::{LocalReplayCache, ReplayCache, Revocations, RevokeTokens};
use fhirwall::smart::answer::Answer;
use fhirwall::smart::broker::mint::Mint;
use fhirwall::smart::broker::provider::{Provider, ProviderConfig};
use fhirwall::smart::broker::{Broker, BrokerParts};
use fhirwall::smart::client_keys::PublishedKeys;
use fhirwall::smart::clients::ClientAuthentication;
use fhirwall::smart::front::{Front, FrontConfig};
use fhirwall::smart::remote::OwnProof;
use fhirwall::smart::request::{AuthEndpoint, AuthRequest};
use fhirwall::smart::seal::Seal;
use fhirwall::smart::signing::{SigningKey, jwks};
use fhirwall::smart::tokeninfo::TokenInfo;
use fhirwall_certs::peer::PeerIdentity;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::world::{BASE, ES256, ES384, FakeFetch, FakePartners, FakeRevocations, ISSUER, NOW, RSA, b64, now, partner};

pub(crate) const AUTH: &str = "https://fhir.example.org/fhir/auth";
pub(crate) const REDIRECT: &str = "https://recovery.example/cb";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const SECRET: &str = "a secret of the symmetric client";
pub(crate) const PROVIDER: &str = "https://login.example.org";

pub(crate) fn challenge(verifier: &str) -> String {
    b64(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

pub(crate) enum Mode {
    Front(Front),
    Broker(Broker),
}

pub(crate) struct Site {
    mode: Mode,
    pub(crate) fetch: Arc<FakeFetch>,
    pub(crate) partners: Arc<FakePartners>,
    pub(crate) identifier: Arc<Identifier>,
}

/// One request to an endpoint, sound until somebody changes it.
#[derive(Clone, Default)]
pub(crate) struct Call {
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) peer: Option<PeerIdentity>,
    pub(crate) later: i64,
}

impl Call {
    pub(crate) fn new(parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { parameters, ..Self::default() }
    }

    /// Sets, or with an empty value takes away.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(own, _)| own != name);
        if !value.is_empty() {
            self.parameters.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn again(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn basic(self, client_id: &str, secret: &str) -> Self {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{client_id}:{secret}"));
        self.header(AUTHORIZATION, &format!("Basic {credentials}"))
    }

    pub(crate) fn after(mut self, seconds: i64) -> Self {
        self.later = seconds;
        self
    }
}

/// Public, symmetric, asymmetric clients and a backend service.
fn partners() -> FakePartners {
    let without_mtls = |client_id: &str, kind| PartnerEntry {
        kind,
        mtls: Mtls::None { unbound_tokens_until: Some(now() + Duration::days(1)) },
        ..partner(client_id)
    };
    let asymmetric = |client_id: &str, kind| PartnerEntry {
        keys: ClientKeys::ByValue(vec![ES384.jwk.as_object().unwrap().clone(), RSA.jwk.as_object().unwrap().clone()]),
        ..without_mtls(client_id, kind)
    };
    let secret =
        ClientSecret::from_sha256(digest::digest(&digest::SHA256, SECRET.as_bytes()).as_ref().try_into().unwrap());
    let mut backend = asymmetric("backend", ClientType::BackendService);
    let mut facts = (*backend.partner).clone();
    facts.scopes = vec!["system/*.rs".to_owned()].into();
    backend.partner = Arc::new(facts);
    let all = [
        without_mtls("public", ClientType::Public),
        PartnerEntry { secret: Some(secret), ..without_mtls("symmetric", ClientType::ConfidentialSymmetric) },
        asymmetric("asymmetric", ClientType::ConfidentialAsymmetric),
        backend,
        PartnerEntry { kind: ClientType::BackendService, ..partner("mtls") },
    ];
    let by_id: HashMap<_, _> =
        all.into_iter().map(|entry| (entry.partner.client_id.to_string(), Arc::new(entry))).collect();
    FakePartners(by_id.into())
}

fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> SigningKey {
    SigningKey::from_pem(rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem().as_bytes()).unwrap()
}

pub(crate) fn broker() -> Site {
    let keys = vec![pem(&rcgen::PKCS_ECDSA_P256_SHA256), pem(&rcgen::PKCS_RSA_SHA256)];
    site(Some(keys))
}

pub(crate) fn front() -> Site {
    site(None)
}

fn site(broker_keys: Option<Vec<SigningKey>>) -> Site {
    let fetch = Arc::new(FakeFetch::default());
    let partners = Arc::new(partners());
    let revocations = Arc::new(FakeRevocations::default());
    let replays: Arc<dyn ReplayCache> = Arc::new(LocalReplayCache::new(1_000, Arc::new(FixedClock::at(NOW))));
    let clients = ClientAuthentication {
        partners: Arc::clone(&partners) as Arc<dyn Partners>,
        published: Arc::new(PublishedKeys::new(Arc::clone(&fetch) as Arc<dyn Fetch>)),
        replays: Arc::clone(&replays),
        audiences: vec![format!("{AUTH}/token"), AUTH.to_owned()],
    };
    let seal = Arc::new(Seal::new(&[[7; 32]]).unwrap());
    let mut own = IssuerConfig::new(AUTH, &[BASE]);
    own.jwks_uri = Some(format!("{AUTH}/jwks").parse().unwrap());
    let identifier = Arc::new(Identifier::new(
        vec![(own, Arc::clone(&fetch) as Arc<dyn Fetch>)],
        Arc::clone(&partners) as Arc<dyn Partners>,
        replays,
        Arc::clone(&revocations) as Arc<dyn Revocations>,
        None,
        100,
    ));
    let info = TokenInfo {
        issuer: AUTH.to_owned(),
        clients,
        identifier: Arc::clone(&identifier),
        revocations: Arc::clone(&revocations) as Arc<dyn Revocations>,
        revoke: Arc::clone(&revocations) as Arc<dyn RevokeTokens>,
    };
    let mode = match broker_keys {
        Some(keys) => {
            fetch.set(&format!("{AUTH}/jwks"), jwks(&keys));
            server_answers(&fetch, PROVIDER, false);
            let config = ProviderConfig {
                issuer: PROVIDER.to_owned(),
                client_id: "gateway".to_owned(),
                client_secret: "the gateway's secret".to_owned(),
                scopes: vec!["profile".to_owned()],
                fhir_user_claim: "fhirUser".to_owned(),
                patient_claim: "patient".to_owned(),
            };
            let own_fetch = Arc::clone(&fetch) as Arc<dyn Fetch>;
            Mode::Broker(Broker::new(BrokerParts {
                mint: Mint { issuer: AUTH.to_owned(), base_url: BASE.to_owned(), keys, lifetime: Duration::minutes(5) },
                provider: Provider::new(config, format!("{AUTH}/callback"), own_fetch),
                info,
                seal,
                patients: None,
                nonces: None,
            }))
        }
        None => {
            server_answers(&fetch, ISSUER, true);
            let config = FrontConfig {
                base_url: BASE.to_owned(),
                issuer: ISSUER.to_owned(),
                proof: OwnProof::PrivateKeyJwt(Arc::new(pem(&rcgen::PKCS_ECDSA_P384_SHA384))),
                fetch: Arc::clone(&fetch) as Arc<dyn Fetch>,
                audience: None,
            };
            Mode::Front(Front::new(config, info, seal))
        }
    };
    Site { mode, fetch, partners, identifier }
}

/// The metadata and keys of the server behind us.
fn server_answers(fetch: &FakeFetch, server: &str, sends_iss: bool) {
    fetch.set(
        &format!("{server}/.well-known/openid-configuration"),
        json!({"issuer": server, "authorization_endpoint": format!("{server}/authorize"),
            "authorization_response_iss_parameter_supported": sends_iss,
            "token_endpoint": format!("{server}/token"), "jwks_uri": format!("{server}/jwks"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256"]}),
    );
    fetch.set(&format!("{server}/jwks"), json!({"keys": [RSA.jwk.clone()]}));
}

impl Site {
    pub(crate) async fn get(&self, endpoint: AuthEndpoint, call: &Call) -> Answer {
        self.send(Method::GET, endpoint, call).await
    }

    pub(crate) async fn post(&self, endpoint: AuthEndpoint, call: &Call) -> Answer {
        self.send(Method::POST, endpoint, call).await
    }

    async fn send(&self, method: Method, endpoint: AuthEndpoint, call: &Call) -> Answer {
        assert!(endpoint.takes(&method));
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&call.parameters);
        let form = form.finish();
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let post = method == Method::POST;
        if post {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        let request = AuthRequest {
            method: &method,
            query: (!post).then_some(form.as_str()),
            headers: &headers,
            body: if post { form.as_bytes() } else { b"" },
            peer: call.peer.as_ref(),
            now: now() + Duration::seconds(call.later),
        };
        match &self.mode {
            Mode::Front(front) => front.answer(endpoint, &request).await.unwrap(),
            Mode::Broker(broker) => broker.answer(endpoint, &request).await,
        }
    }

    pub(crate) fn change(&self, client_id: &str, change: impl Fn(&mut PartnerEntry)) {
        let mut partners = self.partners.0.lock().unwrap();
        let mut entry = PartnerEntry::clone(&partners[client_id]);
        change(&mut entry);
        partners.insert(client_id.to_owned(), Arc::new(entry));
    }
}

/// A sound authorization request.
pub(crate) fn authorize(client_id: &str, state: &str) -> Call {
    Call::new(&[
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", REDIRECT),
        ("scope", "openid fhirUser launch/patient offline_access patient/Observation.rs patient/Condition.rs"),
        ("state", state),
        ("aud", BASE),
        ("code_challenge", &challenge(VERIFIER)),
        ("code_challenge_method", "S256"),
        ("nonce", "the app's nonce"),
    ])
}

/// A sound token request with a code.
pub(crate) fn exchange(client_id: &str, code: &str) -> Call {
    Call::new(&[
        ("grant_type", "authorization_code"),
        ("client_id", client_id),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ])
}

pub(crate) fn location(answer: &Answer) -> url::Url {
    let location = answer.headers().get(LOCATION).unwrap_or_else(|| panic!("no redirect: {}", text(answer)));
    location.to_str().unwrap().parse().unwrap()
}

pub(crate) fn query(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

/// The cookies of an answer, as a browser sends them back.
pub(crate) fn cookies(answer: &Answer) -> Vec<(HeaderName, String)> {
    let values = answer.headers().get_all(SET_COOKIE).iter();
    let pairs: Vec<String> =
        values.map(|value| value.to_str().unwrap().split(';').next().unwrap().to_owned()).collect();
    vec![(COOKIE, pairs.join("; "))]
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body().to_vec()).unwrap()
}

pub(crate) fn body(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

/// The claims of a token, unverified.
pub(crate) fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A client assertion, sound until somebody changes it.
pub(crate) fn assertion(client_id: &str, change: impl Fn(&mut Value, &mut Value)) -> String {
    let mut header = json!({"alg": "ES384", "typ": "JWT", "kid": ES384.kid()});
    let mut claims = json!({"iss": client_id, "sub": client_id, "aud": format!("{AUTH}/token"), "iat": NOW,
        "exp": NOW + 240, "jti": format!("{client_id}-{:?}", std::time::Instant::now())});
    change(&mut header, &mut claims);
    let key = if header["alg"] == "ES256" { &*ES256 } else { &*ES384 };
    key.sign(&header, &claims)
}

pub(crate) fn in_time(seconds: i64) -> OffsetDateTime {
    now() + Duration::seconds(seconds)
}
