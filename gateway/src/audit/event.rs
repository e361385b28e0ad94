//! Entries as FHIR R4 AuditEvents by IHE Basic Audit Log Patterns (`https://profiles.ihe.net/ITI/BALP`).
//!
//! One event for every patient whose records were touched; what belongs to several patients and cannot be told apart is
//! in none of them. The caller's token is named by its `jti` (BALP OAUTHaccessTokenUse.Comprehensive).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir_profiles::label::Label;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::read::Entry;
use super::record::{AuditRecord, Kind};

/// Who states the events.
#[derive(Clone, Debug)]
pub struct Site {
    /// `source.site`.
    pub name: String,
    /// What clients see as the FHIR base URL.
    pub base_url: String,
}

/// The BALP patterns that the gateway writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Read,
    Query,
    Create,
    Update,
    Delete,
}

const PROFILE: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/";
const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";

impl Pattern {
    /// The pattern of an interaction's code (R4 restful-interaction).
    pub fn of(interaction: &str) -> Self {
        match interaction {
            "read" | "vread" | "history-instance" => Self::Read,
            "create" => Self::Create,
            "update" | "patch" => Self::Update,
            "delete" => Self::Delete,
            _ => Self::Query,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Query => "Query",
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Delete => "Delete",
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Read => "R",
            Self::Query => "E",
            Self::Create => "C",
            Self::Update => "U",
            Self::Delete => "D",
        }
    }

    /// The roles of client and server: whoever holds the data before the event is its source.
    fn roles(self) -> (Value, Value) {
        match self {
            Self::Read => (coding(DCM, "110152"), coding(DCM, "110153")),
            Self::Query | Self::Create | Self::Update => (coding(DCM, "110153"), coding(DCM, "110152")),
            Self::Delete => (
                coding(DCM, "110150"),
                coding("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian"),
            ),
        }
    }

    const fn user_role(self) -> &'static str {
        match self {
            Self::Read | Self::Query => "IRCP",
            Self::Create | Self::Update | Self::Delete => "AUT",
        }
    }
}

/// The events of one entry: none for entries that tell of no request.
///
/// For each patient: the access itself, the consent decision it rested on, and for what was disclosed the disclosure.
pub fn events(entry: &Entry, site: &Site) -> Vec<Value> {
    let Some(record) = entry.record() else { return Vec::new() };
    let scribe = Scribe { entry, record: &record, site };
    let patients: Vec<Option<&str>> = match record.patients.as_slice() {
        [] => vec![None],
        patients => patients.iter().map(|patient| Some(patient.as_str())).collect(),
    };
    let mut events = Vec::new();
    for patient in patients {
        events.push(scribe.access(patient));
        if let Some(patient) = patient {
            events.extend(scribe.consent_decision(patient));
            events.extend(scribe.disclosure(patient));
            events.extend(scribe.emergency(patient));
        }
    }
    for (n, event) in events.iter_mut().enumerate() {
        // The same entry gives the same ids: a sink that is told twice stores once.
        let id: String = entry.hash.chars().take(40).collect();
        set(event, "id", json!(format!("{id}-{n}")));
    }
    events
}

struct Scribe<'a> {
    entry: &'a Entry,
    record: &'a AuditRecord,
    site: &'a Site,
}

