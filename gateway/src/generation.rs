//! One generation of the configuration, ready to serve: built whole or not at all, then never changed.

mod consents;
mod files;
mod labelling;
mod smart;

use std::sync::Arc;

use fhir_profiles::engine::Limits;
use fhir_profiles::labeller::Labeller;
use fhirwall_certs::server::ServerTls;
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::decide::{EndpointFacts, EndpointRole};

pub use files::BuildError;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::consents::ConsentSource;
use crate::emergency::Emergency;
use crate::forward::{NoCredential, Upstream, UpstreamCredential};
use crate::identify::Identifier;
use crate::identify::stepup::StepUp;
use crate::links::Sealer;
use crate::listen::trusted::TrustedProxies;
use crate::offers::Offers;
use crate::prove::{self, Stamp};
use crate::resolve::Resolver;
use crate::schedule::Schedule;
use crate::shared::Shared;
use crate::smart::AuthServer;
use crate::smart::metadata::Server;
use crate::smart::remote::{OwnProof, TokenEndpoint};
use crate::smart::signing::SigningKey;
use crate::smart::upstream::{BackendService, FixedHeader};

/// Everything that a request is judged and served with.
#[derive(Debug)]
pub struct Generation {
    pub number: u64,
    pub built: time::OffsetDateTime,
    pub config: Config,
    pub policies: Arc<PolicySet>,
    pub identifier: Arc<Identifier>,
    pub endpoints: Vec<Endpoint>,
    pub sealer: Sealer,
    /// The first issuer, whose endpoints clients look for here in resource mode.
    pub issuer: Option<Server>,
    pub emergency: Emergency,
    pub limits: Limits,
    /// By listener, in the order of the configuration.
    pub listeners: Vec<ServerTls>,
    /// The admin address's.
    pub admin: Option<ServerTls>,
    /// Who may speak for clients.
    pub proxies: Arc<TrustedProxies>,
}

/// One FHIR endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// What policy knows of it; its `bases` are all that it is called by.
    pub facts: EndpointFacts,
    /// What clients see, without a slash at the end.
    pub base_url: String,
    /// Host and port of `base_url`, as a `Host` header carries it.
    pub authority: String,
    /// The path of `base_url`, without a slash at the end.
    pub base_path: String,
    pub labeller: Labeller,
    /// The labelling service with the candidate code lists, where there are any: it decides nothing.
    pub candidate: Option<Labeller>,
    pub upstream: Arc<Upstream>,
    pub consents: Arc<dyn ConsentSource>,
    /// What is asked of the authentication of users.
    pub step_up: StepUp,
    /// The authorization server below `{base_url}/auth/`, in front and broker mode.
    pub auth: Option<AuthServer>,
    pub resolver: Resolver,
    pub offers: Offers,
    pub schedule: Schedule,
    /// The EHR can leave out of a search what carries a label.
    pub honours_security_not: bool,
}

