//! Random documents in which everything that must not be seen carries a canary.

use serde_json::{Map, Value, json};

pub(crate) const CANARY: &str = "CANARY";
pub(crate) const TODAY: &str = "2026-11-22";
const ACT: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const INLINE: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

pub(crate) fn document(seed: u64) -> String {
    let mut generator = Generator { random: Random::new(seed), hidden: false, depth: 0 };
    let root = match generator.random.below(10) {
        0..=5 => generator.bundle(),
        6 => generator.parameters(),
        _ => generator.resource(false),
    };
    if seed.is_multiple_of(5) { serde_json::to_string_pretty(&root).unwrap() } else { root.to_string() }
}

struct Generator {
    random: Random,
    /// Inside something that must not be seen.
    hidden: bool,
    depth: usize,
}

const KINDS: &[&str] = &[
    "Observation",
    "Condition",
    "Patient",
    "MedicationRequest",
    "Medication",
    "Composition",
    "List",
    "Provenance",
    "Encounter",
    "DocumentReference",
    "Binary",
    "Group",
    "OperationOutcome",
    "Basic",
];

impl Generator {
    fn word(&mut self) -> String {
        let n = self.random.below(1000);
        if self.hidden { format!("{CANARY}-{n}") } else { format!("wórd \"{n}\"\\") }
    }

