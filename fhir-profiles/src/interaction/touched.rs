//! The facts that a request touches: every type it reaches, and how (rule 2).

use crate::ids::{LogicalId, ResourceType};
use crate::interaction::Interaction;
use crate::operation::Target;
use crate::search::facts;

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

/// How a request reaches a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// The type that is asked for.
    Target,
    /// `_include` with one possible type: it must be in scope.
    Include,
    /// `_revinclude`: it must be in scope.
    RevInclude,
    /// One of several types that an `_include`, `$everything` or an export may bring. It does not refuse the request:
    /// the rows that come are judged one by one, each by its own type, and at least one such type should be in scope.
    AnyOf,
    /// A chained parameter reads this type, and the answer does not show what was read: no label can be looked at.
    /// To be refused wherever a resource of this type may be withheld from the caller.
    Chain,
    /// `_has` reads this type. As [`Path::Chain`].
    Has,
    /// `_sort` reads elements of the type.
    Sort,
}

impl Interaction {
    /// Every fact that the request touches, sorted, each once: the order of parameters or entries changes nothing.
    ///
    /// Sealed tokens touch nothing of themselves: the gateway opens them and decides anew on the request inside.
    pub fn touched(&self) -> Vec<Touched> {
        let mut found = Vec::new();
        self.touch(&mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    fn touch(&self, found: &mut Vec<Touched>) {
        let mut add = |kind: ResourceType, access, id: Option<&LogicalId>| {
            found.push(Touched { kind, access, id: id.cloned(), path: Path::Target });
        };
        match self {
            Self::Capabilities
            | Self::Page { .. }
            | Self::ExportStatus { .. }
            | Self::ExportDelete { .. }
            | Self::ExportFile { .. } => {}
            // SMART 2.2 scopes: `r` covers read, vread and instance history; `s` type and system history.
            Self::Read { kind, id, .. } | Self::Vread { kind, id, .. } | Self::HistoryInstance { kind, id, .. } => {
                add(*kind, Access::Read, Some(id));
            }
            Self::Update { kind, id } | Self::Patch { kind, id } => add(*kind, Access::Update, Some(id)),
            Self::Delete { kind, id } => add(*kind, Access::Delete, Some(id)),
            Self::HistoryType { kind, .. } => add(*kind, Access::Search, None),
            Self::HistorySystem { .. } => {
                for kind in ResourceType::every() {
                    add(kind, Access::Search, None);
                }
            }
            Self::Create { kind } => add(*kind, Access::Create, None),
            // A condition is a search: it needs `s` beside the letter of the write.
            Self::ConditionalCreate { kind, condition } => {
                add(*kind, Access::Create, None);
                facts::of_search(*kind, condition, found);
            }
            Self::ConditionalUpdate { kind, condition } => {
                add(*kind, Access::Update, None);
                facts::of_search(*kind, condition, found);
            }
            Self::ConditionalPatch { kind, condition } => {
                add(*kind, Access::Update, None);
                facts::of_search(*kind, condition, found);
            }
            Self::ConditionalDelete { kind, condition } => {
                add(*kind, Access::Delete, None);
                facts::of_search(*kind, condition, found);
            }
            Self::SearchType { kind, query } => facts::of_search(*kind, query, found),
            Self::SearchCompartment { kind, query, .. } => facts::of_search(*kind, query, found),
            Self::SearchSystem { kinds, query } => {
                for kind in kinds {
                    facts::of_search(*kind, query, found);
                }
            }
            Self::Batch { entries } | Self::Transaction { entries } => {
                for entry in entries {
                    if let Ok(request) = &entry.request {
                        request.touch(found);
                    }
                    entry.searches.iter().for_each(|reference| reference.search.touch(found));
                }
            }
            Self::Operation { operation, target, query } => {
                if let Target::Instance(instance) = target {
                    add(instance.kind, Access::Read, Some(&instance.id));
                }
                operation.touch(target, query, found);
            }
        }
    }
}
