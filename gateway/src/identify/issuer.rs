//! What is configured of a token issuer. Built by `config` from a checked file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use url::Url;

/// One trusted issuer of access tokens.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// Compared with `iss` byte for byte: a trailing slash makes another issuer (RFC 9068 section 4).
    pub issuer: String,
    /// A token counts when its `aud` contains one of these. Never empty.
    pub audience: Vec<String>,
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Accepted `typ` headers. `JWT` is for issuers that know no `at+jwt`; id_tokens are then told apart by their claims.
    pub access_token_typ: Vec<String>,
    pub claims: ClaimNames,
    /// Where the keys are; else found by OpenID discovery.
    pub jwks_uri: Option<Url>,
    /// PEM of the roots for the issuer's own TLS; else the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// For opaque tokens (RFC 7662).
    pub introspection: Option<IntrospectionConfig>,
    pub refresh: RefreshPolicy,
    /// How far its clock and ours may differ.
    pub clock_skew: time::Duration,
}

impl IssuerConfig {
    /// An issuer with the defaults of the configuration.
    pub fn new(issuer: &str, audience: &[&str]) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.iter().map(|&text| text.to_owned()).collect(),
            algorithms: SignatureAlgorithm::ALL.to_vec(),
            access_token_typ: vec!["at+jwt".to_owned()],
            claims: ClaimNames::default(),
            jwks_uri: None,
            ca_pem: None,
            introspection: None,
            refresh: RefreshPolicy::default(),
            clock_skew: super::claims::LEEWAY,
        }
    }
}

/// Where facts stand in an issuer's tokens: a claim name, or a JSON pointer when it starts with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    pub client_id: String,
    pub patient: String,
    pub fhir_user: String,
    pub scope: String,
    pub purpose_of_use: String,
    pub emergency: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            client_id: "client_id".to_owned(),
            patient: "patient".to_owned(),
            fhir_user: "fhirUser".to_owned(),
            scope: "scope".to_owned(),
            purpose_of_use: "purpose_of_use".to_owned(),
            emergency: "emergency".to_owned(),
        }
    }
}

/// How often keys are asked for, and how long old ones serve when asking fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshPolicy {
    /// Older keys are renewed beside the traffic.
    pub after: Duration,
    /// At most one fetch in this time, whatever the tokens say.
    pub window: Duration,
    /// Keys older than this no longer count: a key withdrawn by its issuer is trusted no longer than this.
    pub stale_limit: Duration,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self { after: Duration::from_mins(5), window: Duration::from_secs(10), stale_limit: Duration::from_hours(1) }
    }
}

/// The introspection endpoint of an issuer, and our credentials for it.
#[derive(Clone)]
pub struct IntrospectionConfig {
    pub endpoint: Url,
    pub client_id: String,
    pub client_secret: String,
    /// How long an answer may be reused; never beyond the token's `exp`. Zero asks every time.
    pub cache: Duration,
}

impl fmt::Debug for IntrospectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionConfig")
            .field("endpoint", &self.endpoint.as_str())
            .field("client_id", &self.client_id)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// The signature algorithms that may be configured. `none` and the HMAC family cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// A name that is none of the algorithms above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an accepted signature algorithm: use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA")]
pub struct UnknownAlgorithm;

impl SignatureAlgorithm {
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in JOSE headers (RFC 7518 section 3.1, RFC 8037).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) const fn jose(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or(UnknownAlgorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symmetric_and_absent_algorithms_cannot_be_configured() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "rs256", "", "ES256K", "RS1"] {
            assert_eq!(name.parse::<SignatureAlgorithm>(), Err(UnknownAlgorithm), "{name}");
        }
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
    }
}
