//! The record told elsewhere while requests are served: nobody waits for a sink, and no sink misses a record, save where
//! the configuration says that an answer waits.

use std::time::{Duration, Instant};

use fhirwall::demo::world::{Neighbours, World};
use tempfile::TempDir;

use crate::kit::FhirServer;
use crate::receiver::Receiver;

/// A world whose configuration has these lines under `audit.sinks`.
pub(crate) async fn world_with(sinks: &str) -> (World, TempDir) {
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("audit: {dir: audit,", &format!("audit: {{sinks: [{sinks}], dir: audit,"));
    std::fs::write(&file, text).unwrap();
    (World::between(neighbours).unwrap(), dir)
}

async fn read(world: &World, below: &str) -> u16 {
    let app = &world.treatment;
    app.client.get(&format!("{}{below}", world.base_url()), &app.token).await.unwrap().status.as_u16()
}

/// The sequence numbers that OCSF lines carry.
pub(crate) fn sequence(text: &str) -> Vec<u64> {
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["metadata"]["sequence"].as_u64();
    text.lines().filter_map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_and_a_dead_sink_hold_up_nobody_and_miss_nothing() {
    let (slow, dead) = (Receiver::start(), Receiver::start());
    slow.answer(0);
    dead.answer(503);
    let of = |receiver: &Receiver| format!("{{kind: ocsf, url: \"http://{}/siem\"}}", receiver.address);
    let sinks = format!("{}, {}", of(&slow), of(&dead));
    let (world, dir) = world_with(&sinks).await;
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(read(&world, "/Patient/amara-osei").await, 200);
    }
    // The stalled sink's own time-out is five seconds: nobody waited for it.
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(slow.told().is_empty() && dead.told().is_empty());
    let told = |text: &str| text.matches("\"log_name\":\"disclosure\"").count() == 20;
    for receiver in [&slow, &dead] {
        receiver.answer(200);
        receiver.until(told).await;
    }
    world.gateway.shutdown(Duration::from_secs(5)).await;
    let last = fhirwall::audit::verify::verify(&dir.path().join("audit"), &Default::default()).unwrap().last_seq;
    for receiver in [slow, dead] {
        let expected: Vec<u64> = (1..=last).collect();
        // Told to the end, the last signed head among it, in order; at the shutdown perhaps twice.
        let mut told = sequence(&receiver.text());
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, expected);
        assert!(receiver.text().contains("\"log_name\":\"head\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_sink_must_acknowledge_no_answer_leaves_before_it_has() {
    let remote = Receiver::start();
    let sink = format!("{{kind: ocsf, url: \"http://{}/siem\", acknowledged: true}}", remote.address);
    let (world, _dir) = world_with(&sink).await;
    assert_eq!(read(&world, "/Patient/amara-osei").await, 200);
    assert_eq!(remote.text().matches("\"log_name\":\"disclosure\"").count(), 1, "it was taken before the answer");
    remote.answer(503);
    assert_eq!(read(&world, "/Patient/amara-osei").await, 503, "no acknowledgement, no answer");
    remote.answer(200);
    assert_eq!(read(&world, "/Patient/amara-osei").await, 200);
    remote.until(|text| text.matches("\"log_name\":\"disclosure\"").count() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_sinks_waits_for_a_restart() {
    let (world, dir) = world_with("").await;
    let file = dir.path().join("fhirwall.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("sinks: []", "sinks: [{kind: file, file: out.ndjson}]")).unwrap();
    let mut status = world.gateway.live.subscribe();
    status.mark_unchanged();
    world.gateway.reload();
    status.changed().await.unwrap();
    let refused = world.gateway.live.status().rejected.unwrap().problems;
    assert!(refused.contains("only with a restart"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_signed_head_is_shown_to_whoever_keeps_it_elsewhere() {
    let (world, dir) = world_with("").await;
    assert_eq!(read(&world, "/Patient/amara-osei").await, 200);
    world.gateway.shared.audit.sign_head().await.unwrap();
    let url = format!("{}/audit/head", world.admin_url());
    let reply = world.anonymous().unwrap().send(http::Method::GET, &url, &[], Vec::new()).await.unwrap();
    assert_eq!(reply.status, 200);
    let head: fhirwall::audit::SignedHead = serde_json::from_slice(&reply.body).unwrap();
    world.gateway.shutdown(Duration::from_secs(5)).await;
    let log = dir.path().join("audit");
    let anchors = fhirwall::audit::verify::Anchors { head: Some(head.clone()), ..Default::default() };
    assert_eq!(fhirwall::audit::verify::verify(&log, &anchors).unwrap().anchored_seq, Some(head.seq));
    // A log that was cut off before it does not contain what the head names.
    let segment = log.join("audit-00000001.ndjson");
    let text = std::fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = text.lines().take(2).collect();
    std::fs::write(&segment, format!("{}\n", lines.join("\n"))).unwrap();
    assert!(fhirwall::audit::verify::verify(&log, &anchors).unwrap().finding.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_accepted_by_another_fhir_server_and_found_there_by_patient() {
    let Some(server) = FhirServer::start() else { return };
    let (world, _dir) = world_with(&format!("{{kind: fhir, url: \"{}\"}}", server.base)).await;
    assert_eq!(read(&world, "/Patient/amara-osei").await, 200);
    assert_eq!(read(&world, "/Condition?patient=amara-osei").await, 200);
    assert_eq!(read(&world, "/Patient/nobody-of-this-name").await, 404);
    let metrics = || world.gateway.shared.metrics.text().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let told = || metrics().lines().any(|line| line.starts_with("fhirwall_audit_sink_behind") && line.ends_with(" 0"));
    while !told() || server.search("AuditEvent?_count=1")["total"].as_u64() < Some(7) {
        assert!(Instant::now() < until, "{}", server.search("AuditEvent"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = server.search("AuditEvent?_count=100");
    let entries = found["entry"].as_array().unwrap();
    let of = |code: &str| entries.iter().filter(|entry| entry["resource"]["type"]["code"] == code).count();
    // Read, search and refusal; and the disclosures of the two answers.
    assert_eq!((of("rest") >= 3, of("110106") >= 2), (true, true), "{found}");
    assert!(entries.iter().any(|entry| entry["resource"]["outcome"] != "0"), "the refusal is among them");
}
