//! The whole small world of the demo, running in this process: EHR, issuer, apps, and the gateway between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context as _;
use fhirwall_certs::peer::PeerIdentity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::clock::{Clock, SystemClock};
use crate::demo::apps::{self, App, AppProfile};
use crate::demo::authorization_server::jose::AppKey;
use crate::demo::authorization_server::{AuthorizationServer, Grant};
use crate::demo::client::{HttpsClient, Reply};
use crate::demo::ehr::EhrServer;
use crate::demo::files::{Site, prepare_directory};
use crate::demo::patients::consents;
use crate::demo::pki::{DemoPki, identity};
use crate::reload::Timing;
use crate::serve::{Running, prepare};

/// Everything but the gateway: the EHR, the issuer, the apps, and the files that the gateway is to run on.
#[derive(Debug)]
pub struct Neighbours {
    pub ehr: EhrServer,
    pub issuer: AuthorizationServer,
    pub treatment: App,
    pub research: App,
    pub patient: App,
    site: Site,
    authority: String,
    pki: DemoPki,
}

impl Neighbours {
    /// Starts the neighbours and writes the gateway's files into `dir`, which must be empty or an earlier demo's.
    /// Without `listen` the system chooses the ports.
    pub async fn start(dir: &Path, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        Self::start_with_clock(dir, listen, Arc::new(SystemClock)).await
    }

    /// As [`Neighbours::start`], the EHR and the issuer telling the time by `clock`.
    pub async fn start_with_clock(
        dir: &Path,
        listen: Option<SocketAddr>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        prepare_directory(dir)?;
        let dir = dir.canonicalize().with_context(|| format!("cannot use `{}`", dir.display()))?;
        let now = clock.now();
        let mut pki = DemoPki::create(&dir, now)?;
        let profiles = [apps::TREATMENT, apps::RESEARCH, apps::PATIENT];
        let certificates =
            profiles.iter().map(|app| pki.partner(app.client_id, app.spiffe_id)).collect::<Result<Vec<_>, _>>()?;
        let ehr = EhrServer::start(&pki.ehr_tls()?, Arc::clone(&clock)).await.context("cannot start the sample EHR")?;
        let (listen, listen_smart, admin) = addresses(listen)?;
        let mut clients = Vec::new();
        for (profile, files) in profiles.iter().zip(&certificates) {
            clients.push(profile.registration(AppKey::from_pem(&identity(files)?.1)?.jwk()));
        }
        let audience = format!("https://{listen}/fhir");
        let issuer = AuthorizationServer::start(&pki.issuer_tls()?, clock, clients, dir.join("partners"), audience)
            .await
            .context("cannot start the sample authorization server")?;
        let site = Site { dir, listen, listen_smart, admin, ehr_base: ehr.base_url(), issuer: issuer.issuer() };
        site.write(&profiles, now)?;
        let ca = pki.site_ca()?;
        let mut ready = Vec::new();
        for (profile, files) in profiles.into_iter().zip(certificates) {
            let (certificate, key) = identity(&files)?;
            let leaf = CertificateDer::from_pem_slice(&certificate).ok().context("no certificate")?;
            let x5t_s256 = PeerIdentity::from_der_chain(&[leaf])?.x5t_s256();
            ready.push(App {
                profile,
                token: issuer.mint(&profile.grant(&x5t_s256))?,
                client: HttpsClient::new(&ca, Some((certificate, key)))?,
                key: files.key.context("the app has no key")?,
                certificate: files.certificate,
                x5t_s256,
            });
        }
        site.write_curl_files(&ready.iter().collect::<Vec<_>>())?;
        let [treatment, research, patient] = <[App; 3]>::try_from(ready).ok().context("three apps")?;
        Ok(Self { ehr, issuer, treatment, research, patient, authority: site.listen.to_string(), site, pki })
    }

    /// Another EHR with the same patients, at this address or any; it stops when dropped.
    pub async fn another_ehr(&self, address: Option<SocketAddr>) -> anyhow::Result<EhrServer> {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let tls = self.pki.ehr_tls()?;
        Ok(EhrServer::start_at(address.unwrap_or(any), &tls, Arc::new(SystemClock)).await?)
    }

