//! Which client asks at the token endpoint, proven in the way it is registered for.
//!
//! Public clients are known by name alone and held by PKCE; symmetric ones by their secret; asymmetric ones and backend
//! services by a signed assertion (RFC 7523, SMART App Launch 2.2) or by their certificate (RFC 8705 section 2).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_policy::partner::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use super::answer::{ErrorCode, OauthError};
use super::client_keys::PublishedKeys;
use super::parameters::Parameters;
use crate::identify::claims::LEEWAY;
use crate::identify::issuer::SignatureAlgorithm;
use crate::identify::jwk::VerifyingKey;
use crate::identify::partners::{ClientKeys, ClientType, Mtls, PartnerEntry, Partners};
use crate::identify::state::ReplayCache;
use crate::identify::token::{HeaderRule, UnverifiedJwt};

/// `client_assertion_type` of RFC 7523 section 2.2.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The algorithms of client assertions: SMART's two, and those of FAPI 2.0.
pub const ASSERTION_ALGORITHMS: [SignatureAlgorithm; 4] =
    [SignatureAlgorithm::Rs384, SignatureAlgorithm::Es384, SignatureAlgorithm::Es256, SignatureAlgorithm::Ps256];
/// SMART App Launch 2.2: an assertion expires at most five minutes in the future.
const LONGEST_ASSERTION: Duration = Duration::minutes(5);

const UNKNOWN: OauthError = OauthError::new(ErrorCode::InvalidClient, "the client could not be authenticated");

/// One request to the token endpoint, as far as it says which client asks.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    pub headers: &'a HeaderMap,
    pub parameters: &'a Parameters,
    pub peer: Option<&'a PeerIdentity>,
    /// The client of the refresh token that is presented. A public app need not name itself beside it
    /// (SMART App Launch 2.2, "Use a refresh token"); every other client proves who it is.
    pub implied: Option<&'a str>,
}

/// What proves clients.
#[derive(Clone, Debug)]
pub struct ClientAuthentication {
    pub partners: Arc<dyn Partners>,
    pub published: Arc<PublishedKeys>,
    pub replays: Arc<dyn ReplayCache>,
    /// What an assertion's `aud` may be: the token endpoint's URL, and our issuer identifier.
    pub audiences: Vec<String>,
}

/// A client that proved who it is.
#[derive(Clone, Debug)]
pub struct Client {
    pub entry: Arc<PartnerEntry>,
    /// SHA-256 of its certificate, when the connection carries one: tokens are then bound to it (RFC 8705 section 3).
    pub certificate: Option<[u8; 32]>,
}

impl ClientAuthentication {
    /// The client of this request. Refuses two proofs at once, a proof of another kind than registered, suspended
    /// partners, and a certificate that is not the partner's.
    pub async fn client(&self, request: ClientRequest<'_>, now: OffsetDateTime) -> Result<Client, OauthError> {
        let parameters = request.parameters;
        let basic = basic_credentials(request.headers)?;
        let assertion = parameters.get("client_assertion");
        let posted = parameters.get("client_secret");
        if [basic.is_some(), assertion.is_some(), posted.is_some()].into_iter().filter(|proof| *proof).count() > 1 {
            return Err(OauthError::new(ErrorCode::InvalidRequest, "more than one kind of client authentication"));
        }
        let jwt = match assertion {
            None => None,
            Some(_) if parameters.get("client_assertion_type") != Some(JWT_BEARER) => return Err(UNKNOWN),
            Some(text) => Some(UnverifiedJwt::parse(text, HeaderRule::KeyByIdOrUrl).map_err(|_| UNKNOWN)?),
        };
        let client_id = basic
            .as_ref()
            .map(|(client_id, _)| client_id.as_str())
            .or_else(|| jwt.as_ref().and_then(|jwt| jwt.text("sub")))
            .or_else(|| parameters.get("client_id"))
            .or(request.implied)
            .ok_or(UNKNOWN)?;
        if parameters.get("client_id").is_some_and(|named| named != client_id) {
            return Err(UNKNOWN);
        }
        let entry = self.partners.by_client_id(client_id).ok_or(UNKNOWN)?;
        if entry.partner.status == Status::Suspended {
            return Err(OauthError::new(ErrorCode::UnauthorizedClient, "the client is suspended"));
        }
        let certificate = certificate_of(&entry, request.peer, now)?;
        let secret = basic.as_ref().map(|(_, secret)| secret.as_str()).or(posted);
        match entry.kind {
            ClientType::Public if secret.is_none() && jwt.is_none() => {}
            ClientType::ConfidentialSymmetric => {
                let registered = entry.secret.as_ref().ok_or(UNKNOWN)?;
                if !secret.is_some_and(|secret| registered.is(secret)) {
                    return Err(UNKNOWN);
                }
            }
            ClientType::ConfidentialAsymmetric | ClientType::BackendService => match (&jwt, &entry.keys) {
                (Some(jwt), _) => self.assertion_holds(jwt, &entry, now).await?,
                // RFC 8705 section 2: the certificate is the proof, for clients registered without keys.
                (None, ClientKeys::None) if certificate.is_some() && secret.is_none() => {}
                (None, ClientKeys::None | ClientKeys::ByValue(_) | ClientKeys::ByUrl(_)) => return Err(UNKNOWN),
            },
            ClientType::Public => return Err(UNKNOWN),
        }
        Ok(Client { entry, certificate })
    }

