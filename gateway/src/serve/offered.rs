//! What the configuration's format knows and this version does not carry out yet: refused, never silently left out.

use crate::config::{ConsentSource, Gateway, LogFormat, Serves};

/// Nothing that is asked for is missing.
///
/// # Errors
/// What is asked for and not carried out, a line each, with what to do.
pub(super) fn all_of(gateway: &Gateway) -> Result<(), String> {
    let asked: [(bool, &str); 8] = [
        (!gateway.trusted_proxies.is_empty(), "trusted_proxies; let clients reach the gateway directly"),
        (
            gateway.endpoints.iter().any(|endpoint| endpoint.upstream.unix_socket.is_some()),
            "endpoints.upstream.unix_socket; use http to loopback",
        ),
        (gateway.consent.source == ConsentSource::Server, "consent.source: server; use `upstream`"),
        (gateway.admin.tls.is_some(), "admin.tls; bind the admin address to loopback without it"),
        (
            gateway.listeners.iter().any(|listener| !listener.serves.contains(&Serves::Fhir)),
            "listeners.serves: [smart] alone, every listener answers on the FHIR bases too; write `[fhir, smart]`",
        ),
        (gateway.telemetry.log_format == LogFormat::Text, "telemetry.log_format: text; write `json`"),
        (gateway.state.ca_file.is_some(), "state.ca_file; have Redis's authority among the system's roots"),
        (!gateway.admin.roles.is_empty(), "admin.roles; whoever reaches the admin address may do everything there"),
    ];
    let missing: Vec<String> = asked
        .iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, what)| format!("this version does not carry out {what}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}
