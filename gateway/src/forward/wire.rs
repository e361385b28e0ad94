//! How bytes reach the EHR: TCP with TLS, plain TCP to loopback, or a Unix socket on this machine.
//!
//! Plaintext leaves this machine by none of them: the configuration takes `http` to loopback or a Unix socket alone
//! (45 CFR 164.312(e)(1)).

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower_service::Service;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// Connections to an EHR, kept open between requests.
pub(super) enum Wire {
    Network(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Local(Client<UnixConnector, Full<Bytes>>),
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network(_) => "Network(..)",
            Self::Local(_) => "Local(..)",
        })
    }
}

impl Wire {
    pub(super) fn network(tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self::Network(builder().build(connector))
    }

    pub(super) fn local(socket: &Path) -> Self {
        Self::Local(builder().build(UnixConnector(Arc::new(socket.to_owned()))))
    }

    pub(super) async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Network(client) => client.request(request).await,
            Self::Local(client) => client.request(request).await,
        }
    }
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(256)
        // A request that found its connection closed before a byte of it was written has not been sent.
        .retry_canceled_requests(true);
    builder
}

/// Connects to one Unix socket, whatever the URL's host is.
#[derive(Clone)]
pub(super) struct UnixConnector(Arc<PathBuf>);

impl Service<Uri> for UnixConnector {
    type Response = LocalStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<LocalStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = Arc::clone(&self.0);
        Box::pin(async move {
            let connected = timeout(CONNECT, UnixStream::connect(path.as_path())).await;
            Ok(LocalStream(TokioIo::new(connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)))
        })
    }
}

/// A connection to a Unix socket.
pub(super) struct LocalStream(TokioIo<UnixStream>);

impl Connection for LocalStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for LocalStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for LocalStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use fhirwall_certs::client::{Roots, UpstreamTls, upstream_config};
    use tokio::net::UnixListener;

    use crate::forward::{NoCredential, Upstream, UpstreamFailure, UpstreamRequest};

    fn upstream(socket: &std::path::Path) -> Upstream {
        let validity = fhirwall_certs::authority::Validity::days(time::OffsetDateTime::now_utc(), 1).unwrap();
        let authority = fhirwall_certs::authority::Authority::create("tests", validity).unwrap();
        let roots = Roots::Custom(authority.certificate_pem().as_bytes().to_vec());
        let tls = upstream_config(&UpstreamTls { roots, client_certificate: None, pins_sha256: Vec::new() }).unwrap();
        let bases = vec!["http://localhost/fhir".to_owned()];
        Upstream::new(tls, bases, Duration::from_secs(5), 1 << 20, Arc::new(NoCredential)).through_socket(socket)
    }

    #[tokio::test]
    async fn an_ehr_in_the_same_pod_is_reached_through_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ehr.sock");
        let patient = r#"{"resourceType":"Patient","id":"1"}"#;
        let answer = ([(http::header::CONTENT_TYPE, "application/fhir+json")], patient);
        let router = Router::new().route("/fhir/Patient/1", get(move || async move { answer }));
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let upstream = upstream(&socket);
        let request = UpstreamRequest::get("/Patient/1", "");
        assert_eq!(upstream.exchange(&request).await.unwrap().body, patient);
        server.abort();
        drop(server.await);
        std::fs::remove_file(&socket).unwrap();
        // The socket is gone; nothing else is asked in its place.
        assert_eq!(upstream.exchange(&request).await.unwrap_err(), UpstreamFailure::Unreachable);
    }
}