    /// The file for `fhirwall run --config`.
    pub fn config_file(&self) -> PathBuf {
        self.site.config_file()
    }

    /// The FHIR base that clients with a certificate use.
    pub fn base_url(&self) -> String {
        self.site.base_url()
    }

    /// The FHIR base on the listener that asks for a certificate without requiring one.
    pub fn smart_url(&self) -> String {
        format!("https://{}/fhir", self.site.listen_smart)
    }

    /// The host and port of [`Neighbours::base_url`]: what a `Host` header must say, on every listener.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Where the gateway's administration answers, on loopback.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.site.admin)
    }

    /// The directory of everything.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// The file of curl's options for an app.
    pub fn curl_file(&self, client_id: &str) -> PathBuf {
        self.site.curl_file(client_id)
    }

    /// The audit chain's directory.
    pub fn audit_dir(&self) -> PathBuf {
        self.site.audit_dir()
    }

    /// All sample records, as `Type/id`.
    pub fn records(&self) -> Vec<String> {
        crate::demo::patients::references().into_iter().map(|record| record.reference).collect()
    }

    /// The three apps.
    pub fn apps(&self) -> [&App; 3] {
        [&self.treatment, &self.research, &self.patient]
    }

    /// Writes `demo.json`; to be called when the gateway answers.
    pub fn write_demo_json(&self) -> anyhow::Result<()> {
        self.site.write_demo_json(&self.apps())
    }

    /// What the demo's token of `app` says; change it and have [`AuthorizationServer::mint`] sign the result.
    pub fn grant(&self, app: &App) -> Grant {
        app.profile.grant(&app.x5t_s256)
    }

    /// An HTTPS client with the gateway's own certificate: what the EHR says to the gateway, for comparison.
    pub fn behind_the_gateway(&self) -> anyhow::Result<HttpsClient> {
        HttpsClient::new(&self.pki.site_ca()?, Some(identity(&self.pki.gateway_client)?))
    }

    /// A client assertion of `app` (RFC 7523) for this token endpoint, used once.
    pub fn client_assertion(
        &self,
        app: &App,
        token_endpoint: &str,
        now: time::OffsetDateTime,
    ) -> anyhow::Result<String> {
        let key = AppKey::from_pem(&std::fs::read(&app.key)?)?;
        key.sign(&serde_json::json!({
            "iss": app.profile.client_id,
            "sub": app.profile.client_id,
            "aud": token_endpoint,
            "exp": now.unix_timestamp() + 240,
            "jti": uuid::Uuid::new_v4().to_string(),
        }))
    }

    /// A second FHIR server of the site, with the same records: to take consents from.
    pub async fn consent_server(&self) -> anyhow::Result<EhrServer> {
        Ok(EhrServer::start(&self.pki.ehr_tls()?, Arc::new(SystemClock)).await?)
    }

    /// The authority of the site's servers, PEM.
    pub fn site_ca(&self) -> anyhow::Result<Vec<u8>> {
        self.pki.site_ca()
    }

    /// An HTTPS client that trusts the site and shows no certificate.
    pub fn anonymous(&self) -> anyhow::Result<HttpsClient> {
        HttpsClient::new(&self.pki.site_ca()?, None)
    }

    /// An HTTPS client with a fresh certificate of the partners' authority, for this URI name.
    pub fn stranger(&mut self, name: &str, uri: &str) -> anyhow::Result<HttpsClient> {
        let files = self.pki.partner(name, uri)?;
        HttpsClient::new(&self.pki.site_ca()?, Some(identity(&files)?))
    }

    /// Revokes an app's certificate; the gateway sees the new CRL at its next reload.
    pub fn revoke_certificate(&mut self, app: &App, now: time::OffsetDateTime) -> anyhow::Result<()> {
        let pem = std::fs::read(&app.certificate)?;
        let leaf = CertificateDer::from_pem_slice(&pem).ok().context("no certificate")?;
        let serial = PeerIdentity::from_der_chain(&[leaf])?.serial;
        Ok(self.pki.partners.revoke(&serial, now)?)
    }

    /// Writes Amara Osei's revocation of her consent into the EHR, behind the gateway's back.
    pub fn revoke_consent(&self, now: time::OffsetDateTime) {
        self.ehr.put(consents::revoked(now));
    }

    /// Tells the gateway that a patient's consents have changed, as an EHR's notification would.
    pub async fn consents_changed(&self, patient: &str) -> anyhow::Result<Reply> {
        let url = format!("{}/consents/changed", self.admin_url());
        let headers = [(crate::admin::ACT_HEADER, "1"), ("content-type", "application/json")];
        let body = serde_json::json!({"patient": patient}).to_string();
        self.anonymous()?.send(http::Method::POST, &url, &headers, body).await
    }

    /// Writes Amara Osei's consent into the EHR as it was at the start, behind the gateway's back.
    pub fn give_consent(&self, now: time::OffsetDateTime) {
        self.ehr.put(consents::given(now));
    }
}

