//! Who asks: the connection's certificate and the token joined into one verified [`Subject`].
//!
//! Nothing is believed because it was said: the issuer is one that is configured, its signature holds, the token was made
//! for this gateway and this client, and the client is who the connection says. Whatever cannot be verified is refused.

pub mod claims;
pub mod credentials;
pub mod dpop;
pub mod error;
pub mod fetch;
pub mod introspection;
pub mod issuer;
pub mod json;
pub mod jwk;
pub mod keys;
pub mod partners;
pub mod state;
pub mod stepup;
pub mod token;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_policy::partner::Partner;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::{Authentication, Subject};
use quick_cache::sync::Cache;
use time::OffsetDateTime;

use self::claims::{AccessTokenFacts, ClaimedPurpose};
use self::credentials::{Credentials, Scheme};
use self::dpop::{Nonces, ProofTarget, verify_proof};
use self::error::{IdentifyError, TokenFault};
use self::fetch::Fetch;
use self::introspection::Introspection;
use self::issuer::IssuerConfig;
use self::jwk::VerifyingKey;
use self::keys::{KeyStore, NoKey};
use self::partners::{Mtls, PartnerEntry, Partners};
use self::state::{ReplayCache, Revocable, Revocations};
use self::token::{HeaderRule, UnverifiedJwt};

/// One request, as far as it says who asks.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The certificate of this very connection, if it has one.
    pub peer: Option<&'a PeerIdentity>,
    pub headers: &'a http::HeaderMap,
    pub method: &'a http::Method,
    /// The URL as the client sees it (the endpoint's published base and the path), without its query.
    pub url: &'a str,
    /// The raw query, in which no token may stand.
    pub query: Option<&'a str>,
    /// The published base of the endpoint that is asked. A token for one endpoint is none for another
    /// ([`Identifier::for_endpoints`]).
    pub audience: Option<&'a str>,
}

/// Joins certificate and token. One for each configuration generation; key stores and the cache live in it.
pub struct Identifier {
    issuers: HashMap<String, TrustedIssuer>,
    partners: Arc<dyn Partners>,
    replays: Arc<dyn ReplayCache>,
    revocations: Arc<dyn Revocations>,
    nonces: Option<Nonces>,
    /// The published bases of all endpoints.
    endpoints: Vec<String>,
    verified: Cache<[u8; 32], Arc<VerifiedToken>>,
}

#[derive(Debug)]
struct TrustedIssuer {
    config: IssuerConfig,
    keys: Arc<KeyStore>,
    introspection: Option<Introspection>,
}

/// A token that its issuer has vouched for. Its times, bindings and revocation are looked at every time.
#[derive(Clone, Debug)]
struct VerifiedToken {
    facts: AccessTokenFacts,
    voucher: Voucher,
}

/// How an issuer vouched, and so how long that holds.
#[derive(Clone, Debug)]
enum Voucher {
    /// By a signature: as long as the issuer publishes the key.
    Signature(Arc<VerifyingKey>),
    /// By introspection: until the answer is too old.
    Introspection { until: OffsetDateTime },
}

impl Identifier {
    /// `issuers` come with the client that asks each of them, since each has its own trusted roots.
    /// `capacity` bounds the number of verified tokens that are remembered.
    pub fn new(
        issuers: Vec<(IssuerConfig, Arc<dyn Fetch>)>,
        partners: Arc<dyn Partners>,
        replays: Arc<dyn ReplayCache>,
        revocations: Arc<dyn Revocations>,
        nonces: Option<Nonces>,
        capacity: usize,
    ) -> Self {
        let issuers = issuers
            .into_iter()
            .map(|(config, fetch)| {
                let keys = KeyStore::new(&config.issuer, config.jwks_uri.clone(), config.refresh, Arc::clone(&fetch));
                let introspection = config.introspection.as_ref().map(|config| Introspection::new(config, fetch));
                (config.issuer.clone(), TrustedIssuer { config, keys, introspection })
            })
            .collect();
        Self { issuers, partners, replays, revocations, nonces, endpoints: Vec::new(), verified: Cache::new(capacity) }
    }

