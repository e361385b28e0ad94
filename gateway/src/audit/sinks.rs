//! Where the log is told: a file, a FHIR server, anything that takes OCSF or OTLP. How it is told, at least once and
//! without holding up an answer, is [`super::delivery`]'s.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::event::{self, Site};
use super::logical;
use super::ocsf;
use super::read::Entry;
use super::record::Kind;
use crate::identify::fetch::{Fetch, FetchError};

/// Somewhere that records are told.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// Takes these entries, or fails with any of them taken.
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError>;

    /// Is anything told of this entry at all?
    fn tells(&self, _entry: &Entry) -> bool {
        true
    }
}

/// A sink did not take what it was told. It is told again.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("cannot read the audit log, write the sink's file, or keep its cursor")]
    Io(#[source] io::Error),
    #[error("the sink cannot be reached")]
    Unreachable(#[source] FetchError),
    #[error("the sink answered {0}")]
    Refused(u16),
    #[error("the sink's URL cannot be used")]
    Url,
}

impl SinkError {
    /// Will the sink never take this, however often it is told? Only statuses that speak of what was sent (RFC 9110 15.5),
    /// not of who sent it, where, or how much.
    pub(super) fn is_for_good(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(status, 400 | 409 | 410 | 412 | 413 | 415 | 422),
            Self::Io(_) | Self::Unreachable(_) | Self::Url => false,
        }
    }

    /// Did it not answer in time? Perhaps it was told too much at once.
    pub(super) const fn is_slow(&self) -> bool {
        match self {
            Self::Unreachable(error) => matches!(error, FetchError::Timeout),
            Self::Io(_) | Self::Refused(_) | Self::Url => false,
        }
    }
}

/// A file of OCSF events, one a line, for a shipper to take.
#[derive(Debug)]
pub struct NdjsonFile(pub PathBuf);

#[async_trait]
impl Sink for NdjsonFile {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        let text: String = entries.iter().map(|entry| format!("{}\n", ocsf::event(entry))).collect();
        append(&self.0, &text).map_err(SinkError::Io)
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// A FHIR server that takes AuditEvents, each by `PUT` under its own id, so that telling twice stores once.
#[derive(Debug)]
pub struct FhirEndpoint {
    pub base_url: String,
    pub site: Site,
    pub client: Arc<dyn Fetch>,
    /// `Authorization`, if the server wants one.
    pub authorization: Option<Authorization>,
}

/// The value of an `Authorization` header. It does not print.
#[derive(Clone)]
pub struct Authorization(pub String);

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(..)")
    }
}

impl FhirEndpoint {
    /// A server may refuse references to what it does not hold (R4 http.html#integrity), and who asked for a record that
    /// is not there is on record too: then the event names it instead of pointing to it, the patient last.
    async fn put(&self, url: &str, event: &Value) -> Result<(), SinkError> {
        let authorization = self.authorization.as_ref();
        let mut sent = put_json(&*self.client, url, authorization, event).await;
        for pointing in [&["Patient/"][..], &[]] {
            match &sent {
                Err(error) if error.is_for_good() => {
                    let named = logical::named(event.clone(), &self.site, pointing);
                    sent = put_json(&*self.client, url, authorization, &named).await;
                }
                Ok(()) | Err(_) => break,
            }
        }
        sent
    }
}

#[async_trait]
impl Sink for FhirEndpoint {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        for event in entries.iter().flat_map(|entry| event::events(entry, &self.site)) {
            let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
            let url = format!("{}/AuditEvent/{id}", self.base_url);
            self.put(&url, &event).await?;
        }
        Ok(())
    }

    fn tells(&self, entry: &Entry) -> bool {
        !event::events(entry, &self.site).is_empty()
    }
}

/// An OpenTelemetry collector, by OTLP over HTTP in JSON (`/v1/logs`).
#[derive(Debug)]
pub struct OtlpLogs {
    /// The collector's base URL.
    pub base_url: String,
    pub client: Arc<dyn Fetch>,
    /// `Authorization`, if the collector wants one.
    pub authorization: Option<Authorization>,
}

#[async_trait]
impl Sink for OtlpLogs {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        let records: Vec<Value> = entries.iter().map(log_record).collect();
        let body = json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "fhirwall"}}]},
            "scopeLogs": [{"scope": {"name": "fhirwall.audit"}, "logRecords": records}],
        }]});
        let mut request =
            http::Request::post(format!("{}/v1/logs", self.base_url)).header("content-type", "application/json");
        if let Some(Authorization(value)) = &self.authorization {
            request = request.header("authorization", value);
        }
        send(&*self.client, request.body(body.to_string().into_bytes())).await
    }
}

fn log_record(entry: &Entry) -> Value {
    let (number, text) = severity(entry);
    json!({
        "timeUnixNano": entry.time.unix_timestamp_nanos().to_string(),
        "severityNumber": number,
        "severityText": text,
        "body": {"stringValue": ocsf::event(entry).to_string()},
        "attributes": [
            {"key": "event.name", "value": {"stringValue": format!("fhirwall.audit.{}", entry.kind.as_str())}},
            {"key": "fhirwall.audit.seq", "value": {"intValue": entry.seq.to_string()}},
        ],
    })
}

/// What asks for a person is an error or a warning (OpenTelemetry log data model, severity).
fn severity(entry: &Entry) -> (u8, &'static str) {
    let refused = entry.record().is_some_and(|record| record.reason.is_some());
    match entry.kind {
        Kind::Alert | Kind::Gap => (17, "ERROR"),
        Kind::Lockdown | Kind::Risk | Kind::Recovery => (13, "WARN"),
        Kind::Attempt | Kind::Disclosure | Kind::Refusal if refused => (13, "WARN"),
        Kind::Attempt
        | Kind::Disclosure
        | Kind::Refusal
        | Kind::End
        | Kind::RefusalAggregate
        | Kind::Segment
        | Kind::Head
        | Kind::Retention
        | Kind::Token
        | Kind::Access
        | Kind::Configuration => (9, "INFO"),
    }
}

/// Anything that takes OCSF events over HTTP: many in one request, one a line (`application/x-ndjson`).
#[derive(Debug)]
pub struct OcsfEndpoint {
    pub url: String,
    pub client: Arc<dyn Fetch>,
    /// `Authorization`, if the server wants one.
    pub authorization: Option<Authorization>,
}

#[async_trait]
impl Sink for OcsfEndpoint {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        let text: String = entries.iter().map(|entry| format!("{}\n", ocsf::event(entry))).collect();
        let mut request = http::Request::post(&self.url).header("content-type", "application/x-ndjson");
        if let Some(Authorization(value)) = &self.authorization {
            request = request.header("authorization", value);
        }
        send(&*self.client, request.body(text.into_bytes())).await
    }
}

async fn put_json(
    client: &dyn Fetch,
    url: &str,
    authorization: Option<&Authorization>,
    body: &Value,
) -> Result<(), SinkError> {
    let mut request = http::Request::put(url).header("content-type", "application/fhir+json");
    if let Some(Authorization(value)) = authorization {
        request = request.header("authorization", value);
    }
    send(client, request.body(body.to_string().into_bytes())).await
}

/// Sends, and takes nothing but a success for an answer.
pub(super) async fn send(client: &dyn Fetch, request: http::Result<http::Request<Vec<u8>>>) -> Result<(), SinkError> {
    let response = client.fetch(request.map_err(|_| SinkError::Url)?).await.map_err(SinkError::Unreachable)?;
    if response.status().is_success() { Ok(()) } else { Err(SinkError::Refused(response.status().as_u16())) }
}
