//! A webhook for people: alerts, lockdowns, gaps and recoveries, signed as Standard Webhooks
//! (`https://www.standardwebhooks.com`) says, so that ready-made libraries can check them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::read::Entry;
use super::record::Kind;
use super::sinks::{Sink, SinkError, send};
use crate::clock::Clock;
use crate::identify::fetch::Fetch;

/// Where messages go, and the secret they are signed with.
#[derive(Debug)]
pub struct Webhook {
    pub url: String,
    pub client: Arc<dyn Fetch>,
    pub secret: WebhookSecret,
    pub clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Tells one message about a record.
    ///
    /// # Errors
    /// When it is not answered with success. The record may be told again then, under the same id.
    pub async fn tell(&self, entry: &Entry, kind: &str, data: &Value) -> Result<(), SinkError> {
        let timestamp = entry.time.format(&Rfc3339).unwrap_or_default();
        let body = json!({"type": kind, "timestamp": timestamp, "data": data}).to_string();
        // The same record has the same id each time it is told.
        let id: String = format!("msg_{}", entry.hash.chars().take(32).collect::<String>());
        let now = self.clock.now();
        let request = http::Request::post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.unix_timestamp().to_string())
            .header("webhook-signature", self.secret.signature(&id, now, &body));
        send(&*self.client, request.body(body.into_bytes())).await
    }
}

/// Tells what asks for a person, one message each. None names a patient.
#[derive(Debug)]
pub struct AlertWebhook(pub Webhook);

/// The secret that both ends share. It does not print.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

/// The secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write 24 to 64 random bytes in base64, with or without `whsec_` before them: `openssl rand -base64 32`")]
pub struct InvalidWebhookSecret;

impl WebhookSecret {
    /// Reads a secret as Standard Webhooks writes it: base64, with or without the prefix `whsec_`.
    ///
    /// # Errors
    /// For anything shorter than 24 bytes or longer than 64.
    pub fn from_text(text: &str) -> Result<Self, InvalidWebhookSecret> {
        let text = text.trim();
        let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).map_err(|_| InvalidWebhookSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidWebhookSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// `webhook-signature` of a message: HMAC-SHA256 of `id.timestamp.body`.
    pub fn signature(&self, id: &str, at: OffsetDateTime, body: &str) -> String {
        let signed = format!("{id}.{}.{body}", at.unix_timestamp());
        format!("v1,{}", STANDARD.encode(hmac::sign(&self.0, signed.as_bytes())))
    }
}

#[async_trait]
impl Sink for AlertWebhook {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        for entry in entries.iter().filter(|entry| self.tells(entry)) {
            let mut body = entry.body.clone();
            let user = body.as_mut().and_then(|body| body.pointer_mut("/scope/user")).and_then(Value::as_object_mut);
            if let Some(user) = user {
                // A user may be a patient.
                user.remove("sub");
            }
            let data = json!({"seq": entry.seq, "hash": entry.hash, "body": body});
            self.0.tell(entry, &format!("fhirwall.{}", entry.kind.as_str()), &data).await?;
        }
        Ok(())
    }

    fn tells(&self, entry: &Entry) -> bool {
        [Kind::Alert, Kind::Lockdown, Kind::Gap, Kind::Recovery].contains(&entry.kind)
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_published_example() {
        // The example of the Standard Webhooks libraries.
        let secret = WebhookSecret::from_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = OffsetDateTime::from_unix_timestamp(1_614_265_330).unwrap();
        let signature = secret.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_short_or_unreadable_secret_is_refused() {
        for text in ["", "whsec_", "c2hvcnQ=", "not base64 at all, in no way"] {
            assert_eq!(WebhookSecret::from_text(text).err(), Some(InvalidWebhookSecret), "{text}");
        }
        assert!(WebhookSecret::from_text(&STANDARD.encode([7; 32])).is_ok());
    }
}
