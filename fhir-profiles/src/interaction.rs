//! The FHIR interaction that a request asks for: one canonical parse, and the canonical text to send upstream.
//!
//! Seam: `gateway::interpret` calls [`interpret`] with the parts of the request; `policy::decide` rules on what comes
//! back; `gateway::forward` sends [`Interaction::upstream`] and nothing else (rule 1: parse once).

use crate::ids::{LogicalId, ResourceType};

/// The parts of a request that name its interaction. Nothing here has been decoded.
#[derive(Clone, Copy, Debug)]
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
}

/// What a client may ask of a FHIR server (R4 http.html). Named as the standard names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interaction {
    Capabilities,
    Read { kind: ResourceType, id: LogicalId },
    SearchType { kind: ResourceType, query: Query },
}

/// Search parameters in the order given, decoded once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(pub Vec<Parameter>);

/// One search parameter: `name[:modifier]=value`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub value: String,
}

/// Which SMART scope letter an access needs: `c r u d s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    Create,
    Read,
    Update,
    Delete,
    Search,
}

/// One type that a request reaches, and how. Scope, policy and label must agree on every one (rule 2: touched facts).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Touched {
    pub kind: ResourceType,
    pub access: Access,
    /// The instance named by the request, where there is one.
    pub id: Option<LogicalId>,
    /// The search path that reaches the type; [`Path::Target`] for the type that is asked for.
    pub path: Path,
}

/// How a search reaches a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    Target,
    Include,
    RevInclude,
    Chain,
    Has,
    Sort,
}
