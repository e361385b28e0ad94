//! What the configuration's format knows and this version does not carry out yet: refused, never silently left out.

use crate::config::{ConsentSource, Gateway};

/// Nothing that is asked for is missing.
///
/// # Errors
/// What is asked for and not carried out, a line each, with what to do.
pub(super) fn all_of(gateway: &Gateway) -> Result<(), String> {
    let asked: &[(bool, &str)] =
        &[(gateway.consent.source == ConsentSource::Server, "consent.source: server; use `upstream`")];
    let missing: Vec<String> = asked
        .iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, what)| format!("this version does not carry out {what}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}
