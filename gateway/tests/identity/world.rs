//! One issuer, one partner, one clock, and tokens as one wants them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhirwall::clock::FixedClock;
use fhirwall::identify::dpop::Nonces;
use fhirwall::identify::error::IdentifyError;
use fhirwall::identify::fetch::{Fetch, FetchError};
use fhirwall::identify::issuer::IssuerConfig;
use fhirwall::identify::partners::{CertificateMatch, ClientKeys, ClientType, Mtls, PartnerEntry, Partners};
use fhirwall::identify::state::{LocalReplayCache, Revocable, Revocations, RevokeTokens, Unavailable};
use fhirwall::identify::{Identifier, Presented};
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::Subject;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

pub(crate) const ISSUER: &str = "https://idp.example.org/realms/hospital";
pub(crate) const OTHER_ISSUER: &str = "https://other.example.org";
pub(crate) const BASE: &str = "https://fhir.example.org/fhir";
/// Another endpoint of the same gateway.
pub(crate) const SECOND: &str = "https://fhir.example.org/second";
/// An audience of ours that is no endpoint.
pub(crate) const GATEWAY: &str = "urn:gateway";
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const CLIENT: &str = "recovery-path";

/// A key pair with its public JWK.
pub(crate) struct TestKey {
    pub(crate) algorithm: Algorithm,
    pub(crate) private: EncodingKey,
    pub(crate) jwk: Value,
}

