//! What identification needs of a partner file.

use std::fmt;
use std::sync::Arc;

use fhirwall_certs::peer::PeerIdentity;
use fhirwall_policy::partner::Partner;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use url::Url;

/// The registered partners of one configuration generation.
pub trait Partners: Send + Sync + fmt::Debug {
    /// The partner with exactly this `client_id`, active or not.
    fn by_client_id(&self, client_id: &str) -> Option<Arc<PartnerEntry>>;
    /// Every registered origin, for CORS preflights, which carry no token.
    fn origin_registered(&self, origin: &str) -> bool;
}

/// One partner, with the facts that prove who it is.
#[derive(Clone, Debug)]
pub struct PartnerEntry {
    pub partner: Arc<Partner>,
    pub kind: ClientType,
    pub mtls: Mtls,
    /// Tokens must be bound to a DPoP key, whatever the connection carries.
    pub dpop_required: bool,
    /// Each one names certificates of this partner. Never empty when `mtls` is required.
    pub certificates: Vec<CertificateMatch>,
    /// The issuers whose tokens count for this partner; `None` is every configured one.
    pub issuers: Option<Vec<String>>,
    /// Where the public keys of a client with `private_key_jwt` are.
    pub keys: ClientKeys,
    pub secret: Option<ClientSecret>,
    pub redirect_uris: Vec<String>,
    pub origins: Vec<String>,
}

/// The client types of SMART App Launch 2.2 and RFC 6749 section 2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientType {
    Public,
    ConfidentialSymmetric,
    ConfidentialAsymmetric,
    BackendService,
}

/// Must the connection carry a certificate of the partner?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtls {
    Required,
    /// Then tokens must be bound to a DPoP key, except until the end of a dated waiver.
    None {
        unbound_tokens_until: Option<OffsetDateTime>,
    },
}

/// One way to recognise a partner's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateMatch {
    /// A URI name, compared byte for byte.
    SanUri(String),
    /// A DNS name, in lower case, compared whole: no wildcard matches.
    SanDns(String),
    /// SHA-256 of the DER.
    Sha256([u8; 32]),
}

impl CertificateMatch {
    pub fn names(&self, peer: &PeerIdentity) -> bool {
        match self {
            Self::SanUri(uri) => peer.san_uris.iter().any(|name| name == uri),
            Self::SanDns(dns) => peer.san_dns.iter().any(|name| name == dns),
            Self::Sha256(thumbprint) => peer.leaf_sha256 == *thumbprint,
        }
    }
}

/// The public keys of a client.
#[derive(Clone, Debug)]
pub enum ClientKeys {
    None,
    ByValue(Vec<Map<String, Value>>),
    ByUrl(Url),
}

/// SHA-256 of a client's secret. The secret itself has at least 128 bits of randomness, so that no slow hash is needed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret([u8; 32]);

impl ClientSecret {
    pub const fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Compared in constant time.
    pub fn is(&self, presented: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &super::sha256(presented.as_bytes())).is_ok()
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

impl PartnerEntry {
    /// Does the connection carry one of this partner's certificates, still valid now?
    pub fn presents_certificate(&self, peer: &PeerIdentity, now: OffsetDateTime) -> bool {
        now < peer.not_after && self.certificates.iter().any(|one| one.names(peer))
    }
}
