//! PEM text to certificates, keys and CRLs, each with an error that says what to do.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;

/// Why TLS settings were refused. Written for the operator; carries no key material.
#[derive(Debug, Error)]
pub enum TlsRefused {
    /// The text holds no certificate, or one that is not PEM.
    #[error("the {0} holds no readable PEM certificate: give a file that starts with -----BEGIN CERTIFICATE-----")]
    NoCertificate(&'static str),
    /// The text holds no private key.
    #[error("the {0} holds no readable PEM private key (PKCS#8, SEC1 or PKCS#1, not encrypted)")]
    NoKey(&'static str),
    /// A CRL is not PEM or not DER.
    #[error("CRL number {0} is not readable: give PEM that starts with -----BEGIN X509 CRL-----")]
    NoCrl(usize),
    /// A trust bundle without a usable anchor.
    #[error("the {0} holds a certificate that cannot serve as a trust anchor")]
    BadAnchor(&'static str, #[source] rustls::Error),
    /// The bundle is empty: nobody could ever be trusted.
    #[error("the {0} is empty: it must name at least one certificate authority")]
    EmptyTrust(&'static str),
    /// The machine or the image has no certificate authorities of its own.
    #[error("the system has no certificate authorities: name a `ca_file`, or install the system's")]
    NoSystemRoots,
    /// The certificate and the key do not belong together, or use an algorithm that is not supported.
    #[error("the {0} and its private key do not fit together")]
    KeyMismatch(&'static str, #[source] rustls::Error),
    /// rustls refused the verifier's settings.
    #[error("the client trust settings were refused")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The own certificate cannot be read as an identity.
    #[error("the {0} is not a certificate this gateway can present")]
    OwnCertificate(&'static str, #[source] crate::peer::PeerRefused),
}

/// The one cryptographic provider of this workspace: aws-lc-rs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(crate) fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsRefused> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsRefused::NoCertificate(what))?;
    if chain.is_empty() { Err(TlsRefused::NoCertificate(what)) } else { Ok(chain) }
}

pub(crate) fn key(pem: &[u8], what: &'static str) -> Result<PrivateKeyDer<'static>, TlsRefused> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsRefused::NoKey(what))
}

pub(crate) fn crls(pems: &[Vec<u8>]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsRefused> {
    let mut crls = Vec::new();
    for (index, pem) in pems.iter().enumerate() {
        let before = crls.len();
        for crl in CertificateRevocationListDer::pem_slice_iter(pem) {
            crls.push(crl.map_err(|_| TlsRefused::NoCrl(index + 1))?);
        }
        // A configured file without a CRL would silently switch revocation off.
        if crls.len() == before {
            return Err(TlsRefused::NoCrl(index + 1));
        }
    }
    Ok(crls)
}

pub(crate) fn anchors(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    what: &'static str,
) -> Result<Arc<RootCertStore>, TlsRefused> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| TlsRefused::BadAnchor(what, error))?;
    }
    if roots.is_empty() { Err(TlsRefused::EmptyTrust(what)) } else { Ok(Arc::new(roots)) }
}
