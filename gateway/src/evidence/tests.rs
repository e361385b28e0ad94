use std::sync::Arc;

use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::reason::Reason;
use time::macros::datetime;

use super::*;
use crate::audit::{AuditConfig, AuditLog, AuditRecord, Record, SigningKey, Withheld};
use crate::clock::{Clock, FixedClock};
use crate::config::Config;
use crate::config::tests::Site;
use crate::control::{Unmet, controls, findings_of};
use crate::scan::Scanned;

const NOW: time::OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// A site with the shipped policies and a log of a disclosure, a refusal and an emergency.
async fn site_with_a_log() -> (Site, Config) {
    let site = Site::good();
    std::fs::remove_file(site.path("policies/base.cedar")).unwrap();
    for (name, text) in PolicySet::shipped_files() {
        std::fs::write(site.path("policies").join(name), text).unwrap();
    }
    let dir = site.path("audit");
    site.patch("fhirwall.yaml", "/var/lib/fhirwall/audit", &dir.display().to_string());
    let (key, _) = SigningKey::generate().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(NOW.unix_timestamp()));
    let log = AuditLog::open(AuditConfig::new(dir, key), clock).unwrap();
    let about = |decision: &str| AuditRecord {
        decision: decision.to_owned(),
        partner: "recovery-path".into(),
        user: "nurse-jones".into(),
        patients: vec!["amara-osei".to_owned()],
        labels: vec!["42CFRPart2".to_owned()],
        withheld: vec![Withheld { rule: "part2-consent".to_owned(), count: 3, labels: vec![] }],
        ..AuditRecord::default()
    };
    log.record(Record::disclosure(about("d1"))).await.unwrap();
    let emergency = crate::audit::EmergencyAccess { reason: "unconscious".to_owned(), ..Default::default() };
    log.record(Record::disclosure(AuditRecord { emergency: Some(emergency), ..about("d2") })).await.unwrap();
    log.record(Record::refusal(about("d3").refused(Reason::ConsentDenies, 404))).await.unwrap();
    let config = site.load().unwrap();
    (site, config)
}

fn state_of(evidence: &Evidence, id: &str) -> State {
    evidence.controls.iter().find(|control| control.id == id).unwrap().state
}

#[tokio::test]
async fn everything_an_auditor_asks_for_is_there_and_no_patient() {
    let (_site, config) = site_with_a_log().await;
    let evidence = collect(&config, None, None, Period::default(), NOW).unwrap();
    assert_eq!(evidence.controls.len(), controls().count());
    assert_eq!(state_of(&evidence, "labels-meta"), State::Met);
    assert_eq!(state_of(&evidence, "file-missing"), State::Unmet);
    assert_eq!(state_of(&evidence, "ehr-open"), State::NotAsked);
    assert_eq!(evidence.policies.epoch, epoch(&config));
    assert!(evidence.policies.table_rows > 100 && evidence.policies.table_failures.is_empty());
    assert_eq!(evidence.partners.len(), 3);
    assert_eq!((evidence.audit.broken.as_deref(), evidence.audit.unreadable), (None, 0));
    let DecisionCounts { disclosures, part2_disclosures, emergency_disclosures, refusals, .. } = evidence.decisions;
    assert_eq!((disclosures, part2_disclosures, emergency_disclosures, refusals), (2, 2, 1, 1));
    assert_eq!(evidence.decisions.by_reason["consent-denies"], 1);
    assert_eq!(evidence.decisions.by_exception["45 CFR 171.202"], 1);
    assert_eq!(evidence.decisions.withheld["part2-consent"], 6);
    let document = serde_json::to_string(&evidence).unwrap();
    let page = page(&evidence, None);
    for told in [document.as_str(), page.as_str()] {
        for person in ["amara-osei", "nurse-jones", "unconscious"] {
            assert!(!told.contains(person), "{person} is named");
        }
    }
    assert!(page.contains("consent-denies") && page.contains("Not signed.") && !page.contains("<script"));
}

#[tokio::test]
async fn a_period_leaves_out_what_lies_outside() {
    let (_site, config) = site_with_a_log().await;
    let from = Period { from: Some(NOW + time::Duration::days(1)), to: None };
    assert_eq!(collect(&config, None, None, from, NOW).unwrap().decisions.disclosures, 0);
    let around = Period { from: Some(NOW - time::Duration::days(1)), to: Some(NOW + time::Duration::days(1)) };
    assert_eq!(collect(&config, None, None, around, NOW).unwrap().decisions.disclosures, 2);
}

#[tokio::test]
async fn a_scan_answers_for_its_controls() {
    let (_site, config) = site_with_a_log().await;
    let open = controls().find(|control| control.id == "ehr-open").unwrap();
    let unmet = vec![(open, Unmet { subject: "EHR".to_owned(), what: "it is open".to_owned() })];
    let scanned = Scanned { findings: findings_of(&config, unmet, NOW), asked: vec![], unknown_labels: vec![] };
    let evidence = collect(&config, Some(&scanned), None, Period::default(), NOW).unwrap();
    assert_eq!(state_of(&evidence, "ehr-open"), State::Unmet);
    assert_eq!(state_of(&evidence, "ehr-cors"), State::Met);
    assert!(page(&evidence, None).contains("it is open"));
}

#[tokio::test]
async fn a_broken_chain_and_a_failed_proof_are_told() {
    let (site, _) = site_with_a_log().await;
    let segment = std::fs::read_dir(site.path("audit")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"d1\""))).min();
    let segment = segment.unwrap();
    let text = std::fs::read_to_string(&segment).unwrap().replacen("recovery-path", "recovery-bath", 1);
    std::fs::write(&segment, text).unwrap();
    let epoch = epoch(&site.load().unwrap());
    let report = format!(r#"{{"epoch":"{epoch}","proofs":[{{"id":"a","says":"b","actions":1,"broken_by":{{}}}}]}}"#);
    std::fs::write(site.path("policies/proof.json"), report).unwrap();
    let evidence = collect(&site.load().unwrap(), None, None, Period::default(), NOW).unwrap();
    assert!(evidence.audit.broken.as_ref().is_some_and(|broken| broken.contains("record ")));
    assert!(!evidence.policies.proof.as_ref().unwrap().holds);
    let page = page(&evidence, None);
    assert!(page.contains("The chain is broken at") && page.contains("A proof failed."));
}

fn epoch(config: &Config) -> String {
    PolicySet::load(&config.policy_files()).unwrap().epoch().to_owned()
}
