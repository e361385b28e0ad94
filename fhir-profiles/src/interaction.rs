//! The FHIR interaction that a request asks for: one canonical parse, and the canonical text to send upstream.
//!
//! Seam: `gateway::interpret` calls [`interpret`] with the parts of the request; `policy::decide` rules on
//! [`Interaction::touched`]; `gateway::forward` sends [`Interaction::upstream`] and nothing else (rule 1: parse once).

mod error;
mod format;
mod parse;
mod touched;
mod upstream;

pub use error::{Class, ParseError};
pub(crate) use format::format_parameter;
pub(crate) use parse::condition;
pub use parse::interpret;
pub use touched::{Access, Path, Touched};
pub use upstream::{Method, Upstream};

use crate::bundle::Entry;
use crate::ids::{InstanceId, LogicalId, ResourceType};
use crate::operation::{Operation, Target};
use crate::search::{Presentation, Query};

/// The parts of a request that name its interaction. Nothing here has been decoded.
#[derive(Clone, Copy)]
pub struct RequestParts<'a> {
    /// The method, upper case as received.
    pub method: &'a str,
    /// The path below the endpoint's base, starting with `/` or empty.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// The body of a `POST …/_search` with `application/x-www-form-urlencoded`, else `None`.
    pub form: Option<&'a str>,
    /// The value of `If-None-Exist`.
    pub if_none_exist: Option<&'a str>,
    /// The value of `Accept`.
    pub accept: Option<&'a str>,
    /// The value of `Content-Type`; `None` where there is no body.
    pub content_type: Option<&'a str>,
    /// The body of a POST to the base or to an operation. Bodies of other interactions are not read here.
    pub body: Option<&'a [u8]>,
    /// The endpoint's `base_url` as clients see it, without a trailing slash: absolute references and Bundle urls with
    /// this base are ours, all others are foreign. Empty: every absolute URL is foreign.
    pub base: &'a str,
    /// A request Bundle with more entries than this is refused whole.
    pub max_entries: usize,
}

/// Nothing, and [`MAX_ENTRIES`](crate::bundle::MAX_ENTRIES).
impl Default for RequestParts<'_> {
    fn default() -> Self {
        Self {
            method: "",
            path: "",
            query: None,
            form: None,
            if_none_exist: None,
            accept: None,
            content_type: None,
            body: None,
            base: "",
            max_entries: crate::bundle::MAX_ENTRIES,
        }
    }
}

/// What a client may ask of a FHIR server (R4 http.html). Named as the standard names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// `GET metadata`. Answered here.
    Capabilities,
    Read {
        kind: ResourceType,
        id: LogicalId,
        presentation: Presentation,
    },
    Vread {
        kind: ResourceType,
        id: LogicalId,
        version: LogicalId,
        presentation: Presentation,
    },
    Update {
        kind: ResourceType,
        id: LogicalId,
    },
    /// JSON Patch (RFC 6902).
    Patch {
        kind: ResourceType,
        id: LogicalId,
    },
    Delete {
        kind: ResourceType,
        id: LogicalId,
    },
    HistoryInstance {
        kind: ResourceType,
        id: LogicalId,
        query: Query,
    },
    HistoryType {
        kind: ResourceType,
        query: Query,
    },
    HistorySystem {
        query: Query,
    },
    Create {
        kind: ResourceType,
    },
    /// `If-None-Exist`: a judged search, then a create.
    ConditionalCreate {
        kind: ResourceType,
        condition: Query,
    },
    /// `PUT Type?…`: a judged search, then a versioned update.
    ConditionalUpdate {
        kind: ResourceType,
        condition: Query,
    },
    ConditionalPatch {
        kind: ResourceType,
        condition: Query,
    },
    ConditionalDelete {
        kind: ResourceType,
        condition: Query,
    },
    SearchType {
        kind: ResourceType,
        query: Query,
    },
    /// `GET [base]?_type=…`: only with `_type`, and only with parameters that every type has.
    SearchSystem {
        kinds: Vec<ResourceType>,
        query: Query,
    },
    /// `Patient/x/Type`. The query is already that of the type, constrained to the patient; upstream it is a type search.
    SearchCompartment {
        patient: LogicalId,
        kind: ResourceType,
        query: Query,
    },
    /// Entries stand alone; one that names nothing is refused alone.
    Batch {
        entries: Vec<Entry>,
    },
    /// All or nothing: any entry that names nothing has refused the whole.
    Transaction {
        entries: Vec<Entry>,
    },
    Operation {
        operation: Operation,
        target: Target,
        /// Typed by the operation's own table, single primitive values; presentation and `_count` apart.
        query: Query,
    },
    /// A page of an earlier answer: `GET _page/{token}`, sealed by the gateway, which alone can open it.
    Page {
        token: SealedToken,
    },
    /// Status of a bulk export: `GET _export/{token}`, sealed to its owner.
    ExportStatus {
        token: SealedToken,
    },
    /// `DELETE _export/{token}`.
    ExportDelete {
        token: SealedToken,
    },
    /// A file of a bulk export: `GET _export/{token}/{file}`.
    ExportFile {
        token: SealedToken,
        file: u32,
    },
}

