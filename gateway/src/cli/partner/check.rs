//! `partner check`: one partner against the rules, and its addresses asked for real.

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::println;
use serde_json::json;
use time::OffsetDateTime;

use super::{Output, Refused, file_of};
use crate::cli::exit;
use crate::config::{Config, environment};
use crate::control::{Finding, findings};
use crate::reach::{Reached, reach_partner};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The partner.
    client_id: String,
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    /// Ask nobody.
    #[arg(long)]
    offline: bool,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) fn run(args: &Args, now: OffsetDateTime) -> Result<ExitCode, Refused> {
    let config = Config::load(&args.config, &environment)?;
    file_of(&config, &args.client_id)?;
    let subject = format!("partner {}", args.client_id);
    let mut findings = findings(&config, now);
    findings.retain(|finding| finding.subject == subject);
    let reached = if args.offline { Vec::new() } else { ask(&config, &args.client_id) };
    match args.output {
        Output::Text => tell(&args.client_id, &findings, &reached),
        Output::Json => {
            let finding = |one: &Finding| json!({"id": one.control.id, "severity": one.control.severity.to_string(), "requirement": one.control.cites, "finding": one.what, "fix": one.control.fix, "waived": one.waiver.is_some()});
            let answer = |one: &Reached| json!({"what": one.what, "failure": one.failure});
            println!(
                "{:#}",
                json!({"client_id": args.client_id, "findings": findings.iter().map(finding).collect::<Vec<_>>(), "reached": reached.iter().map(answer).collect::<Vec<_>>()})
            );
        }
    }
    let code = if findings.iter().any(Finding::counts) {
        exit::FINDINGS
    } else if reached.iter().any(|one| one.failure.is_some()) {
        exit::OUT_OF_REACH
    } else {
        0
    };
    Ok(ExitCode::from(code))
}

fn ask(config: &Config, client_id: &str) -> Vec<Reached> {
    let Some(partner) = config.partners.get(client_id) else { return Vec::new() };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(reach_partner(&partner.file)),
        Err(error) => vec![Reached { what: "the network".to_owned(), failure: Some(error.to_string()) }],
    }
}

fn tell(client_id: &str, findings: &[Finding], reached: &[Reached]) {
    for finding in findings {
        println!("{finding}\n");
    }
    for one in reached {
        match &one.failure {
            None => println!("reached     {}", one.what),
            Some(failure) => println!("not reached {}: {failure}", one.what),
        }
    }
    let open = findings.iter().filter(|finding| finding.counts()).count();
    println!("{client_id}: {open} findings, {} waived", findings.iter().filter(|one| one.waiver.is_some()).count());
    println!("what it would see of a record: fhirwall redact --as {client_id} --config FILE < bundle.json");
}
