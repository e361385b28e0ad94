//! `partner rotate`: a new certificate or secret beside the old one, then the old one gone.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::println;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use super::enrol::{Certificate, certificate_of, issue};
use super::{Refused, edit, file, file_of};
use crate::config::{Config, environment};
use crate::identify::partners::CertificateMatch;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The partner.
    client_id: String,
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    #[command(flatten)]
    certificate: Certificate,
    /// Remove the certificates that were registered before; without it they stay valid beside the new one.
    #[arg(long)]
    retire: bool,
    /// Make a new client secret and put it into the partner's secret file.
    #[arg(long, conflicts_with_all = ["retire", "csr", "certificate"])]
    secret: bool,
}

pub(super) fn run(args: &Args, now: OffsetDateTime) -> Result<ExitCode, Refused> {
    let config = Config::load(&args.config, &environment)?;
    let path = file_of(&config, &args.client_id)?;
    let Some(partner) = config.partners.get(&args.client_id) else {
        return Err(Refused::Unknown(args.client_id.clone()));
    };
    if args.secret {
        let Some(file) = &partner.file.client_secret_file else {
            return Err(Refused::Usage("this partner has no `client_secret_file`".to_owned()));
        };
        replace_secret(file)?;
        println!(
            "a new secret is in {}: send it over a channel of its own; the old one is refused from now on",
            file.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let old = &partner.file.certificates;
    let (new, issued) = match (&args.certificate.csr, &args.certificate.certificate) {
        (Some(_), _) => {
            let (uris, dns) = names(old);
            issue(&args.certificate, &args.client_id, &uris, &dns, now)?
        }
        (None, Some(file)) => (certificate_of(file)?, None),
        (None, None) if args.retire => (Vec::new(), None),
        (None, None) => return Err(Refused::Usage("name a `--csr`, a `--certificate`, or `--secret`".to_owned())),
    };
    if let Some(file) = issued {
        println!("issued {}: send it to the partner", file.display());
    }
    let certificates = renewed(old, new, args.retire)?;
    if certificates == *old {
        println!("the new certificate is known by the names that are registered: nothing else changes");
        return Ok(ExitCode::SUCCESS);
    }
    edit(&path, "certificates", &in_yaml(&certificates), "mtls")?;
    println!("{} certificates are registered for {} now", certificates.len(), args.client_id);
    Ok(ExitCode::SUCCESS)
}

/// The new certificates beside the old, or in their place.
fn renewed(
    old: &[CertificateMatch],
    new: Vec<CertificateMatch>,
    retire: bool,
) -> Result<Vec<CertificateMatch>, Refused> {
    if retire {
        // Without a new one, all but the last registered go: it is the newest.
        let kept = if new.is_empty() { old.last().cloned().into_iter().collect() } else { new };
        return if kept.is_empty() { Err(Refused::Usage("no certificate would be left".to_owned())) } else { Ok(kept) };
    }
    let added = new.into_iter().filter(|one| !old.contains(one));
    Ok(old.iter().cloned().chain(added).collect())
}

fn names(certificates: &[CertificateMatch]) -> (Vec<String>, Vec<String>) {
    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    for certificate in certificates {
        match certificate {
            CertificateMatch::SanUri(uri) => uris.push(uri.clone()),
            CertificateMatch::SanDns(name) => dns.push(name.clone()),
            CertificateMatch::Sha256(_) => {}
        }
    }
    (uris, dns)
}

/// Certificates as one line of YAML, which JSON is.
pub(super) fn in_yaml(certificates: &[CertificateMatch]) -> String {
    use crate::config::Setting as _;
    certificates.to_vec().shown().to_string()
}

fn replace_secret(path: &Path) -> Result<(), Refused> {
    let new = path.with_extension("new");
    let _leftover = std::fs::remove_file(&new);
    let write = || {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| std::io::Error::other("no random numbers"))?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(URL_SAFE_NO_PAD.encode(secret).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| file("write", path, source))
}
