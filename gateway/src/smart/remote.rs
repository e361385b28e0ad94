//! Asking another server's token endpoint, as ourselves (RFC 6749, RFC 7523).

use std::fmt;
use std::sync::Arc;

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, ExtraTokenFields,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::answer::{ErrorCode, OauthError};
use super::clients::JWT_BEARER;
use super::seal::random;
use super::signing::SigningKey;
use crate::identify::fetch::{Fetch, FetchError, OauthClient};

/// How we prove who we are at another server.
#[derive(Clone)]
pub enum OwnProof {
    /// SMART's asymmetric authentication: the key is registered there, for each client id we speak for.
    PrivateKeyJwt(Arc<SigningKey>),
    Secret(String),
    /// The connection's certificate, or a public client.
    None,
}

impl fmt::Debug for OwnProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrivateKeyJwt(_) => "PrivateKeyJwt(..)",
            Self::Secret(_) => "Secret(..)",
            Self::None => "None",
        })
    }
}

/// A token endpoint of another server.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    pub url: url::Url,
    pub proof: OwnProof,
    pub fetch: Arc<dyn Fetch>,
}

/// What we ask for.
#[derive(Clone, Copy)]
pub enum Asked<'a> {
    Code { code: &'a str, redirect_uri: &'a str, verifier: &'a str },
    Refresh { refresh_token: &'a str, scopes: &'a [String] },
    ClientCredentials { scopes: &'a [String] },
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code { .. } => "Code(..)",
            Self::Refresh { .. } => "Refresh(..)",
            Self::ClientCredentials { .. } => "ClientCredentials(..)",
        })
    }
}

/// Whatever the server tells beside the standard fields: launch context, id_token.
#[derive(Clone, Deserialize, Serialize)]
struct MoreFields(Map<String, Value>);

impl ExtraTokenFields for MoreFields {}

impl fmt::Debug for MoreFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoreFields(..)")
    }
}

type Answer = StandardTokenResponse<MoreFields, BasicTokenType>;
type Client = oauth2::Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl TokenEndpoint {
    /// Asks for a token as `client_id`; gives the whole answer as JSON.
    pub async fn ask(
        &self,
        client_id: &str,
        asked: Asked<'_>,
        now: OffsetDateTime,
    ) -> Result<Map<String, Value>, OauthError> {
        let mut client: Client = oauth2::Client::new(ClientId::new(client_id.to_owned()))
            .set_token_uri(TokenUrl::from_url(self.url.clone()))
            .set_auth_type(AuthType::RequestBody);
        let mut extra = Vec::new();
        match &self.proof {
            OwnProof::Secret(secret) => {
                client = client.set_client_secret(ClientSecret::new(secret.clone())).set_auth_type(AuthType::BasicAuth);
            }
            OwnProof::PrivateKeyJwt(key) => {
                extra.push(("client_assertion_type", JWT_BEARER.to_owned()));
                extra.push(("client_assertion", assertion(key, client_id, self.url.as_str(), now)?));
            }
            OwnProof::None => {}
        }
        let fetch = OauthClient(Arc::clone(&self.fetch));
        let answer = match asked {
            Asked::Code { code, redirect_uri, verifier } => {
                let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| SERVER)?;
                let mut question = client
                    .exchange_code(AuthorizationCode::new(code.to_owned()))
                    .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
                    .set_redirect_uri(std::borrow::Cow::Owned(redirect));
                for (name, value) in extra {
                    question = question.add_extra_param(name, value);
                }
                question.request_async(&fetch).await
            }
            Asked::Refresh { refresh_token, scopes } => {
                let token = RefreshToken::new(refresh_token.to_owned());
                let mut question =
                    client.exchange_refresh_token(&token).add_scopes(scopes.iter().cloned().map(Scope::new));
                for (name, value) in extra {
                    question = question.add_extra_param(name, value);
                }
                question.request_async(&fetch).await
            }
            Asked::ClientCredentials { scopes } => {
                let mut question =
                    client.exchange_client_credentials().add_scopes(scopes.iter().cloned().map(Scope::new));
                for (name, value) in extra {
                    question = question.add_extra_param(name, value);
                }
                question.request_async(&fetch).await
            }
        };
        match serde_json::to_value(answer.map_err(|error| refusal(&error))?) {
            Ok(Value::Object(fields)) => Ok(fields),
            _ => Err(SERVER),
        }
    }
}

const SERVER: OauthError = OauthError::new(ErrorCode::ServerError, "the authorization server gave no usable answer");

fn refusal(error: &RequestTokenError<FetchError, BasicErrorResponse>) -> OauthError {
    match error {
        RequestTokenError::ServerResponse(told) => match told.error() {
            BasicErrorResponseType::InvalidGrant => {
                OauthError::new(ErrorCode::InvalidGrant, "the grant does not count")
            }
            BasicErrorResponseType::InvalidScope => {
                OauthError::new(ErrorCode::InvalidScope, "the scope is not granted")
            }
            BasicErrorResponseType::InvalidClient
            | BasicErrorResponseType::UnauthorizedClient
            | BasicErrorResponseType::InvalidRequest
            | BasicErrorResponseType::UnsupportedGrantType
            | BasicErrorResponseType::Extension(_) => SERVER,
        },
        RequestTokenError::Request(_) => {
            OauthError::new(ErrorCode::TemporarilyUnavailable, "the authorization server is out of reach")
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => SERVER,
    }
}

/// A client assertion of ours (SMART App Launch 2.2, asymmetric authentication): one use, two minutes.
pub fn assertion(key: &SigningKey, client_id: &str, audience: &str, now: OffsetDateTime) -> Result<String, OauthError> {
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": audience, "jti": random().map_err(|_| SERVER)?,
        "iat": now.unix_timestamp(), "exp": (now + Duration::minutes(2)).unix_timestamp(),
    });
    key.sign("JWT", &claims).map_err(|_| SERVER)
}
