//! What becomes of the elements of one resource.
//!
//! An element goes when its inline labels are withheld or it refers to something withheld. An object that loses
//! something it cannot do without goes with it, and so on up to the resource: a required element, a modifier, all of
//! its members. In the marked style a required element or a modifier stays, emptied and masked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::options::{Level, RedactOptions, Style};
use super::plan::{Cause, Plan};
use super::{Redaction, envelope, patch};
use crate::engine::elements::ElementPath;
use crate::engine::facts::{Place, ResourceFacts, Verdict};
use crate::engine::json::{Kind, Span, index};
use crate::engine::tree::{Node, Tree};
use crate::ids::ResourceType;

/// The value of an element that was withheld and had to stay.
pub(super) const MASK: &str =
    r#"{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}"#;

/// Members up to which a list of them is searched one by one.
const FEW: usize = 32;

/// Plans a resource. An error says that it cannot stand without what goes.
pub(super) fn plan(redaction: &Redaction<'_, '_>, resource: u32) -> Result<Plan, Cause> {
    let Some(facts) = redaction.facts(resource) else { return Ok(Plan::default()) };
    if envelope::is_advisory(redaction.document.text_of(resource)) {
        return Ok(Plan::default());
    }
    let held = redaction.document.held_by(resource);
    let points = points(redaction, resource, &held);
    let closed = untouched_entries(redaction, &held, &points);
    let tree = Tree::but(redaction.document, resource, held, &closed);
    let mut surgery = Surgery { redaction, tree, resource, facts, points, plan: Plan::default() };
    let root = surgery.tree.root();
    surgery.object(root)?;
    Ok(surgery.plan)
}

/// Where in a resource something may have to be done; sorted. Everything else is as it was, and is not looked at.
fn points(redaction: &Redaction<'_, '_>, resource: u32, held: &[(Span, u32)]) -> Vec<u32> {
    let document = redaction.document;
    let span = document.sites.get(index(resource)).map(|site| site.span).unwrap_or_default();
    let within = |starts: &[u32]| {
        let from = starts.partition_point(|start| *start < span.start);
        let to = starts.partition_point(|start| *start < span.end);
        starts.get(from..to).unwrap_or_default().to_vec()
    };
    let mut points = Vec::new();
    let labelled_from = document.labelled.partition_point(|(start, _)| *start < span.start);
    let labelled = document.labelled.iter().skip(labelled_from).map(|(start, _)| *start);
    points.extend(labelled.take_while(|start| *start < span.end));
    let uses = document.uses_of(resource).iter();
    points.extend(
        uses.filter(|used| redaction.why_reference_goes(resource, used.reference).is_some()).map(|used| used.at),
    );
    if redaction.options.public_base.is_some() {
        points.extend(within(&document.own_urls));
    }
    points.extend(held.iter().filter(|(_, held)| redaction.is_withheld(*held)).map(|(span, _)| span.start));
    points.sort_unstable();
    points
}

