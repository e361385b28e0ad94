//! State shared by three replicas through a real Redis, and what holds when it is killed, stalled or emptied.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fhirwall::clock::{Clock, SystemClock};
use fhirwall::state::{
    Allowance, Bearer, Distinct, Lockdown, LockdownScope, RedisSettings, RedisState, Revocation, Spending, StateStore,
    StateUnavailable,
};
use time::OffsetDateTime;

/// A redis-server of our own, without persistence.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start_on(port: u16) -> Option<Self> {
        let port_text = port.to_string();
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port_text];
        let child = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn().ok()?;
        let server = Self { child, port };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Some(server)
    }

    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = Self::start_on(port);
        if started.is_none() {
            eprintln!("skipped: there is no redis-server (apt-get install redis-server)");
        }
        started
    }

    fn replica(&self, quarantine: Duration) -> Arc<RedisState> {
        let settings = RedisSettings { quarantine, ..RedisSettings::default() };
        RedisState::new(&format!("redis://127.0.0.1:{}/0", self.port), Arc::new(SystemClock), settings).unwrap()
    }

    async fn replicas(&self) -> [Arc<RedisState>; 3] {
        let replicas = [(); 3].map(|()| self.replica(Duration::ZERO));
        for replica in &replicas {
            replica.refresh().await.unwrap();
        }
        replicas
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A redis-server that speaks TLS alone, with a certificate of this authority.
async fn tls_server(dir: &std::path::Path) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site = dir.join("tls");
    let now = SystemClock.now();
    let mut pki = fhirwall::pki::PkiDirectory::create(&site, "tests", now).unwrap();
    let names = fhirwall_certs::authority::LeafNames {
        common_name: "redis".to_owned(),
        ips: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        ..Default::default()
    };
    let files = pki.issue_server("redis", &names, 1, now).unwrap();
    let key = files.key.unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", "0"]);
    command.args(["--tls-auth-clients", "no", "--tls-port", &port.to_string()]);
    command.arg("--tls-cert-file").arg(&files.certificate).arg("--tls-key-file").arg(&key);
    command.arg("--tls-ca-cert-file").arg(pki.ca_file());
    let Ok(child) = command.stdout(Stdio::null()).spawn() else {
        eprintln!("skipped: there is no redis-server (apt-get install redis-server)");
        return None;
    };
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        tokio::task::yield_now().await;
    }
    Some((child, port))
}

