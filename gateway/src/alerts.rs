//! Alerts: what a person should look at now, each with its runbook.
//!
//! An alert is a record of the audit log. The log's sinks tell it, at least once and in order: signed webhooks and OTLP
//! collectors among them. The same alert about the same subject is told once in a while, with how often it came.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use crate::audit::{AuditLog, Kind, Record};
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// What alerts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alert {
    /// A caller read Part 2 records of more patients than the configuration bounds.
    Part2Export,
    /// The audit chain is not what was written.
    ChainBreak,
    /// A caller is refused again and again.
    Denials,
    /// A suspended partner goes on asking.
    SuspendedPartner,
    /// A certificate or a revocation list runs out.
    CertificateExpiry,
    /// A caller's behaviour was answered, or would be outside shadow mode.
    Behaviour,
    /// Records were disclosed in an emergency (42 CFR 2.51).
    EmergencyAccess,
}

impl Alert {
    pub const ALL: [Self; 7] = [
        Self::Part2Export,
        Self::ChainBreak,
        Self::Denials,
        Self::SuspendedPartner,
        Self::CertificateExpiry,
        Self::Behaviour,
        Self::EmergencyAccess,
    ];

    /// The alert's name, in records, messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Part2Export => "part2-export",
            Self::ChainBreak => "audit-chain-broken",
            Self::Denials => "denials",
            Self::SuspendedPartner => "suspended-partner",
            Self::CertificateExpiry => "certificate-expiry",
            Self::Behaviour => "behaviour",
            Self::EmergencyAccess => "emergency-access",
        }
    }

    /// Where the documentation says what to do.
    pub const fn runbook(self) -> &'static str {
        match self {
            Self::Part2Export => "docs/runbooks/part2-export.md",
            Self::ChainBreak => "docs/runbooks/audit-chain-broken.md",
            Self::Denials => "docs/runbooks/denials-jump.md",
            Self::SuspendedPartner => "docs/runbooks/suspended-partner.md",
            Self::CertificateExpiry => "docs/runbooks/certificate-expiry.md",
            Self::Behaviour => "docs/runbooks/mass-access.md",
            Self::EmergencyAccess => "docs/runbooks/emergency-access.md",
        }
    }
}

/// Raises alerts.
pub struct Alerts {
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    quiet: Duration,
    raised: Mutex<HashMap<(Alert, String), Raised>>,
}

struct Raised {
    at: OffsetDateTime,
    since: u64,
}

/// So many subjects are told apart; beyond, the same alert may be told again early.
const MOST: usize = 10_000;

impl Alerts {
    /// The same alert about the same subject is told once in `quiet`.
    pub fn new(audit: Arc<AuditLog>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>, quiet: Duration) -> Self {
        Self { audit, metrics, clock, quiet, raised: Mutex::default() }
    }

    /// Raises an alert about `subject` (a partner, a file), in a sentence that names no patient. `apart` tells apart what
    /// the subject alone does not, and is not told. Waits for nothing.
    pub fn raise(&self, alert: Alert, subject: &str, apart: &str, says: &str) {
        let Some(before) = self.is_due(alert, format!("{subject}\n{apart}")) else { return };
        self.metrics.alert(alert.as_str());
        tracing::error!(alert = alert.as_str(), subject, says, "alert");
        self.audit.note(Record::of(
            Kind::Alert,
            json!({
                "alert": alert.as_str(),
                "subject": subject,
                "says": says,
                "times_before": before,
                "runbook": alert.runbook(),
            }),
        ));
    }

    /// What lasts for days is told once a day.
    fn quiet(&self, alert: Alert) -> Duration {
        match alert {
            Alert::CertificateExpiry | Alert::ChainBreak => self.quiet.max(Duration::from_hours(24)),
            Alert::Part2Export
            | Alert::Denials
            | Alert::SuspendedPartner
            | Alert::Behaviour
            | Alert::EmergencyAccess => self.quiet,
        }
    }

    /// How often it came unheard since it was last told, if it is to be told now.
    fn is_due(&self, alert: Alert, subject: String) -> Option<u64> {
        let now = self.clock.now();
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.len() >= MOST {
            raised.retain(|(alert, _), one| now - one.at < self.quiet(*alert));
            if raised.len() >= MOST {
                raised.clear();
            }
        }
        match raised.get_mut(&(alert, subject.clone())) {
            Some(one) if now - one.at < self.quiet(alert) => {
                one.since = one.since.saturating_add(1);
                None
            }
            Some(_) | None => {
                let before = raised.insert((alert, subject), Raised { at: now, since: 0 });
                Some(before.map_or(0, |one| one.since))
            }
        }
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("quiet", &self.quiet).finish_non_exhaustive()
    }
}
