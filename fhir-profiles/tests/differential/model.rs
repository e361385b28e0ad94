//! The rules of redaction, read plainly on a parsed document: slow, small, and nothing of the engine's in it.
//!
//! Resources are named by their JSON pointer. What is withheld grows until nothing more must go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

type Names = BTreeSet<&'static str>;

const INLINE: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";

/// What may be seen; `None` for nothing.
pub(crate) fn redact(document: &Value, marked: bool, full: bool) -> Option<Value> {
    let mut model = Model { marked, full, resources: BTreeMap::new(), hidden: BTreeSet::new() };
    model.find(document, String::new(), None, Place::Root);
    model.spread_labels();
    for (at, resource) in &model.resources {
        let transport = at.is_empty() && is_transport(resource.value);
        if !transport && resource.labels.iter().any(|l| ["P2", "HIV", "UNKNOWN"].contains(l)) {
            model.hidden.insert(at.clone());
        }
    }
    loop {
        let found = Found::default();
        let shown = model.resource(document, "", &found);
        let more = found.gone.into_inner();
        let before = model.hidden.len();
        model.hidden.extend(more);
        shown.as_ref()?;
        if model.hidden.len() == before {
            return shown;
        }
    }
}

fn is_transport(value: &Value) -> bool {
    value["resourceType"] == "Bundle"
        && ["searchset", "history", "batch-response", "transaction-response"].iter().any(|t| value["type"] == *t)
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Contained,
    Elsewhere,
}

struct Resource<'v> {
    value: &'v Value,
    parent: Option<String>,
    place: Place,
    labels: Names,
    full_url: Option<&'v str>,
}

struct Model<'v> {
    marked: bool,
    full: bool,
    resources: BTreeMap<String, Resource<'v>>,
    hidden: BTreeSet<String>,
}

/// What one pass over the document found out.
#[derive(Default)]
struct Found {
    /// Resources that cannot stand without what went, or stood in it.
    gone: std::cell::RefCell<BTreeSet<String>>,
    /// Resources that lack something.
    reduced: std::cell::RefCell<BTreeSet<String>>,
    /// Something went, anywhere.
    any: std::cell::Cell<bool>,
}

fn label(coding: &Value) -> &'static str {
    let system = coding["system"].as_str().unwrap_or_default();
    let code = coding["code"].as_str().unwrap_or_default();
    match (system.rsplit('/').next().unwrap_or_default(), code) {
        ("v3-ActCode" | "v3-ActUSPrivacyLaw", "42CFRPart2") => "P2",
        ("v3-ActCode", "HIV") => "HIV",
        ("v3-ActCode", "PROCESSINLINELABEL") => "PROCESS",
        ("v3-Confidentiality", "R") => "R",
        ("v3-Confidentiality", "N") => "N",
        ("v3-ObservationValue", "REDACTED") => "REDACTED",
        _ => "UNKNOWN",
    }
}

/// The labels that the extensions of an element give it.
fn inline(element: &Value) -> Names {
    let lists = ["extension", "modifierExtension"].iter().filter_map(|name| element.get(*name)?.as_array());
    lists
        .flatten()
        .filter(|extension| extension["url"] == INLINE)
        .map(|extension| label(&extension["valueCoding"]))
        .collect()
}

