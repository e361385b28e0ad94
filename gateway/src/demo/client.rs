//! A small HTTPS client with a client certificate: a partner app, as the demo and the tests play it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use fhirwall_certs::client::{Roots, UpstreamTls, upstream_config};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::demo::apps::App;

/// A client that trusts one authority and presents one certificate, or none.
#[derive(Clone, Debug)]
pub struct HttpsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl HttpsClient {
    /// A client for one app. `identity` is the certificate chain and the key, as PEM.
    pub fn new(ca_pem: &[u8], identity: Option<(Vec<u8>, Vec<u8>)>) -> anyhow::Result<Self> {
        let tls = upstream_config(&UpstreamTls {
            roots: Roots::Custom(ca_pem.to_vec()),
            client_certificate: identity,
            pins_sha256: Vec::new(),
        })?;
        Ok(Self::with_tls(tls))
    }

    /// As [`HttpsClient::new`], with HTTP/1.1 alone: then a `host` header given to [`HttpsClient::send`] is what is sent.
    pub fn http1(ca_pem: &[u8], identity: Option<(Vec<u8>, Vec<u8>)>) -> anyhow::Result<Self> {
        let tls = upstream_config(&UpstreamTls {
            roots: Roots::Custom(ca_pem.to_vec()),
            client_certificate: identity,
            pins_sha256: Vec::new(),
        })?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// An app's client that knows no TLS newer than 1.2: to be refused.
    pub fn with_tls_1_2(app: &App, ca_pem: &[u8]) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem)?)?;
        let chain = CertificateDer::pem_file_iter(&app.certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&app.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self::with_tls(tls))
    }

    fn with_tls(tls: rustls::ClientConfig) -> Self {
        // Plain HTTP is for the administration on loopback.
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().build();
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends one request and reads the answer. Fails when there is none within 30 seconds.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Reply> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).context("the request is malformed")?;
        let exchange = async {
            let response = self.0.request(request).await.context("no answer")?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.context("the answer broke off")?.to_bytes();
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(Duration::from_secs(30), exchange).await.map_err(|_| anyhow!("no answer in time"))?
    }

    /// `GET` with a bearer token.
    pub async fn get(&self, url: &str, token: &str) -> anyhow::Result<Reply> {
        self.send(Method::GET, url, &[("authorization", &format!("Bearer {token}"))], Bytes::new()).await
    }
}
