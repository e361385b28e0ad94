//! `fhirwall run` as a process: it serves, and it ends without dropping a request.

#![expect(clippy::expect_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fhirwall::demo::world::Neighbours;
use tokio::task::JoinSet;

fn start(neighbours: &Neighbours) -> Child {
    Command::new(env!("CARGO_BIN_EXE_fhirwall"))
        .args(["run", "--config"])
        .arg(neighbours.config_file())
        .env("FHIRWALL_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .expect("fhirwall starts")
}

async fn until_ready(neighbours: &Neighbours) {
    let app = &neighbours.treatment;
    let url = format!("{}/Patient/amara-osei", neighbours.base_url());
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if app.client.get(&url, &app.token).await.is_ok_and(|reply| reply.status == 200) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("fhirwall did not get ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_drops_no_request_and_ends_soon() {
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let mut process = start(&neighbours);
    until_ready(&neighbours).await;
    let (served, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    for _ in 0..3 {
        let app = &neighbours.treatment;
        let (client, token) = (app.client.clone(), app.token.clone());
        let url = format!("{}/Patient/amara-osei", neighbours.base_url());
        let (served, failed) = (Arc::clone(&served), Arc::clone(&failed));
        load.spawn(async move {
            loop {
                match client.get(&url, &token).await {
                    Ok(reply) if reply.status == 200 || reply.status == 429 => {
                        served.fetch_add(1, Ordering::AcqRel);
                    }
                    Ok(reply) => {
                        failed.fetch_add(1, Ordering::AcqRel);
                        eprintln!("{}: {}", reply.status, reply.text());
                        return;
                    }
                    // Nobody listens any more: the end of this client's work.
                    Err(error) if format!("{error:#}").contains("refused") => return,
                    Err(error) => {
                        failed.fetch_add(1, Ordering::AcqRel);
                        eprintln!("{error:#}");
                        return;
                    }
                }
            }
        });
    }
    while served.load(Ordering::Acquire) < 20 {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    let status = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(status.success());
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
    let ended = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(failed.load(Ordering::Acquire), 0, "requests were dropped");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let verified = Command::new(env!("CARGO_BIN_EXE_fhirwall"))
        .args(["audit", "verify", "--dir"])
        .arg(neighbours.audit_dir())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn a_bad_configuration_does_not_start() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("fhirwall.yaml");
    std::fs::write(&file, "apiVersion: fhirwall/v1\nkind: Gateway\nlistners: []\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fhirwall")).args(["run", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("listners") && said.contains("listeners"), "{said}");
}
