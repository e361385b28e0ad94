//! `GET /lockdowns`, `POST /lockdowns`, `POST /lockdowns/{id}/lift`: what stops a leak, by one command or one click.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

use super::Admin;
use crate::lockdown::OrderRefused;

pub(super) async fn list(State(admin): State<Admin>) -> Response {
    match admin.operations.lockdowns().await {
        Ok(lockdowns) => Json(serde_json::json!({"lockdowns": *lockdowns})).into_response(),
        Err(refused) => refuse(refused),
    }
}

pub(super) async fn begin(State(admin): State<Admin>, body: String) -> Response {
    let Ok(order) = serde_json::from_str(&body) else {
        let form = r#"the body is {"scope": "part2" | {"partner": {"client_id": …}} | {"user": {"issuer": …, "sub": …}} | {"endpoint": {"name": …}}, "until": "2026-01-31T00:00:00Z", "reason": …, "by": …}"#;
        return (StatusCode::BAD_REQUEST, format!("{form}\n")).into_response();
    };
    match admin.operations.lock_down(order).await {
        Ok(lockdown) => (StatusCode::CREATED, Json(lockdown)).into_response(),
        Err(refused) => refuse(refused),
    }
}

pub(super) async fn lift(State(admin): State<Admin>, Path(id): Path<String>, body: String) -> Response {
    let Ok(lifting) = serde_json::from_str(&body) else {
        return (StatusCode::BAD_REQUEST, "the body is {\"reason\": …, \"by\": …}\n").into_response();
    };
    match admin.operations.lift(&id, lifting).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => refuse(refused),
    }
}

fn refuse(refused: OrderRefused) -> Response {
    let status = match refused {
        OrderRefused::Unexplained | OrderRefused::End => StatusCode::BAD_REQUEST,
        OrderRefused::Unknown => StatusCode::NOT_FOUND,
        OrderRefused::NotShared | OrderRefused::NotRecorded | OrderRefused::NotLifted | OrderRefused::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, format!("{refused}\n")).into_response()
}
