//! The identity in a verified certificate chain, read once per connection.
//!
//! rustls-webpki has verified the chain before this runs; here the leaf's names are read with no second reading possible.
//! Ground: RFC 5280 4.2.1.6, the SPIFFE X509-SVID standard sections 2 and 5.2, RFC 8705 section 3.1 (`x5t#S256`).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Who the peer is: what its certificate says, and nothing that could be read in two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// SHA-256 of the leaf's DER.
    pub leaf_sha256: [u8; 32],
    /// The subjectAltName URIs, in order.
    pub san_uris: Vec<String>,
    /// The subjectAltName DNS names, lower case.
    pub san_dns: Vec<String>,
    /// The SPIFFE id, when the one URI name is one.
    pub spiffe: Option<SpiffeId>,
    /// The subject, for people; never for decisions.
    pub subject: String,
    /// The serial number in lower-case hex.
    pub serial: String,
    pub not_before: OffsetDateTime,
    /// A connection outlives its certificate; a request must not.
    pub not_after: OffsetDateTime,
    /// How many certificates the peer sent.
    pub chain_len: usize,
}

/// A SPIFFE id: `spiffe://trust-domain/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    domain_end: usize,
}

/// Why a certificate names nobody. Carries nothing of the certificate's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeerRefused {
    #[error("the peer sent no certificate")]
    NoCertificate,
    #[error("the certificate cannot be parsed as DER to its last byte")]
    Unparsable,
    #[error("an extension occurs twice")]
    DuplicateExtension,
    #[error("an extension cannot be parsed")]
    UnparsableExtension,
    #[error("a subjectAltName entry is not a plain printable ASCII name")]
    InvalidName,
    #[error("a certificate with a SPIFFE id must have exactly one URI name")]
    SeveralUris,
    #[error("the SPIFFE id is not well formed")]
    InvalidSpiffeId,
    #[error("the certificate is a certificate authority, not a peer")]
    Authority,
    #[error("the chain does not verify against the authorities trusted here")]
    Untrusted,
}

impl PeerIdentity {
    /// Reads the identity of the first certificate in `chain` (the leaf, RFC 8446 4.4.2).
    ///
    /// The chain must have been verified before. Refuses what is not DER to the last byte, duplicate or unparsable
    /// extensions, names with control characters or beyond ASCII, CA certificates, and malformed SPIFFE ids.
    pub fn from_der_chain(chain: &[CertificateDer<'_>]) -> Result<Self, PeerRefused> {
        let leaf = chain.first().ok_or(PeerRefused::NoCertificate)?;
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerRefused::Unparsable)?;
        if !rest.is_empty() {
            return Err(PeerRefused::Unparsable);
        }
        let names = Names::of(&certificate)?;
        let spiffe = names.spiffe()?;
        let validity = certificate.validity();
        Ok(Self {
            leaf_sha256: sha256(leaf),
            spiffe,
            san_uris: names.uris,
            san_dns: names.dns,
            subject: printable(&certificate.subject().to_string()),
            serial: hex(certificate.raw_serial()),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            chain_len: chain.len(),
        })
    }

    /// As [`PeerIdentity::from_der_chain`], for a leaf alone.
    pub fn from_leaf_der(leaf: &[u8]) -> Result<Self, PeerRefused> {
        Self::from_der_chain(&[CertificateDer::from(leaf)])
    }

    /// The thumbprint as a token's `cnf` carries it: `x5t#S256`, base64url without padding (RFC 8705 3.1).
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.leaf_sha256)
    }

    /// The thumbprint in lower-case hex, as people and `partner` files write it.
    pub fn sha256_hex(&self) -> String {
        hex(&self.leaf_sha256)
    }
}

