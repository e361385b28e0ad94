//! The authorization request (SMART App Launch 2.2, "Obtain authorization code"), checked before anybody signs in.

use std::fmt;

use fhirwall_policy::partner::Status;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::answer::{Answer, ErrorCode, OauthError, error_page, redirect};
use super::parameters::Parameters;
use super::{pkce, scopes};
use crate::identify::partners::{ClientType, Partners};
use crate::identify::sha256;
use crate::identify::state::ReplayCache;

/// Below this a `state` protects nobody: refused. Below 22 (about 122 bits in base64url) it is only warned about,
/// because working apps are out there.
const SHORTEST_STATE: usize = 8;
const STRONG_STATE: usize = 22;
/// What a client may want asked once more (OpenID Connect Core 1.0 section 3.1.2.1). `none` is not among them: nobody is
/// signed in here without a page.
const PROMPTS: [&str; 3] = ["login", "consent", "select_account"];
/// How long a `state` is remembered as used.
const STATE_MEMORY: Duration = Duration::hours(1);

/// A sound request of a registered client. It travels sealed, through login and consent, to the code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizeRequest {
    pub client_id: String,
    pub redirect_uri: String,
    /// Cut to the registration.
    pub scopes: Vec<String>,
    pub state: String,
    /// `S256`.
    pub challenge: String,
    /// For the id_token (OpenID Connect Core 1.0 section 3.1.2.1).
    pub nonce: Option<String>,
    /// The opaque value of an EHR launch.
    pub launch: Option<String>,
    /// Asked of the authentication (OpenID Connect Core 1.0 section 3.1.2.1, RFC 9470 section 4): passed on to who signs in.
    pub acr_values: Option<String>,
    pub max_age: Option<u64>,
    /// What whoever signs in is to ask once more, of [`PROMPTS`].
    #[serde(default)]
    pub prompt: Vec<String>,
}

impl fmt::Debug for AuthorizeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeRequest").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is nowhere safe to send the browser (RFC 6749 section 4.1.2.1).
    Here(&'static str),
    /// Told to the client at its registered address.
    There { redirect_uri: String, state: Option<String>, error: OauthError },
}

impl Refused {
    /// The answer to the browser. `issuer` is ours (RFC 9207).
    pub fn answer(&self, issuer: &str) -> Answer {
        match self {
            Self::Here(words) => error_page(words),
            Self::There { redirect_uri, state, error } => {
                let error_parameters = [("error", error.code.text()), ("error_description", error.words)];
                back_to_client(redirect_uri, &error_parameters, state.as_deref(), issuer, &[])
            }
        }
    }
}

/// Sends the browser back to the client, with its `state` and our `iss` (RFC 9207).
pub fn back_to_client(
    redirect_uri: &str,
    parameters: &[(&str, &str)],
    state: Option<&str>,
    issuer: &str,
    cookies: &[String],
) -> Answer {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    if let Some(state) = state {
        query.append_pair("state", state);
    }
    query.append_pair("iss", issuer);
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    redirect(&format!("{redirect_uri}{separator}{}", query.finish()), cookies)
}

