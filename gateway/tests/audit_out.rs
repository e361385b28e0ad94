//! What comes out of the log: AuditEvents that meet BALP's required elements, reports, and sealed records.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fhirwall::audit::event::{Site, events};
use fhirwall::audit::read::{Entry, Filter, entries};
use fhirwall::audit::verify::{Anchors, verify};
use fhirwall::audit::{
    AuditConfig, AuditLog, AuditRecord, EncryptionKey, Kind, Record, SigningKey, Withheld, ocsf, report,
};
use fhirwall::clock::FixedClock;
use fhirwall_policy::reason::Reason;
use serde_json::Value;
use time::OffsetDateTime;

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const CUSTODIAN: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";

/// BALP's required elements of a pattern: type, action, the agents' roles, the entities.
struct Required {
    kind: &'static str,
    action: &'static str,
    agents: &'static [(&'static str, &'static str)],
    entities: &'static [&'static str],
}

const REST: &str = "rest";

/// By the profiles' differentials (IHE ITI BALP): `IHE.BasicAudit.*`.
fn required(profile: &str) -> Option<Required> {
    const PATIENT: &str = "1/1";
    const DATA: &str = "2/4|3|20";
    const QUERY: &str = "2/24";
    let of = |kind, action, agents, entities| Some(Required { kind, action, agents, entities });
    match profile {
        "Read" => of(REST, "R", &[(DCM, "110152"), (DCM, "110153")], &[DATA]),
        "PatientRead" => of(REST, "R", &[(DCM, "110152"), (DCM, "110153")], &[DATA, PATIENT]),
        "Query" => of(REST, "E", &[(DCM, "110153"), (DCM, "110152")], &[QUERY]),
        "PatientQuery" => of(REST, "E", &[(DCM, "110153"), (DCM, "110152")], &[QUERY, PATIENT]),
        "Create" => of(REST, "C", &[(DCM, "110153"), (DCM, "110152")], &[DATA]),
        "PatientCreate" => of(REST, "C", &[(DCM, "110153"), (DCM, "110152")], &[DATA, PATIENT]),
        "Update" => of(REST, "U", &[(DCM, "110153"), (DCM, "110152")], &[DATA]),
        "PatientUpdate" => of(REST, "U", &[(DCM, "110153"), (DCM, "110152")], &[DATA, PATIENT]),
        "Delete" => of(REST, "D", &[(DCM, "110150"), (CUSTODIAN, "custodian")], &[DATA]),
        "PatientDelete" => of(REST, "D", &[(DCM, "110150"), (CUSTODIAN, "custodian")], &[DATA, PATIENT]),
        "AuthZconsent" => of("110113", "E", &[(DCM, "110150")], &[PATIENT, "Consent"]),
        "PrivacyDisclosure.Source" => of("110106", "R", &[(DCM, "110153"), (DCM, "110152")], &[DATA, PATIENT]),
        _ => None,
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn has_role(agent: &Value, (system, code): (&str, &str)) -> bool {
    list(&agent["type"], "coding").iter().any(|c| c["system"] == system && c["code"] == code)
}

fn is_entity(entity: &Value, wanted: &str) -> bool {
    let Some((kind, roles)) = wanted.split_once('/') else { return entity["type"]["code"] == wanted };
    let role = entity["role"]["code"].as_str().unwrap_or("");
    entity["type"]["code"] == kind && roles.split('|').any(|wanted| wanted == role)
}

/// What a pattern requires and the event lacks.
fn lacks(profile: &str, event: &Value) -> Vec<String> {
    let required = required(profile).unwrap();
    let mut lacking = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            lacking.push(what.to_owned());
        }
    };
    must(event["resourceType"] == "AuditEvent", "resourceType");
    must(event["type"]["code"] == required.kind, "type");
    must(event["action"] == required.action, "action");
    must(!list(event, "subtype").is_empty(), "subtype");
    must(event["recorded"].as_str().is_some_and(|t| t.len() >= 20), "recorded");
    must(["0", "4", "8", "12"].iter().any(|code| event["outcome"] == *code), "outcome");
    must(event["source"]["observer"].is_object(), "source.observer");
    let agents = list(event, "agent");
    for role in required.agents {
        must(agents.iter().any(|agent| has_role(agent, *role)), &format!("agent {}", role.1));
    }
    must(
        agents.iter().all(|agent| agent["who"].is_object() && agent["requestor"].is_boolean()),
        "agent.who, requestor",
    );
    must(agents.iter().filter(|agent| agent["requestor"] == true).count() <= 1, "one requestor");
    let entities = list(event, "entity");
    for wanted in required.entities {
        must(entities.iter().any(|entity| is_entity(entity, wanted)), &format!("entity {wanted}"));
    }
    let query = entities.iter().find(|entity| is_entity(entity, "2/24"));
    must(query.is_none_or(|q| q["query"].is_string() && q["what"].is_null() && q["detail"].is_null()), "query");
    lacking
}

