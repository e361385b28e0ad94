//! DPoP proofs (RFC 9449 section 4.3), checked in full for every request.

use std::fmt;

use aws_lc_rs::hmac;
use http::HeaderMap;
use time::{Duration, OffsetDateTime};
use url::Url;

use super::error::{IdentifyError, ProofFault};
use super::issuer::SignatureAlgorithm;
use super::jwk::{VerifyingKey, thumbprint};
use super::state::ReplayCache;
use super::token::{HeaderRule, UnverifiedJwt};

/// How old a proof may be, by its `iat`.
const MAX_AGE: Duration = Duration::seconds(60);
/// How far the client's clock may be ahead.
const AHEAD: Duration = Duration::seconds(30);
const NONCE_PERIOD_SECONDS: i64 = 120;
const ALGORITHMS: [SignatureAlgorithm; 5] = [
    SignatureAlgorithm::Es256,
    SignatureAlgorithm::Es384,
    SignatureAlgorithm::EdDsa,
    SignatureAlgorithm::Rs256,
    SignatureAlgorithm::Ps256,
];

/// What the proof must have been made for.
#[derive(Clone, Copy)]
pub struct ProofTarget<'a> {
    pub method: &'a http::Method,
    /// The URL as the client sees it: scheme, host and path of the published base, never the upstream's.
    pub url: &'a str,
    /// The access token that comes with it; none at a token endpoint.
    pub token: Option<&'a str>,
}

impl fmt::Debug for ProofTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofTarget").field("method", self.method).finish_non_exhaustive()
    }
}

/// Server nonces (RFC 9449 section 8), derived from a key and the time: nothing is stored, replicas share the key.
pub struct Nonces(hmac::Key);

impl Nonces {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The nonce of this period.
    pub fn current(&self, now: OffsetDateTime) -> String {
        self.of_period(now.unix_timestamp().div_euclid(NONCE_PERIOD_SECONDS))
    }

    /// This period's or the one before it.
    fn accepts(&self, nonce: &str, now: OffsetDateTime) -> bool {
        let period = now.unix_timestamp().div_euclid(NONCE_PERIOD_SECONDS);
        nonce == self.of_period(period) || nonce == self.of_period(period.saturating_sub(1))
    }

    fn of_period(&self, period: i64) -> String {
        super::base64url(hmac::sign(&self.0, &period.to_be_bytes()).as_ref())
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(..)")
    }
}

/// Checks the one `DPoP` header of a request and gives the thumbprint of its key.
///
/// `bound_key` is the token's `cnf.jkt`. The replay cache is asked last, so that only sound proofs fill it.
pub async fn verify_proof(
    headers: &HeaderMap,
    target: ProofTarget<'_>,
    bound_key: Option<&str>,
    nonces: Option<&Nonces>,
    replays: &dyn ReplayCache,
    now: OffsetDateTime,
) -> Result<String, IdentifyError> {
    let mut values = headers.get_all("dpop").iter();
    let value = values.next().ok_or(IdentifyError::InvalidProof(ProofFault::Missing))?;
    if values.next().is_some() {
        return Err(IdentifyError::InvalidProof(ProofFault::Several));
    }
    let value = value.to_str().map_err(|_| IdentifyError::InvalidProof(ProofFault::Unreadable))?;
    let proof = Proof::read(value, target, now).map_err(IdentifyError::InvalidProof)?;
    if bound_key.is_some_and(|bound| bound != proof.key) {
        return Err(IdentifyError::InvalidProof(ProofFault::Binding));
    }
    if let Some(nonces) = nonces
        && !proof.nonce.as_deref().is_some_and(|nonce| nonces.accepts(nonce, now))
    {
        return Err(IdentifyError::NonceNeeded { nonce: nonces.current(now) });
    }
    let use_of = super::sha256(format!("dpop\0{}\0{}", proof.key, proof.jti).as_bytes());
    match replays.first_use(&use_of, proof.issued_at + MAX_AGE).await {
        Ok(true) => Ok(proof.key),
        Ok(false) => Err(IdentifyError::InvalidProof(ProofFault::Replayed)),
        Err(_) => Err(IdentifyError::StateUnavailable),
    }
}

struct Proof {
    key: String,
    jti: String,
    nonce: Option<String>,
    issued_at: OffsetDateTime,
}

impl Proof {
    /// Everything that the proof and the request alone can show.
    fn read(value: &str, target: ProofTarget<'_>, now: OffsetDateTime) -> Result<Self, ProofFault> {
        let jwt = UnverifiedJwt::parse(value, HeaderRule::KeyInHeader).map_err(|_| ProofFault::Unreadable)?;
        if !jwt.has_typ(&["dpop+jwt"]) {
            return Err(ProofFault::Header);
        }
        let jwk = jwt.jwk.as_ref().ok_or(ProofFault::Header)?;
        let key = VerifyingKey::from_jwk(jwk).map_err(|_| ProofFault::Key)?;
        if !ALGORITHMS.contains(&jwt.algorithm) || !key.fits(jwt.algorithm) {
            return Err(ProofFault::Key);
        }
        if !key.verifies(jwt.algorithm, jwt.message, jwt.signature) {
            return Err(ProofFault::Signature);
        }
        if jwt.text("htm") != Some(target.method.as_str()) {
            return Err(ProofFault::Method);
        }
        if !jwt.text("htu").is_some_and(|htu| same_target(htu, target.url)) {
            return Err(ProofFault::Uri);
        }
        let issued_at = jwt.claims.get("iat").and_then(serde_json::Value::as_i64).ok_or(ProofFault::Time)?;
        let issued_at = OffsetDateTime::from_unix_timestamp(issued_at).map_err(|_| ProofFault::Time)?;
        if issued_at > now + AHEAD || now > issued_at + MAX_AGE {
            return Err(ProofFault::Time);
        }
        let expected = target.token.map(|token| super::base64url(&super::sha256(token.as_bytes())));
        if expected.is_some() && jwt.text("ath") != expected.as_deref() {
            return Err(ProofFault::TokenHash);
        }
        let jti = jwt.text("jti").filter(|jti| !jti.is_empty()).ok_or(ProofFault::Unreadable)?;
        Ok(Self {
            key: thumbprint(jwk).map_err(|_| ProofFault::Key)?,
            jti: jti.to_owned(),
            nonce: jwt.text("nonce").map(str::to_owned),
            issued_at,
        })
    }
}

/// Equal without query and fragment, after the normalisation of RFC 3986 sections 6.2.2 and 6.2.3.
fn same_target(htu: &str, url: &str) -> bool {
    match (normalised(htu), normalised(url)) {
        (Some(htu), Some(url)) => htu == url,
        _ => false,
    }
}

fn normalised(text: &str) -> Option<(String, String, u16, String)> {
    let url = Url::parse(text).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let path = percent_encoding::percent_decode_str(url.path()).collect::<Vec<u8>>();
    // Reserved characters stay as they are: decoding `%2F` would name another resource.
    let path =
        if url.path().contains("%2F") || url.path().contains("%2f") { url.path().as_bytes().to_vec() } else { path };
    Some((
        url.scheme().to_owned(),
        url.host_str()?.to_owned(),
        url.port_or_known_default()?,
        String::from_utf8(path).ok()?,
    ))
}
