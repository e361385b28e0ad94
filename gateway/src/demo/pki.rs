//! The demo's certificates: one authority for servers and the gateway, one for partners.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fhirwall_certs::authority::LeafNames;
use fhirwall_certs::server::{ClientAuth, ClientTrust, ServerTls, ServerTlsPem};
use time::OffsetDateTime;

use crate::pki::{IssuedFiles, PkiDirectory};

const DAYS: u16 = 30;

/// The authorities and certificates below `dir/tls`.
#[derive(Debug)]
pub(crate) struct DemoPki {
    pub(crate) site: PkiDirectory,
    pub(crate) partners: PkiDirectory,
    /// The gateway as a client of the EHR.
    pub(crate) gateway_client: IssuedFiles,
    ehr: IssuedFiles,
    issuer: IssuedFiles,
    now: OffsetDateTime,
}

impl DemoPki {
    pub(crate) fn create(dir: &Path, now: OffsetDateTime) -> anyhow::Result<Self> {
        let mut site = PkiDirectory::create(&dir.join("tls/site"), "fhirwall demo site CA", now)?;
        let partners = PkiDirectory::create(&dir.join("tls/partners"), "fhirwall demo partners CA", now)?;
        let server = |name: &str| LeafNames {
            common_name: name.to_owned(),
            dns: vec!["localhost".to_owned()],
            ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            ..LeafNames::default()
        };
        site.issue_server("gateway", &server("gateway"), DAYS, now)?;
        let ehr = site.issue_server("ehr", &server("sample EHR"), DAYS, now)?;
        let issuer = site.issue_server("issuer", &server("sample issuer"), DAYS, now)?;
        let gateway_client =
            site.issue_client("gateway-client", &uri("gateway", "spiffe://site.example/gateway"), DAYS, now)?;
        Ok(Self { site, partners, gateway_client, ehr, issuer, now })
    }

    /// A partner's client certificate with a SPIFFE id.
    pub(crate) fn partner(&mut self, name: &str, spiffe_id: &str) -> anyhow::Result<IssuedFiles> {
        Ok(self.partners.issue_client(name, &uri(name, spiffe_id), DAYS, self.now)?)
    }

    /// The EHR takes nobody but the site's own clients.
    pub(crate) fn ehr_tls(&self) -> anyhow::Result<ServerTls> {
        server_tls(&self.ehr, ClientAuth::Required(trust(&self.site)?))
    }

    /// The issuer binds tokens to a partner's certificate where one is shown.
    pub(crate) fn issuer_tls(&self) -> anyhow::Result<ServerTls> {
        server_tls(&self.issuer, ClientAuth::Optional(trust(&self.partners)?))
    }

    pub(crate) fn site_ca(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.site.ca_file())
    }
}

/// The PEM texts of a certificate and its key.
pub(crate) fn identity(files: &IssuedFiles) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let key = files.key.as_ref().context("the key is not here")?;
    Ok((read(&files.certificate)?, read(key)?))
}

pub(crate) fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn trust(pki: &PkiDirectory) -> anyhow::Result<ClientTrust> {
    Ok(ClientTrust { ca: read(&pki.ca_file())?, crls: vec![read(&pki.crl_file())?] })
}

fn server_tls(files: &IssuedFiles, client_auth: ClientAuth) -> anyhow::Result<ServerTls> {
    let (certificates, key) = identity(files)?;
    Ok(ServerTls::from_pem(&ServerTlsPem { certificates, key, client_auth })?)
}

fn uri(name: &str, uri: &str) -> LeafNames {
    LeafNames { common_name: name.to_owned(), uris: vec![uri.to_owned()], ..LeafNames::default() }
}
