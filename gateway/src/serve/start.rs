//! From a configuration file to a gateway that is bound and ready.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fhirwall_certs::server::SwappableTls;
use thiserror::Error;
use tokio::sync::watch as channel;

use super::bounds::{bounds, limits};
use super::handover::{NotOffered, NotTaken, Offer, Taken};
use super::{Prepared, behaviour, deliveries, watch};
use crate::admit::{Admission, Ticks};
use crate::alerts::Alerts;
use crate::audit::{
    AuditConfig, AuditLog, AuditOpenError, EncryptionKey, InvalidEncryptionKey, InvalidKey, SigningKey,
};
use crate::behaviour::Behaviour;
use crate::clock::Clock;
use crate::config::{self, Config, Problems};
use crate::control;
use crate::forward::{Pools, keep_asking};
use crate::generation::Generation;
use crate::identify::keys::KnownKeys;
use crate::listen::trusted::TrustedProxies;
use crate::listen::{InFlight, Listener};
use crate::lockdown::Orders;
use crate::proxy::Gateway;
use crate::reload::{Built, Failed, Live, Reloader, Timing};
use crate::shared::Shared;
use crate::state::{EmbeddedState, IdentityState, InvalidRedisUrl, RedisSettings, RedisState, Sizes, StateStore};
use crate::telemetry::{Metrics, MetricsError};

