//! What the dashboard shows, collected from the running gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use fhirwall_policy::cedar::PolicySet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::operations::Operated;
use crate::admin::{Check, Operations as _};
use crate::audit::{AuditRecord, Kind};
use crate::behaviour::Told;
use crate::config::RiskMode;
use crate::config::{RegisteredPartner, Setting as _};
use crate::control::findings_under;
use crate::dashboard::{Board, DecisionLine, FindingLine, LockdownLine, Minute, PartnerLine, RiskLine, Standing};
use crate::state::{Lockdown, LockdownScope};

/// Decisions on the page.
const SHOWN: usize = 25;
/// Callers whose behaviour stood out, on the page.
const NOTICES: usize = 20;
/// Minutes in the plot.
const MINUTES: usize = 60;

impl Operated {
    pub(super) async fn collect(&self) -> Board {
        let shared = &self.gateway.shared;
        let now = shared.clock.now();
        let live = self.live.current();
        let config = &live.generation.config;
        let policies: &PolicySet = &live.generation.policies;
        let lockdowns = self.lockdowns().await.ok();
        let in_force: Vec<&Lockdown> =
            lockdowns.iter().flat_map(|all| all.iter()).filter(|one| now < one.until).collect();
        let mut checks = self.checks();
        if lockdowns.is_none() {
            let detail = "lockdowns cannot be read: the state store does not answer".to_owned();
            checks.push(Check { name: "state".to_owned(), ready: false, detail });
        }
        let recent = shared.audit.recent();
        let usage = Usage::read(&shared.metrics.totals("fhirwall_requests_total"));
        let head = self.audit_head();
        Board {
            now,
            version: env!("CARGO_PKG_VERSION"),
            generation: live.number,
            mode: word(&config.gateway.mode.shown()),
            rejected: self.live.status().rejected.as_ref().map(|rejected| rejected.problems.clone()),
            checks,
            findings: findings_under(config, Ok(policies), now).iter().map(finding).collect(),
            partners: config.partners.iter().map(|partner| line(partner, &in_force, &usage, now)).collect(),
            minutes: minutes(&recent, now),
            decisions: recent.iter().rev().take(SHOWN).map(decision).collect(),
            refusals: refusals(&shared.metrics.totals("fhirwall_decisions_total")),
            audit_spread: shared.metrics.spread("fhirwall_stage_duration_seconds", "stage", "audit"),
            redactions: by_label(&shared.metrics.totals("fhirwall_redactions_total"), &["label"]),
            consents: by_label(&shared.metrics.totals("fhirwall_consent_evaluations_total"), &["outcome"]),
            risks: by_label(&shared.metrics.totals("fhirwall_risk_events_total"), &["kind", "answer"]),
            notices: shared.behaviour.told(NOTICES).into_iter().map(risk).collect(),
            scores_in_shadow: config.gateway.risk.scores.mode == RiskMode::Shadow,
            lockdowns: in_force.into_iter().map(lockdown).collect(),
            audit_head: head
                .as_ref()
                .and_then(|head| Some((head.get("seq")?.as_u64()?, head.get("hash")?.as_str()?.to_owned()))),
        }
    }
}

fn word(shown: &serde_json::Value) -> String {
    shown.as_str().unwrap_or_default().to_owned()
}

fn finding(finding: &crate::control::Finding) -> FindingLine {
    FindingLine {
        control: finding.control.id.to_owned(),
        severity: finding.control.severity.to_string(),
        subject: finding.subject.clone(),
        what: finding.what.clone(),
        waived_until: finding.waiver.as_ref().map(|waiver| waiver.until.to_string()),
    }
}

/// A metric's series: labels and value.
pub(crate) type Series = (BTreeMap<String, String>, u64);

fn by_label(series: &[Series], labels: &[&str]) -> Vec<(String, u64)> {
    let mut totals = BTreeMap::<String, u64>::new();
    for (found, value) in series {
        let name: Vec<&str> = labels.iter().filter_map(|label| found.get(*label)).map(String::as_str).collect();
        let total = totals.entry(name.join(" ")).or_default();
        *total = total.saturating_add(*value);
    }
    totals.into_iter().filter(|(_, total)| *total > 0).collect()
}

