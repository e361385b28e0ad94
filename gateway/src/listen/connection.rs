//! One connection: pingora reads and writes HTTP/1.1 and HTTP/2, we bound every wait and every size.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ending::{self, Course};
use super::front::{self, FrontRefusal};
use super::{Answer, Connection, Listener, Pieces, Request};

/// pingora's application for one connection.
pub(super) struct ConnectionApp {
    listener: Arc<Listener>,
    connection: Connection,
    course: Arc<Course>,
    /// Turns true when the process ends.
    stop: watch::Receiver<bool>,
    options: HttpServerOptions,
}

impl ConnectionApp {
    pub(super) fn new(
        listener: Arc<Listener>,
        connection: Connection,
        course: Arc<Course>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(10_000);
        options.h2_idle_timeout = Some(listener.bounds.idle);
        Self { listener, connection, course, stop, options }
    }

    /// Resolves if no request was seen within the header deadline; never, once one was.
    pub(super) fn first_request_watchdog(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let app = Arc::clone(self);
        async move {
            if timeout(app.listener.bounds.header, app.course.asked()).await.is_err() {
                return;
            }
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the next request's header. `None`: close the connection without a word.
    async fn read_head(&self, session: &mut ServerSession) -> Option<Result<(), FrontRefusal>> {
        if session.is_http2() {
            return Some(Ok(()));
        }
        let bounds = self.listener.bounds;
        let again = self.course.has_asked();
        let deadline = if again { bounds.idle.saturating_add(bounds.header) } else { bounds.header };
        let (mut stop, since) = (self.stop.clone(), self.course.since());
        let stopped = async move {
            drop(stop.wait_for(|stop| *stop).await);
            // A client that asks in this moment is heard, and told in the answer.
            tokio::time::sleep(if again { ending::AGAIN } else { ending::patience(since) }).await;
        };
        tokio::select! {
            biased;
            read = timeout(deadline, session.read_request()) => match read {
                Ok(Ok(true)) => Some(Ok(())),
                Ok(Ok(false)) => None,
                Ok(Err(error)) if *error.etype() == pingora::ErrorType::InvalidHTTPHeader => {
                    Some(Err(FrontRefusal::Malformed))
                }
                Ok(Err(_)) | Err(_) => None,
            },
            () = stopped => None,
        }
    }

    /// Applies the front filter and reads the body within bounds.
    async fn read_request(&self, session: &mut ServerSession) -> Result<Request, FrontRefusal> {
        let raw = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
        let head = session.req_header();
        let target = front::inspect(head, raw.as_deref(), self.listener.bounds.header_bytes)?;
        let method = head.method.clone();
        let headers = head.headers.clone();
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let authority = host.or_else(|| head.uri.authority().map(|authority| authority.as_str().to_owned()));
        let declared = front::declared_length(&headers)?;
        if declared.is_some_and(|length| length > self.listener.bounds.request_bytes as u64) {
            return Err(FrontRefusal::BodyTooLarge);
        }
        if headers.contains_key(EXPECT) && session.write_continue_response().await.is_err() {
            return Err(FrontRefusal::Disconnected);
        }
        let body = match timeout(self.listener.bounds.body, self.read_body(session)).await {
            Ok(body) => body?,
            Err(_) => return Err(FrontRefusal::TooSlow),
        };
        Ok(Request { method, authority, path: target.path, query: target.query, headers, body })
    }

    async fn read_body(&self, session: &mut ServerSession) -> Result<Bytes, FrontRefusal> {
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        loop {
            let Some(piece) = session.read_request_body().await.map_err(|_| FrontRefusal::Disconnected)? else {
                break;
            };
            let so_far = first.as_ref().map_or(0, Bytes::len).saturating_add(rest.len());
            if so_far.saturating_add(piece.len()) > self.listener.bounds.request_bytes {
                return Err(FrontRefusal::BodyTooLarge);
            }
            if first.is_none() && rest.is_empty() {
                first = Some(piece);
            } else {
                if let Some(first) = first.take() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&piece);
            }
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    }

    /// Sends the answer. `true`: the connection may serve another request.
    async fn write(&self, session: &mut ServerSession, answer: Answer, no_body: bool) -> bool {
        let Answer { status, headers, body, rest, ending } = answer;
        let length = rest.is_none().then_some(body.len());
        let body = if no_body { Bytes::new() } else { body };
        let (sent, complete) = match (head_of(status, headers, length, session.is_http2()), rest) {
            (Some(head), Some(rest)) if !no_body => send_pieces(session, head, body, rest).await,
            (Some(head), _) => send(session, head, body).await,
            (None, _) => (0, false),
        };
        if let Some(ending) = ending {
            ending.ended(sent, complete);
        }
        complete
    }
}

/// `length`: of the body, where it is known. HTTP/2 frames need no word about it.
fn head_of(status: StatusCode, headers: http::HeaderMap, length: Option<usize>, http2: bool) -> Option<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(headers.len().saturating_add(1))).ok()?;
    for (name, value) in &headers {
        head.append_header(name.clone(), value.clone()).ok()?;
    }
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        match length {
            Some(length) => head.insert_header(CONTENT_LENGTH, HeaderValue::from(length as u64)).ok()?,
            None if http2 => {}
            None => head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked")).ok()?,
        }
    }
    Some(head)
}

