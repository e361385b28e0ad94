//! A login under way at another server: bound to one browser by a cookie, to one attempt by `state`.

use http::HeaderMap;
use http::header::COOKIE;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::authorize::AuthorizeRequest;
use super::parameters::Parameters;
use super::pkce;
use super::seal::{Broken, LOGIN_LIFETIME, Purpose, Seal, random};

/// What must be known again when the browser comes back. Sealed in a cookie of that browser.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    pub request: AuthorizeRequest,
    /// Our own `state`, `nonce` and PKCE verifier towards the other server.
    pub state: String,
    pub nonce: String,
    pub verifier: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Why the browser cannot be let in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotThisBrowser {
    /// Nothing is under way here with this `state`: another browser, too late, or never started.
    Unknown,
    /// The answer is another server's (RFC 9207): mix-up.
    AnotherServer,
}

impl Login {
    pub fn start(request: AuthorizeRequest) -> Result<Self, Broken> {
        Ok(Self { request, state: random()?, nonce: random()?, verifier: random()? })
    }

    pub fn challenge(&self) -> String {
        pkce::challenge_of(&self.verifier)
    }

    /// The cookie that keeps it. `__Host-`: this host alone, over TLS alone; `Lax`, since the way back is a cross-site
    /// navigation.
    pub fn cookie(&self, seal: &Seal, now: OffsetDateTime) -> Result<String, Broken> {
        let sealed = seal.seal(Purpose::Login, self, now + LOGIN_LIFETIME)?;
        Ok(set_cookie(&cookie_name(&self.state), &sealed, LOGIN_LIFETIME.whole_seconds(), "Lax"))
    }

    /// Takes the login up again from what the browser brings: the cookie that belongs to the `state`, and, from a
    /// server that says who it is, the right `iss`.
    pub fn resume(
        headers: &HeaderMap,
        parameters: &Parameters,
        seal: &Seal,
        server: &str,
        server_sends_iss: bool,
        now: OffsetDateTime,
    ) -> Result<Self, NotThisBrowser> {
        let state = parameters.get("state").ok_or(NotThisBrowser::Unknown)?;
        let sealed = cookie(headers, &cookie_name(state)).ok_or(NotThisBrowser::Unknown)?;
        let login: Self = seal.open(Purpose::Login, sealed, now).map_err(|_| NotThisBrowser::Unknown)?;
        if login.state != state {
            return Err(NotThisBrowser::Unknown);
        }
        match parameters.get("iss") {
            Some(iss) if iss != server => Err(NotThisBrowser::AnotherServer),
            None if server_sends_iss => Err(NotThisBrowser::AnotherServer),
            Some(_) | None => Ok(login),
        }
    }

    /// The header that takes the cookie away.
    pub fn forget(&self) -> String {
        set_cookie(&cookie_name(&self.state), "", 0, "Lax")
    }
}

/// One cookie for each attempt: two tabs do not overwrite each other.
fn cookie_name(state: &str) -> String {
    let id: String = state.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("__Host-fw-{id}")
}

pub(super) fn set_cookie(name: &str, value: &str, seconds: i64, same_site: &str) -> String {
    format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={seconds}")
}

/// The value of a cookie that is there exactly once.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(own, _)| *own == name)
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}
