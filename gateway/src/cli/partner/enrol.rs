//! `partner new`: from a few answers to a partner's file, its certificate, and the letter to send.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::println;
use fhirwall_certs::authority::LeafNames;
use fhirwall_certs::peer::PeerIdentity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use time::OffsetDateTime;

use super::rotate::in_yaml;
use super::{Refused, file, place};
use crate::config::{Config, Sha256, environment};
use crate::control::findings;
use crate::identify::partners::CertificateMatch;
use crate::pki::{PkiDirectory, write_key};
use crate::smart::signing::SigningKey;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    /// The app's OAuth client id. What is not given is asked for.
    #[arg(long)]
    client_id: Option<String>,
    /// Its name for people.
    #[arg(long)]
    name: Option<String>,
    /// public, confidential-symmetric, confidential-asymmetric or backend-service.
    #[arg(long = "type")]
    client_type: Option<String>,
    /// The most it may ever have, as SMART v2 scopes.
    #[arg(long)]
    scope: Vec<String>,
    /// For what: TREAT, PATRQT, HPAYMT, HOPERAT, HRESCH, and so on.
    #[arg(long)]
    purpose: Vec<String>,
    #[arg(long)]
    redirect_uri: Vec<String>,
    #[arg(long)]
    origin: Vec<String>,
    #[arg(long)]
    jwks_uri: Option<String>,
    #[arg(long)]
    jwks_file: Option<PathBuf>,
    /// For confidential-symmetric: the file that holds its secret.
    #[arg(long)]
    client_secret_file: Option<PathBuf>,
    #[command(flatten)]
    certificate: Certificate,
    /// Make its keys and its certificate here, in `--pki`: for trying out and for small sites. Else a partner keeps its own.
    #[arg(long, requires = "pki", conflicts_with_all = ["csr", "certificate", "jwks_uri", "jwks_file", "dpop"])]
    make_keys: bool,
    /// A URI name of its certificate, as spiffe://partner.example/gateway.
    #[arg(long)]
    san_uri: Vec<String>,
    /// A DNS name of its certificate.
    #[arg(long)]
    san_dns: Vec<String>,
    /// It binds its tokens to a DPoP key and has no certificate.
    #[arg(long)]
    dpop: bool,
    #[arg(long, default_value = "US")]
    jurisdiction: String,
    /// Its 42 CFR Part 2 basis: none, consent, patient, program, research, audit or court-order.
    #[arg(long, default_value = "none")]
    part2_basis: String,
    /// marked or silent; proposed from the purposes when not given.
    #[arg(long)]
    redaction: Option<String>,
    /// How a Consent's actor names it, as Organization/recovery-path.
    #[arg(long)]
    recipient: Vec<String>,
    #[arg(long, requires = "baa_expires")]
    baa_signed: Option<String>,
    #[arg(long, requires = "baa_signed")]
    baa_expires: Option<String>,
    #[arg(long, requires = "assessment_expires")]
    assessment_framework: Option<String>,
    #[arg(long, requires = "assessment_framework")]
    assessment_expires: Option<String>,
    #[arg(long)]
    security_contact: Option<String>,
}

/// Where a partner's certificate comes from.
#[derive(clap::Args, Debug)]
pub(super) struct Certificate {
    /// Sign this PKCS#10 request with the authority in `--pki`.
    #[arg(long, requires = "pki")]
    pub(super) csr: Option<PathBuf>,
    /// The directory that `fhirwall certs init` made.
    #[arg(long)]
    pub(super) pki: Option<PathBuf>,
    /// For how many days a certificate is issued.
    #[arg(long, default_value_t = 365)]
    pub(super) days: u16,
    /// Register this certificate of an outside authority, PEM.
    #[arg(long, conflicts_with = "csr")]
    pub(super) certificate: Option<PathBuf>,
}

pub(super) fn run(mut args: Args, now: OffsetDateTime) -> Result<ExitCode, Refused> {
    let config = Config::load(&args.config, &environment)?;
    ask_for_the_rest(&mut args)?;
    let client_id = args.client_id.clone().unwrap_or_default();
    let name_is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if client_id.is_empty() || client_id.starts_with('.') || !client_id.bytes().all(name_is_plain) {
        return Err(Refused::Usage(
            "a client_id becomes a file name: use letters, digits, `-`, `_` and `.`".to_owned(),
        ));
    }
    let path = config.gateway.partners.dir.join(format!("{client_id}.yaml"));
    if path.exists() || config.partners.get(&client_id).is_some() {
        return Err(Refused::Exists(path));
    }
    let (certificates, issued) = certificates(&mut args, &client_id, now)?;
    place(&path, &yaml(&args, &certificates))?;
    let config = Config::load(&args.config, &environment)?;
    letter(&config, &client_id, &path, issued.as_deref(), now);
    Ok(ExitCode::SUCCESS)
}

