//! Keys that sign: our tokens in broker mode, our client assertions elsewhere. Private halves never leave or print.

use std::fmt;

use async_trait::async_trait;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::identify::base64url;
use crate::identify::fetch::{Fetch, FetchError};
use crate::identify::jwk::thumbprint;

/// One private key with the algorithm it signs by. RSA keys sign RS384 in access tokens and assertions, RS256 in id_tokens.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: String,
    jwk: Map<String, Value>,
}

/// A key file that cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "not a usable signing key: give a PKCS#8 or PKCS#1 PEM with an EC P-256, EC P-384 or RSA key of 2048 bits or more"
)]
pub struct UnusableSigningKey;

impl SigningKey {
    /// Reads one private key. Its id is the RFC 7638 thumbprint of its public half: replicas agree without talking.
    pub fn from_pem(pem: &[u8]) -> Result<Self, UnusableSigningKey> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| UnusableSigningKey)?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum of another crate is open")]
        let candidates = match &der {
            PrivateKeyDer::Pkcs8(pkcs8) => {
                let bytes = pkcs8.secret_pkcs8_der();
                let rsa = rsa_body(bytes).map(|body| (EncodingKey::from_rsa_der(&body), Algorithm::RS384));
                let mut all = vec![
                    (EncodingKey::from_ec_der(bytes), Algorithm::ES256),
                    (EncodingKey::from_ec_der(bytes), Algorithm::ES384),
                ];
                all.extend(rsa);
                all
            }
            PrivateKeyDer::Pkcs1(pkcs1) => {
                vec![(EncodingKey::from_rsa_der(pkcs1.secret_pkcs1_der()), Algorithm::RS384)]
            }
            _ => Vec::new(),
        };
        candidates.into_iter().find_map(|(key, algorithm)| Self::usable(key, algorithm)).ok_or(UnusableSigningKey)
    }

    fn usable(key: EncodingKey, algorithm: Algorithm) -> Option<Self> {
        // A key of another kind or curve fails to sign: that is how the kind is known.
        jsonwebtoken::crypto::sign(b"probe", &key, algorithm).ok()?;
        let Ok(Value::Object(mut jwk)) = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).ok()?) else {
            return None;
        };
        jwk.remove("alg");
        jwk.retain(|name, _| ["kty", "crv", "x", "y", "n", "e"].contains(&name.as_str()));
        let kid = thumbprint(&jwk).ok()?;
        jwk.insert("kid".to_owned(), json!(kid));
        jwk.insert("use".to_owned(), json!("sig"));
        Some(Self { key, algorithm, kid, jwk })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn is_rsa(&self) -> bool {
        self.algorithm == Algorithm::RS384
    }

    /// The public half, for a JWKS.
    pub fn public_jwk(&self) -> &Map<String, Value> {
        &self.jwk
    }

    /// Signs claims by this key's own algorithm.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<String, UnusableSigningKey> {
        self.sign_as(self.algorithm, typ, claims)
    }

    /// Signs an id_token: RS256, which every SMART client can verify (OpenID Connect Core 1.0 section 15.1).
    pub fn sign_id_token(&self, claims: &Value) -> Result<String, UnusableSigningKey> {
        if !self.is_rsa() {
            return Err(UnusableSigningKey);
        }
        self.sign_as(Algorithm::RS256, "JWT", claims)
    }

    fn sign_as(&self, algorithm: Algorithm, typ: &str, claims: &Value) -> Result<String, UnusableSigningKey> {
        let header = json!({"alg": format!("{algorithm:?}"), "typ": typ, "kid": self.kid});
        let message =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, algorithm);
        Ok(format!("{message}.{}", signature.map_err(|_| UnusableSigningKey)?))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The JWKS of several keys: the first signs, all verify, so that a new key is known before it is used.
pub fn jwks(keys: &[SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| Value::Object(key.jwk.clone())).collect::<Vec<_>>()})
}

/// Our own JWKS as other issuers' are fetched, without the network: for the identifier to know our tokens.
#[derive(Clone, Debug)]
pub struct OwnKeys(pub Vec<SigningKey>);

#[async_trait]
impl Fetch for OwnKeys {
    async fn fetch(&self, _request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        Ok(http::Response::new(jwks(&self.0).to_string().into_bytes()))
    }
}

/// The PKCS#1 key inside a PKCS#8 RSA key: the OCTET STRING after version and algorithm (RFC 5958 section 2).
fn rsa_body(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let at = pkcs8.windows(2).position(|tag| tag == [0x04, 0x82])?;
    pkcs8.get(at.checked_add(4)?..).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::issuer::SignatureAlgorithm;
    use crate::identify::jwk::VerifyingKey;

    fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem()
    }

    #[track_caller]
    fn signs(pem: &str, algorithm: SignatureAlgorithm) {
        let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
        let token = key.sign("at+jwt", &json!({"sub": "x"})).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let public = VerifyingKey::from_jwk(key.public_jwk()).unwrap();
        assert!(public.verifies(algorithm, message.as_bytes(), signature));
        assert!(!jwks(&[key]).to_string().contains("\"d\""), "no private part is published");
    }

    #[test]
    fn each_kind_of_key_signs_what_its_public_half_verifies() {
        signs(&pem(&rcgen::PKCS_ECDSA_P256_SHA256), SignatureAlgorithm::Es256);
        signs(&pem(&rcgen::PKCS_ECDSA_P384_SHA384), SignatureAlgorithm::Es384);
        signs(&pem(&rcgen::PKCS_RSA_SHA256), SignatureAlgorithm::Rs384);
    }

    #[test]
    fn what_is_no_signing_key_is_refused() {
        assert!(SigningKey::from_pem(b"nothing").is_err());
        assert!(SigningKey::from_pem(pem(&rcgen::PKCS_ED25519).as_bytes()).is_err());
    }
}
