//! The shape of one resource, for the few that must be changed: spans, links between them, and no copies.
//!
//! Built from text that [`super::scan`] has accepted, so that it never fails. Resources held by this one are leaves.

use std::borrow::Cow;

use super::document::{Coding, Document};
use super::json::{Cursor, Kind, Span, Text, behind_whitespace, decoded, index, offset, slice, string};

/// A value in a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node(u32);

#[derive(Clone, Copy)]
struct Item {
    /// The value.
    value: Span,
    /// The member name with its quotes; empty for array items and the root.
    key: Span,
    parent: u32,
    next: u32,
    first: u32,
    kind: Kind,
    key_escaped: bool,
    /// The resource that stands here, if it is another than the one of the tree.
    resource: u32,
}

const NONE: u32 = u32::MAX;

/// How much text there is for a value, at the least, as a rule.
const BYTES_A_VALUE: usize = 12;

const NOTHING: Item = Item {
    value: Span { start: 0, end: 0 },
    key: Span { start: 0, end: 0 },
    parent: NONE,
    next: NONE,
    first: NONE,
    kind: Kind::Null,
    key_escaped: false,
    resource: NONE,
};

pub(super) struct Tree<'a> {
    text: &'a str,
    items: Vec<Item>,
    /// The resources that stand directly in this one, in order.
    held: Vec<(Span, u32)>,
}

impl<'a> Tree<'a> {
    /// The tree of a resource of the document.
    pub(super) fn of(document: &Document<'a>, resource: u32) -> Self {
        Self::but(document, resource, document.held_by(resource), &[])
    }

    /// The same, in which the objects at these spans (in order, apart) are leaves as the held resources are.
    pub(super) fn but(document: &Document<'a>, resource: u32, held: Vec<(Span, u32)>, closed: &[Span]) -> Self {
        let span = document.sites.get(index(resource)).map(|site| site.span).unwrap_or_default();
        let len = |span: &Span| span.end.saturating_sub(span.start);
        let not_read: u32 =
            if closed.is_empty() { held.iter().map(|(held, _)| len(held)).sum() } else { closed.iter().map(len).sum() };
        let room = index(len(&span).saturating_sub(not_read)) / BYTES_A_VALUE + closed.len();
        let mut cursor = Cursor::new(document.text);
        cursor.at = index(span.start);
        let mut builder = Builder { cursor, items: Vec::with_capacity(room), held: &held, closed };
        builder.value(NONE, Span::default(), false, false);
        Self { text: document.text, items: builder.items, held }
    }

    pub(super) fn root(&self) -> Node {
        Node(0)
    }

    fn item(&self, node: Node) -> &Item {
        self.items.get(index(node.0)).unwrap_or(&NOTHING)
    }

    pub(super) fn kind(&self, node: Node) -> Kind {
        self.item(node).kind
    }

    pub(super) fn span(&self, node: Node) -> Span {
        self.item(node).value
    }

    /// From the member name, or from the value where there is none, to the end of the value.
    pub(super) fn whole(&self, node: Node) -> Span {
        let item = self.item(node);
        if item.key.end == 0 { item.value } else { Span { start: item.key.start, end: item.value.end } }
    }

    /// The resource that stands here, if it is another than the one of the tree.
    pub(super) fn resource(&self, node: Node) -> Option<u32> {
        let resource = self.item(node).resource;
        (resource != NONE).then_some(resource)
    }

