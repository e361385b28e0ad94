//! Safe, bounded probes of the integration points: what stands open beside the gateway, at the EHR, the issuers and the
//! partners.
//!
//! Each neighbour is asked a few questions that a careless caller could ask, once, and never anything that changes
//! state. What comes back is looked at for its status and headers and dropped. Findings are of the same catalogue as
//! those of `check`.

mod door;
mod ehr;
mod issuer;
mod keys;
mod labels;
mod partner;
mod tls;

use time::OffsetDateTime;

use crate::config::Config;
use crate::control::{Control, Finding, Unmet, findings_of};
use crate::reach::Reached;

/// What a scan brought.
#[derive(Debug)]
pub struct Scanned {
    /// Rules that are not met, the heaviest first; waivers are attached.
    pub findings: Vec<Finding>,
    /// Everything that was asked, and why there was no answer where there was none.
    pub asked: Vec<Reached>,
    /// Sensitivity labels of the EHR's records that no rule knows, by system and code, with how often they were seen.
    pub unknown_labels: Vec<(String, String, u64)>,
}

/// What the rules of a scan find, in the order in which they are asked.
#[derive(Debug, Default)]
struct Report {
    unmet: Vec<(&'static Control, Unmet)>,
    asked: Vec<Reached>,
}

impl Report {
    fn finding(&mut self, control: &'static Control, subject: &str, what: impl Into<String>) {
        self.unmet.push((control, Unmet { subject: subject.to_owned(), what: what.into() }));
    }

    /// Is this found there already?
    fn has(&self, control: &Control, subject: &str) -> bool {
        self.unmet.iter().any(|(found, unmet)| found.id == control.id && unmet.subject == subject)
    }

    fn asked(&mut self, what: impl Into<String>, failure: Option<String>) {
        self.asked.push(Reached { what: what.into(), failure });
    }
}

/// The rules that a scan holds its answers against.
pub(crate) fn controls() -> impl Iterator<Item = &'static Control> {
    [ehr::CONTROLS, issuer::CONTROLS, partner::CONTROLS, tls::CONTROLS, labels::CONTROLS].into_iter().flatten().copied()
}

/// Asks every integration point of a configuration: EHRs, issuers, partners. Each answer is bounded in size and time.
pub async fn scan(config: &Config, now: OffsetDateTime) -> Scanned {
    let mut report = Report::default();
    for endpoint in &config.gateway.endpoints {
        ehr::probe(endpoint, now, &mut report).await;
    }
    for one in &config.gateway.issuers {
        issuer::probe(one, &config.partners, now, &mut report).await;
    }
    for partner in config.partners.iter() {
        partner::probe(&partner.file, now, &mut report).await;
    }
    let unknown_labels = labels::sample(config, &mut report).await;
    Scanned { findings: findings_of(config, report.unmet, now), asked: report.asked, unknown_labels }
}

#[cfg(test)]
pub(crate) mod tests;
