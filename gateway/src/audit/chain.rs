//! One line of the log: `{"v":1,"seq":…,"time":…,"kind":…,"prev":…,"body":…,"hash":…}`.
//!
//! `hash` is the SHA-256 of the line's own bytes before `,"hash"`, and `prev` is the hash of the line before. Since the
//! bytes are hashed, not a parsed form, nothing in a line can change without its hash, and no line without all later ones.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::sign::{SigningKey, VerifyingKey};

/// The version of the line's form.
pub(super) const VERSION: u32 = 1;

/// A SHA-256 digest.
pub(super) type Digest = [u8; 32];

/// What stands before the first record of a chain.
pub(super) const GENESIS: Digest = [0; 32];

/// Where the chain stands: what the next line must continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) next_seq: u64,
    pub(super) prev: Digest,
}

impl Link {
    pub(super) const START: Self = Self { next_seq: 1, prev: GENESIS };
}

/// A line, parsed and with its hash checked.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub seq: u64,
    pub time: &'a str,
    pub kind: &'a str,
    pub prev: &'a str,
    /// The record in the clear, if it is.
    pub body: Option<&'a str>,
    /// The record sealed with the log's encryption key, if it is.
    pub sealed: Option<&'a str>,
    pub hash: &'a str,
    /// What stands before the body: bound to a sealed body as additional data.
    pub header: &'a str,
}

/// Why a line is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("the line is not a record of this log")]
    Form,
    #[error("the record's hash does not fit its bytes")]
    Hash,
    #[error("the record's version is not known")]
    Version,
}

/// A signed statement that the chain reached this record. Kept elsewhere, it anchors the log: a log that does not
/// contain the record it names was truncated or rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    pub v: u32,
    pub chain: String,
    /// The record that is signed, and its hash.
    pub seq: u64,
    pub hash: String,
    pub time: String,
    pub key: String,
    pub signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    v: u32,
    seq: u64,
    time: &'a str,
    kind: &'a str,
    prev: &'a str,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sealed: Option<&'a str>,
    hash: &'a str,
}

/// `,"hash":"` + 64 hex digits + `"}`.
const TAIL: usize = 9 + 64 + 2;

impl<'a> Line<'a> {
    /// Reads one line without its newline, and checks its hash.
    pub fn parse(line: &'a str) -> Result<Self, BadLine> {
        let envelope: Envelope<'a> = serde_json::from_str(line).map_err(|_| BadLine::Form)?;
        let (hashed, tail) =
            line.len().checked_sub(TAIL).and_then(|at| line.split_at_checked(at)).ok_or(BadLine::Form)?;
        if envelope.v != VERSION {
            return Err(BadLine::Version);
        }
        if tail != format!(",\"hash\":\"{}\"}}", envelope.hash) || envelope.body.is_some() == envelope.sealed.is_some()
        {
            return Err(BadLine::Form);
        }
        if hex(&sha256(hashed.as_bytes())) != envelope.hash {
            return Err(BadLine::Hash);
        }
        let content = if envelope.body.is_some() { ",\"body\":" } else { ",\"sealed\":" };
        let header = hashed.split_once(content).map_or(hashed, |(header, _)| header);
        Ok(Self {
            seq: envelope.seq,
            time: envelope.time,
            kind: envelope.kind,
            prev: envelope.prev,
            body: envelope.body.map(RawValue::get),
            sealed: envelope.sealed,
            hash: envelope.hash,
            header,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        unhex(self.hash).unwrap_or(GENESIS)
    }

    pub(super) fn continues(&self, link: &Link) -> bool {
        self.seq == link.next_seq && self.prev == hex(&link.prev)
    }

    pub(super) fn link(&self) -> Link {
        Link { next_seq: self.seq.saturating_add(1), prev: self.digest() }
    }
}

/// Writes the line's start, up to and without its body. What is written is also the additional data of a sealed body.
pub(super) fn write_header(out: &mut Vec<u8>, link: &Link, time: &str, kind: &str) {
    // Writing to a Vec does not fail.
    let _ =
        write!(out, "{{\"v\":{VERSION},\"seq\":{},\"time\":\"{time}\",\"kind\":\"{kind}\",\"prev\":\"", link.next_seq);
    push_hex(out, &link.prev);
    out.push(b'"');
}

/// Closes the line that starts at `start` with its hash, and moves the link on.
pub(super) fn close_line(out: &mut Vec<u8>, start: usize, link: &mut Link) {
    let hash = sha256(out.get(start..).unwrap_or_default());
    out.extend_from_slice(b",\"hash\":\"");
    push_hex(out, &hash);
    out.extend_from_slice(b"\"}\n");
    *link = Link { next_seq: link.next_seq.saturating_add(1), prev: hash };
}

impl SignedHead {
    /// Signs the record before `link`.
    pub(super) fn sign(chain: &str, link: &Link, time: &str, key: &SigningKey) -> Option<Self> {
        let (seq, hash) = (link.next_seq.checked_sub(1)?, hex(&link.prev));
        let signature = key.sign(Self::message(chain, seq, &hash, time).as_bytes())?;
        let key = key.verifying_key().id();
        Some(Self { v: VERSION, chain: chain.to_owned(), seq, hash, time: time.to_owned(), key, signature })
    }

    pub fn verifies(&self, key: &VerifyingKey) -> bool {
        let message = Self::message(&self.chain, self.seq, &self.hash, &self.time);
        self.v == VERSION && self.key == key.id() && key.verifies(message.as_bytes(), &self.signature)
    }

    fn message(chain: &str, seq: u64, hash: &str, time: &str) -> String {
        format!("fhirwall-audit-head-v1\n{chain}\n{seq}\n{hash}\n{time}\n")
    }
}

pub(super) fn timestamp(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = GENESIS;
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    push_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend([byte >> 4, byte & 15].iter().filter_map(|nibble| DIGITS.get(usize::from(*nibble))));
    }
}

pub(super) fn unhex(text: &str) -> Option<Digest> {
    if text.len() != 64 {
        return None;
    }
    let mut out = GENESIS;
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        // A sign would pass from_str_radix.
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(link: &mut Link, body: &str) -> String {
        let mut out = Vec::new();
        write_header(&mut out, link, "2026-01-01T00:00:00Z", "disclosure");
        out.extend_from_slice(b",\"body\":");
        out.extend_from_slice(body.as_bytes());
        close_line(&mut out, 0, link);
        let text = String::from_utf8(out).unwrap();
        text.trim_end().to_owned()
    }

    #[test]
    fn lines_continue_each_other() {
        let mut link = Link::START;
        let first = line(&mut link, r#"{"a":1}"#);
        let after_first = link;
        let second = line(&mut link, r#"{"a":2}"#);
        let (first, second) = (Line::parse(&first).unwrap(), Line::parse(&second).unwrap());
        assert!(first.continues(&Link::START));
        assert!(second.continues(&after_first));
        assert!(!second.continues(&Link::START));
        assert_eq!(second.body, Some(r#"{"a":2}"#));
        assert_eq!(second.link(), link);
    }

    #[test]
    fn no_byte_of_a_line_can_change() {
        let whole = line(&mut Link::START.clone(), r#"{"a":"patient"}"#);
        for at in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(Line::parse(&changed).is_err(), "byte {at}");
        }
        assert!(Line::parse(&whole).is_ok());
    }

    #[test]
    fn hex_reads_back() {
        let digest = sha256(b"x");
        assert_eq!(unhex(&hex(&digest)), Some(digest));
        assert_eq!(unhex(&"+1".repeat(32)), None);
        assert_eq!(unhex("00"), None);
    }
}