/// Why a gateway does not start. For the operator.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Problems),
    #[error("{0}")]
    Generation(String),
    #[error("the audit signing key {path} cannot be used", path = .path.display())]
    AuditKey { path: PathBuf, source: InvalidKey },
    #[error("the audit encryption key {path} cannot be used", path = .path.display())]
    AuditEncryptionKey { path: PathBuf, source: InvalidEncryptionKey },
    #[error("the audit sink `{sink}` cannot be set up: {problem}")]
    Sink { sink: String, problem: String },
    #[error("cannot read {path}", path = .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the audit log cannot be opened, and without it nothing is disclosed")]
    Audit(#[from] AuditOpenError),
    #[error("revocations and lockdowns cannot be kept in {dir}", dir = .dir.display())]
    State { dir: PathBuf, source: std::io::Error },
    #[error("state.redis_url is refused")]
    Redis(#[from] InvalidRedisUrl),
    #[error("metrics cannot be served")]
    Metrics(#[from] MetricsError),
    #[error("cannot listen on {address}; is another process there?")]
    Bind { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the configuration files cannot be watched")]
    Watch(#[source] std::io::Error),
    #[error("shutdown.upgrade_socket is not set: the process that serves offers its sockets nowhere")]
    NoUpgradeSocket,
    #[error("the process that serves does not hand its sockets over; it serves on")]
    Upgrade(#[from] NotTaken),
    #[error("the sockets cannot be offered to a later process")]
    Offer(#[from] NotOffered),
}

/// How a process comes to its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It binds them.
    Anew,
    /// It takes them over from the process that serves; where there is none, it binds them.
    Upgrade,
}

/// Reads the configuration, opens the audit log, builds the first generation, binds every address, and starts to watch
/// the files. Must be called on a tokio runtime.
pub fn prepare(path: &Path, clock: Arc<dyn Clock>, timing: Timing) -> Result<Prepared, StartError> {
    prepare_as(Start::Anew, path, clock, timing)
}

/// The same, with [`Start::Upgrade`] from the process that serves: with the last step it stops to accept.
pub fn prepare_as(start: Start, path: &Path, clock: Arc<dyn Clock>, timing: Timing) -> Result<Prepared, StartError> {
    prepare_in(start, path, clock, timing, Arc::new(config::environment))
}

/// What `${NAME}` stands for.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// As [`prepare_as`], in an environment other than the process's own.
pub fn prepare_in(
    start: Start,
    path: &Path,
    clock: Arc<dyn Clock>,
    timing: Timing,
    variables: Variables,
) -> Result<Prepared, StartError> {
    let config = Config::load(path, &*variables).map_err(StartError::Config)?;
    let gateway = Arc::clone(&config.gateway);
    let mut taken = match start {
        Start::Anew => None,
        Start::Upgrade => take_over(&gateway)?,
    };
    let shared = Arc::new(shared(&config, Arc::clone(&clock), taken.is_some())?);
    let reloader = reloader(path, &gateway, Arc::clone(&shared), clock, variables)
        .map_err(|failed| StartError::Generation(failed.problems))?;
    let live = reloader.live();
    let journey = Arc::new(Gateway { live: Arc::clone(&live), shared: Arc::clone(&shared) });
    let first = live.current();
    let mut listeners = Vec::new();
    let mut swappable = Vec::new();
    let proxies = Arc::new(ArcSwap::from(Arc::clone(&first.generation.proxies)));
    for (place, (listener, tls)) in gateway.listeners.iter().zip(&first.generation.listeners).enumerate() {
        let tls = Arc::new(SwappableTls::new(tls.clone()));
        swappable.push(Arc::clone(&tls));
        let application = Arc::clone(&journey) as Arc<dyn crate::listen::Application>;
        let bounds = bounds(&gateway.limits);
        let listening = Listener::new(tls, application, bounds, Arc::clone(&shared.in_flight)).at(place);
        let listening = listening.behind(Arc::clone(&proxies));
        listeners.push((Arc::new(listening), bind(listener.address, &mut taken)?));
    }
    let admin = bind(gateway.admin.address, &mut taken)?;
    let admin_tls = first.generation.admin.clone().map(|tls| Arc::new(SwappableTls::new(tls)));
    shared.metrics.label_partners(gateway.telemetry.partner_labels);
    shared.metrics.upstreams(observed_upstreams(&live));
    let reloader = reloader.carrying(carried(Arc::clone(&shared), swappable, proxies, admin_tls.clone()));
    let trigger = reloader.watch(timing).map_err(StartError::Watch)?;
    let mut tasks = vec![
        tokio::spawn(count_reloads(Arc::clone(&live), Arc::clone(&shared))),
        tokio::spawn(housekeeping(Arc::clone(&shared))),
        tokio::spawn(watch::keep_watch(Arc::clone(&live), Arc::clone(&shared))),
        tokio::spawn(health_of_upstreams(Arc::clone(&live), Arc::clone(&shared))),
    ];
    if let Some(redis) = &shared.redis {
        tasks.push(tokio::spawn(copy_of_redis(Arc::clone(redis))));
    }
    let deliveries = deliveries::of(&gateway, &shared)?;
    for delivery in &deliveries {
        tasks.push(tokio::spawn(deliveries::follow(Arc::clone(delivery), Arc::clone(&shared.metrics))));
    }
    tasks.push(tokio::spawn(deliveries::of_other_chains(Arc::clone(&gateway), Arc::clone(&shared))));
    let sockets = listeners.iter().map(|(_, socket)| socket).chain([&admin]);
    let (stop, handed) = (channel::Sender::new(false), channel::Sender::new(false));
    let offer = gateway.shutdown.upgrade_socket.as_ref().map(|path| Offer::bind(path, sockets)).transpose()?;
    if let Some(taken) = taken {
        let old = taken.ready()?;
        tasks.push(tokio::spawn(watch::follow_until_the_end_of(old, Arc::clone(&shared))));
    }
    if let Some(offer) = offer {
        offer.publish()?;
        tasks.push(tokio::spawn(offer.keep(Arc::clone(&shared), stop.subscribe(), handed.clone())));
    }
    Ok(Prepared {
        shared,
        live,
        gateway: journey,
        listeners,
        admin,
        admin_tls,
        trigger,
        draining: Arc::new(AtomicBool::new(false)),
        stop,
        handed,
        deliveries,
        tasks,
    })
}

fn take_over(gateway: &config::Gateway) -> Result<Option<Taken>, StartError> {
    let path = gateway.shutdown.upgrade_socket.as_ref().ok_or(StartError::NoUpgradeSocket)?;
    Ok(Taken::take(path)?)
}

/// The socket that another process gave, else a new one.
fn bind(address: std::net::SocketAddr, taken: &mut Option<Taken>) -> Result<std::net::TcpListener, StartError> {
    let given = taken.as_mut().and_then(|taken| taken.socket(address));
    let bound = given.map_or_else(|| std::net::TcpListener::bind(address), Ok).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|source| StartError::Bind { address, source })
}

/// How the audit log is kept by this configuration.
pub(super) fn audit_config(gateway: &config::Gateway) -> Result<AuditConfig, StartError> {
    let path = gateway.keys.audit_signing_file.to_path_buf();
    let pem = std::fs::read(&path).map_err(|source| StartError::Read { path: path.clone(), source })?;
    let key = SigningKey::from_pem(&pem).map_err(|source| StartError::AuditKey { path, source })?;
    let encryption_key = gateway.keys.audit_encryption_file.as_ref().map(encryption_key).transpose()?;
    Ok(AuditConfig {
        encryption_key,
        segment_bytes: gateway.audit.segment.0,
        reserve_bytes: gateway.audit.reserve.0,
        retention: gateway.audit.retention,
        ..AuditConfig::new(gateway.audit.dir.to_path_buf(), key)
    })
}

/// `beside`: another process still serves from the same directories.
fn shared(config: &Config, clock: Arc<dyn Clock>, beside: bool) -> Result<Shared, StartError> {
    let gateway = &config.gateway;
    let open = if beside { AuditLog::open_beside } else { AuditLog::open };
    let audit = open(audit_config(gateway)?, Arc::clone(&clock))?;
    let kept = gateway.state.dir.as_ref().unwrap_or(&gateway.audit.dir).to_path_buf();
    let keep = if beside { EmbeddedState::kept_beside } else { EmbeddedState::kept_in };
    let own = keep(&kept, Arc::clone(&clock), Sizes::default());
    let own = Arc::new(own.map_err(|source| StartError::State { dir: kept, source })?);
    let embedded = Arc::clone(&own) as Arc<dyn StateStore>;
    let ca = gateway.state.ca_file.as_ref();
    let ca_pem =
        ca.map(|path| std::fs::read(path).map_err(|source| StartError::Read { path: path.to_path_buf(), source }));
    let settings = RedisSettings { ca_pem: ca_pem.transpose()?, ..RedisSettings::default() };
    let redis = gateway.state.redis_url.as_ref();
    let redis = redis.map(|url| RedisState::new(url.reveal(), Arc::clone(&clock), settings)).transpose()?;
    let state = match &redis {
        Some(redis) => Arc::clone(redis) as Arc<dyn StateStore>,
        None => Arc::clone(&embedded),
    };
    let ticks = Ticks::Monotonic(Instant::now());
    let admission = Admission::new(limits(config), ticks, Arc::clone(&state), embedded);
    let identity = Arc::new(IdentityState(Arc::clone(&state)));
    let metrics = Arc::new(Metrics::new()?);
    let quiet = gateway.alerts.quiet;
    let alerts = Alerts::new(Arc::clone(&audit), Arc::clone(&metrics), Arc::clone(&clock), quiet);
    let lockdowns = Orders { state: Arc::clone(&state), audit: Arc::clone(&audit), clock: Arc::clone(&clock) };
    Ok(Shared {
        clock,
        audit,
        metrics,
        admission: Arc::new(admission),
        replays: Arc::clone(&identity) as Arc<dyn crate::identify::state::ReplayCache>,
        revocations: identity,
        known_keys: KnownKeys::default(),
        state,
        kept: own,
        redis,
        behaviour: Behaviour::new(behaviour::settings(&gateway.risk)),
        alerts,
        lockdowns,
        in_flight: Arc::new(InFlight::default()),
        upstreams: Pools::default(),
    })
}

fn encryption_key(file: &config::FilePath) -> Result<EncryptionKey, StartError> {
    let path = file.to_path_buf();
    let text = std::fs::read_to_string(&path).map_err(|source| StartError::Read { path: path.clone(), source })?;
    EncryptionKey::from_base64(text.trim()).map_err(|source| StartError::AuditEncryptionKey { path, source })
}

/// Builds generations for as long as the process lives. What cannot change without a restart is refused as a change.
fn reloader(
    path: &Path,
    first: &Arc<config::Gateway>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    variables: Variables,
) -> Result<Reloader<Generation>, Failed> {
    let first = Arc::clone(first);
    let build = move |path: &Path, number: u64| {
        let config = Config::load(path, &*variables)?;
        let files = config.files();
        let failed = |problems: String| Failed { problems, files: files.clone() };
        fixed(&first, &config.gateway).map_err(&failed)?;
        let generation = Generation::build(number, config, &shared).map_err(|error| failed(chain(&error)))?;
        let findings = control::findings_under(&generation.config, Ok(&generation.policies), shared.clock.now());
        if let Some(violations) = control::start_forbidden_by(&findings) {
            return Err(failed(violations));
        }
        for finding in findings.iter().filter(|finding| finding.counts()) {
            tracing::warn!(control = finding.control.id, subject = finding.subject, "{}", finding.what);
        }
        Ok(Built { generation, files })
    };
    Reloader::start(path, Box::new(build), clock)
}

fn fixed(first: &config::Gateway, now: &config::Gateway) -> Result<(), String> {
    let addresses = |gateway: &config::Gateway| {
        gateway.listeners.iter().map(|listener| listener.address).chain([gateway.admin.address]).collect::<Vec<_>>()
    };
    if addresses(first) != addresses(now) {
        return Err("the addresses of listeners change only with a restart".to_owned());
    }
    if first.admin.tls.is_some() != now.admin.tls.is_some() {
        return Err("whether the admin address speaks TLS changes only with a restart".to_owned());
    }
    if first.state != now.state {
        return Err("where state is kept or shared changes only with a restart".to_owned());
    }
    if first.shutdown.upgrade_socket != now.shutdown.upgrade_socket {
        return Err("the socket for upgrades changes only with a restart".to_owned());
    }
    if first.audit.dir != now.audit.dir || first.keys.audit_signing_file != now.keys.audit_signing_file {
        return Err("the audit directory and its key change only with a restart".to_owned());
    }
    if first.audit.sinks != now.audit.sinks || first.keys.audit_encryption_file != now.keys.audit_encryption_file {
        return Err("the audit log's sinks and its encryption key change only with a restart".to_owned());
    }
    Ok(())
}

/// An error with what caused it, on one line each.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str("\n  because: ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What carries a generation to what is not asked on every request: TLS settings and limits.
fn carried(
    shared: Arc<Shared>,
    listeners: Vec<Arc<SwappableTls>>,
    proxies: Arc<ArcSwap<TrustedProxies>>,
    admin: Option<Arc<SwappableTls>>,
) -> impl Fn(&Generation) + Send + 'static {
    move |generation| {
        for (listener, tls) in listeners.iter().zip(&generation.listeners) {
            listener.swap(tls.clone());
        }
        proxies.store(Arc::clone(&generation.proxies));
        if let (Some(admin), Some(tls)) = (&admin, &generation.admin) {
            admin.swap(tls.clone());
        }
        shared.admission.reload(limits(&generation.config));
        shared.behaviour.reload(behaviour::settings(&generation.config.gateway.risk));
        shared.metrics.label_partners(generation.config.gateway.telemetry.partner_labels);
    }
}

/// Counts the attempts to reload, good and refused.
async fn count_reloads(live: Arc<Live<Generation>>, shared: Arc<Shared>) {
    let mut status = live.subscribe();
    let mut serving = live.current().number;
    shared.metrics.config(serving, "ok");
    while status.changed().await.is_ok() {
        let current = live.current().number;
        shared.metrics.config(current, if current == serving { "rejected" } else { "ok" });
        serving = current;
    }
}

/// Keeps the local copy of revocations and lockdowns fresh; while the store is away the copy ages, and then closes.
async fn copy_of_redis(redis: Arc<RedisState>) {
    let mut every = tokio::time::interval(Duration::from_millis(500));
    loop {
        every.tick().await;
        if let Err(error) = redis.refresh().await {
            tracing::warn!(%error, "the shared state cannot be read");
        }
    }
}

/// The health of the EHRs' URLs of whichever generation serves: by endpoint, and by place in its list.
fn observed_upstreams(live: &Arc<Live<Generation>>) -> impl Fn() -> Vec<(String, usize, bool)> + Send + Sync + 'static {
    let live = Arc::clone(live);
    move || {
        let (current, now) = (live.current(), Instant::now());
        let of = |endpoint: &crate::generation::Endpoint| {
            let name = endpoint.facts.name.clone();
            let standing = endpoint.upstream.pool().standing(now);
            standing.into_iter().map(move |url| (name.clone(), url.index, url.healthy)).collect::<Vec<_>>()
        };
        current.generation.endpoints.iter().flat_map(of).collect()
    }
}

/// Asks the EHRs of the generation that serves for their health.
async fn health_of_upstreams(live: Arc<Live<Generation>>, shared: Arc<Shared>) {
    let changes = live.subscribe();
    let upstreams = || {
        let current = live.current();
        current.generation.endpoints.iter().map(|endpoint| Arc::clone(&endpoint.upstream)).collect()
    };
    keep_asking(&shared.upstreams, upstreams, changes).await;
}

async fn housekeeping(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        shared.admission.sweep();
        shared.audit.flush_refusals();
    }
}
