//! The operations that are offered, each with its level, its parameters and its rule. All others are refused.
//!
//! SMART 2.2 gives operations no scopes: what one may return is what it touches.

use crate::compartment;
use crate::ids::{InstanceId, ResourceType};
use crate::interaction::{Access, ParseError, Path, Touched};
use crate::search::{Query, facts};

/// Where an operation is called (R4 operations.html).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    System,
    Type(ResourceType),
    Instance(InstanceId),
}

/// An allowed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `Patient/x/$everything`: the rows are judged one by one, as those of a search on many types.
    Everything,
    /// `Observation/$lastn`: a search on Observation.
    Lastn,
    /// US Core `DocumentReference/$docref`: a search on DocumentReference; never generates.
    Docref,
    Expand,
    Lookup,
    ValidateCode,
    Translate,
    /// Bulk Data kick-off on system, `Patient` or a `Group`.
    Export,
}

/// Known to R4, US Core or a common server, and refused to everybody: 403 rather than 404.
const REFUSED: &[&str] = &[
    "apply",
    "apply-cqfm",
    "binary-access-read",
    "binary-access-write",
    "closure",
    "conforms",
    "convert",
    "data-requirements",
    "diff",
    "document",
    "evaluate-measure",
    "expunge",
    "find",
    "find-matches",
    "generate",
    "get-ws-binding-token",
    "graphql",
    "implements",
    "import",
    "match",
    "member-match",
    "merge",
    "meta",
    "meta-add",
    "meta-delete",
    "populate",
    "process-message",
    "questionnaire",
    "reindex",
    "snapshot",
    "stats",
    "status",
    "submit-attachment",
    "submit-data",
    "subset",
    "transform",
    "validate",
    "versions",
];

/// The type of an operation parameter's value.
#[derive(Clone, Copy)]
enum Value {
    Date,
    Text,
    Boolean,
    Integer,
    Types,
    Patient,
    Ndjson,
}

impl Target {
    pub const fn resource_type(&self) -> Option<ResourceType> {
        match self {
            Self::System => None,
            Self::Type(kind) => Some(*kind),
            Self::Instance(instance) => Some(instance.kind),
        }
    }

    pub const fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::System | Self::Type(_) => None,
            Self::Instance(instance) => Some(instance),
        }
    }

    pub(crate) fn path(&self) -> String {
        match self {
            Self::System => String::new(),
            Self::Type(kind) => format!("/{kind}"),
            Self::Instance(instance) => format!("/{}", instance.relative()),
        }
    }
}

