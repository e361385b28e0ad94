//! The gateway's own file: `kind: Gateway`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::address::{WebUrl, is_loopback};
use crate::config::endpoint::Endpoint;
use crate::config::issuer::{Issuer, Smart, SmartMode};
use crate::config::limits::{Limits, Risk, count};
use crate::config::listener::{Admin, Listener, TrustedProxy};
use crate::config::read::{At, Setting};
use crate::config::section::{section, words};
use crate::config::value::{ByteSize, FilePath, Secret};

section! {
    /// The configuration of a gateway.
    pub struct Gateway {
        /// The version of this format.
        api_version as "apiVersion": ApiVersion,
        /// What this file is.
        kind: GatewayKind,
        /// Where clients are served.
        listeners: Vec<Listener>,
        /// Who may speak for a client's address or certificate: by default nobody.
        trusted_proxies: Vec<TrustedProxy> = Vec::new(),
        /// The address for operators.
        admin: Admin,
        /// The gateway's own keys. Where several are named, the first signs or seals and all verify.
        keys: Keys,
        /// The FHIR endpoints.
        endpoints: Vec<Endpoint>,
        /// The authorization servers whose tokens are accepted.
        issuers: Vec<Issuer>,
        /// The gateway's part in SMART App Launch.
        smart: Smart,
        /// The policy set: Cedar files. Without one there is no start.
        policies: Directory,
        /// The partners: one YAML file each. Without them there is no start.
        partners: Directory,
        /// Whether decisions are carried out.
        mode: Mode = Mode::Enforce,
        /// How sensitivity labels are found.
        labels: Labels,
        /// Where patients' consents come from.
        consent: Consent,
        /// Bounds on everything.
        limits: Limits,
        /// What unusual behaviour is answered with.
        risk: Risk,
        /// The record of what was disclosed and refused. Without it there is no start.
        audit: Audit,
        /// Traces, metrics and logs.
        telemetry: Telemetry,
        /// State shared by several replicas; without it, embedded.
        state: State,
        /// How the gateway ends.
        shutdown: Shutdown,
        /// Controls that are knowingly not met, for a time.
        waivers: Vec<Waiver> = Vec::new(),
    }
    check check_gateway;
}

words! {
    /// The version of the configuration format.
    pub enum ApiVersion {
        /// The first.
        V1 = "fhirwall/v1",
    }
}

words! {
    /// What the gateway's file is.
    pub enum GatewayKind {
        /// A gateway's configuration.
        Gateway = "Gateway",
    }
}

section! {
    /// The gateway's own keys.
    pub struct Keys {
        /// Keys that seal paging links; replicas share them.
        seal_files: Vec<FilePath>,
        /// Keys that sign access tokens in broker mode, PEM.
        token_signing_files: Vec<FilePath> = Vec::new(),
        /// The key that signs the audit chain's heads, PEM.
        audit_signing_file: FilePath,
    }
    check check_keys;
}

section! {
    /// A directory that is read whole.
    pub struct Directory {
        /// Its path.
        dir: FilePath,
    }
}

words! {
    /// Whether decisions are carried out.
    pub enum Mode {
        /// They are.
        Enforce = "enforce",
        /// They are recorded and nothing is changed, except that the flat Part 2 forbids always hold: for a trial run.
        Observe = "observe",
    }
}

section! {
    /// How sensitivity labels are found.
    pub struct Labels {
        /// Where they are looked for.
        sources: Vec<LabelSource> = vec![LabelSource::Meta, LabelSource::Inline, LabelSource::Codes],
        /// What a label that nobody here knows counts as.
        unknown: UnknownLabel = UnknownLabel::Restricted,
        /// Labels of a local code system, and what each counts as.
        map: Vec<LabelMapping> = Vec::new(),
    }
    check check_labels;
}

words! {
    /// A place where labels are looked for.
    pub enum LabelSource {
        /// `meta.security`, at any depth.
        Meta = "meta",
        /// Inline security labels on elements (DS4P).
        Inline = "inline",
        /// Clinical codes that are sensitive in themselves.
        Codes = "codes",
    }
}

words! {
    /// What an unknown label counts as.
    pub enum UnknownLabel {
        /// As restricted: only policies that permit restricted data show it.
        Restricted = "restricted",
        /// As very restricted.
        VeryRestricted = "very-restricted",
    }
}

section! {
    /// What a label of a local code system counts as.
    pub struct LabelMapping {
        /// The code system of the local label.
        system: String,
        /// Its code.
        code: String,
        /// The code of the label it counts as: `42CFRPart2`, `PSY`, `HIV`, `R`, and so on.
        counts_as as "as": String,
    }
}

section! {
    /// Where patients' consents come from.
    pub struct Consent {
        /// The source.
        source: ConsentSource = ConsentSource::Upstream,
        /// server: the base URL of the FHIR server that holds the Consents.
        url: Option<WebUrl>,
        /// server: the authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// How long a patient's consents are kept: a revocation written elsewhere holds after at most this long.
        cache: Duration = Duration::from_secs(30),
        /// What a Consent that cannot be read counts as.
        unreadable: Unreadable = Unreadable::Deny,
    }
    check check_consent;
}

words! {
    /// Where patients' consents come from.
    pub enum ConsentSource {
        /// The Consent resources of the endpoint itself.
        Upstream = "upstream",
        /// Another FHIR server, named by `url`.
        Server = "server",
    }
}

