//! What a good certificate must not carry: another host than its handshake named, a session that outlives its revocation, a
//! request before the handshake's end.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use fhirwall::demo::apps::TREATMENT;
use fhirwall::pki::PkiDirectory;
use fhirwall_certs::authority::LeafNames;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::site::{Shown, Site, now, odd, thumbprint};

/// How a connection went.
#[derive(Debug)]
struct Visit {
    kind: HandshakeKind,
    /// Were bytes sent before the handshake's end, and were they taken?
    early: Option<bool>,
    status: u16,
}

/// Connects under this name; says `early` before the handshake's end where a kept session allows it, then asks.
fn visit(config: &Arc<ClientConfig>, address: SocketAddr, name: &str, early: &str, request: &str) -> io::Result<Visit> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
    let offered = match tls.early_data() {
        Some(mut data) => data.write_all(early.as_bytes()).map(|()| true)?,
        None => false,
    };
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    let (kind, taken) = (tls.handshake_kind().unwrap(), tls.is_early_data_accepted());
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let head = String::from_utf8_lossy(&answer).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Visit { kind, early: offered.then_some(taken), status })
}

/// A server of the site that resumes sessions and takes early data, as the gateway does not: answers so many connections.
fn careless(site: &Site, connections: usize) -> SocketAddr {
    let file = |name: &str| site.world.dir().join("tls/site").join(name);
    let chain = CertificateDer::pem_file_iter(file("ehr.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("ehr.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.max_early_data_size = 16 * 1024;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut tcp).unwrap();
            }
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut asked = [0; 4096];
            assert!(stream.read(&mut asked).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            tls.send_close_notify();
            drop(tls.complete_io(&mut tcp));
        }
    });
    address
}