    async fn assertion_holds(
        &self,
        jwt: &UnverifiedJwt<'_>,
        entry: &PartnerEntry,
        now: OffsetDateTime,
    ) -> Result<(), OauthError> {
        let client_id = &*entry.partner.client_id;
        let typed = jwt.typ.is_none() || jwt.has_typ(&["JWT", "client-authentication+jwt"]);
        if !typed || !ASSERTION_ALGORITHMS.contains(&jwt.algorithm) {
            return Err(UNKNOWN);
        }
        let kid = jwt.kid.as_deref().ok_or(UNKNOWN)?;
        let keys: Arc<[Map<String, Value>]> = match &entry.keys {
            ClientKeys::None => return Err(UNKNOWN),
            ClientKeys::ByValue(_) if jwt.jku.is_some() => return Err(UNKNOWN),
            ClientKeys::ByValue(keys) => keys.as_slice().into(),
            ClientKeys::ByUrl(url) if jwt.jku.as_deref().is_some_and(|jku| jku != url.as_str()) => return Err(UNKNOWN),
            ClientKeys::ByUrl(url) => self.published.at(url, now).await.map_err(|_| {
                // SMART App Launch 2.2: any error of the authentication is invalid_client.
                OauthError::new(ErrorCode::InvalidClient, "the client's keys cannot be fetched")
            })?,
        };
        let key = the_key(&keys, kid, jwt.algorithm).ok_or(UNKNOWN)?;
        if !key.verifies(jwt.algorithm, jwt.message, jwt.signature) {
            return Err(UNKNOWN);
        }
        let audience = match jwt.claims.get("aud") {
            Some(Value::String(audience)) => Some(audience.as_str()),
            Some(Value::Array(all)) => match all.as_slice() {
                [Value::String(only)] => Some(only.as_str()),
                _ => None,
            },
            _ => None,
        };
        if jwt.text("iss") != Some(client_id)
            || jwt.text("sub") != Some(client_id)
            || !audience.is_some_and(|audience| self.audiences.iter().any(|ours| ours == audience))
        {
            return Err(UNKNOWN);
        }
        let at = |name: &str| {
            let seconds = jwt.claims.get(name).and_then(Value::as_i64);
            seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        };
        let expires = at("exp").ok_or(UNKNOWN)?;
        let early = ["iat", "nbf"].iter().filter_map(|name| at(name)).any(|start| start > now + LEEWAY);
        if now >= expires + LEEWAY || expires > now + LONGEST_ASSERTION + LEEWAY || early {
            return Err(UNKNOWN);
        }
        let jti = jwt.text("jti").filter(|jti| !jti.is_empty()).ok_or(UNKNOWN)?;
        let once = crate::identify::sha256(format!("assertion\0{client_id}\0{jti}").as_bytes());
        match self.replays.first_use(&once, expires + LEEWAY).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(UNKNOWN),
            Err(_) => Err(OauthError::new(ErrorCode::TemporarilyUnavailable, "replays cannot be excluded now")),
        }
    }
}

/// Exactly one key with this id that fits the algorithm; several are nobody's (SMART App Launch 2.2).
fn the_key(keys: &[Map<String, Value>], kid: &str, algorithm: SignatureAlgorithm) -> Option<VerifyingKey> {
    let named = keys.iter().filter(|jwk| jwk.get("kid").and_then(Value::as_str) == Some(kid));
    let mut fitting = named.filter_map(|jwk| VerifyingKey::from_jwk(jwk).ok()).filter(|key| key.fits(algorithm));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Some(key),
        _ => None,
    }
}

fn certificate_of(
    entry: &PartnerEntry,
    peer: Option<&PeerIdentity>,
    now: OffsetDateTime,
) -> Result<Option<[u8; 32]>, OauthError> {
    let own = peer.filter(|peer| entry.presents_certificate(peer, now));
    match (own, entry.mtls) {
        (Some(peer), _) => Ok(Some(peer.leaf_sha256)),
        (None, Mtls::Required) => Err(UNKNOWN),
        (None, Mtls::None { .. }) if peer.is_some() && !entry.certificates.is_empty() => Err(UNKNOWN),
        (None, Mtls::None { .. }) => Ok(None),
    }
}

/// RFC 6749 section 2.3.1: id and secret form-encoded, then Basic.
fn basic_credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, OauthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let credentials = (|| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (client_id, secret) = decoded.split_once(':')?;
        let plain = |text: &str| {
            let text = text.replace('+', " ");
            percent_encoding::percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
        };
        scheme.eq_ignore_ascii_case("basic").then_some(())?;
        Some((plain(client_id)?, plain(secret)?))
    })();
    match (credentials, values.next()) {
        (Some(credentials), None) => Ok(Some(credentials)),
        _ => Err(UNKNOWN),
    }
}