    /// Begins with the keys that are known of these issuers, and makes known those that it fetches. The gateway's own
    /// keys are not among them: a reload changes those at once.
    #[must_use]
    pub fn remembering(mut self, known: &keys::KnownKeys, issuers: &[&str]) -> Self {
        for trusted in self.issuers.values_mut().filter(|one| issuers.contains(&one.config.issuer.as_str())) {
            trusted.keys = trusted.keys.remembering(known, trusted.config.ca_pem.as_deref());
        }
        self
    }

    /// Names the published bases of all endpoints, so that an audience that is one of them is told from one that
    /// means the gateway as a whole.
    #[must_use]
    pub fn for_endpoints(self, endpoints: Vec<String>) -> Self {
        Self { endpoints, ..self }
    }

    /// The verified caller of this request, or why there is none.
    ///
    /// Order: credentials, token (RFC 9068), its binding (RFC 8705, RFC 9449), revocation, partner, certificate, purpose.
    pub async fn identify(&self, request: &Presented<'_>, now: OffsetDateTime) -> Result<Subject, IdentifyError> {
        if let Some(query) = request.query {
            credentials::no_token_in(query)?;
        }
        let credentials = Credentials::from_headers(request.headers)?;
        let token = self.verified(credentials.reveal(), now).await?;
        let facts = &token.facts;
        if request.audience.is_some_and(|endpoint| !self.is_meant(endpoint, &facts.audience)) {
            return Err(IdentifyError::InvalidToken(TokenFault::Audience));
        }
        self.holds_its_binding(&credentials, facts, request, now).await?;
        self.not_revoked(facts).await?;

        let entry = self.partners.by_client_id(&facts.client_id).ok_or(IdentifyError::PartnerUnknown)?;
        if entry.issuers.as_ref().is_some_and(|issuers| !issuers.iter().any(|one| **one == *facts.issuer)) {
            return Err(IdentifyError::PartnerUnknown);
        }
        let mtls = connection_of(&entry, request.peer, facts, now)?;
        Ok(Subject {
            partner: Arc::clone(&entry.partner),
            issuer: Arc::clone(&facts.issuer),
            sub: Arc::clone(&facts.sub),
            fhir_user: facts.fhir_user.clone(),
            patient: facts.patient.clone(),
            scopes: Arc::clone(&facts.scopes),
            purpose: purpose_for(&entry.partner, facts.purpose)?,
            authentication: Authentication {
                acr: facts.acr.clone(),
                amr: facts.amr.clone(),
                auth_time: facts.auth_time,
                stepped_up: false,
                mtls,
                sender_constrained: facts.bound_certificate.is_some() || facts.bound_key.is_some(),
            },
            token_id: Arc::clone(&facts.token_id),
            expires: facts.expires,
            emergency: facts.emergency.clone(),
            organization: facts.organization.clone(),
        })
    }

    /// What a token's issuer states by it, if the token is active: for introspection and revocation, which look at
    /// tokens without being a request of their holder. Bindings are not looked at.
    pub async fn facts(&self, token: &str, now: OffsetDateTime) -> Result<AccessTokenFacts, IdentifyError> {
        let token = self.verified(token, now).await?;
        self.not_revoked(&token.facts).await?;
        Ok(token.facts.clone())
    }

    /// The key stores, by issuer, for metrics and readiness.
    pub fn key_stores(&self) -> impl Iterator<Item = (&str, &Arc<KeyStore>)> {
        self.issuers.iter().map(|(issuer, trusted)| (issuer.as_str(), &trusted.keys))
    }

    /// How many verified tokens are remembered.
    pub fn remembered_tokens(&self) -> usize {
        self.verified.len()
    }

    /// Is this endpoint in the audience? An audience that names endpoints means these alone; one that names none, but is
    /// configured as ours, means them all.
    fn is_meant(&self, endpoint: &str, audience: &[String]) -> bool {
        let mut named = audience.iter().filter(|one| self.endpoints.contains(one)).peekable();
        named.peek().is_none() || named.any(|one| one == endpoint)
    }

