//! Rules on the files that hold trust: keys, certificates, lists, the configuration itself.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fhirwall_certs::peer::PeerIdentity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::FromDer as _;

use crate::config::{Config, FilePath, UpstreamAuth};
use crate::control::{Control, Facts, Held, Severity, Unmet, unmet};

pub(super) const CONTROLS: &[Control] = &[
    Control {
        id: "file-missing",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(a)(1)",
        asks: "Every file that is named exists and can be read.",
        fix: "create it, or correct the path",
        held: Held::ByCheck(file_missing),
    },
    Control {
        id: "key-permissions",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(a)(2)(iv), (d)",
        asks: "Private keys and secrets can be read by the gateway's user and group alone.",
        fix: "`chmod o-rwx` the file",
        held: Held::ByCheck(key_permissions),
    },
    Control {
        id: "config-permissions",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(c)(1)",
        asks: "Configuration, partners and policies cannot be written by everybody.",
        fix: "`chmod o-w` the file or directory",
        held: Held::ByCheck(config_permissions),
    },
    Control {
        id: "key-in-configuration",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(a)(2)(iv)",
        asks: "No key stands in the configuration.",
        fix: "write it to a file of its own and name that",
        held: Held::AtLoad("where a path belongs"),
    },
    Control {
        id: "secret-in-configuration",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(d)",
        asks: "No secret stands in the configuration.",
        fix: "write `${NAME}` and set NAME in the environment, or use the `_file` form",
        held: Held::AtLoad("a secret stands in the file"),
    },
    Control {
        id: "key-one-purpose",
        severity: Severity::Risk,
        cites: "NIST SP 800-57 part 1, section 5.2",
        asks: "A key serves one purpose.",
        fix: "make a key of its own for each",
        held: Held::ByCheck(key_one_purpose),
    },
    Control {
        id: "certificate-expired",
        severity: Severity::Risk,
        cites: "45 CFR 164.312(d), (e)(1)",
        asks: "The gateway's certificates are valid today.",
        fix: "renew the certificate; the gateway takes it up by itself",
        held: Held::ByCheck(|facts| certificates(facts, |left| left <= Duration::ZERO)),
    },
    Control {
        id: "certificate-expiring",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(7)(i)",
        asks: "The gateway's certificates are valid for a week at least.",
        fix: "renew the certificate; the gateway takes it up by itself",
        held: Held::ByCheck(|facts| certificates(facts, |left| left > Duration::ZERO && left < Duration::days(7))),
    },
    Control {
        id: "crl-outdated",
        severity: Severity::Risk,
        cites: "RFC 5280 section 5.1.2.5; 45 CFR 164.308(a)(3)(ii)(C)",
        asks: "Revocation lists are not past their next update.",
        fix: "fetch the authority's new list, or run `fhirwall certs crl`",
        held: Held::ByCheck(crl_outdated),
    },
];

fn file_missing(facts: &Facts<'_>) -> Vec<Unmet> {
    let mut files = facts.config.files();
    files.sort();
    files.dedup();
    let unreadable = |file: &PathBuf| if file.is_dir() { None } else { std::fs::File::open(file).err() };
    files.iter().filter_map(|file| Some(unmet(file.display().to_string(), unreadable(file)?.to_string()))).collect()
}

/// Each private key or secret with what it is for.
fn keys(facts: &Facts<'_>) -> Vec<(&'static str, PathBuf)> {
    let gateway = &facts.config.gateway;
    let mut keys = vec![("audit signing", gateway.keys.audit_signing_file.0.clone())];
    let of = |purpose: &'static str, files: &[FilePath]| {
        files.iter().map(|file| (purpose, file.0.clone())).collect::<Vec<_>>()
    };
    keys.extend(of("sealing", &gateway.keys.seal_files));
    keys.extend(of("token signing", &gateway.keys.token_signing_files));
    keys.extend(gateway.keys.audit_encryption_file.iter().map(|file| ("audit at rest", file.0.clone())));
    for sink in &gateway.audit.sinks {
        keys.extend(sink.secret_file.iter().map(|file| ("webhook", file.0.clone())));
        keys.extend(sink.authorization_file.iter().map(|file| ("audit sink", file.0.clone())));
        keys.extend(sink.client_key_file.iter().map(|file| ("client certificate", file.0.clone())));
    }
    for tls in gateway.listeners.iter().map(|listener| &listener.tls).chain(&gateway.admin.tls) {
        keys.push(("serving TLS", tls.key_file.0.clone()));
    }
    for upstream in gateway.endpoints.iter().map(|endpoint| &endpoint.upstream) {
        keys.extend(upstream.client_key_file.iter().map(|file| ("client certificate", file.0.clone())));
        match &upstream.auth {
            UpstreamAuth::None => {}
            UpstreamAuth::BackendService { key_file, .. } => keys.push(("client assertion", key_file.0.clone())),
            UpstreamAuth::HeaderFile { file, .. } => keys.push(("EHR header", file.0.clone())),
        }
    }
    let introspection = gateway.issuers.iter().filter_map(|issuer| issuer.introspection.as_ref());
    keys.extend(introspection.map(|one| ("introspection", one.client_secret_file.0.clone())));
    keys.extend(gateway.smart.provider.iter().map(|one| ("OpenID provider", one.client_secret_file.0.clone())));
    let partners = facts.config.partners.iter().filter_map(|partner| partner.file.client_secret_file.as_ref());
    keys.extend(partners.map(|file| ("partner secret", file.0.clone())));
    keys
}

