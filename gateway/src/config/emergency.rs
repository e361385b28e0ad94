//! Emergency access (42 CFR 2.51): what counts as step-up, and who discloses.

use crate::config::read::At;
use crate::config::section::section;

section! {
    /// Emergency access (42 CFR 2.51).
    pub struct Emergency {
        /// The `acr` values that count as multi-factor authentication, and that a step-up asks for (RFC 9470). A token whose
        /// `amr` holds `mfa`, `hwk` or `sc` counts without them. Either way it must be at most fifteen minutes old.
        acr_values: Vec<String> = Vec::new(),
        /// Who discloses in an emergency, as 2.51(c)(2) wants it documented; without it, the endpoint by its name.
        discloser: Option<String>,
    }
    check check_emergency;
}

fn check_emergency(emergency: &Emergency, at: &At<'_>) {
    let odd = |acr: &&String| acr.is_empty() || acr.contains(|c: char| !c.is_ascii_graphic() || "\"\\".contains(c));
    if emergency.acr_values.iter().any(|acr| odd(&acr)) {
        at.problem_at("acr_values", "an `acr` value is one word of visible ASCII", "write what the issuer documents");
    }
}
