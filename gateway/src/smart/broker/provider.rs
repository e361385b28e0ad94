//! The OpenID provider behind the broker: it knows who the user is, and nothing of FHIR.

use std::fmt;
use std::sync::Arc;

use chrono::DateTime;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthenticationContextClass, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenFields, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::identify::fetch::Fetch;
use crate::smart::answer::{ErrorCode, OauthError};
use crate::smart::login::Login;
use crate::smart::metadata::{Server, ServerMetadata};

/// The provider, and the gateway's registration there.
#[derive(Clone)]
pub struct ProviderConfig {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
    /// Asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claims in which the provider states who the user is in FHIR: a reference, and a patient's id.
    pub fhir_user_claim: String,
    pub patient_claim: String,
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Who signed in, as the provider states it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub sub: String,
    pub fhir_user: Option<String>,
    pub patient: Option<String>,
    pub acr: Option<String>,
    /// How the user proved who it is (RFC 8176).
    pub amr: Vec<String>,
    pub auth_time: Option<i64>,
    /// With it the provider is asked, at each refresh, whether the user is still there.
    pub refresh_token: Option<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(..)")
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct MoreClaims(Map<String, Value>);

impl AdditionalClaims for MoreClaims {}

impl fmt::Debug for MoreClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoreClaims(..)")
    }
}

type Fields = IdTokenFields<
    MoreClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Client = openidconnect::Client<
    MoreClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The scopes with which an app asks for refresh tokens (SMART App Launch 2.2, "Scopes for requesting a refresh token").
pub const REFRESHES: [&str; 2] = ["offline_access", "online_access"];

/// The provider as a relying party meets it.
pub struct Provider {
    config: ProviderConfig,
    redirect_uri: String,
    server: Server,
}

const AWAY: OauthError = OauthError::new(ErrorCode::TemporarilyUnavailable, "the sign-in service is out of reach");
const NOT_SIGNED_IN: OauthError = OauthError::new(ErrorCode::AccessDenied, "the sign-in does not count");

impl Provider {
    pub fn new(config: ProviderConfig, redirect_uri: String, fetch: Arc<dyn Fetch>) -> Self {
        let server = Server::new(config.issuer.clone(), fetch);
        Self { config, redirect_uri, server }
    }

    pub fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Does the provider send `iss` with its answers (RFC 9207)?
    pub async fn sends_iss(&self, now: OffsetDateTime) -> Result<bool, OauthError> {
        let metadata = self.server.metadata(now).await?;
        Ok(metadata.additional_metadata().authorization_response_iss_parameter_supported)
    }

    /// Where the browser signs in. PKCE, nonce and state are this login's own.
    pub async fn authorize_url(&self, login: &Login, now: OffsetDateTime) -> Result<String, OauthError> {
        let client = self.client(now).await?;
        let (state, nonce) = (login.state.clone(), login.nonce.clone());
        let verifier = PkceCodeVerifier::new(login.verifier.clone());
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for scope in &self.config.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let asked = &login.request;
        if asked.scopes.iter().any(|scope| REFRESHES.contains(&scope.as_str())) {
            // OpenID Connect Core 1.0 section 11: without `prompt=consent` a provider ignores it.
            request = request.add_scope(Scope::new("offline_access".to_owned())).add_prompt(CoreAuthPrompt::Consent);
        }
        if let Some(acr_values) = &asked.acr_values {
            for acr in acr_values.split(' ') {
                request = request.add_auth_context_value(AuthenticationContextClass::new(acr.to_owned()));
            }
        }
        if let Some(age) = asked.max_age {
            request = request.set_max_age(std::time::Duration::from_secs(age));
        }
        if asked.prompt.iter().any(|one| one == "login") {
            request = request.add_prompt(CoreAuthPrompt::Login);
        }
        Ok(request.url().0.into())
    }

