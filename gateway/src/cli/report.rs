//! `fhirwall report`: the evidence pack for an auditor.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, println};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::{SigningKey, VerifyingKey};
use crate::cli::exit;
use crate::cli::sealed::encryption_key;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, environment};
use crate::evidence::{Evidence, Period, SIGNATURE, Signature, State, collect, page, sign, verify};
use crate::scan::scan;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The gateway's configuration.
    #[arg(long, required_unless_present = "verify")]
    config: Option<PathBuf>,
    /// The directory that gets report.html, report.json and the signature.
    #[arg(long, default_value = "report")]
    out: PathBuf,
    /// Count decisions from this time on (RFC 3339).
    #[arg(long)]
    from: Option<String>,
    /// Count decisions before this time (RFC 3339).
    #[arg(long)]
    to: Option<String>,
    /// Ask the neighbours as well, as `fhirwall scan` does.
    #[arg(long)]
    scan: bool,
    /// The key that the audit log is sealed with; by default the configured one.
    #[arg(long)]
    encryption_key: Option<PathBuf>,
    /// Check the signature of the report in this directory instead.
    #[arg(long, value_name = "DIR", requires = "public_key")]
    verify: Option<PathBuf>,
    /// The public key (PEM) that the report must be signed with.
    #[arg(long)]
    public_key: Option<PathBuf>,
}

type Failure = (u8, String);

/// Runs the verb: 1 when a control is unmet, a table fails or the audit chain is broken.
pub fn run(args: &Args) -> ExitCode {
    let outcome = match (&args.verify, &args.public_key, &args.config) {
        (Some(dir), Some(key), _) => check(dir, key),
        (_, _, Some(config)) => make(args, config),
        (Some(_) | None, _, None) => Err((exit::USAGE, "name a configuration with --config".to_owned())),
    };
    outcome.unwrap_or_else(|(code, problem)| {
        eprintln!("{problem}");
        ExitCode::from(code)
    })
}

fn make(args: &Args, config: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(config, &environment).map_err(|problems| (exit::USAGE, problems.to_string()))?;
    let now = SystemClock.now();
    let scanned = if args.scan {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| (exit::OUT_OF_REACH, error.to_string()))?;
        Some(runtime.block_on(scan(&config, now)))
    } else {
        None
    };
    let key = encryption_key(args.encryption_key.as_deref(), Some(&config)).map_err(|what| (exit::USAGE, what))?;
    let period = Period { from: moment(args.from.as_deref())?, to: moment(args.to.as_deref())? };
    let evidence = collect(&config, scanned.as_ref(), key.as_ref(), period, now)
        .map_err(|error| (exit::OUT_OF_REACH, format!("{:#}", anyhow::Error::from(error))))?;
    let document = serde_json::to_vec_pretty(&evidence).map_err(|error| (exit::USAGE, error.to_string()))?;
    let pem = read(&config.gateway.keys.audit_signing_file)?;
    let signing = SigningKey::from_pem(&pem).map_err(|error| (exit::USAGE, error.to_string()))?;
    let signature = sign(&document, &signing).ok_or_else(|| (exit::USAGE, "the audit key cannot sign".to_owned()))?;
    let signed = serde_json::to_vec_pretty(&signature).map_err(|error| (exit::USAGE, error.to_string()))?;
    std::fs::create_dir_all(&args.out).map_err(|error| unwritable(&args.out, &error))?;
    write(&args.out.join("report.json"), &document)?;
    write(&args.out.join(SIGNATURE), &signed)?;
    write(&args.out.join("report.html"), page(&evidence, Some(&signature)).as_bytes())?;
    Ok(tell(&evidence, &args.out))
}

fn tell(evidence: &Evidence, out: &Path) -> ExitCode {
    let count = |state| evidence.controls.iter().filter(|control| control.state == state).count();
    println!(
        "{}: {} controls met, {} waived, {} unmet, {} not asked",
        out.join("report.html").display(),
        count(State::Met),
        count(State::Waived),
        count(State::Unmet),
        count(State::NotAsked)
    );
    let well =
        count(State::Unmet) == 0 && evidence.policies.table_failures.is_empty() && evidence.audit.broken.is_none();
    if well { ExitCode::SUCCESS } else { ExitCode::from(exit::FINDINGS) }
}

fn check(dir: &Path, key: &Path) -> Result<ExitCode, Failure> {
    let document = read(&dir.join("report.json"))?;
    let signature: Signature = serde_json::from_slice(&read(&dir.join(SIGNATURE))?)
        .map_err(|_| (exit::USAGE, format!("`{SIGNATURE}` is no signature of a report")))?;
    let key = VerifyingKey::from_pem(&read(key)?).map_err(|error| (exit::USAGE, error.to_string()))?;
    match verify(&document, &signature, &key) {
        Ok(()) => {
            println!("The report is as it was signed by {}.", signature.key);
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            println!("NOT GENUINE: {why}");
            Ok(ExitCode::from(exit::FINDINGS))
        }
    }
}

fn moment(text: Option<&str>) -> Result<Option<OffsetDateTime>, Failure> {
    let parse = |text: &str| {
        OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| (exit::USAGE, format!("`{text}` is no time; write 2026-01-31T00:00:00Z")))
    };
    text.map(parse).transpose()
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| (exit::OUT_OF_REACH, format!("`{}`: {error}", path.display())))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    (exit::OUT_OF_REACH, format!("`{}` cannot be written: {error}", path.display()))
}
