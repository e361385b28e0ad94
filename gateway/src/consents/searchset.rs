//! One page of a search for Consents, read strictly.

use fhir_profiles::ids::{LogicalId, ResourceType};
use fhirwall_policy::consent::{ConsentRecord, Status, Unreadable};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::ConsentUnavailable;

/// What one page holds.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) consents: Vec<Found>,
    /// `Bundle.total`.
    pub(super) total: Option<u64>,
    /// The next page: path and query below the server's base.
    pub(super) next: Option<(String, String)>,
}

/// One Consent in a page.
#[derive(Debug)]
pub(super) enum Found {
    Read(ConsentRecord),
    /// It belongs to whom it says; where it does not say, to any of the patients asked for.
    Unreadable(Unreadable),
}

// A key that stands twice is an error of the derived reader, as is one that R4 does not define.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawBundle<'a> {
    resource_type: String,
    r#type: String,
    total: Option<u64>,
    #[serde(default)]
    link: Vec<RawLink>,
    #[serde(default, borrow)]
    entry: Vec<RawEntry<'a>>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "meta")]
    _meta: Option<IgnoredAny>,
    #[serde(rename = "language")]
    _language: Option<IgnoredAny>,
    #[serde(rename = "identifier")]
    _identifier: Option<IgnoredAny>,
    #[serde(rename = "timestamp")]
    _timestamp: Option<IgnoredAny>,
    #[serde(rename = "signature")]
    _signature: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawLink {
    relation: String,
    url: String,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawEntry<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    search: Option<RawSearch>,
    #[serde(rename = "fullUrl")]
    _full_url: Option<IgnoredAny>,
    #[serde(rename = "link")]
    _link: Option<IgnoredAny>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
    #[serde(rename = "request")]
    _request: Option<IgnoredAny>,
    #[serde(rename = "response")]
    _response: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSearch {
    mode: Option<String>,
    #[serde(rename = "score")]
    _score: Option<IgnoredAny>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawOutcome {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(default)]
    issue: Vec<RawIssue>,
}

#[derive(Deserialize)]
struct RawIssue {
    severity: String,
}

/// Reads a page that was asked of the server with these bases.
pub(super) fn read(body: &[u8], bases: &[Box<str>]) -> Result<Page, ConsentUnavailable> {
    let bundle: RawBundle<'_> = serde_json::from_slice(body).map_err(|_| ConsentUnavailable::NotSearchset)?;
    if bundle.resource_type != "Bundle" || bundle.r#type != "searchset" {
        return Err(ConsentUnavailable::NotSearchset);
    }
    let mut consents = Vec::with_capacity(bundle.entry.len());
    for entry in &bundle.entry {
        let resource = entry.resource.ok_or(ConsentUnavailable::NotSearchset)?.get().as_bytes();
        match entry.search.as_ref().and_then(|search| search.mode.as_deref()) {
            Some("match") | None => consents.push(found(resource)),
            Some("outcome") => informational(resource)?,
            Some(_) => return Err(ConsentUnavailable::NotSearchset),
        }
    }
    Ok(Page { consents, total: bundle.total, next: next(&bundle.link, bases)? })
}

fn found(resource: &[u8]) -> Found {
    match ConsentRecord::parse(resource) {
        Ok(record) => Found::Read(record),
        Err(unreadable) => Found::Unreadable(unreadable),
    }
}

/// An outcome may inform. A warning may say that rows are missing, and then rows are missing.
fn informational(resource: &[u8]) -> Result<(), ConsentUnavailable> {
    let outcome: RawOutcome = serde_json::from_slice(resource).map_err(|_| ConsentUnavailable::NotSearchset)?;
    let harmless = outcome.issue.iter().all(|issue| issue.severity == "information");
    if outcome.resource_type == "OperationOutcome" && harmless { Ok(()) } else { Err(ConsentUnavailable::Incomplete) }
}

fn next(links: &[RawLink], bases: &[Box<str>]) -> Result<Option<(String, String)>, ConsentUnavailable> {
    let mut nexts = links.iter().filter(|link| link.relation == "next");
    let (Some(next), None) = (nexts.next(), nexts.next()) else {
        return if links.iter().any(|link| link.relation == "next") {
            Err(ConsentUnavailable::NotSearchset)
        } else {
            Ok(None)
        };
    };
    // The gateway's credential goes to its own server only.
    let below = bases.iter().filter_map(|base| next.url.strip_prefix(&**base));
    let rest = below.clone().find(|rest| rest.starts_with(['/', '?'])).ok_or(ConsentUnavailable::ForeignPage)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>');
    let climbs = path.split('/').any(|segment| segment.starts_with('.')) || path.contains('%') || path.contains("//");
    if climbs || !rest.bytes().all(plain) {
        return Err(ConsentUnavailable::ForeignPage);
    }
    Ok(Some((path.to_owned(), query.to_owned())))
}

/// Whose a Consent is, among the patients asked for.
pub(super) enum Owner {
    One(LogicalId),
    /// It cannot be told, so it is everybody's.
    Any,
    /// Nobody's: it names nobody, and says nothing.
    Nobody,
}

impl Found {
    /// # Errors
    /// [`ConsentUnavailable::ForeignConsent`] for a Consent of a patient that was not asked for.
    pub(super) fn owner(&self, asked: &[LogicalId], bases: &[&str]) -> Result<Owner, ConsentUnavailable> {
        let named = match self {
            Self::Read(record) => Some(record.patient()),
            Self::Unreadable(unreadable) => unreadable.patient.as_ref(),
        };
        let named = named.and_then(|reference| reference.on_server(bases)).filter(|p| p.kind == ResourceType::PATIENT);
        match (named, self) {
            (Some(patient), _) if asked.contains(&patient.id) => Ok(Owner::One(patient.id.clone())),
            (None, Self::Unreadable(_)) => Ok(Owner::Any),
            (None, Self::Read(record)) if record.status() != Status::Active => Ok(Owner::Nobody),
            (Some(_) | None, _) => Err(ConsentUnavailable::ForeignConsent),
        }
    }
}
