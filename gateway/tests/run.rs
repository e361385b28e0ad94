//! `fhirwall run` as a process: it serves, and it ends without dropping a request.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fhirwall::audit::disk::Directory;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::audit::{AuditConfig, AuditLog, AuditRecord, Record, SigningKey};
use fhirwall::clock::FixedClock;
use fhirwall::demo::apps::App;
use fhirwall::demo::client::HttpsClient;
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::Neighbours;
use tokio::task::JoinSet;

fn start(neighbours: &Neighbours) -> Child {
    command(&neighbours.config_file()).spawn().expect("fhirwall starts")
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fhirwall"));
    command.args(["run", "--config"]).arg(config).env("FHIRWALL_LOG", "warn").stdin(Stdio::null());
    command
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

async fn ended(mut process: Child) {
    let status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
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

/// Runs it on `config` where the system has no certificate authorities, as in an image from scratch.
fn without_authorities(config: &Path) -> Child {
    let mut command = command(config);
    command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null").stderr(Stdio::piped());
    command.spawn().expect("fhirwall starts")
}

/// The configuration with another EHR, which no authority is named for.
fn with_ehr(neighbours: &Neighbours, url: &str) {
    let file = neighbours.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = config.split_once("    upstream:").unwrap();
    let (_, after) = rest.split_once("    part2:").unwrap();
    std::fs::write(&file, format!("{before}    upstream: {{urls: [\"{url}\"]}}\n    part2:{after}")).unwrap();
}

#[tokio::test]
async fn an_image_without_authorities_guards_an_ehr_on_loopback_and_trusts_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    with_ehr(&neighbours, "https://ehr.example.org/fhir");
    let refused = without_authorities(&neighbours.config_file()).wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("name a `ca_file`"), "{told}");

    with_ehr(&neighbours, "http://127.0.0.1:9/fhir");
    let mut process = without_authorities(&neighbours.config_file());
    let until = Instant::now() + Duration::from_secs(30);
    let probe = || {
        let mut probe = Command::new(env!("CARGO_BIN_EXE_fhirwall"));
        probe.args(["probe", "startupz", "--url"]).arg(neighbours.admin_url()).output().unwrap().status.success()
    };
    while !probe() {
        assert!(process.try_wait().unwrap().is_none() && Instant::now() < until, "it did not start");
    }
    signal("-TERM", process.id());
    ended(process).await;
}

/// A gateway that is told to end at once: no client watches its readiness, and all keep asking to the very end.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_drops_no_request_and_ends_soon() {
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    assert!(text.contains("linger: 1ms"));
    let process = start(&neighbours);
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
    signal("-TERM", process.id());
    ended(process).await;
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

/// What the clients of a service that is being exchanged count.
#[derive(Default)]
struct Count {
    served: AtomicU64,
    disclosed: AtomicU64,
    enough: AtomicBool,
}

impl Count {
    async fn grows_by(&self, more: u64) {
        let wanted = self.served.load(Ordering::Acquire) + more;
        while self.served.load(Ordering::Acquire) < wanted {
            tokio::task::yield_now().await;
        }
    }
}

/// Asks until it is enough. Nothing may fail, a refused connection least of all.
async fn ask_all_the_time(manner: Manner, ca: Vec<u8>, app: App, url: String, count: Arc<Count>) -> Result<(), String> {
    let mut client = manner.client(&ca, &app);
    while !count.enough.load(Ordering::Acquire) {
        if manner.is_fresh() {
            client = manner.client(&ca, &app);
        }
        match client.get(&url, &app.token).await {
            Ok(reply) if reply.status == 200 || reply.status == 429 => {
                count.disclosed.fetch_add(u64::from(reply.status == 200), Ordering::AcqRel);
                count.served.fetch_add(1, Ordering::AcqRel);
            }
            Ok(reply) => return Err(format!("{manner:?}: {}: {}", reply.status, reply.text())),
            Err(error) => return Err(format!("{manner:?}: {error:#}")),
        }
    }
    Ok(())
}

