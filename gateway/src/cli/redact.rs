//! `fhirwall redact`: what a partner would see of a Bundle or of NDJSON, offline.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anstream::eprintln;
use fhir_profiles::engine::{
    Document, Judge, Limits, LineWindows, Notice, RedactError, RedactOptions, Removal, ResourceFacts, Style, Verdict,
    grammar, lines, scan,
};
use fhir_profiles::ids::{LogicalId, ResourceType};
use fhir_profiles::interaction::Interaction;
use fhir_profiles::label::LabelSet;
use fhir_profiles::labeller::Labeller;
use fhir_profiles::reference::Reference;
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::decide::{Asked, EndpointFacts, Risk, decide};
use fhirwall_policy::partner::{Partner, Redaction};
use fhirwall_policy::permit::Permit;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::{Authentication, Subject};
use time::OffsetDateTime;

use crate::cli::exit;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, environment};
use crate::consents::GivenConsents;
use crate::decide::{Consents, Judgement, Verdicts, patients_of};
use crate::generation::offline_endpoint;
use crate::redact::referrers_in;
use crate::resolve::date;

/// What a partner would see of a Bundle, a resource or NDJSON on standard input. Nothing is fetched and nothing recorded.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The partner's client id.
    #[arg(long = "as", value_name = "PARTNER")]
    partner: String,
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    /// The endpoint that the records come from; the first one without it.
    #[arg(long)]
    endpoint: Option<String>,
    /// The patients' Consents: a Bundle, an array, one Consent, or NDJSON. Without it, there are none.
    #[arg(long)]
    consents: Option<PathBuf>,
    /// The patient in the launch context, for `patient/` scopes; without it, the first that a document is about.
    #[arg(long)]
    patient: Option<String>,
    /// The purpose of use, a code of v3-ActReason; without it, the partner's only one.
    #[arg(long)]
    purpose: Option<String>,
    /// Show references to records that are not in the input. What they lead to is not known here, so they go without it.
    #[arg(long)]
    show_outside_references: bool,
    /// Take Encounters and episodes of care that are not in the input for unlabelled. Without it they may have been visits
    /// to a program: what happened in one counts as labelled with something that nobody knows.
    #[arg(long)]
    outside_visits_unlabelled: bool,
    /// List every removal with its rule on standard error.
    #[arg(long)]
    explain: bool,
}

/// NDJSON is read in pieces of this size.
const WINDOW: usize = 1 << 20;

/// Runs the verb. Exits 1 when nothing of the input may be seen.
pub fn run(args: Args) -> ExitCode {
    let result = Redactor::new(&args)
        .and_then(|redactor| redactor.stream(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()));
    match result {
        Ok(shown) if shown > 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::FINDINGS),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(exit::USAGE)
        }
    }
}

struct Redactor {
    policies: PolicySet,
    labeller: Labeller,
    endpoint: EndpointFacts,
    public_base: String,
    limits: Limits,
    partner: Arc<Partner>,
    purpose: Option<PurposeOfUse>,
    patient: Option<LogicalId>,
    consents: Option<GivenConsents>,
    now: OffsetDateTime,
    show_outside_references: bool,
    outside_visits_unlabelled: bool,
    explain: bool,
}

impl Redactor {
    fn new(args: &Args) -> Result<Self, String> {
        let config = Config::load(&args.config, &environment).map_err(|problems| problems.to_string())?;
        let policies = PolicySet::load_with(&config.policy_files(), &config.ceilings())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        let registered = config
            .partners
            .get(&args.partner)
            .ok_or_else(|| format!("no partner has the client id `{}`", args.partner))?;
        let mut endpoints = config.gateway.endpoints.iter();
        let endpoint = endpoints
            .find(|endpoint| args.endpoint.as_ref().is_none_or(|name| *name == endpoint.name))
            .ok_or("no endpoint of that name")?;
        let (facts, labeller) = offline_endpoint(endpoint, &config).map_err(|error| error.to_string())?;
        let purpose = args.purpose.as_deref().map(|code| {
            PurposeOfUse::from_code(code).ok_or_else(|| format!("--purpose: `{code}` is not a purpose of use"))
        });
        let patient = args.patient.as_deref().map(str::parse::<LogicalId>);
        let consents = args.consents.as_ref().map(|path| {
            let unread = |error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
            let text = std::fs::read(path).map_err(|error| unread(&error))?;
            GivenConsents::read(&text, &facts.bases).map_err(|error| unread(&error))
        });
        Ok(Self {
            policies,
            labeller,
            public_base: endpoint.base_url.base().to_owned(),
            endpoint: facts,
            limits: Limits { max_bytes: config.gateway.limits.response_bytes.bytes(), ..Limits::default() },
            partner: Arc::new(registered.file.partner()),
            purpose: purpose.transpose()?,
            patient: patient.transpose().map_err(|_| "--patient takes a FHIR id, without `Patient/`")?,
            consents: consents.transpose()?,
            now: SystemClock.now(),
            show_outside_references: args.show_outside_references,
            outside_visits_unlabelled: args.outside_visits_unlabelled,
            explain: args.explain,
        })
    }