    /// The user behind a code of the provider: exchanged with our verifier, the id_token verified with our nonce.
    pub async fn user(&self, code: &str, login: &Login, now: OffsetDateTime) -> Result<User, OauthError> {
        let client = self.client(now).await?;
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|_| AWAY)?
            .set_pkce_verifier(PkceCodeVerifier::new(login.verifier.clone()))
            .request_async(self.server.client())
            .await
            .map_err(|error| if matches!(error, RequestTokenError::Request(_)) { AWAY } else { NOT_SIGNED_IN })?;
        let id_token = answer.id_token().ok_or(NOT_SIGNED_IN)?;
        let clock = DateTime::from_timestamp(now.unix_timestamp(), 0).ok_or(NOT_SIGNED_IN)?;
        let nonce = Nonce::new(login.nonce.clone());
        // A provider may list HS256, keyed with our secret: signatures count, shared secrets do not.
        let verifier = client.id_token_verifier().set_time_fn(move || clock).set_allowed_algs(ASYMMETRIC);
        let renewed;
        let claims = match id_token.claims(&verifier, &nonce) {
            Ok(claims) => claims,
            // Signed by a key that is newer than what we know: the provider has rotated its keys.
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                renewed = self.client_of(self.server.renewed(now).await?)?;
                let verifier = renewed.id_token_verifier().set_time_fn(move || clock).set_allowed_algs(ASYMMETRIC);
                id_token.claims(&verifier, &nonce).map_err(|_| NOT_SIGNED_IN)?
            }
            Err(_) => return Err(NOT_SIGNED_IN),
        };
        let auth_time = claims.auth_time().map(|at| at.timestamp());
        // OpenID Connect Core 1.0 section 3.1.2.1: with max_age asked, auth_time must be there and recent enough.
        if let Some(age) = login.request.max_age {
            let age = i64::try_from(age).unwrap_or(i64::MAX);
            let leeway = crate::identify::claims::LEEWAY.whole_seconds();
            let recent =
                auth_time.is_some_and(|at| now.unix_timestamp() <= at.saturating_add(age).saturating_add(leeway));
            if !recent {
                return Err(NOT_SIGNED_IN);
            }
        }
        let told = |name: &str| claims.additional_claims().0.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(User {
            sub: claims.subject().to_string(),
            fhir_user: told(&self.config.fhir_user_claim),
            patient: told(&self.config.patient_claim),
            acr: claims.auth_context_ref().map(|acr| acr.as_str().to_owned()),
            amr: claims.auth_method_refs().into_iter().flatten().map(|method| method.as_str().to_owned()).collect(),
            auth_time,
            refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
        })
    }

    /// Is the user still there? Gives the provider's next refresh token. A user disabled there is refused here.
    pub async fn still_there(&self, refresh_token: &str, now: OffsetDateTime) -> Result<Option<String>, OauthError> {
        let client = self.client(now).await?;
        let token = RefreshToken::new(refresh_token.to_owned());
        let answer = client.exchange_refresh_token(&token).map_err(|_| AWAY)?.request_async(self.server.client()).await;
        match answer {
            Ok(answer) => Ok(answer.refresh_token().map(|token| token.secret().clone())),
            Err(RequestTokenError::ServerResponse(_)) => {
                Err(OauthError::new(ErrorCode::InvalidGrant, "the user is no longer signed in"))
            }
            Err(RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_)) => {
                Err(AWAY)
            }
        }
    }

    async fn client(&self, now: OffsetDateTime) -> Result<Client, OauthError> {
        self.client_of(self.server.metadata(now).await?)
    }

    fn client_of(&self, metadata: ServerMetadata) -> Result<Client, OauthError> {
        let secret = ClientSecret::new(self.config.client_secret.clone());
        let redirect = RedirectUrl::new(self.redirect_uri.clone()).map_err(|_| AWAY)?;
        let client =
            Client::from_provider_metadata(metadata, ClientId::new(self.config.client_id.clone()), Some(secret));
        Ok(client.set_redirect_uri(redirect))
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("config", &self.config).finish_non_exhaustive()
    }
}

const ASYMMETRIC: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
