//! The record, telemetry, shared state, and how the gateway ends.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::address::{WebUrl, is_loopback};
use crate::config::limits::count;
use crate::config::quantity::ByteSize;
use crate::config::read::At;
use crate::config::section::{section, words};
use crate::config::value::{FilePath, Place, Secret};

section! {
    /// The record of what was disclosed and refused (45 CFR 164.312(b)).
    pub struct Audit {
        /// The directory of the chain.
        dir: Place,
        /// When a record must be on disk.
        durability: Durability = Durability::BeforeResponse,
        /// Disk kept back so that emergency access stays recordable when the disk is full.
        reserve: ByteSize = ByteSize::mib(64),
        /// A segment of the chain is closed and signed at this size.
        segment: ByteSize = ByteSize::mib(64),
        /// How long segments are kept (45 CFR 164.316(b)(2)(i) asks for six years).
        retention: Duration = Duration::from_hours(24 * 2192),
        /// Where records are sent as well.
        sinks: Vec<Sink> = Vec::new(),
    }
    check check_audit;
}

words! {
    /// When a record must be on disk.
    pub enum Durability {
        /// Before the first byte of the answer.
        BeforeResponse = "before-response",
    }
}

section! {
    /// Where records are sent as well.
    pub struct Sink {
        /// How.
        kind: SinkKind,
        /// All but file: the address. Of an OTLP collector the base, without `/v1/logs`.
        url: Option<WebUrl>,
        /// file: the path.
        file: Option<Place>,
        /// The authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// The certificate that the gateway shows, PEM.
        client_certificate_file: Option<FilePath>,
        /// Its private key, PEM.
        client_key_file: Option<FilePath>,
        /// fhir, ocsf, otlp: a file with the value of the `Authorization` header, as `Bearer …`.
        authorization_file: Option<FilePath>,
        /// webhook, emergency: the secret that messages are signed with, in base64 (Standard Webhooks).
        secret_file: Option<FilePath>,
        /// fhir, ocsf, otlp: an answer waits until this sink has taken its record, for an audit directory that does not
        /// outlive its machine. Emergency access does not wait.
        acknowledged: bool = false,
    }
    check check_sink;
}

words! {
    /// How records are sent.
    pub enum SinkKind {
        /// As FHIR AuditEvents, created on a FHIR server.
        Fhir = "fhir",
        /// As OCSF events, posted as NDJSON.
        Ocsf = "ocsf",
        /// As log records of OpenTelemetry (OTLP over HTTP, JSON).
        Otlp = "otlp",
        /// Alerts, lockdowns, gaps and recoveries alone: for people, signed as Standard Webhooks says.
        Webhook = "webhook",
        /// Disclosures under emergency access alone, each with what 42 CFR 2.51(c) wants documented: for the program, signed
        /// as Standard Webhooks says. They name patients.
        Emergency = "emergency",
        /// As NDJSON, appended to a file.
        File = "file",
    }
}

section! {
    /// Traces, metrics and logs. None of them carries PHI or tokens.
    pub struct Telemetry {
        /// Where traces, metrics and logs are sent (OTLP over gRPC).
        otlp_endpoint: Option<WebUrl>,
        /// The least level of log lines.
        log_level: LogLevel = LogLevel::Info,
        /// The form of log lines.
        log_format: LogFormat = LogFormat::Json,
        /// How many partners have their own label in metrics; the rest are `other`.
        partner_labels: NonZeroU32 = count(100),
    }
}

words! {
    /// The least level of log lines.
    pub enum LogLevel {
        /// What needs a person.
        Error = "error",
        /// What may need a person.
        Warn = "warn",
        /// What happened.
        Info = "info",
        /// How it happened.
        Debug = "debug",
    }
}

words! {
    /// The form of log lines.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

section! {
    /// State shared by several replicas: limits, replay checks, revocations, lockdown.
    pub struct State {
        /// The Redis to share it in: `rediss://…`, or `redis://` to loopback. A password comes from the environment:
        /// `${REDIS_URL}`.
        redis_url: Option<Secret>,
        /// The authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// Where the embedded state is kept; without it, beside the audit chain.
        dir: Option<Place>,
    }
    check check_state;
}

section! {
    /// How the gateway ends.
    pub struct Shutdown {
        /// How long new connections are still accepted after readiness went off.
        linger: Duration = Duration::from_secs(5),
        /// How long open requests may take to end.
        drain: Duration = Duration::from_secs(30),
        /// Where a new process that is started with `--upgrade` asks for the listening sockets: a Unix socket in a
        /// directory of the gateway's own user, as `/run/fhirwall/upgrade.sock`. Without it, no hand-over.
        upgrade_socket: Option<Place>,
    }
}

fn check_state(state: &State, at: &At<'_>) {
    let Some(secret) = &state.redis_url else { return };
    let safe = url::Url::parse(secret.reveal()).is_ok_and(|url| match url.scheme() {
        "rediss" => true,
        "redis" => is_loopback(&url),
        _ => false,
    });
    if !safe {
        at.problem_at(
            "redis_url",
            "this is no `rediss://` URL, nor `redis://` to loopback",
            "set the variable to `rediss://…`",
        );
    }
}

fn check_audit(audit: &Audit, at: &At<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = audit.sinks.iter().map(Sink::name).find(|name| !seen.insert(name.clone())) {
        at.problem_at("sinks", format!("`{twice}` is there twice"), "tell each sink once");
    }
}

fn check_sink(sink: &Sink, at: &At<'_>) {
    let local = sink.kind == SinkKind::File;
    if local && sink.file.is_none() {
        at.problem_at("file", "this sink needs its path", "add `file: …`");
    }
    if !local && sink.url.is_none() {
        at.problem_at("url", "this sink needs its address", "add `url: https://…`");
    }
    if matches!(sink.kind, SinkKind::Webhook | SinkKind::Emergency) && sink.secret_file.is_none() {
        at.problem_at(
            "secret_file",
            "messages of this sink are signed, and no secret is named",
            "add `secret_file: …`: `openssl rand -base64 32` makes one",
        );
    }
    if sink.acknowledged && matches!(sink.kind, SinkKind::File | SinkKind::Webhook | SinkKind::Emergency) {
        at.problem_at(
            "acknowledged",
            "this sink keeps no record of its own off this machine",
            "set it on a sink of kind `fhir`, `ocsf` or `otlp`",
        );
    }
    if sink.client_certificate_file.is_some() != sink.client_key_file.is_some() {
        at.problem_at(
            "client_key_file",
            "a certificate and its key belong together",
            "name both `client_certificate_file` and `client_key_file`, or neither",
        );
    }
}

impl Sink {
    /// Its name: what its cursor and its metrics are called.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            SinkKind::Fhir => "fhir",
            SinkKind::Ocsf => "ocsf",
            SinkKind::Otlp => "otlp",
            SinkKind::Webhook => "webhook",
            SinkKind::Emergency => "emergency",
            SinkKind::File => "file",
        };
        let url = self.url.as_ref().map(ToString::to_string);
        let file = || self.file.as_ref().map(|file| file.display().to_string());
        format!("{kind} {}", url.or_else(file).unwrap_or_default())
    }
}
