//! `fhirwall audit`: is the log whole, and what does it say?

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::{Subcommand, ValueEnum};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::event::{self, Site};
use crate::audit::read::{Entry, Filter, entries};
use crate::audit::report::{self, Incident};
use crate::audit::verify::{Anchors, Verification, verify_chains};
use crate::audit::{AuditRecord, Kind, SignedHead, VerifyingKey, ocsf};
use crate::cli::exit;
use crate::cli::sealed::encryption_key;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Check every record of a log: form, hash, order, signatures, and against a head that was kept elsewhere.
    Verify(Verify),
    /// Search the log.
    Query(Search),
    /// Write the log as FHIR AuditEvents, as OCSF, or as it is: one JSON object a line.
    Export(Export),
    /// What behaviour analytics would have said of the recorded traffic, before its answers are switched on.
    Behaviour(Behaviour),
    /// An accounting of disclosures of one patient (45 CFR 164.528, 42 CFR 2.25), or of an incident (164.404, 2.16(b)).
    Report(Report),
}

#[derive(clap::Args, Debug)]
struct Search {
    /// The log's directory.
    #[arg(long)]
    dir: PathBuf,
    /// The key that the log is sealed with.
    #[arg(long)]
    encryption_key: Option<PathBuf>,
    /// A patient's logical id.
    #[arg(long)]
    patient: Option<String>,
    /// A partner's client id.
    #[arg(long)]
    partner: Option<String>,
    /// A user, as the issuer names it (`sub`).
    #[arg(long)]
    user: Option<String>,
    /// A decision's id.
    #[arg(long)]
    decision: Option<String>,
    /// Kinds of record, such as `disclosure` or `refusal`.
    #[arg(long)]
    kind: Vec<String>,
    /// From this time on (RFC 3339).
    #[arg(long)]
    from: Option<String>,
    /// Before this time (RFC 3339).
    #[arg(long)]
    to: Option<String>,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(clap::Args, Debug)]
struct Export {
    #[command(flatten)]
    search: Search,
    #[arg(long, value_enum, default_value = "fhir")]
    format: Format,
    /// `source.site` of the AuditEvents.
    #[arg(long, default_value = "fhirwall")]
    site: String,
    /// The FHIR base URL that clients see.
    #[arg(long, default_value = "urn:fhirwall")]
    base_url: String,
}

#[derive(clap::Args, Debug)]
struct Report {
    #[command(flatten)]
    search: Search,
    /// Whose records, which, to whom, in which window, for what --partner, --user, --from and --to choose.
    #[arg(long)]
    incident: bool,
}

#[derive(clap::Args, Debug)]
struct Behaviour {
    #[command(flatten)]
    search: Search,
    /// The configuration whose `risk` is tried, and whose partner files say what is usual; without it, the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Fhir,
    Ocsf,
    Ndjson,
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
        Verb::Query(args) => query(&args),
        Verb::Export(args) => export(&args),
        Verb::Behaviour(args) => replayed(&args),
        Verb::Report(args) => run_report(&args),
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
    let chains = verify_chains(&args.dir, &anchors)
        .map_err(|error| (exit::OUT_OF_REACH, format!("cannot read the log in `{}`: {error}", args.dir.display())))?;
    if chains.iter().all(|(_, result)| result.segments == 0 && result.finding.is_none()) {
        return Err((exit::USAGE, format!("there is no audit log in `{}`", args.dir.display())));
    }
    match args.output {
        Output::Json => println!("{:#}", as_json(&chains)),
        Output::Text => {
            for (dir, result) in &chains {
                if chains.len() > 1 {
                    println!("{}:", dir.display());
                }
                print_text(result, pinned);
            }
        }
    }
    let broken = chains.iter().any(|(_, result)| result.finding.is_some());
    Ok(if broken { ExitCode::from(exit::FINDINGS) } else { ExitCode::SUCCESS })
}

/// The first chain, and in `beside` those of processes that took over while another still wrote.
fn as_json(chains: &[(PathBuf, Verification)]) -> serde_json::Value {
    let of = |(dir, result): &(PathBuf, Verification)| {
        let mut value = serde_json::to_value(result).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("dir".to_owned(), dir.display().to_string().into());
        }
        value
    };
    let mut all = chains.iter().map(of);
    let mut first = all.next().unwrap_or_default();
    let beside: Vec<_> = all.collect();
    if let Some(fields) = first.as_object_mut().filter(|_| !beside.is_empty()) {
        fields.insert("beside".to_owned(), beside.into());
    }
    first
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

