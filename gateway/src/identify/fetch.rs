//! Asking an issuer something: HTTPS only, bounded in time and size, redirects not followed.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// The longest answer that is read. Discovery documents and key sets are a few kilobytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

/// One HTTP exchange with an issuer, a client's JWKS host, or the EHR's token endpoint.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    async fn fetch(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError>;
}

/// A [`Fetch`] as the client of `oauth2` and `openidconnect`.
#[derive(Clone, Debug)]
pub struct OauthClient(pub Arc<dyn Fetch>);

impl<'c> openidconnect::AsyncHttpClient<'c> for OauthClient {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Vec<u8>>, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: http::Request<Vec<u8>>) -> Self::Future {
        self.0.fetch(request)
    }
}

/// Why an exchange gave no answer. It names no secret: neither body nor header of either side.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("only https may be asked (plain http only on loopback, and only when explicitly allowed)")]
    NotHttps,
    #[error("no answer in time")]
    Timeout,
    #[error("cannot reach the server")]
    Connect(#[source] hyper_util::client::legacy::Error),
    #[error("the answer broke off or is too large")]
    Body,
}

/// Why a client could not be built. Shown to the operator when the configuration loads.
#[derive(Debug, Error)]
pub enum FetchSetupError {
    #[error("the CA file has no readable certificate")]
    UnreadableCa,
    #[error("no usable root certificate: name a `ca_file` or install the system's roots")]
    NoRoots,
    #[error("the client certificate or its key is unreadable")]
    ClientCertificate,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The trust and identity of an outgoing client.
#[derive(Default)]
pub struct Outgoing<'a> {
    /// PEM of the only trusted roots; else the system's.
    pub ca_pem: Option<&'a [u8]>,
    /// PEM of our certificate chain and key, where the other side wants mTLS.
    pub client_pem: Option<(&'a [u8], &'a [u8])>,
    /// Plain http to loopback: for the sidecar case and demonstrations.
    pub dangerous_allow_loopback_http: bool,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("own_ca", &self.ca_pem.is_some())
            .field("client_certificate", &self.client_pem.is_some())
            .field("dangerous_allow_loopback_http", &self.dangerous_allow_loopback_http)
            .finish()
    }
}

/// [`Fetch`] over hyper and rustls.
pub struct HttpsFetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    allow_loopback_http: bool,
    timeout: Duration,
}

impl fmt::Debug for HttpsFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsFetch").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl HttpsFetch {
    pub fn new(outgoing: &Outgoing<'_>) -> Result<Self, FetchSetupError> {
        let tls = tls_config(outgoing)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(30))
                // Without a timer an idle connection is let go only when the next one is looked for.
                .pool_timer(TokioTimer::new())
                .build(connector),
            allow_loopback_http: outgoing.dangerous_allow_loopback_http,
            timeout: TIMEOUT,
        })
    }

    /// As this one, giving up after so long.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

#[async_trait]
impl Fetch for HttpsFetch {
    async fn fetch(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        if !may_be_asked(request.uri(), self.allow_loopback_http) {
            return Err(FetchError::NotHttps);
        }
        let exchange = async {
            let response =
                self.client.request(request.map(|body| Full::new(body.into()))).await.map_err(FetchError::Connect)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| FetchError::Body)?;
            Ok(http::Response::from_parts(head, body.to_bytes().to_vec()))
        };
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| FetchError::Timeout)?
    }
}

fn may_be_asked(uri: &http::Uri, allow_loopback_http: bool) -> bool {
    let loopback = || {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => allow_loopback_http && loopback(),
        _ => false,
    }
}

/// The TLS of an outgoing client.
pub(crate) fn tls_config(outgoing: &Outgoing<'_>) -> Result<ClientConfig, FetchSetupError> {
    let mut roots = RootCertStore::empty();
    match outgoing.ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| FetchSetupError::UnreadableCa)?;
                roots.add(certificate).map_err(|_| FetchSetupError::UnreadableCa)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(FetchSetupError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(FetchSetupError::Tls)?
        .with_root_certificates(roots);
    match outgoing.client_pem {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| FetchSetupError::ClientCertificate)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| FetchSetupError::ClientCertificate)?;
            builder.with_client_auth_cert(chain, key).map_err(FetchSetupError::Tls)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asks(uri: &str, allow_loopback_http: bool, expected: bool) {
        assert_eq!(may_be_asked(&uri.parse().unwrap(), allow_loopback_http), expected, "{uri}");
    }

    #[test]
    fn plain_http_is_for_loopback_and_only_when_allowed() {
        asks("https://idp.example.org/jwks", false, true);
        asks("http://idp.example.org/jwks", false, false);
        asks("http://idp.example.org/jwks", true, false);
        asks("http://127.0.0.1:1/jwks", false, false);
        asks("http://127.0.0.1:1/jwks", true, true);
        asks("http://[::1]:1/jwks", true, true);
        asks("http://localhost:1/jwks", true, true);
        asks("http://127.0.0.1.example.org/jwks", true, false);
        asks("http://localhost.example.org/jwks", true, false);
        asks("ftp://127.0.0.1/jwks", true, false);
        asks("/jwks", true, false);
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        let outgoing = Outgoing { ca_pem: Some(b"nothing here"), ..Outgoing::default() };
        assert!(matches!(HttpsFetch::new(&outgoing), Err(FetchSetupError::NoRoots)));
    }
}
