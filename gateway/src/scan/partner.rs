//! Is a partner what its file says?

use time::OffsetDateTime;

use crate::config::PartnerFile;
use crate::control::{Control, Held, Severity};
use crate::scan::door::Stranger;
use crate::scan::{Report, keys, tls};

pub(super) static CONTROLS: &[&Control] = &[&PARTNER_KEYS];

static PARTNER_KEYS: Control = Control {
    id: "partner-keys",
    severity: Severity::Risk,
    cites: "SMART App Launch 2.2, section \"Registering a client (communicating public keys)\"; RFC 7517 section 9.2",
    asks: "A partner's published keys are there, strong and public.",
    fix: "ask the partner for a new key; until then `fhirwall partner suspend`",
    held: Held::ByScan,
};

/// Fetches a partner's published keys, and looks at the TLS of their host.
pub(super) async fn probe(partner: &PartnerFile, now: OffsetDateTime, report: &mut Report) {
    let Some(uri) = &partner.jwks_uri else { return };
    let subject = format!("partner {}", partner.client_id);
    let document = match Stranger::trusting(None) {
        Ok(stranger) => stranger.get(uri.url().as_str(), &[]).await.and_then(|seen| seen.json()),
        Err(failure) => Err(failure),
    };
    match document {
        Ok(document) => {
            report.asked(format!("keys of {subject}"), None);
            for fault in keys::faults(&document) {
                report.finding(&PARTNER_KEYS, &subject, fault);
            }
        }
        Err(failure) => return report.asked(format!("keys of {subject}"), Some(failure)),
    }
    tls::probe(uri.url(), None, &subject, now, report).await;
}
