//! `fhirwall run` as a process: it serves, and it ends without dropping a request.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fhirwall::demo::apps::App;
use fhirwall::demo::client::HttpsClient;
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

/// How a client holds its connections.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// One pool, HTTP/2.
    Multiplexed,
    /// One pool, HTTP/1.1 with keep-alive.
    KeptAlive,
    /// A new connection for each request, HTTP/2.
    FreshMultiplexed,
    /// A new connection for each request, HTTP/1.1.
    Fresh,
}

impl Manner {
    const ALL: [Self; 4] = [Self::Multiplexed, Self::KeptAlive, Self::FreshMultiplexed, Self::Fresh];

    fn client(self, ca: &[u8], app: &App) -> HttpsClient {
        let identity = (std::fs::read(&app.certificate).unwrap(), std::fs::read(&app.key).unwrap());
        match self {
            Self::Multiplexed | Self::FreshMultiplexed => HttpsClient::new(ca, Some(identity)).unwrap(),
            Self::KeptAlive | Self::Fresh => HttpsClient::http1(ca, Some(identity)).unwrap(),
        }
    }

    const fn is_fresh(self) -> bool {
        matches!(self, Self::FreshMultiplexed | Self::Fresh)
    }
}

/// Asks until a new connection is refused: the one end that a client may meet. Anything else is a request dropped.
async fn ask_to_the_end(
    manner: Manner,
    ca: Vec<u8>,
    app: App,
    url: String,
    served: Arc<AtomicU64>,
) -> Result<(), String> {
    let mut client = manner.client(&ca, &app);
    loop {
        if manner.is_fresh() {
            client = manner.client(&ca, &app);
        }
        match client.get(&url, &app.token).await {
            Ok(reply) if reply.status == 200 || reply.status == 429 => {
                served.fetch_add(1, Ordering::AcqRel);
            }
            Ok(reply) => return Err(format!("{manner:?}: {}: {}", reply.status, reply.text())),
            Err(error) if format!("{error:#}").contains("Connection refused") => return Ok(()),
            Err(error) => return Err(format!("{manner:?}: {error:#}")),
        }
    }
}

/// A gateway that is told to end at once: no client watches its readiness, and all keep asking to the very end.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_drops_no_request_and_ends_soon() {
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    assert!(text.contains("linger: 1ms"));
    let mut process = start(&neighbours);
    until_ready(&neighbours).await;
    let served = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    let url = format!("{}/Patient/amara-osei", neighbours.base_url());
    let ca = neighbours.site_ca().unwrap();
    for manner in Manner::ALL.into_iter().chain(Manner::ALL) {
        let app = neighbours.treatment.clone();
        load.spawn(ask_to_the_end(manner, ca.clone(), app, url.clone(), Arc::clone(&served)));
    }
    // Beside them connections that are open and silent: they hold nobody up.
    let _silent: Vec<TcpStream> =
        (0..3).map(|_| TcpStream::connect(neighbours.authority()).expect("a connection")).collect();
    while served.load(Ordering::Acquire) < 40 {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    let status = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(status.success());
    let ended = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let mut dropped = Vec::new();
    while let Some(done) = load.join_next().await {
        dropped.extend(done.unwrap().err());
    }
    assert_eq!(dropped, Vec::<String>::new(), "of {} requests", served.load(Ordering::Acquire));
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
