//! The TLS side of a listener, whole and swappable whole.
//!
//! Ground: RFC 8446 (TLS 1.3 only), RFC 5280 6.3 (revocation), RFC 8470 (no early data).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use time::OffsetDateTime;

use crate::peer::{PeerIdentity, PeerRefused};
use crate::pem::{self, TlsRefused};

/// What a listener presents and whom it trusts, as PEM text. The caller read the files.
#[derive(Clone)]
pub struct ServerTlsPem {
    /// The certificate chain, leaf first.
    pub certificates: Vec<u8>,
    /// The leaf's private key.
    pub key: Vec<u8>,
    pub client_auth: ClientAuth,
}

impl fmt::Debug for ServerTlsPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTlsPem").field("client_auth", &self.client_auth).finish_non_exhaustive()
    }
}

/// Whether clients prove who they are in the handshake.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// No certificate is asked for.
    None,
    /// A certificate is asked for; if one is sent it must be good.
    Optional(ClientTrust),
    /// No handshake without a good certificate.
    Required(ClientTrust),
}

/// Whom client certificates may come from.
#[derive(Clone, Debug)]
pub struct ClientTrust {
    /// The partners' certificate authorities.
    pub ca: Vec<u8>,
    /// One PEM text per configured file. With any, every certificate of a chain must be covered by a current CRL: unknown
    /// status and an outdated list refuse.
    pub crls: Vec<Vec<u8>>,
}

/// A listener's checked TLS settings.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    identity: PeerIdentity,
    /// Judges client certificates; `None` where none is asked for.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Checks the PEM texts and builds the settings: TLS 1.3 alone, aws-lc-rs, h2 and http/1.1, no early data, no resumption.
    pub fn from_pem(pem: &ServerTlsPem) -> Result<Self, TlsRefused> {
        Self::from_pem_with_time(pem, Arc::new(DefaultTimeProvider))
    }

    /// As [`ServerTls::from_pem`], judging validity by `time`.
    pub fn from_pem_with_time(pem: &ServerTlsPem, time: Arc<dyn TimeProvider>) -> Result<Self, TlsRefused> {
        let chain = pem::certificates(&pem.certificates, "server certificate file")?;
        let identity = PeerIdentity::from_der_chain(&chain)
            .map_err(|refused| TlsRefused::OwnCertificate("server certificate", refused))?;
        let key = pem::key(&pem.key, "server key file")?;
        let builder = ServerConfig::builder_with_details(pem::provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsRefused::KeyMismatch("TLS provider", error))?;
        let clients = match &pem.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional(trust) => Some(client_verifier(trust, false)?),
            ClientAuth::Required(trust) => Some(client_verifier(trust, true)?),
        };
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsRefused::KeyMismatch("server certificate", error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session skips the certificate, hence the CRL: every connection shows its certificate anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // Early data can be replayed (RFC 8446 8); a replayed FHIR request is a second disclosure.
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), identity, clients })
    }

    /// Judges a chain that a trusted neighbour passes on (RFC 9440), as the handshake would: authorities, dates, use,
    /// revocation, and one reading of its names. That the client holds the key is the neighbour's word.
    pub fn verify_client(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerIdentity, PeerRefused> {
        let (leaf, intermediates) = chain.split_first().ok_or(PeerRefused::NoCertificate)?;
        let clients = self.clients.as_ref().ok_or(PeerRefused::Untrusted)?;
        clients.verify_client_cert(leaf, intermediates, now).map_err(|_| PeerRefused::Untrusted)?;
        PeerIdentity::from_der_chain(chain)
    }

    /// The settings for the acceptor.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// When the presented certificate ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.identity.not_after
    }

    /// The identity this listener presents.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }
}

/// A listener's settings, exchanged whole: a handshake sees the old ones or the new ones, never a mixture.
#[derive(Debug)]
pub struct SwappableTls(ArcSwap<ServerTls>);

impl SwappableTls {
    pub fn new(tls: ServerTls) -> Self {
        Self(ArcSwap::from_pointee(tls))
    }

    /// The settings for the next handshake.
    pub fn current(&self) -> Arc<ServerTls> {
        self.0.load_full()
    }

    /// From the next handshake on, `tls` holds. Open connections live on.
    pub fn swap(&self, tls: ServerTls) {
        self.0.store(Arc::new(tls));
    }
}

/// The verifier of client certificates: rustls-webpki for the chain, revocation of every link, then the identity.
pub fn client_verifier(trust: &ClientTrust, required: bool) -> Result<Arc<dyn ClientCertVerifier>, TlsRefused> {
    let roots = pem::anchors(pem::certificates(&trust.ca, "client CA file")?, "client CA file")?;
    let crls = pem::crls(&trust.crls)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, pem::provider());
    if !crls.is_empty() {
        builder = builder.with_crls(crls).enforce_revocation_expiration();
    }
    if !required {
        builder = builder.allow_unauthenticated();
    }
    Ok(Arc::new(NamedPeers { chain: builder.build()? }))
}

/// A verified chain whose leaf has no single reading is refused in the handshake.
#[derive(Debug)]
struct NamedPeers {
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for NamedPeers {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        PeerIdentity::from_der_chain(std::slice::from_ref(end_entity)).map_err(|_| CertificateError::BadEncoding)?;
        Ok(verified)
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