impl Scribe<'_> {
    fn access(&self, patient: Option<&str>) -> Value {
        let pattern = Pattern::of(&self.record.interaction);
        let variant = if patient.is_some() { "Patient" } else { "" };
        let profile = format!("{PROFILE}IHE.BasicAudit.{variant}{}", pattern.name());
        let mut event = self.event(&profile, "http://terminology.hl7.org/CodeSystem/audit-event-type", "rest");
        set(&mut event, "subtype", json!([{"system": INTERACTION, "code": self.record.interaction}]));
        set(&mut event, "action", json!(pattern.action()));
        let (client, server) = pattern.roles();
        let mut agents = vec![self.server(server), self.client(client, !self.has_user())];
        if pattern != Pattern::Delete {
            agents.push(self.application());
        }
        agents.extend(self.user(pattern.user_role()));
        set(&mut event, "agent", Value::Array(agents));
        let mut entities: Vec<Value> = patient.map(patient_entity).into_iter().collect();
        entities.push(match pattern {
            Pattern::Query => self.query_entity(),
            Pattern::Read | Pattern::Create | Pattern::Update | Pattern::Delete => self.data_entity(),
        });
        if !self.record.request_id.is_empty() {
            entities.push(json!({
                "type": {"system": BALP_ENTITY, "code": "XrequestId"},
                "what": {"identifier": {"value": self.record.request_id}},
            }));
        }
        entities.extend(self.withheld_entity());
        set(&mut event, "entity", Value::Array(entities));
        event
    }

    /// `IHE.BasicAudit.AuthZconsent`: its entities are closed, and a consent is required.
    fn consent_decision(&self, patient: &str) -> Option<Value> {
        if self.record.consents.is_empty() {
            return None;
        }
        let mut event = self.event(&format!("{PROFILE}IHE.BasicAudit.AuthZconsent"), DCM, "110113");
        set(
            &mut event,
            "subtype",
            json!([{
                "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "code": "AuthZ-Consent",
            }]),
        );
        set(&mut event, "action", json!("E"));
        let authorizer = coding("http://terminology.hl7.org/CodeSystem/extra-security-role-type", "authserver");
        let mut user = self.user("IRCP").unwrap_or_else(
            || json!({"type": concept(&coding(PARTICIPATION, "IRCP")), "who": {"display": self.record.partner}}),
        );
        set(&mut user, "requestor", json!(true));
        let organisation = coding("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV");
        set(
            &mut event,
            "agent",
            json!([
                {"type": concept(&authorizer), "who": self.observer(), "requestor": false},
                self.client(coding(DCM, "110150"), false),
                user,
                {"type": concept(&organisation), "who": {"display": self.record.partner}, "requestor": false},
            ]),
        );
        let consents = self.record.consents.iter().map(|id| {
            json!({
                "type": {"system": "http://hl7.org/fhir/resource-types", "code": "Consent"},
                "what": {"reference": format!("Consent/{id}")},
            })
        });
        let entities: Vec<Value> = std::iter::once(patient_entity(patient)).chain(consents).collect();
        set(&mut event, "entity", Value::Array(entities));
        Some(event)
    }

    /// `IHE.BasicAudit.PrivacyDisclosure.Source`: what an accounting of disclosures is made from.
    fn disclosure(&self, patient: &str) -> Option<Value> {
        if self.entry.kind != Kind::Disclosure || self.record.reason.is_some() {
            return None;
        }
        let mut event = self.event(&format!("{PROFILE}IHE.BasicAudit.PrivacyDisclosure.Source"), DCM, "110106");
        let lifecycle = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
        set(
            &mut event,
            "subtype",
            json!([
                {"system": lifecycle, "code": "disclose"},
                {"system": INTERACTION, "code": self.record.interaction},
            ]),
        );
        set(&mut event, "action", json!("R"));
        if let Some(purpose) = &self.record.purpose {
            set(&mut event, "purposeOfEvent", json!([concept(&coding(ACT_REASON, purpose))]));
        }
        let mut agents = vec![self.server(coding(DCM, "110153")), self.client(coding(DCM, "110152"), !self.has_user())];
        agents.extend(self.user("IRCP"));
        set(&mut event, "agent", Value::Array(agents));
        let instances: &[String] = if self.is_of_one_patient() { &self.record.instances } else { &[] };
        let mut entities = vec![patient_entity(patient)];
        entities.extend(instances.iter().map(|instance| self.data(json!({"reference": instance}))));
        if instances.is_empty() {
            entities.push(self.data(json!({"display": format!("the answer of decision {}", self.record.decision)})));
        }
        set(&mut event, "entity", Value::Array(entities));
        Some(event)
    }

    /// DICOM "Emergency Override Started", with what 42 CFR 2.51(c) wants in the patient's records.
    fn emergency(&self, patient: &str) -> Option<Value> {
        let emergency = self.record.emergency.as_ref().filter(|emergency| emergency.patient == patient)?;
        if self.entry.kind != Kind::Disclosure || self.record.reason.is_some() {
            return None;
        }
        let mut event = self.event("", DCM, "110113");
        if let Value::Object(fields) = &mut event {
            // No profile of BALP knows it.
            fields.remove("meta");
        }
        set(&mut event, "subtype", json!([{"system": DCM, "code": "110127", "display": "Emergency Override Started"}]));
        set(&mut event, "action", json!("E"));
        let purpose = self.record.purpose.as_deref().unwrap_or("ETREAT");
        set(&mut event, "purposeOfEvent", json!([concept(&coding(ACT_REASON, purpose))]));
        let mut agents = vec![self.server(coding(DCM, "110153")), self.client(coding(DCM, "110152"), !self.has_user())];
        if let Some(mut user) = self.user("IRCP") {
            if !emergency.name.is_empty() {
                set(&mut user, "name", json!(emergency.name));
            }
            agents.push(user);
        }
        set(&mut event, "agent", Value::Array(agents));
        let detail = |kind: &str, value: &str| json!({"type": kind, "valueString": value});
        let mut claimed = patient_entity(patient);
        let details: Vec<Value> = [
            ("nature of the emergency", &emergency.reason),
            ("affiliation", &emergency.affiliation),
            ("discloser", &emergency.discloser),
            ("until", &emergency.until),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(kind, value)| detail(kind, value))
        .collect();
        set(&mut claimed, "detail", Value::Array(details));
        set(&mut event, "entity", json!([claimed]));
        Some(event)
    }

    fn event(&self, profile: &str, system: &str, code: &str) -> Value {
        let (outcome, why) = self.outcome();
        let mut event = json!({
            "resourceType": "AuditEvent",
            "meta": {"profile": [profile]},
            "type": {"system": system, "code": code},
            "recorded": self.entry.time.format(&Rfc3339).unwrap_or_default(),
            "outcome": outcome,
            "source": {
                "site": self.site.name,
                "observer": self.observer(),
                "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4"}],
            },
        });
        if let Some(why) = why {
            set(&mut event, "outcomeDesc", json!(why));
        }
        event
    }

    /// 0 success, 4 the caller's mistake, 8 refused, 12 the gateway or a neighbour failed (AuditEventOutcome).
    fn outcome(&self) -> (&'static str, Option<String>) {
        let Some(reason) = &self.record.reason else {
            let attempted = (self.entry.kind == Kind::Attempt).then(|| "attempted".to_owned());
            return ("0", attempted);
        };
        let outcome = match (self.record.status, self.record.exception.is_some()) {
            (Some(500..), _) => "12",
            (_, true) => "8",
            (_, false) => "4",
        };
        (outcome, Some(reason.clone()))
    }

    fn observer(&self) -> Value {
        json!({"display": "fhirwall", "identifier": {"value": self.site.base_url}})
    }

    fn server(&self, role: Value) -> Value {
        json!({
            "type": concept(&role),
            "who": self.observer(),
            "requestor": false,
            "network": {"address": self.site.base_url, "type": "5"},
        })
    }

    fn client(&self, role: Value, requestor: bool) -> Value {
        let mut agent = json!({
            "type": concept(&role),
            "who": {"identifier": {"value": self.record.partner}, "display": self.record.partner},
            "requestor": requestor,
        });
        if let Some(address) = &self.record.address {
            set(&mut agent, "network", json!({"address": address, "type": "2"}));
        }
        agent
    }

    /// The OAuth client of OAUTHaccessTokenUse.Comprehensive.
    fn application(&self) -> Value {
        json!({
            "type": concept(&coding(DCM, "110150")),
            "who": {"identifier": {"value": self.record.partner}},
            "requestor": false,
        })
    }

    /// A client-credentials token has no user (its `sub` is the client).
    fn has_user(&self) -> bool {
        !self.record.user.is_empty() && self.record.user != self.record.partner
    }

    fn user(&self, role: &str) -> Option<Value> {
        if !self.has_user() {
            return None;
        }
        let mut who = json!({"identifier": {"system": self.record.issuer, "value": self.record.user}});
        if let Some(reference) = &self.record.fhir_user {
            set(&mut who, "reference", json!(reference));
        }
        let mut agent = json!({"type": concept(&coding(PARTICIPATION, role)), "who": who, "requestor": true});
        if !self.record.token.is_empty() {
            set(&mut agent, "policy", json!([self.record.token]));
        }
        if let Some(purpose) = &self.record.purpose {
            set(&mut agent, "purposeOfUse", json!([concept(&coding(ACT_REASON, purpose))]));
        }
        Some(agent)
    }

    fn query_entity(&self) -> Value {
        let kind = self.record.resource_type.as_deref().or(self.record.instance.as_deref()).unwrap_or("");
        let query = self.record.query.as_deref().unwrap_or("");
        let url = format!("{}/{kind}{}{query}", self.site.base_url, if query.is_empty() { "" } else { "?" });
        let mut entity = json!({
            "type": {"system": ENTITY_TYPE, "code": "2"},
            "role": {"system": OBJECT_ROLE, "code": "24"},
            "description": url,
            "query": STANDARD.encode(&url),
        });
        self.label(&mut entity);
        entity
    }

    fn data_entity(&self) -> Value {
        let kind = self.record.resource_type.as_deref().unwrap_or("Resource");
        let what = match &self.record.instance {
            Some(instance) => json!({"reference": instance}),
            None => json!({"display": kind}),
        };
        self.data(what)
    }

    fn data(&self, what: Value) -> Value {
        let mut entity = json!({
            "type": {"system": ENTITY_TYPE, "code": "2"},
            "role": {"system": OBJECT_ROLE, "code": "4"},
            "what": what,
        });
        self.label(&mut entity);
        entity
    }

    fn is_of_one_patient(&self) -> bool {
        self.record.patients.len() <= 1
    }

    /// The labels of an answer about several patients would tell of one what is true of another.
    fn label(&self, entity: &mut Value) {
        let of = |code: &String| Label::all().find(|label| label.code() == code);
        let labels: Vec<Value> =
            self.record.labels.iter().filter_map(of).map(|l| concept(&coding(l.system(), l.code()))).collect();
        if self.is_of_one_patient() && !labels.is_empty() {
            set(entity, "securityLabel", Value::Array(labels));
        }
    }

    /// How much was held back. The query's own entity may carry no details (BALP Query: `detail` 0..0).
    fn withheld_entity(&self) -> Option<Value> {
        let details: Vec<Value> = self
            .record
            .withheld
            .iter()
            .map(|withheld| json!({"type": withheld.rule, "valueString": withheld.count.to_string()}))
            .collect();
        (self.is_of_one_patient() && !details.is_empty()).then(|| {
            json!({
                "type": {"system": ENTITY_TYPE, "code": "4"},
                "what": {"display": "withheld"},
                "detail": details,
            })
        })
    }
}

fn patient_entity(patient: &str) -> Value {
    json!({
        "type": {"system": ENTITY_TYPE, "code": "1"},
        "role": {"system": OBJECT_ROLE, "code": "1"},
        "what": {"reference": format!("Patient/{patient}")},
    })
}

fn coding(system: &str, code: &str) -> Value {
    json!({"system": system, "code": code})
}

fn concept(coding: &Value) -> Value {
    json!({"coding": [coding]})
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(key.to_owned(), value);
    }
}