/// A text that only the gateway can open (`[A-Za-z0-9_-]`, at most 4096). It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedToken(Box<str>);

impl SealedToken {
    /// Refuses whatever base64url cannot hold.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (!text.is_empty() && text.len() <= 4096 && text.bytes().all(legal)).then(|| Self(text.into()))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for SealedToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SealedToken(..)")
    }
}

impl core::fmt::Debug for RequestParts<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RequestParts").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Interaction {
    /// The code of R4 value set `restful-interaction` (or `operation`), for audit and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::Read { .. } => "read",
            Self::Vread { .. } => "vread",
            Self::Update { .. } | Self::ConditionalUpdate { .. } => "update",
            Self::Patch { .. } | Self::ConditionalPatch { .. } => "patch",
            Self::Delete { .. } | Self::ConditionalDelete { .. } => "delete",
            Self::HistoryInstance { .. } => "history-instance",
            Self::HistoryType { .. } => "history-type",
            Self::HistorySystem { .. } => "history-system",
            Self::Create { .. } | Self::ConditionalCreate { .. } => "create",
            Self::SearchType { .. } | Self::SearchCompartment { .. } | Self::Page { .. } => "search-type",
            Self::SearchSystem { .. } => "search-system",
            Self::Batch { .. } => "batch",
            Self::Transaction { .. } => "transaction",
            Self::Operation { .. }
            | Self::ExportStatus { .. }
            | Self::ExportDelete { .. }
            | Self::ExportFile { .. } => "operation",
        }
    }

    /// The one type that the request names in its path, if it names one.
    pub const fn resource_type(&self) -> Option<ResourceType> {
        match self {
            Self::Read { kind, .. }
            | Self::Vread { kind, .. }
            | Self::Update { kind, .. }
            | Self::Patch { kind, .. }
            | Self::Delete { kind, .. }
            | Self::HistoryInstance { kind, .. }
            | Self::HistoryType { kind, .. }
            | Self::Create { kind }
            | Self::ConditionalCreate { kind, .. }
            | Self::ConditionalUpdate { kind, .. }
            | Self::ConditionalPatch { kind, .. }
            | Self::ConditionalDelete { kind, .. }
            | Self::SearchType { kind, .. }
            | Self::SearchCompartment { kind, .. } => Some(*kind),
            Self::Operation { target, .. } => target.resource_type(),
            Self::Capabilities
            | Self::HistorySystem { .. }
            | Self::SearchSystem { .. }
            | Self::Batch { .. }
            | Self::Transaction { .. }
            | Self::Page { .. }
            | Self::ExportStatus { .. }
            | Self::ExportDelete { .. }
            | Self::ExportFile { .. } => None,
        }
    }

    /// The one instance that the request names, if it names one. For `Patient/x/Type` that is the patient's id apart:
    /// the instances asked for are of the type.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Read { kind, id, .. }
            | Self::Vread { kind, id, .. }
            | Self::Update { kind, id }
            | Self::Patch { kind, id }
            | Self::Delete { kind, id }
            | Self::HistoryInstance { kind, id, .. } => Some(InstanceId { kind: *kind, id: id.clone() }),
            Self::Operation { target, .. } => target.instance().cloned(),
            Self::Capabilities
            | Self::HistoryType { .. }
            | Self::HistorySystem { .. }
            | Self::Create { .. }
            | Self::ConditionalCreate { .. }
            | Self::ConditionalUpdate { .. }
            | Self::ConditionalPatch { .. }
            | Self::ConditionalDelete { .. }
            | Self::SearchType { .. }
            | Self::SearchSystem { .. }
            | Self::SearchCompartment { .. }
            | Self::Batch { .. }
            | Self::Transaction { .. }
            | Self::Page { .. }
            | Self::ExportStatus { .. }
            | Self::ExportDelete { .. }
            | Self::ExportFile { .. } => None,
        }
    }

    /// The search in it, or the condition of a conditional write.
    pub const fn query(&self) -> Option<&Query> {
        match self {
            Self::HistoryInstance { query, .. }
            | Self::HistoryType { query, .. }
            | Self::HistorySystem { query }
            | Self::SearchType { query, .. }
            | Self::SearchSystem { query, .. }
            | Self::SearchCompartment { query, .. }
            | Self::Operation { query, .. } => Some(query),
            Self::ConditionalCreate { condition, .. }
            | Self::ConditionalUpdate { condition, .. }
            | Self::ConditionalPatch { condition, .. }
            | Self::ConditionalDelete { condition, .. } => Some(condition),
            Self::Capabilities
            | Self::Read { .. }
            | Self::Vread { .. }
            | Self::Update { .. }
            | Self::Patch { .. }
            | Self::Delete { .. }
            | Self::Create { .. }
            | Self::Batch { .. }
            | Self::Transaction { .. }
            | Self::Page { .. }
            | Self::ExportStatus { .. }
            | Self::ExportDelete { .. }
            | Self::ExportFile { .. } => None,
        }
    }

    /// What the client wants to see of the answer; applied by us after the verdict, never by the EHR.
    pub const fn presentation(&self) -> Option<&Presentation> {
        if let Self::Read { presentation, .. } | Self::Vread { presentation, .. } = self {
            return Some(presentation);
        }
        match self.query() {
            Some(query) => Some(query.presentation()),
            None => None,
        }
    }

    /// Does it ask the EHR to change anything? Then an `attempt` is recorded first (rule 9).
    pub fn changes(&self) -> bool {
        match self {
            Self::Update { .. }
            | Self::Patch { .. }
            | Self::Delete { .. }
            | Self::Create { .. }
            | Self::ConditionalCreate { .. }
            | Self::ConditionalUpdate { .. }
            | Self::ConditionalPatch { .. }
            | Self::ConditionalDelete { .. }
            | Self::ExportDelete { .. } => true,
            Self::Batch { entries } | Self::Transaction { entries } => {
                entries.iter().any(|entry| entry.request.as_ref().is_ok_and(Self::changes))
            }
            Self::Operation { operation, .. } => operation.changes(),
            Self::Capabilities
            | Self::Read { .. }
            | Self::Vread { .. }
            | Self::HistoryInstance { .. }
            | Self::HistoryType { .. }
            | Self::HistorySystem { .. }
            | Self::SearchType { .. }
            | Self::SearchSystem { .. }
            | Self::SearchCompartment { .. }
            | Self::Page { .. }
            | Self::ExportStatus { .. }
            | Self::ExportFile { .. } => false,
        }
    }
}
