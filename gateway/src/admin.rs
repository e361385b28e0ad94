//! The admin listener: health, metrics, decisions, the running configuration, and the few acts of an operator.
//!
//! It serves loopback without TLS, or mTLS with roles (the configuration refuses anything else off loopback). Every act, every
//! look at what may name a patient, and every refusal of one is put on record first. A browser page of another origin must
//! not act through it: the `Host` has to be the listener's own, and acts need a header that forms cannot set.

mod access;
mod dashboard;
mod lockdowns;
mod revocations;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use access::Need;
pub use access::{AdminConnection, Caller};
pub use revocations::{NotRevoked, Ordered};

use crate::config::AdminRole;
use crate::dashboard::Board;
use crate::lockdown::{Lifting, Order, OrderRefused};
use crate::state::Lockdown;
use crate::telemetry::Metrics;

/// One thing that readiness depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub ready: bool,
    /// For the operator: what is wrong and what to do. Nothing of a request.
    pub detail: String,
}

/// What the admin listener asks of the running gateway.
#[async_trait]
pub trait Operations: Send + Sync + 'static {
    /// Has the first good generation gone live?
    fn started(&self) -> bool;
    /// Every part that readiness depends on, draining among them.
    fn checks(&self) -> Vec<Check>;
    /// The running configuration with secrets blanked.
    fn configuration(&self) -> String;
    /// The decision record as JSON, explained in words, or `None`.
    fn decision(&self, id: &str) -> Option<serde_json::Value>;
    /// Forgets cached consents: of one patient, or of all.
    fn consents_changed(&self, patient: Option<&str>);
    /// The latest signed head of the audit log, to be kept where its own host cannot reach.
    fn audit_head(&self) -> Option<serde_json::Value>;
    /// The lockdowns in force.
    async fn lockdowns(&self) -> Result<Arc<[Lockdown]>, OrderRefused>;
    /// Begins a lockdown on every replica.
    async fn lock_down(&self, order: Order) -> Result<Lockdown, OrderRefused>;
    /// Ends a lockdown before its time.
    async fn lift(&self, id: &str, lifting: Lifting) -> Result<(), OrderRefused>;
    /// Ends tokens from the next request on, on every replica; the act is on record first.
    async fn revoke(&self, ordered: Ordered) -> Result<(), NotRevoked>;
    /// Who has which role, in the generation that serves.
    fn roles(&self) -> Vec<AdminRole>;
    /// Puts an act on record. `false`: it could not be, and must not be carried out.
    async fn note(&self, act: serde_json::Value) -> bool;
    /// Everything that the dashboard shows.
    async fn board(&self) -> Board;
    /// The time by the gateway's clock.
    fn now(&self) -> OffsetDateTime;
    /// The names under which this listener may be addressed.
    fn hosts(&self) -> Vec<String>;
}

/// The state of the admin routes.
#[derive(Clone)]
pub struct Admin {
    pub operations: Arc<dyn Operations>,
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin(..)")
    }
}

/// The header that every act must carry: a cross-site form cannot set it, a cross-site script may not without preflight.
pub const ACT_HEADER: &str = "x-fhirwall-admin";

/// The admin routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(dashboard::overview))
        .route("/dashboard.css", get(dashboard::style))
        .route("/acts", post(dashboard::act))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startupz", get(startupz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/config", get(configuration))
        .route("/decisions/{id}", get(decision))
        .route("/audit/head", get(audit_head))
        .route("/lockdowns", get(lockdowns::list).post(lockdowns::begin))
        .route("/lockdowns/{id}/lift", post(lockdowns::lift))
        .route("/consents/changed", post(consents_changed))
        .route("/revocations", post(revocations::order))
        .layer(middleware::from_fn_with_state(admin.clone(), guard))
        .with_state(admin)
}

async fn guard(
    State(admin): State<Admin>,
    Extension(connection): Extension<AdminConnection>,
    mut request: Request,
    next: Next,
) -> Response {
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned));
    // DNS rebinding: a name of someone else's that resolves to this address. Over TLS the certificate is not for that name.
    let plain = matches!(connection, AdminConnection::Loopback);
    if plain && !host.as_ref().is_some_and(|host| admin.operations.hosts().contains(host)) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let acts = !matches!(*request.method(), http::Method::GET | http::Method::HEAD);
    if acts && !request.headers().contains_key(ACT_HEADER) && !is_own_page(&request, host.as_deref()) {
        return (StatusCode::FORBIDDEN, format!("send the header {ACT_HEADER}: 1\n")).into_response();
    }
    let caller = Caller::on(&connection, &admin.operations.roles());
    let need = Need::of(request.method(), request.uri());
    let allowed = need.is_met_by(&caller);
    if need.is_recorded() {
        let act = serde_json::json!({
            "admin": { "by": caller.name(), "method": request.method().as_str(), "path": request.uri().path(), "allowed": allowed },
        });
        if !admin.operations.note(act).await {
            return (StatusCode::SERVICE_UNAVAILABLE, "this cannot be put on record, so it is not done\n")
                .into_response();
        }
    }
    if !allowed {
        return (StatusCode::FORBIDDEN, "this takes a role that your certificate does not have\n").into_response();
    }
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_FRAME_OPTIONS, header::HeaderValue::from_static("DENY"));
    response
}

/// Does a page of this listener ask? Browsers name the origin of every form that is sent (Fetch, section 3.2), and no page of
/// another origin can name the host that it sends to.
fn is_own_page(request: &Request, host: Option<&str>) -> bool {
    let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.and_then(|origin| origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")));
    origin.is_some() && origin == host
}

async fn startupz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.operations.started() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") }
}

async fn readyz(State(admin): State<Admin>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let checks = admin.operations.checks();
    let ready = admin.operations.started() && checks.iter().all(|check| check.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query.iter().any(|(name, _)| name == "verbose") {
        return (status, Json(serde_json::json!({ "ready": ready, "checks": checks }))).into_response();
    }
    (status, if ready { "ok\n" } else { "not ready\n" }).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn configuration(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], admin.operations.configuration()).into_response()
}

async fn decision(State(admin): State<Admin>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (operations, asked) = (Arc::clone(&admin.operations), id.clone());
    // An older one is looked for in the files of the log.
    match tokio::task::spawn_blocking(move || operations.decision(&asked)).await.ok().flatten() {
        // Browsers name it first; programs do not name it at all.
        Some(record) if accept.is_some_and(|accept| accept.contains("text/html")) => {
            dashboard::decision(&admin, &id, &record).await
        }
        Some(record) => Json(record).into_response(),
        None => (StatusCode::NOT_FOUND, "no such decision is on record\n").into_response(),
    }
}

async fn audit_head(State(admin): State<Admin>) -> Response {
    match admin.operations.audit_head() {
        Some(head) => Json(head).into_response(),
        None => (StatusCode::NOT_FOUND, "nothing is signed yet\n").into_response(),
    }
}

/// The body of `POST /consents/changed`; empty means all patients.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    patient: Option<String>,
}

async fn consents_changed(State(admin): State<Admin>, _headers: HeaderMap, body: String) -> Response {
    let changed = if body.trim().is_empty() { Ok(Changed::default()) } else { serde_json::from_str(&body) };
    match changed {
        Ok(changed) => {
            admin.operations.consents_changed(changed.patient.as_deref());
            StatusCode::NO_CONTENT.into_response()
        }
        Err(_) => (StatusCode::BAD_REQUEST, "the body is {\"patient\": \"<logical id>\"} or empty\n").into_response(),
    }
}
