//! Sealed paging links: what a client gets instead of the EHR's `next` link.
//!
//! A link holds the client, the subject, the endpoint, the client's own search and the place in the EHR's answer where the
//! page begins, sealed with AES-256-GCM. Another caller cannot use it, nobody can edit it, and it ends after an hour. Each page is decided anew:
//! the link carries no permission (attack case 12).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

/// How long a paging link may be followed.
pub const LIFETIME: Duration = Duration::hours(1);
/// The query parameter that carries a sealed link.
pub const PARAMETER: &str = "_page";
const CONTEXT: &[u8] = b"fhirwall page v1";
const NONCE_BYTES: usize = 12;

/// What a sealed link says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub client_id: String,
    pub subject: String,
    pub endpoint: String,
    /// The client's own request: path below the base, and query.
    pub path: String,
    pub query: String,
    /// The search came as a form, and goes to the EHR as one.
    pub form: bool,
    pub position: Position,
    /// Seconds since the epoch.
    pub expires: i64,
}

/// Where in the EHR's answer a client's page begins.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The EHR's cursor; `None` is the first page of the search.
    pub cursor: Option<Cursor>,
    /// How many of the matching rows there, withheld ones included, belong to earlier pages of the client.
    pub skip: usize,
    /// How many rows a page of this search has; `None`: as many as the EHR's page has.
    pub size: Option<usize>,
}

/// A page of the EHR: path below its base, and query.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub path: String,
    pub query: String,
}

/// A search may stand in them.
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Position").field("skip", &self.skip).field("size", &self.size).finish_non_exhaustive()
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page(..)")
    }
}

/// A link that was not sealed here, was changed, or has ended. Nothing more is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the paging link is not valid")]
pub struct InvalidLink;

/// A seal key file that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a seal key is 32 bytes in base64; make one with `head -c 32 /dev/urandom | base64`")]
pub struct InvalidSealKey;

/// The seal keys: the first seals, all open.
pub struct Sealer(Vec<RandomizedNonceKey>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.0.len())
    }
}

impl Sealer {
    /// From the texts of the key files, in order.
    pub fn from_files<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidSealKey> {
        let mut keys = Vec::new();
        for text in texts {
            let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidSealKey)?;
            if bytes.len() != 32 {
                return Err(InvalidSealKey);
            }
            keys.push(RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| InvalidSealKey)?);
        }
        if keys.is_empty() { Err(InvalidSealKey) } else { Ok(Self(keys)) }
    }

    /// With a key of this process alone: links end with it, and no other replica opens them.
    pub fn ephemeral() -> Result<Self, InvalidSealKey> {
        let mut bytes = [0u8; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| InvalidSealKey)?;
        Ok(Self(vec![RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| InvalidSealKey)?]))
    }

    /// The token of a page link.
    pub fn seal(&self, page: &Page) -> Result<String, InvalidLink> {
        self.seal_as(CONTEXT, page)
    }

    /// Opens a token for this caller at this time.
    pub fn open(
        &self,
        token: &str,
        client_id: &str,
        subject: &str,
        endpoint: &str,
        now: OffsetDateTime,
    ) -> Result<Page, InvalidLink> {
        let page: Page = self.open_as(CONTEXT, token)?;
        let theirs = page.client_id == client_id && page.subject == subject && page.endpoint == endpoint;
        if theirs && now.unix_timestamp() < page.expires { Ok(page) } else { Err(InvalidLink) }
    }

    /// A token that opens in the same context alone.
    pub(crate) fn seal_as(&self, context: &[u8], value: &impl Serialize) -> Result<String, InvalidLink> {
        let key = self.0.first().ok_or(InvalidLink)?;
        let mut sealed = serde_json::to_vec(value).map_err(|_| InvalidLink)?;
        let nonce = key.seal_in_place_append_tag(Aad::from(context), &mut sealed).map_err(|_| InvalidLink)?;
        let mut token = nonce.as_ref().to_vec();
        token.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// What a token of this context holds. Whose it is, and how long it holds, is for the caller to see to.
    pub(crate) fn open_as<T: DeserializeOwned>(&self, context: &[u8], token: &str) -> Result<T, InvalidLink> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidLink)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(InvalidLink)?;
        for key in &self.0 {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| InvalidLink)?;
            let mut sealed = sealed.to_vec();
            let Ok(plain) = key.open_in_place(nonce, Aad::from(context), &mut sealed) else { continue };
            return serde_json::from_slice(plain).map_err(|_| InvalidLink);
        }
        Err(InvalidLink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            client_id: "app".into(),
            subject: "user".into(),
            endpoint: "main".into(),
            path: "/Observation".into(),
            query: "patient=a".into(),
            form: false,
            position: Position {
                cursor: Some(Cursor { path: String::new(), query: "_getpages=1".into() }),
                skip: 3,
                size: Some(20),
            },
            expires: 3_600,
        }
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn a_link_opens_for_its_caller_within_its_hour() {
        let sealer = Sealer::ephemeral().unwrap();
        let token = sealer.seal(&page()).unwrap();
        assert_eq!(sealer.open(&token, "app", "user", "main", at(3_599)), Ok(page()));
        assert_eq!(sealer.open(&token, "app", "user", "main", at(3_600)), Err(InvalidLink));
        assert_eq!(sealer.open(&token, "other", "user", "main", at(0)), Err(InvalidLink));
        assert_eq!(sealer.open(&token, "app", "other", "main", at(0)), Err(InvalidLink));
        assert_eq!(sealer.open(&token, "app", "user", "other", at(0)), Err(InvalidLink));
    }

    #[test]
    fn an_edited_link_does_not_open() {
        let sealer = Sealer::ephemeral().unwrap();
        let token = sealer.seal(&page()).unwrap();
        for at_byte in 0..token.len() {
            let mut edited: Vec<u8> = token.clone().into_bytes();
            edited[at_byte] = if edited[at_byte] == b'A' { b'B' } else { b'A' };
            let edited = String::from_utf8(edited).unwrap();
            let opened = sealer.open(&edited, "app", "user", "main", at(0));
            // The last character may carry bits that base64 does not use; the decoder refuses those too.
            assert_eq!(opened, Err(InvalidLink), "byte {at_byte}");
        }
        assert_eq!(sealer.open("", "app", "user", "main", at(0)), Err(InvalidLink));
    }

    #[test]
    fn keys_rotate() {
        let (old, new) = (STANDARD.encode([1u8; 32]), STANDARD.encode([2u8; 32]));
        let before = Sealer::from_files([old.as_str()]).unwrap();
        let after = Sealer::from_files([new.as_str(), old.as_str()]).unwrap();
        let token = before.seal(&page()).unwrap();
        assert!(after.open(&token, "app", "user", "main", at(0)).is_ok());
        let token = after.seal(&page()).unwrap();
        assert!(before.open(&token, "app", "user", "main", at(0)).is_err());
        assert_eq!(Sealer::from_files(["c2hvcnQ="]).unwrap_err(), InvalidSealKey);
    }
}
