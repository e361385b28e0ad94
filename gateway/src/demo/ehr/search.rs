//! Which resources a query finds, and in which pages: the part of R4 search that the sample EHR knows.

use serde_json::Value;

use super::store::{Key, Store};

/// How a parameter reads the element that it names.
#[derive(Clone, Copy)]
enum Kind {
    Token,
    Reference,
    Date,
    Text,
}

/// (parameter, element path, kind). The path walks through arrays. One parameter may have several rows.
const PARAMETERS: &[(&str, &str, Kind)] = &[
    ("_id", "id", Kind::Token),
    ("_security", "meta.security", Kind::Token),
    ("_tag", "meta.tag", Kind::Token),
    ("_lastUpdated", "meta.lastUpdated", Kind::Date),
    ("identifier", "identifier", Kind::Token),
    ("patient", "subject", Kind::Reference),
    ("patient", "patient", Kind::Reference),
    ("subject", "subject", Kind::Reference),
    ("code", "code", Kind::Token),
    ("code", "medicationCodeableConcept", Kind::Token),
    ("category", "category", Kind::Token),
    ("status", "status", Kind::Token),
    ("clinical-status", "clinicalStatus", Kind::Token),
    ("type", "type", Kind::Token),
    ("class", "class", Kind::Token),
    ("intent", "intent", Kind::Token),
    ("encounter", "encounter", Kind::Reference),
    ("date", "effectiveDateTime", Kind::Date),
    ("date", "period.start", Kind::Date),
    ("date", "date", Kind::Date),
    ("onset-date", "onsetDateTime", Kind::Date),
    ("recorded-date", "recordedDate", Kind::Date),
    ("authoredon", "authoredOn", Kind::Date),
    ("birthdate", "birthDate", Kind::Date),
    ("gender", "gender", Kind::Token),
    ("name", "name", Kind::Text),
    ("family", "name.family", Kind::Text),
    ("given", "name.given", Kind::Text),
    ("general-practitioner", "generalPractitioner", Kind::Reference),
    ("service-provider", "serviceProvider", Kind::Reference),
    ("performer", "performer", Kind::Reference),
    ("requester", "requester", Kind::Reference),
    ("asserter", "asserter", Kind::Reference),
    ("author", "author", Kind::Reference),
    ("custodian", "custodian", Kind::Reference),
    ("organization", "managingOrganization", Kind::Reference),
    ("organization", "organization", Kind::Reference),
    ("target", "target", Kind::Reference),
    ("entry", "section.entry", Kind::Reference),
    ("item", "entry.item", Kind::Reference),
    ("location", "content.attachment.url", Kind::Token),
];

/// Parameters that shape the answer.
const CONTROL: &[&str] =
    &["_count", "_include", "_revinclude", "_sort", "_total", "_elements", "_summary", "_format", "_pretty"];

/// Why a query is refused.
pub(crate) struct Refused(pub(crate) String);

/// What a query found.
pub(crate) struct Found {
    pub(crate) matches: Vec<Key>,
    pub(crate) count: usize,
}

/// Finds what matches all parameters. With `strict`, an unknown parameter is refused (`Prefer: handling=strict`);
/// otherwise it is ignored, as servers do, which widens the result.
pub(crate) fn search(
    store: &Store,
    kind: &str,
    query: &[(String, String)],
    base: &str,
    strict: bool,
) -> Result<Found, Refused> {
    let mut matches: Vec<(&Key, &Value)> = store.living(kind).collect();
    let mut count = 20;
    for (name, value) in query {
        if name == "_count" {
            count = value.parse::<usize>().map_err(|_| Refused("_count is not a number".to_owned()))?.clamp(1, 100);
        } else if CONTROL.contains(&name.as_str()) {
        } else if known(name) {
            matches.retain(|(_, resource)| fits(resource, name, value, base));
        } else if strict {
            return Err(Refused(format!("search parameter {name} is not known to this server")));
        }
    }
    Ok(Found { matches: matches.into_iter().map(|(key, _)| key.clone()).collect(), count })
}

