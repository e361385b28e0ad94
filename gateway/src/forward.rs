//! Stage 6: build the upstream request from the permit alone, and read the answer as hostile input.
//!
//! The client's headers, path and token never reach the EHR (rules 1 and 11). The answer is collected whole, within
//! bounds, before anything is decided on it.

mod decode;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::admit::{Admission, BytesInFlight};

/// The gateway's own credential at the EHR, as an `Authorization` value. Never the client's.
#[async_trait]
pub trait UpstreamCredential: Send + Sync + fmt::Debug {
    async fn authorization(&self) -> Result<Option<HeaderValue>, UpstreamFailure>;
}

/// No credential beyond the gateway's client certificate.
#[derive(Debug, Clone, Copy)]
pub struct NoCredential;

#[async_trait]
impl UpstreamCredential for NoCredential {
    async fn authorization(&self) -> Result<Option<HeaderValue>, UpstreamFailure> {
        Ok(None)
    }
}

/// What is sent: method, path below the base, query, and the few headers that FHIR needs.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    pub method: Method,
    /// Below the endpoint's base, starting with `/` or empty.
    pub path: String,
    pub query: String,
    pub if_match: Option<String>,
    pub if_none_exist: Option<String>,
    pub body: Option<(HeaderValue, Bytes)>,
}

impl UpstreamRequest {
    pub fn get(path: impl Into<String>, query: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: query.into(),
            if_match: None,
            if_none_exist: None,
            body: None,
        }
    }
}

/// What came back, within bounds, decoded, and of a type that can be judged.
#[derive(Clone, Debug)]
pub struct UpstreamAnswer {
    pub status: StatusCode,
    pub body: Bytes,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub location: Option<String>,
    /// The room in memory that the body takes; given back with the answer.
    pub room: Option<Arc<BytesInFlight>>,
}

/// Why there is no answer to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No connection, no TLS, reset, or cut off.
    Unreachable,
    TimedOut,
    /// More than `limits.response_bytes`, before or after decompression.
    TooLarge,
    /// A redirect, a content type or an encoding that cannot be judged.
    Unintelligible,
    /// The EHR refused the gateway's own credential, or none could be had.
    Credential,
    /// There is no room in memory for its answer.
    NoRoom,
    /// In maintenance: `Retry-After` seconds, where it said so.
    Unavailable {
        retry_after: Option<Duration>,
    },
}

/// One EHR endpoint: its addresses, the connection pool, and the gateway's credential.
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Each without a trailing slash.
    bases: Vec<String>,
    next: AtomicUsize,
    timeout: Duration,
    response_bytes: usize,
    credential: Arc<dyn UpstreamCredential>,
    /// Where room for answers is taken; `None` takes none.
    admission: Option<Arc<Admission>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("bases", &self.bases.len()).finish_non_exhaustive()
    }
}

impl Upstream {
    /// `bases` were checked by the configuration: https, or http to loopback.
    pub fn new(
        tls: ClientConfig,
        bases: Vec<String>,
        timeout: Duration,
        response_bytes: usize,
        credential: Arc<dyn UpstreamCredential>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(3)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(256)
            .retry_canceled_requests(false)
            .build(connector);
        let bases = bases.into_iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
        Self { client, bases, next: AtomicUsize::new(0), timeout, response_bytes, credential, admission: None }
    }

    /// Takes room for each answer's body before it is read (rule 13).
    #[must_use]
    pub fn within(mut self, admission: Arc<Admission>) -> Self {
        self.admission = Some(admission);
        self
    }

    /// The bases that the EHR may use for itself in its answers.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }

    /// Sends one request and collects its answer.
    pub async fn exchange(&self, request: &UpstreamRequest) -> Result<UpstreamAnswer, UpstreamFailure> {
        let authorization = self.credential.authorization().await?;
        let request = self.build(request, authorization)?;
        match timeout(self.timeout, self.round_trip(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(UpstreamFailure::TimedOut),
        }
    }

    fn build(
        &self,
        request: &UpstreamRequest,
        authorization: Option<HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, UpstreamFailure> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.bases.len()).unwrap_or(0);
        let base = self.bases.get(turn).ok_or(UpstreamFailure::Unreachable)?;
        let mut uri = String::with_capacity(base.len() + request.path.len() + request.query.len() + 1);
        uri.push_str(base);
        uri.push_str(&request.path);
        if !request.query.is_empty() {
            uri.push('?');
            uri.push_str(&request.query);
        }
        let uri: Uri = uri.parse().map_err(|_| UpstreamFailure::Unintelligible)?;
        let mut built = Request::new(Full::new(Bytes::new()));
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = uri;
        let headers = built.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/fhir+json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // R4 http.html: an unknown parameter must not widen a result; what was written is judged before it is shown.
        let prefer = if request.body.is_some() { "handling=strict, return=representation" } else { "handling=strict" };
        headers.insert("prefer", HeaderValue::from_static(prefer));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        insert_text(headers, IF_MATCH, request.if_match.as_deref())?;
        insert_text(headers, http::HeaderName::from_static("if-none-exist"), request.if_none_exist.as_deref())?;
        if let Some((content_type, body)) = &request.body {
            headers.insert(CONTENT_TYPE, content_type.clone());
            *built.body_mut() = Full::new(body.clone());
        }
        Ok(built)
    }

    async fn round_trip(&self, request: Request<Full<Bytes>>) -> Result<UpstreamAnswer, UpstreamFailure> {
        let answer = self.client.request(request).await.map_err(|_| UpstreamFailure::Unreachable)?;
        let (head, body) = answer.into_parts();
        decode::acceptable(head.status, &head.headers)?;
        let encoding = decode::encoding(&head.headers)?;
        let room = self.room(body.size_hint().exact(), encoding).await?;
        let collected = Limited::new(body, self.response_bytes).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                UpstreamFailure::TooLarge
            } else {
                UpstreamFailure::Unreachable
            }
        })?;
        let body = decode::decode(encoding, collected.to_bytes(), self.response_bytes)?;
        if !body.is_empty() {
            decode::json_type(&head.headers)?;
        }
        let text = |name: http::HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(UpstreamAnswer {
            status: head.status,
            body,
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
            location: text(LOCATION),
            room,
        })
    }

    /// As much room as the body says it needs; all that an answer may have, where it does not say or is packed.
    async fn room(
        &self,
        length: Option<u64>,
        encoding: decode::Encoding,
    ) -> Result<Option<Arc<BytesInFlight>>, UpstreamFailure> {
        let Some(admission) = &self.admission else { return Ok(None) };
        let limit = u64::try_from(self.response_bytes).unwrap_or(u64::MAX);
        let wanted = match encoding {
            decode::Encoding::Identity => length.unwrap_or(limit).min(limit),
            decode::Encoding::Gzip => limit,
        };
        let room = admission.hold_bytes(wanted).await.map_err(|_| UpstreamFailure::NoRoom)?;
        Ok(Some(Arc::new(room)))
    }
}

fn insert_text(headers: &mut HeaderMap, name: http::HeaderName, value: Option<&str>) -> Result<(), UpstreamFailure> {
    if let Some(value) = value {
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| UpstreamFailure::Unintelligible)?);
    }
    Ok(())
}

/// `Retry-After` in seconds, where the EHR gave one that makes sense.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 3_600)))
}
