//! `fhirwall audit`: is the log whole, and what does it say?

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Subcommand, ValueEnum};

use crate::audit::verify::{Anchors, Verification, verify};
use crate::audit::{SignedHead, VerifyingKey};
use crate::cli::exit;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Check every record of a log: form, hash, order, signatures, and against a head that was kept elsewhere.
    Verify(Verify),
}

#[derive(clap::Args, Debug)]
struct Verify {
    /// The log's directory.
    #[arg(long)]
    dir: PathBuf,
    /// A signed head kept elsewhere: a log that does not contain what it names was cut off or rewritten.
    #[arg(long)]
    head: Option<PathBuf>,
    /// Public keys (PEM) that may have signed the log. Without it, the key of the first segment is believed.
    #[arg(long)]
    public_key: Vec<PathBuf>,
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
    let outcome = match args.verb {
        Verb::Verify(args) => run_verify(&args),
    };
    outcome.unwrap_or_else(|(code, problem)| {
        eprintln!("{problem}");
        ExitCode::from(code)
    })
}

type Failure = (u8, String);

fn run_verify(args: &Verify) -> Result<ExitCode, Failure> {
    let head = args.head.as_ref().map(read_head).transpose()?;
    let keys = args.public_key.iter().map(read_key).collect::<Result<Vec<_>, _>>()?;
    let pinned = !keys.is_empty();
    let anchors = Anchors { keys, head };
    let result = verify(&args.dir, &anchors)
        .map_err(|error| (exit::OUT_OF_REACH, format!("cannot read the log in `{}`: {error}", args.dir.display())))?;
    if result.segments == 0 && result.finding.is_none() {
        return Err((exit::USAGE, format!("there is no audit log in `{}`", args.dir.display())));
    }
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&result).unwrap_or_default()),
        Output::Text => print_text(&result, pinned),
    }
    Ok(if result.finding.is_some() { ExitCode::from(exit::FINDINGS) } else { ExitCode::SUCCESS })
}

fn print_text(result: &Verification, pinned: bool) {
    let Verification { records, segments, heads, first_seq, last_seq, .. } = result;
    if let Some(finding) = &result.finding {
        println!("BROKEN at record {} (`{}` line {}): {}", finding.seq, finding.segment, finding.line, finding.problem);
        println!("{records} records before it are as they were written.");
        return;
    }
    println!(
        "The chain is whole: {records} records ({first_seq} to {last_seq}) in {segments} segments, {heads} signed heads."
    );
    for (kind, count) in &result.kinds {
        println!("  {kind:<20} {count}");
    }
    match result.anchored_seq {
        Some(seq) => println!("A kept head vouches for every record up to {seq}."),
        None => println!("No kept head: a log that was cut off would not show. Keep heads elsewhere and pass --head."),
    }
    if !pinned {
        println!("Signed by {}, believed from the log itself; pass --public-key to be sure.", result.keys.join(", "));
    }
    if result.unsigned > 0 {
        println!("The last {} records are not signed yet.", result.unsigned);
    }
    if result.torn_bytes > 0 {
        println!("{} bytes of an unacknowledged write at the end; the next start cuts them off.", result.torn_bytes);
    }
}

fn read_head(path: &PathBuf) -> Result<SignedHead, Failure> {
    let usage = |problem: String| (exit::USAGE, format!("cannot use the head `{}`: {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| usage(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|_| usage("it is not a signed head of an audit log".to_owned()))
}

fn read_key(path: &PathBuf) -> Result<VerifyingKey, Failure> {
    let usage = |problem: String| (exit::USAGE, format!("cannot use the key `{}`: {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| usage(error.to_string()))?;
    VerifyingKey::from_pem(&bytes).map_err(|error| usage(error.to_string()))
}
