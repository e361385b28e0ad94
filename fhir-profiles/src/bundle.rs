//! Request Bundles: a batch or transaction as its entries, each the interaction it would be alone (R4 http.html#transaction).
//!
//! Refused: any other Bundle type, a batch inside an entry, a foreign absolute URL, JSON with two readings, a resource that
//! contradicts its own request, references to entries that are not there, an entry of a transaction under the name of
//! something else. Conditional references (`Patient?identifier=…` inside a resource) stand in transactions alone, where R4
//! has them, each as the search that it is.

mod parameters;
mod references;

use core::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ids::{InstanceId, LogicalId, ResourceType};
use crate::interaction::{Interaction, ParseError, RequestParts, interpret};
use crate::json;
use crate::operation::Operation;

pub(crate) use parameters::parameters;
pub use references::{ConditionalReference, resolved};

/// The most entries of a request Bundle, unless its reader says another number.
pub const MAX_ENTRIES: usize = 500;

/// One entry, judged as a request of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub full_url: Option<Box<str>>,
    /// Never a batch or transaction. An error refuses the entry of a batch alone, and stands in no transaction.
    pub request: Result<Interaction, ParseError>,
    /// `request.ifMatch`, as given.
    pub if_match: Option<Box<str>>,
    /// `request.ifNoneMatch`, as given.
    pub if_none_match: Option<Box<str>>,
    /// The resource as sent, to the byte.
    pub resource: Option<Box<str>>,
    /// The searches that stand in the resource instead of references; in a transaction alone.
    pub searches: Vec<ConditionalReference>,
}

/// Resources are PHI: they do not print.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("request", &self.request).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct RawBundle {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "implicitRules")]
    implicit_rules: Option<Value>,
    #[serde(default)]
    entry: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    full_url: Option<Box<str>>,
    resource: Option<Box<RawValue>>,
    request: Option<RawRequest>,
    modifier_extension: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest {
    method: String,
    url: String,
    if_match: Option<Box<str>>,
    if_none_match: Option<Box<str>>,
    if_none_exist: Option<String>,
    modifier_extension: Option<Value>,
}

/// Reads a Bundle that was posted to the base. `base` is the endpoint's own base URL, without a trailing slash; more than
/// `max_entries` are refused whole.
pub fn parse(body: &[u8], base: &str, max_entries: usize) -> Result<Interaction, ParseError> {
    // Two readings of any part are refused before any part is read.
    json::parse(body).map_err(|_| ParseError::MalformedBundle)?;
    let bundle: RawBundle = serde_json::from_slice(body).map_err(|_| ParseError::MalformedBundle)?;
    if bundle.resource_type != "Bundle" || bundle.implicit_rules.is_some() {
        return Err(ParseError::MalformedBundle);
    }
    if bundle.entry.len() > max_entries {
        return Err(ParseError::TooManyEntries);
    }
    let mut entries: Vec<Entry> = bundle.entry.into_iter().map(|raw| entry(raw, base)).collect();
    match bundle.kind.as_str() {
        "batch" => {
            for entry in &mut entries {
                if entry.resource.as_deref().is_some_and(references::has_conditional) {
                    entry.request = Err(ParseError::UnsupportedInteraction);
                }
            }
            Ok(Interaction::Batch { entries })
        }
        "transaction" => {
            for entry in &mut entries {
                let request = entry.request.as_ref().map_err(|error| *error)?;
                names_itself(entry.full_url.as_deref(), request, base)?;
                if let Some(resource) = &entry.resource {
                    entry.searches = references::conditional(resource, base)?;
                }
            }
            no_instance_is_written_twice(&entries)?;
            every_urn_is_an_entry(&entries)?;
            Ok(Interaction::Transaction { entries })
        }
        _ => Err(ParseError::BundleTypeNotAccepted),
    }
}

fn entry(raw: RawEntry, base: &str) -> Entry {
    let resource = raw.resource.map(|resource| Box::<str>::from(resource.get()));
    let if_match = raw.request.as_ref().and_then(|request| request.if_match.clone());
    let if_none_match = raw.request.as_ref().and_then(|request| request.if_none_match.clone());
    let versioned = if_match.as_deref().is_none_or(|tag| version(tag).is_some());
    let request = match (&raw.request, &raw.modifier_extension) {
        (Some(request), None) if request.modifier_extension.is_none() && versioned => {
            alone(request, resource.as_deref(), base)
        }
        _ => Err(ParseError::MalformedBundle),
    };
    Entry { full_url: raw.full_url, request, if_match, if_none_match, resource, searches: Vec::new() }
}

