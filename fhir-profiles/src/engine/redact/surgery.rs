//! What becomes of the elements of one resource.
//!
//! An element goes when its inline labels are withheld or it refers to something withheld. An object that loses
//! something it cannot do without goes with it, and so on up to the resource: a required element, a modifier, all of
//! its members. In the marked style a required element or a modifier stays, emptied and masked.

mod aftermath;
mod items;
mod points;
mod removal;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::options::{RedactOptions, Style};
use super::plan::{Cause, Plan};
use super::{Redaction, envelope, patch};
use crate::engine::elements::ElementPath;
use crate::engine::facts::{Place, ResourceFacts, Verdict};
use crate::engine::json::{Kind, index};
use crate::engine::tree::{Node, Tree};
use crate::ids::ResourceType;

/// Members up to which a list of them is searched one by one.
const FEW: usize = 32;

/// Plans a resource. An error says that it cannot stand without what goes.
pub(super) fn plan(redaction: &Redaction<'_, '_>, resource: u32) -> Result<Plan, Cause> {
    let Some(facts) = redaction.facts(resource) else { return Ok(Plan::default()) };
    if envelope::is_advisory(redaction.document.text_of(resource)) {
        return Ok(Plan::default());
    }
    let held = redaction.document.held_by(resource);
    let points = points::of(redaction, resource, &held);
    let closed = points::untouched_entries(redaction, &held, &points);
    let tree = Tree::but(redaction.document, resource, held, &closed);
    let mut surgery = Surgery { redaction, tree, resource, facts, points, plan: Plan::default() };
    let root = surgery.tree.root();
    surgery.object(root)?;
    Ok(surgery.plan)
}

pub(super) struct Surgery<'s, 'r, 'a> {
    pub(super) redaction: &'s Redaction<'r, 'a>,
    pub(super) tree: Tree<'a>,
    pub(super) resource: u32,
    pub(super) facts: &'r ResourceFacts,
    points: Vec<u32>,
    pub(super) plan: Plan,
}

/// A member with its `_` sibling.
pub(super) struct Field<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: Option<Node>,
    pub(super) sibling: Option<Node>,
    /// Why the member goes with its sibling.
    pub(super) gone: Option<Cause>,
    /// One goes without the other.
    pub(super) value_gone: bool,
    pub(super) sibling_gone: bool,
}

impl<'a> Field<'a> {
    const fn named(name: Cow<'a, str>) -> Self {
        Self { name, value: None, sibling: None, gone: None, value_gone: false, sibling_gone: false }
    }
}

