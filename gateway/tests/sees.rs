//! Every sample record, read by every app: each sees what it should, and no word more.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::fs;
use std::path::Path;

use fhirwall::demo::apps::App;
use fhirwall::demo::world::{Neighbours, World};
use http::StatusCode;

/// Words that only the program's records hold.
const TELLING: &[&str] = &[
    "F11",
    "pioid",
    "uprenorphine",
    "ethadone",
    "42CFRPart2",
    "SUD",
    "NORDSCLCD",
    "arbor",
    "indqvist",
    "Q291bnNlbGluZ",
];

/// A world in which hundreds of requests in a second are nothing to remark on.
async fn patient_world(dir: &Path) -> World {
    let neighbours = Neighbours::start(dir, None).await.unwrap();
    let raise = |path: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    let limits = "limits: {user: {requests_per_second: 5000}, address: {requests_per_second: 5000}}\nmode: enforce";
    raise(&neighbours.config_file(), "mode: enforce", limits);
    for partner in fs::read_dir(dir.join("partners")).unwrap() {
        raise(&partner.unwrap().path(), "requests_per_second: 50", "requests_per_second: 5000");
    }
    World::between(neighbours).unwrap()
}

/// What went wrong when `app` read `record`.
async fn read(world: &World, app: &App, record: &str) -> Option<String> {
    let reply = app.client.get(&format!("{}/{record}", world.base_url()), &app.token).await.unwrap();
    let text = reply.text();
    let seen = app.profile.sees().iter().any(|visible| visible == record);
    let expected = if seen { reply.status == StatusCode::OK } else { reply.status.is_client_error() };
    let own = record.contains("/amara-") && app.profile.client_id != world.research.profile.client_id;
    let told = TELLING.iter().find(|word| !own && text.contains(*word));
    (!expected || told.is_some())
        .then(|| format!("{} {record}: {} (sees it: {seen}), told: {told:?}", app.profile.client_id, reply.status))
}

#[tokio::test]
async fn each_app_reads_what_it_should_and_no_word_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = patient_world(dir.path()).await;
    let mut wrong = Vec::new();
    for app in world.apps() {
        assert!(!app.profile.sees().is_empty());
        for record in world.records() {
            wrong.extend(read(&world, app, &record).await);
        }
    }
    world.stop().await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn searches_hold_the_same_line() {
    let dir = tempfile::tempdir().unwrap();
    let world = patient_world(dir.path()).await;
    let kinds: Vec<String> = {
        let mut kinds: Vec<String> =
            world.records().iter().map(|record| record.split('/').next().unwrap().to_owned()).collect();
        kinds.dedup();
        kinds
    };
    let mut wrong = Vec::new();
    for app in world.apps() {
        for kind in kinds.iter().filter(|kind| !["Binary", "Organization", "Practitioner"].contains(&kind.as_str())) {
            for patient in ["amara-osei", "bruno-vale", "celia-moss", "dov-hart"] {
                let about = if kind == "Patient" { "_id" } else { "patient" };
                let url = format!("{}/{kind}?{about}={patient}", world.base_url());
                let reply = app.client.get(&url, &app.token).await.unwrap();
                let own = patient == "amara-osei" && app.profile.client_id != world.research.profile.client_id;
                let text = reply.text();
                if let Some(word) = TELLING.iter().find(|word| !own && text.contains(*word)) {
                    wrong.push(format!("{} {kind}?{about}={patient}: {word}", app.profile.client_id));
                }
                let entries = reply.json()["entry"].as_array().cloned().unwrap_or_default();
                let got: Vec<String> = entries
                    .iter()
                    .map(|entry| &entry["resource"])
                    .filter(|resource| resource["id"].is_string())
                    .map(|resource| format!("{kind}/{}", resource["id"].as_str().unwrap()))
                    .collect();
                let sees = app.profile.sees();
                if let Some(more) = got.iter().find(|record| !sees.contains(record)) {
                    wrong.push(format!("{} {kind}?{about}={patient}: {more}", app.profile.client_id));
                }
            }
        }
    }
    world.stop().await;
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