fn query(args: &Search) -> Result<ExitCode, Failure> {
    for entry in args.entries()? {
        match args.output {
            Output::Json => println!("{}", serde_json::to_string(&entry).unwrap_or_default()),
            Output::Text => print_entry(&entry),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_entry(entry: &Entry) {
    let time = entry.time.format(&Rfc3339).unwrap_or_default();
    let kind = entry.kind.as_str();
    let Some(record) = entry.record() else {
        let body = entry.body.as_ref().map_or_else(|| "(sealed)".to_owned(), ToString::to_string);
        println!("{:>8} {time} {kind} {body}", entry.seq);
        return;
    };
    let withheld: u32 = record.withheld.iter().map(|withheld| withheld.count).sum();
    let AuditRecord { decision, interaction, partner, user, .. } = &record;
    let status = record.status.map_or_else(String::new, |status| format!(" {status}"));
    let why = record.reason.as_ref().map_or_else(String::new, |reason| format!(" {reason}"));
    let shown = format!("patients={} instances={} withheld={withheld}", record.patients.len(), record.instances.len());
    println!("{:>8} {time} {kind}{status}{why} {interaction} {partner} {user} {shown} {decision}", entry.seq);
}

fn export(args: &Export) -> Result<ExitCode, Failure> {
    let site = Site { name: args.site.clone(), base_url: args.base_url.clone() };
    for entry in args.search.entries()? {
        let lines = match args.format {
            Format::Fhir => event::events(&entry, &site),
            Format::Ocsf => vec![ocsf::event(&entry)],
            Format::Ndjson => vec![serde_json::to_value(&entry).unwrap_or_default()],
        };
        for line in lines {
            println!("{line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_report(args: &Report) -> Result<ExitCode, Failure> {
    let entries = args.search.entries()?;
    let json = args.search.output == Output::Json;
    if args.incident {
        let incident = report::incident(&entries);
        if json {
            println!("{}", serde_json::to_string_pretty(&incident).unwrap_or_default());
        } else {
            print_incident(&incident);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(patient) = &args.search.patient else {
        return Err((exit::USAGE, "say --patient ID for an accounting of disclosures, or --incident".to_owned()));
    };
    let accounting = report::accounting(patient, &entries);
    if json {
        println!("{}", serde_json::to_string_pretty(&accounting).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    println!("Disclosures of the records of Patient/{patient}: {}", accounting.disclosures.len());
    for row in &accounting.disclosures {
        let date = row.date.format(&Rfc3339).unwrap_or_default();
        let purpose = row.purpose.as_deref().unwrap_or("no stated purpose");
        let part2 = if row.part2 { ", Part 2 records among them" } else { "" };
        println!("  {date} to {} for {} ({purpose}{part2}) {}", row.recipient, row.user, row.instances.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}

fn replayed(args: &Behaviour) -> Result<ExitCode, Failure> {
    let entries = args.search.entries()?;
    let lines = super::replay::lines(args.config.as_deref(), &entries).map_err(|problem| (exit::USAGE, problem))?;
    let json = args.search.output == Output::Json;
    for line in &lines.told {
        match json {
            true => println!("{}", serde_json::to_string(line).unwrap_or_default()),
            false => println!("{line}"),
        }
    }
    if !json {
        println!("{} exchanges, {} would have been told of", lines.exchanges, lines.told.len());
    }
    Ok(if lines.told.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FINDINGS) })
}

fn print_incident(incident: &Incident) {
    let time = |time: Option<OffsetDateTime>| time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default();
    println!("{} disclosures and {} refusals", incident.disclosures, incident.refusals);
    println!("  from {} to {}", time(incident.first), time(incident.last));
    println!("  apps: {}", incident.partners.iter().cloned().collect::<Vec<_>>().join(", "));
    println!("  users: {}", incident.users.iter().cloned().collect::<Vec<_>>().join(", "));
    println!("  addresses: {}", incident.addresses.iter().cloned().collect::<Vec<_>>().join(", "));
    if incident.unreadable > 0 {
        println!("  {} records are sealed and could not be read: pass --encryption-key", incident.unreadable);
    }
    println!("{} patients affected", incident.patients.len());
    for (patient, affected) in &incident.patients {
        let part2 = if affected.part2 { " (Part 2)" } else { "" };
        let to: Vec<_> = affected.recipients.iter().cloned().collect();
        println!("  Patient/{patient}{part2}: {} disclosures to {}", affected.disclosures, to.join(", "));
    }
}

impl Search {
    fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let kinds = self.kind.iter().map(|name| {
            Kind::from_name(name).ok_or_else(|| (exit::USAGE, format!("there are no records of kind `{name}`")))
        });
        let filter = Filter {
            patient: self.patient.clone(),
            partner: self.partner.clone(),
            user: self.user.clone(),
            decision: self.decision.clone(),
            kinds: kinds.collect::<Result<_, _>>()?,
            from: self.from.as_deref().map(read_time).transpose()?,
            to: self.to.as_deref().map(read_time).transpose()?,
        };
        let key = encryption_key(self.encryption_key.as_deref(), None).map_err(|what| (exit::USAGE, what))?;
        let unreadable =
            |error| (exit::OUT_OF_REACH, format!("cannot read the log in `{}`: {error}", self.dir.display()));
        entries(&self.dir, key.as_ref(), &filter).map_err(unreadable)
    }
}

fn read_time(text: &str) -> Result<OffsetDateTime, Failure> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| (exit::USAGE, format!("`{text}` is no time; write 2026-01-31T00:00:00Z")))
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