impl<'r, 'a> Surgery<'_, 'r, 'a> {
    pub(super) fn options(&self) -> &'r RedactOptions<'r> {
        self.redaction.options
    }

    /// Is there nothing to do in this value?
    fn is_untouched(&self, node: Node) -> bool {
        let span = self.tree.span(node);
        let first = self.points.partition_point(|point| *point < span.start);
        let tidy = self.options().strip_outcomes && self.facts.kind == ResourceType::OPERATION_OUTCOME;
        !tidy && self.points.get(first).is_none_or(|point| *point >= span.end)
    }

    /// Where an element stands, by its type. `None` at the roots of primitives' siblings: they are Elements.
    pub(super) fn path_of(&self, node: Node) -> ElementPath {
        let mut at = ElementPath::of(self.facts.kind.as_str());
        for name in self.tree.names(node) {
            at = match name.strip_prefix('_') {
                Some(_) => ElementPath::of("Element"),
                None => at.step(&name).0,
            };
        }
        at
    }

    /// Plans an object; an error says that it goes as a whole, and nothing of it stays planned.
    fn object(&mut self, node: Node) -> Result<(), Cause> {
        if node != self.tree.root() && self.is_untouched(node) {
            return Ok(());
        }
        let mark = self.plan.mark();
        let fate = self.own_labels(node).or_else(|| self.own_reference(node)).map_or_else(|| self.fields(node), Err);
        if fate.is_err() {
            self.plan.rewind(mark);
        }
        fate
    }

    fn fields(&mut self, node: Node) -> Result<(), Cause> {
        let outer = core::mem::replace(&mut self.plan.reduced, false);
        let mut fields = self.fields_of(node);
        for field in &mut fields {
            self.field(node, field)?;
        }
        self.aftermath(node, &mut fields)?;
        if let Some(cause) = fields.iter().rev().find_map(|field| field.gone)
            && fields.iter().all(|field| field.gone.is_some())
        {
            return Err(cause);
        }
        let of_field = |field: &Field<'_>| {
            let value = field.value.filter(|_| field.gone.is_some() || field.value_gone);
            let sibling = field.sibling.filter(|_| field.gone.is_some() || field.sibling_gone);
            [value, sibling]
        };
        let mut gone: Vec<Node> = fields.iter().flat_map(of_field).flatten().collect();
        gone.sort_unstable();
        self.cut(node, &gone);
        self.plan.reduced |= outer;
        Ok(())
    }

    fn fields_of(&self, node: Node) -> Vec<Field<'a>> {
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(FEW / 2);
        let mut places: BTreeMap<Cow<'a, str>, usize> = BTreeMap::new();
        for child in self.tree.children(node) {
            let (base, is_sibling) = base_of(self.tree.name(child));
            // FHIR objects are small: a list is searched faster than a map is built. Hostile ones are not.
            let known = if fields.len() <= FEW {
                fields.iter().position(|field| field.name == base)
            } else {
                if places.is_empty() {
                    places.extend(fields.iter().map(|field| field.name.clone()).zip(0..));
                }
                places.get(&base).copied()
            };
            let at = known.unwrap_or_else(|| {
                if fields.len() > FEW {
                    places.insert(base.clone(), fields.len());
                }
                fields.push(Field::named(base));
                fields.len() - 1
            });
            if let Some(field) = fields.get_mut(at) {
                if is_sibling { field.sibling = Some(child) } else { field.value = Some(child) }
            }
        }
        fields
    }

    /// Plans a member: it stays, goes, is masked, or takes the object with it.
    fn field(&mut self, object: Node, field: &mut Field<'_>) -> Result<(), Cause> {
        if field.name == "meta" && object == self.tree.root() {
            return Ok(());
        }
        if let Some(cause) = envelope::tidied(self, object, &field.name) {
            field.gone = Some(cause);
            return Ok(());
        }
        let Some(cause) = self.fate(object, field) else {
            patch::own_url(self, field);
            return Ok(());
        };
        if cause.tidy {
            field.gone = Some(cause);
            return Ok(());
        }
        let at = self.path_of(object);
        let (_, bond) = at.step(&field.name);
        if !bond.binds() {
            self.remove(field, cause);
            return Ok(());
        }
        if self.options().style == Style::Marked && self.can_be_masked(&at, field) {
            self.mask(field, cause);
            return Ok(());
        }
        Err(cause)
    }

    /// Why a member goes as a whole, if it does.
    fn fate(&mut self, object: Node, field: &mut Field<'_>) -> Option<Cause> {
        match field.value.map(|value| (value, self.tree.kind(value))) {
            Some((value, Kind::Array)) => {
                if field.sibling.is_none_or(|sibling| self.tree.kind(sibling) == Kind::Array) {
                    return self.array(object, field, value);
                }
                if let Some(cause) = self.array_alone(object, field, value) {
                    return Some(cause);
                }
            }
            Some((value, Kind::Object)) => {
                if let Some(cause) = self.value(value) {
                    return Some(cause);
                }
            }
            Some((_, Kind::String | Kind::Scalar | Kind::Null)) => {}
            None => {
                if let Some(sibling) = field.sibling
                    && self.tree.kind(sibling) == Kind::Array
                {
                    return self.array(object, field, sibling);
                }
            }
        }
        if let (Some(_), Some(sibling)) = (field.value, field.sibling)
            && self.tree.kind(sibling) == Kind::Array
        {
            // The siblings of items that are none: whatever is labelled in there may have been meant for the value.
            return self.tree.items(sibling).into_iter().find_map(|item| self.sibling_goes(item));
        }
        let sibling = field.sibling.filter(|sibling| self.tree.kind(*sibling) == Kind::Object)?;
        if let Some(cause) = self.own_labels(sibling) {
            return Some(cause);
        }
        // What the sibling loses is its own; only when nothing else is left does the member go.
        let cause = self.object(sibling).err()?;
        if field.value.is_none() {
            return Some(cause);
        }
        field.sibling_gone = true;
        self.record(sibling, cause);
        None
    }

    /// Why an array goes, whatever stands beside it.
    fn array_alone(&mut self, object: Node, field: &Field<'_>, list: Node) -> Option<Cause> {
        let mut alone = Field::named(Cow::Borrowed(&*field.name));
        alone.value = Some(list);
        self.array(object, &mut alone, list)
    }

    /// Why an object, or the resource that stands there, goes.
    fn value(&mut self, node: Node) -> Option<Cause> {
        match self.tree.resource(node) {
            Some(held) => self.redaction.why_withheld(held),
            None => self.object(node).err(),
        }
    }

    /// Why an element goes for labels of its own.
    fn own_labels(&self, node: Node) -> Option<Cause> {
        let start = self.tree.span(node).start;
        let labelled = &self.redaction.document.labelled;
        let found = labelled.binary_search_by_key(&start, |(start, _)| *start).ok()?;
        let (_, labels) = *labelled.get(found)?;
        match self.redaction.judge.element(self.resource, self.facts, labels) {
            Verdict::Show => None,
            Verdict::Withhold { rule } => Some(Cause::element(rule, labels)),
        }
    }

    /// Why an element goes for what it refers to.
    fn own_reference(&self, node: Node) -> Option<Cause> {
        let texts = ["reference", "url"].iter().filter_map(|name| self.tree.member(node, name));
        texts.filter(|text| self.tree.kind(*text) == Kind::String).find_map(|text| {
            let inside = self.tree.span(text).start + 1;
            let uses = self.redaction.document.uses_of(self.resource);
            let used = uses.get(uses.binary_search_by_key(&inside, |used| used.at).ok()?)?;
            self.redaction.why_reference_goes(self.resource, used.reference)
        })
    }

    pub(super) fn is_contained(&self) -> bool {
        self.facts.place == Place::Contained
    }

    /// Did something go in a resource that this one contains?
    pub(super) fn contains_reduced(&self) -> bool {
        let plans = self.redaction.plans.range(self.resource + 1..);
        let resources = &self.redaction.document.resources;
        let mut held = plans.filter_map(|(at, plan)| Some((resources.get(index(*at))?, plan)));
        held.any(|(facts, plan)| {
            facts.parent == Some(self.resource) && facts.place == Place::Contained && plan.reduced()
        })
    }
}

/// The name of an element, and whether it is the `_` sibling's.
fn base_of(name: Cow<'_, str>) -> (Cow<'_, str>, bool) {
    match name {
        Cow::Borrowed(name) => name.strip_prefix('_').map_or((Cow::Borrowed(name), false), |base| (base.into(), true)),
        Cow::Owned(name) => match name.strip_prefix('_') {
            Some(base) => (Cow::Owned(base.to_owned()), true),
            None => (Cow::Owned(name), false),
        },
    }
}
