//! `fhirwall check`: is this configuration right, lawful, and does what it needs answer?

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::ValueEnum;
use serde_json::json;

use crate::cli::{exit, findings};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Problems, environment};
use crate::control::{self, Finding, Severity, markdown};
use crate::reach::{Reached, reach};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The gateway's configuration.
    #[arg(long, required_unless_present = "catalogue")]
    config: Option<PathBuf>,
    /// Ask nobody: hold the configuration against the rules alone.
    #[arg(long)]
    offline: bool,
    /// Print the catalogue of rules as a page, and end.
    #[arg(long)]
    catalogue: bool,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    if args.catalogue {
        anstream::print!("{}", markdown());
        return ExitCode::SUCCESS;
    }
    let Some(path) = args.config else { return ExitCode::from(exit::USAGE) };
    let config = match Config::load(&path, &environment) {
        Ok(config) => config,
        Err(problems) => {
            tell_problems(&problems, args.output);
            return ExitCode::from(exit::USAGE);
        }
    };
    let found = control::findings(&config, SystemClock.now());
    let reached = if args.offline { Vec::new() } else { reach_all(&config) };
    match args.output {
        Output::Text => tell(&config, &found, &reached),
        Output::Json => println!("{:#}", as_json(&found, &reached)),
    }
    if found.iter().any(Finding::counts) {
        ExitCode::from(exit::FINDINGS)
    } else if reached.iter().any(|one| one.failure.is_some()) {
        ExitCode::from(exit::OUT_OF_REACH)
    } else {
        ExitCode::SUCCESS
    }
}

fn reach_all(config: &Config) -> Vec<Reached> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(reach(config)),
        Err(error) => vec![Reached { what: "the network".to_owned(), failure: Some(error.to_string()) }],
    }
}

fn tell_problems(problems: &Problems, output: Output) {
    match output {
        Output::Text => eprintln!("{problems}"),
        Output::Json => {
            let one = |problem: &crate::config::Problem| {
                json!({
                    "id": "configuration", "severity": "violation", "file": problem.file, "line": problem.line,
                    "subject": problem.key, "finding": problem.what, "fix": problem.fix,
                })
            };
            println!("{:#}", json!({"findings": problems.iter().map(one).collect::<Vec<_>>()}));
        }
    }
}

fn tell(config: &Config, found: &[Finding], reached: &[Reached]) {
    findings::tell(found);
    findings::tell_reached(reached);
    let count = |severity| found.iter().filter(|one| one.waiver.is_none() && one.control.severity == severity).count();
    println!(
        "{}: {} partners, {} violations, {} risks, {} advice, {} waived",
        config.file.display(),
        config.partners.len(),
        count(Severity::Violation),
        count(Severity::Risk),
        count(Severity::Advice),
        found.iter().filter(|one| one.waiver.is_some()).count()
    );
}

fn as_json(found: &[Finding], reached: &[Reached]) -> serde_json::Value {
    json!({
        "findings": found.iter().map(findings::as_json).collect::<Vec<_>>(),
        "reached": reached.iter().map(findings::reached_as_json).collect::<Vec<_>>(),
    })
}