fn refusals(series: &[Series]) -> Vec<(String, u64)> {
    let denials: Vec<Series> =
        series.iter().filter(|(labels, _)| labels.get("decision").is_some_and(|one| one == "deny")).cloned().collect();
    by_label(&denials, &["reason"])
}

fn risk(told: Told) -> RiskLine {
    RiskLine {
        time: told.at,
        partner: told.partner.to_string(),
        decision: told.decision,
        score: told.note.score,
        called_for: told.note.answer,
        done: told.done.to_owned(),
        reasons: told.note.reasons.into_iter().map(|reason| reason.says).collect(),
    }
}

/// What each partner has asked for since the start.
struct Usage(BTreeMap<String, (u64, u64, Vec<String>)>);

impl Usage {
    fn read(series: &[Series]) -> Self {
        let mut partners = BTreeMap::<String, (u64, u64, Vec<String>)>::new();
        for (labels, value) in series {
            let label = |name: &str| labels.get(name).map_or("", String::as_str);
            let (requests, refused, used) = partners.entry(label("partner").to_owned()).or_default();
            *requests = requests.saturating_add(*value);
            if label("status").starts_with('4') {
                *refused = refused.saturating_add(*value);
            } else if label("status").starts_with('2') {
                used.push(format!("{} {}", label("interaction"), label("resource_type")));
            }
        }
        for (_, _, used) in partners.values_mut() {
            used.sort();
            used.dedup();
        }
        Self(partners)
    }
}

fn line(partner: &Arc<RegisteredPartner>, lockdowns: &[&Lockdown], usage: &Usage, now: OffsetDateTime) -> PartnerLine {
    let file = &partner.file;
    let stops =
        |one: &&&Lockdown| matches!(&one.scope, LockdownScope::Partner { client_id } if *client_id == file.client_id);
    let standing = match lockdowns.iter().find(stops) {
        Some(lockdown) => Standing::LockedDown(moment(lockdown.until)),
        None if word(&file.status.shown()) == "active" => Standing::Active,
        None => Standing::Suspended,
    };
    let (requests, refused, used) = usage.0.get(&file.client_id).cloned().unwrap_or_default();
    let purposes: Vec<String> = file.purposes_of_use.iter().map(|purpose| word(&purpose.shown())).collect();
    let limit =
        |own: Option<std::num::NonZeroU32>| own.map_or_else(|| "the gateway's".to_owned(), |own| own.to_string());
    let (agreement, assessment) = (&file.evidence.baa, &file.evidence.security_assessment);
    let ended = |last: Option<time::Date>| last.is_none_or(|last| last < now.date());
    PartnerLine {
        client_id: file.client_id.clone(),
        name: file.name.clone(),
        standing,
        purposes: purposes.join(", "),
        part2: format!("Part 2: {}, {}", word(&file.part2.basis.shown()), word(&file.part2.redaction.shown())),
        scopes: file.scopes.clone(),
        used,
        quotas: format!(
            "{} requests a second, {} patients an hour",
            limit(file.limits.requests_per_second),
            limit(file.limits.distinct_patients_per_hour)
        ),
        requests,
        refused,
        evidence_ended: ended(agreement.as_ref().map(|one| one.expires))
            || ended(assessment.as_ref().map(|one| one.expires)),
        agreement_until: agreement.as_ref().map(|one| one.expires.to_string()),
        assessment_until: assessment.as_ref().map(|one| one.expires.to_string()),
    }
}

fn moment(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}

fn lockdown(one: &Lockdown) -> LockdownLine {
    LockdownLine {
        id: one.id.clone(),
        what: match &one.scope {
            LockdownScope::Part2 => "all Part 2 data".to_owned(),
            LockdownScope::Partner { client_id } => format!("partner {client_id}"),
            // Who it is stands in the audit log, for those who may read it.
            LockdownScope::User { .. } => "a user".to_owned(),
            LockdownScope::Endpoint { name } => format!("endpoint {name}"),
        },
        until: moment(one.until),
        reason: one.reason.clone(),
        by: one.by.clone(),
    }
}