/// What `_include` and `_revinclude` add to a page, each once, nothing that is in the page.
pub(crate) fn includes(store: &Store, query: &[(String, String)], page: &[Key]) -> Vec<Key> {
    let mut added: Vec<Key> = Vec::new();
    for (name, value) in query {
        let mut parts = value.split(':');
        let (Some(source), Some(parameter)) = (parts.next(), parts.next()) else { continue };
        match name.split(':').next() {
            Some("_include") => {
                for (kind, id) in page.iter().filter(|(kind, _)| kind == source) {
                    let resource = store.current(kind, id).and_then(|version| version.resource.as_ref());
                    let targets = resource.map(|resource| references(resource, parameter)).unwrap_or_default();
                    added.extend(targets.iter().filter_map(|target| split(target)));
                }
            }
            Some("_revinclude") => {
                let names: Vec<String> = page.iter().map(|(kind, id)| format!("{kind}/{id}")).collect();
                let sources = store.living(source);
                let pointing = sources.filter(|(_, resource)| {
                    references(resource, parameter).iter().any(|target| names.contains(target))
                });
                added.extend(pointing.map(|(key, _)| key.clone()));
            }
            _ => {}
        }
    }
    added.retain(|(kind, id)| store.current(kind, id).is_some_and(|version| version.resource.is_some()));
    added.sort();
    added.dedup();
    added.retain(|key| !page.contains(key));
    added
}

fn known(name: &str) -> bool {
    let bare = name.split(':').next().unwrap_or(name);
    PARAMETERS.iter().any(|(known, ..)| *known == bare)
}

fn fits(resource: &Value, name: &str, value: &str, base: &str) -> bool {
    let (bare, modifier) = name.split_once(':').map_or((name, None), |(bare, modifier)| (bare, Some(modifier)));
    let rows = PARAMETERS.iter().filter(|(known, ..)| *known == bare);
    let positive = rows
        .flat_map(|(_, path, kind)| elements(resource, path).into_iter().map(move |e| (e, *kind)))
        .any(|(element, kind)| value.split(',').any(|wanted| matches_one(element, kind, wanted, modifier, base)));
    if modifier == Some("not") { !positive } else { positive }
}

fn matches_one(element: &Value, kind: Kind, wanted: &str, modifier: Option<&str>, base: &str) -> bool {
    match kind {
        Kind::Token => codings(element).iter().any(|(system, code)| match wanted.split_once('|') {
            Some((s, c)) => (s.is_empty() || *system == Some(s)) && (c.is_empty() || *code == c),
            None => *code == wanted,
        }),
        Kind::Reference => element.get("reference").and_then(Value::as_str).is_some_and(|reference| {
            let wanted = wanted.strip_prefix(base).map_or(wanted, |rest| rest.trim_start_matches('/'));
            let typed = modifier.map(|kind| format!("{kind}/{wanted}"));
            reference == wanted
                || typed.is_some_and(|typed| reference == typed)
                || (!wanted.contains('/') && reference.rsplit('/').next() == Some(wanted))
        }),
        Kind::Date => element.as_str().is_some_and(|date| {
            let (prefix, wanted) = match wanted.get(..2) {
                Some(prefix @ ("ge" | "gt" | "le" | "lt" | "eq")) => (prefix, wanted.get(2..).unwrap_or_default()),
                _ => ("eq", wanted),
            };
            match prefix {
                "ge" | "gt" => date >= wanted,
                "le" | "lt" => date.get(..wanted.len()).unwrap_or(date) <= wanted,
                _ => date.starts_with(wanted),
            }
        }),
        Kind::Text => strings(element).iter().any(|text| text.to_lowercase().starts_with(&wanted.to_lowercase())),
    }
}

/// The elements at a dotted path, through arrays.
fn elements<'a>(resource: &'a Value, path: &str) -> Vec<&'a Value> {
    path.split('.').fold(vec![resource], |at, name| {
        at.into_iter()
            .filter_map(|value| value.get(name))
            .flat_map(|value| value.as_array().map_or_else(|| vec![value], |items| items.iter().collect()))
            .collect()
    })
}

fn codings(element: &Value) -> Vec<(Option<&str>, &str)> {
    if let Some(code) = element.as_str() {
        return vec![(None, code)];
    }
    let nested = element.get("coding").and_then(Value::as_array);
    let codings: Vec<&Value> = nested.map_or_else(|| vec![element], |codings| codings.iter().collect());
    codings
        .into_iter()
        .filter_map(|coding| {
            let code = coding.get("code").or_else(|| coding.get("value"))?.as_str()?;
            Some((coding.get("system").and_then(Value::as_str), code))
        })
        .collect()
}

fn strings(element: &Value) -> Vec<&str> {
    match element {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(object) => object.values().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![],
    }
}

fn references(resource: &Value, parameter: &str) -> Vec<String> {
    PARAMETERS
        .iter()
        .filter(|(name, _, kind)| (*name == parameter || parameter == "*") && matches!(kind, Kind::Reference))
        .flat_map(|(_, path, _)| elements(resource, path))
        .filter_map(|element| element.get("reference")?.as_str().map(str::to_owned))
        .collect()
}

fn split(reference: &str) -> Option<Key> {
    reference.split_once('/').map(|(kind, id)| (kind.to_owned(), id.to_owned()))
}
