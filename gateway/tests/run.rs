//! `fhirwall run` as a process: it serves, and it ends without dropping a request.

#![expect(clippy::expect_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// What a balancer asks.
fn is_ready(admin: &str) -> bool {
    let address = admin.trim_start_matches("http://");
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    socket.write_all(request.as_bytes()).is_ok()
        && socket.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
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
    // A balancer takes the gateway out when readiness goes off, and the gateway lingers for as long as that takes.
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    assert!(text.contains("linger: 1ms"));
    std::fs::write(neighbours.config_file(), text.replace("linger: 1ms", "linger: 1s")).unwrap();
    let mut process = start(&neighbours);
    until_ready(&neighbours).await;
    let away = Arc::new(AtomicBool::new(false));
    let balancer = tokio::task::spawn_blocking({
        let (away, admin) = (Arc::clone(&away), neighbours.admin_url());
        move || {
            while is_ready(&admin) {
                std::thread::sleep(Duration::from_millis(20));
            }
            away.store(true, Ordering::Release);
        }
    });
    let (served, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    for _ in 0..3 {
        let app = &neighbours.treatment;
        let (client, token) = (app.client.clone(), app.token.clone());
        let url = format!("{}/Patient/amara-osei", neighbours.base_url());
        let (served, failed, away) = (Arc::clone(&served), Arc::clone(&failed), Arc::clone(&away));
        load.spawn(async move {
            while !away.load(Ordering::Acquire) {
                match client.get(&url, &token).await {
                    Ok(reply) if reply.status == 200 || reply.status == 429 => {
                        served.fetch_add(1, Ordering::AcqRel);
                    }
                    Ok(reply) => {
                        failed.fetch_add(1, Ordering::AcqRel);
                        eprintln!("{}: {}", reply.status, reply.text());
                        return;
                    }
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
    balancer.await.unwrap();
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
