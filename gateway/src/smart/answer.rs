//! Answers of the OAuth endpoints: errors by RFC 6749, never cached, never framed.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, PRAGMA, REFERRER_POLICY, SET_COOKIE,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use maud::{DOCTYPE, Markup, html};
use serde_json::{Value, json};

/// An answer with its whole body.
pub type Answer = Response<Bytes>;

/// An error of RFC 6749 (4.1.2.1, 5.2), OpenID Connect, or RFC 9449, with words for the client's developer.
///
/// The words are ours and fixed: nothing of the request or of an issuer's answer stands in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthError {
    pub code: ErrorCode,
    pub words: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    InvalidScope,
    AccessDenied,
    ServerError,
    TemporarilyUnavailable,
    InvalidDpopProof,
    UseDpopNonce { nonce: String },
}

impl ErrorCode {
    pub const fn text(&self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce { .. } => "use_dpop_nonce",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::UnsupportedResponseType
            | Self::InvalidScope
            | Self::AccessDenied
            | Self::InvalidDpopProof
            | Self::UseDpopNonce { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

impl OauthError {
    pub const fn new(code: ErrorCode, words: &'static str) -> Self {
        Self { code, words }
    }

    /// The answer of a token, introspection or revocation endpoint (RFC 6749 section 5.2).
    pub fn answer(&self) -> Answer {
        let body = json!({"error": self.code.text(), "error_description": self.words});
        let mut answer = json_answer(self.code.status(), &body);
        if self.code == ErrorCode::InvalidClient {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
        }
        if let ErrorCode::UseDpopNonce { nonce } = &self.code
            && let Ok(nonce) = HeaderValue::from_str(nonce)
        {
            answer.headers_mut().insert(HeaderName::from_static("dpop-nonce"), nonce);
        }
        answer
    }
}

/// JSON that no cache keeps (SMART App Launch 2.2, token response).
pub fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    no_cache(&mut answer, HeaderValue::from_static("application/json"));
    answer
}

/// Sends the browser on. With a target that cannot stand in a header there is no answer but an error page.
pub fn redirect(target: &str, cookies: &[String]) -> Answer {
    let Ok(location) = HeaderValue::from_str(target) else {
        return page(
            StatusCode::BAD_REQUEST,
            "Sign-in cannot go on",
            html! { p { "The app sent an address that cannot be used." } },
        );
    };
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    no_cache(&mut answer, HeaderValue::from_static("text/plain"));
    answer.headers_mut().insert(LOCATION, location);
    for cookie in cookies {
        if let Ok(cookie) = HeaderValue::from_str(cookie) {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    answer
}

/// A page of our own: no scripts, no foreign content, not in a frame.
pub fn page(status: StatusCode, title: &str, content: Markup) -> Answer {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (STYLE) }
            }
            body { main { h1 { (title) } (content) } }
        }
    };
    let mut answer = Response::new(Bytes::from(markup.into_string()));
    *answer.status_mut() = status;
    no_cache(&mut answer, HeaderValue::from_static("text/html; charset=utf-8"));
    let headers = answer.headers_mut();
    // The style is the only thing inline; `form-action` is left to the page, since a form's redirect must reach the app.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        ),
    );
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}

/// A page that says that sign-in cannot go on, when there is nowhere safe to send the browser.
pub fn error_page(words: &str) -> Answer {
    page(
        StatusCode::BAD_REQUEST,
        "Sign-in cannot go on",
        html! {
            p { "The app asked for something that cannot be done safely: " (words) "." }
            p { "Nothing was shared. Close this page and start again from the app; if that does not help, tell its makers." }
        },
    )
}

fn no_cache(answer: &mut Answer, content_type: HeaderValue) {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Codes and states stand in URLs here: no page visited next may learn them.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

const STYLE: &str = "body{font:1.05rem/1.5 system-ui,sans-serif;color:#1b1b1b;background:#f4f5f7;margin:0}\
main{max-width:36rem;margin:2rem auto;background:#fff;padding:1.5rem 2rem;border-radius:.5rem;\
box-shadow:0 1px 3px rgb(0 0 0/.2)}@media(max-width:40rem){main{margin:0;border-radius:0;padding:1rem}}\
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 1rem}\
fieldset{border:1px solid #767676;border-radius:.4rem;margin:1.25rem 0;padding:.5rem 1rem .75rem}\
legend{font-weight:600;padding:0 .4rem}label{display:flex;gap:.7rem;align-items:flex-start;padding:.4rem 0}\
input[type=checkbox],input[type=radio]{flex:none;width:1.25rem;height:1.25rem;margin:.15rem 0 0;accent-color:#0b57d0}\
button{font:inherit;padding:.6rem 1.4rem;border-radius:.4rem;border:2px solid #0b57d0;background:#0b57d0;color:#fff;\
margin:.25rem .8rem .25rem 0;cursor:pointer}button.no{background:#fff;color:#0b57d0}\
:focus-visible{outline:3px solid #a04b00;outline-offset:2px}.small{font-size:.95rem;color:#444}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_json_and_never_cached() {
        let answer = OauthError::new(ErrorCode::InvalidClient, "the client is unknown").answer();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers()[PRAGMA], "no-cache");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body, json!({"error": "invalid_client", "error_description": "the client is unknown"}));
    }

    #[test]
    fn pages_cannot_be_framed_scripted_or_escaped_into() {
        let answer = error_page("<script>alert(1)</script>");
        assert_eq!(answer.headers()[X_FRAME_OPTIONS], "DENY");
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!String::from_utf8(answer.body().to_vec()).unwrap().contains("<script>"));
    }
}