/// Asks at the terminal for what every partner needs and no flag gave.
fn ask_for_the_rest(args: &mut Args) -> Result<(), Refused> {
    let one = |slot: &mut Option<String>, flag: &str, question: &str| {
        if slot.is_none() {
            *slot = Some(ask(flag, question)?);
        }
        Ok::<(), Refused>(())
    };
    one(&mut args.client_id, "--client-id", "client id")?;
    one(&mut args.name, "--name", "name for people")?;
    one(
        &mut args.client_type,
        "--type",
        "type (public, confidential-symmetric, confidential-asymmetric, backend-service)",
    )?;
    let many = |slot: &mut Vec<String>, flag: &str, question: &str| {
        if slot.is_empty() {
            *slot = ask(flag, question)?.split_whitespace().map(str::to_owned).collect();
        }
        Ok::<(), Refused>(())
    };
    many(&mut args.scope, "--scope", "scopes, as patient/Observation.rs")?;
    many(&mut args.purpose, "--purpose", "purposes of use, as TREAT")
}

fn ask(flag: &str, question: &str) -> Result<String, Refused> {
    if !std::io::stdin().is_terminal() {
        return Err(Refused::Usage(format!("{flag} is missing, and there is no terminal to ask at")));
    }
    anstream::print!("{question}: ");
    let mut line = String::new();
    let read = std::io::stdout().flush().and_then(|()| std::io::stdin().read_line(&mut line));
    read.map_err(|error| Refused::Usage(format!("no answer: {error}")))?;
    Ok(line.trim().to_owned())
}

type Issued = (Vec<CertificateMatch>, Option<PathBuf>);

fn certificates(args: &mut Args, client_id: &str, now: OffsetDateTime) -> Result<Issued, Refused> {
    if let (true, Some(pki)) = (args.make_keys, args.certificate.pki.clone()) {
        return make_keys(args, client_id, &pki, now);
    }
    if args.certificate.csr.is_some() {
        if args.san_uri.is_empty() && args.san_dns.is_empty() {
            return Err(Refused::Usage("a certificate needs a name: `--san-uri` or `--san-dns`".to_owned()));
        }
        return issue(&args.certificate, client_id, &args.san_uri, &args.san_dns, now);
    }
    if let Some(file) = &args.certificate.certificate {
        return Ok((certificate_of(file)?, None));
    }
    let uris = args.san_uri.iter().cloned().map(CertificateMatch::SanUri);
    let dns = args.san_dns.iter().map(|name| CertificateMatch::SanDns(name.to_ascii_lowercase()));
    Ok((uris.chain(dns).collect(), None))
}

/// A certificate with its key, and a second key that signs assertions (SMART App Launch 2.2, asymmetric authentication).
fn make_keys(args: &mut Args, client_id: &str, pki: &Path, now: OffsetDateTime) -> Result<Issued, Refused> {
    if args.san_uri.is_empty() && args.san_dns.is_empty() {
        args.san_uri.push(format!("urn:fhirwall:partner:{client_id}"));
    }
    let names = LeafNames {
        common_name: client_id.to_owned(),
        dns: args.san_dns.clone(),
        uris: args.san_uri.clone(),
        ips: Vec::new(),
    };
    let issued = PkiDirectory::open(pki)?.issue_client(client_id, &names, args.certificate.days, now)?;
    let failed = || Refused::Usage("a signing key could not be made".to_owned());
    let pem = fhirwall_certs::authority::private_key_pem().map_err(|_| failed())?;
    let signing = SigningKey::from_pem(pem.as_bytes()).map_err(|_| failed())?;
    write_key(&pki.join(format!("{client_id}-signing.key")), &pem)?;
    let jwks = pki.join(format!("{client_id}.jwks.json"));
    let document = format!("{:#}\n", crate::smart::signing::jwks(&[signing]));
    std::fs::write(&jwks, document).map_err(|source| file("write", &jwks, source))?;
    args.jwks_file = Some(std::path::absolute(&jwks).map_err(|source| file("find", &jwks, source))?);
    Ok((certificate_of(&issued.certificate)?, Some(issued.certificate)))
}

/// Signs a request: the names are those given here, not the request's.
pub(super) fn issue(
    certificate: &Certificate,
    client_id: &str,
    uris: &[String],
    dns: &[String],
    now: OffsetDateTime,
) -> Result<Issued, Refused> {
    let (Some(csr), Some(pki)) = (&certificate.csr, &certificate.pki) else { return Ok((Vec::new(), None)) };
    let request = std::fs::read_to_string(csr).map_err(|source| file("read", csr, source))?;
    let names =
        LeafNames { common_name: client_id.to_owned(), dns: dns.to_vec(), uris: uris.to_vec(), ips: Vec::new() };
    let issued = PkiDirectory::open(pki)?.sign_csr(client_id, &request, &names, certificate.days, now)?;
    let uris = uris.iter().cloned().map(CertificateMatch::SanUri);
    let dns = dns.iter().map(|name| CertificateMatch::SanDns(name.to_ascii_lowercase()));
    let mut known: Vec<_> = uris.chain(dns).collect();
    if known.is_empty() {
        known = certificate_of(&issued.certificate)?;
    }
    Ok((known, Some(issued.certificate)))
}