impl Operation {
    /// Every offered operation.
    pub const ALL: &'static [Self] = &[
        Self::Everything,
        Self::Lastn,
        Self::Docref,
        Self::Expand,
        Self::Lookup,
        Self::ValidateCode,
        Self::Translate,
        Self::Export,
    ];

    /// Without the `$`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Lastn => "lastn",
            Self::Docref => "docref",
            Self::Expand => "expand",
            Self::Lookup => "lookup",
            Self::ValidateCode => "validate-code",
            Self::Translate => "translate",
            Self::Export => "export",
        }
    }

    /// Where it may be called, and what it does there; for the documents that are generated from this table.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Everything => "Patient instance; every row judged as if read; types of `_type` must be in scope",
            Self::Lastn => "Observation type; judged as a search on Observation",
            Self::Docref => "DocumentReference type; judged as a search held to its patient; generates nothing",
            Self::Expand => "ValueSet type and instance; read on ValueSet",
            Self::Lookup => "CodeSystem type; read on CodeSystem",
            Self::ValidateCode => "CodeSystem and ValueSet, type and instance; read on that type",
            Self::Translate => "ConceptMap type and instance; read on ConceptMap",
            Self::Export => {
                "system, Patient type, Group instance; every exported type must be in scope; every line judged"
            }
        }
    }

    /// The canonical URL of its definition.
    pub const fn definition(self) -> &'static str {
        match self {
            Self::Everything => "http://hl7.org/fhir/OperationDefinition/Patient-everything",
            Self::Lastn => "http://hl7.org/fhir/OperationDefinition/Observation-lastn",
            Self::Docref => "http://hl7.org/fhir/us/core/OperationDefinition/docref",
            Self::Expand => "http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
            Self::Lookup => "http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup",
            Self::ValidateCode => "http://hl7.org/fhir/OperationDefinition/ValueSet-validate-code",
            Self::Translate => "http://hl7.org/fhir/OperationDefinition/ConceptMap-translate",
            Self::Export => "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
        }
    }

    /// Is it defined on this type or its instances, or with `None` on the system?
    pub fn is_offered_on(self, kind: Option<ResourceType>) -> bool {
        match kind {
            None => self.is_defined_on(&Target::System),
            Some(kind) => {
                let some_instance = "x".parse().ok().map(|id| Target::Instance(InstanceId { kind, id }));
                self.is_defined_on(&Target::Type(kind))
                    || some_instance.is_some_and(|target| self.is_defined_on(&target))
            }
        }
    }

    /// The names of operations that are known and refused to everybody.
    pub const fn refused() -> &'static [&'static str] {
        REFUSED
    }

    /// None of them changes what is stored; `$export` starts a job, which is recorded like a change.
    pub const fn changes(self) -> bool {
        matches!(self, Self::Export)
    }

    /// The operation of this name on this level.
    pub(crate) fn at(name: &str, target: &Target) -> Result<Self, ParseError> {
        let known = Self::ALL.iter().copied().find(|operation| operation.name() == name);
        match known {
            Some(operation) if operation.is_defined_on(target) => Ok(operation),
            Some(_) => Err(ParseError::OperationNotAllowed),
            None if REFUSED.contains(&name) => Err(ParseError::OperationNotAllowed),
            None => Err(ParseError::UnknownOperation),
        }
    }

    fn is_defined_on(self, target: &Target) -> bool {
        let kind = target.resource_type().map_or("", ResourceType::as_str);
        let is_type = matches!(target, Target::Type(_));
        let is_instance = matches!(target, Target::Instance(_));
        match self {
            Self::Everything => is_instance && kind == "Patient",
            Self::Lastn => is_type && kind == "Observation",
            Self::Docref => is_type && kind == "DocumentReference",
            Self::Expand => (is_type || is_instance) && kind == "ValueSet",
            Self::Lookup => is_type && kind == "CodeSystem",
            Self::ValidateCode => (is_type || is_instance) && matches!(kind, "CodeSystem" | "ValueSet"),
            Self::Translate => (is_type || is_instance) && kind == "ConceptMap",
            Self::Export => match target {
                Target::System => true,
                Target::Type(_) => kind == "Patient",
                Target::Instance(_) => kind == "Group",
            },
        }
    }

    fn parameter(self, name: &str) -> Result<Value, ParseError> {
        let value = match (self, name) {
            (Self::Everything, "start" | "end" | "_since") => Value::Date,
            (Self::Everything, "_type") => Value::Types,
            (Self::Docref, "patient") => Value::Patient,
            (Self::Docref, "start" | "end") => Value::Date,
            (Self::Docref, "type") => Value::Text,
            // Generated on demand: a document that no label was ever set on.
            (Self::Docref, "on-demand" | "profile") => return Err(ParseError::UnsupportedOperationParameter),
            (Self::Expand, "url" | "valueSetVersion" | "filter" | "displayLanguage" | "system-version") => Value::Text,
            (Self::Expand, "date") => Value::Date,
            (Self::Expand, "offset" | "count") => Value::Integer,
            (Self::Expand, "includeDesignations" | "includeDefinition" | "activeOnly" | "excludeNested") => {
                Value::Boolean
            }
            (Self::Lookup, "code" | "system" | "version" | "displayLanguage" | "property") => Value::Text,
            (Self::Lookup, "date") => Value::Date,
            (
                Self::ValidateCode,
                "url" | "code" | "system" | "systemVersion" | "version" | "display" | "displayLanguage"
                | "valueSetVersion",
            ) => Value::Text,
            (Self::ValidateCode, "date") => Value::Date,
            (Self::ValidateCode, "abstract") => Value::Boolean,
            (
                Self::Translate,
                "url" | "conceptMapVersion" | "code" | "system" | "version" | "source" | "target" | "targetsystem",
            ) => Value::Text,
            (Self::Translate, "reverse") => Value::Boolean,
            (Self::Export, "_outputFormat") => Value::Ndjson,
            (Self::Export, "_since") => Value::Date,
            (Self::Export, "_type") => Value::Types,
            (Self::Export, "_typeFilter" | "includeAssociatedData" | "patient") => {
                return Err(ParseError::UnsupportedOperationParameter);
            }
            (
                Self::Everything
                | Self::Lastn
                | Self::Docref
                | Self::Expand
                | Self::Lookup
                | Self::ValidateCode
                | Self::Translate
                | Self::Export,
                _,
            ) => return Err(ParseError::UnknownParameter),
        };
        Ok(value)
    }

    /// Types the decoded parameters of a call, from its query or from `Parameters`.
    pub(crate) fn query(self, pairs: Vec<(String, String)>) -> Result<Query, ParseError> {
        if self == Self::Lastn {
            return lastn(pairs);
        }
        let query = Query::typed(pairs, |name, text| self.parameter(name)?.fits(text))?;
        let presentation = query.presentation();
        let wants = !presentation.elements.is_empty() || presentation.total.is_some() || presentation.summary.is_some();
        match self {
            Self::Docref if query.value("patient").is_none() => Err(ParseError::UnsupportedOperationParameter),
            // What an export's files hold is judged line by line; leaving elements out is not offered for them.
            Self::Export if wants || presentation.count.is_some() => Err(ParseError::UnsupportedOperationParameter),
            Self::Everything
            | Self::Lastn
            | Self::Docref
            | Self::Expand
            | Self::Lookup
            | Self::ValidateCode
            | Self::Translate
            | Self::Export => Ok(query),
        }
    }

    /// The types of `_type`, if it was given.
    fn types(query: &Query) -> Vec<ResourceType> {
        query
            .value("_type")
            .map_or_else(Vec::new, |names| names.split(',').filter_map(|name| name.parse().ok()).collect())
    }

    pub(crate) fn touch(self, target: &Target, query: &Query, found: &mut Vec<Touched>) {
        let mut add = |kind, access, path| found.push(Touched { kind, access, id: None, path });
        let types = Self::types(query);
        match self {
            Self::Everything if types.is_empty() => {
                compartment::types().for_each(|kind| add(kind, Access::Search, Path::AnyOf));
            }
            Self::Everything => types.into_iter().for_each(|kind| add(kind, Access::Search, Path::Target)),
            // Bulk Data 2.0: the scopes must cover every resource that may be exported; without `_type` that is every type.
            Self::Export => {
                let types = if types.is_empty() { ResourceType::every().collect() } else { types };
                for kind in types {
                    add(kind, Access::Read, Path::Target);
                    add(kind, Access::Search, Path::Target);
                }
            }
            Self::Lastn | Self::Docref => {
                if let Some(kind) = target.resource_type() {
                    let criteria = if self == Self::Lastn { query } else { &Query::default() };
                    facts::of_search(kind, criteria, found);
                }
            }
            Self::Expand | Self::Lookup | Self::ValidateCode | Self::Translate => {
                if let Some(kind) = target.resource_type() {
                    add(kind, Access::Read, Path::Target);
                }
            }
        }
    }
}