    /// One document if the first line is not one by itself, else NDJSON. Answers how many documents were shown.
    fn stream(&self, input: &mut dyn Read, output: &mut dyn Write) -> Result<u64, String> {
        let io = |error: std::io::Error| format!("standard input or output: {error}");
        let mut windows = LineWindows::new();
        let mut buffer = vec![0; WINDOW];
        let mut shown = 0;
        let mut started = false;
        loop {
            let read = input.read(&mut buffer).map_err(io)?;
            let bytes = buffer.get(..read).unwrap_or_default();
            let window = match windows.push(bytes, self.limits.max_bytes) {
                Ok(window) => window,
                Err(error) => return Err(format!("the input was not understood: {error}")),
            };
            if !started {
                let first = lines(&window).find(|line| !line.trim_ascii().is_empty());
                let one_line = first.map(|first| grammar(first, &self.limits).is_ok());
                started = one_line.is_some();
                if one_line == Some(false) {
                    return self.whole([window.as_slice(), &windows.finish()].concat(), input, output);
                }
            }
            for line in lines(&window).filter(|line| !line.trim_ascii().is_empty()) {
                shown += self.document(line, output)?;
            }
            if read == 0 {
                let last = windows.finish();
                if !last.trim_ascii().is_empty() {
                    shown += self.document(&last, output)?;
                }
                return Ok(shown);
            }
        }
    }

    /// A document over several lines.
    fn whole(&self, mut text: Vec<u8>, input: &mut dyn Read, output: &mut dyn Write) -> Result<u64, String> {
        let bound = u64::try_from(self.limits.max_bytes).unwrap_or(u64::MAX);
        let mut rest = input.take(bound);
        rest.read_to_end(&mut text).map_err(|error| format!("standard input: {error}"))?;
        self.document(&text, output)
    }

    fn document(&self, text: &[u8], output: &mut dyn Write) -> Result<u64, String> {
        let mut document = scan(text, &self.limits, &self.labeller, &date(self.now))
            .map_err(|error| format!("the input was not understood: {error}"))?;
        let bases: Vec<&str> = self.endpoint.bases.iter().map(String::as_str).collect();
        self.take_over(&mut document, &bases);
        let Some(permit) = self.permit(&document)? else { return Ok(0) };
        let (consents, known) = (self.consents(&document, &bases), HashMap::new());
        let judgement = Judgement {
            policies: &self.policies,
            permit: &permit,
            bases: &bases,
            consents: &consents,
            known: &known,
            part2_locked: false,
            write: None,
            observing: false,
        };
        let verdicts = judgement.judge(&document);
        let notice = verdicts.by_consent.then(|| Notice {
            statement: Notice::STATEMENT.to_owned(),
            scope: "Disclosed with the patient's consent, to this recipient only.".to_owned(),
        });
        let style = match permit.redaction() {
            Redaction::Marked => Style::Marked,
            Redaction::Silent => Style::Silent,
        };
        let options = RedactOptions {
            notice: notice.as_ref(),
            public_base: Some(&self.public_base),
            ..RedactOptions::new(style)
        };
        let offline = Offline { verdicts: &verdicts, show_outside_references: self.show_outside_references };
        match document.redact(&offline, &options) {
            Ok(redacted) => {
                self.tell(&verdicts, &redacted.removals);
                output
                    .write_all(&redacted.body)
                    .and_then(|()| output.write_all(b"\n"))
                    .map_err(|error| format!("standard output: {error}"))?;
                Ok(1)
            }
            Err(RedactError::RootWithheld { removals }) => {
                self.tell(&verdicts, &removals);
                Ok(0)
            }
        }
    }

    /// Labels from what is not in the input are unknown here; a Binary is what a record of the input says that refers to it.
    fn take_over(&self, document: &mut Document<'_>, bases: &[&str]) {
        let mut owned = HashMap::new();
        for (at, binary) in document.binaries() {
            for owner in referrers_in(document, at, &binary, bases) {
                document.belongs_to(at, &owner);
                let labels: &mut LabelSet = owned.entry(binary.clone()).or_default();
                *labels = labels.union(owner.labels);
            }
        }
        document.take_over(&|instance| match (owned.get(instance), instance.kind) {
            (Some(labels), _) => Some(*labels),
            (None, ResourceType::BINARY) => None,
            (None, _) => self.outside_visits_unlabelled.then_some(LabelSet::EMPTY),
        });
    }

