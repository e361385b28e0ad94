//! The authorization servers of a generation: one for each FHIR base, in front and broker mode.

use std::sync::Arc;

use async_trait::async_trait;

use super::{BuildError, Endpoint, files};
use crate::config::{self, Config, DpopNonce, SmartMode};
use crate::consents::UpstreamFetch;
use crate::identify::Identifier;
use crate::identify::dpop::Nonces;
use crate::identify::fetch::{Fetch, FetchError, HttpsFetch, Outgoing};
use crate::identify::issuer::IssuerConfig;
use crate::identify::partners::{ClientKeys, Partners};
use crate::shared::Shared;
use crate::smart::AuthServer;
use crate::smart::broker::mint::Mint;
use crate::smart::broker::patients::EhrPatients;
use crate::smart::broker::provider::{Provider, ProviderConfig};
use crate::smart::broker::{Broker, BrokerParts};
use crate::smart::client_keys::PublishedKeys;
use crate::smart::clients::ClientAuthentication;
use crate::smart::front::{Front, FrontConfig};
use crate::smart::remote::OwnProof;
use crate::smart::seal::Seal;
use crate::smart::signing::{OwnKeys, SigningKey};
use crate::smart::tokeninfo::TokenInfo;
use crate::smart::wellknown::auth_base;
use crate::state::IdentityState;

/// An issuer, and what fetches its keys.
type OwnIssuer = (IssuerConfig, Arc<dyn Fetch>);

/// In broker mode the gateway issues tokens itself: its own identity as an issuer, for each endpoint.
pub(super) fn own_issuers(config: &Config) -> Result<Vec<OwnIssuer>, BuildError> {
    if config.gateway.smart.mode != SmartMode::Broker {
        return Ok(Vec::new());
    }
    let fetch: Arc<dyn Fetch> = Arc::new(OwnKeys(signing_keys(&config.gateway.keys)?));
    let mut issuers = Vec::new();
    for endpoint in &config.gateway.endpoints {
        let base = endpoint.base_url.base();
        let mut issuer = IssuerConfig::new(&auth_base(base), &[base]);
        issuer.jwks_uri = format!("{}/jwks", auth_base(base)).parse().ok();
        issuers.push((issuer, Arc::clone(&fetch)));
    }
    Ok(issuers)
}

/// What makes nonces for DPoP proofs, where they are asked for. Replicas with the same seal keys make the same.
pub(super) fn nonces(config: &Config) -> Result<Option<Nonces>, BuildError> {
    match config.gateway.smart.dpop_nonce {
        DpopNonce::Required => Ok(Some(Nonces::new(&files::derived_key(&config.gateway.keys, "dpop nonce")?))),
        DpopNonce::Optional => Ok(None),
    }
}

