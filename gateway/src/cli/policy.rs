//! `fhirwall policy`: validate, test, explain, prove, mutate, diff and replay policies, without a running gateway.

mod decisions;
mod proofs;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Parser, Subcommand, ValueEnum};
use fhirwall_policy::cedar::{Ceiling, PolicySet};
use fhirwall_policy::tables::Tables;

use super::exit;

/// The texts of a set by their files' names, and the partners that stand under its templates.
type SetTexts = (Vec<(String, String)>, Vec<Ceiling>);

/// Policies: are they valid, right, explained, proved?
#[derive(Parser, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Strict validation against the schema; every problem with its file and policy.
    Validate(Set),
    /// Decision tables with reasons, and what of the policies they leave unexercised.
    Test(Test),
    /// Why a decision came out as it did, from a decision record or a question file.
    Explain(Explain),
    /// Proof of the invariants over all requests, with a counterexample where one fails. Needs cvc5.
    Prove(Prove),
    /// Every dropped condition, flipped operator and widened scope must be caught by a table row or a proof.
    Mutate(Mutate),
    /// Decisions that differ between two policy sets.
    Diff(Diff),
    /// Recorded decisions, put to another policy set.
    Replay(Replay),
    /// Write the set that ships with the gateway into a directory, for a site to start from.
    Export(Export),
    /// The schema that policies are validated against.
    Schema,
}