/// The entries of a Bundle in which nothing has to be done: the shape of what stands in them does not matter. The first
/// one is not among them: a document or message is asked what it begins with.
fn untouched_entries(redaction: &Redaction<'_, '_>, held: &[(Span, u32)], points: &[u32]) -> Vec<Span> {
    let sites = &redaction.document.sites;
    let entries = held.iter().filter_map(|(_, held)| sites.get(index(*held))?.entry).skip(1);
    let mut ahead = points;
    entries
        .filter(|entry| {
            while let Some((point, rest)) = ahead.split_first()
                && *point < entry.start
            {
                ahead = rest;
            }
            ahead.first().is_none_or(|point| *point >= entry.end)
        })
        .collect()
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
        let mut fields: Vec<Field<'a>> = Vec::new();
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
            Some((value, Kind::Array)) => return self.array(object, field, value),
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

    /// Why an object, or the resource that stands there, goes.
    fn value(&mut self, node: Node) -> Option<Cause> {
        match self.tree.resource(node) {
            Some(held) => self.redaction.why_withheld(held),
            None => self.object(node).err(),
        }
    }

    fn array(&mut self, object: Node, field: &mut Field<'_>, list: Node) -> Option<Cause> {
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

    /// What an object does not survive, and what goes along, now that its members are settled.
    fn aftermath(&mut self, node: Node, fields: &mut [Field<'_>]) -> Result<(), Cause> {
        if self.plan.reduced || fields.iter().any(|field| field.gone.is_some()) {
            self.bereave(node, fields)?;
        }
        if node == self.tree.root() {
            envelope::settle(self, fields)?;
            patch::root(self, fields);
        }
        Ok(())
    }

    /// Something went in this object: what else must?
    fn bereave(&mut self, node: Node, fields: &mut [Field<'_>]) -> Result<(), Cause> {
        let at = self.path_of(node);
        let lost = fields.iter().find_map(|field| field.gone.filter(|cause| !cause.tidy));
        let lost_one = |names: &[&str]| {
            let named = fields.iter().find(|field| field.gone.is_some() && names.contains(&&*field.name));
            named.and_then(|field| field.gone)
        };
        match (at.kind(), at.path()) {
            ("Extension", "") => {
                let value = fields.iter().find(|field| field.name.starts_with("value") || field.name == "extension");
                if let Some(cause) = value.and_then(|field| field.gone) {
                    return Err(cause);
                }
            }
            ("Bundle", "entry") => lost_one(&["resource"]).map_or(Ok(()), Err)?,
            ("Parameters", "parameter" | "parameter.part") => lost.map_or(Ok(()), Err)?,
            ("Composition", "section") => self.section(fields)?,
            ("Group", "") if fields.iter().any(|field| field.name == "member") && self.plan.reduced => {
                self.drop_text(fields, "quantity");
            }
            _ => {}
        }
        Ok(())
    }

    /// A section that lost something loses its narrative, and goes when it has nothing left to show (cmp-1).
    fn section(&mut self, fields: &mut [Field<'_>]) -> Result<(), Cause> {
        if !self.plan.reduced {
            return Ok(());
        }
        self.drop_text(fields, "text");
        let shows = |field: &Field<'_>| field.gone.is_none() && matches!(&*field.name, "entry" | "section");
        if fields.iter().any(shows) {
            return Ok(());
        }
        fields.iter().find_map(|field| field.gone).map_or(Ok(()), Err)
    }

    /// Takes out a member that may repeat what went.
    pub(super) fn drop_text(&mut self, fields: &mut [Field], name: &str) {
        for field in fields.iter_mut().filter(|field| field.name == name && field.gone.is_none()) {
            self.remove(field, Cause::text());
        }
    }

    pub(super) fn remove(&mut self, field: &mut Field<'_>, cause: Cause) {
        field.gone = Some(cause);
        if let Some(node) = field.value.or(field.sibling) {
            self.record(node, cause);
        }
    }

    fn can_be_masked(&self, at: &ElementPath, field: &Field<'_>) -> bool {
        // An extension without its value or url is none; a modifier extension without its content misleads; and a
        // Provenance that names nothing is evidence of what was taken out.
        !(at.kind() == "Extension"
            || matches!(&*field.name, "modifierExtension" | "resourceType")
            || at.is_type("Provenance") && field.name == "target"
            || self.facts.kind == ResourceType::BUNDLE && at.kind() == "Bundle")
    }

    fn mask(&mut self, field: &mut Field<'_>, cause: Cause) {
        let list = field.value.or(field.sibling).is_some_and(|node| self.tree.kind(node) == Kind::Array);
        let objects = field.value.is_some_and(|value| match self.tree.kind(value) {
            Kind::Object => true,
            Kind::Array => self.tree.children(value).any(|item| self.tree.kind(item) == Kind::Object),
            Kind::String | Kind::Scalar | Kind::Null => false,
        });
        let mask = if list { format!("[{MASK}]") } else { MASK.to_owned() };
        if let Some(node) = field.value.or(field.sibling) {
            self.record(node, cause.at(Level::Masked));
        }
        match (field.value, field.sibling) {
            (Some(value), sibling) if objects => {
                self.plan.replace(self.tree.span(value), mask);
                field.sibling_gone = sibling.is_some();
            }
            (value, Some(sibling)) => {
                self.plan.replace(self.tree.span(sibling), mask);
                match value {
                    Some(value) if list => self.plan.replace(self.tree.span(value), "[null]"),
                    // The value goes, its sibling says why.
                    Some(_) => field.value_gone = true,
                    None => {}
                }
            }
            (Some(_) | None, None) => field.gone = Some(cause),
        }
    }

    /// Notes a removal, and the resources that stood in what went.
    pub(super) fn record(&mut self, node: Node, cause: Cause) {
        self.lose(node);
        if !cause.tidy {
            self.plan.reduced = true;
            // A resource is listed once, where resources are.
            if self.tree.resource(node).is_none() && cause.level != Level::Resource {
                self.plan.removals.push((cause, self.tree.path(node)));
            }
        }
    }

    fn lose(&mut self, node: Node) {
        self.plan.lost.extend(self.tree.held_in(node));
    }

    /// Cuts children (sorted) out of their container, with the commas that join them.
    pub(super) fn cut(&mut self, container: Node, gone: &[Node]) {
        if gone.is_empty() {
            return;
        }
        let children: Vec<(Span, bool)> = self
            .tree
            .children(container)
            .map(|child| (self.tree.whole(child), gone.binary_search(&child).is_ok()))
            .collect();
        let mut kept_before = false;
        let mut previous_end = 0;
        let mut head: Option<u32> = None;
        for (span, goes) in &children {
            match (goes, kept_before) {
                (true, true) => self.plan.replace(Span { start: previous_end, end: span.end }, ""),
                (true, false) => {
                    head.get_or_insert(span.start);
                }
                (false, _) => {
                    if let Some(start) = head.take() {
                        self.plan.replace(Span { start, end: span.start }, "");
                    }
                    kept_before = true;
                }
            }
            previous_end = span.end;
        }
        if let Some(start) = head {
            self.plan.replace(Span { start, end: previous_end }, "");
        }
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

enum ItemFate {
    Stays,
    Goes(Cause),
    /// A primitive stays, its sibling has nothing left.
    LosesSibling(Cause),
}
