//! Why a caller could not be identified, and which challenge answers it (RFC 6750 section 3, RFC 9449 section 7.1).

use std::fmt::Write as _;

use fhirwall_policy::reason::Reason;
use thiserror::Error;

/// Every way in which identification ends without a [`Subject`](fhirwall_policy::subject::Subject).
///
/// None of them carries anything of the token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentifyError {
    /// Nothing was presented: 401 with a bare challenge (RFC 6750 section 3.1).
    #[error("no credentials")]
    NoCredentials,
    /// Credentials presented in a way that no correct client uses: 400 `invalid_request`.
    #[error("malformed credentials: {0}")]
    Malformed(&'static str),
    /// The token does not count: 401 `invalid_token`.
    #[error("invalid token: {0}")]
    InvalidToken(TokenFault),
    /// The DPoP proof does not count: 401 `invalid_dpop_proof`.
    #[error("invalid DPoP proof: {0}")]
    InvalidProof(ProofFault),
    /// The proof needs this server's nonce: 401 `use_dpop_nonce`, with the nonce in `DPoP-Nonce` (RFC 9449 section 9).
    #[error("DPoP nonce needed")]
    NonceNeeded { nonce: String },
    /// A valid token of a client that is no partner here: 403.
    #[error("the token's client is not a registered partner")]
    PartnerUnknown,
    /// The connection's certificate is not one of this partner's, or there is none though one is required: 403.
    #[error("the connection's certificate is not this partner's")]
    CertificateMismatch,
    /// The token claims a purpose of use that the partner is not registered for: 403.
    #[error("the purpose of use is not one of this partner's")]
    PurposeNotAllowed,
    /// The authentication behind the token is too weak or too old: 401 (RFC 9470 section 3).
    #[error("stronger authentication needed")]
    StrongerAuthenticationNeeded { acr_values: Vec<String>, max_age: Option<u64> },
    /// Keys or introspection of the issuer are out of reach: 503.
    #[error("the issuer is out of reach")]
    IssuerUnavailable,
    /// The replay cache or the revocation list is out of reach: 503.
    #[error("shared state is out of reach")]
    StateUnavailable,
}

/// What is wrong with a token. Told to the client as the `error_description` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TokenFault {
    #[error("too long")]
    TooLong,
    #[error("not a token of this kind")]
    Unreadable,
    #[error("header not allowed")]
    Header,
    #[error("algorithm not allowed")]
    Algorithm,
    #[error("type not allowed")]
    Type,
    #[error("key unknown")]
    Key,
    #[error("signature invalid")]
    Signature,
    #[error("issuer unknown")]
    Issuer,
    #[error("audience is another")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYet,
    #[error("claims missing or malformed")]
    Claims,
    #[error("not an access token")]
    NotAnAccessToken,
    #[error("not active")]
    Inactive,
    #[error("revoked")]
    Revoked,
    #[error("bound to another certificate")]
    CertificateBinding,
    #[error("bound to a DPoP key")]
    KeyBinding,
    #[error("sender-constrained tokens only")]
    Unconstrained,
}

/// What is wrong with a DPoP proof (RFC 9449 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ProofFault {
    #[error("missing")]
    Missing,
    #[error("more than one")]
    Several,
    #[error("unreadable")]
    Unreadable,
    #[error("header not allowed")]
    Header,
    #[error("key not allowed")]
    Key,
    #[error("signature invalid")]
    Signature,
    #[error("method is another")]
    Method,
    #[error("URI is another")]
    Uri,
    #[error("too old or too new")]
    Time,
    #[error("token hash is another")]
    TokenHash,
    #[error("key is not the token's")]
    Binding,
    #[error("used before")]
    Replayed,
}

