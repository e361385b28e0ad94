//! How a stranger asks: over TLS that is verified, without the gateway's certificate or credential.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::config::FilePath;
use crate::identify::fetch::{Fetch as _, HttpsFetch, Outgoing};

/// An origin that nobody has registered anywhere (RFC 2606 section 2).
pub(super) const STRANGE_ORIGIN: &str = "https://scan.invalid";

/// What of an answer is looked at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Kept for documents alone; never for records.
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Does it let pages of an unregistered origin read it?
    pub(super) fn open_to_any_origin(&self) -> bool {
        self.header("access-control-allow-origin").is_some_and(|origin| origin == "*" || origin == STRANGE_ORIGIN)
    }

    /// The document, if it answered with one.
    pub(super) fn json(&self) -> Result<serde_json::Value, String> {
        if !self.status.is_success() {
            return Err(format!("it answered {}", self.status.as_u16()));
        }
        serde_json::from_slice(&self.body).map_err(|_| "its answer is no JSON".to_owned())
    }
}

/// A client without an identity.
#[derive(Debug)]
pub(super) struct Stranger(HttpsFetch);

impl Stranger {
    pub(super) fn trusting(ca: Option<&FilePath>) -> Result<Self, String> {
        let ca = ca.map(std::fs::read).transpose().map_err(|error| format!("the CA file cannot be read: {error}"))?;
        // The configuration takes plain http to loopback only.
        let outgoing = Outgoing { ca_pem: ca.as_deref(), client_pem: None, dangerous_allow_loopback_http: true };
        HttpsFetch::new(&outgoing).map(Self).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    pub(super) async fn get(&self, url: &str, headers: &[(HeaderName, &str)]) -> Result<Seen, String> {
        self.ask(Method::GET, url, headers, Vec::new()).await
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(HeaderName, &str)],
        body: Vec<u8>,
    ) -> Result<Seen, String> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, HeaderValue::from_str(value).map_err(|error| error.to_string())?);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = self.0.fetch(request).await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        let (head, body) = answer.into_parts();
        Ok(Seen { status: head.status, headers: head.headers, body })
    }
}
