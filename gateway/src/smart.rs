//! SMART App Launch at the gateway: discovery, and the authorization endpoints where the gateway has a part in them.
//!
//! Refused here: PKCE `plain` or none, redirects that are not registered to the letter, scopes beyond a registration,
//! codes and assertions used twice, refresh tokens that were rotated away.

pub mod answer;
pub mod authorize;
pub mod broker;
pub mod client_keys;
pub mod clients;
pub mod cors;
pub mod front;
pub mod login;
pub mod metadata;
pub mod parameters;
pub mod pkce;
pub mod remote;
pub mod request;
pub mod scopes;
pub mod seal;
pub mod signing;
pub mod tokeninfo;
pub mod upstream;
pub mod wellknown;

use http::StatusCode;
use http::header::ALLOW;

use self::answer::{Answer, ErrorCode, OauthError};
use self::broker::Broker;
use self::front::Front;
use self::request::{AuthEndpoint, AuthRequest};

/// The authorization server at `{base_url}/auth/`, in the modes that have one.
#[derive(Debug)]
pub enum AuthServer {
    Front(Box<Front>),
    Broker(Box<Broker>),
}

impl AuthServer {
    /// Does it sign id_tokens itself, so that sign-on can be offered?
    pub fn signs_id_tokens(&self) -> bool {
        match self {
            Self::Front(_) => false,
            Self::Broker(broker) => broker.signs_id_tokens(),
        }
    }

    /// Answers what stands at this path below `{base_url}/auth/`; `None` when nothing does.
    pub async fn answer(&self, path: &str, request: &AuthRequest<'_>) -> Option<Answer> {
        let endpoint = AuthEndpoint::at(path)?;
        if !endpoint.takes(request.method) {
            let mut answer = OauthError::new(ErrorCode::InvalidRequest, "another method is needed here").answer();
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            answer.headers_mut().insert(ALLOW, endpoint.allowed());
            return Some(answer);
        }
        match self {
            Self::Front(front) => front.answer(endpoint, request).await,
            Self::Broker(broker) => Some(broker.answer(endpoint, request).await),
        }
    }
}