impl IdentifyError {
    /// The reason code of the refusal.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoCredentials => Reason::NoCredentials,
            Self::Malformed(_) => Reason::MalformedRequest,
            Self::InvalidToken(_) | Self::InvalidProof(_) | Self::NonceNeeded { .. } => Reason::InvalidToken,
            Self::PartnerUnknown => Reason::PartnerUnknown,
            Self::CertificateMismatch => Reason::CertificateMismatch,
            Self::PurposeNotAllowed => Reason::PurposeNotAllowed,
            Self::StrongerAuthenticationNeeded { .. } => Reason::StrongerAuthenticationNeeded,
            Self::IssuerUnavailable => Reason::IssuerUnavailable,
            Self::StateUnavailable => Reason::StateUnavailable,
        }
    }

    /// The `WWW-Authenticate` value, where the answer has one. `resource_metadata` is the URL of the RFC 9728 document.
    pub fn challenge(&self, resource_metadata: Option<&str>) -> Option<String> {
        let mut challenge = match self {
            Self::NoCredentials => Challenge::new("Bearer"),
            Self::Malformed(why) => {
                Challenge::new("Bearer").text("error", "invalid_request").text("error_description", why)
            }
            Self::InvalidToken(fault) => Challenge::new(fault.scheme())
                .text("error", "invalid_token")
                .text("error_description", &fault.to_string()),
            Self::InvalidProof(fault) => {
                Challenge::new("DPoP").text("error", "invalid_dpop_proof").text("error_description", &fault.to_string())
            }
            Self::NonceNeeded { .. } => Challenge::new("DPoP").text("error", "use_dpop_nonce"),
            Self::StrongerAuthenticationNeeded { acr_values, max_age } => {
                let mut challenge = Challenge::new("Bearer").text("error", "insufficient_user_authentication");
                if !acr_values.is_empty() {
                    challenge = challenge.text("acr_values", &acr_values.join(" "));
                }
                match max_age {
                    Some(seconds) => challenge.text("max_age", &seconds.to_string()),
                    None => challenge,
                }
            }
            Self::PartnerUnknown
            | Self::CertificateMismatch
            | Self::PurposeNotAllowed
            | Self::IssuerUnavailable
            | Self::StateUnavailable => return None,
        };
        if challenge.scheme == "DPoP" {
            challenge = challenge.text("algs", "ES256 ES384 EdDSA RS256 PS256");
        }
        if let Some(url) = resource_metadata {
            challenge = challenge.text("resource_metadata", url);
        }
        Some(challenge.value)
    }

    /// The nonce to answer with in `DPoP-Nonce`, never cached.
    pub fn dpop_nonce(&self) -> Option<&str> {
        if let Self::NonceNeeded { nonce } = self { Some(nonce) } else { None }
    }
}

impl TokenFault {
    fn scheme(self) -> &'static str {
        if matches!(self, Self::KeyBinding) { "DPoP" } else { "Bearer" }
    }
}

struct Challenge {
    scheme: &'static str,
    value: String,
}

impl Challenge {
    fn new(scheme: &'static str) -> Self {
        Self { scheme, value: scheme.to_owned() }
    }

    /// A quoted-string parameter (RFC 9110 section 5.6.4). What could end the quotes or the line is left out.
    fn text(mut self, name: &str, value: &str) -> Self {
        let separator = if self.value.len() == self.scheme.len() { ' ' } else { ',' };
        let safe: String = value.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        let space = if separator == ',' { " " } else { "" };
        if write!(self.value, "{separator}{space}{name}=\"{safe}\"").is_err() {
            self.value.truncate(self.scheme.len());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn challenges(error: IdentifyError, expected: Option<&str>) {
        assert_eq!(error.challenge(None).as_deref(), expected);
    }

    #[test]
    fn each_refusal_has_the_challenge_of_its_standard() {
        challenges(IdentifyError::NoCredentials, Some("Bearer"));
        challenges(
            IdentifyError::Malformed("two Authorization headers"),
            Some(r#"Bearer error="invalid_request", error_description="two Authorization headers""#),
        );
        challenges(
            IdentifyError::InvalidToken(TokenFault::Expired),
            Some(r#"Bearer error="invalid_token", error_description="expired""#),
        );
        challenges(
            IdentifyError::InvalidToken(TokenFault::KeyBinding),
            Some(
                r#"DPoP error="invalid_token", error_description="bound to a DPoP key", algs="ES256 ES384 EdDSA RS256 PS256""#,
            ),
        );
        challenges(
            IdentifyError::NonceNeeded { nonce: "n".to_owned() },
            Some(r#"DPoP error="use_dpop_nonce", algs="ES256 ES384 EdDSA RS256 PS256""#),
        );
        challenges(
            IdentifyError::StrongerAuthenticationNeeded {
                acr_values: vec!["phr".to_owned(), "phrh".to_owned()],
                max_age: Some(300),
            },
            Some(r#"Bearer error="insufficient_user_authentication", acr_values="phr phrh", max_age="300""#),
        );
        challenges(IdentifyError::CertificateMismatch, None);
        challenges(IdentifyError::IssuerUnavailable, None);
    }

    #[test]
    fn the_challenge_names_the_resource_metadata_and_cannot_be_broken_out_of() {
        assert_eq!(
            IdentifyError::NoCredentials.challenge(Some("https://f/.well-known/oauth-protected-resource")).as_deref(),
            Some(r#"Bearer resource_metadata="https://f/.well-known/oauth-protected-resource""#)
        );
        assert_eq!(
            IdentifyError::NoCredentials.challenge(Some("x\"\r\nSet-Cookie: a")).as_deref(),
            Some(r#"Bearer resource_metadata="xSet-Cookie: a""#)
        );
    }
}
