//! Certificates that say they were signed by a broken hash are refused for that, and not for something else.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use fhirwall_certs::authority::{Authority, LeafNames, Validity};
use fhirwall_certs::server::{ClientTrust, client_verifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error};
use time::OffsetDateTime;

const NOW: u32 = 1_790_000_000;
/// AlgorithmIdentifiers (RFC 5280 4.1.1.2).
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const ECDSA_SHA384: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";
const RSA_MD5: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04\x05\x00";
const RSA_SHA1: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00";

/// The certificate, saying within and without that it was signed by this algorithm: no library makes one with MD5.
fn says_signed_by(der: &[u8], algorithm: &[u8]) -> CertificateDer<'static> {
    let [to_be_signed, said, signature] = <[&[u8]; 3]>::try_from(values(content(der))).unwrap();
    assert_eq!(said, ECDSA_SHA256);
    let inner: Vec<&[u8]> =
        values(content(to_be_signed)).into_iter().map(|part| if part == said { algorithm } else { part }).collect();
    CertificateDer::from(sequence(&[&sequence(&inner), algorithm, signature]))
}

/// How many bytes the head of a DER value has, and how many follow it.
fn measured(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let digits = &der[2..2 + usize::from(long & 0x7f)];
            (2 + digits.len(), digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
        }
    }
}

fn content(der: &[u8]) -> &[u8] {
    let (head, length) = measured(der);
    &der[head..head + length]
}

/// The values that stand one after the other.
fn values(mut der: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while !der.is_empty() {
        let (head, length) = measured(der);
        let (part, rest) = der.split_at(head + length);
        parts.push(part);
        der = rest;
    }
    parts
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], length.as_slice(), &content].concat()
}

#[test]
fn a_signature_by_a_broken_hash_is_refused_for_its_algorithm() {
    let valid = Validity::days(OffsetDateTime::from_unix_timestamp(i64::from(NOW)).unwrap(), 5).unwrap();
    let partners = Authority::create("partners", valid).unwrap();
    let names = LeafNames {
        common_name: "partner".to_owned(),
        uris: vec!["spiffe://partner.example/gateway".to_owned()],
        ..LeafNames::default()
    };
    let good = partners.issue_client(&names, valid).unwrap();
    let good = CertificateDer::from_pem_slice(good.certificate_pem.as_bytes()).unwrap();
    let trust = ClientTrust { ca: partners.certificate_pem().into(), crls: Vec::new() };
    let verifier = client_verifier(&trust, true).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::from(NOW)));
    let judged = |algorithm| verifier.verify_client_cert(&says_signed_by(&good, algorithm), &[], now).map(|_| ());
    for (name, algorithm) in [("MD5", RSA_MD5), ("SHA-1", RSA_SHA1)] {
        let judged = judged(algorithm);
        let for_its_algorithm = matches!(
            judged,
            Err(Error::InvalidCertificate(CertificateError::UnsupportedSignatureAlgorithmContext { .. }))
        );
        assert!(for_its_algorithm, "{name}: {judged:?}");
    }
    // Said of an algorithm that is taken, the same lie is found by the signature itself.
    let lie = judged(ECDSA_SHA384);
    assert!(matches!(lie, Err(Error::InvalidCertificate(CertificateError::BadSignature))), "{lie:?}");
    assert!(judged(ECDSA_SHA256).is_ok(), "taken apart and put together unchanged");
}