impl SpiffeId {
    /// Parses a SPIFFE id (SPIFFE-ID section 2): lower-case trust domain, no empty or dot segments, no percent-encoding,
    /// no query, fragment, port or user; at most 2048 bytes.
    pub fn parse(text: &str) -> Result<Self, PeerRefused> {
        let rest = text.strip_prefix("spiffe://").ok_or(PeerRefused::InvalidSpiffeId)?;
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
        let domain_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let path_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(path_byte);
        let legal = text.len() <= 2048
            && (1..=255).contains(&domain.len())
            && domain.bytes().all(domain_byte)
            && path.is_none_or(|path| path.split('/').all(segment));
        if !legal {
            return Err(PeerRefused::InvalidSpiffeId);
        }
        Ok(Self { text: text.to_owned(), domain_end: "spiffe://".len() + domain.len() })
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        self.text.get("spiffe://".len()..self.domain_end).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Names {
    uris: Vec<String>,
    dns: Vec<String>,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, PeerRefused> {
        certificate.extensions_map().map_err(|_| PeerRefused::DuplicateExtension)?;
        let mut names = Self { uris: Vec::new(), dns: Vec::new() };
        for extension in certificate.extensions() {
            // Others carry no name. What is critical and unknown was refused by the chain verifier.
            let parsed = extension.parsed_extension();
            if let ParsedExtension::SubjectAlternativeName(san) = parsed {
                san.general_names.iter().try_for_each(|name| names.take(name))?;
            } else if matches!(parsed, ParsedExtension::BasicConstraints(constraints) if constraints.ca) {
                return Err(PeerRefused::Authority);
            } else if matches!(parsed, ParsedExtension::ParseError { .. }) {
                return Err(PeerRefused::UnparsableExtension);
            }
        }
        Ok(names)
    }

    fn take(&mut self, name: &GeneralName<'_>) -> Result<(), PeerRefused> {
        match name {
            GeneralName::URI(uri) => self.uris.push(plain(uri)?.to_owned()),
            GeneralName::DNSName(dns) => self.dns.push(plain(dns)?.to_ascii_lowercase()),
            GeneralName::RFC822Name(mail) => {
                plain(mail)?;
            }
            GeneralName::Invalid(..) => return Err(PeerRefused::InvalidName),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
        Ok(())
    }

    /// X509-SVID 2 and 5.2: an SVID has exactly one URI name, and that is the SPIFFE id.
    fn spiffe(&self) -> Result<Option<SpiffeId>, PeerRefused> {
        // Schemes compare without case; an id in upper case is a malformed SPIFFE id, not some other URI.
        let is_spiffe = |uri: &String| {
            uri.get(..9).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe://")) || uri.starts_with("spiffe:")
        };
        match self.uris.as_slice() {
            [uri] if is_spiffe(uri) => SpiffeId::parse(uri).map(Some),
            uris if uris.iter().any(is_spiffe) => Err(PeerRefused::SeveralUris),
            _ => Ok(None),
        }
    }
}

/// IA5String limits names to ASCII; a NUL, a control character or a space in a name exists only to be read in two ways.
fn plain(name: &str) -> Result<&str, PeerRefused> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(name)
    } else {
        Err(PeerRefused::InvalidName)
    }
}

/// For logs: no control characters, bounded.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(256).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.copy_from_slice(hash.as_ref());
    digest
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_read_as_the_standard_writes_them() {
        for good in ["spiffe://partner.example/gateway", "spiffe://a", "spiffe://a.b-c_d/x/y.z"] {
            let id = SpiffeId::parse(good).unwrap();
            assert_eq!(id.as_str(), good);
            assert!(good.contains(id.trust_domain()) && !id.trust_domain().contains('/'));
        }
        for bad in [
            "spiffe://",
            "spiffe:///x",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://A/x",
            "SPIFFE://a/x",
            "spiffe://a:1/x",
            "spiffe://u@a/x",
            "spiffe://a/x?q",
            "spiffe://a/x#f",
            "spiffe://a/%2e",
            "https://a/x",
            "spiffe://a/ü",
            "spiffe:a",
        ] {
            assert_eq!(SpiffeId::parse(bad), Err(PeerRefused::InvalidSpiffeId), "{bad}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://a/{}", "x".repeat(2048))).is_err());
    }

    #[test]
    fn an_empty_chain_names_nobody() {
        assert_eq!(PeerIdentity::from_der_chain(&[]), Err(PeerRefused::NoCertificate));
    }
}
