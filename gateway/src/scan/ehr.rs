//! Is there a way around the gateway? The EHR is asked as somebody would who found its address.

use http::header::{ACCEPT, AUTHORIZATION, ORIGIN};
use time::OffsetDateTime;

use crate::config::{Endpoint, is_loopback};
use crate::control::{Control, Held, Severity};
use crate::scan::door::{STRANGE_ORIGIN, Stranger};
use crate::scan::{Report, tls};

pub(super) static CONTROLS: &[&Control] = &[&EHR_OPEN, &EHR_ANY_TOKEN, &EHR_CORS];

static EHR_OPEN: Control = Control {
    id: "ehr-open",
    severity: Severity::Violation,
    cites: "45 CFR 164.312(a)(1), (d); NIST SP 800-207 section 2.1",
    asks: "The EHR gives records to nobody who shows no credential.",
    fix: "let the EHR ask for the gateway's certificate or token, and close its network to everybody else",
    held: Held::ByScan,
};

static EHR_ANY_TOKEN: Control = Control {
    id: "ehr-any-token",
    severity: Severity::Violation,
    cites: "45 CFR 164.312(d); RFC 6750 section 3.1",
    asks: "The EHR refuses a token that nobody issued.",
    fix: "have the EHR verify tokens, or accept the gateway's certificate alone",
    held: Held::ByScan,
};

static EHR_CORS: Control = Control {
    id: "ehr-cors",
    severity: Severity::Risk,
    cites: "NIST SP 800-207 section 2.1; SMART App Launch 2.2, section \"CORS\"",
    asks: "The EHR lets no page of an unregistered origin read its answers: browsers belong before the gateway.",
    fix: "switch CORS off at the EHR; the gateway answers for registered origins",
    held: Held::ByScan,
};

/// A token of the right shape that no issuer signed: `{"alg":"none"}`, `{"sub":"fhirwall-scan"}`.
pub(super) const UNSIGNED_TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmaGlyd2FsbC1zY2FuIn0.";

/// Asks each address of the EHR: without a credential, with a token that nobody issued, and from a page of somewhere.
///
/// Only ids are asked for, of one record, and the answer's body is never looked at.
pub(super) async fn probe(endpoint: &Endpoint, now: OffsetDateTime, report: &mut Report) {
    if endpoint.upstream.unix_socket.is_some() {
        return;
    }
    for url in &endpoint.upstream.urls {
        // Who is on this machine is not kept out by the network; a sidecar's EHR is reached over loopback on purpose.
        if is_loopback(url.url()) && url.url().scheme() == "http" {
            continue;
        }
        let subject = format!("EHR of endpoint {} at {url}", endpoint.name);
        let ca = endpoint.upstream.ca_file.as_ref();
        match Stranger::trusting(ca) {
            Ok(stranger) => doors(&stranger, url.base(), &subject, report).await,
            Err(failure) => report.asked(subject.clone(), Some(failure)),
        }
        tls::probe(url.url(), ca, &subject, now, report).await;
    }
}

pub(super) async fn doors(stranger: &Stranger, base: &str, subject: &str, report: &mut Report) {
    let url = format!("{base}/Patient?_count=1&_elements=id");
    let json = (ACCEPT, "application/fhir+json");
    let page = (ORIGIN, STRANGE_ORIGIN);
    let token = format!("Bearer {UNSIGNED_TOKEN}");
    let anonymous = stranger.get(&url, &[json.clone(), page]).await;
    let unsigned = stranger.get(&url, &[json, (AUTHORIZATION, token.as_str())]).await;
    match anonymous {
        Ok(seen) => {
            report.asked(format!("{subject}, without a credential"), None);
            if seen.status.is_success() {
                report.finding(&EHR_OPEN, subject, "it gives patients to anybody who reaches it");
            }
            if seen.open_to_any_origin() {
                report.finding(&EHR_CORS, subject, "it lets pages of any origin read its answers");
            }
        }
        // An EHR that asks for a certificate ends the handshake: that is the answer hoped for.
        Err(_) => report.asked(format!("{subject}, without a credential"), None),
    }
    if unsigned.is_ok_and(|seen| seen.status.is_success()) && !report.has(&EHR_OPEN, subject) {
        report.finding(&EHR_ANY_TOKEN, subject, "it gives patients for a token that nobody signed");
    }
}