/// The authorization server of the endpoint; none in resource mode.
pub(super) fn auth_server(
    endpoint: &Endpoint,
    config: &Config,
    identifier: &Arc<Identifier>,
    shared: &Shared,
) -> Result<Option<AuthServer>, BuildError> {
    let gateway = &config.gateway;
    let base_url = endpoint.base_url.as_str();
    let refused = |what: &str| BuildError::Endpoint { endpoint: base_url.to_owned(), what: what.to_owned() };
    if gateway.smart.mode == SmartMode::Resource {
        return Ok(None);
    }
    let issuer = auth_base(base_url);
    let info = TokenInfo {
        issuer: issuer.clone(),
        clients: ClientAuthentication {
            partners: Arc::new(config.partners.clone()),
            published: Arc::new(PublishedKeys::new(published_client(config)?)),
            replays: Arc::clone(&shared.replays),
            audiences: vec![format!("{issuer}/token"), issuer.clone()],
        },
        identifier: Arc::clone(identifier),
        revocations: Arc::clone(&shared.revocations),
        revoke: Arc::new(IdentityState(Arc::clone(&shared.state))),
    };
    // A code of one endpoint is none at another: each has its own seal.
    let mut seal_keys = Vec::new();
    for path in &gateway.keys.seal_files {
        seal_keys.push(files::key_from(path, &format!("smart {base_url}"))?);
    }
    let seal = Arc::new(Seal::new(&seal_keys).map_err(|_| refused("no seal key"))?);
    let keys = signing_keys(&gateway.keys)?;
    if let Some(provider) = &gateway.smart.provider {
        let secret = files::read_text(&provider.client_secret_file)?.trim_end().to_owned();
        let ca = provider.ca_file.as_ref().map(|path| files::read(path)).transpose()?;
        let registration = ProviderConfig {
            issuer: provider.issuer.base().to_owned(),
            client_id: provider.client_id.clone(),
            client_secret: secret,
            scopes: provider.scopes.clone(),
            fhir_user_claim: provider.fhir_user_claim.clone(),
            patient_claim: provider.patient_claim.clone(),
        };
        let fetch = client(ca.as_deref()).map_err(|what| refused(&what))?;
        let lifetime = time::Duration::try_from(gateway.smart.access_token_lifetime)
            .map_err(|_| refused("smart.access_token_lifetime is too long"))?;
        return Ok(Some(AuthServer::Broker(Box::new(Broker::new(BrokerParts {
            mint: Mint { issuer: issuer.clone(), base_url: base_url.to_owned(), keys, lifetime },
            provider: Provider::new(registration, format!("{issuer}/callback"), fetch),
            info,
            seal,
            patients: Some(Arc::new(EhrPatients::new(Arc::clone(&endpoint.upstream) as Arc<dyn UpstreamFetch>))),
            nonces: nonces(config)?,
        })))));
    }
    let behind = gateway.issuers.first().ok_or_else(|| refused("smart.mode: front needs an issuer"))?;
    let config = FrontConfig {
        base_url: base_url.to_owned(),
        issuer: behind.issuer.clone(),
        proof: keys.into_iter().next().map_or(OwnProof::None, |key| OwnProof::PrivateKeyJwt(Arc::new(key))),
        fetch: files::issuer_client(behind)?,
        audience: None,
    };
    Ok(Some(AuthServer::Front(Box::new(Front::new(config, info, seal)))))
}

fn signing_keys(keys: &config::Keys) -> Result<Vec<SigningKey>, BuildError> {
    let mut read = Vec::new();
    for path in &keys.token_signing_files {
        let key = SigningKey::from_pem(&files::read(path)?)
            .map_err(|error| BuildError::Issuer { issuer: path.display().to_string(), what: error.to_string() })?;
        read.push(key);
    }
    Ok(read)
}

/// What fetches the key sets of partners that publish them, by the system's roots. Where nobody does, nothing does.
fn published_client(config: &Config) -> Result<Arc<dyn Fetch>, BuildError> {
    let anybody = config
        .partners
        .iter()
        .filter_map(|partner| config.partners.by_client_id(&partner.partner.client_id))
        .any(|entry| matches!(entry.keys, ClientKeys::ByUrl(_)));
    if !anybody {
        return Ok(Arc::new(Nowhere));
    }
    client(None).map_err(|what| BuildError::Issuer { issuer: "partners' jwks_uri".to_owned(), what })
}

fn client(ca_pem: Option<&[u8]>) -> Result<Arc<dyn Fetch>, String> {
    let fetch = HttpsFetch::new(&Outgoing { ca_pem, ..Outgoing::default() }).map_err(|error| error.to_string())?;
    Ok(Arc::new(fetch))
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Fetch for Nowhere {
    async fn fetch(&self, _request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        Err(FetchError::NotHttps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::world::Neighbours;

    #[tokio::test]
    async fn nonces_and_clock_skew_are_as_configured() {
        let dir = tempfile::tempdir().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
        let file = neighbours.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let configured = |more: &str, skew: &str| {
            let text = text.replace("    access_token_typ:", &format!("{skew}    access_token_typ:"));
            std::fs::write(&file, format!("{text}{more}")).unwrap();
            let config = Config::load(&file, &|_| None).unwrap();
            let issuers = config.gateway.issuer_configs().unwrap();
            let skew = issuers.first().map(|issuer| issuer.clock_skew.whole_seconds());
            (nonces(&config).unwrap().is_some(), skew)
        };
        assert_eq!(configured("", ""), (true, Some(30)), "the defaults");
        assert_eq!(configured("smart: {dpop_nonce: optional}\n", "    clock_skew: 5s\n"), (false, Some(5)));
        assert_eq!(configured("smart: {dpop_nonce: required}\n", "    clock_skew: 2m\n"), (true, Some(120)));
        let too_far = text.replace("    access_token_typ:", "    clock_skew: 121s\n    access_token_typ:");
        std::fs::write(&file, too_far).unwrap();
        assert!(Config::load(&file, &|_| None).unwrap_err().to_string().contains("at most 2m"));
    }
}
