//! `fhirwall policy`: validate, test, explain, prove, mutate, diff and replay policies, without a running gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Parser, Subcommand, ValueEnum};
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::explain::{explain, explain_record};
use fhirwall_policy::question::{Question, Ruling};
use fhirwall_policy::record::DecisionRecord;
use fhirwall_policy::tables::Tables;

use super::exit;
use crate::prove;

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
    /// A decision record, or a question (`caller` with `target` or `record`), as JSON; `-` is standard input.
    file: PathBuf,
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
struct Replay {
    #[command(flatten)]
    set: Set,
    /// Decision records, one JSON object a line.
    records: PathBuf,
}

/// Runs the verb: 0 all well, 1 findings, 2 what was given cannot be used, 3 no solver.
pub fn run(args: Args) -> ExitCode {
    let ended = match args.verb {
        Verb::Validate(set) => validate(&set),
        Verb::Test(test) => tables(&test),
        Verb::Explain(args) => explained(&args),
        Verb::Prove(args) => proved(&args),
        Verb::Mutate(args) => mutated(&args),
        Verb::Diff(args) => diff(&args),
        Verb::Replay(args) => replay(&args),
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
    fn files(&self) -> Result<Vec<(String, String)>, String> {
        match (&self.policies, &self.config) {
            (Some(dir), _) => read_dir(dir, "cedar"),
            (None, Some(config)) => {
                let loaded = crate::config::Config::load(config, &crate::config::environment)
                    .map_err(|problems| problems.to_string())?;
                let cedar = loaded.policies.iter().filter(|file| file.name.ends_with(".cedar"));
                Ok(cedar.map(|file| (file.name.clone(), file.text.clone())).collect())
            }
            (None, None) => Ok(shipped_files()),
        }
    }

    fn load(&self) -> Result<PolicySet, String> {
        load(&self.files()?)
    }
}

fn shipped_files() -> Vec<(String, String)> {
    PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn load(files: &[(String, String)]) -> Result<PolicySet, String> {
    PolicySet::load(files).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
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
    let files = args.files()?;
    match PolicySet::load(&files) {
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

fn tables(args: &Test) -> Ended {
    let set = args.set.load()?;
    let tables = read_tables(args.tables.as_deref())?;
    let (failures, uncovered) = (tables.failures(&set), tables.uncovered(&set));
    match args.set.output {
        Output::Json => {
            println!("{}", serde_json::json!({ "rows": tables.len(), "failures": failures, "uncovered": uncovered }))
        }
        Output::Text => {
            failures.iter().for_each(|failure| println!("FAIL {failure}"));
            uncovered.iter().for_each(|part| println!("NOT EXERCISED {part}"));
            println!("{} rows, {} failures, {} parts not exercised", tables.len(), failures.len(), uncovered.len());
        }
    }
    Ok(Found::if_any(!failures.is_empty() || !uncovered.is_empty()))
}

fn explained(args: &Explain) -> Ended {
    let set = args.set.load()?;
    let text = read(&args.file)?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("`{}` is no JSON: {error}", args.file.display()))?;
    if value.get("version").is_some() {
        let record = DecisionRecord::from_json(&text)?;
        println!("{}", explain_record(&set, &record));
        return Ok(Found::Nothing);
    }
    let question: Question = serde_json::from_value(value)
        .map_err(|error| format!("`{}` is neither a decision record nor a question: {error}", args.file.display()))?;
    let explanation = explain(&set, &question);
    match args.set.output {
        Output::Text => println!("{explanation}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&explanation).map_err(|error| error.to_string())?),
    }
    Ok(Found::Nothing)
}

fn invariants(dir: Option<&Path>) -> Result<Vec<(String, String)>, String> {
    let mut files: Vec<(String, String)> =
        prove::SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if let Some(dir) = dir {
        files.extend(read_dir(dir, "cedar")?);
    }
    Ok(files)
}

fn proved(args: &Prove) -> Ended {
    let set = args.set.load()?;
    let invariants = invariants(args.invariants.as_deref())?;
    let started = std::time::Instant::now();
    let report = match prove::prove(&set, &invariants) {
        Err(prove::Failure::NoSolver(remedy)) => {
            eprintln!("{remedy}");
            return Ok(Found::NoSolver);
        }
        Err(prove::Failure::Unusable(problem)) => return Err(problem),
        Ok(report) => report,
    };
    if let (true, Some(dir)) = (args.save, &args.set.policies) {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        let path = dir.join(prove::REPORT);
        std::fs::write(&path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    match args.set.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?),
        Output::Text => {
            for proof in &report.proofs {
                println!("{proof}");
            }
            let failed = report.proofs.iter().filter(|proof| !proof.holds()).count();
            println!(
                "{} proved, {failed} failed, in {:.1} s; policy set {}",
                report.proofs.len() - failed,
                started.elapsed().as_secs_f32(),
                set.epoch()
            );
        }
    }
    Ok(Found::if_any(report.proofs.iter().any(|proof| !proof.holds())))
}

fn mutated(args: &Mutate) -> Ended {
    let set = args.test.set.load()?;
    let tables = read_tables(args.test.tables.as_deref())?;
    let mutants = fhirwall_policy::mutate::mutants(&set);
    let (mut by_load, mut by_table, mut by_proof, mut survivors) = (0_usize, 0_usize, 0_usize, Vec::new());
    let invariants = invariants(None)?;
    for mutant in &mutants {
        let Ok(changed) = PolicySet::load(&[("mutant.cedar".to_owned(), mutant.text.clone())]) else {
            by_load += 1;
            continue;
        };
        if tables.catches(&changed).is_some() {
            by_table += 1;
            continue;
        }
        let proof = if args.without_proof { Ok(true) } else { prove::holds(&changed, &invariants) };
        match proof {
            Ok(true) => survivors.push(format!("policy `{}`: {}", mutant.policy, mutant.change)),
            Ok(false) => by_proof += 1,
            Err(prove::Failure::NoSolver(remedy)) => {
                eprintln!("{remedy}");
                return Ok(Found::NoSolver);
            }
            Err(prove::Failure::Unusable(problem)) => return Err(problem),
        }
    }
    match args.test.set.output {
        Output::Json => println!(
            "{}",
            serde_json::json!({
                "mutants": mutants.len(), "refused_at_load": by_load, "caught_by_tables": by_table,
                "caught_by_proof": by_proof, "survivors": survivors,
            })
        ),
        Output::Text => {
            survivors.iter().for_each(|survivor| println!("SURVIVES {survivor}"));
            println!(
                "{} mutants: {by_load} refused at load, {by_table} caught by tables, {by_proof} by proof, {} survive",
                mutants.len(),
                survivors.len()
            );
        }
    }
    Ok(Found::if_any(!survivors.is_empty()))
}

fn diff(args: &Diff) -> Ended {
    let (old, new) = (load(&read_dir(&args.old, "cedar")?)?, load(&read_dir(&args.new, "cedar")?)?);
    let tables = read_tables(args.tables.as_deref())?;
    let mut differing = Vec::new();
    for question in tables.questions() {
        let (was, is) = (old.rule(question), new.rule(question));
        if was.decision != is.decision {
            differing.push((question.clone(), was, is));
        }
    }
    report_differences(args.output, tables.len(), &differing)
}

fn replay(args: &Replay) -> Ended {
    let set = args.set.load()?;
    let mut differing = Vec::new();
    let mut replayed = 0_usize;
    for (at, line) in read(&args.records)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let record = DecisionRecord::from_json(line).map_err(|error| format!("line {}: {error}", at + 1))?;
        for (question, said) in record.questions() {
            replayed += 1;
            let ruling = set.rule(&question);
            if said.differs(&ruling) {
                differing.push((question, said.as_ruling(), ruling));
            }
        }
    }
    report_differences(args.set.output, replayed, &differing)
}

fn report_differences(output: Output, asked: usize, differing: &[(Question, Ruling, Ruling)]) -> Ended {
    match output {
        Output::Json => {
            let rows: Vec<_> = differing
                .iter()
                .map(|(question, was, is)| serde_json::json!({ "question": question, "was": was, "is": is }))
                .collect();
            println!("{}", serde_json::json!({ "asked": asked, "differing": rows }));
        }
        Output::Text => {
            for (question, was, is) in differing {
                println!("was {was}\n is {is}\n  {}", serde_json::to_string(question).unwrap_or_default());
            }
            println!("{asked} decisions compared, {} differ", differing.len());
        }
    }
    Ok(Found::if_any(!differing.is_empty()))
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
    }
}
