//! From checked files to what identification works with: issuers with their keys' trust, partners with their credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fhirwall_policy::partner::Partner;
use time::OffsetDateTime;

use crate::config::gateway::Gateway;
use crate::config::issuer::{Introspection, Issuer};
use crate::config::partner::{Dpop, MtlsMode, PartnerFile, end_of};
use crate::config::problem::{Problem, Problems};
use crate::config::read::Environment;
use crate::config::value::Sha256;
use crate::config::{has_extension, list, read_document};
use crate::identify::issuer::{ClaimNames, IntrospectionConfig, IssuerConfig, RefreshPolicy};
use crate::identify::partners::{ClientKeys, ClientSecret, Mtls, PartnerEntry};

/// The control that `mtls: none` without DPoP falls under: only a dated waiver of it opens that way.
pub(crate) const PARTNER_MTLS: &str = "partner-mtls";

/// The partners, by `client_id`.
#[derive(Clone, Debug, Default)]
pub struct Partners {
    by_client_id: Arc<BTreeMap<Arc<str>, Arc<RegisteredPartner>>>,
    origins: Arc<BTreeSet<String>>,
}

/// A partner as registered.
#[derive(Clone, Debug)]
pub struct RegisteredPartner {
    /// The file that registers it.
    pub path: PathBuf,
    /// What that file says.
    pub file: PartnerFile,
    /// The facts that decisions rest on.
    pub partner: Arc<Partner>,
    /// The facts that prove who it is.
    pub entry: Arc<PartnerEntry>,
}

impl Partners {
    /// The partner with this client id, compared exactly.
    pub fn get(&self, client_id: &str) -> Option<&Arc<RegisteredPartner>> {
        self.by_client_id.get(client_id)
    }

    /// All of them, by client id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RegisteredPartner>> {
        self.by_client_id.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_client_id.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.by_client_id.is_empty()
    }
}

impl crate::identify::partners::Partners for Partners {
    fn by_client_id(&self, client_id: &str) -> Option<Arc<PartnerEntry>> {
        self.get(client_id).map(|registered| Arc::clone(&registered.entry))
    }

    fn origin_registered(&self, origin: &str) -> bool {
        self.origins.contains(origin)
    }
}

impl PartnerFile {
    /// Until when tokens that are bound to nothing are accepted from a partner without a certificate, by waiver.
    pub fn unbound_tokens_until(&self) -> Option<OffsetDateTime> {
        let waivers = self.waivers.iter().filter(|waiver| waiver.control == PARTNER_MTLS);
        waivers.map(|waiver| end_of(waiver.until)).max()
    }

    fn mtls(&self) -> Mtls {
        match (self.mtls, self.dpop) {
            (MtlsMode::Required, Dpop::Required | Dpop::Optional) => Mtls::Required,
            (MtlsMode::None, Dpop::Required) => Mtls::None { unbound_tokens_until: None },
            (MtlsMode::None, Dpop::Optional) => Mtls::None { unbound_tokens_until: self.unbound_tokens_until() },
        }
    }

    fn entry(&self, path: &Path, partner: &Arc<Partner>) -> Result<PartnerEntry, Problem> {
        let keys = match (&self.jwks_uri, &self.jwks_file) {
            (Some(uri), _) => ClientKeys::ByUrl(uri.url().clone()),
            (None, Some(file)) => ClientKeys::ByValue(read_jwks(file)?),
            (None, None) => ClientKeys::None,
        };
        let secret = self.client_secret_file.as_ref().map(|file| read_secret(path, file)).transpose()?;
        Ok(PartnerEntry {
            partner: Arc::clone(partner),
            kind: self.client_type,
            mtls: self.mtls(),
            dpop_required: self.dpop == Dpop::Required,
            certificates: self.certificates.clone(),
            issuers: self.issuers.clone(),
            keys,
            secret,
            redirect_uris: self.redirect_uris.iter().map(|uri| uri.as_str().to_owned()).collect(),
            origins: self.origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
        })
    }
}

/// A file that holds one secret: the text without the line's end. Only its digest is kept.
fn read_secret(partner: &Path, file: &Path) -> Result<ClientSecret, Problem> {
    let text = read_text(file)?;
    let secret = text.trim_end();
    if secret.len() < 22 {
        return Err(Problem::of_file(
            partner,
            format!("the secret in {} is too short to withstand guessing", file.display()),
            "generate at least 128 random bits: `openssl rand -base64 32`",
        ));
    }
    Ok(ClientSecret::from_sha256(Sha256::of(secret.as_bytes()).0))
}

fn read_text(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| {
        Problem::of_file(
            file,
            format!("cannot be read: {error}"),
            "check the path and that the gateway's user may read it",
        )
    })
}

