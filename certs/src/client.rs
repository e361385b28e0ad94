//! The TLS side of a connection to an EHR or an issuer.
//!
//! The name is always verified; a pin narrows trust and never replaces it.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::peer::sha256;
use crate::pem::{self, TlsRefused};

/// How this end proves itself to an upstream, and what the upstream must prove.
#[derive(Clone)]
pub struct UpstreamTls {
    pub roots: Roots,
    /// The certificate chain and key to present, as PEM text.
    pub client_certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// With any: the leaf's certificate or its public key (SPKI) must have one of these SHA-256 digests. Only the leaf
    /// counts, since anybody may append a pinned certificate to a chain.
    pub pins_sha256: Vec<[u8; 32]>,
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("roots", &self.roots)
            .field("client_certificate", &self.client_certificate.is_some())
            .field("pins", &self.pins_sha256.len())
            .finish()
    }
}

/// Which authorities an upstream's chain may end in.
#[derive(Clone)]
pub enum Roots {
    /// The PEM text of a configured bundle.
    Custom(Vec<u8>),
    /// The system's anchors, loaded by the caller.
    Native(Vec<CertificateDer<'static>>),
    /// None: the upstream is asked without TLS, on loopback or a Unix socket. Should it ever be asked with TLS, it is refused.
    Nobody,
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom(_) => f.write_str("Custom(..)"),
            Self::Native(roots) => write!(f, "Native({} anchors)", roots.len()),
            Self::Nobody => f.write_str("Nobody"),
        }
    }
}

/// The client settings for an upstream: TLS 1.3 preferred, 1.2 accepted, name always verified, no resumption across
/// different client certificates. ALPN is left to the HTTP client.
pub fn upstream_config(tls: &UpstreamTls) -> Result<ClientConfig, TlsRefused> {
    upstream_config_with_time(tls, Arc::new(DefaultTimeProvider))
}

/// As [`upstream_config`], judging validity by `time`.
pub fn upstream_config_with_time(tls: &UpstreamTls, time: Arc<dyn TimeProvider>) -> Result<ClientConfig, TlsRefused> {
    let builder = ClientConfig::builder_with_details(pem::provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsRefused::KeyMismatch("TLS provider", error))?;
    let builder = match &tls.roots {
        Roots::Nobody => builder.with_root_certificates(rustls::RootCertStore::empty()),
        Roots::Custom(_) | Roots::Native(_) => {
            builder.dangerous().with_custom_certificate_verifier(server_verifier(&tls.roots, &tls.pins_sha256)?)
        }
    };
    match &tls.client_certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain = pem::certificates(chain, "client certificate file")?;
            let key = pem::key(key, "client key file")?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| TlsRefused::KeyMismatch("client certificate", error))
        }
    }
}

/// The verifier of an upstream's certificate: chain and name by rustls-webpki, then the pins.
pub fn server_verifier(roots: &Roots, pins_sha256: &[[u8; 32]]) -> Result<Arc<dyn ServerCertVerifier>, TlsRefused> {
    let anchors = match roots {
        Roots::Custom(pem) => pem::anchors(pem::certificates(pem, "upstream CA file")?, "upstream CA file")?,
        Roots::Native(certificates) => {
            // One odd certificate in the system's store must not take all upstreams down.
            let mut store = rustls::RootCertStore::empty();
            store.add_parsable_certificates(certificates.iter().cloned());
            if store.is_empty() {
                return Err(TlsRefused::NoSystemRoots);
            }
            Arc::new(store)
        }
        Roots::Nobody => return Err(TlsRefused::EmptyTrust("set of trusted authorities")),
    };
    let chain = WebPkiServerVerifier::builder_with_provider(anchors, pem::provider()).build()?;
    if pins_sha256.is_empty() { Ok(chain) } else { Ok(Arc::new(Pinned { chain, pins: pins_sha256.to_vec() })) }
}

#[derive(Debug)]
struct Pinned {
    chain: Arc<WebPkiServerVerifier>,
    pins: Vec<[u8; 32]>,
}

impl Pinned {
    fn holds(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
        self.pins.contains(&sha256(leaf)) || self.pins.contains(&sha256(certificate.public_key().raw))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.holds(end_entity) { Ok(verified) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