fn inline_anywhere(value: &Value) -> Names {
    match value {
        Value::Array(items) => items.iter().flat_map(inline_anywhere).collect(),
        Value::Object(map) => inline(value).into_iter().chain(map.values().flat_map(inline_anywhere)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Names::new(),
    }
}

fn secret(labels: &Names) -> bool {
    labels.iter().any(|label| ["P2", "HIV", "UNKNOWN"].contains(label))
}

impl<'v> Model<'v> {
    /// Lists every resource with its own labels.
    fn find(&mut self, value: &'v Value, at: String, parent: Option<String>, place: Place) {
        let mut labels: Names = value["meta"]["security"].as_array().into_iter().flatten().map(label).collect();
        labels.extend(inline(value));
        if has_listed_code(value) {
            labels.insert("P2");
        }
        let full_url = None;
        self.resources.insert(at.clone(), Resource { value, parent, place, labels, full_url });
        let below = |step: &str, n: usize, end: &str| format!("{at}/{step}/{n:04}{end}");
        for (n, item) in value["contained"].as_array().into_iter().flatten().enumerate() {
            self.find(item, below("contained", n, ""), Some(at.clone()), Place::Contained);
        }
        match value["resourceType"].as_str() {
            Some("Bundle") => {
                for (n, entry) in value["entry"].as_array().into_iter().flatten().enumerate() {
                    if let Some(resource) = entry.get("resource") {
                        let at_entry = below("entry", n, "/resource");
                        self.find(resource, at_entry.clone(), Some(at.clone()), Place::Elsewhere);
                        self.resources.get_mut(&at_entry).unwrap().full_url = entry["fullUrl"].as_str();
                    }
                    if let Some(outcome) = entry["response"].get("outcome") {
                        self.find(outcome, below("entry", n, "/response/outcome"), Some(at.clone()), Place::Elsewhere);
                    }
                }
            }
            Some("Parameters") => self.find_in_parameters(&value["parameter"], format!("{at}/parameter"), &at),
            _ => {}
        }
    }

    fn find_in_parameters(&mut self, list: &'v Value, at: String, parent: &str) {
        for (n, parameter) in list.as_array().into_iter().flatten().enumerate() {
            if let Some(resource) = parameter.get("resource") {
                self.find(resource, format!("{at}/{n:04}/resource"), Some(parent.to_owned()), Place::Elsewhere);
            }
            self.find_in_parameters(&parameter["part"], format!("{at}/{n:04}/part"), parent);
        }
    }

    fn spread_labels(&mut self) {
        self.spread();
        let envelope = &self.resources[""];
        if !is_transport(envelope.value) {
            return;
        }
        // A high-water mark: what an entry explains says nothing of the others.
        let mut within: Names = envelope.value.get("entry").map(inline_anywhere).unwrap_or_default();
        within.extend(self.resources.iter().filter(|(at, _)| !at.is_empty()).flat_map(|(_, r)| r.labels.iter()));
        let sensitive = within.contains("P2") || within.contains("HIV");
        let explained = |label: &str| match label {
            "R" => within.contains("R") || sensitive,
            "N" => within.contains("R") || within.contains("N") || sensitive,
            "UNKNOWN" => false,
            "PROCESS" | "REDACTED" => true,
            other => within.contains(other),
        };
        let left: Names = envelope.labels.iter().filter(|label| !explained(label)).copied().collect();
        for (at, resource) in &mut self.resources {
            if !at.is_empty() {
                resource.labels.extend(&left);
            }
        }
        self.spread();
    }

    fn spread(&mut self) {
        let transport = is_transport(self.resources[""].value);
        loop {
            let before: usize = self.resources.values().map(|r| r.labels.len()).sum();
            let protects = |labels: &Names| {
                labels.iter().filter(|l| !["PROCESS", "REDACTED"].contains(l)).copied().collect::<Names>()
            };
            let about = |labels: &Names| {
                labels.iter().filter(|l| ["P2", "HIV", "UNKNOWN"].contains(l)).copied().collect::<Names>()
            };
            let mut gained: Vec<(String, Names)> = Vec::new();
            for (at, resource) in &self.resources {
                if let Some(parent) = resource.parent.as_ref().filter(|parent| !(transport && parent.is_empty())) {
                    gained.push((at.clone(), protects(&self.resources[parent].labels)));
                    if resource.place == Place::Contained {
                        gained.push((parent.clone(), protects(&resource.labels)));
                    }
                }
                if resource.place != Place::Contained && resource.value.get("id").is_some() {
                    for (other, twin) in &self.resources {
                        let same = |name: &str| twin.value.get(name) == resource.value.get(name);
                        if twin.place != Place::Contained && same("id") && same("resourceType") {
                            gained.push((other.clone(), protects(&resource.labels)));
                        }
                    }
                }
                for text in references(resource.value) {
                    let text = local(&text);
                    for (other, target) in &self.resources {
                        if target.place == Place::Contained || identity(target.value).as_deref() != Some(text) {
                            continue;
                        }
                        if target.value["resourceType"] == "Encounter" {
                            gained.push((at.clone(), about(&target.labels)));
                        }
                        if target.value["resourceType"] == "Binary"
                            && resource.value["resourceType"] == "DocumentReference"
                        {
                            gained.push((other.clone(), about(&resource.labels)));
                        }
                    }
                }
            }
            for (at, labels) in gained {
                self.resources.get_mut(&at).unwrap().labels.extend(labels);
            }
            if self.resources.values().map(|r| r.labels.len()).sum::<usize>() == before {
                return;
            }
        }
    }

    fn is_hidden(&self, at: &str) -> bool {
        let mut at = Some(at.to_owned());
        while let Some(here) = at {
            if self.hidden.contains(&here) {
                return true;
            }
            at = self.resources[&here].parent.clone();
        }
        false
    }

    fn hides_reference(&self, text: &str, from: &str) -> bool {
        if let Some(id) = text.strip_prefix('#') {
            let place = self.resources[from].place;
            let container =
                if place == Place::Contained { self.resources[from].parent.clone().unwrap() } else { from.to_owned() };
            return self.resources.iter().any(|(at, r)| {
                r.place == Place::Contained
                    && r.parent.as_ref() == Some(&container)
                    && (r.value["id"] == id || r.value.get("id").is_none())
                    && self.is_hidden(at)
            });
        }
        let text = local(text);
        let here: Vec<&String> = self
            .resources
            .iter()
            .filter(|(_, r)| {
                r.place != Place::Contained && (identity(r.value).as_deref() == Some(text) || r.full_url == Some(text))
            })
            .map(|(at, _)| at)
            .collect();
        if here.is_empty() {
            let id = text.rsplit('/').next().unwrap_or_default();
            return !text.starts_with("urn:") && id.starts_with('h');
        }
        here.into_iter().any(|at| self.is_hidden(at))
    }

    /// A resource as it may be seen.
    fn resource(&self, value: &Value, at: &str, found: &Found) -> Option<Value> {
        if self.is_hidden(at) {
            found.any.set(true);
            return None;
        }
        if is_our_outcome(value) {
            return Some(value.clone());
        }
        let kind = value["resourceType"].as_str().unwrap();
        let pass = Pass { model: self, found, at, kind, reduced: std::cell::Cell::new(false) };
        let shown = pass.object(value, kind, at);
        if shown.is_none() {
            found.gone.borrow_mut().insert(at.to_owned());
            found.any.set(true);
        }
        if pass.reduced.get() {
            found.any.set(true);
            found.reduced.borrow_mut().insert(at.to_owned());
        }
        shown
    }
}

fn is_our_outcome(value: &Value) -> bool {
    value["resourceType"] == "OperationOutcome" && value["issue"][0]["code"] == "suppressed"
}

fn identity(resource: &Value) -> Option<String> {
    Some(format!("{}/{}", resource["resourceType"].as_str()?, resource["id"].as_str()?))
}

/// A reference to this server, without its base and version.
fn local(text: &str) -> &str {
    match text.strip_prefix("https://ehr/fhir/") {
        Some(rest) => rest.split("/_history").next().unwrap_or_default(),
        None => text,
    }
}

/// References of a resource, outside the resources it holds.
fn references(value: &Value) -> Vec<String> {
    fn walk(value: &Value, out: &mut Vec<String>, root: bool) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, out, false)),
            Value::Object(map) if root || !map.contains_key("resourceType") => {
                out.extend(map.get("reference").and_then(Value::as_str).map(str::to_owned));
                if map.contains_key("contentType") {
                    out.extend(map.get("url").and_then(Value::as_str).map(str::to_owned));
                }
                map.values().for_each(|member| walk(member, out, false));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
        }
    }
    let mut out = Vec::new();
    walk(value, &mut out, true);
    out
}