#[tokio::test]
async fn over_tls_only_a_server_of_the_named_authority_is_believed() {
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let Some((mut child, port)) = tls_server(dir.path()).await else { return };
    let replica = |ca: Option<Vec<u8>>| {
        let settings = RedisSettings { ca_pem: ca, patience: Duration::from_secs(5), ..RedisSettings::default() };
        RedisState::new(&format!("rediss://127.0.0.1:{port}/0"), Arc::new(SystemClock), settings).unwrap()
    };
    let own = std::fs::read(dir.path().join("tls/ca.pem")).unwrap();
    let other = fhirwall::pki::PkiDirectory::create(&dir.path().join("other"), "other", SystemClock.now()).unwrap();
    let other = std::fs::read(other.ca_file()).unwrap();
    assert_eq!(replica(Some(own)).refresh().await, Ok(()));
    assert_eq!(replica(Some(other)).refresh().await, Err(StateUnavailable::Away));
    assert_eq!(replica(None).refresh().await, Err(StateUnavailable::Away), "not among the system's roots");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn soon() -> OffsetDateTime {
    SystemClock.now() + Duration::from_secs(600)
}

fn bearer<'a>() -> Bearer<'a> {
    let issuer = "https://idp";
    Bearer { issuer, token_id: "t1", sub: "u1", client_id: "app", patient: None, issued_at: None }
}

fn lockdown() -> Lockdown {
    let (id, reason, by) = ("l1".to_owned(), "mass export".to_owned(), "officer".to_owned());
    Lockdown { id, scope: LockdownScope::Part2, until: soon(), reason, by, spares_emergency: false }
}

#[tokio::test]
async fn a_key_is_first_used_on_one_replica_alone() {
    let Some(server) = Server::start() else { return };
    let replicas = server.replicas().await;
    for n in 0..50 {
        let key = format!("jti-{n}");
        let uses = replicas.iter().map(|replica| replica.first_use(&key, soon()));
        let firsts = futures_util::future::join_all(uses).await;
        assert_eq!(firsts.iter().filter(|first| **first == Ok(true)).count(), 1, "{firsts:?}");
        assert!(firsts.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn three_replicas_spend_one_allowance() {
    let Some(server) = Server::start() else { return };
    let replicas = server.replicas().await;
    // So slow a refill that the test's own time adds nothing.
    let allowance = Allowance { burst: 100, window: Duration::from_secs(36_000) };
    let mut spent = 0;
    let mut refused = 0;
    for n in 0..300_usize {
        match replicas[n % 3].spend("app", 1, allowance).await.unwrap() {
            Spending::Spent { left } => {
                spent += 1;
                assert_eq!(left, 100 - spent);
            }
            Spending::Refused { retry_after } => {
                refused += 1;
                assert!(retry_after <= Duration::from_secs(360), "{retry_after:?}");
            }
        }
    }
    assert_eq!((spent, refused), (100, 200));
    let nothing = Allowance { burst: 0, window: Duration::from_secs(1) };
    assert!(matches!(replicas[0].spend("none", 1, nothing).await, Ok(Spending::Refused { .. })));
}

#[tokio::test]
async fn three_replicas_count_the_same_patients() {
    let Some(server) = Server::start() else { return };
    let replicas = server.replicas().await;
    let hour = Duration::from_secs(3600);
    assert_eq!(replicas[0].add_distinct("u", &["1", "2", "1"], 3, hour).await, Ok(Distinct::Added { size: 2 }));
    assert!(matches!(replicas[1].add_distinct("u", &["3", "4"], 3, hour).await, Ok(Distinct::Refused { .. })));
    assert_eq!(replicas[2].add_distinct("u", &["2", "3"], 3, hour).await, Ok(Distinct::Added { size: 3 }));
}

#[tokio::test]
async fn what_one_replica_revokes_all_refuse_after_their_next_refresh() {
    let Some(server) = Server::start() else { return };
    let [a, b, c] = server.replicas().await;
    a.revoke(Revocation::User { issuer: "https://idp".into(), sub: "u1".into() }, soon()).await.unwrap();
    b.lock_down(lockdown()).await.unwrap();
    assert_eq!(a.is_revoked(bearer()).await, Ok(true), "at once where it was written");
    for replica in [&a, &b, &c] {
        replica.refresh().await.unwrap();
        assert_eq!(replica.is_revoked(bearer()).await, Ok(true));
        assert_eq!(replica.is_revoked(Bearer { sub: "u2", ..bearer() }).await, Ok(false));
        assert_eq!(replica.lockdowns().await.unwrap().len(), 1);
    }
    assert_eq!(c.lift("l1").await, Ok(true));
    a.refresh().await.unwrap();
    assert!(a.lockdowns().await.unwrap().is_empty());
}

/// What holds while the store does not answer, however it came to that.
async fn holds_without_the_store(replica: &RedisState) {
    let allowance = Allowance { burst: 1, window: Duration::from_secs(1) };
    assert_eq!(replica.first_use("jti", soon()).await, Err(StateUnavailable::Away));
    assert_eq!(replica.spend("app", 1, allowance).await, Err(StateUnavailable::Away));
    assert_eq!(replica.refresh().await, Err(StateUnavailable::Away));
    assert_eq!(replica.is_revoked(bearer()).await, Ok(true), "the local copy is good for a minute");
    assert_eq!(replica.lockdowns().await.unwrap().len(), 1);
}

async fn with_a_revocation_and_a_lockdown(replica: &RedisState) {
    replica.revoke(Revocation::Partner { client_id: "app".into() }, soon()).await.unwrap();
    replica.lock_down(lockdown()).await.unwrap();
    replica.refresh().await.unwrap();
}

#[tokio::test]
async fn a_store_that_was_killed_and_comes_back_empty_is_refilled_and_quarantined() {
    let Some(server) = Server::start() else { return };
    let replica = server.replica(Duration::from_secs(60));
    with_a_revocation_and_a_lockdown(&replica).await;
    let fresh = replica.first_use("jti", soon()).await;
    assert_eq!(fresh, Err(StateUnavailable::Away), "a store that was just empty knows of no replay");
    let port = server.kill();
    holds_without_the_store(&replica).await;

    let server = Server::start_on(port).unwrap();
    while replica.refresh().await.is_err() {
        tokio::task::yield_now().await;
    }
    let other = server.replica(Duration::ZERO);
    other.refresh().await.unwrap();
    assert_eq!(other.is_revoked(bearer()).await, Ok(true), "refilled by the replica that knew");
    assert_eq!(other.lockdowns().await.unwrap().len(), 1);
    assert_eq!(replica.first_use("jti", soon()).await, Err(StateUnavailable::Away), "quarantined");
    assert_eq!(other.first_use("jti", soon()).await, Ok(true));
}

#[tokio::test]
async fn a_store_that_stalls_hangs_nobody() {
    let Some(server) = Server::start() else { return };
    let replica = server.replica(Duration::ZERO);
    with_a_revocation_and_a_lockdown(&replica).await;
    server.signal("-STOP");
    holds_without_the_store(&replica).await;
    let user = Revocation::User { issuer: "https://idp".into(), sub: "u2".into() };
    let elsewhere = Bearer { sub: "u2", client_id: "other", ..bearer() };
    assert_eq!(replica.revoke(user, soon()).await, Err(StateUnavailable::Away));
    assert_eq!(replica.is_revoked(elsewhere).await, Ok(true), "here at once");
    server.signal("-CONT");
    while replica.refresh().await.is_err() {
        tokio::task::yield_now().await;
    }
    let other = server.replica(Duration::ZERO);
    other.refresh().await.unwrap();
    assert_eq!(other.is_revoked(elsewhere).await, Ok(true), "and everywhere when the store is back");
    assert_eq!(replica.first_use("jti", soon()).await, Ok(true));
}

#[tokio::test]
async fn an_old_copy_is_no_answer() {
    let Some(server) = Server::start() else { return };
    let settings = RedisSettings { copy_good_for: Duration::ZERO, ..RedisSettings::default() };
    let url = format!("redis://127.0.0.1:{}/0", server.port);
    let replica = RedisState::new(&url, Arc::new(SystemClock), settings).unwrap();
    assert_eq!(replica.is_revoked(bearer()).await, Err(StateUnavailable::Stale), "never fetched");
    replica.refresh().await.unwrap();
    assert_eq!(replica.is_revoked(bearer()).await, Err(StateUnavailable::Stale), "too old");
    assert!(matches!(replica.lockdowns().await, Err(StateUnavailable::Stale)));
}