fn entry(kind: Kind, record: &AuditRecord) -> Entry {
    Entry {
        seq: 7,
        time: OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap(),
        kind,
        hash: "ab".repeat(32),
        body: Some(serde_json::to_value(record).unwrap()),
    }
}

fn site() -> Site {
    Site { name: "north".to_owned(), base_url: "https://fhir.example.org/fhir".to_owned() }
}

fn record(interaction: &str) -> AuditRecord {
    AuditRecord {
        decision: "d1".to_owned(),
        request_id: "r1".into(),
        interaction: interaction.to_owned(),
        resource_type: Some("Condition".to_owned()),
        instance: (!interaction.contains("search")).then(|| "Condition/c1".to_owned()),
        query: interaction.contains("search").then(|| "patient=p1".to_owned()),
        partner: "app".into(),
        issuer: "https://idp.example".into(),
        user: "u1".into(),
        token: "jti-1".into(),
        purpose: Some("TREAT".to_owned()),
        address: Some("192.0.2.7".to_owned()),
        patients: vec!["p1".to_owned()],
        instances: vec!["Condition/c1".to_owned()],
        labels: vec!["42CFRPart2".to_owned()],
        withheld: vec![Withheld { rule: "label-withheld".to_owned(), count: 2, labels: vec![] }],
        consents: vec!["consent-1".to_owned()],
        status: Some(200),
        ..AuditRecord::default()
    }
}

fn profile(event: &Value) -> String {
    event["meta"]["profile"][0].as_str().unwrap().rsplit_once("BasicAudit.").unwrap().1.to_owned()
}

#[test]
fn every_interaction_gives_events_with_all_that_balp_requires() {
    let interactions = ["read", "vread", "search-type", "search-system", "create", "update", "patch", "delete"];
    for interaction in interactions.into_iter().chain(["history-instance", "history-type", "operation", "batch"]) {
        for patients in [vec![], vec!["p1".to_owned()], vec!["p1".to_owned(), "p2".to_owned()]] {
            for refused in [None, Some(Reason::ConsentDenies), Some(Reason::MalformedRequest)] {
                let mut record = AuditRecord { patients: patients.clone(), ..record(interaction) };
                if let Some(reason) = refused {
                    record = record.refused(reason, 404);
                }
                let kind = if refused.is_some() { Kind::Refusal } else { Kind::Disclosure };
                let events = events(&entry(kind, &record), &site());
                assert!(!events.is_empty());
                for event in &events {
                    assert_eq!(lacks(&profile(event), event), [""; 0], "{interaction}: {event}");
                }
                let disclosures = events.iter().filter(|e| e["type"]["code"] == "110106").count();
                assert_eq!(disclosures, if refused.is_some() { 0 } else { patients.len() });
                let expected = match refused {
                    None => "0",
                    Some(Reason::ConsentDenies) => "8",
                    Some(_) => "4",
                };
                assert!(events.iter().all(|event| event["outcome"] == expected));
            }
        }
    }
}

#[test]
fn the_table_accepts_the_published_examples() {
    let shared = std::env::var("FHIRWALL_SHARED")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let dir = shared.join("data/ihe-balp-auditevent-r4");
    if !dir.is_dir() {
        eprintln!("skipped: no published examples in `{}`", dir.display());
        return;
    }
    let examples = [
        ("BasicReadServer", "PatientRead"),
        ("BasicReadClient", "PatientRead"),
        ("BasicReadOServer", "PatientRead"),
        ("BasicReadNoPatient", "Read"),
        ("BasicQueryGetServer", "PatientQuery"),
        ("BasicQueryGetNoPatient", "Query"),
        ("BasicQueryPost", "PatientQuery"),
        ("BasicCreateServer", "PatientCreate"),
        ("BasicCreateNoPatient", "Create"),
        ("BasicUpdate1", "PatientUpdate"),
        ("BasicPatch", "PatientUpdate"),
        ("BasicDeleteServer", "PatientDelete"),
        ("BasicDeleteNoPatient", "Delete"),
        ("AuthZconsent", "AuthZconsent"),
        ("AuthZconsent-deny", "AuthZconsent"),
        ("PrivacyDisclosure-source", "PrivacyDisclosure.Source"),
    ];
    for (name, profile) in examples {
        let text = fs::read_to_string(dir.join(format!("AuditEvent-ex-audit{name}.json"))).unwrap();
        assert_eq!(lacks(profile, &serde_json::from_str(&text).unwrap()), [""; 0], "{name}");
    }
}

