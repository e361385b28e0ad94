//! Reads the files that a configuration names: certificates, keys, revocation lists, secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fhirwall_certs::TlsRefused;
use fhirwall_certs::client::{Roots, UpstreamTls, upstream_config};
use fhirwall_certs::server::{ClientAuth, ClientTrust, ServerTls, ServerTlsPem};
use rustls::ClientConfig;
use thiserror::Error;

use crate::config;

/// Why a generation cannot go live. For the operator: which file, and what to do.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("cannot read {path}; check that it exists and that the gateway's user may read it", path = .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{what}: {source}")]
    Tls { what: String, source: TlsRefused },
    #[error("{path}: {source}", path = .path.display())]
    Seal { path: PathBuf, source: crate::links::InvalidSealKey },
    #[error("the policy set is refused:\n{0}")]
    Policies(String),
    #[error("issuer {issuer}: {what}")]
    Issuer { issuer: String, what: String },
    #[error("endpoint {endpoint}: {what}")]
    Endpoint { endpoint: String, what: String },
    #[error("the labels configuration is refused: {0}")]
    Labels(String),
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}

pub(super) fn read_text(path: &Path) -> Result<String, BuildError> {
    std::fs::read_to_string(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}

/// The TLS side of a listener, from the files it names.
pub(super) fn server_tls(tls: &config::ListenerTls, what: &str) -> Result<ServerTls, BuildError> {
    let trust = match &tls.client_ca_file {
        None => None,
        Some(ca) => Some(ClientTrust {
            ca: read(ca)?,
            crls: tls.crl_files.iter().map(|crl| read(crl)).collect::<Result<_, _>>()?,
        }),
    };
    let client_auth = match (trust, tls.client_auth) {
        (Some(trust), config::ClientAuth::Required) => ClientAuth::Required(trust),
        (Some(trust), config::ClientAuth::Optional) => ClientAuth::Optional(trust),
        (None, _) => ClientAuth::None,
    };
    let pem = ServerTlsPem { certificates: read(&tls.certificate_file)?, key: read(&tls.key_file)?, client_auth };
    ServerTls::from_pem(&pem).map_err(|source| BuildError::Tls { what: what.to_owned(), source })
}

/// The TLS side of the connections to an EHR.
pub(super) fn upstream_tls(upstream: &config::Upstream, what: &str) -> Result<ClientConfig, BuildError> {
    let client_certificate = match (&upstream.client_certificate_file, &upstream.client_key_file) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        (Some(_) | None, _) => None,
    };
    let roots = match &upstream.ca_file {
        Some(ca) => Roots::Custom(read(ca)?),
        // An image from scratch has no authorities, and needs none for a server on loopback.
        None if !upstream.urls.iter().any(|url| url.scheme() == "https") => Roots::Nobody,
        None => Roots::Native(rustls_native_certs::load_native_certs().certs),
    };
    let pins_sha256 = upstream.pins_sha256.iter().map(|pin| pin.0).collect();
    upstream_config(&UpstreamTls { roots, client_certificate, pins_sha256 })
        .map_err(|source| BuildError::Tls { what: what.to_owned(), source })
}

/// A client for an issuer, with the issuer's own trusted roots.
pub(super) fn issuer_client(issuer: &config::Issuer) -> Result<Arc<dyn crate::identify::fetch::Fetch>, BuildError> {
    let ca = issuer.ca_file.as_ref().map(|path| read(path)).transpose()?;
    let outgoing = crate::identify::fetch::Outgoing { ca_pem: ca.as_deref(), ..Default::default() };
    let fetch = crate::identify::fetch::HttpsFetch::new(&outgoing)
        .map_err(|error| BuildError::Issuer { issuer: issuer.issuer.clone(), what: error.to_string() })?;
    Ok(Arc::new(fetch))
}

/// The client for the EHR's token endpoint: the EHR's own trust, and our certificate where it wants one.
pub(super) fn upstream_client(one: &config::Upstream) -> Result<Arc<dyn crate::identify::fetch::Fetch>, String> {
    let file = |path: &Option<config::FilePath>| {
        path.as_ref().map(|path| read(path)).transpose().map_err(|error| error.to_string())
    };
    let (ca, chain, key) = (file(&one.ca_file)?, file(&one.client_certificate_file)?, file(&one.client_key_file)?);
    let outgoing = crate::identify::fetch::Outgoing {
        ca_pem: ca.as_deref(),
        client_pem: chain.as_deref().zip(key.as_deref()),
        ..Default::default()
    };
    let fetch = crate::identify::fetch::HttpsFetch::new(&outgoing).map_err(|error| error.to_string())?;
    Ok(Arc::new(fetch))
}

/// A key for one purpose, derived from the first seal key: replicas share it, and a reload keeps it.
pub(super) fn derived_key(keys: &config::Keys, purpose: &str) -> Result<[u8; 32], BuildError> {
    let first = keys
        .seal_files
        .first()
        .ok_or_else(|| BuildError::Endpoint { endpoint: "keys".to_owned(), what: "no seal key is named".to_owned() })?;
    key_from(first, purpose)
}

/// A key for one purpose, derived from one seal key.
pub(super) fn key_from(path: &Path, purpose: &str) -> Result<[u8; 32], BuildError> {
    let mut material = purpose.as_bytes().to_vec();
    material.push(0);
    material.extend_from_slice(read_text(path)?.trim().as_bytes());
    Ok(crate::identify::sha256(&material))
}