    /// The resources that stand directly in this one, in this value.
    pub(super) fn held_in(&self, node: Node) -> impl Iterator<Item = u32> + '_ {
        let span = self.span(node);
        let first = self.held.partition_point(|(held, _)| held.start < span.start);
        let held = self.held.get(first..).unwrap_or_default().iter();
        held.take_while(move |(held, _)| held.start < span.end).map(|(_, resource)| *resource)
    }

    /// Where another resource stands in this one.
    pub(super) fn find_resource(&self, resource: u32) -> Option<Node> {
        (0..offset(self.items.len())).map(Node).find(|node| self.resource(*node) == Some(resource))
    }

    pub(super) fn parent(&self, node: Node) -> Option<Node> {
        let parent = self.item(node).parent;
        (parent != NONE).then_some(Node(parent))
    }

    /// Members of an object or items of an array, in order.
    pub(super) fn children(&self, node: Node) -> impl Iterator<Item = Node> + '_ {
        let first = self.item(node).first;
        core::iter::successors((first != NONE).then_some(Node(first)), |node| {
            let next = self.item(*node).next;
            (next != NONE).then_some(Node(next))
        })
    }

    /// Items of an array; none for anything else.
    pub(super) fn items(&self, node: Node) -> Vec<Node> {
        if self.kind(node) == Kind::Array { self.children(node).collect() } else { Vec::new() }
    }

    /// The name of a member.
    pub(super) fn name(&self, node: Node) -> Cow<'a, str> {
        let item = self.item(node);
        if item.key.end == 0 {
            return Cow::Borrowed("");
        }
        decoded(self.text, quoted(item.key, item.key_escaped))
    }

    /// The value of a member of an object.
    pub(super) fn member(&self, node: Node, name: &str) -> Option<Node> {
        if self.kind(node) != Kind::Object {
            return None;
        }
        self.children(node).find(|child| self.name(*child) == name)
    }

    /// The text of a string.
    pub(super) fn string(&self, node: Node) -> Option<Cow<'a, str>> {
        let item = self.item(node);
        if item.kind != Kind::String {
            return None;
        }
        let escaped = slice(self.text, item.value).contains('\\');
        Some(decoded(self.text, quoted(item.value, escaped)))
    }

    /// The text of a member that is a string.
    pub(super) fn text(&self, node: Node, name: &str) -> Option<Cow<'a, str>> {
        self.member(node, name).and_then(|value| self.string(value))
    }

    /// A value as it is written.
    pub(super) fn written(&self, node: Node) -> &'a str {
        slice(self.text, self.span(node))
    }

    /// A member with its name, or an item, as it is written.
    pub(super) fn written_whole(&self, node: Node) -> &'a str {
        slice(self.text, self.whole(node))
    }

    /// The member names that lead to a node from the root of the tree, array indexes left out.
    pub(super) fn names(&self, node: Node) -> Vec<Cow<'a, str>> {
        let mut names: Vec<_> = core::iter::successors(Some(node), |node| self.parent(*node))
            .filter(|node| self.item(*node).key.end != 0)
            .map(|node| self.name(node))
            .collect();
        names.reverse();
        names
    }

    /// The FHIRPath-like path of a node from the root of the tree, such as `component[1].valueString`.
    pub(super) fn path(&self, node: Node) -> String {
        let mut steps = Vec::new();
        let mut at = node;
        while let Some(parent) = self.parent(at) {
            steps.push(if self.kind(parent) == Kind::Array {
                let position = self.children(parent).position(|child| child == at).unwrap_or_default();
                format!("[{position}]")
            } else {
                format!(".{}", self.name(at))
            });
            at = parent;
        }
        steps.iter().rev().map(String::as_str).collect()
    }

    /// Every object that has a code, and every coding.
    pub(super) fn codings(&self) -> Vec<Coding> {
        let mut codings = Vec::new();
        for at in 0..offset(self.items.len()) {
            let node = Node(at);
            if self.kind(node) != Kind::Object || self.resource(node).is_some() {
                continue;
            }
            let code = self.text(node, "code").map(Cow::into_owned);
            let system = self.text(node, "system").map(Cow::into_owned);
            if code.is_some() {
                let path = self.path(node);
                let plain: String = path
                    .split('[')
                    .enumerate()
                    .map(|(i, part)| if i == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) })
                    .collect();
                codings.push(Coding { path: plain.trim_start_matches('.').to_owned(), system, code });
            }
        }
        codings
    }
}

/// The inside of a string with its quotes.
fn quoted(whole: Span, escaped: bool) -> Text {
    Text::between(index(whole.start), index(whole.end.saturating_sub(1)), escaped)
}

struct Builder<'a, 'h> {
    cursor: Cursor<'a>,
    items: Vec<Item>,
    /// Those that are still ahead.
    held: &'h [(Span, u32)],
    closed: &'h [Span],
}

impl Builder<'_, '_> {
    fn value(&mut self, parent: u32, key: Span, key_escaped: bool, may_be_leaf: bool) -> u32 {
        let at = offset(self.items.len());
        let start = self.cursor.at;
        let kind = self.cursor.kind().unwrap_or(Kind::Null);
        self.items.push(Item { parent, key, key_escaped, kind, ..NOTHING });
        if !(may_be_leaf && kind == Kind::Object && (self.is_held(at, start) || self.is_closed(start))) {
            match kind {
                Kind::Object | Kind::Array => self.children(at, kind == Kind::Object),
                Kind::String => drop(self.cursor.string()),
                Kind::Scalar | Kind::Null => drop(self.cursor.scalar()),
            }
        }
        if let Some(item) = self.items.get_mut(index(at)) {
            item.value = Span::new(start, self.cursor.at);
        }
        at
    }

    /// Goes behind the resource that stands here, if one does.
    fn is_held(&mut self, at: u32, start: usize) -> bool {
        let Some(((span, resource), rest)) = self.held.split_first() else { return false };
        if span.start != offset(start) {
            return false;
        }
        self.held = rest;
        self.cursor.at = index(span.end);
        if let Some(item) = self.items.get_mut(index(at)) {
            item.resource = *resource;
        }
        true
    }

    /// Goes behind the object that stands here, if it is to be a leaf.
    fn is_closed(&mut self, start: usize) -> bool {
        let Some((span, rest)) = self.closed.split_first() else { return false };
        if span.start != offset(start) {
            return false;
        }
        self.closed = rest;
        self.cursor.at = index(span.end);
        let inside = self.held.iter().take_while(|(held, _)| held.start < span.end).count();
        self.held = self.held.get(inside..).unwrap_or_default();
        true
    }

    fn children(&mut self, parent: u32, named: bool) {
        let bytes = self.cursor.bytes;
        let mut at = self.cursor.at + 1;
        let mut last = NONE;
        loop {
            at = behind_whitespace(bytes, at);
            match bytes.get(at) {
                Some(b',') => at += 1,
                Some(b'}' | b']') => break,
                // Never on text that was accepted.
                None => return,
                Some(_) => {
                    let (mut key, mut escaped) = (Span::default(), false);
                    if named {
                        let Ok((name, end)) = string(bytes, at) else { return };
                        (key, escaped) = (Span::new(at, end), name.escaped());
                        at = behind_whitespace(bytes, behind_whitespace(bytes, end) + 1);
                    }
                    self.cursor.at = at;
                    let child = self.value(parent, key, escaped, true);
                    at = self.cursor.at;
                    let previous = if last == NONE { parent } else { last };
                    if let Some(item) = self.items.get_mut(index(previous)) {
                        if last == NONE { item.first = child } else { item.next = child }
                    }
                    last = child;
                }
            }
        }
        self.cursor.at = at + 1;
    }
}
