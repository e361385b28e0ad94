//! Collecting the evidence from where it stands.

use std::ops::ControlFlow;

use aws_lc_rs::digest::{SHA256, digest};
use fhirwall_policy::cedar::{Mode as PolicyMode, PolicySet};
use fhirwall_policy::tables::Tables;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{
    AuditState, ConfigurationState, ControlState, DecisionCounts, Evidence, FindingState, PartnerState, PolicyLine,
    PolicyState, ProofState, State, WaiverState,
};
use crate::audit::read::{Entry, Filter, scan};
use crate::audit::verify::{Anchors, Verification, verify_chains};
use crate::audit::{EncryptionKey, Kind};
use crate::config::{Config, RegisteredPartner, Setting as _};
use crate::control::{self, Finding, Held};
use crate::scan::Scanned;

/// The code under which Part 2 records are labelled.
const PART2: &str = "42CFRPart2";

/// From when to when decisions are counted; open ends are the log's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Period {
    pub from: Option<OffsetDateTime>,
    pub to: Option<OffsetDateTime>,
}

/// Why there is no evidence.
#[derive(Debug, Error)]
pub enum CollectError {
    #[error("the policy set does not load:\n{0}")]
    Policies(String),
    #[error("the shipped decision tables do not load: {0}")]
    Tables(String),
    #[error("the audit log in `{dir}` cannot be read")]
    Audit {
        dir: String,
        #[source]
        source: std::io::Error,
    },
}