/// The process that says to the service manager that it serves now.
fn main_process(told: &UnixDatagram) -> u32 {
    let mut said = [0; 256];
    let read = told.recv(&mut said).expect("a process that serves says so");
    let said = String::from_utf8_lossy(said.get(..read).unwrap()).into_owned();
    assert!(said.contains("READY=1\n"), "{said}");
    said.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_takes_over_under_load_and_no_request_fails() {
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let config = neighbours.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("linger: 1ms, drain: 5s", "linger: 1ms, drain: 20s, upgrade_socket: upgrade.sock");
    std::fs::write(&config, &text).unwrap();
    let bad = config.with_file_name("bad.yaml");
    std::fs::write(&bad, text.replace("policies: {dir: policies}", "policies: {dir: bad}")).unwrap();
    std::fs::create_dir(config.with_file_name("bad")).unwrap();
    std::fs::write(config.with_file_name("bad").join("bad.cedar"), "permit (").unwrap();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let upgrade = |config: &Path| {
        let mut command = command(config);
        command.arg("--upgrade").env("NOTIFY_SOCKET", dir.path().join("notify"));
        command.spawn().expect("fhirwall starts")
    };
    // Nobody serves yet, and the socket of a process that was killed lies there: an ordinary start.
    drop(UnixListener::bind(config.with_file_name("upgrade.sock")).unwrap());
    let first = upgrade(&config);
    assert_eq!(main_process(&manager), first.id());
    until_ready(&neighbours).await;
    let count = Arc::new(Count::default());
    let mut load = JoinSet::new();
    let url = format!("{}/Patient/amara-osei", neighbours.base_url());
    let ca = neighbours.site_ca().unwrap();
    for manner in Manner::ALL.into_iter().chain(Manner::ALL) {
        let app = neighbours.treatment.clone();
        load.spawn(ask_all_the_time(manner, ca.clone(), app, url.clone(), Arc::clone(&count)));
    }
    count.grows_by(40).await;
    // One that cannot start changes nothing.
    let mut refused = upgrade(&bad);
    let status = tokio::task::spawn_blocking(move || refused.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(2));
    count.grows_by(20).await;
    // One that can takes over, and the first ends by itself.
    let second = upgrade(&config);
    assert_eq!(main_process(&manager), second.id());
    ended(first).await;
    count.grows_by(40).await;
    // And so does one that the second was asked to start.
    signal("-USR2", second.id());
    let third = main_process(&manager);
    assert_ne!(third, second.id());
    ended(second).await;
    count.grows_by(40).await;
    count.enough.store(true, Ordering::Release);
    let mut failed = Vec::new();
    while let Some(done) = load.join_next().await {
        failed.extend(done.unwrap().err());
    }
    assert_eq!(failed, Vec::<String>::new(), "of {} requests", count.served.load(Ordering::Acquire));
    signal("-TERM", third);
    // Each process wrote a chain of its own while another wrote too; all are whole, and every answer is on record.
    let (_, text) = (until_let_go(&neighbours).await, verified(&neighbours));
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let beside = found["beside"].as_array().unwrap_or_else(|| panic!("{text}"));
    let disclosures = |chain: &serde_json::Value| chain["kinds"]["disclosure"].as_u64().unwrap_or(0);
    assert!(disclosures(&found) > 0 && disclosures(&beside[0]) > 0, "{text}");
    let all: u64 = std::iter::once(&found).chain(beside).map(disclosures).sum();
    assert!(all >= count.disclosed.load(Ordering::Acquire), "{all}: {text}");
}

/// Every chain of the audit directory can be written by another.
async fn until_let_go(neighbours: &Neighbours) {
    let root = neighbours.audit_dir();
    let until = Instant::now() + Duration::from_secs(30);
    for dir in fhirwall::audit::chains::directories(&root).unwrap() {
        while Directory::lock(&dir).is_err() {
            assert!(Instant::now() < until, "{} is still written", dir.display());
            tokio::task::yield_now().await;
        }
    }
}

fn verified(neighbours: &Neighbours) -> String {
    let verify = ["audit", "verify", "-o", "json", "--dir"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_fhirwall"));
    let output = command.args(verify).arg(neighbours.audit_dir()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// Three ends, each with an answer under way that takes longer than all the rest. The quickest shows what the process itself
/// takes; the others what this machine had to do beside.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_is_gone_within_a_second_of_its_last_answer() {
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let mut after = Vec::new();
    for manner in [Manner::Fresh, Manner::FreshMultiplexed, Manner::Fresh] {
        neighbours.ehr.behave();
        let process = start(&neighbours);
        until_ready(&neighbours).await;
        neighbours.ehr.misbehave(Some("Patient"), Misbehaviour::Slow(Duration::from_millis(1500)));
        let app = neighbours.treatment.clone();
        let client = manner.client(&neighbours.site_ca().unwrap(), &app);
        let url = format!("{}/Patient/amara-osei", neighbours.base_url());
        let asked = neighbours.ehr.log().len();
        let slow = tokio::spawn(async move { client.get(&url, &app.token).await.map(|reply| reply.status) });
        while neighbours.ehr.log().len() == asked {
            tokio::task::yield_now().await;
        }
        signal("-TERM", process.id());
        assert_eq!(slow.await.unwrap().unwrap(), 200);
        let answered = Instant::now();
        ended(process).await;
        after.push(answered.elapsed());
    }
    assert!(after.iter().any(|time| *time < Duration::from_secs(1)), "{after:?}");
}

#[test]
fn an_upgrade_without_a_place_to_ask_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let neighbours = runtime.block_on(Neighbours::start(dir.path(), None)).unwrap();
    let output = command(&neighbours.config_file()).arg("--upgrade").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("shutdown.upgrade_socket"), "{said}");
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

#[tokio::test(flavor = "multi_thread")]
async fn recorded_traffic_is_judged_again_with_the_numbers_that_are_true_of_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let (key, _) = SigningKey::generate().unwrap();
    let clock = FixedClock::at(1_767_225_600);
    let log = AuditLog::open(AuditConfig::new(dir.path(), key), Arc::new(clock.clone())).unwrap();
    let about = |user: &str, n: u32| AuditRecord {
        decision: format!("{user}-{n}"),
        interaction: "read".to_owned(),
        partner: "recovery-path".into(),
        issuer: "https://idp.example".into(),
        user: user.into(),
        ..AuditRecord::default()
    };
    let world = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(world.path(), None).await.unwrap();
    let config = neighbours.config_file();
    // One reads a record now and then; the other guesses ids, sixty in a minute.
    for n in 0..60 {
        let refusal = AuditRecord { reason: Some("not-found".into()), status: Some(404), ..about("guesser", n) };
        log.record(Record::refusal(refusal)).await.unwrap();
        if n % 20 == 0 {
            let read = AuditRecord { patients: vec!["p1".into()], status: Some(200), ..about("reader", n) };
            log.record(Record::disclosure(read)).await.unwrap();
        }
        clock.advance_seconds(1);
    }
    log.close().await;
    let replay = |user: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fhirwall"));
        command.args(["audit", "behaviour", "-o", "json", "--user", user, "--dir"]).arg(dir.path());
        command.arg("--config").arg(&config);
        command.output().unwrap()
    };
    let quiet = replay("reader");
    assert!(quiet.status.success() && quiet.stdout.is_empty(), "{}", String::from_utf8_lossy(&quiet.stdout));
    let told = replay("guesser");
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(1), "{text}");
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["user"], &first["partner"]), (&"guesser".into(), &"recovery-path".into()), "{text}");
    // Each reason counts what was recorded until then, no more and no less.
    let filter = Filter { user: Some("guesser".to_owned()), ..Filter::default() };
    let refused = entries(dir.path(), None, &filter).unwrap();
    for line in text.lines() {
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        let until = refused.iter().filter(|entry| Some(entry.seq) <= told["seq"].as_u64()).count();
        let reasons = told["risk"]["reasons"].as_array().unwrap();
        assert!(reasons.iter().any(|reason| reason["signal"] == "refusals"), "{line}");
        for reason in reasons {
            assert!(reason["says"].as_str().unwrap().contains(&format!("{until} times")), "{until}: {line}");
        }
    }
}
