//! What a token costs: known already, signed with RS256, signed with ES256; and what a million of them take in memory.
//!
//! `cargo bench -p fhirwall-benches --bench tokens`. Each figure is the median of rounds in one thread. `FHIRWALL_TOKENS`
//! is the number of tokens that are remembered, a million if not said.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program that measures may stop at the first surprise"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use fhirwall::identify::fetch::{Fetch, FetchError};
use fhirwall::identify::issuer::IssuerConfig;
use fhirwall::identify::partners::{ClientKeys, ClientType, Mtls, PartnerEntry, Partners};
use fhirwall::identify::state::{LocalReplayCache, NoRevocations};
use fhirwall::identify::{Identifier, Presented};
use fhirwall::smart::signing::{SigningKey, jwks};
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::purpose::PurposeOfUse;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

const BASE: &str = "https://fhir.example.org/fhir";
const NOW: i64 = 1_800_000_000;

#[derive(Debug)]
struct Keys(Value);

#[async_trait]
impl Fetch for Keys {
    async fn fetch(&self, _request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        let answer = http::Response::builder().header("content-type", "application/json");
        Ok(answer.body(self.0.to_string().into_bytes()).unwrap())
    }
}

#[derive(Debug)]
struct OnePartner(HashMap<String, Arc<PartnerEntry>>);

impl Partners for OnePartner {
    fn by_client_id(&self, client_id: &str) -> Option<Arc<PartnerEntry>> {
        self.0.get(client_id).cloned()
    }

    fn origin_registered(&self, _origin: &str) -> bool {
        false
    }
}

fn partner() -> PartnerEntry {
    PartnerEntry {
        partner: Arc::new(Partner {
            client_id: "app".into(),
            name: "App".to_owned(),
            status: Status::Active,
            scopes: vec!["patient/*.rs".to_owned()].into(),
            purposes_of_use: vec![PurposeOfUse::Treat],
            part2: Part2 { basis: Part2Basis::Consent, redaction: Redaction::Silent },
            consent_recipients: Vec::new(),
            jurisdiction: "US".to_owned(),
            baa_expires: None,
            assessment_expires: None,
            court_orders: Vec::new(),
        }),
        kind: ClientType::Public,
        mtls: Mtls::None { unbound_tokens_until: Some(now() + Duration::days(1)) },
        dpop_required: false,
        certificates: Vec::new(),
        issuers: None,
        keys: ClientKeys::None,
        secret: None,
        redirect_uris: Vec::new(),
        origins: Vec::new(),
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

struct Bench {
    identifier: Identifier,
    elliptic: SigningKey,
    rsa: SigningKey,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        let key = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem();
        let pems = [key(&rcgen::PKCS_ECDSA_P256_SHA256), key(&rcgen::PKCS_RSA_SHA256)];
        let keys: Vec<SigningKey> = pems.iter().map(|pem| SigningKey::from_pem(pem.as_bytes()).unwrap()).collect();
        let mut issuer = IssuerConfig::new("https://idp", &[BASE]);
        issuer.jwks_uri = Some("https://idp/jwks".parse().unwrap());
        issuer.access_token_typ = vec!["at+jwt".to_owned(), "JWT".to_owned()];
        let fetch: Arc<dyn Fetch> = Arc::new(Keys(jwks(&keys)));
        let partners = Arc::new(OnePartner(HashMap::from([("app".to_owned(), Arc::new(partner()))])));
        let clock = Arc::new(fhirwall::clock::FixedClock::at(NOW));
        let replays = Arc::new(LocalReplayCache::new(10, clock));
        let identifier =
            Identifier::new(vec![(issuer, fetch)], partners, replays, Arc::new(NoRevocations), None, capacity)
                .for_endpoints(vec![BASE.to_owned()]);
        let [elliptic, rsa] = <[SigningKey; 2]>::try_from(keys).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { identifier, elliptic, rsa, runtime }
    }

    fn claims(at: usize) -> Value {
        json!({"iss": "https://idp", "aud": BASE, "sub": format!("5f0c1b0e-7a55-4c1e-{at}"), "client_id": "app",
            "jti": format!("jti-0123456789-{at}"), "iat": NOW, "exp": NOW + 3600, "patient": format!("p{at}"),
            "scope": "openid fhirUser launch/patient patient/Observation.rs patient/Condition.rs",
            "fhirUser": format!("Patient/p{at}")})
    }

    fn verifies(&self, token: &str) {
        black_box(self.runtime.block_on(self.identifier.facts(token, now())).unwrap());
    }

    /// The whole identification of a request.
    fn identifies(&self, headers: &HeaderMap) {
        let request = Presented {
            peer: None,
            headers,
            method: &Method::GET,
            url: "https://fhir.example.org/fhir/Observation",
            query: None,
            audience: Some(BASE),
        };
        black_box(self.runtime.block_on(self.identifier.identify(&request, now())).unwrap());
    }
}

/// The median time of `once` in microseconds, over rounds of `each`.
fn median(rounds: usize, each: usize, mut once: impl FnMut(usize)) -> f64 {
    let mut took: Vec<f64> = (0..rounds)
        .map(|round| {
            let begun = Instant::now();
            for at in 0..each {
                once(round * each + at);
            }
            begun.elapsed().as_secs_f64() * 1e6 / each as f64
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[rounds / 2]
}

/// Resident memory in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn main() {
    let many: usize = std::env::var("FHIRWALL_TOKENS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let bench = Bench::new(many * 2);
    let signed: Vec<String> = (0..400).map(|at| bench.rsa.sign_id_token(&Bench::claims(at)).unwrap()).collect();
    // The first token brings the keys.
    bench.verifies(&bench.rsa.sign_id_token(&Bench::claims(999)).unwrap());
    println!("RS256, verified anew     {:8.3} µs   goal: under 25", median(20, 20, |at| bench.verifies(&signed[at])));
    let signed: Vec<String> = (400..800).map(|at| bench.elliptic.sign("at+jwt", &Bench::claims(at)).unwrap()).collect();
    println!("ES256, verified anew     {:8.3} µs", median(20, 20, |at| bench.verifies(&signed[at])));
    let known = &signed[0];
    println!("known token              {:8.3} µs   goal: under 1", median(20, 5_000, |_| bench.verifies(known)));
    let value = HeaderValue::from_str(&format!("Bearer {known}")).unwrap();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    println!("known token, whole caller{:8.3} µs", median(20, 5_000, |_| bench.identifies(&headers)));

    let before = resident();
    for at in 1_000..1_000 + many {
        bench.verifies(&bench.elliptic.sign("at+jwt", &Bench::claims(at)).unwrap());
    }
    let grown = resident() - before;
    let kept = bench.identifier.remembered_tokens();
    println!("{kept} tokens remembered: {grown:.0} MiB, {:.0} bytes each", grown * 1_048_576.0 / kept as f64);
    println!("known token among them   {:8.3} µs", median(20, 5_000, |_| bench.verifies(known)));
}
