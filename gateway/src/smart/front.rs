//! Front mode: an issuer that knows SMART keeps issuing tokens, and the gateway stands before its endpoints.
//!
//! The issuer's code never reaches the app. The issuer sends the browser back to us; what the app gets is a code of ours
//! that holds the issuer's, and PKCE is verified here, whether or not the issuer does it too. The client's own proof is
//! verified here and replaced by ours.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::Duration;
use url::Url;

use super::answer::{Answer, ErrorCode, OauthError, error_page, json_answer, redirect};
use super::authorize::{self, AuthorizeRequest, back_to_client};
use super::clients::Client;
use super::login::{Login, NotThisBrowser};
use super::metadata::Server;
use super::parameters::Parameters;
use super::remote::{Asked, OwnProof, TokenEndpoint};
use super::request::{AuthEndpoint, AuthRequest};
use super::seal::{CODE_LIFETIME, Purpose, Seal, random};
use super::tokeninfo::{GrantId, TokenInfo};
use super::{pkce, scopes, wellknown};
use crate::identify::fetch::Fetch;
use crate::identify::partners::ClientType;
use crate::identify::sha256;

/// How long a wrapped refresh token may be presented. The issuer's own, inside it, may end earlier.
const REFRESH_LIFETIME: Duration = Duration::days(365);

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

/// What our refresh token holds.
#[derive(Serialize, Deserialize)]
struct FrontRefresh {
    client_id: String,
    scopes: Vec<String>,
    refresh_token: String,
    /// The grant here, and when it began, in seconds since the epoch.
    grant_id: String,
    started: i64,
}

/// When and as what a grant began.
struct Begun {
    grant_id: String,
    started: i64,
}

