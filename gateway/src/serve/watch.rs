//! Looks after what nobody asks for: the end of the audit chain, and the days that certificates have left.

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
