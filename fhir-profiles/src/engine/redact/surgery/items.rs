//! What becomes of the items of an array, and of the siblings that stand beside them by position.

use super::{Field, Surgery};
use crate::engine::json::Kind;
use crate::engine::redact::envelope;
use crate::engine::redact::plan::Cause;
use crate::engine::tree::Node;

enum ItemFate {
    Stays,
    Goes(Cause),
    /// A primitive stays, its sibling has nothing left.
    LosesSibling(Cause),
}

impl Surgery<'_, '_, '_> {
    pub(super) fn array(&mut self, object: Node, field: &mut Field<'_>, list: Node) -> Option<Cause> {
        if self.is_untouched(list) && field.sibling.is_none_or(|sibling| self.is_untouched(sibling)) {
            return None;
        }
        let items: Vec<Node> = if field.value.is_some() { self.tree.items(list) } else { Vec::new() };
        let siblings = field.sibling.map(|sibling| self.tree.items(sibling)).unwrap_or_default();
        let mut gone = Vec::new();
        let mut emptied = Vec::new();
        for position in 0..items.len().max(siblings.len()) {
            let (item, sibling) = (items.get(position).copied(), siblings.get(position).copied());
            match self.item_fate(item, sibling) {
                ItemFate::Stays => {}
                ItemFate::Goes(cause) => gone.push((item, sibling, cause)),
                ItemFate::LosesSibling(cause) => emptied.extend(sibling.map(|sibling| (sibling, cause))),
            }
        }
        if gone.is_empty() && emptied.is_empty() {
            return None;
        }
        let all = !gone.is_empty() && gone.len() == items.len().max(siblings.len());
        let (below, bond) = self.path_of(object).step(&field.name);
        let stands_in = envelope::stands_in(self, &below);
        if let Some((_, _, cause)) = gone.last()
            && (all || bond.modifier)
            && !stands_in
        {
            return Some(*cause);
        }
        for (item, sibling, cause) in &gone {
            if let Some(node) = item.or(*sibling) {
                self.record(node, *cause);
            }
        }
        if stands_in {
            for node in gone.iter().filter_map(|(item, _, _)| *item) {
                self.plan.replace(self.tree.span(node), self.options().missing_entry);
            }
            return None;
        }
        let gone_items: Vec<Node> = gone.iter().filter_map(|(item, _, _)| *item).collect();
        let gone_siblings: Vec<Node> = gone.iter().filter_map(|(_, sibling, _)| *sibling).collect();
        if field.value.is_some() {
            self.cut(list, &gone_items);
        }
        self.null_out(&emptied);
        if let Some(sibling) = field.sibling
            && !(gone_siblings.is_empty() && emptied.is_empty())
        {
            let left = |node: &Node| {
                gone_siblings.binary_search(node).is_err() && !emptied.iter().any(|(gone, _)| gone == node)
            };
            field.sibling_gone = !siblings.iter().any(|node| left(node) && self.tree.kind(*node) != Kind::Null);
            if !field.sibling_gone {
                self.cut(sibling, &gone_siblings);
            }
        }
        None
    }

    /// Siblings that lost all they had, while their values stay: `null` keeps the positions aligned.
    fn null_out(&mut self, emptied: &[(Node, Cause)]) {
        for (node, cause) in emptied {
            self.record(*node, *cause);
            self.plan.replace(self.tree.span(*node), "null");
        }
    }

    /// Why a sibling that stands beside no value goes.
    pub(super) fn sibling_goes(&mut self, sibling: Node) -> Option<Cause> {
        match self.item_fate(None, Some(sibling)) {
            ItemFate::Goes(cause) | ItemFate::LosesSibling(cause) => Some(cause),
            ItemFate::Stays => None,
        }
    }

    fn item_fate(&mut self, item: Option<Node>, sibling: Option<Node>) -> ItemFate {
        let kind = item.map(|item| self.tree.kind(item));
        if let (Some(item), Some(Kind::Object)) = (item, kind)
            && let Some(cause) = self.value(item)
        {
            return ItemFate::Goes(cause);
        }
        let Some(sibling) = sibling.filter(|sibling| self.tree.kind(*sibling) == Kind::Object) else {
            return ItemFate::Stays;
        };
        if let Some(cause) = self.own_labels(sibling) {
            return ItemFate::Goes(cause);
        }
        match (self.object(sibling), kind) {
            (Ok(()), _) => ItemFate::Stays,
            (Err(cause), None | Some(Kind::Null)) => ItemFate::Goes(cause),
            (Err(cause), Some(Kind::Object | Kind::Array | Kind::String | Kind::Scalar)) => {
                ItemFate::LosesSibling(cause)
            }
        }
    }
}