fn has_listed_code(value: &Value) -> bool {
    fn walk(value: &Value, root: bool) -> bool {
        match value {
            Value::Array(items) => items.iter().any(|item| walk(item, false)),
            Value::Object(map) if root || !map.contains_key("resourceType") => {
                map.get("code").is_some_and(|code| code == "F11.20") || map.values().any(|member| walk(member, false))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
        }
    }
    walk(value, true)
}

/// (required, modifier) of the elements that the generator writes, from the R4 pages.
fn bond(kind: &str, name: &str) -> (bool, bool) {
    match (kind, name) {
        ("Observation" | "MedicationRequest", "status") => (true, true),
        ("List", "mode") => (true, true),
        ("Observation" | "Observation.component" | "Basic", "code") => (true, false),
        ("Condition", "subject") | ("MedicationRequest", "subject" | "medicationReference") => (true, false),
        ("Composition", "type") | ("Provenance", "target" | "recorded") => (true, false),
        ("List.entry", "item") | ("Encounter.diagnosis", "condition") | ("Group.member", "entity") => (true, false),
        ("DocumentReference", "content") | ("DocumentReference.content", "attachment") => (true, false),
        ("Patient", "link") | (_, "modifierExtension") => (false, true),
        ("Patient.link", "other" | "type") | ("Annotation", "text") | ("Extension", "url") => (true, false),
        ("Parameters.parameter" | "Parameters.parameter.part", "name") => (true, false),
        (_, "resourceType") => (true, false),
        _ => (false, false),
    }
}

fn kind_below(kind: &str, name: &str) -> String {
    match name {
        "extension" | "modifierExtension" => "Extension".into(),
        "note" => "Annotation".into(),
        "section" => "Composition.section".into(),
        "part" => "Parameters.parameter.part".into(),
        _ => format!("{kind}.{name}"),
    }
}

fn mask() -> Value {
    json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]})
}

