//! The command line: one file a verb.

pub mod audit;
pub mod certs;
pub mod check;
pub mod config;
pub mod consent;
pub mod demo;
mod findings;
pub mod lockdown;
pub mod partner;
pub mod policy;
pub mod probe;
pub mod redact;
mod replay;
pub mod report;
pub mod run;
pub mod scan;
mod sealed;
mod supervised;
pub mod support;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A FHIR-aware zero-trust API gateway.
#[derive(Parser, Debug)]
#[command(name = "fhirwall", version, about, long_about = None)]
pub struct Cli {
    /// Print without colour, also where the terminal has it.
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Check, search, export and report from the audit log.
    Audit(audit::Args),
    /// Dev and small-site PKI; partners' certificates.
    Certs(certs::Args),
    /// Is a configuration right and lawful, and does what it needs answer?
    Check(check::Args),
    /// The configuration's format, and what a change would alter.
    Config(config::Args),
    /// What a patient's Consents mean for a partner, purpose and label set.
    Consent(consent::Args),
    /// Everything in one process: sample EHR, sample issuer, three apps, the gateway, and a tour.
    Demo(demo::Args),
    /// Withhold all Part 2 data, or stop an app, a user or an endpoint, on every replica.
    Lockdown(lockdown::Args),
    /// Partners: take on, look at, stop, renew.
    Partner(partner::Args),
    /// Does the gateway live, is it ready, has it started? For images without a shell.
    Probe(probe::Args),
    /// The gateway.
    Run(run::Args),
    /// What a partner would see of a Bundle or NDJSON, offline.
    Redact(redact::Args),
    /// The evidence pack: controls, policies, proofs, audit, partners, as HTML and JSON, signed.
    Report(report::Args),
    /// Safe probes of the integration points: what stands open beside the gateway?
    Scan(scan::Args),
    /// What somebody who helps needs to know of this gateway, without PHI.
    Support(support::Args),
    /// Policies: are they valid, right, explained, proved?
    Policy(policy::Args),
}

/// Exit codes of every verb (product.md section 2).
pub mod exit {
    /// Findings, or a refusal.
    pub const FINDINGS: u8 = 1;
    /// Wrong usage, or a bad configuration.
    pub const USAGE: u8 = 2;
    /// A needed service is out of reach.
    pub const OUT_OF_REACH: u8 = 3;
}

impl Cli {
    /// Runs the verb.
    pub fn run(self) -> ExitCode {
        if self.no_color {
            anstream::ColorChoice::Never.write_global();
        }
        match self.verb {
            Verb::Audit(args) => audit::run(args),
            Verb::Certs(args) => certs::run(args),
            Verb::Check(args) => check::run(args),
            Verb::Config(args) => config::run(args),
            Verb::Consent(args) => consent::run(args),
            Verb::Demo(args) => demo::run(args),
            Verb::Lockdown(args) => lockdown::run(args),
            Verb::Partner(args) => partner::run(args),
            Verb::Probe(args) => probe::run(&args),
            Verb::Run(args) => run::run(&args),
            Verb::Policy(args) => policy::run(args),
            Verb::Redact(args) => redact::run(args),
            Verb::Report(args) => report::run(&args),
            Verb::Scan(args) => scan::run(&args),
            Verb::Support(args) => support::run(&args),
        }
    }
}
