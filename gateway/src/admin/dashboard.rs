//! The dashboard's routes: the page, its style, and the acts that an operator confirms.

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use time::Duration;

use super::{Admin, Caller};
use crate::config::Role;
use crate::dashboard::{Act, CONTENT_SECURITY_POLICY, May, STYLE, confirm, explained, page};
use crate::lockdown::{Lifting, Order, OrderRefused};
use crate::state::LockdownScope;

/// A form of the page. All fields but `act` depend on the act.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    act: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    hours: u16,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    confirmed: String,
}

impl Wanted {
    fn act(&self) -> Option<Act> {
        let (hours, reason) = (self.hours, self.reason.clone());
        match self.act.as_str() {
            "suspend" => Some(Act::Suspend { client_id: self.client_id.clone(), hours, reason }),
            "withhold-part2" => Some(Act::WithholdPart2 { hours, reason }),
            "lift" => Some(Act::Lift { id: self.id.clone() }),
            _ => None,
        }
    }
}

/// What the page was reached with: the act that was just carried out.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    done: Option<String>,
}

impl After {
    /// One of our own sentences; what else an address may say is not shown.
    fn notice(&self) -> Option<&'static str> {
        let done = self.done.as_deref()?;
        Act::DONE.iter().find(|(name, _)| *name == done).map(|(_, says)| *says)
    }
}

fn may(caller: &Caller) -> May {
    May { act: caller.may(Role::Operator), explain: caller.may(Role::Privacy) }
}

pub(super) async fn overview(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Query(after): Query<After>,
) -> Response {
    let look = serde_json::json!({"admin": {"by": caller.name(), "method": "GET", "path": "/", "allowed": true}});
    if !admin.operations.note(look).await {
        return (StatusCode::SERVICE_UNAVAILABLE, "this cannot be put on record, so it is not shown\n").into_response();
    }
    let board = admin.operations.board().await;
    shown(page(&board, may(&caller), after.notice()))
}

/// A decision as a page. The look at it is on record already: the path needs a role.
pub(super) async fn decision(admin: &Admin, id: &str, record: &serde_json::Value) -> Response {
    shown(explained(&admin.operations.board().await, id, record))
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// Asks for a confirmation, and acts on it.
pub(super) async fn act(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Form(wanted): Form<Wanted>,
) -> Response {
    let Some(act) = wanted.act() else { return StatusCode::BAD_REQUEST.into_response() };
    if wanted.confirmed != "yes" {
        let board = admin.operations.board().await;
        return shown(confirm(&board, &act));
    }
    let done = act.name();
    match carry_out(&admin, &caller, act).await {
        Ok(()) => Redirect::to(&format!("/?done={done}")).into_response(),
        Err(refused) => {
            let board = admin.operations.board().await;
            let mut answer = shown(page(&board, may(&caller), Some(&format!("Not done as asked: {refused}."))));
            *answer.status_mut() = StatusCode::CONFLICT;
            answer
        }
    }
}

async fn carry_out(admin: &Admin, caller: &Caller, act: Act) -> Result<(), OrderRefused> {
    let by = format!("{}, at the dashboard", caller.name());
    let (scope, hours, reason) = match act {
        Act::Lift { id } => {
            let lifting = Lifting { reason: "lifted at the dashboard".to_owned(), by };
            return admin.operations.lift(&id, lifting).await;
        }
        Act::Suspend { client_id, hours, reason } => (LockdownScope::Partner { client_id }, hours, reason),
        Act::WithholdPart2 { hours, reason } => (LockdownScope::Part2, hours, reason),
    };
    let until = admin.operations.now() + Duration::hours(i64::from(hours));
    admin.operations.lock_down(Order { scope, until, reason, by }).await.map(drop)
}

fn shown(page: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    (headers, Html(page)).into_response()
}