/// One resource being read.
struct Pass<'m, 'v> {
    model: &'m Model<'v>,
    found: &'m Found,
    at: &'m str,
    kind: &'m str,
    reduced: std::cell::Cell<bool>,
}

/// A member after its fate: what is left of the value and of its sibling.
struct Left {
    value: Option<Value>,
    sibling: Option<Value>,
    /// The member as a whole went.
    gone: bool,
}

impl Pass<'_, '_> {
    /// An object as it may be seen. Resources that stand in one that goes are withheld with it.
    fn object(&self, value: &Value, kind: &str, at: &str) -> Option<Value> {
        let shown = self.rest(value, kind, at);
        if shown.is_none() && at != self.at {
            let below = format!("{at}/");
            let lost = self.model.resources.keys().filter(|resource| resource.starts_with(&below));
            self.found.gone.borrow_mut().extend(lost.cloned());
        }
        shown
    }

    fn rest(&self, value: &Value, kind: &str, at: &str) -> Option<Value> {
        let root = at == self.at;
        if !root && (secret(&inline(value)) || self.refers_to_hidden(value)) {
            return None;
        }
        let map = value.as_object().unwrap();
        let outer = self.reduced.replace(false);
        let mut fates: BTreeMap<String, Left> = BTreeMap::new();
        for key in map.keys() {
            let name = key.strip_prefix('_').unwrap_or(key);
            if fates.contains_key(name) {
                continue;
            }
            let (member, sibling) = (map.get(name), map.get(&format!("_{name}")));
            let mut left = if root && name == "meta" {
                Left { value: member.cloned(), sibling: None, gone: false }
            } else if self.model.full && self.kind == "OperationOutcome" && is_quoting(kind, name) {
                Left { value: None, sibling: None, gone: true }
            } else {
                self.member(member, sibling, kind, name, at)
            };
            if left.gone && !is_quoting(kind, name) {
                let (required, modifier) = bond(kind, name);
                if required || modifier {
                    let maskable = kind != "Extension"
                        && !["modifierExtension", "resourceType"].contains(&name)
                        && !(kind == "Provenance" && name == "target");
                    if !self.model.marked || !maskable {
                        self.reduced.set(outer);
                        return None;
                    }
                    self.reduced.set(true);
                    left = masked(member, sibling);
                } else {
                    self.reduced.set(true);
                }
            }
            fates.insert(name.to_owned(), left);
        }
        let stands = self.settle(map, kind, root, &mut fates);
        if !stands || (!map.is_empty() && fates.values().all(|left| left.gone)) {
            self.reduced.set(outer);
            return None;
        }
        let mut shown = Map::new();
        for key in map.keys() {
            let (name, is_sibling) = key.strip_prefix('_').map_or((key.as_str(), false), |name| (name, true));
            let left = &fates[name];
            let kept = if left.gone {
                None
            } else if is_sibling {
                left.sibling.clone()
            } else {
                left.value.clone()
            };
            if let Some(kept) = kept {
                shown.insert(key.clone(), kept);
            }
        }
        if root {
            self.finish(&mut shown);
        }
        self.reduced.set(self.reduced.get() || outer);
        Some(Value::Object(shown))
    }

    fn refers_to_hidden(&self, value: &Value) -> bool {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let hides = |text: &str| self.model.hides_reference(text, self.at);
        text("reference").is_some_and(hides) || (value.get("contentType").is_some() && text("url").is_some_and(hides))
    }

