//! What a search reaches and reads: one fact for every type, one path for every element.

use crate::ids::ResourceType;
use crate::interaction::{Access, Path, Touched};
use crate::search::{Parameter, Query, Row, definition, rules};

/// Adds the facts of a search on `kind`. The query was allowed when it was parsed: what no longer is touches nothing more,
/// because it is not sent either.
pub(crate) fn of_search(kind: ResourceType, query: &Query, found: &mut Vec<Touched>) {
    let mut add = |kind, access, path| found.push(Touched { kind, access, id: None, path });
    add(kind, Access::Search, Path::Target);
    for parameter in query.all() {
        match parameter.name() {
            "_include" => {
                let Ok(included) = rules::include(&[included_from(parameter).unwrap_or(kind)], parameter) else {
                    continue;
                };
                let types = included.target.map_or_else(|| included.row.types(), |target| vec![target]);
                match types.as_slice() {
                    [one] => add(*one, Access::Read, Path::Include),
                    several => several.iter().for_each(|one| add(*one, Access::Read, Path::AnyOf)),
                }
            }
            "_revinclude" => {
                if let Some(source) = included_from(parameter) {
                    add(source, Access::Read, Path::RevInclude);
                }
            }
            "_sort" => add(kind, Access::Search, Path::Sort),
            _ if parameter.is_chained() => {
                let mut reached = |kind, path| add(kind, Access::Search, path);
                let allowed = rules::walk(kind, parameter.key(), parameter.value(), &mut reached, usize::MAX);
                debug_assert!(allowed.is_ok(), "a parsed query was allowed");
            }
            _ => {}
        }
    }
}

fn included_from(parameter: &Parameter) -> Option<ResourceType> {
    parameter.value().split(':').next().and_then(|source| source.parse().ok())
}

impl Row {
    /// The types that a reference parameter reaches: its targets, or those that its expression filters for.
    pub fn types(&self) -> Vec<ResourceType> {
        let filtered: Option<Vec<ResourceType>> = self
            .paths()
            .map(|path| path.strip_suffix(']')?.rsplit_once('[').and_then(|(_, name)| name.parse().ok()))
            .collect();
        match filtered {
            Some(mut types) if !types.is_empty() => {
                types.sort_unstable();
                types.dedup();
                types
            }
            _ => self.targets.types(),
        }
    }
}

impl Query {
    /// The elements of `kind` that the criteria and the order read, as paths of the table, sorted.
    ///
    /// A row in which one of these elements is withheld from the caller must go whole, or the search tells what it held
    /// (architecture rule 2). `None` where an element cannot be named: then any withheld element drops the row.
    pub fn reads(&self, kind: ResourceType) -> Option<Vec<&'static str>> {
        let mut read: Vec<&'static str> = Vec::new();
        let mut add = |name: &str| {
            let row = match (kind.as_str(), name) {
                // Parameters of `$lastn` and of `$docref` that are none of a search.
                ("Observation", "max") => definition(kind, "date")?,
                ("DocumentReference", "start" | "end") => definition(kind, "period")?,
                _ => definition(kind, name)?,
            };
            if row.paths.is_empty() {
                return None;
            }
            read.extend(row.paths());
            Some(())
        };
        for parameter in self.iter() {
            match parameter.name() {
                "_include" | "_revinclude" | "_has" | "_type" | "_since" => {}
                "_sort" => {
                    for name in parameter.value().split(',') {
                        add(name.strip_prefix('-').unwrap_or(name))?;
                    }
                }
                name => add(name)?,
            }
        }
        read.sort_unstable();
        read.dedup();
        Some(read)
    }
}
