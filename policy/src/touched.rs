//! What a request touches, in the words of scopes and of policies.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::interaction::{Access, Interaction, Path, Touched};

/// Every type that the request reaches.
pub(crate) fn facts(interaction: &Interaction) -> Vec<Touched> {
    let target = |kind: ResourceType, access, id| Touched { kind, access, id, path: Path::Target };
    match interaction {
        Interaction::Capabilities => {
            "CapabilityStatement".parse().map(|kind| vec![target(kind, Access::Read, None)]).unwrap_or_default()
        }
        Interaction::Read { kind, id } => vec![target(*kind, Access::Read, Some(id.clone()))],
        Interaction::SearchType { kind, .. } => vec![target(*kind, Access::Search, None)],
    }
}

/// The server's own description is no patient's; it is open to any partner in good standing.
pub(crate) const fn needs_scope(interaction: &Interaction) -> bool {
    !matches!(interaction, Interaction::Capabilities)
}

/// The policy action for one touched type: the request's own for what it asks for, a read or a search for the rest.
pub(crate) const fn action(interaction: &Interaction, fact: &Touched) -> &'static str {
    match (interaction, fact.path) {
        (Interaction::Capabilities, Path::Target) => "capabilities",
        (Interaction::Read { .. }, Path::Target) => "read",
        (Interaction::SearchType { .. }, Path::Target) => "search-type",
        (
            Interaction::Capabilities | Interaction::Read { .. } | Interaction::SearchType { .. },
            Path::Include | Path::RevInclude | Path::Chain | Path::Has | Path::Sort,
        ) => match fact.access {
            Access::Create => "create",
            Access::Read => "read",
            Access::Update => "update",
            Access::Delete => "delete",
            Access::Search => "search-type",
        },
    }
}

/// The access under which what comes back is shown: `s` for rows of a search, `r` for anything else.
pub(crate) const fn shown_by(interaction: &Interaction) -> Access {
    match interaction {
        Interaction::Capabilities | Interaction::Read { .. } => Access::Read,
        Interaction::SearchType { .. } => Access::Search,
    }
}

pub(crate) const fn path(path: Path) -> &'static str {
    match path {
        Path::Target => "target",
        Path::Include => "include",
        Path::RevInclude => "revinclude",
        Path::Chain => "chain",
        Path::Has => "has",
        Path::Sort => "sort",
    }
}