words! {
    /// What a Consent that cannot be read counts as.
    pub enum Unreadable {
        /// As a denial.
        Deny = "deny",
    }
}

section! {
    /// The record of what was disclosed and refused (45 CFR 164.312(b)).
    pub struct Audit {
        /// The directory of the chain.
        dir: FilePath,
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
        /// fhir, http: the address.
        url: Option<WebUrl>,
        /// file: the path.
        file: Option<FilePath>,
        /// The authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// The certificate that the gateway shows, PEM.
        client_certificate_file: Option<FilePath>,
        /// Its private key, PEM.
        client_key_file: Option<FilePath>,
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
        dir: Option<FilePath>,
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
    }
}

section! {
    /// A control that is knowingly not met, for a time.
    pub struct Waiver {
        /// The control's id, as `check` prints it.
        control: String,
        /// What it is waived for: a key path or a partner's client_id; without it, everywhere.
        subject: Option<String>,
        /// Why.
        reason: String,
        /// Who answers for it.
        owner: String,
        /// The last day.
        until: time::Date,
    }
}

fn check_gateway(gateway: &Gateway, at: &At<'_>) {
    for (key, empty) in [
        ("listeners", gateway.listeners.is_empty()),
        ("endpoints", gateway.endpoints.is_empty()),
        ("issuers", gateway.issuers.is_empty() && gateway.smart.mode != SmartMode::Broker),
    ] {
        if empty {
            at.problem_at(key, "this list is empty, so nothing would be served", "add at least one");
        }
    }
    repeated(at, "listeners", gateway.listeners.iter().map(|listener| listener.address.to_string()));
    repeated(at, "endpoints", gateway.endpoints.iter().map(|endpoint| endpoint.name.clone()));
    repeated(at, "endpoints", gateway.endpoints.iter().map(|endpoint| endpoint.base_url.base().to_owned()));
    repeated(at, "issuers", gateway.issuers.iter().map(|issuer| issuer.issuer.clone()));
    if gateway.smart.mode == SmartMode::Broker && gateway.keys.token_signing_files.is_empty() {
        at.problem_at("keys", "`smart.mode: broker` signs tokens, and no key is named", "add `token_signing_files`");
    }
    nested_bases(gateway, at);
}

fn repeated(at: &At<'_>, key: &str, names: impl Iterator<Item = String>) {
    let items = at.key(key).and_then(|at| at.items()).unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    for (item, name) in items.iter().zip(names) {
        if !seen.insert(name.clone()) {
            item.problem(format!("`{name}` is there already"), "give each its own");
        }
    }
}

/// One endpoint's base within another's would make a path mean two things.
fn nested_bases(gateway: &Gateway, at: &At<'_>) {
    for (index, endpoint) in gateway.endpoints.iter().enumerate() {
        let within = |other: &&Endpoint| {
            other.name != endpoint.name
                && other.base_url.origin() == endpoint.base_url.origin()
                && endpoint.base_path().strip_prefix(other.base_path()).is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(other) = gateway.endpoints.iter().find(within)
            && let Some(item) =
                at.key("endpoints").and_then(|at| at.items()).and_then(|items| items.into_iter().nth(index))
        {
            item.problem_at(
                "base_url",
                format!("this base lies within the base of endpoint `{}`", other.name),
                "give the endpoints bases of which none begins another",
            );
        }
    }
}

fn check_keys(keys: &Keys, at: &At<'_>) {
    if keys.seal_files.is_empty() {
        at.problem_at(
            "seal_files",
            "without a key no paging link can be sealed",
            "name one: `fhirwall certs init` makes it",
        );
    }
}

fn check_labels(labels: &Labels, at: &At<'_>) {
    if !labels.sources.contains(&LabelSource::Meta) {
        at.problem_at(
            "sources",
            "without `meta` a label that the EHR set would be overlooked (42 CFR 2.12)",
            "keep `meta`; add `inline` and `codes`",
        );
    }
}

fn check_consent(consent: &Consent, at: &At<'_>) {
    match (consent.source, &consent.url) {
        (ConsentSource::Server, None) => {
            at.problem_at("url", "`source: server` needs its address", "add `url: https://…/fhir`")
        }
        (ConsentSource::Upstream, Some(_)) => {
            at.problem_at("url", "`source: upstream` takes no address", "remove it, or set `source: server`");
        }
        (ConsentSource::Server, Some(_)) | (ConsentSource::Upstream, None) => {}
    }
    if consent.cache > Duration::from_secs(300) {
        at.problem_at(
            "cache",
            "a revoked consent would still open records after five minutes (42 CFR 2.31(a)(6))",
            "write at most `5m`",
        );
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

fn check_sink(sink: &Sink, at: &At<'_>) {
    match sink.kind {
        SinkKind::Fhir | SinkKind::Ocsf if sink.url.is_none() => {
            at.problem_at("url", "this sink needs its address", "add `url: https://…`");
        }
        SinkKind::File if sink.file.is_none() => at.problem_at("file", "this sink needs its path", "add `file: …`"),
        SinkKind::Fhir | SinkKind::Ocsf | SinkKind::File => {}
    }
}

impl Gateway {
    /// The configuration as JSON, secrets blanked: for `/config`.
    pub fn shown(&self) -> serde_json::Value {
        Setting::shown(self)
    }
}
