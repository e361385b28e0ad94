//! The proxies that are measured, each in a process of its own on CPU 0.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fhirwall::demo::apps::App;
use fhirwall::demo::world::Neighbours;
use fhirwall_benches::load::Target;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A running proxy. It ends when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Proxy {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            let _gone = self.child.wait();
        }
    }
}

/// Where everything stands.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) ehr: String,
    pub(crate) gateway: SocketAddr,
    pub(crate) client_tls: Arc<ClientConfig>,
}

impl Site {
    /// The site, as this app sees it.
    pub(crate) fn of(neighbours: &Neighbours, app: &App) -> anyhow::Result<Self> {
        let dir = neighbours.dir().to_owned();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(dir.join("tls/site/ca.pem"))? {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_file_iter(&app.certificate)?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&app.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client_tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let gateway = neighbours.base_url();
        let gateway = gateway.strip_prefix("https://").and_then(|url| url.split('/').next()).context("no address")?;
        let ehr = neighbours.ehr.base_url();
        let ehr = ehr.strip_prefix("https://").and_then(|url| url.split('/').next()).context("no address")?;
        Ok(Self { dir, ehr: ehr.to_owned(), gateway: gateway.parse()?, client_tls: Arc::new(client_tls) })
    }

    /// The search that is measured, of the gateway; other proxies have other addresses.
    pub(crate) fn target(&self, token: &str) -> Target {
        Target {
            address: self.gateway,
            tls: Arc::clone(&self.client_tls),
            path: "/fhir/Observation?patient=amara-osei".to_owned(),
            token: token.to_owned(),
        }
    }

    pub(crate) fn path(&self, below: &str) -> String {
        self.dir.join(below).display().to_string()
    }

    /// One file with certificate and key, as HAProxy wants it.
    pub(crate) fn both(&self, name: &str) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.dir.join(format!("tls/site/{name}.pem")))?
            + &std::fs::read_to_string(self.dir.join(format!("tls/site/{name}.key")))?;
        let path = self.dir.join(format!("{name}-both.pem"));
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

/// Lifts the quotas: the load is meant.
pub(crate) fn unlimit(neighbours: &Neighbours) -> anyhow::Result<()> {
    let many = 1_000_000;
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file)?;
    let limits = format!(
        "limits:\n  partner: {{requests_per_second: {many}, concurrent_requests: 1000}}\n  \
           user: {{requests_per_second: {many}, concurrent_requests: 1000}}\n  \
           address: {{requests_per_second: {many}}}\n"
    );
    std::fs::write(&file, text.replace("cache: 1ms", "cache: 30s") + &limits)?;
    for entry in std::fs::read_dir(neighbours.dir().join("partners"))? {
        let path = entry?.path();
        let text =
            std::fs::read_to_string(&path)?.replace("requests_per_second: 50", &format!("requests_per_second: {many}"));
        std::fs::write(&path, text)?;
    }
    Ok(())
}

/// Starts this bench once more with everything but the proxies on CPU 1.
pub(crate) fn again_pinned() -> anyhow::Result<()> {
    let error = Command::new("taskset")
        .args(["-c", "1"])
        .arg(std::env::current_exe()?)
        .args(std::env::args().skip(1))
        .env("FHIRWALL_PINNED", "1")
        .exec();
    Err(error).context("taskset (util-linux) is needed to keep the proxies and the load apart")
}

pub(crate) fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Starts a program on CPU 0 and waits until it listens.
pub(crate) fn start(program: &Path, arguments: &[&str], address: SocketAddr) -> anyhow::Result<Proxy> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).args(arguments).env("FHIRWALL_LOG", "error");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut proxy = Proxy { address, child };
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(proxy);
        }
        if proxy.child.try_wait()?.is_some() {
            let mut said = String::new();
            if let Some(mut stderr) = proxy.child.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            bail!("{} ended: {said}", program.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{} does not listen", program.display())
}

/// The program, where it is installed.
pub(crate) fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    found.with_context(|| format!("{name} is not installed: apt-get install {name}"))
}