async fn send(session: &mut ServerSession, head: ResponseHeader, body: Bytes) -> (usize, bool) {
    if session.write_response_header(Box::new(head)).await.is_err() {
        return (0, false);
    }
    let length = body.len();
    match session.write_response_body(body, true).await {
        Ok(()) => (length, true),
        Err(_) => (session.body_bytes_sent(), false),
    }
}

/// Sends a body whose rest is made on the way. One that breaks is never ended properly: the client sees it cut off.
async fn send_pieces(
    session: &mut ServerSession,
    head: ResponseHeader,
    first: Bytes,
    mut rest: Box<dyn Pieces>,
) -> (usize, bool) {
    if session.write_response_header(Box::new(head)).await.is_err() {
        return (0, false);
    }
    let mut piece = Some(Ok(first));
    let mut sent = 0_usize;
    while let Some(bytes) = piece {
        let Ok(bytes) = bytes else { return (sent, false) };
        let length = bytes.len();
        // An empty chunk would end an HTTP/1.1 body.
        if length > 0 && session.write_response_body(bytes, false).await.is_err() {
            return (sent, false);
        }
        sent = sent.saturating_add(length);
        piece = rest.next().await;
    }
    (sent, session.write_response_body(Bytes::new(), true).await.is_ok())
}

#[async_trait]
impl HttpServerApp for ConnectionApp {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _told: &watch::Receiver<bool>,
    ) -> Option<ReusedHttpStream> {
        let bounds = self.listener.bounds;
        session.set_keepalive(Some(bounds.idle.as_secs()));
        session.set_read_timeout(Some(bounds.body));
        session.set_write_timeout(Some(bounds.body));
        session.set_total_drain_timeout(Some(Duration::from_secs(1)));
        let Some(head) = self.read_head(&mut session).await else {
            ending::close(session).await;
            return None;
        };
        let under_way = (self.listener.in_flight.request(), self.course.ask());
        let request = match head {
            Ok(()) => self.read_request(&mut session).await,
            Err(refusal) => Err(refusal),
        };
        let head_only = request.as_ref().is_ok_and(|request| request.method == http::Method::HEAD);
        let mut close = *self.stop.borrow();
        let mut answer = match request {
            Ok(request) => self.listener.application.answer(&self.connection, request).await,
            Err(FrontRefusal::Disconnected) => return None,
            Err(refusal) => {
                close = true;
                self.listener.application.refuse(&self.connection, refusal).await
            }
        };
        close |= *self.stop.borrow();
        if close {
            session.set_keepalive(None);
            if session.as_http1().is_some() {
                answer.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        let complete = self.write(&mut session, answer, head_only).await;
        if !complete || close {
            if session.is_http2() {
                // An aborted stream ends by RST_STREAM when the session is dropped unfinished.
                if complete {
                    session.finish().await.ok()?;
                }
                return None;
            }
            drop(under_way);
            ending::close(session).await;
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_header_list_size(u32::try_from(self.listener.bounds.header_bytes).unwrap_or(16 * 1024));
        options.max_concurrent_streams(100);
        options.max_concurrent_reset_streams(20);
        options.max_pending_accept_reset_streams(20);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// `HTTP/1.1` and `HTTP/2` alone.
pub(super) fn served_version(version: Version) -> bool {
    version == Version::HTTP_11 || version == Version::HTTP_2
}
