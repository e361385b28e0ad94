//! `POST /revocations`: tokens ended by an operator, or at a patient's direction (45 CFR 170.315(g)(10)(vi)).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use thiserror::Error;

use super::Admin;
use crate::state::Revocation;

/// Who ends which tokens, and why.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// `{"token": {"issuer", "id"}}`, `{"user": {"issuer", "sub"}}`, `{"partner": {"client_id"}}` or
    /// `{"grant": {"client_id", "patient"}}`.
    pub what: Revocation,
    pub by: String,
    pub reason: String,
}

/// Why nothing was ended. For the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotRevoked {
    #[error("the act cannot be recorded: free the audit log first")]
    Audit,
    #[error("the shared state is out of reach: the replicas would not know")]
    State,
}

const SHAPE: &str = "the body is {\"what\": …, \"by\": \"<who>\", \"reason\": \"<why>\"}, where `what` is one of\n  \
    {\"token\": {\"issuer\": …, \"id\": \"<jti>\"}}\n  {\"user\": {\"issuer\": …, \"sub\": …}}\n  \
    {\"partner\": {\"client_id\": …}}\n  {\"grant\": {\"client_id\": …, \"patient\": …}}\n";

pub(super) async fn order(State(admin): State<Admin>, body: String) -> Response {
    let Some(ordered) = serde_json::from_str::<Ordered>(&body).ok().filter(Ordered::says_who_and_why) else {
        return (StatusCode::BAD_REQUEST, SHAPE).into_response();
    };
    match admin.operations.revoke(ordered).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

impl Ordered {
    fn says_who_and_why(&self) -> bool {
        !self.by.trim().is_empty() && !self.reason.trim().is_empty()
    }
}
