//! Stage 6: build the upstream request from the permit alone, and read the answer as hostile input.
//!
//! The client's headers, path and token never reach the EHR (rules 1 and 11). The answer is collected whole, within
//! bounds, before anything is decided on it.

mod breaker;
mod bulk;
mod decode;
mod health;
mod pool;
mod retry;
mod wire;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, LAST_MODIFIED, LOCATION,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, Limited};
use rustls::ClientConfig;
use tokio::time::timeout_at;

use crate::admit::{Admission, BytesInFlight};

use crate::clock::{Clock, SystemClock};
pub use breaker::{FAILURES, FIRST_REST, LONGEST_ASKED, LONGEST_REST};
pub use bulk::{BulkFile, JobStatus};
pub use health::keep_asking;
pub use pool::{Pool, Pools, Standing};
use retry::Ended;
pub use retry::LONGEST_WAIT;
use wire::Wire;

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

/// One EHR endpoint: its URLs, the connections to them, and the gateway's credential.
pub struct Upstream {
    wire: Wire,
    /// Each without a trailing slash.
    bases: Vec<String>,
    pool: Arc<Pool>,
    timeout: Duration,
    health_interval: Duration,
    response_bytes: usize,
    credential: Arc<dyn UpstreamCredential>,
    clock: Arc<dyn Clock>,
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
        let bases: Vec<String> = bases.into_iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
        Self {
            wire: Wire::network(tls),
            pool: Arc::new(Pool::new(&bases, Arc::default())),
            bases,
            timeout,
            health_interval: Duration::from_secs(10),
            response_bytes,
            credential,
            clock: Arc::new(SystemClock),
            admission: None,
        }
    }

    /// Takes room for each answer's body before it is read (rule 13).
    #[must_use]
    pub fn within(mut self, admission: Arc<Admission>) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Leaves none of the URLs alone while they fail: for a server that is not asked for its health.
    #[must_use]
    pub fn unwatched(mut self) -> Self {
        self.pool = Arc::new(Pool::unwatched(&self.bases));
        self
    }

    /// Shares what is known of the URLs with other generations, and has them asked for their health this often.
    #[must_use]
    pub fn pooled(mut self, pool: Arc<Pool>, health_interval: Duration, clock: Arc<dyn Clock>) -> Self {
        self.pool = pool;
        self.health_interval = health_interval;
        self.clock = clock;
        self
    }

    /// Reaches the EHR through a Unix socket; the base says the path alone.
    #[must_use]
    pub fn through_socket(mut self, socket: &Path) -> Self {
        self.wire = Wire::local(socket);
        self
    }

    /// The bases that the EHR may use for itself in its answers.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }

    /// What is known of its URLs.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Sends one request and collects its answer.
    ///
    /// It goes to the least busy healthy URL. What was certainly not sent, and what changes nothing, may go to another one;
    /// all attempts together take no longer than the endpoint's timeout. With no healthy URL there is no attempt at all.
    pub async fn exchange(&self, request: &UpstreamRequest) -> Result<UpstreamAnswer, UpstreamFailure> {
        let authorization = self.credential.authorization().await?;
        let began = Instant::now();
        let deadline = began.checked_add(self.timeout).unwrap_or(began);
        let changes_nothing = retry::changes_nothing(request);
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            let now = Instant::now();
            let Some(taken) = self.pool.take(&tried, now) else { break };
            let built = build(taken.base(), request, authorization.clone())?;
            let attempt = timeout_at(deadline.into(), self.round_trip(built)).await;
            let ended = match attempt.unwrap_or(Err(Ended::TimedOut)) {
                Ok(answer) => {
                    taken.answered(Instant::now());
                    return Ok(answer);
                }
                Err(ended) => ended,
            };
            if ended.speaks_against_url() {
                taken.failed(Instant::now());
            } else {
                taken.answered(Instant::now());
            }
            last = Some(ended.failure());
            let here_again = ended.may_go_again(changes_nothing) && self.pool.len() == 1 && tried.is_empty();
            if here_again {
                // A place that is no URL's: the next attempt may take the same one, and is the last.
                tried.push(usize::MAX);
            } else if ended.may_go_elsewhere(changes_nothing) {
                tried.push(taken.index);
            } else {
                break;
            }
        }
        Err(last.unwrap_or_else(|| {
            let wait = self.pool.wait(Instant::now());
            UpstreamFailure::Unavailable { retry_after: Some(wait.max(Duration::from_secs(1))) }
        }))
    }

    async fn round_trip(&self, request: Request<Full<Bytes>>) -> Result<UpstreamAnswer, Ended> {
        let sent = self.wire.request(request).await;
        let answer = sent.map_err(|error| if error.is_connect() { Ended::NotSent } else { Ended::Lost })?;
        let (head, body) = answer.into_parts();
        decode::acceptable(head.status, &head.headers, self.clock.now())?;
        let encoding = decode::encoding(&head.headers).map_err(Ended::Answered)?;
        let room = self.room(body.size_hint().exact(), encoding).await.map_err(Ended::Answered)?;
        let collected = Limited::new(body, self.response_bytes).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Ended::Answered(UpstreamFailure::TooLarge)
            } else {
                Ended::Lost
            }
        })?;
        let body = decode::decode(encoding, collected.to_bytes(), self.response_bytes).map_err(Ended::Answered)?;
        if !body.is_empty() {
            decode::json_type(&head.headers).map_err(Ended::Answered)?;
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

/// The request as it goes to the URL at `base`: nothing of the client's but what the permit says.
fn build(
    base: &str,
    request: &UpstreamRequest,
    authorization: Option<HeaderValue>,
) -> Result<Request<Full<Bytes>>, UpstreamFailure> {
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
    // RFC 9111 5.2.1.4. HAPI answers a search from what the same search found up to a minute ago: a consent that was
    // refused since, or the labelled document of a Binary, would be missing from what decisions rest on.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
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

fn insert_text(headers: &mut HeaderMap, name: http::HeaderName, value: Option<&str>) -> Result<(), UpstreamFailure> {
    if let Some(value) = value {
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| UpstreamFailure::Unintelligible)?);
    }
    Ok(())
}
