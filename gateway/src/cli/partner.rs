//! `fhirwall partner`: take a partner on, look at it, stop it, renew its credentials.

mod attempt;
mod check;
mod enrol;
mod list;
mod rotate;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Subcommand, ValueEnum};
use time::OffsetDateTime;

use crate::cli::exit;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, environment, load_partner, set_top_level};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Take a partner on: writes its file, signs or registers its certificate, prints what to send it.
    New(Box<enrol::Args>),
    /// Is a partner in order: papers, credentials, scopes; do its addresses answer?
    Check(check::Args),
    /// All partners at a glance.
    List(list::Args),
    /// Refuse every request of a partner from now on.
    Suspend {
        /// The partner.
        client_id: String,
        /// The gateway's configuration.
        #[arg(long)]
        config: PathBuf,
        /// Serve it again.
        #[arg(long)]
        resume: bool,
    },
    /// Make a read as the partner's own system would: discovery, token, certificate, answer.
    Try(attempt::Args),
    /// Renew a partner's certificate or secret.
    Rotate(rotate::Args),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Why a verb could not be carried out, for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Configuration(#[from] crate::config::Problems),
    #[error("no partner `{0}` is registered")]
    Unknown(String),
    #[error("{0} exists already: `partner rotate` and `partner suspend` change it")]
    Exists(PathBuf),
    #[error("{0} is not written with top-level keys at the start of lines: change it by hand")]
    NotEditable(PathBuf),
    #[error("the changed file would be refused, so nothing was changed:\n{0}")]
    BadResult(crate::config::Problems),
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("the certificate could not be issued")]
    Pki(#[from] crate::pki::PkiError),
}

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    run_at(args, SystemClock.now())
}

fn run_at(args: Args, now: OffsetDateTime) -> ExitCode {
    let outcome = match args.verb {
        Verb::New(args) => enrol::run(*args, now),
        Verb::Check(args) => check::run(&args, now),
        Verb::List(args) => list::run(&args, now),
        Verb::Suspend { client_id, config, resume } => suspend(&client_id, &config, resume),
        Verb::Try(args) => attempt::run(&args, now),
        Verb::Rotate(args) => rotate::run(&args, now),
    };
    outcome.unwrap_or_else(|refused| {
        eprintln!("error: {:#}", anyhow::Error::from(refused));
        ExitCode::from(exit::USAGE)
    })
}

fn suspend(client_id: &str, config: &Path, resume: bool) -> Result<ExitCode, Refused> {
    let config = Config::load(config, &environment)?;
    let path = file_of(&config, client_id)?;
    let status = if resume { "active" } else { "suspended" };
    edit(&path, "status", status, "name")?;
    match resume {
        false => {
            println!("{client_id} is suspended: a running gateway refuses it as soon as it has read {}", path.display())
        }
        true => println!("{client_id} is active again"),
    }
    Ok(ExitCode::SUCCESS)
}

fn file_of(config: &Config, client_id: &str) -> Result<PathBuf, Refused> {
    config
        .partners
        .get(client_id)
        .map(|partner| partner.path.clone())
        .ok_or_else(|| Refused::Unknown(client_id.to_owned()))
}

/// Sets one key of a partner's file, if the result is a good file.
fn edit(path: &Path, key: &str, value: &str, after: &str) -> Result<(), Refused> {
    let text = std::fs::read_to_string(path).map_err(|source| file("read", path, source))?;
    let changed = set_top_level(&text, key, value, after).ok_or_else(|| Refused::NotEditable(path.to_owned()))?;
    place(path, &changed)
}

/// Puts a partner's file in place whole, if it is a good one.
fn place(path: &Path, text: &str) -> Result<(), Refused> {
    let new = path.with_extension("yaml.new");
    let write = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| file("write", &new, source))?;
    if let Err(problems) = load_partner(&new, &environment) {
        let _removed = std::fs::remove_file(&new);
        return Err(Refused::BadResult(problems));
    }
    std::fs::rename(&new, path).map_err(|source| file("replace", path, source))
}

fn file(action: &'static str, path: &Path, source: std::io::Error) -> Refused {
    Refused::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
