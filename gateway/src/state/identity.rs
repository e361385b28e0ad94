//! What identification asks of the state: replays and revocations.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Bearer, Revocation, StateStore};
use crate::identify::state::{ReplayCache, Revocable, Revocations, RevokeTokens, Unavailable};

/// A [`StateStore`] as identification sees it.
#[derive(Clone, Debug)]
pub struct IdentityState(pub Arc<dyn StateStore>);

#[async_trait]
impl ReplayCache for IdentityState {
    async fn first_use(&self, key: &[u8; 32], until: OffsetDateTime) -> Result<bool, Unavailable> {
        let mut text = String::with_capacity(64);
        for byte in key {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        self.0.first_use(&text, until).await.map_err(|_| Unavailable)
    }
}

#[async_trait]
impl Revocations for IdentityState {
    async fn is_revoked(&self, token: Revocable<'_>) -> Result<bool, Unavailable> {
        let Revocable { issuer, token_id, sub, client_id, patient, issued_at } = token;
        let bearer = Bearer { issuer, token_id, sub, client_id, patient, issued_at };
        self.0.is_revoked(bearer).await.map_err(|_| Unavailable)
    }
}

#[async_trait]
impl RevokeTokens for IdentityState {
    async fn revoke_token(&self, issuer: &str, token_id: &str, until: OffsetDateTime) -> Result<(), Unavailable> {
        let token = Revocation::Token { issuer: issuer.into(), id: token_id.into() };
        self.0.revoke(token, until).await.map_err(|_| Unavailable)
    }
}
