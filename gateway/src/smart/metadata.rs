//! What another authorization server says of itself (OpenID Connect Discovery 1.0), kept for a few minutes.

use std::fmt;
use std::sync::Arc;

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, IssuerUrl, ProviderMetadata};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use super::answer::{ErrorCode, OauthError};
use crate::identify::fetch::{Fetch, OauthClient};

/// How long metadata and keys are used before they are asked for again.
const LIFETIME: Duration = Duration::minutes(5);
/// However many id_tokens name a key that is not known, keys are asked for at most once in this time.
const WINDOW: Duration = Duration::seconds(10);
/// After a failure the server is left alone for this long.
const PAUSE: Duration = Duration::seconds(5);

/// Beyond OpenID Connect Discovery.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct MoreMetadata {
    /// RFC 9207: answers carry `iss`, and one without it is another server's.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// RFC 8414 section 2.
    #[serde(default)]
    pub introspection_endpoint: Option<String>,
    /// RFC 8414 section 2.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
}

impl AdditionalProviderMetadata for MoreMetadata {}

/// The metadata of a server, its keys included.
pub type ServerMetadata = ProviderMetadata<
    MoreMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// One server, found by its issuer identifier.
pub struct Server {
    issuer: String,
    client: OauthClient,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(ServerMetadata, OffsetDateTime)>,
    failed: Option<OffsetDateTime>,
}

impl Server {
    pub fn new(issuer: String, fetch: Arc<dyn Fetch>) -> Self {
        Self { issuer, client: OauthClient(fetch), known: Mutex::new(Known::default()) }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn client(&self) -> &OauthClient {
        &self.client
    }

    /// The server's metadata. Refuses a document that names another issuer.
    pub async fn metadata(&self, now: OffsetDateTime) -> Result<ServerMetadata, OauthError> {
        self.younger_than(LIFETIME, now).await
    }

    /// The same, asked for again unless that was just done: after the server's keys have changed.
    pub async fn renewed(&self, now: OffsetDateTime) -> Result<ServerMetadata, OauthError> {
        self.younger_than(WINDOW, now).await
    }

    async fn younger_than(&self, age: Duration, now: OffsetDateTime) -> Result<ServerMetadata, OauthError> {
        const AWAY: OauthError =
            OauthError::new(ErrorCode::TemporarilyUnavailable, "the sign-in service is out of reach");
        // Holding the lock while asking is holding the one flight.
        let mut known = self.known.lock().await;
        if let Some((metadata, asked)) = &known.metadata
            && now < *asked + age
        {
            return Ok(metadata.clone());
        }
        if known.failed.is_some_and(|failed| now < failed + PAUSE) {
            return Err(AWAY);
        }
        let issuer = IssuerUrl::new(self.issuer.clone()).map_err(|_| AWAY)?;
        match ServerMetadata::discover_async(issuer, &self.client).await {
            Ok(metadata) => {
                *known = Known { metadata: Some((metadata.clone(), now)), failed: None };
                Ok(metadata)
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, "the metadata could not be fetched");
                known.failed = Some(now);
                Err(AWAY)
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
