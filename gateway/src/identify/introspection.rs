//! Opaque tokens: the issuer is asked what they mean (RFC 7662; SMART App Launch 2.2, token introspection).

use std::fmt;
use std::sync::Arc;

use oauth2::basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenResponse, BasicTokenType};
use oauth2::{
    AccessToken, ClientId, ClientSecret, EndpointNotSet, ExtraTokenFields, IntrospectionUrl, StandardRevocableToken,
    StandardTokenIntrospectionResponse, TokenIntrospectionResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::error::{IdentifyError, TokenFault};
use super::fetch::{Fetch, OauthClient};
use super::issuer::IntrospectionConfig;

/// How many questions may be under way at one issuer. Beyond it callers are told to come back: a flood of invented
/// tokens must not become a flood of questions.
const CONCURRENT: usize = 32;

/// The introspection endpoint of one issuer.
pub struct Introspection {
    client: Client,
    endpoint: IntrospectionUrl,
    fetch: OauthClient,
    flights: Semaphore,
}

/// Whatever the issuer tells beyond RFC 7662: launch context, `cnf`, `fhirUser`.
#[derive(Clone, Deserialize, Serialize)]
struct MoreClaims(Map<String, Value>);

impl ExtraTokenFields for MoreClaims {}

impl fmt::Debug for MoreClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoreClaims(..)")
    }
}

type Answer = StandardTokenIntrospectionResponse<MoreClaims, BasicTokenType>;

type Client = oauth2::Client<
    BasicErrorResponse,
    BasicTokenResponse,
    Answer,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
>;

impl Introspection {
    pub fn new(config: &IntrospectionConfig, fetch: Arc<dyn Fetch>) -> Self {
        Self {
            client: Client::new(ClientId::new(config.client_id.clone()))
                .set_client_secret(ClientSecret::new(config.client_secret.clone())),
            endpoint: IntrospectionUrl::from_url(config.endpoint.clone()),
            fetch: OauthClient(fetch),
            flights: Semaphore::new(CONCURRENT),
        }
    }

    /// The claims of an active token, in the shape of a signed one. An answer that is not understood is no answer.
    pub async fn claims(&self, token: &str, issuer: &str) -> Result<Map<String, Value>, IdentifyError> {
        let _flight = self.flights.try_acquire().map_err(|_| IdentifyError::IssuerUnavailable)?;
        let token = AccessToken::new(token.to_owned());
        // The endpoint is set on a copy: its presence is part of the client's type.
        let client = self.client.clone().set_introspection_url(self.endpoint.clone());
        let question = client.introspect(&token).set_token_type_hint("access_token");
        let answer = question.request_async(&self.fetch).await.map_err(|_| {
            tracing::warn!(issuer, "introspection failed");
            IdentifyError::IssuerUnavailable
        })?;
        if !answer.active() {
            return Err(IdentifyError::InvalidToken(TokenFault::Inactive));
        }
        let Ok(Value::Object(mut claims)) = serde_json::to_value(&answer) else {
            return Err(IdentifyError::IssuerUnavailable);
        };
        // RFC 7662 section 2.2 leaves `iss` out where it goes without saying: this is the issuer that answered.
        claims.entry("iss").or_insert_with(|| Value::from(issuer));
        Ok(claims)
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}
