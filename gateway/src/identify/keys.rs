//! The keys of one issuer: fetched seldom, by one at a time, kept for a while when the issuer is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use openidconnect::core::{CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::fetch::{Fetch, FetchError, OauthClient};
use super::issuer::{RefreshPolicy, SignatureAlgorithm};
use super::jwk::VerifyingKey;

/// The keys of one issuer, found by a fixed `jwks_uri` or by OpenID discovery.
#[derive(Debug)]
pub struct KeyStore {
    issuer: String,
    jwks_uri: Option<url::Url>,
    client: OauthClient,
    policy: RefreshPolicy,
    /// Shared with the stores of other generations that ask the same source.
    current: Arc<ArcSwapOption<KeySet>>,
    /// When keys were last asked for, with or without success. Holding the lock is holding the one flight.
    last_asked: Mutex<Option<OffsetDateTime>>,
    refreshes: Refreshes,
}

/// How often keys were asked for, for `fhirwall_jwks_refresh_total`.
#[derive(Debug, Default)]
pub struct Refreshes {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
}

/// The keys that an issuer published at one moment.
#[derive(Debug)]
pub struct KeySet {
    by_kid: HashMap<String, Vec<Arc<VerifyingKey>>>,
    all: Vec<Arc<VerifyingKey>>,
    fetched: OffsetDateTime,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has no such key, or several that could be meant.
    Unknown,
    /// The issuer cannot be asked, and what is known of its keys is too old.
    Unavailable,
}

/// Where keys come from: an unchanged source gives the same keys in each generation of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    issuer: String,
    jwks_uri: Option<url::Url>,
    ca_pem: Option<Vec<u8>>,
}

/// Sources that are remembered; beyond this many all are forgotten but those in use.
const MOST_SOURCES: usize = 256;

/// The keys that were fetched from each source, for as long as the process lives: a reload while an issuer is away does
/// not forget them. How long they count is the store's policy, as ever.
#[derive(Debug, Default)]
pub struct KnownKeys(std::sync::Mutex<HashMap<Source, Arc<ArcSwapOption<KeySet>>>>);

impl KnownKeys {
    fn of(&self, source: Source) -> Arc<ArcSwapOption<KeySet>> {
        // Keys of a thread that died are keys all the same.
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.len() >= MOST_SOURCES {
            known.retain(|_, keys| Arc::strong_count(keys) > 1);
        }
        Arc::clone(known.entry(source).or_default())
    }
}

impl KeyStore {
    pub fn new(issuer: &str, jwks_uri: Option<url::Url>, policy: RefreshPolicy, fetch: Arc<dyn Fetch>) -> Arc<Self> {
        Arc::new(Self {
            issuer: issuer.to_owned(),
            jwks_uri,
            client: OauthClient(fetch),
            policy,
            current: Arc::default(),
            last_asked: Mutex::new(None),
            refreshes: Refreshes::default(),
        })
    }

    /// The same store, with the keys that a store of the same source has fetched or will fetch. `ca_pem` are the roots by
    /// which the source is believed: under others it is another source.
    pub fn remembering(&self, known: &KnownKeys, ca_pem: Option<&[u8]>) -> Arc<Self> {
        let source =
            Source { issuer: self.issuer.clone(), jwks_uri: self.jwks_uri.clone(), ca_pem: ca_pem.map(<[u8]>::to_vec) };
        Arc::new(Self {
            issuer: self.issuer.clone(),
            jwks_uri: self.jwks_uri.clone(),
            client: self.client.clone(),
            policy: self.policy,
            current: known.of(source),
            last_asked: Mutex::new(None),
            refreshes: Refreshes::default(),
        })
    }

    pub fn refreshes(&self) -> &Refreshes {
        &self.refreshes
    }

    /// The one key that may verify a token with this `kid` and algorithm.
    ///
    /// Unknown key ids lead to at most one fetch in a window; keys that are merely due are renewed beside the traffic.
    pub async fn key(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: SignatureAlgorithm,
        now: OffsetDateTime,
    ) -> Result<Arc<VerifyingKey>, NoKey> {
        let known = self.usable(now);
        if let Some(key) = known.as_ref().and_then(|keys| keys.pick(kid, algorithm)) {
            self.renew_beside_traffic(now);
            return Ok(key);
        }
        self.ask(known.as_ref().map(|keys| keys.fetched), now).await;
        let keys = self.usable(now).ok_or(NoKey::Unavailable)?;
        keys.pick(kid, algorithm).ok_or(NoKey::Unknown)
    }