/// How a certificate is best known again: by its URI name, its DNS name, or else its digest.
pub(super) fn certificate_of(path: &Path) -> Result<Vec<CertificateMatch>, Refused> {
    let refused = |what: String| Refused::Usage(format!("{}: {what}", path.display()));
    let leaf = CertificateDer::pem_file_iter(path).ok().and_then(|mut chain| chain.next()?.ok());
    let leaf = leaf.ok_or_else(|| refused("holds no readable PEM certificate".to_owned()))?;
    let peer = PeerIdentity::from_leaf_der(&leaf).map_err(|error| refused(error.to_string()))?;
    let uri = peer.san_uris.first().cloned().map(CertificateMatch::SanUri);
    let dns = peer.san_dns.first().cloned().map(CertificateMatch::SanDns);
    Ok(vec![uri.or(dns).unwrap_or_else(|| CertificateMatch::Sha256(Sha256::of(&leaf).0))])
}

/// Treatment partners whose users may use emergency access must know that there is something to ask for (product.md 4).
fn redaction(args: &Args) -> String {
    let treats = args.purpose.iter().any(|purpose| matches!(purpose.as_str(), "TREAT" | "ETREAT" | "BTG" | "COC"));
    args.redaction.clone().unwrap_or_else(|| if treats { "marked" } else { "silent" }.to_owned())
}

/// The partner's file. Values are JSON, which YAML reads; what is not given is left out.
fn yaml(args: &Args, certificates: &[CertificateMatch]) -> String {
    let mut lines = vec!["apiVersion: fhirwall/v1".to_owned(), "kind: Partner".to_owned()];
    let mut put = |key: &str, value: serde_json::Value| {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            lines.push(format!("{key}: {value}"));
        }
    };
    put("client_id", json!(args.client_id));
    put("name", json!(args.name));
    put("status", json!("active"));
    put("type", json!(args.client_type));
    put("jwks_uri", json!(args.jwks_uri));
    put("jwks_file", json!(args.jwks_file));
    put("client_secret_file", json!(args.client_secret_file));
    put("redirect_uris", json!(args.redirect_uri));
    put("origins", json!(args.origin));
    put("mtls", json!(if args.dpop && certificates.is_empty() { "none" } else { "required" }));
    put("dpop", json!(if args.dpop { "required" } else { "optional" }));
    put("jurisdiction", json!(args.jurisdiction));
    put("part2", json!({"basis": args.part2_basis, "redaction": redaction(args)}));
    let recipients: Vec<_> = args.recipient.iter().map(|reference| json!({"reference": reference})).collect();
    put("consent_recipients", json!(recipients));
    let mut evidence = serde_json::Map::new();
    if let (Some(signed), Some(expires)) = (&args.baa_signed, &args.baa_expires) {
        evidence.insert("baa".to_owned(), json!({"signed": signed, "expires": expires}));
    }
    if let (Some(framework), Some(expires)) = (&args.assessment_framework, &args.assessment_expires) {
        evidence.insert("security_assessment".to_owned(), json!({"framework": framework, "expires": expires}));
    }
    put("evidence", if evidence.is_empty() { serde_json::Value::Null } else { evidence.into() });
    put(
        "contacts",
        args.security_contact.as_ref().map_or(serde_json::Value::Null, |contact| json!({"security": contact})),
    );
    if !certificates.is_empty() {
        lines.push(format!("certificates: {}", in_yaml(certificates)));
    }
    // Written even when empty: nothing is then granted, and the file says so.
    lines.push(format!("scopes: {}", json!(args.scope)));
    lines.push(format!("purposes_of_use: {}", json!(args.purpose)));
    lines.join("\n") + "\n"
}

fn letter(config: &Config, client_id: &str, path: &Path, issued: Option<&Path>, now: OffsetDateTime) {
    println!("wrote {}\n\nsend this to the partner:", path.display());
    println!("  client_id             {client_id}");
    for endpoint in &config.gateway.endpoints {
        let base = endpoint.base_url.base();
        println!("  FHIR base             {base}\n  SMART configuration   {base}/.well-known/smart-configuration");
        println!("  audience (aud)        {base}");
    }
    if let Some(certificate) = issued {
        println!("  its certificate       {}", certificate.display());
    }
    let subject = format!("partner {client_id}");
    let open: Vec<_> = findings(config, now).into_iter().filter(|one| one.subject == subject).collect();
    if !open.is_empty() {
        println!("\nstill open:");
    }
    for finding in open {
        println!("  {finding}");
    }
    println!("\nnext: fhirwall partner check {client_id} --config {}", config.file.display());
}
