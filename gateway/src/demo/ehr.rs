//! The sample EHR: a small in-memory FHIR R4 server over TLS, for the demo and for tests of the gateway.
//!
//! It trusts the gateway's certificate and shows it everything, labels included: what partners see is the gateway's work.
//! It keeps a log of every request, and can be told to misbehave.

mod answer;
mod bundle;
mod export;
mod operation;
pub(crate) mod patch;
mod rest;
mod search;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use fhirwall_certs::server::ServerTls;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::clock::Clock;
use crate::demo::tls_server::{Peer, TlsServer};

/// A request that reached the sample EHR.
#[derive(Clone)]
pub struct SeenRequest {
    pub method: Method,
    /// The path as received, below the server's root.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The subject of the client certificate that it came with.
    pub peer: Option<String>,
}

impl fmt::Debug for SeenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The ways in which an EHR's answer can be wrong.
#[derive(Clone, Debug)]
pub enum Misbehaviour {
    /// The JSON ends early, with a correct length.
    TruncatedJson,
    /// `resourceType` and `id` occur twice.
    DuplicateKeys,
    /// A small gzip body that is huge when decoded.
    GzipBomb,
    /// A good answer whose `Location` and `Content-Location` are this.
    Located(String),
    /// A good body, packed as this content coding wants it, as far as the sample EHR knows it; it says so in any case.
    Encoded(&'static str),
    /// A good body in small pieces, without a length; `whole: false` breaks off before the last.
    InPieces { whole: bool },
    /// A good body that says it is `text/html`.
    WrongContentType,
    /// The connection dies in the middle of the body.
    DieMidAnswer,
    /// The answer comes late.
    Slow(Duration),
    /// 302 to this location.
    Redirect(String),
    /// 500 with a stack trace that names a patient.
    ServerError,
    /// 503 with `Retry-After`.
    Unavailable,
    /// A body of this many bytes.
    Huge(usize),
    /// Exactly this body, as FHIR JSON, with status 200.
    Body(Vec<u8>),
    /// Half of this body, and the other half when it is let go.
    Held(Vec<u8>, Arc<tokio::sync::Notify>),
}

/// The sample EHR, running. It stops when dropped.
pub struct EhrServer {
    server: TlsServer,
    ehr: Arc<Ehr>,
}

impl fmt::Debug for EhrServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EhrServer").field("address", &self.server.address()).finish_non_exhaustive()
    }
}

struct Ehr {
    clock: Arc<dyn Clock>,
    base: std::sync::OnceLock<String>,
    state: Mutex<EhrState>,
}

#[derive(Default)]
struct EhrState {
    store: store::Store,
    log: Vec<SeenRequest>,
    questions: usize,
    /// By resource type; `None` is every request.
    misbehaviour: HashMap<Option<String>, Misbehaviour>,
    /// The rest of a search, by the token of its next page.
    pages: HashMap<String, rest::Rest>,
    /// Bulk exports, by the name of the job.
    jobs: HashMap<String, export::Job>,
    no_transactions: bool,
}

impl Ehr {
    fn state(&self) -> MutexGuard<'_, EhrState> {
        // A panic elsewhere must not hide the log from the test that looks for its cause.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn base(&self) -> &str {
        self.base.get().map_or("", String::as_str)
    }
}

impl EhrServer {
    /// Starts on loopback, with the sample patients. `tls` should require the gateway's certificate.
    pub async fn start(tls: &ServerTls, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), tls, clock).await
    }

    /// As [`EhrServer::start`], at this address: one that was stopped comes back.
    pub async fn start_at(address: SocketAddr, tls: &ServerTls, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let mut state = EhrState::default();
        let now = clock.now();
        for resource in crate::demo::patients::resources(now) {
            state.store.seed(resource, now - time::Duration::days(30));
        }
        let ehr = Arc::new(Ehr { clock, base: std::sync::OnceLock::new(), state: Mutex::new(state) });
        let router = Router::new().fallback(answer_request).with_state(Arc::clone(&ehr));
        let server = TlsServer::start(address, tls, router).await?;
        // A second call cannot happen: the cell was made above.
        ehr.base.get_or_init(|| format!("https://{}/fhir", server.address()));
        Ok(Self { server, ehr })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The FHIR base: `https://127.0.0.1:port/fhir`.
    pub fn base_url(&self) -> String {
        self.ehr.base().to_owned()
    }

    /// Every request received since the start or the last [`EhrServer::forget`], but for requests for the
    /// CapabilityStatement: with these the gateway asks of its own accord whether the EHR is well.
    pub fn log(&self) -> Vec<SeenRequest> {
        self.ehr.state().log.clone()
    }

    /// How often the CapabilityStatement was asked for.
    pub fn health_questions(&self) -> usize {
        self.ehr.state().questions
    }

    /// Empties the log.
    pub fn forget(&self) {
        self.ehr.state().log.clear();
    }

    /// From now on, requests for `kind` (or all, for `None`) are answered like this.
    pub fn misbehave(&self, kind: Option<&str>, how: Misbehaviour) {
        self.ehr.state().misbehaviour.insert(kind.map(str::to_owned), how);
    }

    /// Ends all misbehaviour.
    pub fn behave(&self) {
        self.ehr.state().misbehaviour.clear();
    }

    /// From now on the EHR says that it carries out no Bundles.
    pub fn offer_no_transactions(&self) {
        self.ehr.state().no_transactions = true;
    }

    /// Writes a resource with a `resourceType` and an `id`, behind the gateway's back.
    pub fn put(&self, resource: Value) {
        let now = self.ehr.clock.now();
        self.ehr.state().store.seed(resource, now);
    }

    /// Deletes a resource behind the gateway's back.
    pub fn delete(&self, kind: &str, id: &str) {
        let now = self.ehr.clock.now();
        self.ehr.state().store.delete(kind, id, None, now);
    }

    /// The current version of a resource, as stored.
    pub fn resource(&self, kind: &str, id: &str) -> Option<Value> {
        self.ehr.state().store.current(kind, id)?.resource.clone()
    }
}

async fn answer_request(State(ehr): State<Arc<Ehr>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
        return answer::outcome(http::StatusCode::BAD_REQUEST, "invalid", "the body did not arrive whole");
    };
    let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.0.as_ref()).map(|peer| peer.subject.clone());
    let seen = SeenRequest {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body: body.to_vec(),
        peer,
    };
    let misbehaviour = {
        let mut state = ehr.state();
        if seen.path.ends_with("/metadata") {
            state.questions = state.questions.saturating_add(1);
        } else {
            state.log.push(seen.clone());
        }
        let kind = seen.path.split('/').nth(2).unwrap_or_default().to_owned();
        state.misbehaviour.get(&Some(kind)).or_else(|| state.misbehaviour.get(&None)).cloned()
    };
    let proper = rest::answer(&ehr, &seen);
    match misbehaviour {
        None => proper,
        Some(how) => answer::spoiled(how, proper).await,
    }
}
