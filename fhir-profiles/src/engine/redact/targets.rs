//! Which references of a document lead to which of its resources.

use std::collections::BTreeMap;

use crate::engine::document::Document;
use crate::engine::facts::Place;
use crate::engine::json::{decoded, index};
use crate::engine::spread::Sieve;
use crate::ids::{LogicalId, ResourceType};
use crate::reference::Reference;

pub(super) struct Targets {
    /// (reference, resource), sorted.
    to: Vec<(u32, u32)>,
    /// (resource, reference), sorted.
    from: Vec<(u32, u32)>,
    /// (reference, using resource), sorted, for references that name a resource of the document.
    users: Vec<(u32, u32)>,
}

impl Targets {
    pub(super) fn of(document: &Document<'_>) -> Self {
        let mut by_instance: Vec<(&str, ResourceType, u32)> = Vec::with_capacity(document.references.len());
        let mut by_url: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (reference, number) in document.references.iter().zip(0u32..) {
            match &**reference {
                Reference::Relative { instance, .. } => {
                    by_instance.push((instance.id.as_str(), instance.kind, number));
                }
                Reference::Absolute { base, instance, .. } => {
                    by_url.entry(format!("{base}/{}", instance.relative())).or_default().push(number);
                }
                Reference::Urn(urn) => by_url.entry(urn.to_string()).or_default().push(number),
                Reference::Contained(_) | Reference::Opaque => {}
            }
        }
        by_instance.sort_unstable();
        let named = Sieve::of(by_instance.iter().map(|(id, _, _)| *id));
        let mut to = Vec::new();
        for ((facts, site), at) in document.resources.iter().zip(&document.sites).zip(0u32..) {
            if facts.place == Place::Contained {
                continue;
            }
            if let Some(id) = facts.id.as_ref().map(LogicalId::as_str).filter(|id| named.may_hold(id)) {
                let first = by_instance.partition_point(|(named, kind, _)| (*named, *kind) < (id, facts.kind));
                let found = by_instance.get(first..).unwrap_or_default().iter();
                let found = found.take_while(|(named, kind, _)| (*named, *kind) == (id, facts.kind));
                to.extend(found.map(|(_, _, number)| (*number, at)));
            }
            if let (false, Some(full_url)) = (by_url.is_empty(), site.full_url) {
                let found = by_url.get(&*decoded(document.text, full_url));
                to.extend(found.into_iter().flatten().map(|number| (*number, at)));
            }
        }
        to.sort_unstable();
        let mut from: Vec<_> = to.iter().map(|(reference, resource)| (*resource, *reference)).collect();
        from.sort_unstable();
        // Who uses a reference matters only where it names something that is here.
        let mut here = vec![false; document.references.len()];
        for (reference, _) in &to {
            if let Some(here) = here.get_mut(index(*reference)) {
                *here = true;
            }
        }
        let used = document.uses.iter().filter(|used| here.get(index(used.reference)) == Some(&true));
        let mut users: Vec<_> = used.map(|used| (used.reference, used.resource)).collect();
        users.sort_unstable();
        users.dedup();
        Self { to, from, users }
    }

    /// The resources of the document that a reference names.
    pub(super) fn here(&self, number: u32) -> impl Iterator<Item = u32> + '_ {
        seconds(&self.to, number)
    }

    /// Is the target in the document, or local to a container in it?
    pub(super) fn may_be_here(&self, number: u32, reference: &Reference) -> bool {
        match reference {
            Reference::Contained(_) => true,
            Reference::Relative { .. } | Reference::Absolute { .. } | Reference::Urn(_) | Reference::Opaque => {
                self.here(number).next().is_some()
            }
        }
    }

    /// The resources that refer to this one, from outside its container.
    pub(super) fn users_of(&self, resource: u32) -> Vec<u32> {
        seconds(&self.from, resource).flat_map(|reference| seconds(&self.users, reference)).collect()
    }

    /// The contained resources that a `#id` in this resource may name: those of its container with that id, and those
    /// without a legal id, which might be meant.
    pub(super) fn contained<'d>(
        &self,
        document: &'d Document<'_>,
        resource: u32,
        number: u32,
    ) -> impl Iterator<Item = u32> + 'd {
        let id = match document.reference(number) {
            Some(Reference::Contained(id)) => Some(&**id),
            _ => None,
        };
        let container = match document.resources.get(index(resource)) {
            Some(facts) if facts.place == Place::Contained => facts.parent.unwrap_or(resource),
            Some(_) | None => resource,
        };
        let after = document.resources.iter().zip(0u32..).skip(index(container) + 1);
        let held = after.take_while(move |(facts, _)| id.is_some() && facts.parent >= Some(container));
        held.filter(move |(facts, _)| {
            facts.place == Place::Contained
                && facts.parent == Some(container)
                && facts.id.as_ref().map(LogicalId::as_str).is_none_or(|own| Some(own) == id)
        })
        .map(|(_, at)| at)
    }
}

fn seconds(pairs: &[(u32, u32)], first: u32) -> impl Iterator<Item = u32> + '_ {
    let from = pairs.partition_point(|(at, _)| *at < first);
    pairs.get(from..).unwrap_or_default().iter().take_while(move |(at, _)| *at == first).map(|(_, second)| *second)
}
