//! Encryption at rest: AES-256-GCM, a key of its own for every segment (HKDF-SHA-256, RFC 5869), the line's start as
//! additional data. Hashes and signatures are over the sealed form, so that a log verifies without the key.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The key that seals the records of a log.
#[derive(Clone)]
pub struct EncryptionKey([u8; 32]);

/// The file holds no key. It carries nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a file of 32 random bytes in base64 (`openssl rand -base64 32`)")]
pub struct InvalidEncryptionKey;

/// Seals and opens the records of one segment.
pub(super) struct Sealer(LessSafeKey);

impl EncryptionKey {
    /// Reads 32 bytes in base64, as `openssl rand -base64 32` writes them.
    pub fn from_base64(text: &str) -> Result<Self, InvalidEncryptionKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidEncryptionKey)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidEncryptionKey)?))
    }

    /// `None` only if the library refuses: then nothing is written, never in the clear.
    pub(super) fn sealer(&self, chain: &str, segment: u64) -> Option<Sealer> {
        let salt = Salt::new(HKDF_SHA256, chain.as_bytes());
        let number = segment.to_be_bytes();
        let info: [&[u8]; 2] = [b"fhirwall-audit-segment-v1", &number];
        let key = salt.extract(&self.0);
        let key = key.expand(&info, &AES_256_GCM).ok()?;
        Some(Sealer(LessSafeKey::new(UnboundKey::from(key))))
    }
}

impl Sealer {
    pub(super) fn seal(&self, header: &[u8], body: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = body.to_vec();
        let key = &self.0;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut sealed).ok()?;
        Some(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    pub(super) fn open(&self, header: &[u8], sealed: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let len = self.0.open_in_place(nonce, Aad::from(header), &mut opened).ok()?.len();
        opened.truncate(len);
        Some(opened)
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> EncryptionKey {
        EncryptionKey::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_record_opens_with_its_key_in_its_place_alone() {
        let sealer = key(1).sealer("chain", 1).unwrap();
        let sealed = sealer.seal(b"header", b"{\"a\":1}").unwrap();
        assert_eq!(sealer.open(b"header", &sealed).unwrap(), b"{\"a\":1}");
        assert_eq!(sealer.open(b"other", &sealed), None);
        assert_eq!(key(1).sealer("chain", 2).unwrap().open(b"header", &sealed), None);
        assert_eq!(key(1).sealer("other", 1).unwrap().open(b"header", &sealed), None);
        assert_eq!(key(2).sealer("chain", 1).unwrap().open(b"header", &sealed), None);
        assert_eq!(sealer.open(b"header", "AAAA"), None);
    }

    #[test]
    fn equal_records_do_not_look_equal() {
        let sealer = key(1).sealer("chain", 1).unwrap();
        assert_ne!(sealer.seal(b"h", b"{}").unwrap(), sealer.seal(b"h", b"{}").unwrap());
    }

    #[test]
    fn other_files_are_no_key() {
        for wrong in ["", "AAAA", "not base64", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            assert!(EncryptionKey::from_base64(wrong).is_err());
        }
    }
}
