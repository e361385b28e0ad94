//! What a request touches, in the words of scopes and of policies.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::interaction::{Access, Interaction, Path, Touched};
use fhir_profiles::operation::Operation;

use crate::question::Target;

/// Every type that the request reaches.
pub(crate) fn facts(interaction: &Interaction) -> Vec<Touched> {
    if *interaction == Interaction::Capabilities {
        let target = |kind: ResourceType| Touched { kind, access: Access::Read, id: None, path: Path::Target };
        return "CapabilityStatement".parse().map(|kind| vec![target(kind)]).unwrap_or_default();
    }
    interaction.touched()
}

/// The server's own description is no patient's; it is open to any partner in good standing.
pub(crate) const fn needs_scope(interaction: &Interaction) -> bool {
    !matches!(interaction, Interaction::Capabilities)
}

/// Does the fact refuse the request where scope or policy do not cover it? One of several types that an include or
/// `$everything` may bring does not: its rows are judged one by one, as they come.
pub(crate) const fn refuses(fact: &Touched) -> bool {
    match fact.path {
        Path::Target | Path::Include | Path::RevInclude | Path::Chain | Path::Has | Path::Sort => true,
        Path::AnyOf => false,
    }
}

/// The policy action for one touched type: the request's own for what it asks for, a read or a search for the rest.
const fn action(interaction: &Interaction, fact: &Touched) -> &'static str {
    let by_access = match fact.access {
        Access::Create => "create",
        Access::Read => "read",
        Access::Update => "update",
        Access::Delete => "delete",
        Access::Search => "search-type",
    };
    match fact.path {
        Path::Include | Path::RevInclude | Path::AnyOf | Path::Chain | Path::Has | Path::Sort => return by_access,
        Path::Target => {}
    }
    match interaction {
        Interaction::Capabilities => "capabilities",
        Interaction::Read { .. } => "read",
        Interaction::Vread { .. } => "vread",
        Interaction::HistoryInstance { .. } => "history-instance",
        Interaction::HistoryType { .. } => "history-type",
        Interaction::HistorySystem { .. } => "history-system",
        Interaction::SearchType { .. } => "search-type",
        Interaction::SearchSystem { .. } => "search-system",
        Interaction::SearchCompartment { .. } => "search-compartment",
        Interaction::Patch { .. } => "patch",
        Interaction::Operation { .. }
        | Interaction::Page { .. }
        | Interaction::ExportStatus { .. }
        | Interaction::ExportDelete { .. }
        | Interaction::ExportFile { .. } => "operation",
        Interaction::ConditionalPatch { .. } => match fact.access {
            Access::Update => "patch",
            Access::Create | Access::Read | Access::Delete | Access::Search => by_access,
        },
        Interaction::Update { .. }
        | Interaction::Delete { .. }
        | Interaction::Create { .. }
        | Interaction::ConditionalCreate { .. }
        | Interaction::ConditionalUpdate { .. }
        | Interaction::ConditionalDelete { .. }
        | Interaction::Batch { .. }
        | Interaction::Transaction { .. } => by_access,
    }
}

/// The question that one touched type puts to the policies.
pub(crate) fn target(interaction: &Interaction, fact: &Touched) -> Target {
    Target { action: action(interaction, fact).to_owned(), kind: fact.kind, path: path(fact.path).to_owned() }
}

/// The access under which what comes back is shown: `s` for rows of a search, `r` for anything else.
pub(crate) const fn shown_by(interaction: &Interaction) -> Access {
    match interaction {
        Interaction::SearchType { .. }
        | Interaction::SearchSystem { .. }
        | Interaction::SearchCompartment { .. }
        | Interaction::HistoryType { .. }
        | Interaction::HistorySystem { .. }
        | Interaction::Page { .. } => Access::Search,
        Interaction::Operation { operation, .. } => match operation {
            Operation::Everything | Operation::Lastn | Operation::Docref => Access::Search,
            Operation::Expand
            | Operation::Lookup
            | Operation::ValidateCode
            | Operation::Translate
            | Operation::Export => Access::Read,
        },
        Interaction::Capabilities
        | Interaction::Read { .. }
        | Interaction::Vread { .. }
        | Interaction::HistoryInstance { .. }
        | Interaction::Update { .. }
        | Interaction::Patch { .. }
        | Interaction::Delete { .. }
        | Interaction::Create { .. }
        | Interaction::ConditionalCreate { .. }
        | Interaction::ConditionalUpdate { .. }
        | Interaction::ConditionalPatch { .. }
        | Interaction::ConditionalDelete { .. }
        | Interaction::Batch { .. }
        | Interaction::Transaction { .. }
        | Interaction::ExportStatus { .. }
        | Interaction::ExportDelete { .. }
        | Interaction::ExportFile { .. } => Access::Read,
    }
}

const fn path(path: Path) -> &'static str {
    match path {
        Path::Target => "target",
        Path::Include => "include",
        Path::RevInclude => "revinclude",
        Path::AnyOf => "any-of",
        Path::Chain => "chain",
        Path::Has => "has",
        Path::Sort => "sort",
    }
}