    fn member(&self, value: Option<&Value>, sibling: Option<&Value>, kind: &str, name: &str, at: &str) -> Left {
        let below = kind_below(kind, name);
        let here = format!("{at}/{name}");
        if let Some(Value::Array(items)) = value {
            return self.list(items, sibling.and_then(Value::as_array), &below, name, &here, kind);
        }
        let mut left = Left { value: value.cloned(), sibling: sibling.cloned(), gone: false };
        if let Some(object @ Value::Object(_)) = value {
            left.value = self.value(object, &below, &here);
            left.gone = left.value.is_none();
        }
        if let (false, Some(sibling @ Value::Object(_))) = (left.gone, sibling) {
            if secret(&inline(sibling)) {
                left.gone = true;
            } else {
                left.sibling = self.object(sibling, "Element", &format!("{at}/_{name}"));
                if left.sibling.is_none() {
                    self.reduced.set(true);
                    left.gone = value.is_none();
                }
            }
        }
        left
    }

    /// An object, or the resource that stands there.
    fn value(&self, value: &Value, kind: &str, at: &str) -> Option<Value> {
        if self.model.resources.contains_key(at) {
            self.model.resource(value, at, self.found)
        } else {
            self.object(value, kind, at)
        }
    }

    fn list(
        &self,
        items: &[Value],
        siblings: Option<&Vec<Value>>,
        below: &str,
        name: &str,
        at: &str,
        kind: &str,
    ) -> Left {
        let by_position = below == "Bundle.entry" && {
            let bundle = self.model.resources[self.at].value;
            bundle["type"] == "batch-response"
        };
        let (mut values, mut kept_siblings, mut went) = (Vec::new(), Vec::new(), 0);
        for (n, item) in items.iter().enumerate() {
            let sibling = siblings.and_then(|list| list.get(n));
            let mut shown = Some(item.clone());
            if item.is_object() {
                shown = self.value(item, below, &format!("{at}/{n:04}"));
            }
            let mut shown_sibling = sibling.cloned();
            if let (Some(_), Some(object @ Value::Object(_))) = (&shown, sibling) {
                if secret(&inline(object)) {
                    shown = None;
                } else if let Some(left) = self.object(object, "Element", &format!("{at}/_{n:04}")) {
                    shown_sibling = Some(left);
                } else {
                    self.reduced.set(true);
                    shown_sibling = Some(Value::Null);
                }
            }
            match shown {
                Some(shown) => {
                    values.push(shown);
                    kept_siblings.extend(shown_sibling);
                }
                None => {
                    went += 1;
                    if by_position {
                        values.push(json!({"response": {"status": "404 Not Found"}}));
                    }
                }
            }
        }
        let all_gone = went == items.len() && went > 0;
        let (_, modifier) = bond(kind, name);
        if !by_position && (all_gone || (modifier && went > 0)) {
            return Left { value: None, sibling: None, gone: true };
        }
        if went > 0 {
            self.reduced.set(true);
        }
        let sibling = (!kept_siblings.iter().all(Value::is_null)).then_some(Value::Array(kept_siblings));
        let sibling = if went == 0 && sibling.is_none() {
            siblings.filter(|s| s.iter().all(Value::is_null)).map(|s| json!(s))
        } else {
            sibling
        };
        Left { value: Some(Value::Array(values)), sibling, gone: false }
    }

