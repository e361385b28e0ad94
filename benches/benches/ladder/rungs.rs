//! The rungs: from proxies that know nothing of FHIR to the whole journey.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use fhirwall::forward::{NoCredential, Upstream, UpstreamRequest};
use fhirwall::listen::front::FrontRefusal;
use fhirwall::listen::{Answer, Application, Bounds, Connection, InFlight, Listener, Request};
use fhirwall_certs::client::{Roots, UpstreamTls, upstream_config};
use fhirwall_certs::server::{ClientAuth, ClientTrust, ServerTls, ServerTlsPem, SwappableTls};
use http::{HeaderMap, StatusCode};
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use super::peers::{Proxy, Site, free_port, installed, start};

pub(crate) const MINIMAL: &str = "minimal pingora";

type Start = fn(&Site) -> anyhow::Result<Proxy>;

pub(crate) const ALL: [(&str, Start); 5] = [
    ("nginx", |site| nginx_with(site, ("", ""), None)),
    ("HAProxy", |site| haproxy_with(site, "")),
    (MINIMAL, |site| own("pingora", site)),
    ("our listener and exchange", |site| own("listener", site)),
    ("the whole journey", journey),
];

/// `limit`: what of a request limit stands in `http` and in `location`. `script`: what njs does with answers.
pub(crate) fn nginx_with(site: &Site, (zone, limit): (&str, &str), script: Option<&str>) -> anyhow::Result<Proxy> {
    let address = free_port()?;
    let module = script.map_or("", |_| "load_module modules/ngx_http_js_module.so;");
    let import = script.map(|script| format!("js_import script from {script};")).unwrap_or_default();
    let filter = script.map_or("", |_| "js_header_filter script.head; js_body_filter script.body buffer_type=buffer;");
    let config = format!(
        "{module} daemon off; worker_processes 1; pid {pid}; error_log stderr error;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ {zone} {import} access_log off; keepalive_requests 100000000; keepalive_timeout 3600s;\n\
           client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
           upstream ehr {{ server {ehr}; keepalive 64; keepalive_requests 100000000; }}\n\
           server {{ listen {address} ssl; ssl_protocols TLSv1.3; ssl_session_tickets off;\n\
             ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             ssl_client_certificate {ca}; ssl_verify_client on;\n\
             location / {{ {limit} {filter} proxy_pass https://ehr; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
               proxy_set_header Accept-Encoding identity; proxy_buffers 16 16k; proxy_buffer_size 16k;\n\
               proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {own}; proxy_ssl_certificate_key {own_key};\n\
               proxy_ssl_trusted_certificate {site_ca}; proxy_ssl_verify on; proxy_ssl_name localhost; }} }} }}\n",
        pid = site.path(if script.is_some() { "nginx-njs.pid" } else { "nginx.pid" }),
        tmp = site.path("nginx-tmp"),
        ehr = site.ehr,
        certificate = site.path("tls/site/gateway.pem"),
        key = site.path("tls/site/gateway.key"),
        ca = site.path("tls/partners/ca.pem"),
        own = site.path("tls/site/gateway-client.pem"),
        own_key = site.path("tls/site/gateway-client.key"),
        site_ca = site.path("tls/site/ca.pem"),
    );
    let file = site.path(if script.is_some() { "nginx-njs.conf" } else { "nginx.conf" });
    std::fs::write(&file, config)?;
    start(&installed("nginx")?, &["-c", &file], address)
}

/// `rules`: what its front end does with requests.
pub(crate) fn haproxy_with(site: &Site, rules: &str) -> anyhow::Result<Proxy> {
    let address = free_port()?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 1024\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n  http-reuse always\n\
         frontend in\n  bind {address} ssl crt {both} ca-file {ca} verify required ssl-min-ver TLSv1.3 alpn http/1.1\n{rules}  \
           default_backend ehr\n\
         backend ehr\n  http-request set-header Accept-Encoding identity\n  \
           server ehr {ehr} ssl crt {own} ca-file {site_ca} verify required verifyhost 127.0.0.1 pool-max-conn 64\n",
        both = site.both("gateway")?,
        own = site.both("gateway-client")?,
        ca = site.path("tls/partners/ca.pem"),
        site_ca = site.path("tls/site/ca.pem"),
        ehr = site.ehr,
    );
    let file = site.path("haproxy.cfg");
    std::fs::write(&file, config.replace(" verifyhost 127.0.0.1", ""))?;
    start(&installed("haproxy")?, &["-db", "-f", &file], address)
}

/// A rung of this bench's own, in a process of its own.
fn own(role: &str, site: &Site) -> anyhow::Result<Proxy> {
    let address = free_port()?;
    std::fs::write(site.dir.join(format!("{role}.address")), address.to_string())?;
    std::fs::write(site.dir.join("ehr.address"), &site.ehr)?;
    start(&std::env::current_exe()?, &[role, &site.dir.display().to_string()], address)
}

pub(crate) fn journey(site: &Site) -> anyhow::Result<Proxy> {
    start(&std::env::current_exe()?, &["journey", &site.dir.display().to_string()], site.gateway)
}

