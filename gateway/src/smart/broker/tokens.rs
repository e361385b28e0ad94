//! The broker's token endpoint: codes, refresh with rotation, backend services.

use http::{HeaderName, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::mint::Grant;
use super::{Broker, BrokerCode};
use crate::identify::dpop::{ProofTarget, verify_proof};
use crate::identify::error::IdentifyError;
use crate::identify::partners::ClientType;
use crate::identify::sha256;
use crate::smart::answer::{Answer, ErrorCode, OauthError, json_answer};
use crate::smart::clients::Client;
use crate::smart::front::{narrowed, system_scopes};
use crate::smart::parameters::Parameters;
use crate::smart::pkce;
use crate::smart::request::AuthRequest;
use crate::smart::seal::{CODE_LIFETIME, Purpose, random};
use crate::smart::tokeninfo::{GrantId, STATE, invalid};

/// While the user is online: a working day. The provider is asked at each refresh whether the session still stands.
const ONLINE: Duration = Duration::hours(12);
/// Without the user: at least three months (45 CFR 170.315(g)(10)), counted anew at each refresh.
const OFFLINE: Duration = Duration::days(100);

/// What a refresh token holds. It counts once; the next one takes its place.
#[derive(Serialize, Deserialize)]
struct BrokerRefresh {
    grant: Grant,
    offline: bool,
}

const BAD_CODE: OauthError = OauthError::new(ErrorCode::InvalidGrant, "the code does not count");
const BAD_REFRESH: OauthError = OauthError::new(ErrorCode::InvalidGrant, "the refresh token does not count");

impl Broker {
    pub(super) async fn token(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let client_of = |token: &str| Some(self.opened(token, request.now).ok()?.grant.client_id);
        let (parameters, client) = self.0.info.asks_with(request, client_of).await?;
        let key = self.proof_key(&client, request).await?;
        let answer = match parameters.need("grant_type").map_err(invalid)? {
            "authorization_code" => {
                let mut grant = self.redeem(&parameters, &client, request.now).await?;
                grant.bound_certificate = client.certificate;
                grant.bound_key = key;
                let scopes = grant.scopes.clone();
                self.granted(grant, &scopes, request.now)?
            }
            "refresh_token" => self.refresh(&parameters, &client, key, request.now).await?,
            "client_credentials" if client.entry.kind == ClientType::BackendService => {
                let scopes = system_scopes(&parameters, &client)?;
                let grant = Grant {
                    id: random().map_err(|_| STATE)?,
                    client_id: client.entry.partner.client_id.to_string(),
                    scopes: scopes.clone(),
                    user: None,
                    patient: None,
                    nonce: None,
                    started: request.now.unix_timestamp(),
                    bound_certificate: client.certificate,
                    bound_key: key,
                };
                // SMART Backend Services: no refresh token.
                self.0.mint.answer(&grant, &scopes, request.now)?
            }
            "client_credentials" => {
                return Err(OauthError::new(ErrorCode::UnauthorizedClient, "not a backend service"));
            }
            _ => return Err(OauthError::new(ErrorCode::UnsupportedGrantType, "the grant type is not supported")),
        };
        Ok(json_answer(StatusCode::OK, &Value::Object(answer)))
    }

    /// The thumbprint of the DPoP key, if the client brings a proof (RFC 9449 section 5); needed where registered.
    async fn proof_key(&self, client: &Client, request: &AuthRequest<'_>) -> Result<Option<String>, OauthError> {
        if !request.headers.contains_key(HeaderName::from_static("dpop")) {
            return if client.entry.dpop_required {
                Err(OauthError::new(ErrorCode::InvalidDpopProof, "this client must use DPoP"))
            } else {
                Ok(None)
            };
        }
        let url = format!("{}/token", self.0.mint.issuer);
        let target = ProofTarget { method: &Method::POST, url: &url, token: None };
        let nonces = self.0.nonces.as_ref();
        let replays = &*self.0.info.clients.replays;
        match verify_proof(request.headers, target, None, nonces, replays, request.now).await {
            Ok(key) => Ok(Some(key)),
            Err(IdentifyError::NonceNeeded { nonce }) => {
                Err(OauthError::new(ErrorCode::UseDpopNonce { nonce }, "use the nonce"))
            }
            Err(IdentifyError::StateUnavailable) => Err(STATE),
            Err(_) => Err(OauthError::new(ErrorCode::InvalidDpopProof, "the DPoP proof does not count")),
        }
    }

    /// Our code, once, for its client, at its address, with its verifier. A second use ends the grant
    /// (RFC 6749 section 4.1.2).
    async fn redeem(&self, parameters: &Parameters, client: &Client, now: OffsetDateTime) -> Result<Grant, OauthError> {
        let text = parameters.need("code").map_err(invalid)?;
        let verifier = parameters.need("code_verifier").map_err(invalid)?;
        let redirect_uri = parameters.need("redirect_uri").map_err(invalid)?;
        let code: BrokerCode = self.0.seal.open(Purpose::Code, text, now).map_err(|_| BAD_CODE)?;
        let own = code.grant.client_id == *client.entry.partner.client_id && code.redirect_uri == redirect_uri;
        if !own || !pkce::answers(verifier, &code.challenge) {
            return Err(BAD_CODE);
        }
        if self.first_use("code", text, now + CODE_LIFETIME).await? {
            return Ok(code.grant);
        }
        self.0.info.end_grant(&code.grant.id, now).await?;
        Err(BAD_CODE)
    }

    fn opened(&self, refresh_token: &str, now: OffsetDateTime) -> Result<BrokerRefresh, OauthError> {
        self.0.seal.open(Purpose::Refresh, refresh_token, now).map_err(|_| BAD_REFRESH)
    }

    /// Rotation (RFC 9700 section 4.14.2): each refresh token counts once, and a second use ends the grant, since one
    /// of the two who have it is a thief.
    async fn refresh(
        &self,
        parameters: &Parameters,
        client: &Client,
        key: Option<String>,
        now: OffsetDateTime,
    ) -> Result<Map<String, Value>, OauthError> {
        let text = parameters.need("refresh_token").map_err(invalid)?;
        let BrokerRefresh { mut grant, offline } = self.opened(text, now)?;
        let bound = grant.client_id == *client.entry.partner.client_id
            && grant.bound_key == key
            && (grant.bound_certificate.is_none() || grant.bound_certificate == client.certificate);
        if !bound {
            return Err(BAD_REFRESH);
        }
        let scopes = narrowed(parameters.get("scope"), &grant.scopes)?;
        if self.0.info.is_ended(id_of(&grant)).await? {
            return Err(BAD_REFRESH);
        }
        let lifetime = if offline { OFFLINE } else { ONLINE };
        if !self.first_use("refresh", text, now + lifetime).await? {
            self.0.info.end_grant(&grant.id, now).await?;
            return Err(BAD_REFRESH);
        }
        if let Some(user) = &mut grant.user
            && let Some(theirs) = &user.refresh_token
            && let Some(next) = self.0.provider.still_there(theirs, now).await?
        {
            user.refresh_token = Some(next);
        }
        // The registration may have shrunk since.
        let registered = &client.entry.partner.scopes;
        grant.scopes = crate::smart::scopes::cut(&grant.scopes.join(" "), registered);
        let scopes: Vec<String> = scopes.into_iter().filter(|scope| grant.scopes.contains(scope)).collect();
        self.granted(grant, &scopes, now)
    }

    /// The token response, with a refresh token where the grant has one.
    fn granted(&self, grant: Grant, scopes: &[String], now: OffsetDateTime) -> Result<Map<String, Value>, OauthError> {
        let mut answer = self.0.mint.answer(&grant, scopes, now)?;
        let has = |scope: &str| grant.scopes.iter().any(|one| one == scope);
        let offline = has("offline_access");
        if offline || has("online_access") {
            let lifetime = if offline { OFFLINE } else { ONLINE };
            let refresh = BrokerRefresh { grant, offline };
            let sealed = self.0.seal.seal(Purpose::Refresh, &refresh, now + lifetime).map_err(|_| STATE)?;
            answer.insert("refresh_token".to_owned(), json!(sealed));
        }
        Ok(answer)
    }

    async fn first_use(&self, kind: &str, text: &str, until: OffsetDateTime) -> Result<bool, OauthError> {
        let once = sha256(format!("{kind}\0{text}").as_bytes());
        self.0.info.clients.replays.first_use(&once, until).await.map_err(|_| STATE)
    }

    /// A refresh token of ours ends its grant.
    pub(super) async fn revoke(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let grant_of = |token: &str| {
            let refresh = self.opened(token, request.now).ok()?;
            Some((refresh.grant.client_id, refresh.grant.id))
        };
        self.0.info.revoke(request, grant_of).await
    }
}

fn id_of(grant: &Grant) -> GrantId<'_> {
    GrantId {
        id: &grant.id,
        sub: grant.user.as_ref().map_or(&grant.client_id, |user| &user.sub),
        client_id: &grant.client_id,
        patient: grant.patient.as_deref(),
        started: grant.started,
    }
}