    /// What else goes; `false` if the object cannot stand.
    fn settle(&self, map: &Map<String, Value>, kind: &str, root: bool, fates: &mut BTreeMap<String, Left>) -> bool {
        let gone = |fates: &BTreeMap<String, Left>, name: &str| fates.get(name).is_some_and(|left| left.gone);
        let drop = |fates: &mut BTreeMap<String, Left>, name: &str| {
            if let Some(left) = fates.get_mut(name) {
                left.gone = true;
            }
        };
        match kind {
            "Extension"
                if fates.iter().any(|(name, left)| left.gone && (name.starts_with("value") || name == "extension")) =>
            {
                return false;
            }
            "Bundle.entry" if gone(fates, "resource") => return false,
            "Parameters.parameter" | "Parameters.parameter.part" if fates.values().any(|left| left.gone) => {
                return false;
            }
            "Composition.section" if self.reduced.get() => {
                drop(fates, "text");
                let left = |name: &str| map.contains_key(name) && !gone(fates, name);
                if !left("entry") && !left("section") {
                    return false;
                }
            }
            "Group" if root && self.reduced.get() => drop(fates, "quantity"),
            _ => {}
        }
        if root && self.kind == "Bundle" {
            if map.get("type").is_some_and(|t| t == "document" || t == "message") {
                let first = map.get("entry").and_then(|list| list.get(0)?.get("resource"));
                let at = format!("{}/entry/0000/resource", self.at);
                if first.is_some() && (self.model.is_hidden(&at) || self.found.gone.borrow().contains(&at)) {
                    return false;
                }
            }
            if self.model.full {
                drop(fates, "total");
            }
            if self.reduced.get() {
                drop(fates, "signature");
            }
            if let Some(left) = fates.get_mut("link") {
                let links = left.value.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
                let kept: Vec<Value> = links.into_iter().filter(|link| link["relation"] == "self").collect();
                left.gone = kept.is_empty();
                left.value = Some(Value::Array(kept));
            }
        }
        if root {
            let below = format!("{}/contained/", self.at);
            if self.found.reduced.borrow().iter().any(|at| at.starts_with(&below)) {
                self.reduced.set(true);
            }
            if self.reduced.get() {
                drop(fates, "text");
            }
        }
        true
    }

    /// `meta`, and the outcome that says that information may be missing.
    fn finish(&self, shown: &mut Map<String, Value>) {
        let place = self.model.resources[self.at].place;
        let envelope = self.at.is_empty() && is_transport(self.model.resources[""].value);
        let empty = self.model.full && self.model.resources.len() == 1;
        if self.reduced.get() || envelope && (empty || self.found.any.get()) {
            let mut meta = shown.get("meta").and_then(Value::as_object).cloned().unwrap_or_default();
            let part2 = self.model.resources[self.at].labels.contains("P2") && !envelope;
            let labels = meta.get("security").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut kept: Vec<Value> = labels
                .into_iter()
                .filter(|coding| match label(coding) {
                    "N" | "REDACTED" => true,
                    "R" | "P2" => part2,
                    _ => false,
                })
                .collect();
            let said = kept.iter().any(|coding| label(coding) == "REDACTED");
            if self.model.marked && self.reduced.get() && !said && place != Place::Contained {
                kept.push(
                    json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "REDACTED"}),
                );
            }
            if kept.is_empty() {
                meta.shift_remove("security");
            } else {
                meta.insert("security".into(), Value::Array(kept));
            }
            if meta.is_empty() {
                shown.shift_remove("meta");
            } else {
                shown.insert("meta".into(), Value::Object(meta));
            }
        }
        if self.at.is_empty() && self.model.full && self.kind == "Bundle" {
            self.advise(shown);
        }
    }

    fn advise(&self, shown: &mut Map<String, Value>) {
        let text = match (self.model.marked, self.reduced.get() || self.found.any.get()) {
            (false, _) => "This source may withhold information by law; absence here is not evidence of absence.",
            (true, true) => "Some information was withheld.",
            (true, false) => return,
        };
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "information", "code": "suppressed", "details": {"text": text}}]});
        let entry = match shown["type"].as_str() {
            Some("searchset") => json!({"resource": outcome, "search": {"mode": "outcome"}}),
            Some("document") => json!({"resource": outcome}),
            _ => return,
        };
        match shown.get_mut("entry").and_then(Value::as_array_mut) {
            Some(entries) => entries.push(entry),
            None => drop(shown.insert("entry".into(), json!([entry]))),
        }
    }
}

/// Members of an outcome that quote.
fn is_quoting(kind: &str, name: &str) -> bool {
    match kind {
        "OperationOutcome" => name == "text",
        "OperationOutcome.issue" => ["diagnostics", "location", "expression"].contains(&name),
        "OperationOutcome.issue.details" => name == "text",
        _ => false,
    }
}

fn masked(value: Option<&Value>, sibling: Option<&Value>) -> Left {
    match value {
        Some(Value::Object(_)) => Left { value: Some(mask()), sibling: None, gone: false },
        Some(Value::Array(items)) if items.iter().any(Value::is_object) => {
            Left { value: Some(json!([mask()])), sibling: None, gone: false }
        }
        Some(Value::Array(_)) => Left { value: Some(json!([null])), sibling: Some(json!([mask()])), gone: false },
        _ => Left { value: None, sibling: sibling.map(|_| mask()), gone: false },
    }
}