/// The interaction that the entry would be as a request of its own.
fn alone(request: &RawRequest, resource: Option<&str>, base: &str) -> Result<Interaction, ParseError> {
    let (path, query) = local(&request.url, base)?;
    if path == "/" && request.method == "POST" {
        return Err(ParseError::NestedBundle);
    }
    let interaction = interpret(&RequestParts {
        method: match request.method.as_str() {
            method @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") => method,
            _ => return Err(ParseError::NoInteraction),
        },
        path: &path,
        query,
        if_none_exist: request.if_none_exist.as_deref(),
        content_type: resource.map(|_| "application/fhir+json"),
        body: resource.map(str::as_bytes),
        base,
        ..RequestParts::default()
    })?;
    fits(&interaction, resource)?;
    Ok(interaction)
}

/// The path below our base. R4 urls are relative to the base; one leading slash is common, two are a host.
fn local<'a>(url: &'a str, base: &str) -> Result<(String, Option<&'a str>), ParseError> {
    let own = if base.is_empty() {
        None
    } else {
        url.strip_prefix(base).filter(|rest| rest.starts_with(['/', '?']) || rest.is_empty())
    };
    let rest = match own {
        Some(rest) => rest,
        None if url.contains(':') && !url.contains('?') => return Err(ParseError::MalformedBundle),
        None => url,
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    // A scheme before any `?` is a foreign server; an encoded one never parses as a path.
    if path.contains(':') || path.starts_with("//") {
        return Err(ParseError::MalformedBundle);
    }
    Ok((format!("/{}", path.strip_prefix('/').unwrap_or(path)), query))
}

/// Does the resource belong to the request? Type and id must be the url's own, and only writes carry one.
fn fits(interaction: &Interaction, resource: Option<&str>) -> Result<(), ParseError> {
    let (kind, id) = match interaction {
        Interaction::Create { kind }
        | Interaction::ConditionalCreate { kind, .. }
        | Interaction::ConditionalUpdate { kind, .. } => (*kind, None),
        Interaction::Update { kind, id } => (*kind, Some(id)),
        // A patch inside a Bundle is a Binary in R4; it has no rule here.
        Interaction::Patch { .. } | Interaction::ConditionalPatch { .. } => {
            return Err(ParseError::UnsupportedInteraction);
        }
        // An export is answered later and elsewhere; an entry is answered in its place.
        Interaction::Operation { operation: Operation::Export, .. } => return Err(ParseError::UnsupportedInteraction),
        Interaction::Operation { .. } => return Ok(()),
        Interaction::Batch { .. } | Interaction::Transaction { .. } => return Err(ParseError::NestedBundle),
        Interaction::Capabilities
        | Interaction::Page { .. }
        | Interaction::ExportStatus { .. }
        | Interaction::ExportDelete { .. }
        | Interaction::ExportFile { .. } => return Err(ParseError::UnsupportedInteraction),
        Interaction::Read { .. }
        | Interaction::Vread { .. }
        | Interaction::Delete { .. }
        | Interaction::HistoryInstance { .. }
        | Interaction::HistoryType { .. }
        | Interaction::HistorySystem { .. }
        | Interaction::ConditionalDelete { .. }
        | Interaction::SearchType { .. }
        | Interaction::SearchSystem { .. }
        | Interaction::SearchCompartment { .. } => {
            return if resource.is_none() { Ok(()) } else { Err(ParseError::MalformedBundle) };
        }
    };
    let head: Head = resource.and_then(|text| serde_json::from_str(text).ok()).ok_or(ParseError::MalformedBundle)?;
    let same_id = id.is_none_or(|id| head.id.as_deref() == Some(id.as_str()));
    if head.resource_type != kind.as_str() || !same_id {
        return Err(ParseError::MalformedBundle);
    }
    if kind == ResourceType::BUNDLE
        && matches!(head.kind.as_ref().and_then(Value::as_str), Some("batch" | "transaction"))
    {
        return Err(ParseError::NestedBundle);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Value>,
}

/// The `fullUrl` of an entry of a transaction is a name for it within the Bundle (`urn:`), or its own URL here. Under
/// another record's name, references to that record would be taken for references to the entry.
fn names_itself(full_url: Option<&str>, request: &Interaction, base: &str) -> Result<(), ParseError> {
    let Some(url) = full_url.filter(|url| !url.starts_with("urn:")) else { return Ok(()) };
    let own = request.instance().filter(|_| !base.is_empty());
    if own.is_some_and(|own| url.strip_prefix(base) == Some(&format!("/{}", own.relative()))) {
        Ok(())
    } else {
        Err(ParseError::MalformedBundle)
    }
}

/// R4 http.html#trules: the identities that a transaction writes may not overlap.
fn no_instance_is_written_twice(entries: &[Entry]) -> Result<(), ParseError> {
    let mut written: Vec<InstanceId> = entries
        .iter()
        .filter_map(|entry| entry.request.as_ref().ok())
        .filter(|request| request.changes())
        .filter_map(Interaction::instance)
        .collect();
    let all = written.len();
    written.sort_unstable();
    written.dedup();
    if written.len() == all { Ok(()) } else { Err(ParseError::MalformedBundle) }
}

/// `urn:uuid:` references name an entry of the same transaction, or nothing.
fn every_urn_is_an_entry(entries: &[Entry]) -> Result<(), ParseError> {
    let mut urls: Vec<&str> = entries.iter().filter_map(|entry| entry.full_url.as_deref()).collect();
    let all = urls.len();
    urls.sort_unstable();
    urls.dedup();
    if urls.len() != all {
        return Err(ParseError::MalformedBundle);
    }
    let dangling =
        |reference: &String| reference.starts_with("urn:") && urls.binary_search(&reference.as_str()).is_err();
    let resources = entries.iter().filter_map(|entry| entry.resource.as_deref());
    if resources.flat_map(references::all).any(|reference| dangling(&reference)) {
        return Err(ParseError::MalformedBundle);
    }
    Ok(())
}

/// The transaction to send: canonical requests, resources to the byte. `None` while an entry is still conditional or was
/// refused: the gateway resolves conditions by judged searches first, and puts the versioned write in their place.
pub fn write(entries: &[Entry]) -> Option<String> {
    let mut written = Vec::with_capacity(entries.len());
    for entry in entries {
        // A search that came as a form has no place for its form in a Bundle.
        let upstream = entry.request.as_ref().ok()?.upstream().filter(|upstream| upstream.form.is_none())?;
        let path = upstream.path.strip_prefix('/').unwrap_or(&upstream.path);
        let url = if upstream.query.is_empty() { path.to_owned() } else { format!("{path}?{}", upstream.query) };
        let mut request = serde_json::Map::new();
        request.insert("method".into(), upstream.method.as_str().into());
        request.insert("url".into(), url.into());
        if let Some(version) = &entry.if_match {
            request.insert("ifMatch".into(), version.as_ref().into());
        }
        let request = Value::Object(request).to_string();
        let full_url = entry.full_url.as_deref().map(|url| Value::from(url).to_string());
        let members =
            [("fullUrl", full_url.as_deref()), ("resource", entry.resource.as_deref()), ("request", Some(&request))];
        written.push(json::object(members.into_iter().filter_map(|(name, text)| text.map(|text| (name, text)))));
    }
    let entries = format!("[{}]", written.join(","));
    let entry = if written.is_empty() { None } else { Some(("entry", entries.as_str())) };
    Some(json::object([("resourceType", "\"Bundle\""), ("type", "\"transaction\"")].into_iter().chain(entry)))
}

/// The version in `W/"v"` or `"v"`; nothing else is an R4 version tag.
pub fn version(tag: &str) -> Option<LogicalId> {
    let quoted = tag.strip_prefix("W/").unwrap_or(tag);
    quoted.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// The `ETag` form of a version, `W/"v"` (R4 http.html#versioning).
pub fn if_match(version: &LogicalId) -> String {
    format!("W/\"{}\"", version.as_str())
}