fn read_jwks(file: &Path) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, Problem> {
    let text = read_text(file)?;
    let keys = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|mut jwks| {
        let keys = jwks.get_mut("keys")?.take();
        serde_json::from_value::<Vec<serde_json::Map<_, _>>>(keys).ok()
    });
    let keys = keys.filter(|keys| !keys.is_empty());
    let keys = keys.ok_or_else(|| {
        Problem::of_file(
            file,
            "this is no JSON Web Key Set",
            "write `{\"keys\": [ … ]}` with the partner's public keys",
        )
    })?;
    if keys.iter().any(|key| ["d", "k", "p", "q"].iter().any(|private| key.contains_key(*private))) {
        return Err(Problem::of_file(
            file,
            "a private or shared key stands in this set",
            "ask the partner for its public keys, and to replace the key that it gave away",
        ));
    }
    Ok(keys)
}

/// Reads every partner file of a directory; notes what is wrong in all of them.
pub(super) fn read_partners(dir: &Path, env: Environment<'_>, problems: &mut Vec<Problem>) -> Partners {
    let mut partners: BTreeMap<Arc<str>, Arc<RegisteredPartner>> = BTreeMap::new();
    for path in list(dir, "partners", problems) {
        if has_extension(&path, "yml") {
            problems.push(Problem::of_file(
                &path,
                "partner files end in .yaml; this one would be overlooked",
                "rename it",
            ));
        }
        if !has_extension(&path, "yaml") {
            continue;
        }
        let (file, found) = read_document::<PartnerFile>(&path, env);
        problems.extend(found);
        let Some(file) = file else { continue };
        let partner = Arc::new(file.partner());
        let entry = match file.entry(&path, &partner) {
            Ok(entry) => Arc::new(entry),
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if let Some(first) = partners.get(&partner.client_id) {
            let what = format!("client_id `{}` is registered by {} already", partner.client_id, first.path.display());
            problems.push(Problem::of_file(&path, what, "give each partner its own client_id, or remove one file"));
            continue;
        }
        partners.insert(Arc::clone(&partner.client_id), Arc::new(RegisteredPartner { path, file, partner, entry }));
    }
    let origins = partners.values().flat_map(|partner| partner.entry.origins.iter().cloned()).collect();
    Partners { by_client_id: Arc::new(partners), origins: Arc::new(origins) }
}

impl Gateway {
    /// The issuers with the files they name read.
    ///
    /// # Errors
    /// Each file that cannot be read.
    pub fn issuer_configs(&self) -> Result<Vec<IssuerConfig>, Problems> {
        let mut problems = Vec::new();
        let mut issuers = Vec::new();
        for issuer in &self.issuers {
            match self.issuer_config(issuer) {
                Ok(config) => issuers.push(config),
                Err(problem) => problems.push(problem),
            }
        }
        Problems::none_in(problems)?;
        Ok(issuers)
    }

    fn issuer_config(&self, issuer: &Issuer) -> Result<IssuerConfig, Problem> {
        let bases = || self.endpoints.iter().map(|endpoint| endpoint.base_url.base().to_owned()).collect();
        Ok(IssuerConfig {
            issuer: issuer.issuer.clone(),
            audience: issuer.audience.clone().unwrap_or_else(bases),
            algorithms: issuer.algorithms.clone(),
            access_token_typ: issuer.access_token_typ.clone(),
            claims: ClaimNames {
                client_id: issuer.claims.client_id.clone(),
                patient: issuer.claims.patient.clone(),
                fhir_user: issuer.claims.fhir_user.clone(),
                scope: issuer.claims.scope.clone(),
                purpose_of_use: issuer.claims.purpose_of_use.clone(),
                emergency: issuer.claims.emergency.clone(),
            },
            jwks_uri: issuer.jwks_uri.as_ref().map(|uri| uri.url().clone()),
            ca_pem: issuer.ca_file.as_ref().map(|file| read_text(file).map(String::into_bytes)).transpose()?,
            introspection: issuer.introspection.as_ref().map(introspection_config).transpose()?,
            clock_skew: time::Duration::try_from(issuer.clock_skew).unwrap_or(crate::identify::claims::LEEWAY),
            refresh: RefreshPolicy {
                after: issuer.jwks_refresh,
                stale_limit: issuer.jwks_stale_limit,
                ..RefreshPolicy::default()
            },
        })
    }
}

fn introspection_config(introspection: &Introspection) -> Result<IntrospectionConfig, Problem> {
    Ok(IntrospectionConfig {
        endpoint: introspection.endpoint.url().clone(),
        client_id: introspection.client_id.clone(),
        client_secret: read_text(&introspection.client_secret_file)?.trim_end().to_owned(),
        cache: introspection.cache.unwrap_or_default(),
    })
}
