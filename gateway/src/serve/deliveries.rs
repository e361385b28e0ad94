//! The audit log's sinks as configured, each followed by a task of its own: none waits for another, and no answer for
//! any of them, save where the configuration says `acknowledged`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::StartError;
use crate::audit::delivery::{Delivery, forget_all_but};
use crate::audit::event::Site;
use crate::audit::sinks::{Authorization, FhirEndpoint, NdjsonFile, OcsfEndpoint, OtlpLogs, Sink};
use crate::audit::webhook::{AlertWebhook, Webhook, WebhookSecret};
use crate::config::{self, FilePath, SinkKind};
use crate::emergency::ProgramWebhook;
use crate::identify::fetch::{Fetch, HttpsFetch, Outgoing};
use crate::shared::Shared;
use crate::telemetry::Metrics;

/// A delivery for each sink. Records begin to wait for those that must acknowledge them.
pub(super) fn of(gateway: &config::Gateway, shared: &Shared) -> Result<Vec<Arc<Delivery>>, StartError> {
    let mut deliveries = Vec::new();
    let mut awaited = Vec::new();
    let names: Vec<String> = gateway.audit.sinks.iter().map(config::Sink::name).collect();
    let kept: Vec<&str> = names.iter().map(String::as_str).collect();
    forget_all_but(&gateway.audit.dir, &kept)
        .map_err(|source| StartError::Read { path: gateway.audit.dir.to_path_buf(), source })?;
    for (configured, name) in gateway.audit.sinks.iter().zip(&names) {
        let refused = |problem: String| StartError::Sink { sink: name.clone(), problem };
        let sink = sink(configured, gateway, shared).map_err(refused)?;
        let delivery = Arc::new(Delivery::new(name, sink, Arc::clone(&shared.audit)));
        if configured.acknowledged {
            awaited.push(delivery.taken());
        }
        deliveries.push(delivery);
    }
    if !awaited.is_empty() {
        shared.audit.wait_for(awaited);
    }
    Ok(deliveries)
}

/// Tells a sink every record, at least once, without making anybody wait.
pub(super) async fn follow(delivery: Arc<Delivery>, metrics: Arc<Metrics>) {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);
    let mut pause = FIRST;
    loop {
        match delivery.run().await {
            Ok(0) => delivery.until_more().await,
            Ok(_) => pause = FIRST,
            Err(error) => {
                let behind = delivery.behind();
                tracing::warn!(%error, sink = delivery.name(), behind, "an audit sink takes no records");
                metrics.audit_sink_behind(delivery.name(), behind);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
        }
        metrics.audit_sink_behind(delivery.name(), delivery.behind());
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
    Ok(Arc::new(client))
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