#[derive(clap::Args, Debug)]
struct Set {
    /// A directory of *.cedar files; without it, the set that ships with the gateway.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    policies: Option<PathBuf>,
    /// A gateway configuration, for its `policies.dir`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(clap::Args, Debug)]
struct Test {
    #[command(flatten)]
    set: Set,
    /// A directory of decision tables (*.json); without it, those that ship with the gateway.
    #[arg(long, value_name = "DIR")]
    tables: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct Explain {
    #[command(flatten)]
    set: Set,
    #[command(flatten)]
    log: Log,
    /// With --audit or --config: a decision's id, as a refused client was told it. Else a decision record, or a question
    /// (`caller` with `target` or `record`), as JSON; `-` is standard input.
    #[arg(value_name = "DECISION")]
    what: PathBuf,
}

/// An audit log with the decisions that a gateway took.
#[derive(clap::Args, Debug)]
struct Log {
    /// The audit log's directory; without it, that of --config.
    #[arg(long, value_name = "DIR")]
    audit: Option<PathBuf>,
    /// The key that the log is sealed with; without it, that of --config.
    #[arg(long, value_name = "FILE")]
    encryption_key: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct Prove {
    #[command(flatten)]
    set: Set,
    /// Invariants of your own (*.cedar), beside those that ship with the gateway.
    #[arg(long, value_name = "DIR")]
    invariants: Option<PathBuf>,
    /// Leave the report beside the policies, as `proof.json`: `run` refuses a set that carries a failed proof.
    #[arg(long, requires = "policies")]
    save: bool,
}

#[derive(clap::Args, Debug)]
struct Mutate {
    #[command(flatten)]
    test: Test,
    /// Do not try to prove what the tables do not catch.
    #[arg(long)]
    without_proof: bool,
}

#[derive(clap::Args, Debug)]
struct Diff {
    /// The set now: a directory of *.cedar files.
    old: PathBuf,
    /// The set to be.
    new: PathBuf,
    #[arg(long, value_name = "DIR")]
    tables: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(clap::Args, Debug)]
struct Export {
    /// A directory without policies.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(clap::Args, Debug)]
struct Replay {
    #[command(flatten)]
    set: Set,
    #[command(flatten)]
    log: Log,
    /// Decision records, one JSON object a line; or with --audit or --config none, and those of the log are taken.
    records: Option<PathBuf>,
}

/// Runs the verb: 0 all well, 1 findings, 2 what was given cannot be used, 3 no solver.
pub fn run(args: Args) -> ExitCode {
    let ended = match args.verb {
        Verb::Validate(set) => validate(&set),
        Verb::Test(test) => tables::test(&test),
        Verb::Explain(args) => decisions::explain(&args),
        Verb::Prove(args) => proofs::prove(&args),
        Verb::Mutate(args) => proofs::mutate(&args),
        Verb::Diff(args) => tables::diff(&args),
        Verb::Replay(args) => decisions::replay(&args),
        Verb::Export(args) => export(&args),
        Verb::Schema => {
            println!("{}", fhirwall_policy::cedar::schema_text());
            Ok(Found::Nothing)
        }
    };
    match ended {
        Ok(Found::Nothing) => ExitCode::SUCCESS,
        Ok(Found::Something) => ExitCode::from(exit::FINDINGS),
        Ok(Found::NoSolver) => ExitCode::from(exit::OUT_OF_REACH),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Writes the shipped set where no policy is yet: a site's own changes are not written over.
fn export(args: &Export) -> Ended {
    let problem = |error: std::io::Error| format!("`{}`: {error}", args.out.display());
    std::fs::create_dir_all(&args.out).map_err(problem)?;
    let mut there = std::fs::read_dir(&args.out).map_err(problem)?.filter_map(Result::ok);
    if there.any(|entry| entry.path().extension().is_some_and(|own| own == "cedar")) {
        return Err(format!("`{}` holds policies already; nothing was changed", args.out.display()));
    }
    for (name, text) in PolicySet::shipped_files() {
        std::fs::write(args.out.join(name), text).map_err(problem)?;
        println!("wrote {}", args.out.join(name).display());
    }
    Ok(Found::Nothing)
}

enum Found {
    Nothing,
    Something,
    NoSolver,
}

impl Found {
    const fn if_any(any: bool) -> Self {
        if any { Self::Something } else { Self::Nothing }
    }
}

type Ended = Result<Found, String>;

impl Set {
    fn configuration(&self) -> Result<Option<crate::config::Config>, String> {
        let load = |path: &PathBuf| crate::config::Config::load(path, &crate::config::environment);
        self.config.as_ref().map(load).transpose().map_err(|problems| problems.to_string())
    }

    /// The set's texts, and the partners that stand under its templates, where a configuration says.
    fn files(&self) -> Result<SetTexts, String> {
        match (&self.policies, self.configuration()?) {
            (Some(dir), _) => Ok((read_dir(dir, "cedar")?, Vec::new())),
            (None, Some(config)) => Ok((config.policy_files(), config.ceilings())),
            (None, None) => Ok((shipped_files(), Vec::new())),
        }
    }

    fn load(&self) -> Result<PolicySet, String> {
        let (files, ceilings) = self.files()?;
        PolicySet::load_with(&files, &ceilings).map_err(|problems| lines(&problems))
    }
}

fn shipped_files() -> Vec<(String, String)> {
    PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn load(files: &[(String, String)]) -> Result<PolicySet, String> {
    PolicySet::load(files).map_err(|problems| lines(&problems))
}

fn lines(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The files of a directory with this extension, by name.
fn read_dir(dir: &Path, extension: &str) -> Result<Vec<(String, String)>, String> {
    let unreadable = |error: &dyn core::fmt::Display| format!("cannot read `{}`: {error}", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(&error))? {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        if path.extension().is_some_and(|own| own == extension) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, read(&path)?));
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("`{}` holds no *.{extension} file", dir.display()));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    text.map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

fn validate(args: &Set) -> Ended {
    let (files, ceilings) = args.files()?;
    match PolicySet::load_with(&files, &ceilings) {
        Ok(set) => {
            match args.output {
                Output::Text => println!(
                    "{} policies in {} files are valid; epoch {}",
                    set.policies().count(),
                    files.len(),
                    set.epoch()
                ),
                Output::Json => println!(
                    "{}",
                    serde_json::json!({ "valid": true, "policies": set.policies().count(), "epoch": set.epoch() })
                ),
            }
            Ok(Found::Nothing)
        }
        Err(problems) => {
            match args.output {
                Output::Text => problems.iter().for_each(|problem| println!("{problem}")),
                Output::Json => {
                    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    println!("{}", serde_json::json!({ "valid": false, "problems": problems }));
                }
            }
            Ok(Found::Something)
        }
    }
}

fn read_tables(dir: Option<&Path>) -> Result<Tables, String> {
    let files = match dir {
        Some(dir) => read_dir(dir, "json")?,
        None => fhirwall_policy::tables::SHIPPED
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
    };
    Tables::read(&files).map_err(|problems| problems.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command of the guide, as it is typed.
    #[test]
    fn the_commands_of_the_guide_are_commands() {
        let guide = include_str!("../../../docs/policy-guide.md");
        let commands: Vec<&str> = guide.lines().filter(|line| line.starts_with("fhirwall policy ")).collect();
        assert!(commands.len() >= 9, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace().skip(1);
            if let Err(error) = Args::try_parse_from(words) {
                panic!("{command}: {error}");
            }
        }
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn shipped_with(extra: &str) -> tempfile::TempDir {
        let mut files: Vec<(&str, &str)> = PolicySet::shipped_files().to_vec();
        files.push(("own.cedar", extra));
        directory(&files)
    }

    #[track_caller]
    fn ends(words: &[&str], code: u8) {
        let args = Args::try_parse_from(std::iter::once("policy").chain(words.iter().copied())).unwrap();
        assert_eq!(format!("{:?}", run(args)), format!("{:?}", ExitCode::from(code)), "{words:?}");
    }

    const OWN: &str = r#"@id("own") @cites("x") @says("x") @reason("label-withheld")
        forbid (principal, action == Action::"disclose", resource) when { resource.labels.contains(Label::"HIV") };"#;

    #[test]
    fn verbs_end_with_the_code_of_what_they_found() {
        let (good, own) = (shipped_with(""), shipped_with(OWN));
        let bad = directory(&[("bad.cedar", "permit (principal, action, resource);")]);
        let path = |dir: &tempfile::TempDir| dir.path().to_string_lossy().into_owned();
        ends(&["validate"], 0);
        ends(&["validate", "--policies", &path(&good)], 0);
        ends(&["validate", "--policies", &path(&bad)], 1);
        ends(&["validate", "--policies", "/nowhere"], 2);
        ends(&["test", "--policies", &path(&own)], 1);
        ends(&["diff", &path(&good), &path(&good)], 0);
        ends(&["diff", &path(&good), &path(&own)], 1);
        let files = directory(&[
            ("question.json", r#"{"caller":{"basis":"consent"},"record":{"kind":"Condition","labels":["HIV"]}}"#),
            ("nonsense.json", r#"{"caller":{}}"#),
        ]);
        ends(&["explain", &files.path().join("question.json").to_string_lossy()], 0);
        ends(&["explain", &files.path().join("nonsense.json").to_string_lossy()], 2);
        // A log without the decision, and none at all.
        let empty = tempfile::tempdir().unwrap();
        ends(&["explain", "--audit", &path(&empty), "0192f0c1-7b1e-7000-8000-000000000000"], 1);
        ends(&["explain", "--audit", "/nowhere", "0192f0c1-7b1e-7000-8000-000000000000"], 2);
        ends(&["replay"], 2);
    }
}
