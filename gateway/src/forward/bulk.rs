//! Bulk exports at the EHR: kick-off, status, files piece by piece, deletion (Bulk Data Access 2.0).
//!
//! The EHR names status and files by URLs of its own. They are followed only on the EHR's own host and port: a file
//! elsewhere would be fetched with the gateway's credential, or from wherever the EHR's answer leads (attack case 44).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LOCATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::retry::{Ended, retry_after};
use super::{Upstream, UpstreamFailure, UpstreamRequest, build, decode};

const NDJSON: HeaderValue = HeaderValue::from_static("application/fhir+ndjson");
const ASYNC: HeaderValue = HeaderValue::from_static("respond-async");

/// How an export stands.
#[derive(Debug)]
pub enum JobStatus {
    Running {
        retry_after: Option<Duration>,
    },
    /// Its manifest.
    Complete(Bytes),
    /// The EHR does not know it, or no longer.
    Gone,
}

/// A file of an export, as it comes.
#[derive(Debug)]
pub struct BulkFile {
    body: Incoming,
    patience: Duration,
}

impl BulkFile {
    /// The next bytes; `None` at the end of the file.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamFailure> {
        loop {
            let frame = timeout(self.patience, self.body.frame()).await.map_err(|_| UpstreamFailure::TimedOut)?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(UpstreamFailure::Unreachable),
                // Trailers are no lines.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(_) => continue,
                },
            }
        }
    }
}

impl Upstream {
    /// Starts an export, and returns where its status is told.
    pub async fn kick_off(&self, request: &UpstreamRequest) -> Result<String, UpstreamFailure> {
        let authorization = self.credential.authorization().await?;
        // One attempt, on one URL: an export that was started twice would run twice.
        let taken = self.pool.take(&[], Instant::now()).ok_or(UpstreamFailure::Unreachable)?;
        let mut request = build(taken.base(), request, authorization)?;
        request.headers_mut().insert("prefer", ASYNC);
        let answer = match self.asked(request).await {
            Ok(answer) => {
                taken.answered(Instant::now());
                answer
            }
            Err(failure) => {
                taken.failed(Instant::now());
                return Err(failure);
            }
        };
        let location = answer.headers().get(CONTENT_LOCATION).and_then(|value| value.to_str().ok());
        match (answer.status(), location) {
            (StatusCode::ACCEPTED, Some(url)) if self.is_own(url) => Ok(url.to_owned()),
            _ => Err(UpstreamFailure::Unintelligible),
        }
    }

    /// How an export stands.
    pub async fn job(&self, url: &str) -> Result<JobStatus, UpstreamFailure> {
        let answer = self.asked(self.at(Method::GET, url).await?).await?;
        match answer.status() {
            StatusCode::ACCEPTED => {
                Ok(JobStatus::Running { retry_after: retry_after(answer.headers(), self.clock.now()) })
            }
            StatusCode::OK => {
                let (head, body) = answer.into_parts();
                decode::json_type(&head.headers)?;
                let encoding = decode::encoding(&head.headers)?;
                let _room = self.room(http_body::Body::size_hint(&body).exact(), encoding).await?;
                let body = timeout(self.timeout, http_body_util::Limited::new(body, self.response_bytes).collect());
                let body = body.await.map_err(|_| UpstreamFailure::TimedOut)?;
                let body = body.map_err(|_| UpstreamFailure::TooLarge)?.to_bytes();
                Ok(JobStatus::Complete(decode::decode(encoding, body, self.response_bytes)?))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(JobStatus::Gone),
            _ => Err(UpstreamFailure::Unintelligible),
        }
    }

    /// Ends an export. `false`: the EHR does not know it.
    pub async fn end_job(&self, url: &str) -> Result<bool, UpstreamFailure> {
        let answer = self.asked(self.at(Method::DELETE, url).await?).await?;
        match answer.status() {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(false),
            _ => Err(UpstreamFailure::Unintelligible),
        }
    }

    /// A file of an export. `None`: the EHR does not have it.
    pub async fn file(&self, url: &str) -> Result<Option<BulkFile>, UpstreamFailure> {
        let mut request = self.at(Method::GET, url).await?;
        request.headers_mut().insert(ACCEPT, NDJSON);
        let answer = self.asked(request).await?;
        match answer.status() {
            StatusCode::OK => {
                ndjson_type(answer.headers())?;
                if decode::encoding(answer.headers())? != decode::Encoding::Identity {
                    return Err(UpstreamFailure::Unintelligible);
                }
                Ok(Some(BulkFile { body: answer.into_body(), patience: self.timeout }))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(UpstreamFailure::Unintelligible),
        }
    }

    /// Is this URL on the EHR's own host and port, by its own scheme?
    pub fn is_own(&self, url: &str) -> bool {
        let origin = |text: &str| {
            let uri: Uri = text.parse().ok()?;
            let authority = uri.authority()?.as_str().to_ascii_lowercase();
            let plain = !authority.contains('@') && !text.contains('#');
            plain.then(|| (uri.scheme_str().unwrap_or_default().to_owned(), authority))
        };
        let dots = url.split(['/', '?']).any(|segment| segment == ".." || segment == ".");
        let own = origin(url);
        !dots && own.is_some() && self.bases.iter().any(|base| origin(base) == own)
    }

    /// A request to one of the EHR's own URLs.
    async fn at(&self, method: Method, url: &str) -> Result<Request<Full<Bytes>>, UpstreamFailure> {
        if !self.is_own(url) {
            return Err(UpstreamFailure::Unintelligible);
        }
        let authorization = self.credential.authorization().await?;
        let mut request = build(url, &UpstreamRequest::get("", ""), authorization)?;
        *request.method_mut() = method;
        Ok(request)
    }

    async fn asked(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, UpstreamFailure> {
        let answer = timeout(self.timeout, self.wire.request(request)).await;
        let answer = answer.map_err(|_| UpstreamFailure::TimedOut)?.map_err(|_| UpstreamFailure::Unreachable)?;
        decode::acceptable(answer.status(), answer.headers(), self.clock.now()).map_err(Ended::failure)?;
        Ok(answer)
    }
}

/// NDJSON in UTF-8, and nothing else.
fn ndjson_type(headers: &HeaderMap) -> Result<(), UpstreamFailure> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let known = ["application/fhir+ndjson", "application/ndjson", "application/x-ndjson"].contains(&media.as_str());
    let utf8 = parts.all(|part| match part.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    });
    if known && utf8 { Ok(()) } else { Err(UpstreamFailure::Unintelligible) }
}