/// When a decision was taken: its id says so (UUID version 7, RFC 9562 section 5.7).
fn taken_at(decision: &str) -> Option<OffsetDateTime> {
    let (seconds, nanos) = Uuid::parse_str(decision).ok()?.get_timestamp()?.to_unix();
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    Some(at + time::Duration::nanoseconds(i64::from(nanos)))
}

fn decision((kind, record): &(Kind, AuditRecord)) -> DecisionLine {
    DecisionLine {
        id: record.decision.clone(),
        time: taken_at(&record.decision).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        kind: kind.as_str().to_owned(),
        partner: record.partner.to_string(),
        interaction: record.interaction.clone(),
        resource_type: record.resource_type.clone().unwrap_or_default(),
        status: record.status,
        reason: record.reason.clone(),
        patients: record.patients.len(),
        withheld: record.withheld.iter().fold(0, |sum, one| sum.saturating_add(one.count)),
        emergency: record.emergency.is_some(),
    }
}

/// The last hour by minute, oldest first, as far as the latest decisions reach back.
fn minutes(recent: &[(Kind, AuditRecord)], now: OffsetDateTime) -> Vec<Minute> {
    let mut minutes = vec![Minute::default(); MINUTES];
    for (kind, record) in recent {
        let Some(at) = taken_at(&record.decision) else { continue };
        let Ok(ago) = usize::try_from((now - at).whole_minutes()) else { continue };
        let Some(minute) = MINUTES.checked_sub(ago.saturating_add(1)).and_then(|index| minutes.get_mut(index)) else {
            continue;
        };
        if *kind == Kind::Refusal {
            minute.refused = minute.refused.saturating_add(1);
        } else {
            minute.permitted = minute.permitted.saturating_add(1);
        }
        let withheld = record.withheld.iter().map(|one| u64::from(one.count)).fold(0, u64::saturating_add);
        minute.withheld = minute.withheld.saturating_add(withheld);
    }
    minutes
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn at(time: OffsetDateTime) -> String {
        let seconds = u64::try_from(time.unix_timestamp()).unwrap();
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0)).to_string()
    }

    #[test]
    fn decisions_fall_into_their_minutes() {
        let now = datetime!(2026-11-22 12:00 UTC);
        let record =
            |ago: i64| AuditRecord { decision: at(now - time::Duration::minutes(ago)), ..AuditRecord::default() };
        let recent = [
            (Kind::Disclosure, record(0)),
            (Kind::Refusal, record(59)),
            (Kind::Disclosure, record(60)),
            (Kind::Refusal, record(0)),
        ];
        let minutes = minutes(&recent, now);
        assert_eq!(minutes.len(), MINUTES);
        assert_eq!(minutes[59], Minute { permitted: 1, refused: 1, withheld: 0 });
        assert_eq!(minutes[0], Minute { permitted: 0, refused: 1, withheld: 0 });
        let all: u64 = minutes.iter().map(|minute| minute.permitted + minute.refused).sum();
        assert_eq!(all, 3, "what lies longer back is not shown");
    }

    #[test]
    fn refusals_are_counted_by_reason_and_permits_are_none() {
        let series = |decision: &str, reason: &str, mode: &str, value| {
            let labels = [("decision", decision), ("reason", reason), ("mode", mode)];
            (labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(), value)
        };
        let all = [
            series("permit", "none", "enforce", 9),
            series("deny", "not-found", "enforce", 2),
            series("deny", "not-found", "observe", 1),
            series("deny", "scope", "enforce", 1),
        ];
        assert_eq!(refusals(&all), [("not-found".to_owned(), 3), ("scope".to_owned(), 1)]);
    }

    #[test]
    fn uses_and_refusals_are_counted_by_partner() {
        let series = |partner: &str, status: &str, value| {
            let labels =
                [("partner", partner), ("status", status), ("interaction", "read"), ("resource_type", "Patient")];
            (labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(), value)
        };
        let usage = Usage::read(&[series("a", "200", 5), series("a", "404", 2), series("b", "403", 1)]);
        assert_eq!(usage.0["a"], (7, 2, vec!["read Patient".to_owned()]));
        assert_eq!(usage.0["b"], (1, 1, vec![]));
    }
}
