//! `fhirwall certs`: a development and small-site PKI, and partners' certificates.

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Subcommand, ValueEnum};
use fhirwall_certs::authority::LeafNames;
use fhirwall_certs::peer::{PeerIdentity, PeerRefused};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::exit;
use crate::clock::{Clock as _, SystemClock};
use crate::pki::{IssuedFiles, PkiDirectory, PkiError, write_own_keys};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a certificate authority in a directory of yours.
    Init {
        #[arg(long)]
        dir: PathBuf,
        /// The authority's name, for people.
        #[arg(long, default_value = "fhirwall site CA")]
        name: String,
    },
    /// Issue a certificate: for a partner or the gateway as a client, for the gateway as a server, or for a request.
    Issue(Issue),
    /// Show who a certificate says its holder is, as the gateway reads it.
    Inspect {
        /// A PEM file; a chain is read from its leaf.
        file: PathBuf,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Revoke a certificate by its serial number and write a new CRL.
    Revoke {
        #[arg(long)]
        dir: PathBuf,
        /// As `certs inspect` prints it.
        #[arg(long)]
        serial: String,
    },
    /// Make the gateway's own keys: what seals its paging links and what signs its audit log.
    Keys {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Write a new CRL of the same content, before the old one is out of date.
    Crl {
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
struct Issue {
    #[arg(long)]
    dir: PathBuf,
    /// The name of the files to write: `<name>.pem` and `<name>.key`.
    #[arg(long)]
    name: String,
    #[arg(long, value_enum, default_value = "client")]
    role: Role,
    /// A URI name, such as `spiffe://partner.example/gateway`.
    #[arg(long)]
    san_uri: Vec<String>,
    /// A DNS name.
    #[arg(long)]
    san_dns: Vec<String>,
    /// An IP address; for servers.
    #[arg(long)]
    san_ip: Vec<std::net::IpAddr>,
    /// Sign this PKCS#10 request: the partner keeps its key. Its wishes for names are not taken over.
    #[arg(long)]
    csr: Option<PathBuf>,
    #[arg(long, default_value_t = 365)]
    days: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    let now = SystemClock.now();
    let outcome = match args.verb {
        Verb::Init { dir, name } => PkiDirectory::create(&dir, &name, now).map(|pki| {
            println!(
                "made a certificate authority\n  trust   {}\n  CRL     {}",
                pki.ca_file().display(),
                pki.crl_file().display()
            );
            println!("  keep {} safe: whoever has it can be any partner", dir.join("ca.key").display());
        }),
        Verb::Issue(issue) => issue.run(now).map(|files| {
            println!("issued {}\n  serial  {}", files.certificate.display(), files.serial);
            if let Some(key) = files.key {
                println!("  key     {}", key.display());
            }
        }),
        Verb::Inspect { file, output } => return inspect(&file, output),
        Verb::Revoke { dir, serial } => PkiDirectory::open(&dir).and_then(|mut pki| {
            pki.revoke(&serial, now)?;
            println!("revoked {serial}\n  CRL     {} (the gateway reloads it)", pki.crl_file().display());
            Ok(())
        }),
        Verb::Keys { dir } => write_own_keys(&dir).map(|paths| {
            for path in paths {
                println!("wrote {}", path.display());
            }
            println!("  back them up where the gateway's host cannot reach; replicas share them");
        }),
        Verb::Crl { dir } => PkiDirectory::open(&dir).and_then(|mut pki| {
            pki.renew_crl(now)?;
            println!("wrote {}", pki.crl_file().display());
            Ok(())
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {:#}", anyhow::Error::from(error));
            ExitCode::from(exit::USAGE)
        }
    }
}

impl Issue {
    fn run(&self, now: OffsetDateTime) -> Result<IssuedFiles, PkiError> {
        let mut pki = PkiDirectory::open(&self.dir)?;
        let names = LeafNames {
            common_name: self.name.clone(),
            dns: self.san_dns.clone(),
            uris: self.san_uri.clone(),
            ips: self.san_ip.clone(),
        };
        match (&self.csr, self.role) {
            (Some(path), _) => {
                let csr = std::fs::read_to_string(path).map_err(|source| PkiError::File {
                    action: "read",
                    path: path.clone(),
                    source,
                })?;
                pki.sign_csr(&self.name, &csr, &names, self.days, now)
            }
            (None, Role::Client) => pki.issue_client(&self.name, &names, self.days, now),
            (None, Role::Server) => pki.issue_server(&self.name, &names, self.days, now),
        }
    }
}

fn inspect(file: &std::path::Path, output: Output) -> ExitCode {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let Ok(chain) = chain else {
        eprintln!("error: `{}` holds no readable PEM certificate", file.display());
        return ExitCode::from(exit::USAGE);
    };
    match PeerIdentity::from_der_chain(&chain) {
        Ok(peer) => {
            match output {
                Output::Text => print_text(&peer),
                Output::Json => println!("{}", to_json(&peer)),
            }
            ExitCode::SUCCESS
        }
        Err(refused) => {
            eprintln!("refused: {refused}");
            if matches!(refused, PeerRefused::Authority) {
                eprintln!("  (an authority belongs in client_ca_file, not in a partner's file)");
            }
            ExitCode::from(exit::FINDINGS)
        }
    }
}

fn print_text(peer: &PeerIdentity) {
    println!("subject     {}\nserial      {}", peer.subject, peer.serial);
    println!("valid       {} to {}", rfc3339(peer.not_before), rfc3339(peer.not_after));
    for uri in &peer.san_uris {
        println!("san_uri     {uri}{}", if peer.spiffe.is_some() { "  (SPIFFE id)" } else { "" });
    }
    for dns in &peer.san_dns {
        println!("san_dns     {dns}");
    }
    println!("sha256      {}\nx5t#S256    {}", peer.sha256_hex(), peer.x5t_s256());
}

fn to_json(peer: &PeerIdentity) -> serde_json::Value {
    json!({
        "subject": peer.subject,
        "serial": peer.serial,
        "not_before": rfc3339(peer.not_before),
        "not_after": rfc3339(peer.not_after),
        "san_uri": peer.san_uris,
        "san_dns": peer.san_dns,
        "spiffe_id": peer.spiffe.as_ref().map(ToString::to_string),
        "sha256": peer.sha256_hex(),
        "x5t#S256": peer.x5t_s256(),
    })
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.unix_timestamp().to_string())
}
