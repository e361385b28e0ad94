//! Looks after what nobody asks for: the end of the audit chain, and the days that certificates have left.

use std::convert::Infallible;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::Alert;
use crate::control::expiries;
use crate::generation::Generation;
use crate::reload::Live;
use crate::shared::Shared;

/// Looks every five minutes.
pub(super) async fn keep_watch(live: Arc<Live<Generation>>, shared: Arc<Shared>) {
    let mut every = tokio::time::interval(Duration::from_secs(300));
    loop {
        every.tick().await;
        look(&live, &shared).await;
    }
}

/// Looks once.
pub(super) async fn look(live: &Arc<Live<Generation>>, shared: &Arc<Shared>) {
    certificates(live, shared);
    let audit = Arc::clone(&shared.audit);
    match tokio::task::spawn_blocking(move || audit.check_recent()).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(finding))) => {
            shared.metrics.audit_chain_break();
            let says =
                format!("record {} (`{}` line {}): {}", finding.seq, finding.segment, finding.line, finding.problem);
            shared.alerts.raise(Alert::ChainBreak, "audit", "", &says);
        }
        Ok(Err(error)) => tracing::error!(%error, "the audit log cannot be read back"),
        Err(error) => tracing::error!(%error, "the audit log could not be checked"),
    }
}

/// Follows what the other process changes of the state that both keep, for as long as both live.
pub(super) async fn follow(shared: &Shared) -> Infallible {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let kept = Arc::clone(&shared.kept);
        match tokio::task::spawn_blocking(move || kept.follow()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what the other process revoked and locked down cannot be read"),
            Err(error) => tracing::error!(%error, "what the other process revoked and locked down was not read"),
        }
    }
}

/// The same until the process that this one took over from has ended.
pub(super) async fn follow_until_the_end_of(old: std::os::unix::net::UnixStream, shared: Arc<Shared>) {
    let ended = tokio::task::spawn_blocking(move || old.set_read_timeout(None).and_then(|()| (&old).read(&mut [0])));
    tokio::select! {
        ended = ended => match ended {
            Ok(Ok(_)) => tracing::info!("the process before this one has ended"),
            Ok(Err(error)) => tracing::warn!(%error, "whether the process before this one has ended is unknown"),
            Err(error) => tracing::warn!(%error, "whether the process before this one has ended is unknown"),
        },
        never = follow(&shared) => match never {},
    }
    // What it changed at its very end.
    if let Err(error) = shared.kept.follow() {
        tracing::error!(%error, "what the other process revoked and locked down cannot be read");
    }
}

fn certificates(live: &Arc<Live<Generation>>, shared: &Arc<Shared>) {
    const SOON: time::Duration = time::Duration::days(30);
    let now = shared.clock.now();
    for (file, end) in expiries(&live.current().generation.config) {
        let name = file.display().to_string();
        shared.metrics.certificate_expiry(&name, (end - now).as_seconds_f64());
        if end - now < SOON {
            let says = format!("it is valid until {}", end.date());
            shared.alerts.raise(Alert::CertificateExpiry, &name, "", &says);
        }
    }
}