impl Site {
    fn request(&self, token: &str, host: &str, patient: &str) -> String {
        format!(
            "GET /fhir/Patient/{patient} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
    }

    /// Visits the gateway: asks about Bruno, having tried to ask about Amara early.
    async fn visit(&self, config: &Arc<ClientConfig>, token: &str) -> io::Result<Visit> {
        let (config, address) = (Arc::clone(config), self.world.gateway.addresses[0]);
        let host = self.world.authority();
        let (early, request) = (self.request(token, host, "amara-osei"), self.request(token, host, "bruno-vale"));
        tokio::task::spawn_blocking(move || visit(&config, address, "127.0.0.1", &early, &request)).await.unwrap()
    }

    /// Has the client keep sessions of the careless server, which stands under the gateway's own name.
    async fn visit_careless(&self, config: &Arc<ClientConfig>) {
        let (config, address) = (Arc::clone(config), careless(self, 2));
        let [first, second] = tokio::task::spawn_blocking(move || {
            [(); 2].map(|()| {
                visit(&config, address, "127.0.0.1", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n").unwrap()
            })
        })
        .await
        .unwrap();
        assert_eq!((first.kind, first.status), (HandshakeKind::Full, 200));
        assert_eq!((second.kind, second.early, second.status), (HandshakeKind::Resumed, Some(true), 200));
    }

    /// Asks about Amara when the handshake is done.
    async fn ask_late(&self, config: &Arc<ClientConfig>, token: &str) -> u16 {
        let (config, address) = (Arc::clone(config), self.world.gateway.addresses[0]);
        let request = self.request(token, self.world.authority(), "amara-osei");
        let asked = tokio::task::spawn_blocking(move || visit(&config, address, "127.0.0.1", "", &request));
        asked.await.unwrap().unwrap().status
    }

    fn patients_asked_for(&self) -> Vec<String> {
        let log = self.world.ehr.log();
        log.iter().filter_map(|seen| seen.path.strip_prefix("/fhir/Patient/").map(str::to_owned)).collect()
    }

    fn keeps_sessions(&self, shown: &Shown) -> (Arc<ClientConfig>, String) {
        let mut config = self.client(shown);
        config.enable_early_data = true;
        (Arc::new(config), self.token(&thumbprint(&shown.as_ref().unwrap().0).unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_host_than_the_handshake_named_is_misdirected() {
    let site = Site::on(|neighbours| {
        let file = neighbours.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let by_name = neighbours.base_url().replace("127.0.0.1", "localhost");
        std::fs::write(&file, text.replace(&neighbours.base_url(), &by_name)).unwrap();
    })
    .await;
    let shown = odd(&site.authority(), |_| {});
    let mut grant = site.world.grant(&site.world.treatment);
    grant.x5t_s256 = thumbprint(&shown.as_ref().unwrap().0);
    let address = site.world.gateway.addresses[0];
    let published = format!("localhost:{}", address.port());
    grant.claims.insert("aud".to_owned(), format!("https://{published}/fhir").into());
    let token = site.world.issuer.mint(&grant).unwrap();
    let config = Arc::new(site.client(&shown));
    let ask = async |named: &'static str, host: &str| {
        site.world.ehr.forget();
        let (config, request) = (Arc::clone(&config), site.request(&token, host, "amara-osei"));
        let status = tokio::task::spawn_blocking(move || visit(&config, address, named, "", &request).unwrap().status);
        (status.await.unwrap(), site.patients_asked_for().len())
    };
    assert_eq!(ask("localhost", &published).await, (200, 1), "one name");
    assert_eq!(ask("localhost", &published.to_uppercase()).await, (200, 1), "in capitals");
    assert_eq!(ask("127.0.0.1", &published).await, (200, 1), "an address is no server name");
    for other in ["elsewhere.example", &format!("127.0.0.1:{}", address.port()), "localhost.evil.example"] {
        assert_eq!(ask("localhost", other).await, (421, 0), "{other}");
        site.untouched(other);
    }
    assert_eq!(ask("localhost", &published).await, (200, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_resumed_and_a_revoked_partner_comes_back_by_no_session() {
    let mut issued = None;
    let site = Site::on(|neighbours| {
        let mut pki = PkiDirectory::open(&neighbours.dir().join("tls/partners")).unwrap();
        let uris = vec![TREATMENT.spiffe_id.to_owned()];
        let names = LeafNames { common_name: "leaver".to_owned(), uris, ..LeafNames::default() };
        issued = Some(pki.issue_client("leaver", &names, 5, now()).unwrap());
    })
    .await;
    let issued = issued.unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let leaver = Some((read(&issued.certificate), read(issued.key.as_ref().unwrap())));
    let (config, token) = site.keeps_sessions(&leaver);
    for _ in 0..3 {
        let visit = site.visit(&config, &token).await.unwrap();
        // No ticket was given: there is nothing to come back by, nor to say early with.
        assert_eq!((visit.kind, visit.early, visit.status), (HandshakeKind::Full, None, 200));
    }
    // This client does come back by a session where a server lets it, and tries here with what that server gave.
    site.visit_careless(&config).await;
    let visit = site.visit(&config, &token).await.unwrap();
    assert_eq!((visit.kind, visit.status), (HandshakeKind::Full, 200));

    site.visit_careless(&config).await;
    let mut pki = PkiDirectory::open(&site.world.dir().join("tls/partners")).unwrap();
    pki.revoke(&issued.serial, now()).unwrap();
    let mut status = site.world.gateway.live.subscribe();
    status.mark_unchanged();
    site.world.gateway.reload();
    status.changed().await.unwrap();
    assert_eq!(site.world.gateway.live.current().number, 2);
    site.world.ehr.forget();
    for _ in 0..3 {
        let visit = site.visit(&config, &token).await;
        assert!(visit.as_ref().map_or(true, |visit| visit.status == 0), "{visit:?}");
    }
    site.untouched("a session after the revocation");
    let stays = odd(&site.authority(), |_| {});
    assert_eq!(site.read(&stays).await, 200, "a partner that is not revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_said_before_the_handshakes_end_is_heard() {
    let site = Site::on(|_| {}).await;
    let (config, token) = site.keeps_sessions(&odd(&site.authority(), |_| {}));
    site.visit_careless(&config).await;
    site.world.ehr.forget();
    let visit = site.visit(&config, &token).await.unwrap();
    assert_eq!((visit.kind, visit.early, visit.status), (HandshakeKind::Full, Some(false), 200));
    assert_eq!(site.patients_asked_for(), ["bruno-vale"], "what was said early, about another, was not heard");
    // Said again when the handshake is done, it is heard.
    assert_eq!(site.ask_late(&config, &token).await, 200);
    assert_eq!(site.patients_asked_for(), ["bruno-vale", "amara-osei"]);
}