/// Checks an authorization request for the FHIR base at `base_url`.
///
/// Client and redirect come first: until both are known, nothing is sent anywhere. The `state` is taken as used.
pub async fn read(
    parameters: &Parameters,
    partners: &dyn Partners,
    replays: &dyn ReplayCache,
    base_url: &str,
    now: OffsetDateTime,
) -> Result<AuthorizeRequest, Refused> {
    let client_id = parameters.need("client_id").map_err(Refused::Here)?;
    let entry = partners.by_client_id(client_id).ok_or(Refused::Here("the app is not registered"))?;
    let redirect_uri = parameters.need("redirect_uri").map_err(Refused::Here)?;
    // RFC 9700 section 2.1: compared as text, whole.
    if !entry.redirect_uris.iter().any(|registered| registered == redirect_uri) {
        return Err(Refused::Here("the app's return address is not registered"));
    }
    let state = parameters.get("state");
    let there = |code, words| Refused::There {
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        error: OauthError::new(code, words),
    };
    if entry.partner.status == Status::Suspended {
        return Err(there(ErrorCode::UnauthorizedClient, "the client is suspended"));
    }
    if entry.kind == ClientType::BackendService {
        return Err(there(ErrorCode::UnauthorizedClient, "a backend service has no users"));
    }
    let challenge = check(parameters, base_url).map_err(|(code, words)| there(code, words))?;
    let state = state.unwrap_or_default();
    if state.len() < STRONG_STATE {
        tracing::warn!(client_id, "the client's state is short; SMART asks for 122 bits of entropy");
    }
    let once = sha256(format!("state\0{client_id}\0{state}").as_bytes());
    match replays.first_use(&once, now + STATE_MEMORY).await {
        Ok(true) => {}
        Ok(false) => return Err(there(ErrorCode::InvalidRequest, "state was used before")),
        Err(_) => return Err(there(ErrorCode::TemporarilyUnavailable, "replays cannot be excluded now")),
    }
    let mut scopes = scopes::cut(parameters.get("scope").unwrap_or_default(), &entry.partner.scopes);
    // System scopes are for clients without a user (SMART App Launch 2.2, "System-level scopes").
    scopes.retain(|scope| !scope.starts_with("system/"));
    if scopes.is_empty() {
        return Err(there(ErrorCode::InvalidScope, "none of the scopes is registered for this client"));
    }
    Ok(AuthorizeRequest {
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        scopes,
        state: state.to_owned(),
        challenge,
        nonce: parameters.get("nonce").map(str::to_owned),
        launch: parameters.get("launch").map(str::to_owned),
        acr_values: parameters.get("acr_values").map(str::to_owned),
        max_age: parameters.get("max_age").and_then(|age| age.parse().ok()),
        prompt: prompts(parameters.get("prompt").unwrap_or_default()),
    })
}

fn prompts(asked: &str) -> Vec<String> {
    let asked: Vec<&str> = asked.split(' ').collect();
    PROMPTS.into_iter().filter(|known| asked.contains(known)).map(str::to_owned).collect()
}

/// What the request alone can show; gives the PKCE challenge.
fn check(parameters: &Parameters, base_url: &str) -> Result<String, (ErrorCode, &'static str)> {
    let bad = |words| (ErrorCode::InvalidRequest, words);
    if parameters.need("response_type").map_err(bad)? != "code" {
        return Err((ErrorCode::UnsupportedResponseType, "response_type must be code"));
    }
    if parameters.get("request").or_else(|| parameters.get("request_uri")).is_some() {
        return Err(bad("request objects are not supported"));
    }
    if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(bad("response_mode must be query"));
    }
    if parameters.need("state").map_err(bad)?.len() < SHORTEST_STATE {
        return Err(bad("state is too short to protect the user"));
    }
    parameters.need("scope").map_err(bad)?;
    // RFC 8707 `resource` is a synonym of `aud`; two that differ are two requests.
    let named = [parameters.get("aud"), parameters.get("resource")];
    let ours = |named: &str| named.strip_suffix('/').unwrap_or(named) == base_url;
    if named.iter().all(Option::is_none) {
        return Err(bad("aud is missing"));
    }
    if !named.into_iter().flatten().all(ours) {
        return Err(bad("aud is not this FHIR server"));
    }
    match (parameters.get("code_challenge"), parameters.get("code_challenge_method")) {
        (Some(challenge), Some("S256")) if pkce::is_challenge(challenge) => Ok(challenge.to_owned()),
        (None, _) => Err(bad("code_challenge is missing")),
        (Some(_), Some("S256")) => Err(bad("code_challenge is not a SHA-256")),
        // Without a method RFC 7636 reads `plain`.
        (Some(_), _) => Err(bad("code_challenge_method must be S256")),
    }
}
