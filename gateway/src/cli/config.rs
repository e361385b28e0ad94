//! `fhirwall config`: the format for editors, and what a change would alter.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::cli::exit;
use crate::config::{Config, changes, environment, json_schema, partner_json_schema, reference};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// The JSON Schema of the configuration, for editors.
    Schema {
        /// Of which file.
        #[arg(long, value_enum, default_value = "gateway")]
        of: Kind,
    },
    /// The reference page of the configuration, in Markdown.
    Reference,
    /// What going from one configuration to another would alter, in words.
    Diff {
        /// The configuration that is.
        old: PathBuf,
        /// The configuration that shall be.
        new: PathBuf,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Gateway,
    Partner,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    match args.verb {
        Verb::Schema { of: Kind::Gateway } => println!("{:#}", json_schema()),
        Verb::Schema { of: Kind::Partner } => println!("{:#}", partner_json_schema()),
        Verb::Reference => anstream::print!("{}", reference()),
        Verb::Diff { old, new, output } => return diff(&old, &new, output),
    }
    ExitCode::SUCCESS
}

fn diff(old: &Path, new: &Path, output: Output) -> ExitCode {
    let (old, new) = match (Config::load(old, &environment), Config::load(new, &environment)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for problems in [old.err(), new.err()].into_iter().flatten() {
                eprintln!("{problems}");
            }
            return ExitCode::from(exit::USAGE);
        }
    };
    let changes = changes(&old, &new);
    match output {
        Output::Text if changes.is_empty() => println!("nothing changes"),
        Output::Text => changes.iter().for_each(|change| println!("{change}")),
        Output::Json => {
            let one = |change: &crate::config::Change| json!({"subject": change.subject, "change": change.to_string()});
            println!("{:#}", json!({"changes": changes.iter().map(one).collect::<Vec<_>>()}));
        }
    }
    ExitCode::SUCCESS
}
