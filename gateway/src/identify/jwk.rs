//! One public key that may verify signatures, read from a JWK (RFC 7517).

use std::fmt;

use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::issuer::SignatureAlgorithm;

/// A public key with all that its JWK says about its use.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<String>,
    shape: KeyShape,
    /// The only algorithm the key may be used with, if its JWK names one (RFC 7517 section 4.4).
    only: Option<SignatureAlgorithm>,
    key: DecodingKey,
}

/// A JWK that cannot verify signatures here: private, symmetric, for encryption, of an unknown curve, or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusableKey;

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyShape {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl VerifyingKey {
    /// Reads a public JWK. A key that carries private parts is compromised and refused.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, UnusableKey> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| jwk.contains_key(*part));
        let signs = jwk.get("use").is_none_or(|usage| usage == "sig");
        let verifies = jwk
            .get("key_ops")
            .is_none_or(|operations| operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify")));
        if private || !signs || !verifies {
            return Err(UnusableKey);
        }
        let (shape, key) = match (text("kty"), text("crv")) {
            (Some("RSA"), None) => (KeyShape::Rsa, rsa(text("n"), text("e"))?),
            (Some("EC"), Some("P-256")) => (KeyShape::P256, ec(text("x"), text("y"), 32)?),
            (Some("EC"), Some("P-384")) => (KeyShape::P384, ec(text("x"), text("y"), 48)?),
            (Some("OKP"), Some("Ed25519")) => (KeyShape::Ed25519, ed(text("x"))?),
            _ => return Err(UnusableKey),
        };
        let only = match jwk.get("alg") {
            None => None,
            Some(Value::String(name)) => Some(name.parse().map_err(|_| UnusableKey)?),
            Some(_) => return Err(UnusableKey),
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(UnusableKey),
        };
        Ok(Self { kid, shape, only, key })
    }

    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// May this key verify that algorithm: kind, curve, and the JWK's own `alg`?
    pub fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm as A;
        let shape = match algorithm {
            A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512 => KeyShape::Rsa,
            A::Es256 => KeyShape::P256,
            A::Es384 => KeyShape::P384,
            A::EdDsa => KeyShape::Ed25519,
        };
        self.shape == shape && self.only.is_none_or(|only| only == algorithm)
    }

    /// The same key with the same use, published again.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        use jsonwebtoken::DecodingKeyKind as Kind;
        let same_bytes = match (self.key.kind(), other.key.kind()) {
            (Kind::SecretOrDer(a), Kind::SecretOrDer(b)) => a == b,
            (Kind::RsaModulusExponent { n, e }, Kind::RsaModulusExponent { n: other_n, e: other_e }) => {
                n == other_n && e == other_e
            }
            (Kind::SecretOrDer(_), Kind::RsaModulusExponent { .. })
            | (Kind::RsaModulusExponent { .. }, Kind::SecretOrDer(_)) => false,
        };
        same_bytes && self.kid == other.kid && self.shape == other.shape && self.only == other.only
    }

    /// Does `signature` (base64url) sign `message`? False for a key that does not fit the algorithm.
    pub fn verifies(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &str) -> bool {
        self.fits(algorithm)
            && jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm.jose()).unwrap_or(false)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The RFC 7638 thumbprint of a public JWK, base64url of SHA-256: the value of `cnf.jkt` (RFC 9449 section 6.1).
pub fn thumbprint(jwk: &Map<String, Value>) -> Result<String, UnusableKey> {
    let required: &[&str] = match jwk.get("kty").and_then(Value::as_str) {
        Some("RSA") => &["e", "kty", "n"],
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("OKP") => &["crv", "kty", "x"],
        _ => return Err(UnusableKey),
    };
    let mut members = Vec::with_capacity(required.len());
    for name in required {
        let value = jwk.get(*name).and_then(Value::as_str).ok_or(UnusableKey)?;
        members.push(format!("{}:{}", Value::from(*name), Value::from(value)));
    }
    Ok(super::base64url(&super::sha256(format!("{{{}}}", members.join(",")).as_bytes())))
}

fn rsa(n: Option<&str>, e: Option<&str>) -> Result<DecodingKey, UnusableKey> {
    let (n, e) = (n.ok_or(UnusableKey)?, e.ok_or(UnusableKey)?);
    DecodingKey::from_rsa_components(n, e).map_err(|_| UnusableKey)
}

fn ec(x: Option<&str>, y: Option<&str>, bytes: usize) -> Result<DecodingKey, UnusableKey> {
    let (x, y) = (x.ok_or(UnusableKey)?, y.ok_or(UnusableKey)?);
    // RFC 7518 section 6.2.1.2: the full size of a coordinate, leading zeros included.
    if super::from_base64url(x).is_none_or(|x| x.len() != bytes)
        || super::from_base64url(y).is_none_or(|y| y.len() != bytes)
    {
        return Err(UnusableKey);
    }
    DecodingKey::from_ec_components(x, y).map_err(|_| UnusableKey)
}

fn ed(x: Option<&str>) -> Result<DecodingKey, UnusableKey> {
    DecodingKey::from_ed_components(x.ok_or(UnusableKey)?).map_err(|_| UnusableKey)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(jwk: &Value) -> Result<VerifyingKey, UnusableKey> {
        VerifyingKey::from_jwk(jwk.as_object().unwrap())
    }

    // The public key of RFC 7517 appendix A.1.
    fn ec() -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": "1",
               "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
               "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"})
    }

    #[test]
    fn a_public_signing_key_is_read_and_tied_to_its_curve() {
        let key = read(&ec()).unwrap();
        assert!(key.fits(SignatureAlgorithm::Es256));
        assert!(!key.fits(SignatureAlgorithm::Es384));
        assert!(!key.fits(SignatureAlgorithm::Rs256));
    }

    #[test]
    fn keys_that_may_not_verify_are_refused() {
        for (name, value) in [
            ("d", json!("AA")),
            ("use", json!("enc")),
            ("use", json!(["sig"])),
            ("key_ops", json!(["sign"])),
            ("alg", json!("HS256")),
            ("alg", json!("ECDH-ES")),
            ("alg", json!(1)),
            ("kty", json!("oct")),
            ("crv", json!("P-521")),
            ("crv", json!("P-384")),
            ("x", json!("AA")),
            ("kid", json!(1)),
        ] {
            let mut jwk = ec();
            jwk[name] = value;
            assert_eq!(read(&jwk).err(), Some(UnusableKey), "{name}");
        }
        let mut fine = ec();
        fine["use"] = json!("sig");
        fine["key_ops"] = json!(["verify"]);
        fine["alg"] = json!("ES256");
        assert!(read(&fine).is_ok());
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        // RFC 7638 section 3.1.
        let jwk = json!({"kty": "RSA", "alg": "RS256", "kid": "2011-04-29", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
        assert_eq!(thumbprint(jwk.as_object().unwrap()).unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
