//! What is sent to the EHR: written from the parsed interaction, never copied from the request (rule 1).

use crate::ids::{LogicalId, ResourceType};
use crate::interaction::Interaction;

/// The methods that this gateway sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A canonical request line, and the form where parameters must not stand in a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    pub method: Method,
    /// Below the upstream's base, starting with `/`.
    pub path: String,
    /// Without `?`; empty for none. Canonically percent-encoded.
    pub query: String,
    /// `application/x-www-form-urlencoded` body of a search that came as a form.
    pub form: Option<String>,
}

/// Queries hold identifiers of patients: they do not print.
impl core::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Upstream").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Interaction {
    /// The request to send, or `None` where the interaction is answered here or from its parts: the
    /// CapabilityStatement, a batch (entry by entry), sealed pages and exports.
    ///
    /// A conditional write has none of its own either: it is a judged search (`SearchType` with its condition), then a
    /// versioned write. A transaction is sent to the base with the Bundle that [`crate::bundle::write`] writes.
    pub fn upstream(&self) -> Option<Upstream> {
        let plain = |method, path| Some(Upstream { method, path, query: String::new(), form: None });
        match self {
            Self::Capabilities
            | Self::ConditionalCreate { .. }
            | Self::ConditionalUpdate { .. }
            | Self::ConditionalPatch { .. }
            | Self::ConditionalDelete { .. }
            | Self::Batch { .. }
            | Self::Page { .. }
            | Self::ExportStatus { .. }
            | Self::ExportDelete { .. }
            | Self::ExportFile { .. } => None,
            Self::Read { kind, id, .. } => plain(Method::Get, instance(*kind, id)),
            Self::Vread { kind, id, version, .. } => {
                plain(Method::Get, format!("{}/_history/{}", instance(*kind, id), version.as_str()))
            }
            Self::Update { kind, id } => plain(Method::Put, instance(*kind, id)),
            Self::Patch { kind, id } => plain(Method::Patch, instance(*kind, id)),
            Self::Delete { kind, id } => plain(Method::Delete, instance(*kind, id)),
            Self::Create { kind } => plain(Method::Post, format!("/{kind}")),
            Self::Transaction { .. } => plain(Method::Post, String::from("/")),
            Self::HistoryInstance { kind, id, query } => {
                search(format!("{}/_history", instance(*kind, id)), query.upstream(), false)
            }
            Self::HistoryType { kind, query } => search(format!("/{kind}/_history"), query.upstream(), false),
            Self::HistorySystem { query } => search(String::from("/_history"), query.upstream(), false),
            // R4 3.1.1.1: what is constrained to a compartment is a search with one more criterion; sending it as such
            // keeps author and performer roles of the compartment out (compartment.rs).
            Self::SearchType { kind, query } | Self::SearchCompartment { kind, query, .. } => {
                search(format!("/{kind}"), query.upstream(), query.came_as_form())
            }
            Self::SearchSystem { query, .. } => search(String::from("/"), query.upstream(), query.came_as_form()),
            Self::Operation { operation, target, query } => {
                search(format!("{}/${}", target.path(), operation.name()), query.upstream(), false)
            }
        }
    }
}

fn instance(kind: ResourceType, id: &LogicalId) -> String {
    format!("/{kind}/{}", id.as_str())
}

#[expect(clippy::unnecessary_wraps, reason = "every arm of the table above has one shape")]
fn search(path: String, query: String, as_form: bool) -> Option<Upstream> {
    Some(if as_form {
        let path = if path == "/" { String::from("/_search") } else { format!("{path}/_search") };
        Upstream { method: Method::Post, path, query: String::new(), form: Some(query) }
    } else {
        Upstream { method: Method::Get, path, query, form: None }
    })
}