/// The neighbours with the gateway between them.
#[derive(Debug)]
pub struct World {
    pub neighbours: Neighbours,
    pub gateway: Running,
}

impl Deref for World {
    type Target = Neighbours;

    fn deref(&self) -> &Neighbours {
        &self.neighbours
    }
}

impl World {
    /// Starts everything on loopback, for tests: `demo.json` is written at once. See [`Neighbours::start`].
    pub async fn start(dir: &Path, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let world = Self::between(Neighbours::start(dir, listen).await?)?;
        world.write_demo_json()?;
        Ok(world)
    }

    /// Starts the gateway between these neighbours, on the files as they now are.
    pub fn between(neighbours: Neighbours) -> anyhow::Result<Self> {
        let prepared = prepare(&neighbours.config_file(), Arc::new(SystemClock), Timing::default())?;
        Ok(Self { gateway: prepared.serve()?, neighbours })
    }

    /// Ends the gateway, then its neighbours.
    pub async fn stop(self) {
        self.gateway.shutdown(Duration::from_secs(5)).await;
    }
}

impl AppProfile {
    /// The three apps' profiles.
    pub const ALL: [Self; 3] = [apps::TREATMENT, apps::RESEARCH, apps::PATIENT];
}

/// The addresses of the two listeners and of the administration. Configurations name ports, so free ones are found first.
fn addresses(listen: Option<SocketAddr>) -> anyhow::Result<(SocketAddr, SocketAddr, SocketAddr)> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let wanted = listen.unwrap_or(any);
    let mut held = Vec::new();
    let mut free = |address: SocketAddr| {
        let listener = if address.port() == 0 { unused(address.ip()) } else { TcpListener::bind(address) }
            .with_context(|| format!("cannot listen on {address}: choose another address with --listen"))?;
        let address = listener.local_addr()?;
        // Held until all are found, so that none is found twice.
        held.push(listener);
        anyhow::Ok(address)
    };
    let main = free(wanted)?;
    let beside = SocketAddr::new(wanted.ip(), if wanted.port() == 0 { 0 } else { wanted.port().saturating_add(1) });
    let smart = free(beside).or_else(|_| free(SocketAddr::new(wanted.ip(), 0)))?;
    let preferred = if wanted.port() == 0 { any } else { SocketAddr::new(any.ip(), 9901) };
    let admin = free(preferred).or_else(|_| free(any))?;
    Ok((main, smart, admin))
}

/// A port that the system gives to no connection of its own accord: those begin at 32768, and one of theirs would be taken
/// again before the gateway listens.
fn unused(ip: IpAddr) -> std::io::Result<TcpListener> {
    // Each is tried once in this process: another world may have found one and not listen there yet.
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(uuid::Uuid::new_v4().as_u64_pair().1 >> 1));
    let mut tried = TcpListener::bind((ip, 0));
    for _ in 0..16 {
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        let Ok(above) = u16::try_from(at % 12_000) else { continue };
        tried = TcpListener::bind((ip, above.saturating_add(20_000)));
        if tried.is_ok() {
            break;
        }
    }
    tried
}
