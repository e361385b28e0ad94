//! The gateway as a process, and what it takes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fhirwall::demo::world::Neighbours;
use tempfile::TempDir;

/// Nobody meets a limit.
const LIMITS: &str = "limits: {user: {requests_per_second: 1000000, concurrent_requests: 100000}, \
     partner: {requests_per_second: 1000000, concurrent_requests: 100000}, \
     address: {requests_per_second: 1000000, failures_per_minute: 1000000}, connections: 20000, idle_timeout: 10m, \
     response_bytes: 64MiB, inflight_bytes: 1GiB, bundle_entries: 1000000}\n";

pub(crate) struct Gateway {
    pub(crate) neighbours: Neighbours,
    /// From the start of the process until it is ready.
    pub(crate) start: Duration,
    child: Child,
    _dir: TempDir,
}

impl Gateway {
    /// Starts on a site that was changed first.
    pub(crate) async fn on(binary: &str, change: impl FnOnce(&Neighbours)) -> Self {
        Self::sharing(binary, None, change).await
    }

    /// The same, its state shared at this URL.
    pub(crate) async fn sharing(binary: &str, redis: Option<&str>, change: impl FnOnce(&Neighbours)) -> Self {
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
        let file = neighbours.config_file();
        let mut text = std::fs::read_to_string(&file).unwrap() + LIMITS;
        if redis.is_some() {
            text = text.replace("state: {dir: state}", "state: {dir: state, redis_url: \"${REDIS_URL}\"}");
        }
        std::fs::write(&file, text).unwrap();
        for partner in std::fs::read_dir(neighbours.dir().join("partners")).unwrap() {
            let path = partner.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let limits = "limits: {requests_per_second: 50, distinct_patients_per_hour: 200}";
            std::fs::write(&path, text.replace(limits, "limits: {requests_per_second: 1000000}")).unwrap();
        }
        change(&neighbours);
        let begun = Instant::now();
        let child = Command::new(binary)
            .args(["run", "--config"])
            .arg(&file)
            .env("REDIS_URL", redis.unwrap_or_default())
            .env("FHIRWALL_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway starts");
        let mut gateway = Self { neighbours, start: Duration::ZERO, child, _dir: dir };
        let client = gateway.neighbours.anonymous().unwrap();
        let url = format!("{}/readyz", gateway.neighbours.admin_url());
        while !client.get(&url, "").await.is_ok_and(|reply| reply.status == 200) {
            assert!(gateway.child.try_wait().unwrap().is_none(), "the gateway did not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gateway.start = begun.elapsed();
        gateway
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse().unwrap()
    }

    /// KiB resident now.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS")
    }

    /// KiB resident at most so far.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM")
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// CPU of the gateway for one of these, asked so many times a round, eight at once.
    pub(crate) async fn cost(&self, times: u32, ask: impl AsyncFn()) -> Duration {
        let eight = async || {
            tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
        };
        self.cost_alone(times.div_ceil(8), eight).await / 8
    }

    /// The same, one after the other.
    pub(crate) async fn cost_alone(&self, times: u32, ask: impl AsyncFn()) -> Duration {
        for _ in 0..times.div_ceil(5) {
            ask().await;
        }
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let before = self.cpu();
            for _ in 0..times {
                ask().await;
            }
            rounds.push((self.cpu() - before) / times);
        }
        rounds.sort_unstable();
        rounds.swap_remove(1)
    }

    /// A read, as the treatment app asks it.
    pub(crate) async fn read(&self) {
        self.ask("/Patient/amara-osei").await;
    }

    pub(crate) async fn ask(&self, below: &str) -> usize {
        let app = &self.neighbours.treatment;
        let url = format!("{}{below}", self.neighbours.base_url());
        let reply = app.client.get(&url, &app.token).await.expect("an answer");
        assert_eq!(reply.status, 200, "{below}: {}", reply.text());
        self.neighbours.ehr.forget();
        reply.body.len()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process so far, user and system, in hundredths of a second (proc(5), stat, fields 14 and 15).
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
