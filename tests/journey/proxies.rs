//! Load balancers in front: who may speak for a client, and that nobody else can.

use std::sync::Arc;

use fhirwall::demo::client::{HttpsClient, Reply};
use fhirwall::demo::world::{Neighbours, World};
use http::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Stage;

const PATIENT: &str = "/Patient/amara-osei";

/// Speaks TLS on a connection that began with these bytes, asks for the patient, and returns the whole answer.
async fn after(stage: &Stage, preamble: &[u8]) -> std::io::Result<String> {
    let app = &stage.neighbours().treatment;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&stage.neighbours().site_ca().unwrap()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(&app.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&app.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let address = stage.world.gateway.addresses[0];
    let mut tcp = tokio::net::TcpStream::connect(address).await?;
    tcp.write_all(preamble).await?;
    let name = ServerName::try_from(address.ip().to_string()).unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let request = format!(
        "GET /fhir{PATIENT} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        app.token
    );
    tls.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The end without a close_notify is the end all the same.
    drop(tls.read_to_end(&mut answer).await);
    if answer.is_empty() {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(String::from_utf8_lossy(&answer).into())
    }
}

/// A PROXY header, version 2, for a client at 192.0.2.7.
fn announcement() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend([192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);
    header
}

/// Whom the record names as the caller's address.
fn recorded(stage: &Stage, decision: &str) -> String {
    let record = stage.world.gateway.shared.audit.recent_decision(decision).expect("a record");
    record["address"].as_str().unwrap_or_default().to_owned()
}

fn decision_in(answer: &str) -> &str {
    let header = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: ").or_else(|| line.strip_prefix("X-Request-Id: ")));
    header.unwrap_or_default().trim()
}

async fn get(client: &HttpsClient, stage: &Stage, token: &str, headers: &[(&str, &str)]) -> Reply {
    let authorization = format!("Bearer {token}");
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    client.send(Method::GET, &stage.url(PATIENT), &all, "").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_announces_its_clients_is_believed_and_must_announce_them() {
    let trust = "mode: enforce\ntrusted_proxies: [{addresses: [127.0.0.1], proxy_protocol: true}]";
    let stage = Stage::set_with(&[("mode: enforce", trust)]).await;
    let answer = after(&stage, &announcement()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(recorded(&stage, decision_in(&answer)), "192.0.2.7");
    let own = after(&stage, b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").await.unwrap();
    assert_eq!(recorded(&stage, decision_in(&own)), "127.0.0.1", "its own health check");
    stage.asked();
    for (what, preamble) in [
        ("nothing", Vec::new()),
        ("version 1", b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 443\r\n".to_vec()),
        ("a broken header", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x02ab".to_vec()),
        ("two headers", [announcement(), announcement()].concat()),
    ] {
        assert!(after(&stage, &preamble).await.is_err(), "{what}");
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_announces_a_client() {
    let stage = Stage::set().await;
    assert!(after(&stage, &announcement()).await.is_err());
    let answer = after(&stage, b"").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let app = &stage.neighbours().treatment;
    let spoofed = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7"), ("client-cert", ":AAAA:")];
    let reply = get(&app.client, &stage, &app.token, &spoofed).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(recorded(&stage, reply.header("x-request-id")), "127.0.0.1");
    let seen = stage.neighbours().ehr.log();
    let carried = |name: &str| seen.iter().any(|request| request.headers.contains_key(name));
    assert!(!seen.is_empty() && !spoofed.iter().any(|(name, _)| carried(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_address_comes_from_the_neighbour_and_not_from_the_client() {
    let trust = "mode: enforce\ntrusted_proxies: [{addresses: [127.0.0.1], x_forwarded_for: true}]";
    let stage = Stage::set_with(&[("mode: enforce", trust)]).await;
    let app = &stage.neighbours().treatment;
    for (line, address) in
        [("192.0.2.7", "192.0.2.7"), ("10.0.0.1, 192.0.2.8", "192.0.2.8"), ("203.0.113.9, 127.0.0.1", "203.0.113.9")]
    {
        let reply = get(&app.client, &stage, &app.token, &[("x-forwarded-for", line)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(recorded(&stage, reply.header("x-request-id")), address, "{line}");
    }
    stage.asked();
    let reply = get(&app.client, &stage, &app.token, &[("x-forwarded-for", "192.0.2.7, not an address")]).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert!(stage.neighbours().ehr.log().iter().all(|request| !request.headers.contains_key("x-forwarded-for")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_from_the_neighbour_that_is_known_by_its_own() {
    let dir = TempDir::new().unwrap();
    let mut neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let proxy = neighbours.stranger("proxy", "spiffe://proxy.example/edge").unwrap();
    let other = neighbours.stranger("other", "spiffe://proxy.example/other").unwrap();
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    let trust = "mode: enforce\ntrusted_proxies: [{addresses: [127.0.0.1], client_cert: true, certificates: [{san_uri: \"spiffe://proxy.example/edge\"}]}]";
    std::fs::write(neighbours.config_file(), text.replace("mode: enforce", trust)).unwrap();
    let stage = Stage { world: World::between(neighbours).unwrap(), _dir: dir };
    let passed_on = |file: &std::path::Path| {
        // PEM is the DER in base64, in lines; the leaf comes first.
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().skip_while(|line| !line.contains("BEGIN CERTIFICATE")).skip(1);
        format!(":{}:", lines.take_while(|line| !line.contains("END CERTIFICATE")).collect::<String>())
    };
    let (treatment, research) = (&stage.neighbours().treatment, &stage.neighbours().research);
    let (own, others) = (passed_on(&treatment.certificate), passed_on(&research.certificate));
    let site = passed_on(&stage.neighbours().dir().join("tls/site/gateway.pem"));
    let token = &treatment.token;
    let reply = get(&proxy, &stage, token, &[("client-cert", &own)]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.asked();
    for (what, client, headers, status) in [
        ("no certificate passed on", &proxy, vec![], 401),
        ("another partner's", &proxy, vec![("client-cert", others.as_str())], 401),
        ("of another authority", &proxy, vec![("client-cert", site.as_str())], 403),
        ("none at all", &proxy, vec![("client-cert", "nonsense")], 400),
        ("from a stranger at the same address", &other, vec![("client-cert", own.as_str())], 401),
        ("from a partner, of another partner", &research.client, vec![("client-cert", own.as_str())], 401),
    ] {
        let reply = get(client, &stage, token, &headers).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{what}");
    }
    // A partner that comes by itself is itself, whatever it writes.
    let reply = get(&treatment.client, &stage, token, &[("client-cert", &others)]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}