    /// The token's facts, from the cache if the very same token was verified with a key that still counts.
    async fn verified(&self, token: &str, now: OffsetDateTime) -> Result<Arc<VerifiedToken>, IdentifyError> {
        if token.len() > credentials::MAX_TOKEN_BYTES {
            return Err(IdentifyError::InvalidToken(TokenFault::TooLong));
        }
        let digest = sha256(token.as_bytes());
        if let Some(known) = self.verified.get(&digest) {
            let trusted =
                self.issuers.get(&*known.facts.issuer).ok_or(IdentifyError::InvalidToken(TokenFault::Issuer))?;
            if now >= known.facts.expires + trusted.config.clock_skew {
                self.verified.remove(&digest);
                return Err(IdentifyError::InvalidToken(TokenFault::Expired));
            }
            let holds = match &known.voucher {
                Voucher::Signature(key) => trusted.keys.still_publishes(key, now).await.map_err(no_key)?,
                Voucher::Introspection { until } => now < *until,
            };
            if holds {
                return Ok(known);
            }
            self.verified.remove(&digest);
        }
        let verified = if token.contains('.') {
            self.verify(token, &digest, now).await?
        } else {
            self.introspect(token, &digest, now).await?
        };
        let verified = Arc::new(verified);
        self.verified.insert(digest, Arc::clone(&verified));
        Ok(verified)
    }

