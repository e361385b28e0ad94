//! Tokens of ours: short-lived `at+jwt` (RFC 9068), id_tokens, and what a grant must carry to be renewed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::provider::User;
use crate::identify::base64url;
use crate::smart::answer::{ErrorCode, OauthError};
use crate::smart::seal::random;
use crate::smart::signing::SigningKey;

/// What a user granted to a client, or a partner file to a backend service.
#[derive(Clone, Serialize, Deserialize)]
pub struct Grant {
    /// All tokens of the grant carry it, so that the grant can be ended as a whole.
    pub id: String,
    pub client_id: String,
    pub scopes: Vec<String>,
    /// None for a backend service.
    pub user: Option<User>,
    pub patient: Option<String>,
    pub nonce: Option<String>,
    /// Seconds since the epoch: what is revoked later ends the grant.
    pub started: i64,
    /// The client's certificate or DPoP key, when it had one as the grant began.
    pub bound_certificate: Option<[u8; 32]>,
    pub bound_key: Option<String>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// What signs, for whom, and for how long.
#[derive(Debug)]
pub struct Mint {
    /// `{base_url}/auth`.
    pub issuer: String,
    pub base_url: String,
    /// The first signs access tokens; the first RSA key signs id_tokens; all are published.
    pub keys: Vec<SigningKey>,
    pub lifetime: Duration,
}

const NO_KEY: OauthError = OauthError::new(ErrorCode::ServerError, "tokens cannot be signed now");

impl Mint {
    /// The token response of a grant (SMART App Launch 2.2, "Obtain access token"), without a refresh token.
    pub fn answer(
        &self,
        grant: &Grant,
        scopes: &[String],
        now: OffsetDateTime,
    ) -> Result<Map<String, Value>, OauthError> {
        let mut answer = Map::new();
        answer.insert("access_token".to_owned(), json!(self.access_token(grant, scopes, now)?));
        let kind = if grant.bound_key.is_some() { "DPoP" } else { "Bearer" };
        answer.insert("token_type".to_owned(), json!(kind));
        answer.insert("expires_in".to_owned(), json!(self.lifetime.whole_seconds()));
        answer.insert("scope".to_owned(), json!(scopes.join(" ")));
        if let Some(patient) = &grant.patient {
            answer.insert("patient".to_owned(), json!(patient));
            answer.insert("need_patient_banner".to_owned(), json!(true));
        }
        let wants = |scope: &str| scopes.iter().any(|one| one == scope);
        if let Some(user) = grant.user.as_ref().filter(|_| wants("openid"))
            && let Some(key) = self.keys.iter().find(|key| key.is_rsa())
        {
            let claims = self.id_token(grant, user, wants("fhirUser"), now);
            answer.insert("id_token".to_owned(), json!(key.sign_id_token(&claims).map_err(|_| NO_KEY)?));
        }
        Ok(answer)
    }

    /// Can sign-on be offered? Every SMART client verifies RS256, so it takes an RSA key.
    pub fn signs_id_tokens(&self) -> bool {
        self.keys.iter().any(SigningKey::is_rsa)
    }

    fn access_token(&self, grant: &Grant, scopes: &[String], now: OffsetDateTime) -> Result<String, OauthError> {
        let mut claims = Map::new();
        let sub = grant.user.as_ref().map_or(&grant.client_id, |user| &user.sub);
        for (name, value) in [
            ("iss", json!(self.issuer)),
            ("aud", json!(self.base_url)),
            ("sub", json!(sub)),
            ("client_id", json!(grant.client_id)),
            ("jti", json!(random().map_err(|_| NO_KEY)?)),
            ("grant_id", json!(grant.id)),
            ("iat", json!(now.unix_timestamp())),
            ("exp", json!((now + self.lifetime).unix_timestamp())),
            ("scope", json!(scopes.join(" "))),
        ] {
            claims.insert(name.to_owned(), value);
        }
        if let Some(patient) = &grant.patient {
            claims.insert("patient".to_owned(), json!(patient));
        }
        if let Some(user) = &grant.user {
            let facts = [
                ("fhirUser", user.fhir_user.as_deref().map(|text| json!(self.absolute(text)))),
                ("acr", user.acr.as_ref().map(|acr| json!(acr))),
                ("amr", (!user.amr.is_empty()).then(|| json!(user.amr))),
                ("auth_time", user.auth_time.map(|at| json!(at))),
            ];
            for (name, value) in facts {
                if let Some(value) = value {
                    claims.insert(name.to_owned(), value);
                }
            }
        }
        let certificate = grant.bound_certificate.map(|digest| ("x5t#S256", base64url(&digest)));
        let key = grant.bound_key.clone().map(|jkt| ("jkt", jkt));
        let cnf: Map<String, Value> =
            certificate.into_iter().chain(key).map(|(name, value)| (name.to_owned(), json!(value))).collect();
        if !cnf.is_empty() {
            claims.insert("cnf".to_owned(), Value::Object(cnf));
        }
        let key = self.keys.first().ok_or(NO_KEY)?;
        key.sign("at+jwt", &Value::Object(claims)).map_err(|_| NO_KEY)
    }

    fn id_token(&self, grant: &Grant, user: &User, with_fhir_user: bool, now: OffsetDateTime) -> Value {
        let mut claims = json!({
            "iss": self.issuer, "aud": grant.client_id, "sub": user.sub,
            "iat": now.unix_timestamp(), "exp": (now + self.lifetime).unix_timestamp(),
        });
        let fhir_user = user.fhir_user.as_deref().filter(|_| with_fhir_user).map(|text| json!(self.absolute(text)));
        for (name, value) in [
            ("fhirUser", fhir_user),
            ("nonce", grant.nonce.as_ref().map(|nonce| json!(nonce))),
            ("auth_time", user.auth_time.map(|at| json!(at))),
            ("acr", user.acr.as_ref().map(|acr| json!(acr))),
        ] {
            if let (Some(value), Some(claims)) = (value, claims.as_object_mut()) {
                claims.insert(name.to_owned(), value);
            }
        }
        claims
    }

    /// `fhirUser` as an absolute URL (SMART App Launch 2.2, "Scopes for requesting identity data").
    fn absolute(&self, reference: &str) -> String {
        if reference.contains("://") { reference.to_owned() } else { format!("{}/{reference}", self.base_url) }
    }
}
