//! Keys: outages, rotations and floods must not stop valid traffic, and must not be passed on to the issuer.

use std::sync::Arc;

use fhirwall::identify::error::{IdentifyError, TokenFault};
use fhirwall::identify::fetch::Fetch;
use fhirwall::identify::issuer::{RefreshPolicy, SignatureAlgorithm};
use fhirwall::identify::keys::{KeyStore, KnownKeys, NoKey};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::world::{Draft, ES256, FakeFetch, ISSUER, RSA, TestKey, World, jwks, now};

const ES: SignatureAlgorithm = SignatureAlgorithm::Es256;

fn jwks_url() -> String {
    format!("{ISSUER}/jwks")
}

fn store(fetch: &Arc<FakeFetch>) -> Arc<KeyStore> {
    let fetch = Arc::clone(fetch) as Arc<dyn Fetch>;
    KeyStore::new(ISSUER, Some(jwks_url().parse().unwrap()), RefreshPolicy::default(), fetch)
}

fn after(seconds: i64) -> OffsetDateTime {
    now() + Duration::seconds(seconds)
}

/// Lets what was spawned beside the traffic come to its end.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_then_known() {
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256, &RSA]));
    let store = store(&fetch);
    for second in 0..299 {
        assert!(store.key(Some("es-1"), ES, after(second)).await.is_ok());
    }
    settle().await;
    assert_eq!(fetch.count(), 1);
}

#[tokio::test]
async fn a_reload_while_the_issuer_is_away_forgets_no_key() {
    let known = KnownKeys::default();
    let (there, away) = (FakeFetch::answering(&jwks_url(), jwks(&[&ES256])), FakeFetch::answering("other", json!({})));
    let first = store(&there).remembering(&known, None);
    let key = first.key(Some("es-1"), ES, now()).await.unwrap();
    // The next generation cannot ask, and need not.
    let second = store(&away).remembering(&known, None);
    assert!(Arc::ptr_eq(&second.key(Some("es-1"), ES, after(60)).await.unwrap(), &key));
    assert_eq!(second.still_publishes(&key, after(60)).await, Ok(true));
    // Kept keys are no younger for it: beyond the limit they count no more.
    assert_eq!(second.key(Some("es-1"), ES, after(3601)).await.err(), Some(NoKey::Unavailable));
    // Another source is another source: under other roots, or by itself.
    for other in [store(&away).remembering(&known, Some(b"other roots")), store(&away)] {
        assert_eq!(other.key(Some("es-1"), ES, after(60)).await.err(), Some(NoKey::Unavailable));
    }
}

#[tokio::test]
async fn a_crowd_at_the_start_makes_one_flight() {
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256]));
    let store = store(&fetch);
    let crowd = (0..200).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.key(Some("es-1"), ES, now()).await.is_ok() })
    });
    for one in crowd.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    assert_eq!(fetch.count(), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_is_one_fetch_a_window_and_stops_nobody() {
    let world = World::new();
    assert!(world.identify(&Draft::new()).await.is_ok());
    let before = world.fetch.count();
    for second in 0..100 {
        for flood in 0..20 {
            let forged = Draft::new().header("kid", json!(format!("unknown-{second}-{flood}")));
            let refused = world.identify_at(&forged, after(second)).await;
            assert_eq!(refused.err(), Some(IdentifyError::InvalidToken(TokenFault::Key)));
        }
        assert!(world.identify_at(&Draft::new(), after(second)).await.is_ok());
    }
    // A hundred seconds are at most ten windows of ten seconds.
    let asked = world.fetch.count() - before;
    assert!(asked <= 10, "{asked}");
}

#[tokio::test]
async fn a_rotated_key_is_found_and_a_withdrawn_one_forgotten() {
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256]));
    let store = store(&fetch);
    let old = store.key(Some("es-1"), ES, now()).await.unwrap();
    let new = TestKey::es256("es-2");
    fetch.set(&jwks_url(), jwks(&[&ES256, &new]));
    assert!(store.key(Some("es-2"), ES, after(11)).await.is_ok(), "published, and asked for once the window is over");
    assert!(store.still_publishes(&old, after(12)).await.unwrap(), "a key that stays is the same key");
    fetch.set(&jwks_url(), jwks(&[&new]));
    assert!(store.key(Some("none"), ES, after(22)).await.is_err());
    assert!(!store.still_publishes(&old, after(23)).await.unwrap());
    assert_eq!(store.key(Some("es-1"), ES, after(23)).await.err(), Some(NoKey::Unknown));
}

#[tokio::test]
async fn a_remembered_token_falls_with_its_key() {
    let world = World::new();
    assert!(world.identify(&Draft::new()).await.is_ok());
    world.fetch.set(&jwks_url(), jwks(&[&RSA]));
    let forged = Draft::new().header("kid", json!("unknown"));
    assert!(world.identify_at(&forged, after(11)).await.is_err());
    let refused = world.identify_at(&Draft::new(), after(12)).await;
    assert_eq!(refused.err(), Some(IdentifyError::InvalidToken(TokenFault::Key)));
    assert!(world.identify_at(&Draft::new().signed_by(&RSA), after(12)).await.is_ok());
}