    fn bundle(&mut self) -> Value {
        self.depth += 1;
        let kind =
            *self.random.pick(&["searchset", "searchset", "collection", "batch-response", "document", "history"]);
        let mut bundle = json!({"resourceType": "Bundle", "type": kind});
        if self.depth == 1 && self.random.one_in(5) {
            bundle["meta"] = match self.random.below(4) {
                0 => {
                    json!({"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]})
                }
                _ => self.secret_meta(),
            };
        }
        if self.random.one_in(3) {
            bundle["total"] = json!(self.random.below(9));
        }
        if self.random.one_in(3) {
            bundle["link"] =
                json!([{"relation": "self", "url": "https://ehr/fhir/x"}, {"relation": "next", "url": "u"}]);
        }
        if self.random.one_in(6) {
            bundle["signature"] = json!({"who": {"display": "signer"}});
        }
        let mut entries = Vec::new();
        for n in 0..self.random.below(5) {
            let resource = if self.depth < 3 && self.random.one_in(8) {
                if self.random.one_in(2) { self.bundle() } else { self.parameters() }
            } else {
                self.resource(false)
            };
            let mut entry = Map::new();
            match self.random.below(4) {
                0 => drop(entry.insert("fullUrl".into(), json!(format!("urn:uuid:{n}")))),
                1 => drop(entry.insert("fullUrl".into(), json!(format!("https://ehr/fhir/X/{n}")))),
                _ => {}
            }
            entry.insert("resource".into(), resource);
            if self.random.one_in(3) {
                entry.insert("search".into(), json!({"mode": "match"}));
            }
            if self.random.one_in(6) {
                let outcome = self.outcome();
                entry.insert("response".into(), json!({"status": "200", "outcome": outcome}));
            }
            entries.push(Value::Object(entry));
        }
        if self.random.one_in(8) {
            entries.push(json!({"request": {"method": "DELETE", "url": "Basic/x"}}));
        }
        if !entries.is_empty() {
            bundle["entry"] = Value::Array(entries);
        }
        self.depth -= 1;
        bundle
    }

    fn parameters(&mut self) -> Value {
        self.depth += 1;
        let mut list = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            list.push(match self.random.below(4) {
                0 => json!({"name": "r", "resource": self.resource(false)}),
                1 => json!({"name": "p", "part": [{"name": "q", "resource": self.resource(false)}, {"name": "s", "valueString": self.word()}]}),
                2 => json!({"name": "ref", "valueReference": self.reference()}),
                _ => json!({"name": "s", "valueString": self.word()}),
            });
        }
        self.depth -= 1;
        json!({"resourceType": "Parameters", "parameter": list})
    }

    fn outcome(&mut self) -> Value {
        json!({"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational",
            "details": {"text": "plain", "coding": [{"code": "x"}]}, "diagnostics": "plain", "expression": ["a"]}]})
    }

    /// A resource; hidden ones have an id that begins with `h`, or none.
    fn resource(&mut self, contained: bool) -> Value {
        self.depth += 1;
        let kind = *self.random.pick(KINDS);
        if kind == "OperationOutcome" {
            self.depth -= 1;
            return self.outcome();
        }
        let outer = self.hidden;
        let labelled = self.random.one_in(if contained { 40 } else { 5 });
        self.hidden |= labelled;
        let mut map = Map::new();
        map.insert("resourceType".into(), json!(kind));
        if contained || self.random.one_in(2) {
            let id = self.random.below(4);
            map.insert(
                "id".into(),
                json!(if self.hidden && !contained {
                    format!("h{id}")
                } else if contained {
                    format!("c{id}")
                } else {
                    format!("v{id}")
                }),
            );
        }
        let mut by_code = false;
        let mut by_extension = false;
        if labelled {
            match self.random.below(5) {
                0 if kind == "Condition" => by_code = true,
                1 if kind != "Binary" => by_extension = true,
                _ => drop(map.insert("meta".into(), self.secret_meta())),
            }
        } else if self.random.one_in(4) {
            map.insert("meta".into(), json!({"versionId": "1", "security": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": *self.random.pick(&["R", "N"])},
                {"system": ACT, "code": "PROCESSINLINELABEL"}]}));
        }
        self.contain(&mut map, kind, contained);
        self.elements(&mut map, kind);
        if by_code {
            map.insert("code".into(), json!({"coding": [{"system": "urn:oid:2.16.840.1.113883.6.90", "code": "F11.20"}], "text": self.word()}));
        }
        if by_extension {
            map.insert("extension".into(), json!([inline("HIV")]));
        }
        self.hidden = outer;
        self.narrative(&mut map, kind);
        self.depth -= 1;
        Value::Object(map)
    }

    fn secret_meta(&mut self) -> Value {
        let coding = match self.random.below(4) {
            0 => json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActUSPrivacyLaw", "code": "42CFRPart2"}),
            1 => json!({"system": ACT, "code": "HIV"}),
            2 => json!({"system": "urn:unheard", "code": "of"}),
            _ => json!({"system": ACT, "code": "42CFRPart2", "display": self.word()}),
        };
        json!({"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}, coding]})
    }

    fn contain(&mut self, map: &mut Map<String, Value>, kind: &str, contained: bool) {
        if contained || kind == "Binary" || !self.random.one_in(5) {
            return;
        }
        let held: Vec<Value> = (0..1 + self.random.below(2)).map(|_| self.resource(true)).collect();
        // What is contained and labelled labels its container.
        map.insert("contained".into(), Value::Array(held));
    }

    fn narrative(&mut self, map: &mut Map<String, Value>, kind: &str) {
        if kind != "Binary" && self.random.one_in(3) {
            let secret = Value::Object(map.clone()).to_string().contains(CANARY);
            map.insert("text".into(), json!({"status": "generated", "div": if secret { CANARY } else { "plain" }}));
        }
    }

    fn elements(&mut self, map: &mut Map<String, Value>, kind: &str) {
        let put = |map: &mut Map<String, Value>, name: &str, value: Value| drop(map.insert(name.to_owned(), value));
        match kind {
            "Observation" => {
                self.primitive(map, "status", json!("final"));
                put(map, "code", self.concept());
                self.maybe(map, "valueString");
                self.references(map, "hasMember");
                if self.random.one_in(2) {
                    let components: Vec<Value> = (0..1 + self.random.below(3))
                        .map(|_| {
                            let mut component = Map::new();
                            component.insert("code".into(), self.concept());
                            self.maybe(&mut component, "valueString");
                            self.labelled(Value::Object(component))
                        })
                        .collect();
                    put(map, "component", Value::Array(components));
                }
                self.notes(map);
            }
            "Condition" => {
                put(map, "subject", self.reference());
                self.maybe(map, "recordedDate");
                self.references(map, "evidence");
                if let Some(Value::Array(list)) = map.get_mut("evidence") {
                    let details = std::mem::take(list);
                    list.extend(details.into_iter().map(|detail| json!({"detail": [detail]})));
                }
                self.notes(map);
            }
            "Patient" => {
                self.maybe(map, "birthDate");
                let given: Vec<Value> = (0..1 + self.random.below(3)).map(|_| json!("plain")).collect();
                let mut name = Map::new();
                self.primitives(&mut name, "given", given);
                self.maybe(&mut name, "family");
                put(map, "name", json!([self.labelled(Value::Object(name))]));
                if self.random.one_in(6) {
                    put(
                        map,
                        "link",
                        json!([{"other": self.reference(), "type": "seealso"}, {"other": self.reference(), "type": "seealso"}]),
                    );
                }
                self.extensions(map);
            }
            "MedicationRequest" => {
                self.primitive(map, "status", json!("active"));
                put(map, "medicationReference", self.reference());
                put(map, "subject", self.reference());
                self.references(map, "reasonReference");
            }
            "Medication" => put(map, "code", self.concept()),
            "Composition" => {
                put(map, "type", self.concept());
                let sections: Vec<Value> = (0..self.random.below(3)).map(|_| self.section(0)).collect();
                if !sections.is_empty() {
                    put(map, "section", Value::Array(sections));
                }
            }
            "List" => {
                put(map, "mode", json!("working"));
                let entries: Vec<Value> = (0..self.random.below(4))
                    .map(|_| json!({"item": self.reference(), "flag": {"text": "plain"}}))
                    .collect();
                if !entries.is_empty() {
                    put(map, "entry", Value::Array(entries));
                }
            }
            "Provenance" => {
                let targets: Vec<Value> = (0..1 + self.random.below(2)).map(|_| self.reference()).collect();
                put(map, "target", Value::Array(targets));
                put(map, "recorded", json!("2020-01-01T00:00:00Z"));
            }
            "Encounter" => {
                self.references(map, "diagnosis");
                if let Some(Value::Array(list)) = map.get_mut("diagnosis") {
                    let all = std::mem::take(list);
                    list.extend(all.into_iter().map(|condition| json!({"condition": condition})));
                }
                self.extensions(map);
            }
            "DocumentReference" => {
                let url = format!("Binary/{}", self.random.pick(&["hx", "other", "else"]));
                let outer = self.hidden;
                self.hidden |= url == "Binary/hx";
                let attachment = json!({"contentType": "text/plain", "url": url, "title": self.word()});
                self.hidden = outer;
                put(
                    map,
                    "content",
                    json!([{"attachment": attachment}, {"attachment": {"contentType": "text/plain", "data": "AAAA"}}]),
                );
            }
            "Group" => {
                put(map, "quantity", json!(2));
                put(map, "member", json!([{"entity": self.reference()}, {"entity": self.reference()}]));
            }
            "Binary" => put(map, "data", json!("AAAA")),
            _ => {
                put(map, "code", self.concept());
                self.extensions(map);
                if self.random.one_in(5) {
                    put(map, "author", self.reference());
                }
            }
        }
        if kind != "Binary" && self.random.one_in(25) {
            let value = self.labelled(json!({"url": "urn:mod", "valueString": "plain"}));
            map.insert("modifierExtension".into(), json!([value]));
        }
    }

    fn section(&mut self, depth: usize) -> Value {
        let mut section = Map::new();
        section.insert("title".into(), json!("plain"));
        self.references(&mut section, "entry");
        if depth < 2 && self.random.one_in(3) {
            section.insert("section".into(), json!([self.section(depth + 1)]));
        }
        let secret = Value::Object(section.clone()).to_string().contains(CANARY);
        section.insert("text".into(), json!({"status": "generated", "div": if secret { CANARY } else { "plain" }}));
        self.labelled(Value::Object(section))
    }

    fn maybe(&mut self, map: &mut Map<String, Value>, name: &str) {
        if self.random.one_in(2) {
            let value = if name.ends_with("Date") { json!("2020-02-03") } else { json!(self.word()) };
            self.primitive(map, name, value);
        }
    }

    /// A primitive, sometimes with a sibling, sometimes labelled.
    fn primitive(&mut self, map: &mut Map<String, Value>, name: &str, value: Value) {
        let sibling = self.sibling();
        let secret = sibling.to_string().contains("HIV");
        let value = if secret && name != "status" { json!(CANARY) } else { value };
        if self.random.one_in(2) || sibling.is_null() {
            map.insert(name.to_owned(), value);
            if !sibling.is_null() {
                map.insert(format!("_{name}"), sibling);
            }
        } else {
            map.insert(format!("_{name}"), sibling);
            map.insert(name.to_owned(), value);
        }
    }

    fn sibling(&mut self) -> Value {
        match self.random.below(12) {
            0 => json!({"extension": [inline("HIV")]}),
            1 => json!({"extension": [inline("N")]}),
            2 => json!({"id": "x"}),
            3 => json!({"extension": [{"url": "urn:r", "valueReference": self.reference()}]}),
            _ => Value::Null,
        }
    }

    fn primitives(&mut self, map: &mut Map<String, Value>, name: &str, values: Vec<Value>) {
        let siblings: Vec<Value> = values.iter().map(|_| self.sibling()).collect();
        let hide =
            |(value, sibling): (Value, &Value)| if sibling.to_string().contains("HIV") { json!(CANARY) } else { value };
        let values: Vec<Value> = values.into_iter().zip(&siblings).map(hide).collect();
        map.insert(name.to_owned(), Value::Array(values));
        if siblings.iter().any(|sibling| !sibling.is_null()) {
            map.insert(format!("_{name}"), Value::Array(siblings));
        }
    }

    fn concept(&mut self) -> Value {
        let outer = self.hidden;
        let labelled = self.random.one_in(25);
        self.hidden |= labelled;
        let mut concept = json!({"coding": [{"system": "http://loinc.org", "code": "1-1"}], "text": self.word()});
        if labelled {
            concept["extension"] = json!([inline("HIV")]);
        }
        self.hidden = outer;
        concept
    }

    /// Gives an element a label now and then; its texts become canaries.
    fn labelled(&mut self, element: Value) -> Value {
        if !self.random.one_in(8) {
            return element;
        }
        let mut secret: Value =
            serde_json::from_str(&element.to_string().replace("plain", CANARY).replace("wórd", CANARY)).unwrap();
        secret["extension"] = json!([inline(["HIV", "never-heard"][self.random.below(2)])]);
        secret
    }

    fn notes(&mut self, map: &mut Map<String, Value>) {
        if self.random.one_in(3) {
            let note = json!({"authorReference": self.reference(), "text": self.word()});
            let other = json!({"text": self.word()});
            map.insert("note".into(), json!([self.labelled(note), other]));
        }
    }

    fn extensions(&mut self, map: &mut Map<String, Value>) {
        if self.random.one_in(3) {
            let inner = self.labelled(json!({"url": "urn:b", "valueString": "plain"}));
            let value = self.labelled(json!({"text": "plain"}));
            map.insert(
                "extension".into(),
                json!([
                    {"url": "urn:a", "extension": [inner]},
                    {"url": "urn:c", "valueAddress": value},
                    {"url": "urn:d", "valueReference": self.reference()},
                ]),
            );
        }
    }

    fn references(&mut self, map: &mut Map<String, Value>, name: &str) {
        let count = self.random.below(4);
        if count > 0 {
            map.insert(name.to_owned(), Value::Array((0..count).map(|_| self.reference()).collect()));
        }
    }

    fn reference(&mut self) -> Value {
        let kind = *self.random.pick(KINDS);
        let to = match self.random.below(8) {
            0 => format!("{kind}/h{}", self.random.below(4)),
            1 => format!("https://ehr/fhir/{kind}/h{}/_history/1", self.random.below(4)),
            2 => format!("https://elsewhere/fhir/{kind}/v1"),
            3 => format!("urn:uuid:{}", self.random.below(4)),
            4 => format!("#c{}", self.random.below(4)),
            _ => format!("{kind}/v{}", self.random.below(4)),
        };
        let secret = to.contains("/h");
        json!({"reference": to, "display": if secret { CANARY.to_owned() } else { self.word() }})
    }
}

fn inline(code: &str) -> Value {
    let system = if code == "N" { "http://terminology.hl7.org/CodeSystem/v3-Confidentiality" } else { ACT };
    json!({"url": INLINE, "valueCoding": {"system": system, "code": code}})
}
