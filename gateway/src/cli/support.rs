//! `fhirwall support`: one document for whoever helps, without PHI.

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use serde_json::Value;

use crate::cli::exit;
use crate::cli::sealed::encryption_key;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, environment};
use crate::evidence::{Period, Running, collect, support};
use crate::identify::fetch::{Fetch as _, HttpsFetch, Outgoing};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    /// The file to write.
    #[arg(long, default_value = "fhirwall-support.json")]
    out: PathBuf,
    /// The key that the audit log is sealed with; by default the configured one.
    #[arg(long)]
    encryption_key: Option<PathBuf>,
    /// Where the running gateway's admin address answers, if not where the configuration says.
    #[arg(long)]
    url: Option<url::Url>,
    /// The authority of the admin address's certificate, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The certificate to show there, PEM.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

/// Runs the verb: 0 when the document is written; a gateway that does not answer is told in it.
pub fn run(args: &Args) -> ExitCode {
    match make(args) {
        Ok(()) => {
            println!("{}: read it before you send it.", args.out.display());
            ExitCode::SUCCESS
        }
        Err((code, problem)) => {
            eprintln!("{problem}");
            ExitCode::from(code)
        }
    }
}

fn make(args: &Args) -> Result<(), (u8, String)> {
    let config = Config::load(&args.config, &environment).map_err(|problems| (exit::USAGE, problems.to_string()))?;
    let out_of_reach = |what: String| (exit::OUT_OF_REACH, what);
    let key = encryption_key(args.encryption_key.as_deref(), Some(&config)).map_err(|what| (exit::USAGE, what))?;
    let evidence = collect(&config, None, key.as_ref(), Period::default(), SystemClock.now())
        .map_err(|error| out_of_reach(format!("{:#}", anyhow::Error::from(error))))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let running = runtime.map_err(|error| out_of_reach(error.to_string()))?.block_on(ask(args, &config));
    let document = serde_json::to_vec_pretty(&support(&config, &evidence, &running));
    let document = document.map_err(|error| out_of_reach(error.to_string()))?;
    std::fs::write(&args.out, document)
        .map_err(|error| out_of_reach(format!("`{}` cannot be written: {error}", args.out.display())))
}

async fn ask(args: &Args, config: &Config) -> Running {
    let readiness = get(args, config, "/readyz?verbose").await;
    let readiness =
        readiness.and_then(|body| serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string()));
    let metrics = get(args, config, "/metrics").await;
    Running { readiness, metrics: metrics.map(|body| String::from_utf8_lossy(&body).into_owned()) }
}

async fn get(args: &Args, config: &Config, path: &str) -> Result<Vec<u8>, String> {
    let read = |file: &Option<PathBuf>| {
        let text = file.as_ref().map(std::fs::read).transpose();
        text.map_err(|error| format!("a file cannot be read: {error}"))
    };
    let (ca, certificate, key) = (read(&args.ca)?, read(&args.certificate)?, read(&args.key)?);
    let client_pem = certificate.as_deref().zip(key.as_deref());
    // The configuration allows plain http on loopback alone, and the client asks it nowhere else.
    let outgoing = Outgoing { ca_pem: ca.as_deref(), client_pem, dangerous_allow_loopback_http: true };
    let chain = |error: anyhow::Error| format!("{error:#}");
    let fetch = HttpsFetch::new(&outgoing).map_err(|error| chain(error.into()))?;
    let admin = &config.gateway.admin;
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    let base = args.url.as_ref().map_or_else(|| format!("{scheme}://{}", admin.address), url::Url::to_string);
    let url = url::Url::parse(&base).and_then(|base| base.join(path)).map_err(|error| error.to_string())?;
    let request = http::Request::get(url.as_str()).body(Vec::new()).map_err(|error| error.to_string())?;
    let answer = fetch.fetch(request).await.map_err(|error| chain(error.into()))?;
    // A gateway that is not ready says so with 503, and what is wrong with it.
    match answer.status().as_u16() {
        200 | 503 => Ok(answer.into_body()),
        other => Err(format!("{path} answers {other}: it may take a certificate with a role")),
    }
}
