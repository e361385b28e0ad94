//! Step-up (RFC 9470): is the authentication behind a token strong and fresh enough?

use fhirwall_policy::subject::{Authentication, Subject};
use time::{Duration, OffsetDateTime};

use super::error::IdentifyError;
use crate::config::{EndpointAuthentication, Risk};

/// What an endpoint asks of the authentication of its users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUp {
    /// Of every request, or of those alone that change records.
    needed: AuthenticationNeeded,
    writes_only: bool,
    /// What a client is told to come back with when a policy finds the authentication too weak.
    by_policy: AuthenticationNeeded,
}

impl StepUp {
    /// # Errors
    /// A `max_age` beyond what a clock can count.
    pub fn new(endpoint: &EndpointAuthentication, risk: &Risk) -> Result<Self, String> {
        let whole = |age: std::time::Duration| {
            Duration::try_from(age).map_err(|_| "authentication.max_age is too long".to_owned())
        };
        Ok(Self {
            needed: AuthenticationNeeded {
                acr_values: endpoint.acr_values.clone(),
                max_age: endpoint.max_age.map(whole).transpose()?,
            },
            writes_only: endpoint.writes_only,
            by_policy: AuthenticationNeeded {
                acr_values: risk.step_up_acr_values.clone(),
                max_age: Some(whole(risk.step_up_max_age)?),
            },
        })
    }

    /// Is the authentication behind this caller's token strong and fresh enough for a request that `changes` records, or
    /// does not? Where no user stands behind the token there is nobody to sign in again.
    pub fn met_by(&self, subject: &Subject, changes: bool, now: OffsetDateTime) -> Result<(), IdentifyError> {
        let no_user = subject.fhir_user.is_none() && *subject.sub == *subject.partner.client_id;
        if no_user || (self.writes_only && !changes) {
            return Ok(());
        }
        self.needed.met_by(&subject.authentication, now)
    }

    /// What the client of a request is told that a policy refuses for its authentication.
    pub fn by_policy(&self) -> IdentifyError {
        self.by_policy.refusal()
    }
}

/// What a request asks of the authentication behind its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationNeeded {
    /// Any one of these will do; empty asks for none.
    pub acr_values: Vec<String>,
    pub max_age: Option<Duration>,
}

impl AuthenticationNeeded {
    /// Passes, or tells the client by RFC 9470 what to come back with. What the token does not state is not there.
    pub fn met_by(&self, authentication: &Authentication, now: OffsetDateTime) -> Result<(), IdentifyError> {
        let strong =
            self.acr_values.is_empty() || authentication.acr.as_ref().is_some_and(|acr| self.acr_values.contains(acr));
        let fresh = self.max_age.is_none_or(|max_age| {
            authentication.auth_time.is_some_and(|at| at <= now + super::claims::LEEWAY && now <= at + max_age)
        });
        if strong && fresh {
            return Ok(());
        }
        Err(self.refusal())
    }

    fn refusal(&self) -> IdentifyError {
        IdentifyError::StrongerAuthenticationNeeded {
            acr_values: self.acr_values.clone(),
            max_age: self.max_age.and_then(|age| age.whole_seconds().try_into().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authentication_must_be_strong_and_fresh() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let needed = AuthenticationNeeded { acr_values: vec!["phr".to_owned()], max_age: Some(Duration::seconds(300)) };
        let with = |acr: Option<&str>, age: Option<i64>| Authentication {
            acr: acr.map(str::to_owned),
            auth_time: age.map(|age| now - Duration::seconds(age)),
            ..Authentication::default()
        };
        assert_eq!(needed.met_by(&with(Some("phr"), Some(300)), now), Ok(()));
        for weak in [
            with(Some("phr"), Some(301)),
            with(Some("phr"), None),
            with(Some("phr"), Some(-60)),
            with(Some("pwd"), Some(1)),
            with(None, Some(1)),
        ] {
            assert_eq!(
                needed.met_by(&weak, now),
                Err(IdentifyError::StrongerAuthenticationNeeded {
                    acr_values: vec!["phr".to_owned()],
                    max_age: Some(300)
                })
            );
        }
        assert_eq!(AuthenticationNeeded::default().met_by(&with(None, None), now), Ok(()));
    }
}
