//! Which TLS a host speaks: one handshake is begun for each protocol version and for the ciphers that nobody should
//! offer, and broken off at the server's answer.

mod hello;

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::config::FilePath;
use crate::control::{Control, Held, Severity};
use crate::identify::fetch::{Outgoing, tls_config};
use crate::scan::Report;
use hello::{Offer, hello, is_accepted};

pub(super) static CONTROLS: &[&Control] = &[&TLS_OLD, &TLS_WEAK_CIPHER, &TLS_NOT_NEWEST, &TLS_CERTIFICATE_EXPIRING];

static TLS_OLD: Control = Control {
    id: "tls-old",
    severity: Severity::Risk,
    cites: "RFC 8996; NIST SP 800-52 revision 2 section 3.1; 45 CFR 164.312(e)(1)",
    asks: "A neighbour speaks no TLS older than 1.2.",
    fix: "switch TLS 1.0 and 1.1 off at that host",
    held: Held::ByScan,
};

static TLS_WEAK_CIPHER: Control = Control {
    id: "tls-weak-cipher",
    severity: Severity::Risk,
    cites: "RFC 9325 sections 4.1 and 4.2; NIST SP 800-52 revision 2 section 3.3.1",
    asks: "A neighbour takes no TLS cipher that is broken or keeps no secret once its key is lost.",
    fix: "leave ECDHE with AES-GCM or ChaCha20 alone in that host's list",
    held: Held::ByScan,
};

static TLS_NOT_NEWEST: Control = Control {
    id: "tls-1-3",
    severity: Severity::Advice,
    cites: "NIST SP 800-52 revision 2 section 3.1",
    asks: "A neighbour speaks TLS 1.3.",
    fix: "switch TLS 1.3 on at that host",
    held: Held::ByScan,
};

static TLS_CERTIFICATE_EXPIRING: Control = Control {
    id: "tls-certificate-expiring",
    severity: Severity::Risk,
    cites: "45 CFR 164.308(a)(7)(i)",
    asks: "A neighbour's certificate lives for another three weeks.",
    fix: "tell the owner of that host",
    held: Held::ByScan,
};

const TIMEOUT: Duration = Duration::from_secs(5);
const AHEAD: time::Duration = time::Duration::days(21);

/// Looks at the TLS of a host. Plain http to loopback has none.
pub(super) async fn probe(url: &Url, ca: Option<&FilePath>, subject: &str, now: OffsetDateTime, report: &mut Report) {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return };
    if url.scheme() != "https" {
        return;
    }
    let host = host.trim_matches(['[', ']']);
    let spoken = |offer: Offer| async move { speaks(host, port, offer).await };
    for (offer, version) in [(Offer::Tls10, "TLS 1.0"), (Offer::Tls11, "TLS 1.1")] {
        if spoken(offer).await {
            report.finding(&TLS_OLD, subject, format!("{host} speaks {version}"));
        }
    }
    if spoken(Offer::WeakCiphers).await {
        let what = format!("{host} takes a cipher of RC4, 3DES, NULL, or without forward secrecy");
        report.finding(&TLS_WEAK_CIPHER, subject, what);
    }
    if !spoken(Offer::Tls13).await {
        report.finding(&TLS_NOT_NEWEST, subject, format!("{host} does not speak TLS 1.3"));
    }
    match leaf(host, port, ca).await {
        Ok(until) => {
            report.asked(format!("TLS of {host}:{port}"), None);
            if until - now < AHEAD {
                let what = format!("the certificate of {host} ends on {}", until.date());
                report.finding(&TLS_CERTIFICATE_EXPIRING, subject, what);
            }
        }
        Err(failure) => report.asked(format!("TLS of {host}:{port}"), Some(failure)),
    }
}

/// Does the host answer this offer with a ServerHello?
async fn speaks(host: &str, port: u16, offer: Offer) -> bool {
    let begun = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        stream.write_all(&hello(offer, host, &random())).await.ok()?;
        let mut answer = vec![0; 1024];
        let mut length = 0;
        // A ServerHello is the first thing a server sends, and is shorter than this.
        while let Some(rest) = answer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match stream.read(rest).await {
                Ok(0) | Err(_) => break,
                Ok(read) => length += read,
            }
            if let Some(accepted) = answer.get(..length).and_then(|answer| is_accepted(offer, answer)) {
                return Some(accepted);
            }
        }
        None
    };
    tokio::time::timeout(TIMEOUT, begun).await.ok().flatten().unwrap_or(false)
}

/// The client random: nothing secret hangs on it, as no handshake is ever finished.
fn random() -> [u8; 32] {
    let mut random = [0; 32];
    let (one, other) = random.split_at_mut(16);
    one.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    other.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    random
}

/// When the verified certificate of the host ends.
async fn leaf(host: &str, port: u16, ca: Option<&FilePath>) -> Result<OffsetDateTime, String> {
    let ca = ca.map(std::fs::read).transpose().map_err(|error| format!("the CA file cannot be read: {error}"))?;
    let outgoing = Outgoing { ca_pem: ca.as_deref(), client_pem: None, dangerous_allow_loopback_http: false };
    let config = tls_config(&outgoing).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let handshake = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map_err(|error| error.to_string())
    };
    let stream = tokio::time::timeout(TIMEOUT, handshake).await.map_err(|_| "no answer in time".to_owned())??;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first).ok_or("it shows no certificate")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(certificate.validity().not_after.to_datetime())
}

#[cfg(test)]
mod tests;
