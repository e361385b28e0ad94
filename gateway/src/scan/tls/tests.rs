use fhirwall_certs::authority::{Authority, LeafNames, Validity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use time::macros::datetime;
use tokio::net::TcpListener;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// A server of these versions whose certificate lives so long; the URL, and the file of its authority.
async fn serving(versions: &[&'static SupportedProtocolVersion], days: u16, dir: &std::path::Path) -> (Url, FilePath) {
    // What is compared with `NOW` is the certificate's end; the handshake itself goes by the real clock.
    let from = OffsetDateTime::now_utc() - time::Duration::days(1);
    let authority = Authority::create("tests", Validity::days(from, 3650).unwrap()).unwrap();
    let ips = vec!["127.0.0.1".parse().unwrap()];
    let names = LeafNames { common_name: "ehr".to_owned(), dns: vec!["localhost".to_owned()], uris: vec![], ips };
    let issued = authority.issue_server(&names, Validity::days(from, days).unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.unwrap().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/fhir", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _broken_off = acceptor.accept(stream).await;
        }
    });
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, authority.certificate_pem()).unwrap();
    (url.parse().unwrap(), FilePath(ca))
}

async fn found(url: &Url, ca: &FilePath, now: OffsetDateTime) -> Vec<&'static str> {
    let mut report = Report::default();
    probe(url, Some(ca), "EHR", now, &mut report).await;
    assert!(report.asked.iter().all(|one| one.failure.is_none()), "{:?}", report.asked);
    report.unmet.iter().map(|(control, _)| control.id).collect()
}

#[tokio::test]
async fn a_server_of_today_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let (url, ca) = serving(rustls::DEFAULT_VERSIONS, 300, dir.path()).await;
    assert_eq!(found(&url, &ca, OffsetDateTime::now_utc()).await, [""; 0]);
}

#[tokio::test]
async fn a_server_without_the_newest_version_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (url, ca) = serving(&[&rustls::version::TLS12], 300, dir.path()).await;
    assert_eq!(found(&url, &ca, OffsetDateTime::now_utc()).await, ["tls-1-3"]);
}

#[tokio::test]
async fn a_certificate_about_to_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (url, ca) = serving(rustls::DEFAULT_VERSIONS, 20, dir.path()).await;
    assert_eq!(found(&url, &ca, OffsetDateTime::now_utc()).await, ["tls-certificate-expiring"]);
}

/// Answers every ClientHello with a ServerHello of the version that it names: the worst server there is.
#[tokio::test]
async fn a_server_that_takes_everything_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 4096];
            let read = stream.read(&mut hello).await.unwrap();
            assert!(read > 11);
            let body = [&hello[9..11], &[0; 32], &[0, 0, 0x05, 0]].concat();
            let message = [&[2, 0, 0, u8::try_from(body.len()).unwrap()], body.as_slice()].concat();
            let record = [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()], message.as_slice()].concat();
            let _gone = stream.write_all(&record).await;
        }
    });
    let mut report = Report::default();
    probe(&url, None, "EHR", NOW, &mut report).await;
    let found: Vec<_> = report.unmet.iter().map(|(control, _)| control.id).collect();
    assert_eq!(found, ["tls-old", "tls-old", "tls-weak-cipher", "tls-1-3"]);
    assert!(report.asked[0].failure.is_some(), "its certificate could not be seen");
}

#[tokio::test]
async fn plain_http_has_no_tls_to_look_at() {
    let mut report = Report::default();
    probe(&"http://127.0.0.1:1/fhir".parse().unwrap(), None, "EHR", NOW, &mut report).await;
    assert!(report.unmet.is_empty() && report.asked.is_empty());
}
