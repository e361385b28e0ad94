//! The key that signs heads of the audit chain, and the public half that verifies them anywhere.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// The private key of the audit log: Ed25519 (RFC 8032) or ECDSA P-256 with SHA-256 (FIPS 186-5).
pub struct SigningKey {
    pair: Pair,
    public: VerifyingKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair, SystemRandom),
}

/// The public half of a [`SigningKey`]; enough to verify a log on another machine.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    point: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Ed25519,
    P256,
}

/// The file is not a key that this log can use. It carries nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("not a PKCS#8 PEM file holding an Ed25519 or ECDSA P-256 private key")]
    Private,
    #[error("not a PEM file holding an Ed25519 or ECDSA P-256 public key")]
    Public,
    #[error("the key could not be generated")]
    Generation,
}

// SubjectPublicKeyInfo headers (RFC 8410 section 4; RFC 5480 section 2.1.1).
const SPKI_ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl SigningKey {
    /// Reads a PKCS#8 PEM private key. Refuses every other algorithm.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| InvalidKey::Private)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// A fresh Ed25519 key with its PKCS#8 PEM text, for development sites and tests.
    pub fn generate() -> Result<(Self, String), InvalidKey> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| InvalidKey::Generation)?;
        let key = Self::from_pkcs8(document.as_ref())?;
        Ok((key, pem("PRIVATE KEY", document.as_ref())))
    }

    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Option<String> {
        match &self.pair {
            Pair::Ed25519(pair) => Some(STANDARD.encode(pair.sign(message).as_ref())),
            Pair::P256(pair, random) => pair.sign(random, message).ok().map(|s| STANDARD.encode(s.as_ref())),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, InvalidKey> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            let point = pair.public_key().as_ref().to_vec();
            return Ok(Self {
                pair: Pair::Ed25519(pair),
                public: VerifyingKey { algorithm: Algorithm::Ed25519, point },
            });
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(|_| InvalidKey::Private)?;
        let point = pair.public_key().as_ref().to_vec();
        Ok(Self {
            pair: Pair::P256(pair, SystemRandom::new()),
            public: VerifyingKey { algorithm: Algorithm::P256, point },
        })
    }
}

impl VerifyingKey {
    /// Reads a `PUBLIC KEY` PEM (SubjectPublicKeyInfo).
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| InvalidKey::Public)?;
        Self::from_spki(&der)
    }

    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }

    /// The first 16 hex digits of the SHA-256 of the SubjectPublicKeyInfo: names the key in records.
    pub fn id(&self) -> String {
        let digest = digest(&SHA256, &self.spki());
        let mut id = super::chain::hex(digest.as_ref());
        id.truncate(16);
        id
    }

    pub(super) fn to_base64(&self) -> String {
        STANDARD.encode(self.spki())
    }

    pub(super) fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        Self::from_spki(&STANDARD.decode(text).map_err(|_| InvalidKey::Public)?)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        match self.algorithm {
            Algorithm::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.point).verify(message, &signature).is_ok(),
            Algorithm::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(message, &signature).is_ok()
            }
        }
    }

    fn from_spki(der: &[u8]) -> Result<Self, InvalidKey> {
        let parsed = match (der.strip_prefix(SPKI_ED25519), der.strip_prefix(SPKI_P256)) {
            (Some(point), _) if point.len() == 32 => Self { algorithm: Algorithm::Ed25519, point: point.to_vec() },
            (_, Some(point)) if point.len() == 65 => Self { algorithm: Algorithm::P256, point: point.to_vec() },
            _ => return Err(InvalidKey::Public),
        };
        Ok(parsed)
    }

    fn spki(&self) -> Vec<u8> {
        let header = match self.algorithm {
            Algorithm::Ed25519 => SPKI_ED25519,
            Algorithm::P256 => SPKI_P256,
        };
        [header, &self.point].concat()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.id())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let body = STANDARD.encode(der);
    let mut rest = body.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p256() -> SigningKey {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        SigningKey::from_pem(pem("PRIVATE KEY", document.as_ref()).as_bytes()).unwrap()
    }

    #[test]
    fn both_algorithms_sign_what_their_public_half_verifies() {
        let (ed25519, text) = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pem(text.as_bytes()).unwrap().verifying_key(), ed25519.verifying_key());
        for key in [ed25519, p256()] {
            let public = VerifyingKey::from_pem(key.verifying_key().to_pem().as_bytes()).unwrap();
            assert_eq!(&public, key.verifying_key());
            let signature = key.sign(b"head").unwrap();
            assert!(public.verifies(b"head", &signature));
            assert!(!public.verifies(b"heaD", &signature));
            assert!(!public.verifies(b"head", "AAAA"));
            assert!(!public.verifies(b"head", "not base64"));
        }
    }

    #[test]
    fn a_signature_of_another_key_is_refused() {
        let (mine, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let signature = other.sign(b"head").unwrap();
        assert!(!mine.verifying_key().verifies(b"head", &signature));
    }

    #[test]
    fn other_files_are_no_key() {
        let (key, _) = SigningKey::generate().unwrap();
        for wrong in [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\0\0"] {
            assert_eq!(SigningKey::from_pem(wrong).err(), Some(InvalidKey::Private));
            assert_eq!(VerifyingKey::from_pem(wrong).err(), Some(InvalidKey::Public));
        }
        assert_eq!(SigningKey::from_pem(key.verifying_key().to_pem().as_bytes()).err(), Some(InvalidKey::Private));
    }

    #[test]
    fn a_key_prints_its_id_alone() {
        let (key, _) = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.verifying_key().id()));
    }
}
