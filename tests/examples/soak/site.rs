//! The neighbours, a way before each, and the gateway as a process.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fhirwall::audit::Kind;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::audit::verify::verify;
use fhirwall::demo::world::Neighbours;
use tempfile::TempDir;

use crate::load::Heard;
use crate::way::Way;

pub(crate) struct Site {
    pub(crate) neighbours: Neighbours,
    pub(crate) to_ehr: Way,
    pub(crate) to_issuer: Way,
    pub(crate) to_redis: Way,
    pub(crate) to_sink: Way,
    pub(crate) redis: Option<Redis>,
    pub(crate) sink: Sink,
    /// A token that was revoked at the start.
    pub(crate) revoked: String,
    gateway: Process,
    _dir: TempDir,
}

fn at(url: &str) -> SocketAddr {
    url.strip_prefix("https://").unwrap().split('/').next().unwrap().parse().unwrap()
}

impl Site {
    pub(crate) async fn start(gateway: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
        let (base, issuer) = (neighbours.ehr.base_url(), neighbours.issuer.issuer());
        let (to_ehr, to_issuer) = (Way::to(at(&base)).await, Way::to(at(&issuer)).await);
        let sink = Sink::start();
        let to_sink = Way::to(sink.address).await;
        let redis = Redis::start_at(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let to_redis = Way::to(redis.as_ref().map_or(sink.address, Redis::address)).await;
        configure(&neighbours, [&to_ehr, &to_issuer, &to_sink], redis.is_some());
        let gateway = Command::new(gateway)
            .args(["run", "--config"])
            .arg(neighbours.config_file())
            .env("REDIS_URL", format!("redis://{}/0", to_redis.address))
            .env("FHIRWALL_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Process)
            .expect("the gateway starts");
        let revoked = neighbours.issuer.mint(&neighbours.grant(&neighbours.patient)).unwrap();
        let site = Self { neighbours, to_ehr, to_issuer, to_redis, to_sink, redis, sink, revoked, gateway, _dir: dir };
        site.ready().await;
        site.revoke().await;
        site
    }

    pub(crate) fn pid(&self) -> u32 {
        self.gateway.0.id()
    }

    /// The ways to the neighbours, by port.
    pub(crate) fn ports(&self) -> [(&'static str, u16); 4] {
        let of = |way: &Way| way.address.port();
        [
            ("the EHR", of(&self.to_ehr)),
            ("the issuer", of(&self.to_issuer)),
            ("the shared state", of(&self.to_redis)),
            ("the sink", of(&self.to_sink)),
        ]
    }

    async fn ready(&self) {
        let client = self.neighbours.anonymous().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let url = format!("{}/readyz", self.neighbours.admin_url());
        while !client.get(&url, "").await.is_ok_and(|reply| reply.status == 200) {
            assert!(Instant::now() < until, "the gateway did not get ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn revoke(&self) {
        use base64::Engine as _;
        let claims = self.revoked.split('.').nth(1).unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let what = serde_json::json!({"token": {"issuer": claims["iss"], "id": claims["jti"]}});
        let order = serde_json::json!({"what": what, "by": "security desk", "reason": "lost phone"}).to_string();
        let url = format!("{}/revocations", self.neighbours.admin_url());
        let headers = [(fhirwall::admin::ACT_HEADER, "1")];
        let reply = self.neighbours.anonymous().unwrap().send(http::Method::POST, &url, &headers, order).await.unwrap();
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    /// The EHR dies and comes back at its address.
    pub(crate) async fn restart_ehr(&mut self, after: Duration) {
        let address = self.neighbours.ehr.address();
        let elsewhere = self.neighbours.another_ehr(None).await.unwrap();
        drop(std::mem::replace(&mut self.neighbours.ehr, elsewhere));
        tokio::time::sleep(after).await;
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            match self.neighbours.another_ehr(Some(address)).await {
                Ok(ehr) => break self.neighbours.ehr = ehr,
                Err(error) => assert!(Instant::now() < until, "the EHR cannot come back: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the gateway and holds what was answered to the record, and the sink to the record too.
    pub(crate) async fn end(mut self, heard: &Heard) {
        heard.hold();
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut gateway = self.gateway;
        let status = tokio::task::spawn_blocking(move || gateway.0.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
        self.redis.take();
        let dir = self.neighbours.audit_dir();
        let verified = verify(&dir, &Default::default()).unwrap();
        assert!(verified.finding.is_none(), "{:?}", verified.finding);
        println!("the chain of {} records verifies", verified.last_seq);
        let filter = Filter { kinds: vec![Kind::Disclosure], ..Filter::default() };
        let recorded = entries(&dir, None, &filter).unwrap();
        let recorded: BTreeSet<String> =
            recorded.iter().filter_map(|entry| entry.record()).map(|record| record.decision).collect();
        let served = heard.served();
        assert_eq!(served.difference(&recorded).count(), 0, "answers without a record");
        println!("all {} answers are on record", served.len());
        let (told, twice) = self.sink.told();
        let missing = (1..=verified.last_seq).filter(|seq| !told.contains(seq)).count();
        assert_eq!(missing, 0, "records that the sink was never told");
        println!("the sink was told all {} records, {twice} of them again", verified.last_seq);
    }
}

fn configure(neighbours: &Neighbours, [to_ehr, to_issuer, to_sink]: [&Way; 3], shared: bool) {
    let (base, issuer) = (neighbours.ehr.base_url(), neighbours.issuer.issuer());
    let path = neighbours.config_file();
    let by_way = |url: &str, way: &Way| url.replace(&at(url).to_string(), &way.address.to_string());
    let limits = "{requests_per_second: 100000}";
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(&format!("urls: [{base}]"), &format!("urls: [{}]", by_way(&base, to_ehr)))
        .replace("timeout: 10s", "timeout: 1s")
        .replace(
            &format!("- issuer: {issuer}\n"),
            &format!("- issuer: {issuer}\n    jwks_uri: {}/jwks\n    jwks_refresh: 1s\n", by_way(&issuer, to_issuer)),
        )
        .replace(
            "audit: {dir: audit,",
            &format!("audit: {{sinks: [{{kind: ocsf, url: \"http://{}/siem\"}}], dir: audit,", to_sink.address),
        );
    let text = if shared {
        text.replace("state: {dir: state}", "state: {dir: state, redis_url: \"${REDIS_URL}\"}")
    } else {
        println!("skipped: the shared state, since there is no redis-server");
        text
    };
    let limits = format!(
        "limits: {{user: {limits}, partner: {limits}, address: {{requests_per_second: 100000, failures_per_minute: 1000000}}}}\n"
    );
    std::fs::write(&path, text + &limits).unwrap();
    for partner in std::fs::read_dir(neighbours.dir().join("partners")).unwrap() {
        let path = partner.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("requests_per_second: 50,", "requests_per_second: 100000,")).unwrap();
    }
}

/// The gateway. It ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A redis-server of our own, without persistence.
pub(crate) struct Redis(Child, SocketAddr);

impl Redis {
    pub(crate) fn start_at(address: SocketAddr) -> Option<Self> {
        let port = address.port().to_string();
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port];
        let child = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn().ok()?;
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self(child, address))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.1
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plain HTTP server that keeps the numbers of the records it is told.
#[derive(Clone)]
pub(crate) struct Sink {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    told: Arc<Mutex<(BTreeSet<u64>, usize)>>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = Self { address: listener.local_addr().unwrap(), requests: Arc::default(), told: Arc::default() };
        let own = sink.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        sink
    }

    /// How many requests it took.
    pub(crate) fn count(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The numbers, and how many came again.
    fn told(&self) -> (BTreeSet<u64>, usize) {
        self.told.lock().unwrap().clone()
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut out = stream.try_clone().ok()?;
        let mut input = BufReader::new(stream);
        loop {
            let (mut length, mut line) = (0, String::new());
            while input.read_line(&mut line).ok()? > 0 && line != "\r\n" {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                line.clear();
            }
            if line.is_empty() {
                return None;
            }
            let mut body = vec![0; length];
            input.read_exact(&mut body).ok()?;
            {
                let mut told = self.told.lock().unwrap();
                for event in String::from_utf8(body).ok()?.lines() {
                    let event: serde_json::Value = serde_json::from_str(event).ok()?;
                    let new = told.0.insert(event["metadata"]["sequence"].as_u64()?);
                    told.1 += usize::from(!new);
                }
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
        }
    }
}
