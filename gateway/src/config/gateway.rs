//! The gateway's own file: `kind: Gateway`.

use crate::config::consent::Consent;
use crate::config::emergency::Emergency;
use crate::config::endpoint::Endpoint;
use crate::config::issuer::{Issuer, Smart, SmartMode};
use crate::config::limits::{Alerts, Limits, Risk};
use crate::config::listener::{Admin, Listener, TrustedProxy};
use crate::config::operation::{Audit, Shutdown, State, Telemetry};
use crate::config::read::{At, Setting};
use crate::config::section::{section, words};
use crate::config::sensitivity::Labels;
use crate::config::value::FilePath;

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
        policies: Policies,
        /// The partners: one YAML file each. Without them there is no start.
        partners: Directory,
        /// Whether decisions are carried out.
        mode: Mode = Mode::Enforce,
        /// How sensitivity labels are found.
        labels: Labels,
        /// Where patients' consents come from.
        consent: Consent,
        /// Emergency access (42 CFR 2.51).
        emergency: Emergency,
        /// Bounds on everything.
        limits: Limits,
        /// What unusual behaviour is answered with.
        risk: Risk,
        /// What people are told at once.
        alerts: Alerts,
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
        /// The key that seals the audit records at rest: 32 bytes in base64. Without it they stand in the clear.
        audit_encryption_file: Option<FilePath>,
    }
    check check_keys;
}

section! {
    /// The policy set.
    pub struct Policies {
        /// Its directory.
        dir: FilePath,
        /// Whether a set other than the shipped one must carry the proof that `policy prove --save` leaves beside it. One
        /// that carries a failed proof is refused either way.
        proof: ProofWanted = ProofWanted::Optional,
    }
}

words! {
    /// Whether a policy set must be proved.
    pub enum ProofWanted {
        /// It must.
        Required = "required",
        /// It need not; that it is not is logged.
        Optional = "optional",
    }
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

impl Gateway {
    /// The configuration as JSON, secrets blanked: for `/config`.
    pub fn shown(&self) -> serde_json::Value {
        Setting::shown(self)
    }
}
