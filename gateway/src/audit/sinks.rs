//! The log, told elsewhere: at least once, in order, without ever holding up an answer.
//!
//! The log is its own spool. Each sink keeps a cursor beside it, the last record that it has taken; [`Delivery::run`]
//! reads on from there, delivers, and only then moves the cursor. A sink that is slow or away falls behind and catches
//! up; a crash between delivery and cursor delivers twice, and FHIR ids and OCSF uids are the same both times.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::event::{self, Site};
use super::read::{self, Entry};
use super::record::Kind;
use super::{AuditLog, ocsf};
use crate::identify::fetch::{Fetch, FetchError};

/// Somewhere that records are told.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// Takes these entries, or fails with any of them taken.
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError>;
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

/// One sink with its cursor.
#[derive(Debug)]
pub struct Delivery {
    log: Arc<AuditLog>,
    sink: Box<dyn Sink>,
    cursor: PathBuf,
}

/// How many entries are told at once.
const BATCH: usize = 256;

impl Delivery {
    /// `name` is the sink's, and names its cursor: a renamed sink is told everything again.
    pub fn new(name: &str, sink: Box<dyn Sink>, log: Arc<AuditLog>) -> Self {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let cursor = log.dir.join(format!("sink-{name}.cursor"));
        Self { log, sink, cursor }
    }

    /// Tells the sink the next batch of durable records; returns how many. To be called again at once while it returns
    /// more than none, and after a pause when it returns none or fails.
    ///
    /// # Errors
    /// When the sink did not take them: the cursor stays where it was.
    pub async fn run(&self) -> Result<usize, SinkError> {
        let (taken, durable) = (self.taken()?, self.log.durable_seq());
        let (dir, key) = (self.log.dir.clone(), self.log.encryption_key.clone());
        let read = move || read::after(&dir, key.as_ref(), taken, durable, BATCH);
        let entries =
            tokio::task::spawn_blocking(read).await.map_err(|_| SinkError::Io(io::ErrorKind::Other.into()))?;
        let entries = entries.map_err(SinkError::Io)?;
        let Some(last) = entries.last() else { return Ok(0) };
        self.sink.deliver(&entries).await?;
        self.move_to(last.seq).map_err(SinkError::Io)?;
        Ok(entries.len())
    }

    /// How many durable records the sink has not taken yet.
    pub fn behind(&self) -> u64 {
        self.log.durable_seq().saturating_sub(self.taken().unwrap_or(0))
    }

    fn taken(&self) -> Result<u64, SinkError> {
        match fs::read_to_string(&self.cursor) {
            // A cursor that cannot be read is at the start: told twice is better than not at all.
            Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(SinkError::Io(error)),
        }
    }

    fn move_to(&self, seq: u64) -> io::Result<()> {
        let new = self.cursor.with_extension("cursor.new");
        fs::write(&new, seq.to_string())?;
        fs::rename(new, &self.cursor)
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

#[async_trait]
impl Sink for FhirEndpoint {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        for event in entries.iter().flat_map(|entry| event::events(entry, &self.site)) {
            let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
            let url = format!("{}/AuditEvent/{id}", self.base_url);
            send(&*self.client, "PUT", &url, "application/fhir+json", self.authorization.as_ref(), &event).await?;
        }
        Ok(())
    }
}

/// An OpenTelemetry collector, by OTLP over HTTP in JSON (`/v1/logs`).
#[derive(Debug)]
pub struct OtlpLogs {
    /// The collector's base URL.
    pub base_url: String,
    pub client: Arc<dyn Fetch>,
}

#[async_trait]
impl Sink for OtlpLogs {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        let records: Vec<Value> = entries.iter().map(log_record).collect();
        let body = json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "fhirwall"}}]},
            "scopeLogs": [{"scope": {"name": "fhirwall.audit"}, "logRecords": records}],
        }]});
        send(&*self.client, "POST", &format!("{}/v1/logs", self.base_url), "application/json", None, &body).await
    }
}

fn log_record(entry: &Entry) -> Value {
    let refused = entry.record().is_some_and(|record| record.reason.is_some());
    json!({
        "timeUnixNano": entry.time.unix_timestamp_nanos().to_string(),
        "severityNumber": if refused { 13 } else { 9 },
        "body": {"stringValue": ocsf::event(entry).to_string()},
        "attributes": [
            {"key": "event.name", "value": {"stringValue": format!("fhirwall.audit.{}", entry.kind.as_str())}},
            {"key": "fhirwall.audit.seq", "value": {"intValue": entry.seq.to_string()}},
        ],
    })
}

/// A webhook for people: alerts, lockdowns, risks, gaps and recoveries. It is told which kind and when, with the
/// record's own body; alerts name no patient.
#[derive(Debug)]
pub struct AlertWebhook {
    pub url: String,
    pub client: Arc<dyn Fetch>,
}

#[async_trait]
impl Sink for AlertWebhook {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        const TOLD: [Kind; 5] = [Kind::Alert, Kind::Lockdown, Kind::Risk, Kind::Gap, Kind::Recovery];
        for entry in entries.iter().filter(|entry| TOLD.contains(&entry.kind)) {
            let body = serde_json::to_value(entry).unwrap_or_default();
            send(&*self.client, "POST", &self.url, "application/json", None, &body).await?;
        }
        Ok(())
    }
}

async fn send(
    client: &dyn Fetch,
    method: &str,
    url: &str,
    content_type: &str,
    authorization: Option<&Authorization>,
    body: &Value,
) -> Result<(), SinkError> {
    let mut request = http::Request::builder().method(method).uri(url).header("content-type", content_type);
    if let Some(Authorization(value)) = authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(body.to_string().into_bytes()).map_err(|_| SinkError::Url)?;
    let response = client.fetch(request).await.map_err(SinkError::Unreachable)?;
    if response.status().is_success() { Ok(()) } else { Err(SinkError::Refused(response.status().as_u16())) }
}