impl Generation {
    /// Builds a generation from a checked configuration. Nothing is served by it until it is complete.
    pub fn build(number: u64, config: Config, shared: &Shared) -> Result<Self, BuildError> {
        let gateway = Arc::clone(&config.gateway);
        let texts: Vec<(String, String)> = config
            .policies
            .iter()
            .filter(|file| file.name.ends_with(".cedar"))
            .map(|file| (file.name.clone(), file.text.clone()))
            .collect();
        let policies = PolicySet::load_with(&texts, &config.ceilings()).map_err(|problems| {
            BuildError::Policies(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        let report = config.policies.iter().find(|file| file.name == prove::REPORT);
        proved(gateway.policies.proof, report.map(|report| report.text.as_str()), &policies)?;
        let identifier = Arc::new(identifier(&config, shared)?);
        let mut endpoints =
            gateway.endpoints.iter().map(|one| endpoint(one, &config, shared)).collect::<Result<Vec<_>, _>>()?;
        for endpoint in &mut endpoints {
            endpoint.auth = smart::auth_server(endpoint, &config, &identifier, shared)?;
        }
        let listeners = gateway
            .listeners
            .iter()
            .map(|listener| files::server_tls(&listener.tls, &format!("listener {}", listener.address)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            number,
            built: shared.clock.now(),
            policies: Arc::new(policies),
            identifier,
            endpoints,
            sealer: sealer(&gateway.keys)?,
            issuer: issuer(&gateway)?,
            emergency: Emergency::of(&gateway.emergency),
            limits: Limits {
                max_bytes: gateway.limits.response_bytes.bytes(),
                max_depth: u16::try_from(gateway.limits.json_depth.get()).unwrap_or(u16::MAX),
                max_resources: gateway.limits.bundle_entries.get().saturating_mul(4),
            },
            listeners,
            admin: gateway.admin.tls.as_ref().map(|tls| files::server_tls(tls, "admin address")).transpose()?,
            proxies: Arc::new(TrustedProxies::new(&gateway.trusted_proxies)),
            config,
        })
    }

    /// Gives a request the published authority of its endpoint, if the client called the listener by the endpoint's host and
    /// the listener's own port: several listeners serve one base URL, which names one of their ports. Any other name stays as
    /// it is, and finds nothing. Returns the name that was called.
    pub fn by_published_name(&self, listener: usize, request: &mut crate::listen::Request) -> Option<String> {
        let port = self.config.gateway.listeners.get(listener)?.address.port();
        let (host, called) = request.authority.as_deref()?.rsplit_once(':')?;
        if called != port.to_string() || self.endpoint(request.authority.as_deref()?, &request.path).is_some() {
            return None;
        }
        let named = |endpoint: &&Endpoint| {
            let own = endpoint.authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
            own.map_or(endpoint.authority.as_str(), |(own, _)| own).eq_ignore_ascii_case(host)
        };
        let here = request.path.starts_with("/.well-known/");
        let endpoint = self.endpoints.iter().filter(named).find(|endpoint| here || endpoint.holds(&request.path))?;
        request.authority.replace(endpoint.authority.clone())
    }

    /// What the listener at this place in the configuration serves; a listener that is not there serves nothing.
    pub fn serves(&self, listener: usize) -> &[config::Serves] {
        self.config.gateway.listeners.get(listener).map_or(&[], |listener| &listener.serves)
    }

    /// The endpoint that serves this path under this authority.
    pub fn endpoint(&self, authority: &str, path: &str) -> Option<&Endpoint> {
        let named = |endpoint: &&Endpoint| endpoint.authority.eq_ignore_ascii_case(authority);
        self.endpoints.iter().filter(named).find(|endpoint| endpoint.holds(path))
    }
}

impl Endpoint {
    /// Does the path lie below this endpoint's base?
    fn holds(&self, path: &str) -> bool {
        path.strip_prefix(self.base_path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A set whose proof failed never goes live; one that nobody proved does where the configuration bears it. The set that
/// ships with the gateway was proved before it was shipped.
fn proved(wanted: config::ProofWanted, report: Option<&str>, policies: &PolicySet) -> Result<(), BuildError> {
    match (prove::stamp(report, policies.text_epoch()), wanted) {
        (Stamp::Proved, _) => Ok(()),
        (Stamp::Failed(why), _) => Err(BuildError::Policies(why)),
        (Stamp::Missing(_), _) if prove::is_shipped(policies) => Ok(()),
        (Stamp::Missing(why), config::ProofWanted::Required) => Err(BuildError::Policies(format!("not proved: {why}"))),
        (Stamp::Missing(why), config::ProofWanted::Optional) => {
            tracing::warn!(why, "the policy set is not proved");
            Ok(())
        }
    }
}

fn endpoint(one: &config::Endpoint, config: &Config, shared: &Shared) -> Result<Endpoint, BuildError> {
    let gateway = &config.gateway;
    let refused = |what: &str| BuildError::Endpoint { endpoint: one.name.clone(), what: what.to_owned() };
    let upstream = upstream_of(one, gateway, &shared.clock)?;
    let pool = shared.upstreams.of(&one.name, upstream.bases());
    let upstream = upstream.within(Arc::clone(&shared.admission));
    let upstream = Arc::new(upstream.pooled(pool, one.upstream.health_interval, Arc::clone(&shared.clock)));
    let bases = upstream.bases();
    let base_url = one.base_url.base().to_owned();
    let host = one.base_url.host_str().ok_or_else(|| refused("base_url has no host"))?;
    let authority = one.base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let role = match one.part2.role {
        config::Part2Role::Program => EndpointRole::Program,
        config::Part2Role::Recipient => EndpointRole::Recipient,
    };
    let facts_bases: Vec<String> = std::iter::once(base_url.clone()).chain(bases.iter().cloned()).collect();
    let consents = consents::source(&gateway.consent, &upstream, &facts_bases, shared)?;
    Ok(Endpoint {
        labeller: labelling::labeller(config, &one.part2, &facts_bases)?,
        candidate: labelling::candidate(config, &one.part2, &facts_bases)?,
        facts: EndpointFacts {
            name: one.name.clone(),
            role,
            bases: facts_bases.clone(),
            consents: gateway.consent.reading(),
        },
        base_path: one.base_path().to_owned(),
        auth: None,
        step_up: StepUp::new(&one.authentication, &gateway.risk).map_err(|what| refused(&what))?,
        base_url,
        authority,
        consents,
        resolver: Resolver::new(Arc::clone(&upstream), Arc::clone(&shared.clock)),
        offers: Offers::new(Arc::clone(&upstream), Arc::clone(&shared.clock)),
        upstream,
        schedule: Schedule::default(),
        honours_security_not: one.upstream.security_not,
    })
}

/// What the offline verbs need of an endpoint: what policy knows of it, and its labelling service.
pub(crate) fn offline_endpoint(
    one: &config::Endpoint,
    config: &Config,
) -> Result<(EndpointFacts, Labeller), BuildError> {
    let upstream = one.upstream.urls.iter().map(|url| url.base().to_owned());
    let bases: Vec<String> = std::iter::once(one.base_url.base().to_owned()).chain(upstream).collect();
    let role = match one.part2.role {
        config::Part2Role::Program => EndpointRole::Program,
        config::Part2Role::Recipient => EndpointRole::Recipient,
    };
    let labeller = labelling::labeller(config, &one.part2, &bases)?;
    let consents = config.gateway.consent.reading();
    Ok((EndpointFacts { name: one.name.clone(), role, bases, consents }, labeller))
}

/// The way to the EHR of an endpoint, with the gateway's own credential.
pub(crate) fn upstream_of(
    one: &config::Endpoint,
    gateway: &config::Gateway,
    clock: &Arc<dyn Clock>,
) -> Result<Upstream, BuildError> {
    let tls = files::upstream_tls(&one.upstream, &format!("endpoint {}", one.name))?;
    let bases = one.upstream.urls.iter().map(|url| url.base().to_owned()).collect();
    let credential =
        credential(&one.upstream, clock).map_err(|what| BuildError::Endpoint { endpoint: one.name.clone(), what })?;
    let response_bytes = gateway.limits.response_bytes.bytes();
    let upstream = Upstream::new(tls, bases, one.upstream.timeout, response_bytes, credential);
    Ok(match &one.upstream.unix_socket {
        None => upstream,
        Some(socket) => upstream.through_socket(socket),
    })
}

fn credential(one: &config::Upstream, clock: &Arc<dyn Clock>) -> Result<Arc<dyn UpstreamCredential>, String> {
    match &one.auth {
        config::UpstreamAuth::None => Ok(Arc::new(NoCredential)),
        config::UpstreamAuth::HeaderFile { header, file } => {
            if !header.eq_ignore_ascii_case("authorization") {
                return Err("upstream.auth: the only header that can be sent is `Authorization`".to_owned());
            }
            let text = files::read_text(file).map_err(|error| error.to_string())?;
            let header = FixedHeader::new(&text).ok_or("upstream.auth: the file holds no header value")?;
            Ok(Arc::new(header))
        }
        config::UpstreamAuth::BackendService { token_endpoint, client_id, key_file, scope } => {
            let pem = files::read_text(key_file).map_err(|error| error.to_string())?;
            let key =
                SigningKey::from_pem(pem.as_bytes()).map_err(|error| format!("upstream.auth.key_file: {error}"))?;
            let endpoint = TokenEndpoint {
                url: token_endpoint.url().clone(),
                proof: OwnProof::PrivateKeyJwt(Arc::new(key)),
                fetch: files::upstream_client(one)?,
            };
            Ok(Arc::new(BackendService::new(endpoint, client_id.clone(), scope, Arc::clone(clock))))
        }
    }
}

fn identifier(config: &Config, shared: &Shared) -> Result<Identifier, BuildError> {
    let refused = |what: String| BuildError::Issuer { issuer: "issuers".to_owned(), what };
    let configs = config.gateway.issuer_configs().map_err(|problems| refused(problems.to_string()))?;
    let mut issuers = Vec::with_capacity(configs.len());
    for (issuer, config) in config.gateway.issuers.iter().zip(configs) {
        issuers.push((config, files::issuer_client(issuer)?));
    }
    issuers.extend(smart::own_issuers(config)?);
    let named: Vec<&str> = config.gateway.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
    let nonces = smart::nonces(config)?;
    Ok(Identifier::new(
        issuers,
        Arc::new(config.partners.clone()),
        Arc::clone(&shared.replays),
        Arc::clone(&shared.revocations),
        nonces,
        100_000,
    )
    .remembering(&shared.known_keys, &named)
    .for_endpoints(config.gateway.endpoints.iter().map(|endpoint| endpoint.base_url.base().to_owned()).collect()))
}

fn issuer(gateway: &config::Gateway) -> Result<Option<Server>, BuildError> {
    let issuer = gateway.issuers.first().filter(|_| gateway.smart.mode == config::SmartMode::Resource);
    issuer.map(|one| Ok(Server::new(one.issuer.clone(), files::issuer_client(one)?))).transpose()
}

fn sealer(keys: &config::Keys) -> Result<Sealer, BuildError> {
    let mut texts = Vec::with_capacity(keys.seal_files.len());
    for path in &keys.seal_files {
        let text = files::read_text(path)?;
        // One at a time first, so that the message names the file.
        Sealer::from_files([text.as_str()]).map_err(|source| BuildError::Seal { path: path.to_path_buf(), source })?;
        texts.push(text);
    }
    Sealer::from_files(texts.iter().map(String::as_str))
        .map_err(|source| BuildError::Seal { path: std::path::PathBuf::from("keys.seal_files"), source })
}