#[tokio::test]
async fn a_rotation_storm_does_not_stop_tokens_of_keys_that_stay() {
    let world = World::new();
    for round in 0..60 {
        let passing = TestKey::es256(&format!("passing-{round}"));
        world.fetch.set(&jwks_url(), jwks(&[&ES256, &passing]));
        let fresh = Draft::new().header("kid", json!(passing.kid()));
        assert!(world.identify_at(&fresh, after(round)).await.is_err(), "signed by another key than it says");
        assert!(world.identify_at(&Draft::new(), after(round)).await.is_ok());
    }
    assert!(world.fetch.count() <= 7, "{}", world.fetch.count());
}

#[tokio::test]
async fn an_outage_is_bridged_for_the_stated_time_and_no_longer() {
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256]));
    let store = store(&fetch);
    assert!(store.key(Some("es-1"), ES, now()).await.is_ok());
    fetch.fail();
    for minute in 1..60 {
        assert!(store.key(Some("es-1"), ES, after(minute * 60)).await.is_ok(), "minute {minute}");
        settle().await;
    }
    let asked = fetch.count();
    assert!((50..=60).contains(&asked), "tried again, at most once a window: {asked}");
    assert_eq!(store.key(Some("es-1"), ES, after(3_600)).await.err(), Some(NoKey::Unavailable));
    fetch.set(&jwks_url(), jwks(&[&ES256]));
    assert!(store.key(Some("es-1"), ES, after(3_611)).await.is_ok(), "back as soon as the issuer is");
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_is_a_503_and_not_a_401() {
    let world = World::new();
    world.fetch.fail();
    assert_eq!(world.identify(&Draft::new()).await.err(), Some(IdentifyError::IssuerUnavailable));
    assert_eq!(world.identify(&Draft::new()).await.err(), Some(IdentifyError::IssuerUnavailable));
    assert_eq!(world.fetch.count(), 1, "the window holds for failures too");
}

#[tokio::test]
async fn due_keys_are_renewed_beside_the_traffic() {
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256]));
    let store = store(&fetch);
    assert!(store.key(Some("es-1"), ES, now()).await.is_ok());
    let new = TestKey::es256("es-2");
    fetch.set(&jwks_url(), jwks(&[&ES256, &new]));
    for _ in 0..50 {
        assert!(store.key(Some("es-1"), ES, after(301)).await.is_ok());
    }
    settle().await;
    assert_eq!(fetch.count(), 2);
    assert!(store.key(Some("es-2"), ES, after(302)).await.is_ok(), "known before it is first used");
    assert_eq!(fetch.count(), 2);
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_only_at_the_issuer_that_says_its_own_name() {
    let metadata = |issuer: &str| {
        json!({"issuer": issuer, "authorization_endpoint": format!("{ISSUER}/auth"), "jwks_uri": jwks_url(),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"]})
    };
    let discovery = format!("{ISSUER}/.well-known/openid-configuration");
    let fetch = FakeFetch::answering(&discovery, metadata(ISSUER));
    fetch.set(&jwks_url(), jwks(&[&ES256]));
    let policy = RefreshPolicy::default();
    let found = KeyStore::new(ISSUER, None, policy, Arc::clone(&fetch) as Arc<dyn Fetch>);
    assert!(found.key(Some("es-1"), ES, now()).await.is_ok());

    fetch.set(&discovery, metadata("https://evil.example"));
    let misled = KeyStore::new(ISSUER, None, policy, fetch as Arc<dyn Fetch>);
    assert_eq!(misled.key(Some("es-1"), ES, now()).await.err(), Some(NoKey::Unavailable));
}

#[tokio::test]
async fn two_keys_under_one_name_are_nobody_s() {
    let twin = TestKey::es256("es-1");
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256, &twin]));
    assert_eq!(store(&fetch).key(Some("es-1"), ES, now()).await.err(), Some(NoKey::Unknown));
    let fetch = FakeFetch::answering(&jwks_url(), jwks(&[&ES256]));
    assert!(store(&fetch).key(Some("es-1"), ES, now()).await.is_ok());
    assert!(store(&fetch).key(None, ES, now()).await.is_ok(), "without a kid, when only one key fits");
}

#[tokio::test]
async fn published_private_and_symmetric_keys_verify_nothing() {
    let mut private = ES256.jwk.clone();
    private["d"] = json!("AAAA");
    let set = json!({"keys": [private, {"kty": "oct", "kid": "es-1", "k": "AAAA"}, RSA.jwk.clone()]});
    let fetch = FakeFetch::answering(&jwks_url(), set);
    let store = store(&fetch);
    assert_eq!(store.key(Some("es-1"), ES, now()).await.err(), Some(NoKey::Unknown));
    assert!(store.key(Some("rs-1"), SignatureAlgorithm::Rs256, now()).await.is_ok());
}
