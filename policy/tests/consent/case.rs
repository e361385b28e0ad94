//! The shorthand in which the cases are written, spelled out into R4 Consents.

use fhir_profiles::ids::{InstanceId, LogicalId};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::reference::Reference;
use fhirwall_policy::consent::{
    About, Code, ConsentAction, ConsentBook, ConsentOutcome, ConsentQuestion, ConsentRecord, Expiry, Part2Role,
    RecipientNamed, Signature, TimeSpan, Zone, evaluate,
};
use fhirwall_policy::partner::Recipient;
use fhirwall_policy::purpose::PurposeOfUse;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// Why the outcome is what it is.
    #[expect(dead_code, reason = "for the reader")]
    pub why: String,
    pub consents: Vec<Short>,
    #[serde(default)]
    pub ask: Ask,
    pub expect: String,
    /// The ids that justify it; checked where given.
    pub by: Option<Vec<String>>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Short {
    pub id: Option<String>,
    pub status: Option<String>,
    pub scope: Option<String>,
    pub category: Vec<String>,
    pub part2: bool,
    pub patient: Option<String>,
    #[serde(rename = "dateTime")]
    pub date_time: Option<String>,
    #[serde(rename = "policyRule")]
    pub policy_rule: Option<String>,
    pub provision: Option<ShortRule>,
    /// Elements set as they stand here; null takes one away.
    pub raw: Map<String, Value>,
    /// The whole resource, as text.
    pub text: Option<String>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ShortRule {
    pub r#type: Option<String>,
    pub period: Option<[Option<String>; 2]>,
    pub to: Vec<Value>,
    pub from: Vec<Value>,
    pub action: Vec<String>,
    pub purpose: Vec<String>,
    pub label: Vec<String>,
    pub class: Vec<String>,
    pub code: Vec<String>,
    #[serde(rename = "dataPeriod")]
    pub data_period: Option<[Option<String>; 2]>,
    pub data: Vec<[String; 2]>,
    pub except: Vec<Self>,
    pub raw: Map<String, Value>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    pub patient: String,
    pub to: Vec<Value>,
    pub from: Vec<Value>,
    pub purpose: String,
    pub action: String,
    pub labels: Vec<String>,
    pub kind: String,
    pub now: String,
    pub instance: Option<String>,
    pub time: Option<[Option<String>; 2]>,
    pub codes: Option<Vec<String>>,
    pub references: Option<Vec<String>>,
    pub authors: Option<Vec<String>>,
    pub role: String,
    pub utc: bool,
    pub unsigned: bool,
    pub sourced: bool,
    pub verified: bool,
    pub tpo_class: bool,
    pub tpo_expires: bool,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            patient: "a".into(),
            to: vec![json!("Organization/app")],
            from: Vec::new(),
            purpose: "TREAT".into(),
            action: "disclose".into(),
            labels: Vec::new(),
            kind: "Condition".into(),
            now: "2026-06-15T12:00:00Z".into(),
            instance: None,
            time: None,
            codes: None,
            references: None,
            authors: None,
            role: "program".into(),
            utc: false,
            unsigned: false,
            sourced: false,
            verified: false,
            tpo_class: false,
            tpo_expires: false,
        }
    }
}

impl Short {
    /// The Consent as JSON text.
    pub fn spelled_out(&self, position: usize) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let mut consent = json!({
            "resourceType": "Consent",
            "id": self.id.clone().unwrap_or_else(|| format!("c{}", position + 1)),
            "status": self.status.as_deref().unwrap_or("active"),
            "scope": concept("http://terminology.hl7.org/CodeSystem/consentscope", self.scope.as_deref().unwrap_or("patient-privacy")),
            "category": self.categories(),
            "patient": {"reference": self.patient.as_deref().unwrap_or("Patient/a")},
            "dateTime": self.date_time.as_deref().unwrap_or("2026-01-10"),
            "sourceReference": {"reference": "DocumentReference/signed"},
            "policy": [{"uri": "urn:example:policy"}],
        });
        let object = consent.as_object_mut().unwrap();
        if let Some(rule) = &self.policy_rule {
            object.insert("policyRule".into(), concept(ACT_CODE, rule));
        }
        if let Some(provision) = &self.provision {
            object.insert("provision".into(), provision.spelled_out());
        }
        apply(object, &self.raw);
        consent.to_string()
    }

    fn categories(&self) -> Vec<Value> {
        let own = self
            .category
            .iter()
            .map(|code| concept("http://terminology.hl7.org/CodeSystem/consentcategorycodes", code));
        let loinc = self.category.is_empty().then(|| concept("http://loinc.org", "59284-0"));
        let part2 = self.part2.then(|| concept(ACT_CODE, "42CFRPart2CD"));
        own.chain(loinc).chain(part2).collect()
    }
}

