//! One person's chart: ordinary records, program records, and records that mention the program's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{ACT_CODE, CONFIDENTIALITY, Person, part2_labels};

const ICD10: &str = "http://hl7.org/fhir/sid/icd-10-cm";
const LOINC: &str = "http://loinc.org";
const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const INLINE_LABEL: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";

/// The chart of one person.
pub(super) fn of(person: &Person) -> Vec<Value> {
    let chart = Chart { person, short: person.id.split('-').next().unwrap_or(person.id) };
    let mut records = chart.ordinary();
    if person.in_program {
        records.extend(chart.program());
        records.extend(chart.mentions());
    }
    records
}

struct Chart<'a> {
    person: &'a Person,
    short: &'a str,
}

impl Chart<'_> {
    fn id(&self, what: &str) -> String {
        format!("{}-{what}", self.short)
    }

    fn reference(&self, kind: &str, what: &str) -> Value {
        json!({"reference": format!("{kind}/{}-{what}", self.short)})
    }

    fn subject(&self) -> Value {
        json!({"reference": format!("Patient/{}", self.person.id)})
    }

    /// What any treating clinician needs, and nothing may hide.
    fn ordinary(&self) -> Vec<Value> {
        let person = self.person;
        let mut records = vec![
            json!({
                "resourceType": "Patient", "id": person.id, "active": true,
                "name": [{"use": "official", "family": person.family, "given": [person.given]}],
                "gender": person.gender, "birthDate": person.birth_date,
                "generalPractitioner": [{"reference": "Practitioner/ines-okafor"}],
                "managingOrganization": {"reference": "Organization/mill-street-clinic"},
            }),
            json!({
                "resourceType": "AllergyIntolerance", "id": self.id("penicillin"),
                "clinicalStatus": status("allergyintolerance-clinical", "active"),
                "criticality": "high",
                "code": {"coding": [{"system": RXNORM, "code": "7980", "display": "penicillin G"}]},
                "patient": self.subject(),
            }),
            self.condition("hypertension", "I10", "Essential (primary) hypertension"),
            json!({
                "resourceType": "MedicationRequest", "id": self.id("lisinopril"), "status": "active", "intent": "order",
                "medicationCodeableConcept":
                    {"coding": [{"system": RXNORM, "code": "314076", "display": "lisinopril 10 MG Oral Tablet"}]},
                "subject": self.subject(), "authoredOn": "2026-02-11",
                "requester": {"reference": "Practitioner/ines-okafor"},
            }),
            json!({
                "resourceType": "Encounter", "id": self.id("visit"), "status": "finished",
                "class": {"system": ACT_CODE, "code": "AMB"}, "subject": self.subject(),
                "period": {"start": "2026-02-11T09:00:00Z", "end": "2026-02-11T09:20:00Z"},
                "serviceProvider": {"reference": "Organization/mill-street-clinic"},
            }),
        ];
        records.extend((1..=6).map(|month| self.blood_pressure(month)));
        records
    }

    /// The records of the program, each labelled as a whole.
    fn program(&self) -> Vec<Value> {
        let mut opioid = self.condition("opioid-use", "F11.20", "Opioid dependence, uncomplicated");
        let narrative = "<div xmlns=\"http://www.w3.org/1999/xhtml\">Opioid dependence, in treatment</div>";
        put(&mut opioid, "meta", json!({"security": part2_labels(&["OPIOIDUD"])}));
        put(&mut opioid, "text", json!({"status": "generated", "div": narrative}));
        put(&mut opioid, "encounter", self.reference("Encounter", "intake"));
        let note = "Counseling session. Patient stable on buprenorphine.";
        vec![
            opioid,
            json!({
                "resourceType": "Observation", "id": self.id("drug-screen"), "status": "final",
                "meta": {"security": part2_labels(&["SUD"])},
                "category": [category("laboratory")],
                "code": {"coding": [{"system": LOINC, "code": "19295-5", "display": "Opiates [Presence] in Urine by Screen"}]},
                "subject": self.subject(), "encounter": self.reference("Encounter", "intake"),
                "effectiveDateTime": "2026-03-02", "valueString": "negative",
            }),
            json!({
                "resourceType": "MedicationRequest", "id": self.id("buprenorphine"), "status": "active", "intent": "order",
                "meta": {"security": part2_labels(&["OPIOIDUD"])},
                "medicationCodeableConcept":
                    {"coding": [{"system": RXNORM, "code": "1010600", "display": "buprenorphine 2 MG / naloxone 0.5 MG Sublingual Film"}]},
                "subject": self.subject(), "authoredOn": "2026-03-02",
                "reasonReference": [self.reference("Condition", "opioid-use")],
                "requester": {"reference": "Practitioner/sten-lindqvist", "display": "Sten Lindqvist, drug counselor"},
            }),
            json!({
                "resourceType": "Encounter", "id": self.id("intake"), "status": "finished",
                "meta": {"security": part2_labels(&["SUD"])},
                "class": {"system": ACT_CODE, "code": "AMB"}, "subject": self.subject(),
                "period": {"start": "2026-03-02T13:00:00Z"},
                "serviceProvider": {"reference": "Organization/harbor-house", "display": "Harbor House Recovery Program"},
            }),
            json!({
                "resourceType": "DocumentReference", "id": self.id("program-note"), "status": "current",
                "meta": {"security": part2_labels(&["SUD"])},
                "type": {"coding": [{"system": LOINC, "code": "11488-4", "display": "Consult note"}]},
                "subject": self.subject(), "date": "2026-03-02T14:00:00Z",
                "description": "Intake at Harbor House",
                "custodian": {"reference": "Organization/harbor-house"},
                "content": [{"attachment":
                    {"contentType": "text/plain", "url": format!("Binary/{}", self.id("program-note-text"))}}],
            }),
            // A Binary has no label of its own: it follows what refers to it.
            json!({
                "resourceType": "Binary", "id": self.id("program-note-text"), "contentType": "text/plain",
                "securityContext": self.reference("DocumentReference", "program-note"),
                "data": STANDARD.encode(note),
            }),
        ]
    }

    /// Records that nobody labelled as a whole, and that still speak of the program.
    fn mentions(&self) -> Vec<Value> {
        let inline = json!([{"url": INLINE_LABEL, "valueCoding": {"system": ACT_CODE, "code": "42CFRPart2"}}]);
        let mut records = vec![
            // Labelled inline: the note alone is protected.
            json!({
                "resourceType": "Observation", "id": self.id("tobacco"), "status": "final",
                "meta": {"security": [
                    {"system": CONFIDENTIALITY, "code": "N"},
                    {"system": ACT_CODE, "code": "PROCESSINLINELABEL"},
                ]},
                "category": [category("social-history")],
                "code": {"coding": [{"system": LOINC, "code": "72166-2", "display": "Tobacco smoking status"}]},
                "subject": self.subject(), "effectiveDateTime": "2026-02-11", "valueString": "former smoker",
                "note": [
                    {"text": "Quit in 2019."},
                    {"extension": inline, "text": "Attends the methadone clinic on Harbor Street."},
                ],
            }),
            // A list and a document that name what is hidden.
            json!({
                "resourceType": "List", "id": self.id("problems"), "status": "current", "mode": "working",
                "subject": self.subject(),
                "entry": [
                    {"item": self.reference("Condition", "hypertension")},
                    {"item": {"reference": format!("Condition/{}", self.id("opioid-use")), "display": "Opioid dependence"}},
                ],
            }),
            json!({
                "resourceType": "Composition", "id": self.id("summary"), "status": "final",
                "type": {"coding": [{"system": LOINC, "code": "60591-5", "display": "Patient summary Document"}]},
                "subject": self.subject(), "date": "2026-04-01",
                "author": [{"reference": "Practitioner/ines-okafor"}], "title": "Patient summary",
                "section": [{"title": "Problems", "entry": [
                    self.reference("Condition", "hypertension"),
                    self.reference("Condition", "opioid-use"),
                ]}],
            }),
            json!({
                "resourceType": "Provenance", "id": self.id("provenance"),
                "target": [
                    self.subject(),
                    self.reference("Condition", "hypertension"),
                    self.reference("Condition", "opioid-use"),
                ],
                "recorded": "2026-03-02T15:00:00Z",
                "agent": [{"who": {"reference": "Practitioner/ines-okafor"}}],
            }),
        ];
        if self.person.id != "celia-moss" {
            // Code-only: a protected diagnosis that nobody labelled.
            records.push(self.condition("opioid-remission", "F11.21", "Opioid dependence, in remission"));
        }
        records
    }

    fn condition(&self, what: &str, code: &str, display: &str) -> Value {
        json!({
            "resourceType": "Condition", "id": self.id(what),
            "clinicalStatus": status("condition-clinical", "active"),
            "category": [{"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-category", "code": "problem-list-item",
            }]}],
            "code": {"coding": [{"system": ICD10, "code": code, "display": display}], "text": display},
            "subject": self.subject(),
            "recordedDate": "2026-03-02",
        })
    }

    fn blood_pressure(&self, month: u32) -> Value {
        let quantity = |value: u32| json!({"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"});
        let part = |code: &str, value: u32| json!({"code": {"coding": [{"system": LOINC, "code": code}]}, "valueQuantity": quantity(value)});
        json!({
            "resourceType": "Observation", "id": self.id(&format!("blood-pressure-{month}")), "status": "final",
            "category": [category("vital-signs")],
            "code": {"coding": [{"system": LOINC, "code": "85354-9", "display": "Blood pressure panel"}]},
            "subject": self.subject(), "effectiveDateTime": format!("2026-{month:02}-11"),
            "component": [part("8480-6", 138 - month), part("8462-4", 88 - month)],
        })
    }
}

fn status(system: &str, code: &str) -> Value {
    json!({"coding": [{"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code}]})
}

fn category(code: &str) -> Value {
    json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": code}]})
}

fn put(resource: &mut Value, key: &str, value: Value) {
    if let Some(resource) = resource.as_object_mut() {
        resource.insert(key.to_owned(), value);
    }
}