#[test]
fn what_belongs_to_several_patients_is_in_no_ones_event() {
    let mut record = record("search-type");
    record.patients = vec!["p1".to_owned(), "p2".to_owned()];
    record.query = None;
    let events = events(&entry(Kind::Disclosure, &record), &site());
    for event in &events {
        let text = event.to_string();
        assert!(text.contains("Patient/p1") != text.contains("Patient/p2"), "{text}");
        for shared in ["42CFRPart2", "Condition/c1", "label-withheld"] {
            assert!(!text.contains(shared), "{shared} in {text}");
        }
    }
    let ids: std::collections::BTreeSet<_> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
}

#[test]
fn ocsf_names_who_did_what_and_how_it_ended() {
    let event = ocsf::event(&entry(Kind::Refusal, &record("read").refused(Reason::ConsentDenies, 404)));
    assert_eq!(event["class_uid"], 6003);
    assert_eq!((&event["type_uid"], &event["status_id"]), (&600_302.into(), &2.into()));
    assert_eq!(event["actor"]["user"]["uid"], "u1");
    assert_eq!(event["unmapped"]["information_blocking_exception"], "45 CFR 171.202");
}

struct Sealed {
    dir: tempfile::TempDir,
    key: EncryptionKey,
}

/// A sealed log of two disclosures (one of two patients) and a refusal.
async fn sealed() -> Sealed {
    let key = EncryptionKey::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig {
        encryption_key: Some(key.clone()),
        recent_decisions: 1,
        ..AuditConfig::new(dir.path(), SigningKey::generate().unwrap().0)
    };
    let log = AuditLog::open(config, Arc::new(FixedClock::at(1_767_225_600))).unwrap();
    log.record(Record::disclosure(record("read"))).await.unwrap();
    let both = AuditRecord { patients: vec!["p1".into(), "p2".into()], decision: "d2".into(), ..record("search-type") };
    log.record(Record::disclosure(both)).await.unwrap();
    let refused = AuditRecord { decision: "d3".into(), ..record("read").refused(Reason::LabelWithheld, 404) };
    log.record(Record::refusal(refused)).await.unwrap();
    for id in ["d1", "d3"] {
        assert_eq!(log.decision(id).unwrap().unwrap().1.decision, id, "from memory and from the log");
    }
    assert!(log.decision("d9").unwrap().is_none());
    log.close().await;
    Sealed { dir, key }
}

#[tokio::test]
async fn a_sealed_log_tells_nothing_without_its_key_and_verifies_all_the_same() {
    let Sealed { dir, key } = sealed().await;
    for file in fs::read_dir(dir.path()).unwrap() {
        let text = String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned();
        for secret in ["p1", "u1", "Condition", "jti-1"] {
            assert!(!text.contains(&format!("\"{secret}")), "{secret}");
        }
    }
    let result = verify(dir.path(), &Anchors::default()).unwrap();
    assert_eq!((result.finding, result.kinds["disclosure"]), (None, 2));
    let blind = entries(dir.path(), None, &Filter { kinds: vec![Kind::Disclosure], ..Filter::default() }).unwrap();
    assert!(blind.len() == 2 && blind.iter().all(|entry| entry.body.is_none()));
    let wrong = EncryptionKey::from_base64("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    assert!(entries(dir.path(), Some(&wrong), &Filter::default()).unwrap().iter().all(|e| e.record().is_none()));
    let open = entries(dir.path(), Some(&key), &Filter { patient: Some("p2".into()), ..Filter::default() }).unwrap();
    assert_eq!(open.len(), 1);
}

#[tokio::test]
async fn an_accounting_lists_each_disclosure_of_the_patient_and_nothing_of_others() {
    let Sealed { dir, key } = sealed().await;
    let all = entries(dir.path(), Some(&key), &Filter::default()).unwrap();
    let of_p1 = report::accounting("p1", &all);
    assert_eq!(of_p1.disclosures.len(), 2);
    assert_eq!(of_p1.disclosures[0].instances, ["Condition/c1"]);
    assert!(of_p1.disclosures[0].part2);
    let of_p2 = report::accounting("p2", &all);
    assert_eq!(of_p2.disclosures.len(), 1);
    assert!(of_p2.disclosures[0].instances.is_empty());
    assert!(report::accounting("p3", &all).disclosures.is_empty());

    let incident = report::incident(&all);
    assert_eq!((incident.disclosures, incident.refusals, incident.patients.len()), (2, 1, 2));
    assert_eq!((incident.patients["p1"].disclosures, incident.patients["p2"].disclosures), (2, 1));
    assert!(incident.addresses.contains("192.0.2.7"));
}

/// Forty disclosures ten seconds apart, in small segments, of which those older than 100 s may go.
async fn aging(dir: &Path, clock: &FixedClock, count: u32) -> Arc<AuditLog> {
    let config = AuditConfig {
        segment_bytes: 1500,
        retention: Duration::from_secs(100),
        ..AuditConfig::new(dir, SigningKey::generate().unwrap().0)
    };
    let log = AuditLog::open(config, Arc::new(clock.clone())).unwrap();
    more(&log, clock, count).await;
    log
}

async fn more(log: &AuditLog, clock: &FixedClock, count: u32) {
    for _ in 0..count {
        log.record(Record::disclosure(record("read"))).await.unwrap();
        clock.advance_seconds(10);
    }
}

fn left(dir: &Path) -> usize {
    entries(dir, None, &Filter { kinds: vec![Kind::Disclosure], ..Filter::default() }).unwrap().len()
}

#[tokio::test]
async fn nothing_is_removed_under_a_legal_hold_and_all_that_is_old_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FixedClock::at(1_767_225_600);
    fs::write(dir.path().join("legal-hold"), "case 7").unwrap();
    let log = aging(dir.path(), &clock, 40).await;
    assert_eq!(left(dir.path()), 40);
    fs::remove_file(dir.path().join("legal-hold")).unwrap();
    more(&log, &clock, 10).await;
    log.close().await;
    assert!(left(dir.path()) < 20, "{} left", left(dir.path()));
    assert_eq!(verify(dir.path(), &Anchors::default()).unwrap().finding, None);
}

