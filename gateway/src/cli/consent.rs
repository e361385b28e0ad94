//! `fhirwall consent`: what a patient's Consents mean for a partner, in words for a privacy officer.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, print, println};
use clap::{Subcommand, ValueEnum};
use fhir_profiles::ids::{LogicalId, ResourceType};
use fhir_profiles::label::{self, Label, LabelKind, LabelSet};
use fhirwall_policy::consent::{
    Because, ConsentBook, ConsentOutcome, ConsentQuestion, ConsentScope, Explanation, Finding, Part2Role, Said, Step,
    explain, scopes,
};
use fhirwall_policy::partner::Recipient;
use fhirwall_policy::purpose::PurposeOfUse;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, time};
use time::{Date, OffsetDateTime};

use crate::cli::exit;
use crate::clock::{Clock, SystemClock};
use crate::config::{environment, load_partner};
use crate::consents::GivenConsents;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// May this recipient get these records for this purpose, by this patient's Consents? Exits 1 if not.
    Eval(Eval),
}

#[derive(clap::Args, Debug)]
struct Eval {
    /// The Consents: a Bundle, an array, one Consent, or NDJSON. Those of other patients are left out.
    #[arg(long)]
    consents: PathBuf,
    /// The partner's file; its `consent_recipients` are the recipient.
    #[arg(long, required_unless_present = "recipient")]
    partner: Option<PathBuf>,
    /// A name of the recipient, `Organization/x` or `system|value`. May be repeated, and beside --partner.
    #[arg(long)]
    recipient: Vec<String>,
    /// The patient's id.
    #[arg(long)]
    patient: String,
    /// The purpose of use, a code of v3-ActReason such as TREAT.
    #[arg(long)]
    purpose: String,
    /// The labels of the record, such as 42CFRPart2,SUD,R. Without it, an unlabelled record.
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    /// The type of the record.
    #[arg(long = "type", default_value = "Condition")]
    kind: String,
    /// When: a date (noon, UTC) or an RFC 3339 time. Without it, now.
    #[arg(long)]
    at: Option<String>,
    /// A name of who holds the records, for Consents that name a custodian. May be repeated.
    #[arg(long)]
    custodian: Vec<String>,
    /// In which role the holder has Part 2 records.
    #[arg(long, value_enum, default_value = "program")]
    role: Role,
    /// The base URL of the server that the Consents come from, if they use absolute references.
    #[arg(long)]
    base_url: Vec<String>,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Program,
    Recipient,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    let Verb::Eval(args) = args.verb;
    match Asked::read(&args) {
        Ok(asked) => asked.answer(args.output),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(exit::USAGE)
        }
    }
}

struct Asked {
    book: ConsentBook,
    given: (usize, usize),
    patient: LogicalId,
    recipients: Vec<Recipient>,
    custodians: Vec<Recipient>,
    purpose: PurposeOfUse,
    labels: LabelSet,
    kind: ResourceType,
    now: OffsetDateTime,
    role: Part2Role,
}

impl Asked {
    fn read(args: &Eval) -> Result<Self, String> {
        let patient: LogicalId =
            args.patient.parse().map_err(|_| "--patient takes a FHIR id, without `Patient/`".to_owned())?;
        let purpose = PurposeOfUse::from_code(&args.purpose).ok_or_else(|| unknown_purpose(&args.purpose))?;
        let kind = args.kind.parse().map_err(|_| format!("--type: `{}` is not an R4 resource type", args.kind))?;
        let mut recipients = args.recipient.iter().map(|name| party(name)).collect::<Result<Vec<_>, _>>()?;
        if let Some(file) = &args.partner {
            recipients
                .extend(load_partner(file, &environment).map_err(|problems| problems.to_string())?.consent_recipients);
        }
        let text = read_file(&args.consents)?;
        let given = GivenConsents::read(&text, &args.base_url)
            .map_err(|error| format!("cannot read `{}`: {error}", args.consents.display()))?;
        Ok(Self {
            book: given.book(&patient),
            given: given.count(),
            patient,
            recipients,
            custodians: args.custodian.iter().map(|name| party(name)).collect::<Result<_, _>>()?,
            purpose,
            labels: args.labels.iter().map(|code| label_of(code)).collect::<Result<_, _>>()?,
            kind,
            now: args.at.as_deref().map_or_else(|| Ok(SystemClock.now()), moment)?,
            role: match args.role {
                Role::Program => Part2Role::Program,
                Role::Recipient => Part2Role::Recipient,
            },
        })
    }

    fn answer(&self, output: Output) -> ExitCode {
        let mut question =
            ConsentQuestion::new(&self.patient, &self.recipients, self.purpose, self.labels, self.kind, self.now);
        question.custodians = &self.custodians;
        question.part2.role = self.role;
        let (explanation, scopes) = (explain(&self.book, &question), scopes(&self.book, &question));
        match output {
            Output::Text => print!("{}", self.in_words(&explanation, &scopes)),
            Output::Json => println!("{:#}", self.as_json(&explanation, &scopes)),
        }
        match explanation.outcome {
            ConsentOutcome::Permit { .. } => ExitCode::SUCCESS,
            ConsentOutcome::Deny { .. } | ConsentOutcome::Silent => ExitCode::from(exit::FINDINGS),
        }
    }

