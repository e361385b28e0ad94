//! `fhirwall scan`: what stands open beside the gateway, at the EHR, the issuers and the partners?

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::ValueEnum;
use serde_json::json;

use crate::cli::{exit, findings};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, environment};
use crate::control::Finding;
use crate::scan::{Scanned, scan};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the verb: 0 when all is well, 1 with findings, 3 when somebody did not answer.
pub fn run(args: &Args) -> ExitCode {
    let config = match Config::load(&args.config, &environment) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(exit::OUT_OF_REACH);
        }
    };
    let scanned = runtime.block_on(scan(&config, SystemClock.now()));
    match args.output {
        Output::Text => tell(&scanned),
        Output::Json => println!("{:#}", as_json(&scanned)),
    }
    if scanned.findings.iter().any(Finding::counts) {
        ExitCode::from(exit::FINDINGS)
    } else if scanned.asked.iter().any(|one| one.failure.is_some()) {
        ExitCode::from(exit::OUT_OF_REACH)
    } else {
        ExitCode::SUCCESS
    }
}

fn tell(scanned: &Scanned) {
    findings::tell(&scanned.findings);
    findings::tell_reached(&scanned.asked);
    println!("{} findings; {} questions asked", scanned.findings.len(), scanned.asked.len());
}

fn as_json(scanned: &Scanned) -> serde_json::Value {
    let label = |(system, code, seen): &(String, String, u64)| json!({"system": system, "code": code, "seen": seen});
    json!({
        "findings": scanned.findings.iter().map(findings::as_json).collect::<Vec<_>>(),
        "reached": scanned.asked.iter().map(findings::reached_as_json).collect::<Vec<_>>(),
        "unknown_labels": scanned.unknown_labels.iter().map(label).collect::<Vec<_>>(),
    })
}