impl ShortRule {
    fn spelled_out(&self) -> Value {
        let mut rule = Map::new();
        let mut put = |element: &str, items: Vec<Value>| {
            if !items.is_empty() {
                rule.insert(element.into(), Value::Array(items));
            }
        };
        let recipients = self.to.iter().map(|party| actor("IRCP", party));
        put("actor", recipients.chain(self.from.iter().map(|party| actor("CST", party))).collect());
        put(
            "action",
            self.action
                .iter()
                .map(|code| concept("http://terminology.hl7.org/CodeSystem/consentaction", code))
                .collect(),
        );
        put("purpose", self.purpose.iter().map(|code| coding(code, ACT_REASON)).collect());
        put("securityLabel", self.label.iter().map(|code| coding(code, label_system(code))).collect());
        put("class", self.class.iter().map(|code| coding(code, "http://hl7.org/fhir/resource-types")).collect());
        put("code", self.code.iter().map(|code| json!({"coding": [coding(code, "urn:none")]})).collect());
        put(
            "data",
            self.data.iter().map(|[meaning, to]| json!({"meaning": meaning, "reference": {"reference": to}})).collect(),
        );
        put("provision", self.except.iter().map(Self::spelled_out).collect());
        for (element, period) in [("period", &self.period), ("dataPeriod", &self.data_period)] {
            if let Some([start, end]) = period {
                let bounds = [("start", start), ("end", end)];
                let given =
                    bounds.iter().filter_map(|(name, at)| at.as_ref().map(|at| ((*name).to_owned(), json!(at))));
                rule.insert(element.into(), Value::Object(given.collect()));
            }
        }
        if let Some(kind) = &self.r#type {
            rule.insert("type".into(), json!(kind));
        }
        apply(&mut rule, &self.raw);
        Value::Object(rule)
    }
}

fn apply(object: &mut Map<String, Value>, raw: &Map<String, Value>) {
    for (element, value) in raw {
        match value {
            Value::Null => object.remove(element),
            _ => object.insert(element.clone(), value.clone()),
        };
    }
}

fn concept(system: &str, code: &str) -> Value {
    json!({"coding": [{"system": system, "code": code}]})
}

/// `code`, or `system|code`.
fn coding(text: &str, system: &str) -> Value {
    let (system, code) = text.split_once('|').unwrap_or((system, text));
    json!({"system": system, "code": code})
}

fn label_system(code: &str) -> &'static str {
    if ["U", "L", "M", "N", "R", "V"].contains(&code) { CONFIDENTIALITY } else { ACT_CODE }
}