    fn in_words(&self, explanation: &Explanation, scopes: &[ConsentScope]) -> String {
        let labels: Vec<&str> = self.labels.iter().map(Label::code).collect();
        let labels = if labels.is_empty() { "no label".to_owned() } else { format!("labels {}", labels.join(" ")) };
        let day = self.now.date();
        let mut text = format!("{} on {day} for {}, {labels}\n", self.kind, self.purpose.code());
        text.push_str(sentence(&explanation.outcome));
        text.push('\n');
        for finding in &explanation.findings {
            text.push('\n');
            write_finding(&mut text, finding);
        }
        for scope in scopes {
            // Writing to a String does not fail.
            let _ = write!(text, "\nWhat goes with the disclosure (42 CFR 2.32(b)):\n  {scope}\n");
        }
        let left_out = self.given.0.saturating_sub(self.book.len());
        if left_out > 0 {
            let _ = write!(text, "\nConsents of other patients in the file, which say nothing here: {left_out}.\n");
        }
        text
    }

    fn as_json(&self, explanation: &Explanation, scopes: &[ConsentScope]) -> Value {
        let (outcome, consents) = match &explanation.outcome {
            ConsentOutcome::Permit { consents } => ("permit", consents.as_slice()),
            ConsentOutcome::Deny { consents } => ("deny", consents.as_slice()),
            ConsentOutcome::Silent => ("silent", &[][..]),
        };
        json!({
            "outcome": outcome,
            "consents": consents.iter().map(LogicalId::as_str).collect::<Vec<_>>(),
            "findings": explanation.findings.iter().map(finding_json).collect::<Vec<_>>(),
            "scopes": scopes.iter().map(|scope| json!({
                "consent": scope.consent.as_str(),
                "recipients": scope.recipients,
                "purposes": scope.purposes,
                "labels": scope.labels,
                "until": scope.until,
                "single_tpo_consent": scope.tpo,
                "text": scope.to_string(),
            })).collect::<Vec<_>>(),
            "other_patients": self.given.0.saturating_sub(self.book.len()),
        })
    }
}

const fn sentence(outcome: &ConsentOutcome) -> &'static str {
    match outcome {
        ConsentOutcome::Permit { .. } => "PERMITTED: a consent permits it, and none denies it.",
        ConsentOutcome::Deny { .. } => "DENIED: a consent denies it. A denial overrides every permit.",
        ConsentOutcome::Silent => {
            "SILENT: no consent speaks to it. What needs the patient's consent is withheld; policy decides the rest."
        }
    }
}

fn write_finding(text: &mut String, finding: &Finding) {
    let name = finding.consent.as_ref().map_or("a Consent without an id", LogicalId::as_str);
    let says = match finding.said {
        Said::Permits => "permits",
        Said::Denies => "denies",
        Said::Nothing => "says nothing",
    };
    let _ = writeln!(text, "{name} {says}");
    for reason in reasons(finding) {
        let _ = writeln!(text, "  {reason}");
    }
}

fn reasons(finding: &Finding) -> Vec<String> {
    match &finding.because {
        Because::Unreadable(why) => vec![format!("it cannot be understood, so it denies: {why}")],
        Because::NotActive(status) => vec![format!("it is {}; only active consents speak", status.code())],
        Because::NotAboutDisclosure => vec!["its scope is not about disclosure".to_owned()],
        Because::Rules(steps) => steps.iter().map(Step::to_string).collect(),
    }
}

fn finding_json(finding: &Finding) -> Value {
    let says = match finding.said {
        Said::Permits => "permit",
        Said::Denies => "deny",
        Said::Nothing => "nothing",
    };
    json!({"consent": finding.consent.as_ref().map(LogicalId::as_str), "says": says, "because": reasons(finding)})
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

fn party(text: &str) -> Result<Recipient, String> {
    match text.split_once('|') {
        Some((system, value)) if !system.is_empty() && !value.is_empty() => {
            Ok(Recipient::Identifier { system: system.to_owned(), value: value.to_owned() })
        }
        None if text.contains('/') => Ok(Recipient::Reference(text.to_owned())),
        Some(_) | None => Err(format!("`{text}` names nobody: write `Organization/x` or `system|value`")),
    }
}

/// A label by its code; a confidentiality level by its letter.
fn label_of(code: &str) -> Result<Label, String> {
    let code = code.trim();
    Label::by_code(code, &[LabelKind::Confidentiality])
        .or_else(|| Label::from_coding(label::ACT_CODE, code))
        .ok_or_else(|| format!("--labels: `{code}` is no label known here; see v3-ActCode and v3-Confidentiality"))
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let day = format_description!("[year]-[month]-[day]");
    Date::parse(text, day)
        .map(|date| date.with_time(time!(12:00)).assume_utc())
        .or_else(|_| OffsetDateTime::parse(text, &Rfc3339))
        .map_err(|_| format!("--at: `{text}` is neither a date (2026-03-01) nor an RFC 3339 time"))
}

fn unknown_purpose(code: &str) -> String {
    let known: Vec<&str> = PurposeOfUse::ALL.iter().map(|purpose| purpose.code()).collect();
    format!("--purpose: `{code}` is not one of {}", known.join(", "))
}
