//! The audit log's sinks as configured, each followed by a task of its own: none waits for another, and no answer for
//! any of them, save where the configuration says `acknowledged`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::StartError;
use super::start::audit_config;
use crate::alerts::Alert;
use crate::audit::delivery::{Delivery, forget_all_but};
use crate::audit::disk::DirectoryError;
use crate::audit::event::Site;
use crate::audit::sinks::{Authorization, FhirEndpoint, NdjsonFile, OcsfEndpoint, OtlpLogs, Sink};
use crate::audit::webhook::{AlertWebhook, Webhook, WebhookSecret};
use crate::audit::{AuditConfig, AuditLog, AuditOpenError, chains};
use crate::config::{self, FilePath, SinkKind};
use crate::emergency::ProgramWebhook;
use crate::identify::fetch::{Fetch, HttpsFetch, Outgoing};
use crate::shared::Shared;
use crate::telemetry::Metrics;

/// A delivery for each sink. Records begin to wait for those that must acknowledge them.
pub(super) fn of(gateway: &config::Gateway, shared: &Shared) -> Result<Vec<Arc<Delivery>>, StartError> {
    let deliveries = from(&shared.audit, gateway, shared)?;
    let acknowledged = gateway.audit.sinks.iter().zip(&deliveries).filter(|(sink, _)| sink.acknowledged);
    let awaited: Vec<_> = acknowledged.map(|(_, delivery)| delivery.taken()).collect();
    if !awaited.is_empty() {
        shared.audit.wait_for(awaited);
    }
    Ok(deliveries)
}

/// A delivery of this log for each sink.
fn from(log: &Arc<AuditLog>, gateway: &config::Gateway, shared: &Shared) -> Result<Vec<Arc<Delivery>>, StartError> {
    let names: Vec<String> = gateway.audit.sinks.iter().map(config::Sink::name).collect();
    let kept: Vec<&str> = names.iter().map(String::as_str).collect();
    forget_all_but(log.dir(), &kept).map_err(|source| StartError::Read { path: log.dir().to_path_buf(), source })?;
    let of = |(configured, name): (&config::Sink, &String)| {
        let refused = |problem: String| StartError::Sink { sink: name.clone(), problem };
        let sink = sink(configured, gateway, shared).map_err(refused)?;
        Ok(Arc::new(Delivery::new(name, sink, Arc::clone(log))))
    };
    gateway.audit.sinks.iter().zip(&names).map(of).collect()
}

/// Looks after the chains that other processes wrote and that nobody writes any more: what a crash left of one is cut off,
/// what is too old is removed, and the sinks are told what they were not told. One that is still written is waited for.
pub(super) async fn of_other_chains(gateway: Arc<config::Gateway>, shared: Arc<Shared>) {
    const AGAIN: Duration = Duration::from_secs(1);
    let mut others = match chains::directories(&gateway.audit.dir) {
        Ok(all) => all,
        Err(error) => return tracing::error!(%error, "the audit directory cannot be read"),
    };
    others.retain(|dir| dir != shared.audit.dir());
    while !others.is_empty() {
        let mut still_written = Vec::new();
        for dir in others {
            match taken_up(&dir, &gateway, &shared).await {
                Ok(Some(log)) => tell_the_rest(&log, &gateway, &shared).await,
                Ok(None) => still_written.push(dir),
                Err(error) => {
                    shared.metrics.audit_chain_break();
                    let chain = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    shared.alerts.raise(Alert::ChainBreak, &chain, "", &super::chain(&error));
                }
            }
        }
        others = still_written;
        sleep(AGAIN).await;
    }
}

/// The log in this directory, where no other process writes it.
async fn taken_up(dir: &Path, gateway: &config::Gateway, shared: &Shared) -> Result<Option<Arc<AuditLog>>, StartError> {
    let config = AuditConfig { dir: dir.to_owned(), ..audit_config(gateway)? };
    let clock = Arc::clone(&shared.clock);
    match tokio::task::spawn_blocking(move || AuditLog::open(config, clock)).await {
        Ok(Ok(log)) => Ok(Some(log)),
        Ok(Err(AuditOpenError::Directory(DirectoryError::Locked(_)))) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(AuditOpenError::Io(std::io::Error::other(error)).into()),
    }
}

