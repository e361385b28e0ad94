//! Front mode: an issuer that knows SMART keeps issuing tokens, and the gateway stands before its endpoints.
//!
//! The issuer's code never reaches the app. The issuer sends the browser back to us; what the app gets is a code of ours
//! that holds the issuer's, and PKCE is verified here, whether or not the issuer does it too. The client's own proof is
//! verified here and replaced by ours.

mod tokens;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

use super::answer::{Answer, ErrorCode, error_page, json_answer, redirect};
use super::authorize::{self, AuthorizeRequest, back_to_client};
use super::login::{Login, NotThisBrowser};
use super::metadata::Server;
use super::remote::OwnProof;
use super::request::{AuthEndpoint, AuthRequest};
use super::seal::{CODE_LIFETIME, Purpose, Seal};
use super::tokeninfo::TokenInfo;
use super::wellknown;
use crate::identify::fetch::Fetch;

pub(super) use tokens::{narrowed, system_scopes};

/// The issuer behind the front.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// The FHIR base, without a trailing slash.
    pub base_url: String,
    pub issuer: String,
    /// How we prove, at the issuer, that we speak for our clients: each is registered there with our key and our
    /// callback.
    pub proof: OwnProof,
    pub fetch: Arc<dyn Fetch>,
    /// The `aud` that the issuer expects; else the FHIR base.
    pub audience: Option<String>,
}

/// The guarded endpoints at `{base_url}/auth/`.
pub struct Front {
    config: FrontConfig,
    server: Server,
    info: TokenInfo,
    seal: Arc<Seal>,
}

/// What our code holds.
#[derive(Serialize, Deserialize)]
struct FrontCode {
    client_id: String,
    redirect_uri: String,
    challenge: String,
    scopes: Vec<String>,
    /// The issuer's code, and our verifier for it.
    code: String,
    verifier: String,
}

impl Front {
    pub fn new(config: FrontConfig, info: TokenInfo, seal: Arc<Seal>) -> Self {
        let server = Server::new(config.issuer.clone(), Arc::clone(&config.fetch));
        Self { config, server, info, seal }
    }

    /// Our issuer identifier towards the app, for RFC 9207.
    fn own_issuer(&self) -> String {
        wellknown::auth_base(&self.config.base_url)
    }

    fn callback_url(&self) -> String {
        format!("{}/callback", self.own_issuer())
    }

    /// Answers one request; the method was looked at before.
    pub async fn answer(&self, endpoint: AuthEndpoint, request: &AuthRequest<'_>) -> Option<Answer> {
        Some(match endpoint {
            AuthEndpoint::Authorize => self.authorize(request).await,
            AuthEndpoint::Callback => self.callback(request).await,
            AuthEndpoint::Token => self.token(request).await.unwrap_or_else(|error| error.answer()),
            AuthEndpoint::OpenidConfiguration => {
                json_answer(StatusCode::OK, &wellknown::openid_configuration(&self.config.base_url, false))
            }
            AuthEndpoint::Introspect => self.info.introspect(request).await.unwrap_or_else(|error| error.answer()),
            AuthEndpoint::Revoke => self.revoke(request).await.unwrap_or_else(|error| error.answer()),
            // The issuer asks for consent and signs the tokens; its own metadata names its keys.
            AuthEndpoint::Consent | AuthEndpoint::Jwks => return None,
        })
    }

    async fn authorize(&self, request: &AuthRequest<'_>) -> Answer {
        let parameters = match request.parameters() {
            Ok(parameters) => parameters,
            Err(words) => return error_page(words),
        };
        let (partners, replays) = (&*self.info.clients.partners, &*self.info.clients.replays);
        let sound = authorize::read(&parameters, partners, replays, &self.config.base_url, request.now).await;
        let login = match sound {
            Ok(sound) => Login::start(sound),
            Err(refused) => return refused.answer(&self.own_issuer()),
        };
        let started = login.and_then(|login| Ok((login.cookie(&self.seal, request.now)?, login)));
        let Ok((cookie, login)) = started else { return error_page("sign-in cannot be started now") };
        match self.server.metadata(request.now).await {
            Ok(metadata) => {
                let url = self.issuer_url(metadata.authorization_endpoint().url().clone(), &login);
                redirect(url.as_str(), &[cookie])
            }
            Err(error) => {
                let asked = &login.request;
                let told = [("error", error.code.text()), ("error_description", error.words)];
                back_to_client(&asked.redirect_uri, &told, Some(&asked.state), &self.own_issuer(), &[])
            }
        }
    }

    /// The issuer's authorization endpoint with the checked request: nothing of the client's own query is passed on.
    fn issuer_url(&self, mut url: Url, login: &Login) -> Url {
        let AuthorizeRequest { client_id, scopes, nonce, launch, acr_values, max_age, prompt, .. } = &login.request;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", client_id)
            .append_pair("redirect_uri", &self.callback_url())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", &login.state)
            .append_pair("aud", self.config.audience.as_deref().unwrap_or(&self.config.base_url))
            .append_pair("code_challenge", &login.challenge())
            .append_pair("code_challenge_method", "S256");
        for (name, value) in [("nonce", nonce), ("launch", launch), ("acr_values", acr_values)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if let Some(age) = max_age {
            query.append_pair("max_age", &age.to_string());
        }
        if !prompt.is_empty() {
            query.append_pair("prompt", &prompt.join(" "));
        }
        drop(query);
        url
    }

    async fn callback(&self, request: &AuthRequest<'_>) -> Answer {
        let parameters = match request.parameters() {
            Ok(parameters) => parameters,
            Err(words) => return error_page(words),
        };
        let Ok(metadata) = self.server.metadata(request.now).await else {
            return error_page("the sign-in service is out of reach");
        };
        let sends_iss = metadata.additional_metadata().authorization_response_iss_parameter_supported;
        let login =
            match Login::resume(request.headers, &parameters, &self.seal, self.server.issuer(), sends_iss, request.now)
            {
                Ok(login) => login,
                Err(NotThisBrowser::Unknown) => return error_page("no sign-in is under way in this browser"),
                Err(NotThisBrowser::AnotherServer) => return error_page("the answer came from another server"),
            };
        let AuthorizeRequest { client_id, redirect_uri, scopes, state, challenge, .. } = login.request.clone();
        let back = |parameters: &[(&str, &str)]| {
            back_to_client(&redirect_uri, parameters, Some(&state), &self.own_issuer(), &[login.forget()])
        };
        let Some(code) = parameters.get("code") else {
            return back(&[("error", known_error(parameters.get("error")))]);
        };
        let code = FrontCode {
            client_id,
            redirect_uri: redirect_uri.clone(),
            challenge,
            scopes,
            code: code.to_owned(),
            verifier: login.verifier.clone(),
        };
        match self.seal.seal(Purpose::Code, &code, request.now + CODE_LIFETIME) {
            Ok(code) => back(&[("code", &code)]),
            Err(_) => back(&[("error", ErrorCode::ServerError.text())]),
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

/// The issuer's error, if it is one that a client can act on.
pub(super) fn known_error(error: Option<&str>) -> &str {
    const KNOWN: [&str; 9] = [
        "access_denied",
        "invalid_scope",
        "temporarily_unavailable",
        "login_required",
        "consent_required",
        "interaction_required",
        "account_selection_required",
        "unauthorized_client",
        "unmet_authentication_requirements",
    ];
    error.filter(|error| KNOWN.contains(error)).unwrap_or("server_error")
}
