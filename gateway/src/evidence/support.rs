//! The support bundle: what somebody who helps needs to know of a gateway, and nothing about a patient.
//!
//! It is one JSON document, to be read before it is sent (45 CFR 164.502(b)): the evidence without its signature, the
//! configuration and the partners with every secret blanked and no contact, and what the running gateway says of itself. Of
//! the audit log there are counts alone.

use serde_json::{Value, json};

use super::Evidence;
use crate::config::{Config, Setting as _};

/// What the running gateway answered at its admin address, or why it did not.
#[derive(Clone, Debug)]
pub struct Running {
    pub readiness: Result<Value, String>,
    /// The text of `/metrics`: labels of closed sets, no patient, user or token (section 5 of the contract).
    pub metrics: Result<String, String>,
}

/// Puts the bundle together.
pub fn support(config: &Config, evidence: &Evidence, running: &Running) -> Value {
    let partners: Vec<Value> = config.partners.iter().map(|partner| without_people(partner.file.shown())).collect();
    let answered = |found: Result<Value, String>| found.unwrap_or_else(|why| json!({"unanswered": why}));
    let metrics = running.metrics.clone().map(|text| lines(&text));
    json!({
        "about": "fhirwall support bundle: no patient, user, token or key is in it. Read it before you send it.",
        "host": {
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
        },
        "evidence": evidence,
        "configuration": config.gateway.shown(),
        "partners": partners,
        "readiness": answered(running.readiness.clone()),
        "metrics": answered(metrics),
    })
}

/// A partner's file without the people who answer for it.
fn without_people(mut file: Value) -> Value {
    if let Some(members) = file.as_object_mut() {
        members.remove("contacts");
    }
    file
}

/// The samples of an exposition, without its comments.
fn lines(text: &str) -> Value {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>().into()
}