/// Tells each sink what it has not taken of a log that grows no more, and lets go of it.
async fn tell_the_rest(log: &Arc<AuditLog>, gateway: &config::Gateway, shared: &Shared) {
    match from(log, gateway, shared) {
        Ok(deliveries) => {
            join_all(deliveries.iter().map(|delivery| async move {
                let mut pause = FIRST;
                while delivery.behind() > 0 {
                    if let Err(error) = delivery.run().await {
                        tracing::warn!(%error, sink = delivery.name(), "an audit sink takes no records of another chain");
                        sleep(pause).await;
                        pause = (pause * 2).min(LONGEST);
                    }
                }
            }))
            .await;
        }
        Err(error) => tracing::error!(error = super::chain(&error), "another chain cannot be told to the audit sinks"),
    }
    log.close().await;
}

/// How long a sink that takes nothing is left alone, and how long it may take for an answer: together less than the five seconds
/// in which one that is back is told on.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_millis(1500);
const ANSWER: Duration = Duration::from_secs(3);

/// Tells a sink every record, at least once, without making anybody wait.
pub(super) async fn follow(delivery: Arc<Delivery>, metrics: Arc<Metrics>) {
    let (mut pause, mut failures) = (FIRST, 0_u64);
    loop {
        match delivery.run().await {
            Ok(0) => delivery.until_more().await,
            Ok(_) => (pause, failures) = (FIRST, 0),
            Err(error) => {
                let behind = delivery.behind();
                failures = failures.saturating_add(1);
                // One that is away for a day is no news every second.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, sink = delivery.name(), behind, failures, "an audit sink takes no records");
                }
                metrics.audit_sink_behind(delivery.name(), behind);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
        }
        metrics.audit_sink_behind(delivery.name(), delivery.behind());
        metrics.audit_sink_parked(delivery.name(), delivery.parked());
    }
}

/// Tells what is left when the log is closed. What a sink does not take in time it is told at the next start.
pub(super) async fn finish(deliveries: &[Arc<Delivery>]) {
    const PATIENCE: Duration = Duration::from_secs(3);
    join_all(deliveries.iter().map(|delivery| async move {
        let all = async { while matches!(delivery.run().await, Ok(told) if told > 0) {} };
        if timeout(PATIENCE, all).await.is_err() || delivery.behind() > 0 {
            tracing::warn!(sink = delivery.name(), behind = delivery.behind(), "an audit sink is told the rest later");
        }
    }))
    .await;
}

fn sink(sink: &config::Sink, gateway: &config::Gateway, shared: &Shared) -> Result<Box<dyn Sink>, String> {
    let url = sink.url.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(match sink.kind {
        SinkKind::File => {
            let file = sink.file.as_ref().ok_or("it has no file")?;
            Box::new(NdjsonFile(file.to_path_buf()))
        }
        SinkKind::Fhir => {
            let base_url = gateway.endpoints.first().map(|endpoint| endpoint.base_url.base().to_owned());
            let site = Site { name: "fhirwall".to_owned(), base_url: base_url.unwrap_or_default() };
            Box::new(FhirEndpoint { base_url: url, site, client: client(sink)?, authorization: authorization(sink)? })
        }
        SinkKind::Ocsf => Box::new(OcsfEndpoint { url, client: client(sink)?, authorization: authorization(sink)? }),
        SinkKind::Otlp => {
            Box::new(OtlpLogs { base_url: url, client: client(sink)?, authorization: authorization(sink)? })
        }
        SinkKind::Webhook => Box::new(AlertWebhook(webhook(url, sink, shared)?)),
        SinkKind::Emergency => Box::new(ProgramWebhook(webhook(url, sink, shared)?)),
    })
}

fn webhook(url: String, sink: &config::Sink, shared: &Shared) -> Result<Webhook, String> {
    let file = sink.secret_file.as_ref().ok_or("it has no secret")?;
    let secret = WebhookSecret::from_text(&text(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Webhook { url, client: client(sink)?, secret, clock: Arc::clone(&shared.clock) })
}

fn client(sink: &config::Sink) -> Result<Arc<dyn Fetch>, String> {
    let read = |file: &Option<FilePath>| file.as_ref().map(|file| bytes(file)).transpose();
    let ca = read(&sink.ca_file)?;
    let (certificate, key) = (read(&sink.client_certificate_file)?, read(&sink.client_key_file)?);
    let outgoing = Outgoing {
        ca_pem: ca.as_deref(),
        client_pem: certificate.as_deref().zip(key.as_deref()),
        // The configuration takes plain http to loopback only.
        dangerous_allow_loopback_http: true,
    };
    let client = HttpsFetch::new(&outgoing).map_err(|error| super::chain(&error))?;
    Ok(Arc::new(client.within(ANSWER)))
}

fn authorization(sink: &config::Sink) -> Result<Option<Authorization>, String> {
    let value = sink.authorization_file.as_ref().map(|file| text(file)).transpose()?;
    Ok(value.map(|value| Authorization(value.trim().to_owned())))
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
