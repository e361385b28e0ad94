//! Introspection (RFC 7662) and revocation (RFC 7009) of the tokens that the gateway accepts.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::answer::{Answer, ErrorCode, OauthError, json_answer};
use super::clients::{Client, ClientAuthentication, ClientRequest};
use super::parameters::Parameters;
use super::request::AuthRequest;
use crate::identify::Identifier;
use crate::identify::error::IdentifyError;
use crate::identify::partners::ClientType;
use crate::identify::state::{Revocable, Revocations, RevokeTokens};

/// Longer than any refresh token of a grant lives.
pub const GRANT_MEMORY: Duration = Duration::days(366);

/// What tells about tokens, and ends them.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    /// Our own issuer identifier, under which grants are ended.
    pub issuer: String,
    pub clients: ClientAuthentication,
    /// Reads the tokens back. In broker mode it must know our own issuer.
    pub identifier: Arc<Identifier>,
    pub revocations: Arc<dyn Revocations>,
    pub revoke: Arc<dyn RevokeTokens>,
}

/// A grant, as far as it can be ended.
#[derive(Clone, Copy, Debug)]
pub struct GrantId<'a> {
    pub id: &'a str,
    pub sub: &'a str,
    pub client_id: &'a str,
    pub patient: Option<&'a str>,
    /// Seconds since the epoch.
    pub started: i64,
}

pub(super) const STATE: OauthError = OauthError::new(ErrorCode::TemporarilyUnavailable, "shared state is out of reach");

pub(super) const fn invalid(words: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequest, words)
}

impl TokenInfo {
    /// The parameters of a back-channel request, and the client that it proves.
    pub async fn asks(&self, request: &AuthRequest<'_>) -> Result<(Parameters, Client), OauthError> {
        self.asks_with(request, |_| None).await
    }

    /// As [`TokenInfo::asks`], at a token endpoint: `client_of` opens a refresh token and tells whose it is.
    pub async fn asks_with(
        &self,
        request: &AuthRequest<'_>,
        client_of: impl Fn(&str) -> Option<String>,
    ) -> Result<(Parameters, Client), OauthError> {
        let parameters = request.parameters().map_err(invalid)?;
        let refreshes = parameters.get("grant_type") == Some("refresh_token");
        let implied = parameters.get("refresh_token").filter(|_| refreshes).and_then(client_of);
        let asks = ClientRequest {
            headers: request.headers,
            parameters: &parameters,
            peer: request.peer,
            implied: implied.as_deref(),
        };
        let client = self.clients.client(asks, request.now).await?;
        Ok((parameters, client))
    }

    /// Clients that can keep a secret may ask about tokens of their own; of any other token they learn nothing.
    pub async fn introspect(&self, request: &AuthRequest<'_>) -> Result<Answer, OauthError> {
        let (parameters, client) = self.asks(request).await?;
        if client.entry.kind == ClientType::Public {
            return Err(OauthError::new(ErrorCode::UnauthorizedClient, "public clients may not introspect"));
        }
        let token = parameters.need("token").map_err(invalid)?;
        let facts = match self.identifier.facts(token, request.now).await {
            Ok(facts) if *facts.client_id == *client.entry.partner.client_id => facts,
            Err(IdentifyError::IssuerUnavailable | IdentifyError::StateUnavailable) => return Err(STATE),
            Ok(_) | Err(_) => return Ok(json_answer(StatusCode::OK, &json!({"active": false}))),
        };
        let mut answer = json!({
            "active": true, "iss": &*facts.issuer, "sub": &*facts.sub, "client_id": &*facts.client_id,
            "scope": facts.scopes.join(" "), "exp": facts.expires.unix_timestamp(), "aud": facts.audience.join(" "),
        });
        let patient = facts.patient.as_ref().map(|patient| json!(patient.as_str()));
        for (name, value) in [
            ("need_patient_banner", patient.as_ref().map(|_| json!(true))),
            ("patient", patient),
            ("fhirUser", facts.fhir_user_text.as_deref().map(|text| json!(text))),
        ] {
            if let (Some(value), Some(answer)) = (value, answer.as_object_mut()) {
                answer.insert(name.to_owned(), value);
            }
        }
        Ok(json_answer(StatusCode::OK, &answer))
    }

    /// A refresh token ends its grant; an access token ends itself. Unknown tokens are no error (RFC 7009 section 2.2).
    ///
    /// `grant_of` opens a refresh token: its client and its grant.
    pub async fn revoke(
        &self,
        request: &AuthRequest<'_>,
        grant_of: impl Fn(&str) -> Option<(String, String)>,
    ) -> Result<Answer, OauthError> {
        let (parameters, client) = self.asks(request).await?;
        let token = parameters.need("token").map_err(invalid)?;
        let own = |client_id: &str| client_id == &*client.entry.partner.client_id;
        if let Some((client_id, grant_id)) = grant_of(token) {
            if own(&client_id) {
                self.end_grant(&grant_id, request.now).await?;
            }
        } else if let Ok(facts) = self.identifier.facts(token, request.now).await
            && own(&facts.client_id)
        {
            // As long as any clock skew that may be configured lets it count.
            let until = facts.expires + Duration::minutes(2);
            self.revoke.revoke_token(&facts.issuer, &facts.token_id, until).await.map_err(|_| STATE)?;
        }
        Ok(json_answer(StatusCode::OK, &Value::Object(serde_json::Map::new())))
    }

    /// Ends a grant and all its tokens, on every replica.
    pub async fn end_grant(&self, grant_id: &str, now: OffsetDateTime) -> Result<(), OauthError> {
        self.revoke.revoke_token(&self.issuer, grant_id, now + GRANT_MEMORY).await.map_err(|_| STATE)
    }

    /// Was the grant ended as a whole, or with its user, its client, or its patient?
    pub async fn is_ended(&self, grant: GrantId<'_>) -> Result<bool, OauthError> {
        let what = Revocable {
            issuer: &self.issuer,
            token_id: grant.id,
            sub: grant.sub,
            client_id: grant.client_id,
            patient: grant.patient,
            issued_at: OffsetDateTime::from_unix_timestamp(grant.started).ok(),
        };
        self.revocations.is_revoked(what).await.map_err(|_| STATE)
    }
}
