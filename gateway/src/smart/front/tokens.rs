//! The front's token endpoint: our code for the issuer's, the client's proof for ours, the issuer's answer checked.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::Duration;

use super::{Front, FrontCode};
use crate::identify::partners::ClientType;
use crate::identify::sha256;
use crate::smart::answer::{Answer, ErrorCode, OauthError, json_answer};
use crate::smart::clients::Client;
use crate::smart::parameters::Parameters;
use crate::smart::remote::{Asked, TokenEndpoint};
use crate::smart::request::AuthRequest;
use crate::smart::seal::{CODE_LIFETIME, Purpose, random};
use crate::smart::tokeninfo::GrantId;
use crate::smart::{pkce, scopes};

/// How long a wrapped refresh token may be presented. The issuer's own, inside it, may end earlier.
const REFRESH_LIFETIME: Duration = Duration::days(365);

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
    pub(super) async fn token(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let (parameters, client) =
            self.info.asks_with(request, |token| Some(self.opened(token, request).ok()?.client_id)).await?;
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
        self.passed_on(fields, &asked_for, &client, begun, request).await
    }

    async fn token_endpoint(&self, request: &AuthRequest<'_>) -> Result<TokenEndpoint, OauthError> {
        let metadata = self.server.metadata(request.now).await?;
        let url = metadata.token_endpoint().ok_or(UNUSABLE)?.url().clone();
        Ok(TokenEndpoint { url, proof: self.config.proof.clone(), fetch: Arc::clone(&self.config.fetch) })
    }

    /// A refresh token of ours ends its grant here; the issuer's own, inside it, is never used again.
    pub(super) async fn revoke(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let grant_of = |token: &str| {
            let refresh = self.opened(token, request).ok()?;
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

    fn opened(&self, refresh_token: &str, request: &AuthRequest<'_>) -> Result<FrontRefresh, OauthError> {
        self.seal.open(Purpose::Refresh, refresh_token, request.now).map_err(|_| BAD_REFRESH)
    }

    async fn unwrap(
        &self,
        parameters: &Parameters,
        client_id: &str,
        request: &AuthRequest<'_>,
    ) -> Result<(FrontRefresh, Vec<String>), OauthError> {
        let text =
            parameters.need("refresh_token").map_err(|words| OauthError::new(ErrorCode::InvalidRequest, words))?;
        let refresh = self.opened(text, request)?;
        if refresh.client_id != client_id {
            return Err(BAD_REFRESH);
        }
        let scopes = narrowed(parameters.get("scope"), &refresh.scopes)?;
        let FrontRefresh { grant_id: id, started, .. } = &refresh;
        let grant = GrantId { id, sub: "", client_id, patient: None, started: *started };
        if self.info.is_ended(grant).await? { Err(BAD_REFRESH) } else { Ok((refresh, scopes)) }
    }

    /// The issuer's answer, checked and cut: a bearer token, its scopes, and the launch context, nothing else.
    async fn passed_on(
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
        if let Some(patient) = self.patient_of_token(&answer, request).await? {
            answer.insert("patient".to_owned(), json!(patient));
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

    /// The patient whom the issuer states in its token alone: the app, for which tokens are opaque, is told beside it
    /// (SMART App Launch 2.2, "Launch context arrives with your access token"). A token for another patient than the
    /// answer's is no usable answer.
    async fn patient_of_token(
        &self,
        answer: &Map<String, Value>,
        request: &AuthRequest<'_>,
    ) -> Result<Option<String>, OauthError> {
        let token = answer.get("access_token").and_then(Value::as_str).ok_or(UNUSABLE)?;
        // A token that cannot be looked into now is looked into when it is used.
        let Ok(facts) = self.info.identifier.facts(token, request.now).await else { return Ok(None) };
        let stated = facts.patient.map(|patient| patient.as_str().to_owned());
        match (answer.get("patient").and_then(Value::as_str), stated) {
            (None, stated) => Ok(stated),
            (Some(told), Some(stated)) if told != stated => Err(UNUSABLE),
            (Some(_), _) => Ok(None),
        }
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
pub(in crate::smart) fn narrowed(asked: Option<&str>, granted: &[String]) -> Result<Vec<String>, OauthError> {
    let Some(asked) = asked else { return Ok(granted.to_vec()) };
    let asked: Vec<String> = asked.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    if asked.iter().all(|scope| granted.contains(scope)) && !asked.is_empty() {
        Ok(asked)
    } else {
        Err(OauthError::new(ErrorCode::InvalidScope, "the scope is beyond what was granted"))
    }
}

/// A backend service has system scopes and nothing else (SMART Backend Services).
pub(in crate::smart) fn system_scopes(parameters: &Parameters, client: &Client) -> Result<Vec<String>, OauthError> {
    let mut scopes = scopes::cut(parameters.get("scope").unwrap_or_default(), &client.entry.partner.scopes);
    scopes.retain(|scope| scope.starts_with("system/"));
    if scopes.is_empty() {
        Err(OauthError::new(ErrorCode::InvalidScope, "none of the scopes is registered for this client"))
    } else {
        Ok(scopes)
    }
}
