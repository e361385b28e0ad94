//! What comes with an interaction beside its name: the body and headers of a request, or the parts of a Bundle's entry.

use fhir_profiles::bundle::{Entry, version};
use fhir_profiles::ids::LogicalId;
use fhirwall_policy::reason::Reason;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderValue, Method};

use crate::listen::Request;
use crate::refusal::Refusal;

/// Body, preconditions and preferences of one interaction.
#[derive(Clone)]
pub(super) struct Brought<'r> {
    pub(super) body: &'r [u8],
    /// The version that a write is meant for.
    pub(super) if_match: Option<LogicalId>,
    /// The version that the client has already.
    pub(super) if_none_match: Option<LogicalId>,
    /// `Prefer: return=minimal` (R4 http.html#ops).
    pub(super) wants_minimal: bool,
    /// `Prefer: respond-async` (Bulk Data 2.0, kick-off).
    pub(super) responds_async: bool,
}

impl<'r> Brought<'r> {
    /// With a request of its own.
    ///
    /// # Errors
    /// When `If-Match` is no version tag: what a write depends on is understood, or the write is refused.
    pub(super) fn with(request: &'r Request) -> Result<Self, Refusal> {
        let reads = request.method == Method::GET || request.method == Method::HEAD;
        let if_match = match request.headers.get(IF_MATCH).filter(|_| !reads) {
            None => None,
            Some(value) => {
                let stated = value.to_str().ok().and_then(version);
                Some(stated.ok_or_else(|| Refusal::from(Reason::MalformedRequest))?)
            }
        };
        let if_none_match = request.headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).and_then(version);
        Ok(Self {
            body: &request.body,
            if_match,
            if_none_match,
            wants_minimal: prefers(request, "return=minimal"),
            responds_async: prefers(request, "respond-async"),
        })
    }

    /// With an entry of a Bundle. How the answer is preferred was said once, for the Bundle.
    pub(super) fn with_entry(entry: &'r Entry, bundle: &Brought<'_>) -> Self {
        let tag = |tag: &Option<Box<str>>| tag.as_deref().and_then(version);
        Self {
            body: entry.resource.as_deref().unwrap_or_default().as_bytes(),
            if_match: tag(&entry.if_match),
            if_none_match: tag(&entry.if_none_match),
            wants_minimal: bundle.wants_minimal,
            responds_async: false,
        }
    }

    /// Has the client this version already? Tags compare weakly here (RFC 9110 13.1.2).
    pub(super) fn has_seen(&self, tag: &HeaderValue) -> bool {
        let shown = tag.to_str().ok().and_then(version);
        shown.is_some() && shown == self.if_none_match
    }
}

fn prefers(request: &Request, wanted: &str) -> bool {
    request
        .headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim().eq_ignore_ascii_case(wanted))
}
