//! Sealed state: what the gateway must find again later is handed to the browser or the client, encrypted.
//!
//! AES-256-GCM; the purpose is bound in, so that a login is never taken for a code. Nothing is stored, and every replica
//! with the same keys can go on. What may count only once is made so by the replay cache, not by the seal.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

/// What a sealed text is for. Bound into the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A login under way, in a cookie.
    Login,
    /// A consent page shown, in its form.
    Consent,
    /// An authorization code.
    Code,
    /// A refresh token.
    Refresh,
}

impl Purpose {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Login => b"fhirwall smart login v1",
            Self::Consent => b"fhirwall smart consent v1",
            Self::Code => b"fhirwall smart code v1",
            Self::Refresh => b"fhirwall smart refresh v1",
        }
    }
}

/// Not sealed here, changed, for another purpose, or over. Nothing more is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not valid")]
pub struct Broken;

/// The seal keys: the first seals, all open.
pub struct Seal(Vec<RandomizedNonceKey>);

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    /// Seconds since the epoch.
    until: i64,
    is: T,
}

impl Seal {
    /// From keys of 32 bytes; none is refused.
    pub fn new(keys: &[[u8; 32]]) -> Result<Self, Broken> {
        let keys: Result<Vec<_>, _> = keys.iter().map(|key| RandomizedNonceKey::new(&AES_256_GCM, key)).collect();
        let keys = keys.map_err(|_| Broken)?;
        if keys.is_empty() { Err(Broken) } else { Ok(Self(keys)) }
    }

    /// Seals a value until a time; base64url.
    pub fn seal<T: Serialize>(&self, purpose: Purpose, is: &T, until: OffsetDateTime) -> Result<String, Broken> {
        let key = self.0.first().ok_or(Broken)?;
        let mut sealed = serde_json::to_vec(&Sealed { until: until.unix_timestamp(), is }).map_err(|_| Broken)?;
        let nonce = key.seal_in_place_append_tag(Aad::from(purpose.context()), &mut sealed).map_err(|_| Broken)?;
        let mut text = nonce.as_ref().to_vec();
        text.append(&mut sealed);
        Ok(crate::identify::base64url(&text))
    }

    /// Opens what was sealed for this purpose and is not over.
    pub fn open<T: DeserializeOwned>(&self, purpose: Purpose, text: &str, now: OffsetDateTime) -> Result<T, Broken> {
        let bytes = crate::identify::from_base64url(text).ok_or(Broken)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(Broken)?;
        for key in &self.0 {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
            let mut sealed = sealed.to_vec();
            let Ok(plain) = key.open_in_place(nonce, Aad::from(purpose.context()), &mut sealed) else { continue };
            let sealed: Sealed<T> = serde_json::from_slice(plain).map_err(|_| Broken)?;
            return if now.unix_timestamp() < sealed.until { Ok(sealed.is) } else { Err(Broken) };
        }
        Err(Broken)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} keys)", self.0.len())
    }
}

/// Random bytes as base64url: states, nonces, verifiers, ids. 256 bits, well above the 122 that SMART asks of `state`.
pub fn random() -> Result<String, Broken> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Broken)?;
    Ok(crate::identify::base64url(&bytes))
}

/// How long a code lives (SMART App Launch 2.2: about a minute).
pub const CODE_LIFETIME: Duration = Duration::seconds(60);
/// How long a login and its consent may take.
pub const LOGIN_LIFETIME: Duration = Duration::minutes(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn a_seal_opens_for_its_purpose_in_its_time_with_any_of_the_keys() {
        let old = Seal::new(&[[1; 32]]).unwrap();
        let text = old.seal(Purpose::Code, &"grant", at(60)).unwrap();
        let rotated = Seal::new(&[[2; 32], [1; 32]]).unwrap();
        assert_eq!(rotated.open::<String>(Purpose::Code, &text, at(59)).unwrap(), "grant");
        assert_eq!(rotated.open::<String>(Purpose::Code, &text, at(60)), Err(Broken));
        assert_eq!(rotated.open::<String>(Purpose::Refresh, &text, at(0)), Err(Broken));
        assert_eq!(Seal::new(&[[3; 32]]).unwrap().open::<String>(Purpose::Code, &text, at(0)), Err(Broken));
        assert!(Seal::new(&[]).is_err());
    }

    #[test]
    fn a_changed_seal_is_broken() {
        let seal = Seal::new(&[[1; 32]]).unwrap();
        let text = seal.seal(Purpose::Code, &"grant", at(60)).unwrap();
        for at_byte in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at_byte] = if changed[at_byte] == b'A' { b'B' } else { b'A' };
            assert_eq!(seal.open::<String>(Purpose::Code, core::str::from_utf8(&changed).unwrap(), at(0)), Err(Broken));
        }
        assert_eq!(seal.open::<String>(Purpose::Code, "", at(0)), Err(Broken));
    }
}