    async fn verify(
        &self,
        token: &str,
        digest: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<VerifiedToken, IdentifyError> {
        let jwt = UnverifiedJwt::parse(token, HeaderRule::KeyById).map_err(IdentifyError::InvalidToken)?;
        let trusted = jwt
            .text("iss")
            .and_then(|issuer| self.issuers.get(issuer))
            .ok_or(IdentifyError::InvalidToken(TokenFault::Issuer))?;
        if !trusted.config.algorithms.contains(&jwt.algorithm) {
            return Err(IdentifyError::InvalidToken(TokenFault::Algorithm));
        }
        if !jwt.has_typ(&trusted.config.access_token_typ) {
            return Err(IdentifyError::InvalidToken(TokenFault::Type));
        }
        let key = trusted.keys.key(jwt.kid.as_deref(), jwt.algorithm, now).await.map_err(no_key)?;
        if !key.verifies(jwt.algorithm, jwt.message, jwt.signature) {
            return Err(IdentifyError::InvalidToken(TokenFault::Signature));
        }
        let facts =
            AccessTokenFacts::read(&jwt.claims, &trusted.config, digest, now).map_err(IdentifyError::InvalidToken)?;
        Ok(VerifiedToken { facts, voucher: Voucher::Signature(key) })
    }

    /// Asks the one issuer that introspects. An opaque token does not say whose it is: with several such issuers,
    /// asking around would show one issuer's tokens to another.
    async fn introspect(
        &self,
        token: &str,
        digest: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<VerifiedToken, IdentifyError> {
        let mut introspecting = self.issuers.values().filter_map(|trusted| {
            let config = trusted.config.introspection.as_ref()?;
            Some((trusted, trusted.introspection.as_ref()?, config.cache))
        });
        let (Some((trusted, introspection, cache)), None) = (introspecting.next(), introspecting.next()) else {
            return Err(IdentifyError::InvalidToken(TokenFault::Unreadable));
        };
        let claims = introspection.claims(token, &trusted.config.issuer).await?;
        let facts =
            AccessTokenFacts::read(&claims, &trusted.config, digest, now).map_err(IdentifyError::InvalidToken)?;
        Ok(VerifiedToken { facts, voucher: Voucher::Introspection { until: now + cache } })
    }

    /// A bound token counts only with its certificate or its key; under `DPoP` only a bound one counts.
    async fn holds_its_binding(
        &self,
        credentials: &Credentials<'_>,
        facts: &AccessTokenFacts,
        request: &Presented<'_>,
        now: OffsetDateTime,
    ) -> Result<(), IdentifyError> {
        if let Some(bound) = &facts.bound_certificate
            && !request.peer.is_some_and(|peer| peer.leaf_sha256 == *bound && now < peer.not_after)
        {
            return Err(IdentifyError::InvalidToken(TokenFault::CertificateBinding));
        }
        match (credentials.scheme, facts.bound_key.as_deref()) {
            (Scheme::Bearer, None) => Ok(()),
            // RFC 9449 section 7.2: a bound token is not a bearer token.
            (Scheme::Bearer, Some(_)) | (Scheme::Dpop, None) => {
                Err(IdentifyError::InvalidToken(TokenFault::KeyBinding))
            }
            (Scheme::Dpop, Some(key)) => {
                let target =
                    ProofTarget { method: request.method, url: request.url, token: Some(credentials.reveal()) };
                verify_proof(request.headers, target, Some(key), self.nonces.as_ref(), &*self.replays, now).await?;
                Ok(())
            }
        }
    }

    async fn not_revoked(&self, facts: &AccessTokenFacts) -> Result<(), IdentifyError> {
        for token_id in std::iter::once(&facts.token_id).chain(&facts.grant_id) {
            let token = Revocable {
                issuer: &facts.issuer,
                token_id,
                sub: &facts.sub,
                client_id: &facts.client_id,
                patient: facts.patient.as_ref().map(fhir_profiles::ids::LogicalId::as_str),
                issued_at: facts.issued_at,
            };
            match self.revocations.is_revoked(token).await {
                Ok(false) => {}
                Ok(true) => return Err(IdentifyError::InvalidToken(TokenFault::Revoked)),
                Err(_) => return Err(IdentifyError::StateUnavailable),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identifier").field("issuers", &self.issuers.keys()).finish_non_exhaustive()
    }
}

/// Does the connection belong to the partner? True when it carries the partner's certificate.
fn connection_of(
    entry: &PartnerEntry,
    peer: Option<&PeerIdentity>,
    facts: &AccessTokenFacts,
    now: OffsetDateTime,
) -> Result<bool, IdentifyError> {
    if entry.dpop_required && facts.bound_key.is_none() {
        return Err(IdentifyError::InvalidToken(TokenFault::Unconstrained));
    }
    let presents = peer.is_some_and(|peer| entry.presents_certificate(peer, now));
    match entry.mtls {
        Mtls::Required if presents => Ok(true),
        Mtls::Required => Err(IdentifyError::CertificateMismatch),
        // A certificate of somebody else is never overlooked, even where none is asked for.
        Mtls::None { .. } if !presents && peer.is_some() && !entry.certificates.is_empty() => {
            Err(IdentifyError::CertificateMismatch)
        }
        Mtls::None { unbound_tokens_until } => {
            let bound = facts.bound_key.is_some() || facts.bound_certificate.is_some();
            let waived = unbound_tokens_until.is_some_and(|until| now < until);
            if presents || bound || waived {
                Ok(presents)
            } else {
                Err(IdentifyError::InvalidToken(TokenFault::Unconstrained))
            }
        }
    }
}

/// The purpose to judge by: the claimed one, which must be registered, or the partner's only one.
fn purpose_for(partner: &Partner, claimed: ClaimedPurpose) -> Result<Option<PurposeOfUse>, IdentifyError> {
    match (claimed, partner.purposes_of_use.as_slice()) {
        (ClaimedPurpose::One(purpose), registered) if registered.contains(&purpose) => Ok(Some(purpose)),
        (ClaimedPurpose::One(_) | ClaimedPurpose::Unclear, _) => Err(IdentifyError::PurposeNotAllowed),
        (ClaimedPurpose::Unstated, [only]) => Ok(Some(*only)),
        (ClaimedPurpose::Unstated, _) => Ok(None),
    }
}

fn no_key(reason: NoKey) -> IdentifyError {
    match reason {
        NoKey::Unknown => IdentifyError::InvalidToken(TokenFault::Key),
        NoKey::Unavailable => IdentifyError::IssuerUnavailable,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Canonical base64url without padding; nothing else.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
