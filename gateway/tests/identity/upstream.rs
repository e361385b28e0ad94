//! The gateway's own token at the EHR.

use std::sync::Arc;

use fhirwall::clock::FixedClock;
use fhirwall::forward::UpstreamCredential as _;
use fhirwall::identify::fetch::Fetch;
use fhirwall::smart::remote::{OwnProof, TokenEndpoint};
use fhirwall::smart::signing::SigningKey;
use fhirwall::smart::upstream::{BackendService, FixedHeader};
use serde_json::json;

use crate::site::{claims, query};
use crate::world::{FakeFetch, NOW};

const TOKEN: &str = "https://ehr.example.org/token";

fn backend(fetch: &Arc<FakeFetch>, clock: &FixedClock) -> BackendService {
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let endpoint = TokenEndpoint {
        url: TOKEN.parse().unwrap(),
        proof: OwnProof::PrivateKeyJwt(Arc::new(SigningKey::from_pem(pem.as_bytes()).unwrap())),
        fetch: Arc::clone(fetch) as Arc<dyn Fetch>,
    };
    BackendService::new(endpoint, "gateway".to_owned(), "system/*.rs", Arc::new(clock.clone()))
}

fn gives(fetch: &FakeFetch, token: &str) {
    fetch.set(TOKEN, json!({"access_token": token, "token_type": "bearer", "expires_in": 300}));
}

async fn value(service: &BackendService) -> Option<String> {
    service.authorization().await.ok().flatten().map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_is_asked_for_with_a_signed_assertion_and_renewed_ahead() {
    let fetch = Arc::new(FakeFetch::default());
    let clock = FixedClock::at(NOW);
    let service = backend(&fetch, &clock);
    gives(&fetch, "first");
    for _ in 0..10 {
        assert_eq!(value(&service).await.as_deref(), Some("Bearer first"));
    }
    assert_eq!(fetch.count(), 1);
    let asked = fetch.requests.lock().unwrap()[0].1.clone();
    let asked: url::Url = format!("https://x/?{asked}").parse().unwrap();
    assert_eq!(query(&asked, "grant_type").as_deref(), Some("client_credentials"));
    assert_eq!(query(&asked, "scope").as_deref(), Some("system/*.rs"));
    let assertion = claims(&json!(query(&asked, "client_assertion").unwrap()));
    assert_eq!(
        (&assertion["iss"], &assertion["sub"], &assertion["aud"]),
        (&json!("gateway"), &json!("gateway"), &json!(TOKEN))
    );
    assert!(assertion["exp"].as_i64().unwrap() <= NOW + 300);
    gives(&fetch, "second");
    clock.advance_seconds(239);
    assert_eq!(value(&service).await.as_deref(), Some("Bearer first"));
    clock.advance_seconds(1);
    assert_eq!(value(&service).await.as_deref(), Some("Bearer second"), "a minute ahead");
}

#[tokio::test]
async fn an_outage_is_bridged_to_the_last_second_and_then_there_is_no_credential() {
    let fetch = Arc::new(FakeFetch::default());
    let clock = FixedClock::at(NOW);
    let service = backend(&fetch, &clock);
    gives(&fetch, "first");
    assert!(value(&service).await.is_some());
    fetch.fail();
    clock.advance_seconds(299);
    assert_eq!(value(&service).await.as_deref(), Some("Bearer first"), "one second before its end");
    for _ in 0..20 {
        assert!(value(&service).await.is_some());
    }
    assert_eq!(fetch.count(), 2, "the EHR is not hammered");
    clock.advance_seconds(1);
    assert_eq!(value(&service).await, None);
    gives(&fetch, "again");
    clock.advance_seconds(5);
    assert_eq!(value(&service).await.as_deref(), Some("Bearer again"));
}

#[tokio::test]
async fn a_crowd_asks_once() {
    let fetch = Arc::new(FakeFetch::default());
    let service = Arc::new(backend(&fetch, &FixedClock::at(NOW)));
    gives(&fetch, "one");
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { value(&service).await.is_some() })
        })
        .collect();
    for one in crowd {
        assert!(one.await.unwrap());
    }
    assert_eq!(fetch.count(), 1);
}

#[tokio::test]
async fn a_header_from_a_file_is_sent_as_it_stands_and_never_printed() {
    let header = FixedHeader::new("Basic c2VjcmV0\n").unwrap();
    let value = header.authorization().await.unwrap().unwrap();
    assert_eq!(value, "Basic c2VjcmV0");
    assert!(!format!("{header:?} {value:?}").contains("c2VjcmV0"));
    assert!(FixedHeader::new("two\nlines").is_none());
    assert!(FixedHeader::new("  ").is_none());
}
