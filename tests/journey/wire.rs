//! What is on the wire: the protocol version, both HTTP versions, what the EHR is sent, and what a client is sent.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Stage;

pub(crate) fn client(
    stage: &Stage,
    version: &'static rustls::SupportedProtocolVersion,
    alpn: &[u8],
) -> rustls::ClientConfig {
    let app = &stage.neighbours().treatment;
    let demo: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stage.neighbours().dir().join("demo.json")).unwrap()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(demo["ca"].as_str().unwrap()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(&app.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&app.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

pub(crate) async fn connect(
    stage: &Stage,
    config: rustls::ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let address = stage.world.gateway.addresses[0];
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from(address.ip().to_string()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_is_refused_and_tls_1_3_is_not() {
    let stage = Stage::set().await;
    let old = connect(&stage, client(&stage, &rustls::version::TLS12, b"http/1.1")).await;
    assert!(old.is_err());
    let new = connect(&stage, client(&stage, &rustls::version::TLS13, b"http/1.1")).await;
    assert!(new.is_ok(), "{new:?}");
    assert_eq!(stage.asked(), Vec::<String>::new());
}

/// Sends bytes as they are on HTTP/1.1 and returns the status line.
async fn raw(stage: &Stage, request: &str) -> String {
    let mut tls = connect(stage, client(stage, &rustls::version::TLS13, b"http/1.1")).await.unwrap();
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0u8; 4096];
    while !answer.windows(2).any(|pair| pair == b"\r\n") {
        match tls.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_parsers_disagree_on_are_refused() {
    let stage = Stage::set().await;
    let host = stage.world.gateway.addresses[0];
    let token = &stage.neighbours().treatment.token;
    let head = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n");
    let path = "/fhir/Patient/amara-osei";
    let good = raw(&stage, &format!("GET {path} HTTP/1.1\r\n{head}\r\n")).await;
    assert_eq!(good, "HTTP/1.1 200 OK");
    stage.asked();
    for (what, request) in [
        ("bare LF", format!("GET {path} HTTP/1.1\nHost: {host}\nAuthorization: Bearer {token}\n\n")),
        ("two hosts", format!("GET {path} HTTP/1.1\r\n{head}Host: other\r\n\r\n")),
        ("two authorizations", format!("GET {path} HTTP/1.1\r\n{head}Authorization: Bearer x\r\n\r\n")),
        ("underscore", format!("GET {path} HTTP/1.1\r\n{head}X_Forwarded_User: root\r\n\r\n")),
        ("override", format!("GET {path} HTTP/1.1\r\n{head}X-HTTP-Method-Override: DELETE\r\n\r\n")),
        ("upgrade", format!("GET {path} HTTP/1.1\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")),
        ("absolute form", format!("GET https://{host}{path} HTTP/1.1\r\n{head}\r\n")),
        (
            "both lengths",
            format!(
                "POST {path}/_search HTTP/1.1\r\n{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("body on GET", format!("GET {path} HTTP/1.1\r\n{head}Content-Length: 5\r\n\r\nhello")),
        ("HTTP/1.0", format!("GET {path} HTTP/1.0\r\n{head}\r\n")),
        ("folded", format!("GET {path} HTTP/1.1\r\n{head}X-A: b\r\n c\r\n\r\n")),
    ] {
        let status = raw(&stage, &request).await;
        assert!(status.starts_with("HTTP/1.1 400") || status.is_empty(), "{what}: {status}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{what}");
    }
    let other_host =
        raw(&stage, &format!("GET {path} HTTP/1.1\r\nHost: other.example\r\nAuthorization: Bearer {token}\r\n\r\n"))
            .await;
    assert!(other_host.starts_with("HTTP/1.1 404"), "{other_host}");
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_served_with_the_same_identity() {
    let stage = Stage::set().await;
    let tls = connect(&stage, client(&stage, &rustls::version::TLS13, b"h2")).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(tls);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let ask = |below: &str, token: &str| {
        http::Request::builder()
            .uri(stage.url(below))
            .header("authorization", format!("Bearer {token}"))
            .body(http_body_util::Empty::<hyper::body::Bytes>::new())
            .unwrap()
    };
    let token = &stage.neighbours().treatment.token;
    let answer = sender.send_request(ask("/Patient/amara-osei", token)).await.unwrap();
    assert_eq!(answer.status(), 200);
    // A token that is bound to another certificate is no token here.
    let foreign = &stage.neighbours().research.token;
    let answer = sender.send_request(ask("/Patient/amara-osei", foreign)).await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ehr_is_sent_nothing_of_the_clients_headers() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    stage.neighbours().ehr.forget();
    let headers = [
        ("authorization", format!("Bearer {}", app.token)),
        ("x-forwarded-for", "10.0.0.1".to_owned()),
        ("x-forwarded-user", "root".to_owned()),
        ("cookie", "a=b".to_owned()),
        ("if-none-match", "W/\"another\"".to_owned()),
        ("accept-encoding", "gzip".to_owned()),
        ("range", "bytes=0-10".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply =
        app.client.send(http::Method::GET, &stage.url("/Patient/amara-osei"), &headers, Vec::new()).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = stage.neighbours().ehr.log();
    let seen = seen.iter().find(|request| request.path.contains("/Patient/")).expect("the EHR was asked");
    for name in seen.headers.keys() {
        let allowed = ["host", "accept", "accept-encoding", "cache-control", "prefer"];
        assert!(allowed.contains(&name.as_str()), "{name} reached the EHR");
    }
    assert_eq!(seen.headers["accept-encoding"], "identity");
    // An EHR that keeps what a search found a while ago searches anew: decisions rest on what it says.
    assert_eq!(seen.headers["cache-control"], "no-cache");
    for internal in ["server", "x-powered-by", "via", "etag-internal"] {
        assert_eq!(reply.header(internal), "");
    }
    assert_eq!(reply.header("cache-control"), "no-store");
}
