//! Emergency access (42 CFR 2.51; 45 CFR 164.312(a)(2)(ii)): step-up, what is documented, and telling the program.
//!
//! Whether anything opens is for policy. Here stands what surrounds it: which authentication counts as strong, what a caller
//! who lacks it is told (RFC 9470), what 2.51(c) wants on record, and the program's webhook. The audit log is the webhook's
//! spool: nothing is lost while the program is away, and it may be told twice.

use async_trait::async_trait;
use fhirwall_policy::decide::FRESH;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::Subject;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::read::Entry;
use crate::audit::sinks::{Sink, SinkError};
use crate::audit::webhook::Webhook;
use crate::audit::{EmergencyAccess, Kind};
use crate::config;
use crate::identify::error::IdentifyError;
use crate::identify::stepup::AuthenticationNeeded;

/// What the configuration says of emergency access.
#[derive(Clone, Debug)]
pub struct Emergency {
    needed: AuthenticationNeeded,
    discloser: Option<String>,
}

impl Emergency {
    pub fn of(config: &config::Emergency) -> Self {
        Self {
            needed: AuthenticationNeeded { acr_values: config.acr_values.clone(), max_age: Some(FRESH) },
            discloser: config.discloser.clone(),
        }
    }

    /// The caller, with whether its issuer vouches for a strength that the configuration names.
    #[must_use]
    pub fn stepped_up(&self, mut subject: Subject, now: OffsetDateTime) -> Subject {
        let named = !self.needed.acr_values.is_empty();
        subject.authentication.stepped_up = named && self.needed.met_by(&subject.authentication, now).is_ok();
        subject
    }

    /// What a caller has to come back with whom policy refused for its authentication.
    pub fn challenge(&self) -> IdentifyError {
        IdentifyError::StrongerAuthenticationNeeded {
            acr_values: self.needed.acr_values.clone(),
            max_age: self.needed.max_age.and_then(|age| age.whole_seconds().try_into().ok()),
        }
    }

    /// Who discloses, where the configuration leaves it to the gateway.
    pub fn discloser(&self, endpoint: &str) -> String {
        self.discloser.clone().unwrap_or_else(|| format!("fhirwall, for endpoint {endpoint}"))
    }
}

/// What the record says of a claimed emergency; the discloser is added where the endpoint is known.
pub(crate) fn documented(subject: &Subject) -> Option<EmergencyAccess> {
    // A claim under another purpose opens nothing, and documents nothing.
    subject.purpose.filter(|purpose| purpose.is_a(PurposeOfUse::Etreat))?;
    let claim = subject.emergency.as_ref()?;
    Some(EmergencyAccess {
        reason: claim.reason.clone(),
        patient: claim.patient.as_str().to_owned(),
        until: claim.until.format(&Rfc3339).unwrap_or_default(),
        name: claim.name.clone().unwrap_or_default(),
        affiliation: claim.affiliation.clone().unwrap_or_else(|| subject.partner.name.clone()),
        discloser: String::new(),
    })
}

/// What 2.51(c) wants documented, of one disclosure under emergency access; `None` for any other record.
pub fn documentation(entry: &Entry) -> Option<Value> {
    let record = entry.record().filter(|record| entry.kind == Kind::Disclosure && record.reason.is_none())?;
    let emergency = record.emergency.as_ref()?;
    let user = record.fhir_user.as_deref().unwrap_or(&record.user);
    Some(json!({
        "citation": "42 CFR 2.51(c)",
        "decision": record.decision,
        // (1) the medical personnel, and their affiliation.
        "recipient": {
            "name": if emergency.name.is_empty() { user } else { emergency.name.as_str() },
            "user": user,
            "issuer": record.issuer,
            "affiliation": emergency.affiliation,
            "app": record.partner,
        },
        // (2) who disclosed, (3) when, (4) the nature of the emergency.
        "discloser": emergency.discloser,
        "disclosed_at": entry.time.format(&Rfc3339).unwrap_or_default(),
        "nature": emergency.reason,
        "until": emergency.until,
        "patient": format!("Patient/{}", emergency.patient),
        "endpoint": record.endpoint,
        "interaction": record.interaction,
        "records": record.instances,
        "labels": record.labels,
    }))
}

/// Tells the program of each emergency disclosure, one message each, signed as alerts are.
#[derive(Debug)]
pub struct ProgramWebhook(pub Webhook);

#[async_trait]
impl Sink for ProgramWebhook {
    async fn deliver(&self, entries: &[Entry]) -> Result<(), SinkError> {
        for entry in entries {
            if let Some(data) = documentation(entry) {
                self.0.tell(entry, "fhirwall.emergency-disclosure", &data).await?;
            }
        }
        Ok(())
    }

    fn tells(&self, entry: &Entry) -> bool {
        documentation(entry).is_some()
    }
}
