//! The trial run (`mode: observe`): what would be refused is recorded and goes on; what would be removed stays.
//!
//! What a trial run does not lift is in [`observable`], `fhirwall_policy::decide::observe` and `decide::Verdicts`;
//! `docs/adr/0056-what-a-trial-run-does-not-lift.md` has the reasons.

use fhirwall_policy::reason::Reason;

use super::Journey;
use crate::config::Mode;
use crate::redact::Account;
use crate::refusal::Refusal;

impl Journey<'_> {
    /// Is this a trial run?
    pub(super) fn observing(&self) -> bool {
        self.generation.config.gateway.mode == Mode::Observe
    }

    /// Lets a refusal be, where a trial run may: it is noted, and the journey goes on without what was refused.
    pub(super) fn unless_observed<T>(&mut self, result: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
        match result {
            Ok(passed) => Ok(Some(passed)),
            Err(refusal) if self.observing() && observable(refusal.reason) => {
                self.journal.would_refuse(&refusal);
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Is something missing from what a caller was to see whole? The account tells; in a trial run, what would be.
    pub(super) fn seen_whole(&mut self, account: Account) -> Result<(), Refusal> {
        let reduced = account.reduced;
        let would_reduce = account.enforced.as_ref().is_some_and(|enforced| enforced.reduced);
        if reduced || would_reduce {
            self.journal.account(account);
        }
        if would_reduce {
            self.journal.would_refuse(&Refusal::from(Reason::LabelWithheld));
        }
        if reduced { Err(Refusal::from(Reason::LabelWithheld)) } else { Ok(()) }
    }
}

/// May a trial run go on past this refusal? Not past one that says who the caller is, that nothing can be judged or
/// done, that a neighbour failed, that this process has no room, or that an operator stopped the caller.
const fn observable(reason: Reason) -> bool {
    match reason {
        Reason::PurposeNotAllowed
        | Reason::EvidenceExpired
        | Reason::InsufficientScope
        | Reason::PatientMismatch
        | Reason::PolicyForbids
        | Reason::ParameterNotAllowed
        | Reason::LabelWithheld
        | Reason::ConsentDenies
        | Reason::OutsideCompartment
        | Reason::OutsideGranularScope
        | Reason::RateLimited
        | Reason::RiskThrottled
        | Reason::RiskTerminated
        | Reason::StrongerAuthenticationNeeded
        | Reason::ConsentSourceUnavailable => true,
        Reason::MalformedRequest
        | Reason::MisdirectedRequest
        | Reason::UnknownParameter
        | Reason::UnsupportedParameter
        | Reason::UnsupportedInteraction
        | Reason::UnknownInteraction
        | Reason::MethodNotAllowed
        | Reason::UnknownOperation
        | Reason::OperationNotAllowed
        | Reason::NotAcceptable
        | Reason::UnsupportedMediaType
        | Reason::RequestTooLarge
        | Reason::NoCredentials
        | Reason::InvalidToken
        | Reason::CertificateMismatch
        | Reason::PartnerUnknown
        | Reason::PartnerSuspended
        | Reason::PolicyError
        | Reason::NotFound
        | Reason::Overloaded
        | Reason::Lockdown
        | Reason::VersionConflict
        | Reason::PreconditionRequired
        | Reason::LabelWouldBeLowered
        | Reason::UpstreamUnintelligible
        | Reason::UpstreamUnavailable
        | Reason::UpstreamBusy
        | Reason::IssuerUnavailable
        | Reason::AuditUnavailable
        | Reason::StateUnavailable => false,
    }
}
