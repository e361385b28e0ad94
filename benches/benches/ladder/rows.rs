//! What is measured of one proxy, round by round.

use std::time::Duration;

use fhirwall::demo::world::Neighbours;
use fhirwall_benches::load::{Run, Target, closed_loop, once, open_loop};
use fhirwall_benches::meter::{family, median, on_cpu_nanoseconds, resident_bytes};

use super::peers::Proxy;

pub(crate) const CONNECTIONS: usize = 16;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Until it is stopped.
    proxy: Option<Proxy>,
    target: Target,
    cpu: Vec<f64>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// In an open loop at half the rate of the closed one.
    half: Vec<Run>,
    resident: u64,
}

impl Row {
    pub(crate) fn new(name: &'static str, proxy: Proxy, mut target: Target) -> Self {
        target.address = proxy.address;
        let (cpu, rate, p50, p99, half) = (vec![], vec![], vec![], vec![], vec![]);
        let proxy = Some(proxy);
        Self { name, proxy, target, cpu, rate, p50, p99, half, resident: 0 }
    }

    /// The answer to one request.
    pub(crate) async fn once(&self) -> anyhow::Result<Vec<u8>> {
        once(&self.target).await
    }

    /// As fast as answers come.
    pub(crate) async fn saturate(&mut self, neighbours: &Neighbours, seconds: u64) -> anyhow::Result<()> {
        // Warm: connections, caches, tokens.
        closed_loop(&self.target, CONNECTIONS, Duration::from_millis(500)).await?;
        let pids = self.proxy.as_ref().map(|proxy| family(proxy.pid())).unwrap_or_default();
        let before = on_cpu_nanoseconds(&pids);
        let run = closed_loop(&self.target, CONNECTIONS, Duration::from_secs(seconds)).await?;
        let spent = on_cpu_nanoseconds(&pids).saturating_sub(before);
        neighbours.ehr.forget();
        self.resident = self.resident.max(resident_bytes(&pids));
        self.cpu.push(spent as f64 / 1_000.0 / run.requests.max(1) as f64);
        self.rate.push(run.requests as f64 / run.seconds);
        self.p50.push(milliseconds(run.percentile(50)));
        self.p99.push(milliseconds(run.percentile(99)));
        Ok(())
    }

    /// At half the rate that it reached, whether or not answers come.
    pub(crate) async fn arrive(&mut self, neighbours: &Neighbours, seconds: u64) -> anyhow::Result<()> {
        let run = open_loop(&self.target, CONNECTIONS, self.rate() / 2.0, Duration::from_secs(seconds)).await?;
        neighbours.ehr.forget();
        self.half.push(run);
        Ok(())
    }

    /// Ends the proxy; what was measured stays.
    pub(crate) fn stop(&mut self) {
        self.proxy = None;
    }

    /// CPU per request in microseconds.
    pub(crate) fn cpu(&self) -> f64 {
        median(self.cpu.clone())
    }

    /// The least and the most of it.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let least = self.cpu.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.cpu.iter().copied().fold(0.0, f64::max))
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        median(self.rate.clone())
    }

    /// In milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        median(self.p50.clone())
    }

    pub(crate) fn p99(&self) -> f64 {
        median(self.p99.clone())
    }

    /// p50 and p99 at half the rate.
    pub(crate) fn at_half(&self) -> (f64, f64) {
        let of = |percent| median(self.half.iter().map(|run| milliseconds(run.percentile(percent))).collect());
        (of(50), of(99))
    }

    /// The most memory that it had, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        self.resident as f64 / (1 << 20) as f64
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
