//! Certificates and revocation lists that change on disk while connections are open.

use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::Stage;
use crate::wire::{client, connect};

/// Asks on a connection that is kept, and reads the answer whole. Gives the status line, empty if there was no answer.
async fn ask(stage: &Stage, tls: &mut TlsStream<TcpStream>) -> String {
    let (host, token) = (stage.neighbours().authority(), &stage.neighbours().treatment.token);
    let request =
        format!("GET /fhir/Patient/amara-osei HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    if tls.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let (mut answer, mut piece) = (Vec::new(), [0u8; 4096]);
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0usize) {
                return head.lines().next().unwrap_or_default().to_owned();
            }
        }
        match tls.read(&mut piece).await {
            Ok(0) | Err(_) => return String::new(),
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
}

fn shown(tls: &TlsStream<TcpStream>) -> Vec<u8> {
    tls.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_swapped_on_disk_is_shown_to_the_next_connection_while_an_open_one_lives_on() {
    let stage = Stage::set().await;
    let config = || client(&stage, &TLS13, b"http/1.1");
    let mut open = connect(&stage, config()).await.unwrap();
    assert_eq!(ask(&stage, &mut open).await, "HTTP/1.1 200 OK");
    // Another certificate of the same authority, for the same names.
    let site = stage.neighbours().dir().join("tls/site");
    for (from, to) in [("ehr.key", "gateway.key"), ("ehr.pem", "gateway.pem")] {
        std::fs::copy(site.join(from), site.join(to)).unwrap();
    }
    assert_eq!(stage.reload().await, 2);
    let mut next = connect(&stage, config()).await.unwrap();
    assert_ne!(shown(&next), shown(&open));
    assert_eq!(ask(&stage, &mut next).await, "HTTP/1.1 200 OK");
    assert_eq!(ask(&stage, &mut open).await, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_opens_no_new_connection_and_the_others_do() {
    let mut stage = Stage::set().await;
    let mut open = connect(&stage, client(&stage, &TLS13, b"http/1.1")).await.unwrap();
    assert_eq!(ask(&stage, &mut open).await, "HTTP/1.1 200 OK");
    let app = stage.neighbours().treatment.clone();
    stage.world.neighbours.revoke_certificate(&app, time::OffsetDateTime::now_utc()).unwrap();
    assert_eq!(stage.reload().await, 2);
    // In TLS 1.3 the client hears of it after its own handshake is done.
    let answered = match connect(&stage, client(&stage, &TLS13, b"http/1.1")).await {
        Ok(mut next) => ask(&stage, &mut next).await,
        Err(_) => String::new(),
    };
    assert_eq!(answered, "");
    assert_eq!(stage.research("/Patient?_id=amara-osei").await.status, 200);
    // An open connection outlives a new list; the partner's status ends it (ADR 45).
    assert_eq!(ask(&stage, &mut open).await, "HTTP/1.1 200 OK");
}