impl TestKey {
    fn ec(algorithm: Algorithm, curve: &'static EcdsaSigningAlgorithm, crv: &str, kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        let point = pair.public_key().as_ref();
        let half = (point.len() - 1) / 2;
        let jwk = json!({"kty": "EC", "crv": crv, "kid": kid, "use": "sig",
            "x": b64(&point[1..=half]), "y": b64(&point[half + 1..])});
        Self { algorithm, private: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()), jwk }
    }

    pub(crate) fn es256(kid: &str) -> Self {
        Self::ec(Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", kid)
    }

    pub(crate) fn es384(kid: &str) -> Self {
        Self::ec(Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", kid)
    }

    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let jwk = json!({"kty": "RSA", "kid": kid, "use": "sig",
            "n": b64(public.modulus().big_endian_without_leading_zero()),
            "e": b64(public.exponent().big_endian_without_leading_zero())});
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec();
        Self { algorithm: Algorithm::RS256, private: EncodingKey::from_rsa_der(&rsa_body(&pkcs8)), jwk }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk =
            json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": b64(pair.public_key().as_ref())});
        Self {
            algorithm: Algorithm::EdDSA,
            private: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
            jwk,
        }
    }

    pub(crate) fn kid(&self) -> &str {
        self.jwk["kid"].as_str().unwrap()
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_as(self.algorithm, header, claims)
    }

    pub(crate) fn sign_as(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// The PKCS#1 body inside a PKCS#8 RSA key: its last OCTET STRING, whose length has two bytes.
fn rsa_body(pkcs8: &[u8]) -> Vec<u8> {
    let at = pkcs8.windows(2).position(|pair| pair == [0x04, 0x82]).unwrap();
    pkcs8[at + 4..].to_vec()
}

pub(crate) static ES256: LazyLock<TestKey> = LazyLock::new(|| TestKey::es256("es-1"));
pub(crate) static ES384: LazyLock<TestKey> = LazyLock::new(|| TestKey::es384("es384-1"));
pub(crate) static RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa("rs-1"));
pub(crate) static ED25519: LazyLock<TestKey> = LazyLock::new(|| TestKey::ed25519("ed-1"));
/// The other issuer's key, under the same `kid` as ours.
pub(crate) static FOREIGN: LazyLock<TestKey> = LazyLock::new(|| TestKey::es256("es-1"));

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

/// Answers by URL, counts, and can be told to fail.
#[derive(Debug, Default)]
pub(crate) struct FakeFetch {
    pub(crate) answers: Mutex<HashMap<String, Value>>,
    pub(crate) asked: AtomicUsize,
    pub(crate) requests: Mutex<Vec<(String, String)>>,
}

impl FakeFetch {
    pub(crate) fn answering(url: &str, body: Value) -> Arc<Self> {
        let fetch = Self::default();
        fetch.set(url, body);
        Arc::new(fetch)
    }

    pub(crate) fn set(&self, url: &str, body: Value) {
        self.answers.lock().unwrap().insert(url.to_owned(), body);
    }

    pub(crate) fn change(&self, url: &str, change: impl FnOnce(&mut Value)) {
        change(self.answers.lock().unwrap().get_mut(url).unwrap());
    }

    pub(crate) fn fail(&self) {
        self.answers.lock().unwrap().clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Fetch for FakeFetch {
    async fn fetch(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let url = request.uri().to_string();
        let body = String::from_utf8(request.into_body()).unwrap();
        self.requests.lock().unwrap().push((url.clone(), body));
        // Everybody who waits for the same flight gets a turn before it lands.
        tokio::task::yield_now().await;
        match self.answers.lock().unwrap().get(&url) {
            Some(body) => Ok(http::Response::builder()
                .header("content-type", "application/json")
                .body(body.to_string().into_bytes())
                .unwrap()),
            None => Err(FetchError::Timeout),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakePartners(pub(crate) Mutex<HashMap<String, Arc<PartnerEntry>>>);

impl Partners for FakePartners {
    fn by_client_id(&self, client_id: &str) -> Option<Arc<PartnerEntry>> {
        self.0.lock().unwrap().get(client_id).cloned()
    }

    fn origin_registered(&self, origin: &str) -> bool {
        self.0.lock().unwrap().values().any(|entry| entry.origins.iter().any(|one| one == origin))
    }
}

/// Revokes what one names: token id, user, client or patient.
#[derive(Debug, Default)]
pub(crate) struct FakeRevocations {
    pub(crate) revoked: Mutex<Vec<String>>,
    pub(crate) down: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Revocations for FakeRevocations {
    async fn is_revoked(&self, token: Revocable<'_>) -> Result<bool, Unavailable> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Unavailable);
        }
        let names = [Some(token.token_id), Some(token.sub), Some(token.client_id), token.patient];
        Ok(self.revoked.lock().unwrap().iter().any(|one| names.contains(&Some(one))))
    }
}

#[async_trait]
impl RevokeTokens for FakeRevocations {
    async fn revoke_token(&self, _issuer: &str, token_id: &str, _until: OffsetDateTime) -> Result<(), Unavailable> {
        self.revoked.lock().unwrap().push(token_id.to_owned());
        Ok(())
    }
}

pub(crate) fn partner(client_id: &str) -> PartnerEntry {
    PartnerEntry {
        partner: Arc::new(Partner {
            client_id: client_id.into(),
            name: client_id.to_owned(),
            status: Status::Active,
            scopes: vec!["patient/*.rs".to_owned()].into(),
            purposes_of_use: vec![PurposeOfUse::Treat, PurposeOfUse::Etreat],
            part2: Part2 { basis: Part2Basis::Consent, redaction: Redaction::Silent },
            consent_recipients: Vec::new(),
            jurisdiction: "US".to_owned(),
            baa_expires: None,
            assessment_expires: None,
            court_orders: Vec::new(),
        }),
        kind: ClientType::ConfidentialAsymmetric,
        mtls: Mtls::Required,
        dpop_required: false,
        certificates: vec![CertificateMatch::SanUri(format!("spiffe://{client_id}/gateway"))],
        issuers: None,
        keys: ClientKeys::None,
        secret: None,
        redirect_uris: vec!["https://recovery.example/cb".to_owned()],
        origins: vec!["https://recovery.example".to_owned()],
    }
}

/// A certificate of this partner.
pub(crate) fn certificate(client_id: &str) -> PeerIdentity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(format!("spiffe://{client_id}/gateway").as_str().try_into().unwrap()));
    params.not_after = now() + Duration::days(30);
    let certificate = params.self_signed(&key).unwrap();
    PeerIdentity::from_leaf_der(certificate.der()).unwrap()
}

pub(crate) struct World {
    pub(crate) identifier: Identifier,
    pub(crate) fetch: Arc<FakeFetch>,
    pub(crate) partners: Arc<FakePartners>,
    pub(crate) revocations: Arc<FakeRevocations>,
}

pub(crate) fn jwks(keys: &[&TestKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>()})
}

pub(crate) fn issuer(issuer: &str) -> IssuerConfig {
    let mut config = IssuerConfig::new(issuer, &[BASE, SECOND, GATEWAY]);
    config.jwks_uri = Some(format!("{issuer}/jwks").parse().unwrap());
    config
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| (), None)
    }

    /// A world whose issuer is configured otherwise.
    pub(crate) fn with(configure: impl Fn(&mut IssuerConfig), nonces: Option<Nonces>) -> Self {
        let fetch = FakeFetch::answering(&format!("{ISSUER}/jwks"), jwks(&[&ES256, &ES384, &RSA, &ED25519]));
        fetch.set(&format!("{OTHER_ISSUER}/jwks"), jwks(&[&FOREIGN]));
        let partners = Arc::new(FakePartners::default());
        for client in [CLIENT, "research-app"] {
            partners.0.lock().unwrap().insert(client.to_owned(), Arc::new(partner(client)));
        }
        let revocations = Arc::new(FakeRevocations::default());
        let mut config = issuer(ISSUER);
        configure(&mut config);
        let issuers = vec![
            (config, Arc::clone(&fetch) as Arc<dyn Fetch>),
            (issuer(OTHER_ISSUER), Arc::clone(&fetch) as Arc<dyn Fetch>),
        ];
        let identifier = Identifier::new(
            issuers,
            Arc::clone(&partners) as Arc<dyn Partners>,
            Arc::new(LocalReplayCache::new(1_000, Arc::new(FixedClock::at(NOW)))),
            Arc::clone(&revocations) as Arc<dyn Revocations>,
            nonces,
            1_000,
        )
        .for_endpoints(vec![BASE.to_owned(), SECOND.to_owned()]);
        Self { identifier, fetch, partners, revocations }
    }

    pub(crate) fn change_partner(&self, client_id: &str, change: impl Fn(&mut PartnerEntry)) {
        let mut partners = self.partners.0.lock().unwrap();
        let mut entry = PartnerEntry::clone(&partners[client_id]);
        change(&mut entry);
        partners.insert(client_id.to_owned(), Arc::new(entry));
    }

    pub(crate) async fn identify(&self, draft: &Draft) -> Result<Subject, IdentifyError> {
        self.identify_at(draft, now()).await
    }

    pub(crate) async fn identify_at(&self, draft: &Draft, at: OffsetDateTime) -> Result<Subject, IdentifyError> {
        self.identify_token(draft, &draft.token(), Vec::new(), at).await
    }

    /// As the draft says, but with this very token and more headers.
    pub(crate) async fn identify_token(
        &self,
        draft: &Draft,
        token: &str,
        more: Vec<(&'static str, String)>,
        at: OffsetDateTime,
    ) -> Result<Subject, IdentifyError> {
        let headers = draft.headers(token, more);
        let presented = Presented {
            peer: draft.peer.as_ref(),
            headers: &headers,
            method: &Method::GET,
            url: "https://fhir.example.org/fhir/Observation",
            query: draft.query.as_deref(),
            audience: draft.audience.as_deref(),
        };
        self.identifier.identify(&presented, at).await
    }
}

/// A request with a token, sound until somebody changes it.
pub(crate) struct Draft {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    pub(crate) key: &'static TestKey,
    pub(crate) algorithm: Option<Algorithm>,
    /// Changes the finished token.
    pub(crate) finish: fn(String) -> String,
    /// Changes the finished `Authorization` values.
    pub(crate) authorization: fn(String) -> Vec<String>,
    pub(crate) peer: Option<PeerIdentity>,
    pub(crate) query: Option<String>,
    pub(crate) audience: Option<String>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Self {
            header: json!({"alg": "ES256", "typ": "at+jwt", "kid": "es-1"}),
            claims: json!({
                "iss": ISSUER, "aud": BASE, "sub": "user-1", "client_id": CLIENT, "jti": "jti-1",
                "iat": NOW - 10, "exp": NOW + 300, "scope": "patient/Observation.rs launch/patient",
                "patient": "a", "fhirUser": "https://fhir.example.org/fhir/Practitioner/p"
            }),
            key: &ES256,
            algorithm: None,
            finish: |token| token,
            authorization: |token| vec![format!("Bearer {token}")],
            peer: Some(certificate(CLIENT)),
            query: None,
            audience: None,
        }
    }

    pub(crate) fn signed_by(mut self, key: &'static TestKey) -> Self {
        self.header["alg"] = json!(format!("{:?}", key.algorithm));
        self.header["kid"] = json!(key.kid());
        self.key = key;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: Value) -> Self {
        set(&mut self.header, name, value);
        self
    }

    /// A claim; null takes it away.
    pub(crate) fn claim(mut self, name: &str, value: Value) -> Self {
        set(&mut self.claims, name, value);
        self
    }

    pub(crate) fn token(&self) -> String {
        let algorithm = self.algorithm.unwrap_or(self.key.algorithm);
        (self.finish)(self.key.sign_as(algorithm, &self.header, &self.claims))
    }

    fn headers(&self, token: &str, more: Vec<(&'static str, String)>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in (self.authorization)(token.to_owned()) {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        for (name, value) in more {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
        }
        headers
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if value.is_null() {
        object.as_object_mut().unwrap().remove(name);
    } else {
        object[name] = value;
    }
}
