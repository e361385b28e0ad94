//! How a certificate is known again: by a name that its authority vouched for, or by its own digest.

use serde_json::Value as Json;

use crate::config::read::{At, Setting};
use crate::config::section::section;
use crate::config::shape::Shape;
use crate::config::value::Sha256;
use crate::identify::partners::CertificateMatch;

section! {
    /// Which client certificate is meant: exactly one of these.
    pub(crate) struct CertificateKeys {
        /// A URI among its subject alternative names, as `spiffe://partner.example/gateway`.
        san_uri: Option<String>,
        /// A DNS name among its subject alternative names.
        san_dns: Option<String>,
        /// The digest of the certificate itself; changes with every renewal.
        sha256: Option<Sha256>,
    }
}

impl Setting for CertificateMatch {
    fn read(at: &At<'_>) -> Option<Self> {
        let keys = CertificateKeys::read(at)?;
        match (keys.san_uri, keys.san_dns, keys.sha256) {
            (Some(uri), None, None) if url::Url::parse(&uri).is_ok() => Some(Self::SanUri(uri)),
            (Some(_), None, None) => {
                at.refuse("this is no URI", "write it whole, as `spiffe://partner.example/gateway`")
            }
            (None, Some(name), None) if name.contains('*') => {
                at.refuse("a wildcard would name many certificates", "write the one DNS name")
            }
            (None, Some(name), None) => Some(Self::SanDns(name.to_ascii_lowercase())),
            (None, None, Some(digest)) => Some(Self::Sha256(digest.0)),
            (None, None, None) | (Some(_), Some(_), _) | (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
                at.refuse("a certificate is named by exactly one of its marks", "write one of san_uri, san_dns, sha256")
            }
        }
    }

    fn shape() -> Shape {
        CertificateKeys::shape()
    }

    fn shown(&self) -> Json {
        let mut keys = CertificateKeys { san_uri: None, san_dns: None, sha256: None };
        match self {
            Self::SanUri(uri) => keys.san_uri = Some(uri.clone()),
            Self::SanDns(name) => keys.san_dns = Some(name.clone()),
            Self::Sha256(digest) => keys.sha256 = Some(Sha256(*digest)),
        }
        keys.shown()
    }
}
