//! A load client: keep-alive connections with a client certificate, closed loop or at a constant arrival rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// What to ask, of whom.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub path: String,
    pub token: String,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// Of each request, in order of length. In an open loop, from the time it was due.
    pub latencies: Vec<Duration>,
}

impl Run {
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * percent / 100).copied().unwrap_or_default()
    }
}

/// Asks as fast as answers come, on this many connections.
pub async fn closed_loop(target: &Target, connections: usize, time: Duration) -> anyhow::Result<Run> {
    let until = Instant::now() + time;
    run(target, connections, move |_| None, until).await
}

/// Asks at a constant rate, whether or not answers come: latency counts from when a request was due.
pub async fn open_loop(target: &Target, connections: usize, per_second: f64, time: Duration) -> anyhow::Result<Run> {
    let start = Instant::now();
    let step = Duration::from_secs_f64(connections as f64 / per_second);
    let due = move |connection: usize| Some((start + step.mul_f64(connection as f64 / connections as f64), step));
    run(target, connections, due, start + time).await
}

/// Asks once.
pub async fn once(target: &Target) -> anyhow::Result<Vec<u8>> {
    let mut sender = connect(target).await?;
    Ok(exchange(&mut sender, target).await?.to_vec())
}

async fn run(
    target: &Target,
    connections: usize,
    due: impl Fn(usize) -> Option<(Instant, Duration)>,
    until: Instant,
) -> anyhow::Result<Run> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        tasks.spawn(ask(target.clone(), due(connection), until));
    }
    let mut all = Run::default();
    while let Some(done) = tasks.join_next().await {
        let one = done.context("a connection's task ended badly")??;
        all.requests += one.requests;
        all.bytes += one.bytes;
        all.latencies.extend(one.latencies);
    }
    all.seconds = started.elapsed().as_secs_f64();
    all.latencies.sort();
    Ok(all)
}

async fn ask(target: Target, mut due: Option<(Instant, Duration)>, until: Instant) -> anyhow::Result<Run> {
    let mut sender = connect(&target).await?;
    let mut run = Run::default();
    while Instant::now() < until {
        let mut from = Instant::now();
        if let Some((at, step)) = &mut due {
            tokio::time::sleep_until((*at).into()).await;
            from = *at;
            *at += *step;
        }
        let body = exchange(&mut sender, &target).await?;
        run.requests += 1;
        run.bytes += body.len() as u64;
        run.latencies.push(from.elapsed());
    }
    Ok(run)
}

async fn exchange(sender: &mut SendRequest<Empty<Bytes>>, target: &Target) -> anyhow::Result<Bytes> {
    let request = Request::get(&target.path)
        .header("host", target.address.to_string())
        .header("authorization", format!("Bearer {}", target.token))
        .body(Empty::<Bytes>::new())?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status != 200 {
        bail!("answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

async fn connect(target: &Target) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let tcp = TcpStream::connect(target.address).await.context("cannot connect")?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(target.address.ip().to_string())?;
    let tls = TlsConnector::from(Arc::clone(&target.tls)).connect(name, tcp).await.context("no handshake")?;
    let (sender, connection) = handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