#[tokio::test]
async fn what_a_sink_has_not_taken_is_not_removed_however_old_its_heads_among_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FixedClock::at(1_767_225_600);
    let log = aging(dir.path(), &clock, 1).await;
    let file = dir.path().join("out.ndjson");
    let sink = Box::new(fhirwall::audit::sinks::NdjsonFile(file.clone()));
    let delivery = fhirwall::audit::delivery::Delivery::new("late", sink, Arc::clone(&log));
    more(&log, &clock, 40).await;
    assert_eq!(left(dir.path()), 41, "the sink has taken none");
    while delivery.run().await.unwrap() > 0 {}
    let told = fs::read_to_string(&file).unwrap();
    assert_eq!(told.matches("\"log_name\":\"disclosure\"").count(), 41);
    assert!(told.contains("\"log_name\":\"head\""));
    more(&log, &clock, 10).await;
    while delivery.run().await.unwrap() > 0 {}
    more(&log, &clock, 10).await;
    log.close().await;
    assert!(left(dir.path()) < 30, "{} left", left(dir.path()));
    assert_eq!(verify(dir.path(), &Anchors::default()).unwrap().finding, None);
}

#[tokio::test]
async fn closed_segments_verify_elsewhere_with_the_public_key_alone() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = SigningKey::generate().unwrap().0;
    let public = key.verifying_key().clone();
    let config = AuditConfig { segment_bytes: 1500, ..AuditConfig::new(dir.path(), key) };
    let log = AuditLog::open(config, Arc::new(FixedClock::at(1_767_225_600))).unwrap();
    for _ in 0..20 {
        log.record(Record::disclosure(record("read"))).await.unwrap();
    }
    log.close().await;
    for entry in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("audit-") {
            fs::copy(entry.path(), elsewhere.path().join(entry.file_name())).unwrap();
        }
    }
    let with = |keys| verify(elsewhere.path(), &Anchors { keys, head: None }).unwrap();
    let verified = with(vec![public.clone()]);
    assert_eq!((verified.finding, verified.kinds["disclosure"]), (None, 20));
    assert!(verified.segments > 3);
    assert!(with(vec![SigningKey::generate().unwrap().0.verifying_key().clone()]).finding.is_some());
}

#[tokio::test]
async fn old_segments_leave_at_the_end_of_their_retention_and_the_rest_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FixedClock::at(1_767_225_600);
    let config = AuditConfig {
        segment_bytes: 1500,
        retention: Duration::from_secs(100),
        ..AuditConfig::new(dir.path(), SigningKey::generate().unwrap().0)
    };
    let log = AuditLog::open(config, Arc::new(clock.clone())).unwrap();
    for _ in 0..40 {
        log.record(Record::disclosure(record("read"))).await.unwrap();
        clock.advance_seconds(10);
    }
    log.close().await;
    let left = entries(dir.path(), None, &Filter { kinds: vec![Kind::Disclosure], ..Filter::default() }).unwrap();
    assert!(left.len() >= 10 && left.len() < 20, "{} left", left.len());
    let result = verify(dir.path(), &Anchors::default()).unwrap();
    assert_eq!(result.finding, None);
    assert!(result.first_seq > 1);
}
