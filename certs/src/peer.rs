//! Who is on the other end of a connection, named once when its handshake is done.

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The verified leaf certificate of a connection, in the forms that tokens and partner files name it.
///
/// Built only from a chain that TLS has verified; nothing here is taken from a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// SHA-256 of the leaf's DER: the value behind `x5t#S256` (RFC 8705 section 3.1).
    pub leaf_sha256: [u8; 32],
    /// URI names of the leaf, such as SPIFFE ids, as they stand in the certificate.
    pub san_uris: Vec<String>,
    /// DNS names of the leaf, in lower case.
    pub san_dns: Vec<String>,
    /// When the leaf stops to be valid: a connection outlives its certificate, a request must not.
    pub not_after: OffsetDateTime,
}

/// A leaf that cannot be read. It carries nothing of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the peer's certificate cannot be read")]
pub struct UnreadableCertificate;

impl PeerIdentity {
    /// Names the peer by the DER of its leaf certificate, the first of the chain. Trailing bytes are refused.
    pub fn from_leaf_der(leaf: &[u8]) -> Result<Self, UnreadableCertificate> {
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| UnreadableCertificate)?;
        if !rest.is_empty() {
            return Err(UnreadableCertificate);
        }
        let leaf_sha256 = digest(&SHA256, leaf).as_ref().try_into().map_err(|_| UnreadableCertificate)?;
        let mut identity = Self {
            leaf_sha256,
            san_uris: Vec::new(),
            san_dns: Vec::new(),
            not_after: certificate.validity().not_after.to_datetime(),
        };
        let names = certificate.subject_alternative_name().map_err(|_| UnreadableCertificate)?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            if let GeneralName::URI(uri) = name {
                identity.san_uris.push((*uri).to_owned());
            } else if let GeneralName::DNSName(dns) = name {
                identity.san_dns.push(dns.to_ascii_lowercase());
            }
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_leaf_is_named_by_its_names_and_thumbprint() {
        let mut params = CertificateParams::new(vec!["App.Example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://recovery.example/gateway".try_into().unwrap()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = PeerIdentity::from_leaf_der(certificate.der()).unwrap();
        assert_eq!(identity.san_dns, ["app.example"]);
        assert_eq!(identity.san_uris, ["spiffe://recovery.example/gateway"]);
        assert_eq!(identity.leaf_sha256, digest(&SHA256, certificate.der()).as_ref());
    }

    #[test]
    fn what_is_not_one_certificate_names_nobody() {
        let certificate = CertificateParams::new(vec!["app.example".to_owned()])
            .unwrap()
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap();
        let mut trailing = certificate.der().to_vec();
        trailing.push(0);
        assert_eq!(PeerIdentity::from_leaf_der(&trailing), Err(UnreadableCertificate));
        assert_eq!(PeerIdentity::from_leaf_der(b"not a certificate"), Err(UnreadableCertificate));
    }
}