/// Collects everything as it stands at `now`. `scanned` is what a scan of the neighbours brought, if one was made;
/// `key` opens a sealed log.
///
/// # Errors
/// When policies or the log cannot be read: half the evidence is none.
pub fn collect(
    config: &Config,
    scanned: Option<&Scanned>,
    key: Option<&EncryptionKey>,
    period: Period,
    now: OffsetDateTime,
) -> Result<Evidence, CollectError> {
    let set = PolicySet::load(&config.policy_files()).map_err(|problems| {
        CollectError::Policies(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let mut findings = control::findings_under(config, Ok(&set), now);
    findings.extend(scanned.into_iter().flat_map(|scanned| scanned.findings.iter().cloned()));
    Evidence {
        made: text(now),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration: configuration(config),
        controls: control::controls().map(|control| state(control, &findings, scanned.is_some())).collect(),
        policies: policies(config, &set)?,
        partners: config.partners.iter().map(|partner| partner_state(partner)).collect(),
        audit: audit(config)?,
        decisions: decisions(config, key, period)?,
    }
    .with_unreadable(config, key)
}

impl Evidence {
    /// Counts the records that the key at hand does not open.
    fn with_unreadable(mut self, config: &Config, key: Option<&EncryptionKey>) -> Result<Self, CollectError> {
        let mut unreadable = 0_u64;
        read(config, key, &Filter::default(), |entry| {
            if entry.body.is_none() {
                unreadable = unreadable.saturating_add(1);
            }
        })?;
        self.audit.unreadable = unreadable;
        Ok(self)
    }
}

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn configuration(config: &Config) -> ConfigurationState {
    let gateway = &config.gateway;
    let mut shown = gateway.shown().to_string();
    for partner in config.partners.iter() {
        shown.push_str(&partner.file.shown().to_string());
    }
    let sha256 = digest(&SHA256, shown.as_bytes());
    ConfigurationState {
        sha256: sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        mode: word(&gateway.mode.shown()),
        endpoints: gateway.endpoints.iter().map(|one| (one.name.clone(), one.base_url.base().to_owned())).collect(),
        issuers: gateway.issuers.iter().map(|one| one.issuer.clone()).collect(),
    }
}

fn state(control: &'static control::Control, findings: &[Finding], scanned: bool) -> ControlState {
    let own: Vec<&Finding> = findings.iter().filter(|finding| finding.control.id == control.id).collect();
    let state = if own.is_empty() {
        match control.held {
            Held::ByScan if !scanned => State::NotAsked,
            Held::ByScan | Held::ByCheck(_) | Held::AtLoad(_) => State::Met,
        }
    } else if own.iter().all(|finding| finding.waiver.is_some()) {
        State::Waived
    } else {
        State::Unmet
    };
    let finding = |finding: &&Finding| FindingState {
        subject: finding.subject.clone(),
        what: finding.what.clone(),
        fix: control.fix.to_owned(),
        waiver: finding.waiver.as_ref().map(|waiver| WaiverState {
            reason: waiver.reason.clone(),
            owner: waiver.owner.clone(),
            until: waiver.until.to_string(),
        }),
    };
    ControlState {
        id: control.id.to_owned(),
        severity: control.severity.to_string(),
        requirement: control.cites.to_owned(),
        asks: control.asks.to_owned(),
        state,
        findings: own.iter().map(finding).collect(),
    }
}

fn policies(config: &Config, set: &PolicySet) -> Result<PolicyState, CollectError> {
    let shipped: Vec<_> =
        fhirwall_policy::tables::SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let tables = Tables::read(&shipped).map_err(|problems| CollectError::Tables(problems.join("\n")))?;
    let line = |policy: &fhirwall_policy::cedar::PolicyMeta| PolicyLine {
        id: policy.id.clone(),
        says: policy.says.clone(),
        cites: policy.cites.clone(),
        effect: if policy.permits { "permit" } else { "forbid" }.to_owned(),
        mode: match policy.mode {
            PolicyMode::Enforce => "enforce",
            PolicyMode::Shadow => "shadow",
        }
        .to_owned(),
    };
    let report = config.policies.iter().find(|file| file.name == crate::prove::REPORT);
    Ok(PolicyState {
        epoch: set.epoch().to_owned(),
        policies: set.policies().map(line).collect(),
        table_rows: tables.len(),
        table_failures: tables.failures(set).iter().map(ToString::to_string).collect(),
        proof: report.and_then(|report| proof(&report.text, set.text_epoch())),
    })
}

/// The saved proof, if it is of this set.
fn proof(report: &str, epoch: &str) -> Option<ProofState> {
    let report: serde_json::Value = serde_json::from_str(report).ok()?;
    if report.get("epoch")?.as_str()? != epoch {
        return None;
    }
    let invariant = |proof: &serde_json::Value| {
        let text = |name: &str| proof.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let broken = proof.get("broken_by").is_some_and(|broken| !broken.is_null());
        let failed = proof.get("failed").and_then(serde_json::Value::as_bool).unwrap_or(false);
        (text("id"), text("says"), !broken && !failed)
    };
    let invariants: Vec<_> = report.get("proofs")?.as_array()?.iter().map(invariant).collect();
    Some(ProofState { holds: invariants.iter().all(|(_, _, holds)| *holds), invariants })
}

fn partner_state(partner: &RegisteredPartner) -> PartnerState {
    let file = &partner.file;
    PartnerState {
        client_id: file.client_id.clone(),
        name: file.name.clone(),
        status: word(&file.status.shown()),
        purposes: file.purposes_of_use.iter().map(|purpose| word(&purpose.shown())).collect(),
        part2_basis: word(&file.part2.basis.shown()),
        redaction: word(&file.part2.redaction.shown()),
        scopes: file.scopes.clone(),
        agreement_until: file.evidence.baa.as_ref().map(|baa| baa.expires.to_string()),
        assessment_until: file.evidence.security_assessment.as_ref().map(|one| one.expires.to_string()),
    }
}

fn word(shown: &serde_json::Value) -> String {
    shown.as_str().unwrap_or_default().to_owned()
}

fn audit(config: &Config) -> Result<AuditState, CollectError> {
    let dir = &config.gateway.audit.dir;
    let anchors = Anchors { keys: Vec::new(), head: None };
    let chains = verify_chains(dir, &anchors).map_err(|source| unreadable(config, source))?;
    let sum = |of: &dyn Fn(&Verification) -> u64| chains.iter().map(|(_, checked)| of(checked)).sum::<u64>();
    let of_kind = |kind: Kind| sum(&|checked| checked.kinds.get(kind.as_str()).copied().unwrap_or(0));
    Ok(AuditState {
        records: sum(&|checked| checked.records),
        segments: sum(&|checked| checked.segments),
        signed_heads: sum(&|checked| checked.heads),
        unsigned: sum(&|checked| checked.unsigned),
        broken: chains.iter().find_map(|(_, checked)| checked.finding.as_ref()).map(|finding| {
            format!("record {} ({} line {}): {}", finding.seq, finding.segment, finding.line, finding.problem)
        }),
        gaps: of_kind(Kind::Gap).saturating_add(of_kind(Kind::Recovery)),
        unreadable: 0,
        chain: chains.iter().map(|(_, checked)| checked.chain.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn decisions(config: &Config, key: Option<&EncryptionKey>, period: Period) -> Result<DecisionCounts, CollectError> {
    let mut counts = DecisionCounts { from: period.from.map(text), to: period.to.map(text), ..Default::default() };
    let filter = Filter { from: period.from, to: period.to, ..Filter::default() };
    read(config, key, &filter, |entry| counts.add(&entry))?;
    Ok(counts)
}

fn read(
    config: &Config,
    key: Option<&EncryptionKey>,
    filter: &Filter,
    mut each: impl FnMut(Entry),
) -> Result<(), CollectError> {
    let found = scan(&config.gateway.audit.dir, key, filter, |entry| {
        each(entry);
        ControlFlow::Continue(())
    });
    found.map_err(|source| unreadable(config, source))
}

fn unreadable(config: &Config, source: std::io::Error) -> CollectError {
    CollectError::Audit { dir: config.gateway.audit.dir.display().to_string(), source }
}

impl DecisionCounts {
    fn add(&mut self, entry: &Entry) {
        let count = |map: &mut std::collections::BTreeMap<String, u64>, name: String, more: u64| {
            let so_far = map.entry(name).or_default();
            *so_far = so_far.saturating_add(more);
        };
        if matches!(entry.kind, Kind::Risk | Kind::Lockdown | Kind::Alert) {
            count(&mut self.events, entry.kind.as_str().to_owned(), 1);
        }
        let Some(record) = entry.record() else { return };
        if entry.kind == Kind::Attempt {
            self.changes_attempted = self.changes_attempted.saturating_add(1);
        }
        if entry.kind == Kind::Refusal {
            self.refusals = self.refusals.saturating_add(1);
            count(&mut self.by_reason, record.reason.unwrap_or_else(|| "none stated".to_owned()), 1);
            count(&mut self.by_exception, record.exception.unwrap_or_else(|| "no exception needed".to_owned()), 1);
        }
        if entry.kind == Kind::Disclosure {
            self.disclosures = self.disclosures.saturating_add(1);
            let part2 = record.labels.iter().any(|label| label == PART2);
            self.part2_disclosures = self.part2_disclosures.saturating_add(u64::from(part2));
            self.emergency_disclosures =
                self.emergency_disclosures.saturating_add(u64::from(record.emergency.is_some()));
            for withheld in record.withheld {
                count(&mut self.withheld, withheld.rule, u64::from(withheld.count));
            }
        }
    }
}