impl Begun {
    fn now(request: &AuthRequest<'_>) -> Result<Self, OauthError> {
        Ok(Self { grant_id: random().map_err(|_| UNUSABLE)?, started: request.now.unix_timestamp() })
    }
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
        let AuthorizeRequest { client_id, scopes, nonce, launch, acr_values, max_age, login_again, .. } =
            &login.request;
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
        if *login_again {
            query.append_pair("prompt", "login");
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

    async fn token(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let (parameters, client) = self.info.asks(request).await?;
        let issuer = self.token_endpoint(request).await?;
        let grant_type =
            parameters.need("grant_type").map_err(|words| OauthError::new(ErrorCode::InvalidRequest, words))?;
        let client_id = &*client.entry.partner.client_id;
        let (fields, asked_for, begun) = match grant_type {
            "authorization_code" => {
                let code = self.redeem(&parameters, &client, request).await?;
                let redirect_uri = self.callback_url();
                let asked = Asked::Code { code: &code.code, redirect_uri: &redirect_uri, verifier: &code.verifier };
                (issuer.ask(client_id, asked, request.now).await?, code.scopes, Begun::now(request)?)
            }
            "refresh_token" => {
                let (refresh, scopes) = self.unwrap(&parameters, client_id, request).await?;
                let asked = Asked::Refresh { refresh_token: &refresh.refresh_token, scopes: &scopes };
                let begun = Begun { grant_id: refresh.grant_id, started: refresh.started };
                (issuer.ask(client_id, asked, request.now).await?, scopes, begun)
            }
            "client_credentials" if client.entry.kind == ClientType::BackendService => {
                let scopes = system_scopes(&parameters, &client)?;
                let asked = Asked::ClientCredentials { scopes: &scopes };
                (issuer.ask(client_id, asked, request.now).await?, scopes, Begun::now(request)?)
            }
            "client_credentials" => {
                return Err(OauthError::new(ErrorCode::UnauthorizedClient, "not a backend service"));
            }
            _ => return Err(OauthError::new(ErrorCode::UnsupportedGrantType, "the grant type is not supported")),
        };
        self.passed_on(fields, &asked_for, &client, begun, request)
    }

    async fn token_endpoint(&self, request: &AuthRequest<'_>) -> Result<TokenEndpoint, OauthError> {
        let metadata = self.server.metadata(request.now).await?;
        let url = metadata.token_endpoint().ok_or(UNUSABLE)?.url().clone();
        Ok(TokenEndpoint { url, proof: self.config.proof.clone(), fetch: Arc::clone(&self.config.fetch) })
    }

    /// A refresh token of ours ends its grant here; the issuer's own, inside it, is never used again.
    async fn revoke(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let grant_of = |token: &str| {
            let refresh: FrontRefresh = self.seal.open(Purpose::Refresh, token, request.now).ok()?;
            Some((refresh.client_id, refresh.grant_id))
        };
        self.info.revoke(request, grant_of).await
    }

    /// Our code, once, for its client, at its address, with its verifier.
    async fn redeem(
        &self,
        parameters: &Parameters,
        client: &Client,
        request: &AuthRequest<'_>,
    ) -> Result<FrontCode, OauthError> {
        let invalid = |words| OauthError::new(ErrorCode::InvalidRequest, words);
        let text = parameters.need("code").map_err(invalid)?;
        let verifier = parameters.need("code_verifier").map_err(invalid)?;
        let redirect_uri = parameters.need("redirect_uri").map_err(invalid)?;
        let code: FrontCode = self.seal.open(Purpose::Code, text, request.now).map_err(|_| BAD_CODE)?;
        let own = code.client_id == *client.entry.partner.client_id && code.redirect_uri == redirect_uri;
        if !own || !pkce::answers(verifier, &code.challenge) {
            return Err(BAD_CODE);
        }
        let once = sha256(format!("code\0{text}").as_bytes());
        match self.info.clients.replays.first_use(&once, request.now + CODE_LIFETIME).await {
            Ok(true) => Ok(code),
            Ok(false) => Err(BAD_CODE),
            Err(_) => Err(OauthError::new(ErrorCode::TemporarilyUnavailable, "replays cannot be excluded now")),
        }
    }

    async fn unwrap(
        &self,
        parameters: &Parameters,
        client_id: &str,
        request: &AuthRequest<'_>,
    ) -> Result<(FrontRefresh, Vec<String>), OauthError> {
        let text =
            parameters.need("refresh_token").map_err(|words| OauthError::new(ErrorCode::InvalidRequest, words))?;
        let refresh: FrontRefresh = self.seal.open(Purpose::Refresh, text, request.now).map_err(|_| BAD_REFRESH)?;
        if refresh.client_id != client_id {
            return Err(BAD_REFRESH);
        }
        let scopes = narrowed(parameters.get("scope"), &refresh.scopes)?;
        let FrontRefresh { grant_id: id, started, .. } = &refresh;
        let grant = GrantId { id, sub: "", client_id, patient: None, started: *started };
        if self.info.is_ended(grant).await? { Err(BAD_REFRESH) } else { Ok((refresh, scopes)) }
    }

    /// The issuer's answer, checked and cut: a bearer token, its scopes, and the launch context, nothing else.
    fn passed_on(
        &self,
        mut fields: Map<String, Value>,
        asked_for: &[String],
        client: &Client,
        begun: Begun,
        request: &AuthRequest<'_>,
    ) -> Result<Answer, OauthError> {
        let bearer =
            fields.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !bearer {
            return Err(UNUSABLE);
        }
        let granted = fields.get("scope").and_then(Value::as_str).map_or_else(|| asked_for.join(" "), str::to_owned);
        let granted = scopes::cut(&granted, &client.entry.partner.scopes);
        let mut answer = Map::new();
        for name in PASSED_ON {
            if let Some(value) = fields.remove(name) {
                answer.insert(name.to_owned(), value);
            }
        }
        if !answer.contains_key("access_token") {
            return Err(UNUSABLE);
        }
        answer.insert("token_type".to_owned(), json!("Bearer"));
        answer.insert("scope".to_owned(), json!(granted.join(" ")));
        if let Some(Value::String(refresh_token)) = fields.remove("refresh_token") {
            let client_id = client.entry.partner.client_id.to_string();
            let Begun { grant_id, started } = begun;
            let refresh = FrontRefresh { client_id, scopes: granted, refresh_token, grant_id, started };
            let sealed = self.seal.seal(Purpose::Refresh, &refresh, request.now + REFRESH_LIFETIME);
            answer.insert("refresh_token".to_owned(), json!(sealed.map_err(|_| UNUSABLE)?));
        }
        Ok(json_answer(StatusCode::OK, &Value::Object(answer)))
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

/// The token and its launch context (SMART App Launch 2.2, "Launch context arrives with your access token").
const PASSED_ON: [&str; 11] = [
    "access_token",
    "expires_in",
    "id_token",
    "patient",
    "encounter",
    "fhirContext",
    "need_patient_banner",
    "intent",
    "smart_style_url",
    "tenant",
    "authorization_details",
];

const UNUSABLE: OauthError = OauthError::new(ErrorCode::ServerError, "the authorization server gave no usable answer");
const BAD_CODE: OauthError = OauthError::new(ErrorCode::InvalidGrant, "the code does not count");
const BAD_REFRESH: OauthError = OauthError::new(ErrorCode::InvalidGrant, "the refresh token does not count");

/// The same scopes, or the subset that is asked for (RFC 6749 section 6).
pub(super) fn narrowed(asked: Option<&str>, granted: &[String]) -> Result<Vec<String>, OauthError> {
    let Some(asked) = asked else { return Ok(granted.to_vec()) };
    let asked: Vec<String> = asked.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    if asked.iter().all(|scope| granted.contains(scope)) && !asked.is_empty() {
        Ok(asked)
    } else {
        Err(OauthError::new(ErrorCode::InvalidScope, "the scope is beyond what was granted"))
    }
}

/// A backend service has system scopes and nothing else (SMART Backend Services).
pub(super) fn system_scopes(parameters: &Parameters, client: &Client) -> Result<Vec<String>, OauthError> {
    let mut scopes = scopes::cut(parameters.get("scope").unwrap_or_default(), &client.entry.partner.scopes);
    scopes.retain(|scope| scope.starts_with("system/"));
    if scopes.is_empty() {
        Err(OauthError::new(ErrorCode::InvalidScope, "none of the scopes is registered for this client"))
    } else {
        Ok(scopes)
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