/// `$lastn` takes `max` beside the criteria of a search on Observation (R4 observation-operation-lastn.html).
fn lastn(pairs: Vec<(String, String)>) -> Result<Query, ParseError> {
    let observation: ResourceType = "Observation".parse().map_err(|_| ParseError::UnknownResourceType)?;
    let (max, criteria): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == "max");
    let query = Query::search_pairs(&[observation], criteria, "")?;
    match max.as_slice() {
        [] => Ok(query),
        [(_, max)] if max.parse::<u32>().is_ok_and(|max| max > 0) => Ok(query.with_own("max", max)),
        [_] => Err(ParseError::MalformedValue),
        _ => Err(ParseError::Repeated),
    }
}

impl Value {
    fn fits(self, text: &str) -> Result<(), ParseError> {
        let fits = match self {
            Self::Date => crate::search::is_date(text),
            Self::Text => true,
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Integer => text.parse::<u32>().is_ok(),
            Self::Types => text.split(',').all(|name| name.parse::<ResourceType>().is_ok()),
            Self::Patient => crate::search::names_a_patient(text),
            Self::Ndjson => {
                matches!(text, "application/fhir+ndjson" | "application/fhir ndjson" | "application/ndjson" | "ndjson")
            }
        };
        if fits { Ok(()) } else { Err(ParseError::MalformedValue) }
    }
}
