//! A signed access token (RFC 9068, RFC 7519) read strictly: what is ambiguous is refused.

use serde_json::{Map, Value};

use super::credentials::MAX_TOKEN_BYTES;
use super::error::TokenFault;
use super::issuer::SignatureAlgorithm;
use super::json::unique_object;

/// A compact JWS taken apart, nothing of it verified yet.
#[derive(Clone)]
pub struct UnverifiedJwt<'a> {
    pub algorithm: SignatureAlgorithm,
    pub typ: Option<String>,
    pub kid: Option<String>,
    /// To be compared with the registered URL; never fetched.
    pub jku: Option<String>,
    /// The public key that a DPoP proof carries; everywhere else its presence is a refusal.
    pub jwk: Option<Map<String, Value>>,
    pub claims: Map<String, Value>,
    /// What is signed: `header.payload`.
    pub message: &'a [u8],
    /// base64url.
    pub signature: &'a str,
}

/// What may stand in the header of a JWT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    /// Access tokens: the key is known by its `kid`, never brought along.
    KeyById,
    /// Client assertions: as above, but a `jku` may name the registered key set (SMART App Launch 2.2, asymmetric auth).
    KeyByIdOrUrl,
    /// DPoP proofs: the key is in the header (RFC 9449 section 4.2).
    KeyInHeader,
}

/// Header members that name keys or code from elsewhere, or change how the rest is read. An issuer that is
/// trusted by configuration needs none of them (RFC 8725 section 3.10).
const FOREIGN_KEY_MEMBERS: [&str; 8] = ["jku", "x5u", "x5c", "jwk", "crit", "enc", "zip", "b64"];

impl<'a> UnverifiedJwt<'a> {
    /// Takes a compact JWS apart. Refuses other serialisations, unknown algorithms, keys brought along, odd key ids.
    pub fn parse(token: &'a str, rule: HeaderRule) -> Result<Self, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Unreadable)?;
        let (header, payload) = message.split_once('.').ok_or(TokenFault::Unreadable)?;
        if header.is_empty() || payload.is_empty() || signature.is_empty() || payload.contains('.') {
            return Err(TokenFault::Unreadable);
        }
        let header = object(header)?;
        for member in FOREIGN_KEY_MEMBERS {
            let allowed = match rule {
                HeaderRule::KeyById => false,
                HeaderRule::KeyByIdOrUrl => member == "jku",
                HeaderRule::KeyInHeader => member == "jwk",
            };
            if header.contains_key(member) && !allowed {
                return Err(TokenFault::Header);
            }
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenFault::Header),
        };
        let algorithm = text("alg")?.ok_or(TokenFault::Algorithm)?.parse().map_err(|_| TokenFault::Algorithm)?;
        let kid = text("kid")?;
        if !kid.as_deref().is_none_or(plain_key_id) {
            return Err(TokenFault::Header);
        }
        let jwk = match (rule, header.get("jwk")) {
            (HeaderRule::KeyById | HeaderRule::KeyByIdOrUrl, _) => None,
            (HeaderRule::KeyInHeader, Some(Value::Object(jwk))) => Some(jwk.clone()),
            (HeaderRule::KeyInHeader, _) => return Err(TokenFault::Header),
        };
        Ok(Self {
            algorithm,
            typ: text("typ")?,
            kid,
            jku: text("jku")?,
            jwk,
            claims: object(payload)?,
            message: message.as_bytes(),
            signature,
        })
    }

    /// Is the header's `typ` one of these? Case and an `application/` prefix do not matter (RFC 7515 section 4.1.9).
    pub fn has_typ<S: AsRef<str>>(&self, accepted: &[S]) -> bool {
        let Some(typ) = self.typ.as_deref() else {
            return false;
        };
        let typ = typ.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        accepted.iter().any(|one| one.as_ref().eq_ignore_ascii_case(typ))
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }
}

impl std::fmt::Debug for UnverifiedJwt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnverifiedJwt").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A key id is a name, never a path, a URL or a query: nothing here looks it up anywhere, and nothing later may be tempted.
fn plain_key_id(kid: &str) -> bool {
    let name =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=' | b'+' | b'/' | b':' | b'~' | b'@');
    !kid.is_empty()
        && kid.len() <= 256
        && kid.bytes().all(name)
        && !kid.starts_with('/')
        && !kid.contains("..")
        && !kid.contains("//")
}

fn object(part: &str) -> Result<Map<String, Value>, TokenFault> {
    let bytes = super::from_base64url(part).ok_or(TokenFault::Unreadable)?;
    unique_object(&bytes).map_err(|_| TokenFault::Unreadable)
}