    /// Does the issuer still publish this very key? A verified token counts no longer than its key.
    pub async fn still_publishes(
        self: &Arc<Self>,
        key: &Arc<VerifyingKey>,
        now: OffsetDateTime,
    ) -> Result<bool, NoKey> {
        if let Some(keys) = self.usable(now) {
            self.renew_beside_traffic(now);
            return Ok(keys.all.iter().any(|one| Arc::ptr_eq(one, key)));
        }
        self.ask(None, now).await;
        let keys = self.usable(now).ok_or(NoKey::Unavailable)?;
        Ok(keys.all.iter().any(|one| Arc::ptr_eq(one, key)))
    }

    /// Asks for the keys, unless somebody did after `seen`, or anybody within the window.
    async fn ask(&self, seen: Option<OffsetDateTime>, now: OffsetDateTime) {
        let mut last_asked = self.last_asked.lock().await;
        let newer = self.current.load().as_ref().is_some_and(|keys| Some(keys.fetched) > seen);
        if newer && self.usable(now).is_some() {
            return;
        }
        if last_asked.is_some_and(|asked| now < asked + self.policy.window) {
            return;
        }
        *last_asked = Some(now);
        match self.published(now).await {
            Ok(mut keys) => {
                keys.keep_identities(self.current.load().as_deref());
                self.current.store(Some(Arc::new(keys)));
                self.refreshes.succeeded.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.refreshes.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(issuer = %self.issuer, %error, "keys could not be fetched");
            }
        }
    }

    fn usable(&self, now: OffsetDateTime) -> Option<Arc<KeySet>> {
        self.current.load_full().filter(|keys| now < keys.fetched + self.policy.stale_limit)
    }

    fn renew_beside_traffic(self: &Arc<Self>, now: OffsetDateTime) {
        let fetched = self.current.load().as_ref().map(|keys| keys.fetched);
        let due = fetched.is_some_and(|fetched| now >= fetched + self.policy.after);
        // Whoever holds the lock is already asking, or has just asked.
        let asked_lately = match self.last_asked.try_lock() {
            Ok(last_asked) => last_asked.is_some_and(|asked| now < asked + self.policy.window),
            Err(_) => true,
        };
        if due && !asked_lately {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.ask(fetched, now).await });
        }
    }

    async fn published(&self, now: OffsetDateTime) -> Result<KeySet, openidconnect::DiscoveryError<FetchError>> {
        let keys = match &self.jwks_uri {
            Some(uri) => CoreJsonWebKeySet::fetch_async(&JsonWebKeySetUrl::from_url(uri.clone()), &self.client).await?,
            None => {
                let issuer = IssuerUrl::new(self.issuer.clone()).map_err(openidconnect::DiscoveryError::UrlParse)?;
                CoreProviderMetadata::discover_async(issuer, &self.client).await?.jwks().clone()
            }
        };
        Ok(KeySet::new(&keys, now))
    }
}

impl KeySet {
    fn new(published: &CoreJsonWebKeySet, fetched: OffsetDateTime) -> Self {
        let mut keys = Self { by_kid: HashMap::new(), all: Vec::new(), fetched };
        for key in published.keys() {
            let Ok(Value::Object(jwk)) = serde_json::to_value(key) else { continue };
            // Keys of other kinds and uses stand beside ours in many sets; they verify nothing here.
            let Ok(key) = VerifyingKey::from_jwk(&jwk) else { continue };
            keys.all.push(Arc::new(key));
        }
        keys.index();
        keys
    }

    fn index(&mut self) {
        self.by_kid.clear();
        for key in &self.all {
            if let Some(kid) = key.kid() {
                self.by_kid.entry(kid.to_owned()).or_default().push(Arc::clone(key));
            }
        }
    }

    /// An unchanged key stays the same `Arc`, so that tokens verified with it need no second verification.
    fn keep_identities(&mut self, before: Option<&Self>) {
        let Some(before) = before else { return };
        for key in &mut self.all {
            if let Some(same) = before.all.iter().find(|old| old.is_same_as(key)) {
                *key = Arc::clone(same);
            }
        }
        self.index();
    }

    /// Exactly one key must be meant: by `kid`, or, without one, by being the only one that fits.
    fn pick(&self, kid: Option<&str>, algorithm: SignatureAlgorithm) -> Option<Arc<VerifyingKey>> {
        let candidates = match kid {
            Some(kid) => self.by_kid.get(kid).map_or(&[][..], Vec::as_slice),
            None => &self.all,
        };
        let mut fitting = candidates.iter().filter(|key| key.fits(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(Arc::clone(key)),
            _ => None,
        }
    }
}
