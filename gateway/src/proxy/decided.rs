//! The decision on a request, and what the record says of it.

use fhir_profiles::interaction::Interaction;
use fhirwall_policy::decide::{Asked, Denial, Observed, decide, observe};
use fhirwall_policy::permit::Permit;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::record;

use super::{Journey, Visit, public, stepup};
use crate::refusal::Refusal;

impl Journey<'_> {
    /// Decides, and keeps for the record what was decided on which facts.
    pub(super) fn decide(&mut self, visit: &Visit<'_>, interaction: &Interaction) -> Result<Permit, Refusal> {
        let enough = self.authenticated_enough(visit, interaction);
        self.unless_observed(enough)?;
        let Visit { endpoint, subject, risk, .. } = visit;
        let asked = Asked { subject, interaction, endpoint: &endpoint.facts, risk: *risk, now: self.now };
        let (generation, observing) = (self.generation, self.observing());
        let set = &generation.policies;
        let decided = self.measure("decide", || {
            if observing {
                return observe(set, &asked);
            }
            decide(set, &asked).map(|permit| Observed { permit, would: None, narrowed: false })
        });
        let user = self.journal.pseudonym();
        let id = self.journal.decision.to_string();
        let name = record::Name { decision: &id, user: &user, generation: generation.number };
        let Observed { permit, would, narrowed } = match decided {
            Ok(observed) => observed,
            Err(denial) => {
                self.journal.denied(record::denied(set, &asked, &denial, name));
                return Err(self.refusal_of(visit, denial));
            }
        };
        let decided = match &would {
            None => record::permitted(&permit, Vec::new(), &[], name),
            Some(denial) => record::denied(set, &asked, denial, name),
        };
        self.journal.permit(&permit, decided);
        if narrowed {
            self.journal.would_narrow();
        }
        if let Some(denial) = would {
            let refusal = self.refusal_of(visit, denial);
            self.journal.would_refuse(&refusal);
        }
        Ok(permit)
    }

    /// Keeps for the record of this journey what was decided on another's way: a write of a transaction.
    pub(super) fn keep_permit(&mut self, permit: &Permit) {
        let (user, id) = (self.journal.pseudonym(), self.journal.decision.to_string());
        let name = record::Name { decision: &id, user: &user, generation: self.generation.number };
        self.journal.permit(permit, record::permitted(permit, Vec::new(), &[], name));
    }

    fn refusal_of(&self, visit: &Visit<'_>, denial: Denial) -> Refusal {
        let emergency = visit.subject.purpose.is_some_and(|purpose| purpose.is_a(PurposeOfUse::Etreat));
        let refusal = if denial.reason == Reason::StrongerAuthenticationNeeded && emergency {
            // RFC 9470: the caller is told what to come back with.
            let metadata = public::resource_metadata(visit.endpoint);
            Refusal::identify(&self.generation.emergency.challenge(), metadata.as_deref())
        } else {
            stepup::challenged(Refusal::from(denial.reason), visit)
        };
        Refusal { needed_scope: denial.needed_scope, policies: denial.policies, ..refusal }
    }
}
