//! Step-up (RFC 9470): what is asked of the authentication of users, beside what policies ask.

use fhir_profiles::interaction::Interaction;
use fhirwall_policy::reason::Reason;

use super::{Journey, Visit, public};
use crate::refusal::Refusal;

impl Journey<'_> {
    /// Refuses a user whose sign-in is too weak or too old for this endpoint. It follows from token and configuration
    /// alone, so it is told as such, before the EHR is asked.
    pub(super) fn authenticated_enough(&self, visit: &Visit<'_>, interaction: &Interaction) -> Result<(), Refusal> {
        let met = visit.endpoint.step_up.met_by(visit.subject, interaction.changes(), self.now);
        met.map_err(|error| Refusal::identify(&error, public::resource_metadata(visit.endpoint).as_deref()))
    }
}

/// A policy's refusal for weak authentication tells the client what to come back with.
pub(super) fn challenged(refusal: Refusal, visit: &Visit<'_>) -> Refusal {
    if refusal.reason != Reason::StrongerAuthenticationNeeded {
        return refusal;
    }
    let error = visit.endpoint.step_up.by_policy();
    let challenges = error.challenge(public::resource_metadata(visit.endpoint).as_deref()).into_iter().collect();
    Refusal { challenges, ..refusal }
}