/// A reference as text, `system|value` of an identifier, or a Reference as it stands.
fn actor(role: &str, party: &Value) -> Value {
    let reference = match party {
        Value::String(text) => match text.split_once('|') {
            Some((system, value)) => json!({"identifier": {"system": system, "value": value}}),
            None => json!({"reference": text}),
        },
        other => other.clone(),
    };
    json!({"role": concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", role), "reference": reference})
}

fn recipients(parties: &[Value]) -> Vec<Recipient> {
    let read = |party: &Value| match party.as_str().unwrap().split_once('|') {
        Some((system, value)) => Recipient::Identifier { system: system.into(), value: value.into() },
        None => Recipient::Reference(party.as_str().unwrap().into()),
    };
    parties.iter().map(read).collect()
}

pub fn labels(codes: &[String]) -> LabelSet {
    codes.iter().map(|code| Label::from_coding(label_system(code), code).unwrap_or(Label::UNKNOWN)).collect()
}

/// The book of these Consents, each given as JSON text.
pub fn book(consents: &[String]) -> ConsentBook {
    let mut book = ConsentBook::new("a".parse().unwrap(), ["https://ehr.example/fhir".into()].into());
    for consent in consents {
        match ConsentRecord::parse(consent.as_bytes()) {
            // One of another patient never gets into the book.
            Ok(record) => drop(book.add(record)),
            Err(unreadable) => book.add_unreadable(unreadable),
        }
    }
    book
}

impl Ask {
    pub fn with<T>(&self, ask: impl FnOnce(&ConsentQuestion<'_>) -> T) -> T {
        let patient: LogicalId = self.patient.parse().unwrap();
        let (to, from) = (recipients(&self.to), recipients(&self.from));
        let purpose = PurposeOfUse::from_code(&self.purpose).unwrap();
        let now = OffsetDateTime::parse(&self.now, &Rfc3339).unwrap();
        let mut question =
            ConsentQuestion::new(&patient, &to, purpose, labels(&self.labels), self.kind.parse().unwrap(), now);
        let instance: Option<InstanceId> = self.instance.as_deref().map(instance);
        let time = self.time.as_ref().map(|[start, end]| TimeSpan::period(start.as_deref(), end.as_deref()).unwrap());
        let codes = self.codes.as_ref().map(|codes| codes.iter().map(|c| code(c)).collect::<Vec<_>>());
        let parse = |list: &Vec<String>| list.iter().map(|text| Reference::parse(text)).collect::<Vec<_>>();
        let (references, authors) = (self.references.as_ref().map(parse), self.authors.as_ref().map(parse));
        question.custodians = &from;
        question.action = match self.action.as_str() {
            "access" => ConsentAction::Access,
            "use" => ConsentAction::Use,
            "collect" => ConsentAction::Collect,
            "correct" => ConsentAction::Correct,
            _ => ConsentAction::Disclose,
        };
        question.about = About {
            instance: instance.as_ref(),
            time: time.as_ref(),
            codes: codes.as_deref(),
            references: references.as_deref(),
            authors: authors.as_deref(),
        };
        question.part2.role = if self.role == "recipient" { Part2Role::Recipient } else { Part2Role::Program };
        if self.utc {
            question.zone = Zone { west: time::UtcOffset::UTC, east: time::UtcOffset::UTC };
        }
        if self.unsigned {
            question.part2.signature = Signature::Unchecked;
        }
        if self.sourced {
            question.part2.signature = Signature::SourceOrVerified;
        }
        if self.verified {
            question.part2.signature = Signature::Verified;
        }
        if self.tpo_class {
            question.part2.recipient = RecipientNamed::UnlessTpo;
        }
        if self.tpo_expires {
            question.part2.expiry = Expiry::Always;
        }
        ask(&question)
    }
}

fn instance(text: &str) -> InstanceId {
    Reference::parse(text).on_server(&[]).unwrap().clone()
}

fn code(text: &str) -> Code {
    let (system, code) = text.split_once('|').unwrap();
    Code::new(system, code)
}

impl Case {
    pub fn texts(&self) -> Vec<String> {
        self.consents.iter().enumerate().map(|(at, short)| short.spelled_out(at)).collect()
    }

    pub fn outcome(&self) -> ConsentOutcome {
        let book = book(&self.texts());
        self.ask.with(|question| evaluate(&book, question))
    }
}

pub fn word(outcome: &ConsentOutcome) -> &'static str {
    match outcome {
        ConsentOutcome::Permit { .. } => "permit",
        ConsentOutcome::Deny { .. } => "deny",
        ConsentOutcome::Silent => "silent",
    }
}

pub fn ids(outcome: &ConsentOutcome) -> Vec<String> {
    match outcome {
        ConsentOutcome::Permit { consents } | ConsentOutcome::Deny { consents } => {
            consents.iter().map(|id| id.as_str().to_owned()).collect()
        }
        ConsentOutcome::Silent => Vec::new(),
    }
}