/// What a child process of this bench serves.
pub(crate) fn serve(role: &str, dir: &Path) -> anyhow::Result<()> {
    match role {
        "journey" => {
            let config = dir.join("fhirwall.yaml");
            let cli = <fhirwall::cli::Cli as clap::Parser>::parse_from([
                "fhirwall".as_ref(),
                "run".as_ref(),
                "--config".as_ref(),
                config.as_os_str(),
            ]);
            cli.run();
            Ok(())
        }
        "pingora" => minimal_pingora(dir),
        "listener" => listener(dir),
        _ => anyhow::bail!("no such role"),
    }
}

fn read(dir: &Path, below: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(dir.join(below)).with_context(|| below.to_owned())
}

fn text(dir: &Path, below: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(read(dir, below)?)?)
}

struct Minimal {
    ehr: SocketAddr,
    identity: Arc<CertKey>,
    ca: Arc<[WrappedX509]>,
}

#[async_trait]
impl ProxyHttp for Minimal {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new_mtls(self.ehr, "127.0.0.1".to_owned(), Arc::clone(&self.identity));
        peer.options.ca = Some(Arc::clone(&self.ca));
        Ok(Box::new(peer))
    }
}

fn der(pem: &[u8]) -> anyhow::Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject as _;
    Ok(rustls::pki_types::CertificateDer::from_pem_slice(pem)?.to_vec())
}

fn minimal_pingora(dir: &Path) -> anyhow::Result<()> {
    use rustls::pki_types::pem::PemObject as _;
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&read(dir, "tls/site/gateway-client.key")?)?;
    let identity = CertKey::new(vec![der(&read(dir, "tls/site/gateway-client.pem")?)?], key.secret_der().to_vec());
    let ca = WrappedX509::new(der(&read(dir, "tls/site/ca.pem")?)?, parse_x509);
    let minimal =
        Minimal { ehr: text(dir, "ehr.address")?.parse()?, identity: Arc::new(identity), ca: Arc::from(vec![ca]) };
    let mut server = Server::new(None)?;
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, minimal);
    let path = |below: &str| dir.join(below).display().to_string();
    let mut tls = TlsSettings::intermediate(&path("tls/site/gateway.pem"), &path("tls/site/gateway.key"))?;
    let trust = ClientTrust { ca: read(dir, "tls/partners/ca.pem")?, crls: Vec::new() };
    tls.set_client_cert_verifier(fhirwall_certs::server::client_verifier(&trust, true)?);
    service.add_tls_with_settings(&text(dir, "pingora.address")?, None, tls);
    server.add_service(service);
    server.run_forever()
}

/// Our listener and our exchange with nothing in between.
struct Through(Upstream);

#[async_trait]
impl Application for Through {
    async fn answer(&self, _connection: &Connection, request: Request) -> Answer {
        let below = request.path.strip_prefix("/fhir").unwrap_or_default().to_owned();
        let upstream = UpstreamRequest::get(below, request.query.unwrap_or_default());
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("application/fhir+json"));
        match self.0.exchange(&upstream).await {
            Ok(answer) => Answer { status: answer.status, headers, body: answer.body, rest: None, ending: None },
            Err(_) => {
                Answer { status: StatusCode::BAD_GATEWAY, headers, body: bytes::Bytes::new(), rest: None, ending: None }
            }
        }
    }

    async fn refuse(&self, _connection: &Connection, _refusal: FrontRefusal) -> Answer {
        Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            rest: None,
            ending: None,
        }
    }
}

fn listener(dir: &Path) -> anyhow::Result<()> {
    let trust = ClientTrust { ca: read(dir, "tls/partners/ca.pem")?, crls: vec![read(dir, "tls/partners/ca.crl")?] };
    let tls = ServerTls::from_pem(&ServerTlsPem {
        certificates: read(dir, "tls/site/gateway.pem")?,
        key: read(dir, "tls/site/gateway.key")?,
        client_auth: ClientAuth::Required(trust),
    })?;
    let upstream = upstream_config(&UpstreamTls {
        roots: Roots::Custom(read(dir, "tls/site/ca.pem")?),
        client_certificate: Some((
            read(dir, "tls/site/gateway-client.pem")?,
            read(dir, "tls/site/gateway-client.key")?,
        )),
        pins_sha256: Vec::new(),
    })?;
    let base = format!("https://{}/fhir", text(dir, "ehr.address")?);
    let address: SocketAddr = text(dir, "listener.address")?.parse()?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
        let exchange = Upstream::new(upstream, vec![base], Duration::from_secs(10), 16 << 20, Arc::new(NoCredential));
        let application = Arc::new(Through(exchange));
        let listener = Listener::new(
            Arc::new(SwappableTls::new(tls)),
            application,
            Bounds::default(),
            Arc::new(InFlight::default()),
        );
        let socket = tokio::net::TcpListener::bind(address).await?;
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        Arc::new(listener).serve(socket, stopped).await;
        anyhow::Ok(())
    })
}