fn mode(file: &Path) -> Option<u32> {
    Some(std::fs::metadata(file).ok()?.permissions().mode())
}

fn key_permissions(facts: &Facts<'_>) -> Vec<Unmet> {
    let open = |file: &Path| mode(file).is_some_and(|mode| mode & 0o007 != 0);
    let mut found: Vec<_> = keys(facts)
        .into_iter()
        .filter(|(_, file)| open(file))
        .map(|(purpose, file)| {
            unmet(file.display().to_string(), format!("the {purpose} key is open to every user here"))
        })
        .collect();
    found.dedup();
    found
}

fn config_permissions(facts: &Facts<'_>) -> Vec<Unmet> {
    let config = facts.config;
    let mut files =
        vec![config.file.clone(), config.gateway.partners.dir.0.clone(), config.gateway.policies.dir.0.clone()];
    files.extend(config.partners.iter().map(|partner| partner.path.clone()));
    files.extend(config.policies.iter().map(|policy| config.gateway.policies.dir.join(&policy.name)));
    let writable = |file: &Path| mode(file).is_some_and(|mode| mode & 0o002 != 0);
    let found = files.iter().filter(|file| writable(file));
    found.map(|file| unmet(file.display().to_string(), "every user here may change it")).collect()
}

fn key_one_purpose(facts: &Facts<'_>) -> Vec<Unmet> {
    let mut purposes: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
    for (purpose, file) in keys(facts) {
        let of_file = purposes.entry(file).or_default();
        if !of_file.contains(&purpose) {
            of_file.push(purpose);
        }
    }
    let several = purposes.iter().filter(|(_, purposes)| purposes.len() > 1);
    several
        .map(|(file, purposes)| unmet(file.display().to_string(), format!("serves {}", purposes.join(" and "))))
        .collect()
}

fn certificates(facts: &Facts<'_>, wrong: fn(Duration) -> bool) -> Vec<Unmet> {
    let ends = expiries(facts.config).into_iter().filter(|(_, end)| wrong(*end - facts.now));
    ends.map(|(file, end)| unmet(file.display().to_string(), format!("it is valid until {}", end.date()))).collect()
}

/// The gateway's own certificates, and until when each is valid.
pub(crate) fn expiries(config: &Config) -> Vec<(PathBuf, OffsetDateTime)> {
    let gateway = &config.gateway;
    let servers = gateway.listeners.iter().map(|listener| &listener.tls).chain(&gateway.admin.tls);
    let mut files: Vec<&FilePath> = servers.map(|tls| &tls.certificate_file).collect();
    files.extend(gateway.endpoints.iter().filter_map(|endpoint| endpoint.upstream.client_certificate_file.as_ref()));
    files.dedup();
    files.into_iter().filter_map(|file| Some((file.to_path_buf(), not_after(file)?))).collect()
}

fn not_after(file: &Path) -> Option<OffsetDateTime> {
    let leaf = CertificateDer::pem_file_iter(file).ok()?.next()?.ok()?;
    Some(PeerIdentity::from_leaf_der(&leaf).ok()?.not_after)
}

fn crl_outdated(facts: &Facts<'_>) -> Vec<Unmet> {
    let gateway = &facts.config.gateway;
    let files =
        gateway.listeners.iter().map(|listener| &listener.tls).chain(&gateway.admin.tls).flat_map(|tls| &tls.crl_files);
    let mut found = Vec::new();
    for file in files {
        for crl in CertificateRevocationListDer::pem_file_iter(file).into_iter().flatten().flatten() {
            let parsed = x509_parser::revocation_list::CertificateRevocationList::from_der(&crl).ok();
            let next = parsed.and_then(|(_, crl)| crl.next_update().map(|time| time.to_datetime()));
            if let Some(next) = next.filter(|next| *next <= facts.now) {
                found.push(unmet(file.display().to_string(), format!("a new list was due on {}", next.date())));
            }
        }
    }
    found.dedup();
    found
}