    /// The permit with which this partner would have been given the document: to read the first of its records that the
    /// partner may read at all.
    fn permit(&self, document: &Document<'_>) -> Result<Option<Permit>, String> {
        let bases: Vec<&str> = self.endpoint.bases.iter().map(String::as_str).collect();
        let first = document.resources().iter().flat_map(|facts| patients_of(facts, &bases)).next();
        // Scopes count in their own context only: a patient's, a practitioner's, or no user's at all.
        let practitioner = Reference::parse("Practitioner/offline");
        let subjects = [
            self.subject(self.patient.as_ref().or(first), None),
            self.subject(None, Some(practitioner)),
            self.subject(None, None),
        ];
        let mut kinds: Vec<ResourceType> = document.resources().iter().map(|facts| facts.kind).collect();
        kinds.sort();
        kinds.dedup();
        let mut refused = String::from("nothing in the input is a record");
        let id: LogicalId = "any".parse().map_err(|_| "no id")?;
        let records = kinds.into_iter().filter(|kind| *kind != ResourceType::BUNDLE);
        for (kind, subject) in records.flat_map(|kind| subjects.iter().map(move |subject| (kind, subject))) {
            // A patient's own scopes reach that Patient and no other.
            let own = subject.patient.as_ref().filter(|_| kind == ResourceType::PATIENT);
            let id = own.unwrap_or(&id).clone();
            let interaction = Interaction::Read { kind, id, presentation: Default::default() };
            let asked =
                Asked { subject, interaction: &interaction, endpoint: &self.endpoint, risk: Risk::Low, now: self.now };
            match decide(&self.policies, &asked) {
                Ok(permit) => return Ok(Some(permit)),
                Err(denial) => refused = format!("{kind}: {}", denial.reason.code()),
            }
        }
        if self.explain {
            eprintln!("withheld as a whole: {refused}");
        }
        Ok(None)
    }

    fn subject(&self, patient: Option<&LogicalId>, fhir_user: Option<Reference>) -> Subject {
        let sole = match self.partner.purposes_of_use.as_slice() {
            [purpose] => Some(*purpose),
            _ => None,
        };
        Subject {
            issuer: "offline".into(),
            sub: Arc::clone(&self.partner.client_id),
            fhir_user,
            patient: patient.cloned(),
            scopes: self.partner.scopes.to_vec().into(),
            purpose: self.purpose.or(sole),
            authentication: Authentication { mtls: true, sender_constrained: true, ..Authentication::default() },
            token_id: "offline".into(),
            expires: self.now + time::Duration::hours(1),
            emergency: None,
            organization: None,
            partner: Arc::clone(&self.partner),
        }
    }

    fn consents(&self, document: &Document<'_>, bases: &[&str]) -> Consents {
        let Some(given) = &self.consents else { return Consents::new() };
        let patients = document.resources().iter().flat_map(|facts| patients_of(facts, bases));
        patients.map(|id| (id.clone(), Arc::new(given.book(id)))).collect()
    }

    fn tell(&self, verdicts: &Verdicts, removals: &[Removal]) {
        if !self.explain {
            return;
        }
        for removal in removals {
            let rule = removal.rule.and_then(|rule| verdicts.rule(rule));
            let why = rule.map_or("goes along, or leads outside the input", |rule| rule.reason.code());
            let policies = rule.map(|rule| rule.policies.join(", ")).unwrap_or_default();
            let labels: Vec<&str> = removal.labels.iter().map(fhir_profiles::label::Label::code).collect();
            let source = removal.source.map(|source| format!("{source:?}")).unwrap_or_default();
            eprintln!("{}\t{:?}\t{why}\t{policies}\t{}\t{source}", removal.path, removal.level, labels.join(","));
        }
    }
}

/// The gateway's verdicts, where nothing could be looked up.
struct Offline<'a> {
    verdicts: &'a Verdicts,
    show_outside_references: bool,
}

impl Judge for Offline<'_> {
    fn resource(&self, index: u32, facts: &ResourceFacts) -> Verdict {
        self.verdicts.resource(index, facts)
    }
    fn element(&self, index: u32, facts: &ResourceFacts, labels: LabelSet) -> Verdict {
        self.verdicts.element(index, facts, labels)
    }
    fn reference(&self, target: &Reference) -> Verdict {
        if self.show_outside_references { Verdict::Show } else { self.verdicts.reference(target) }
    }
    fn link(&self, relation: &str, url: &str) -> Option<String> {
        self.verdicts.link(relation, url)
    }
}
