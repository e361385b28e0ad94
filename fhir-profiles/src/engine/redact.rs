//! The answer that a caller may see: the document minus what is withheld, plus the listed patches.
//!
//! Resources are judged one by one; then every resource that must change is planned on its own tree, from the last to
//! the first, so that what stands in a container is settled before it. A plan may find that its resource cannot stand
//! without what went; then whatever refers to it is planned again. Each resource can go once, so this ends.

mod envelope;
mod options;
mod patch;
mod plan;
mod surgery;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

use super::document::Document;
use super::facts::{Judge, Place, ResourceFacts, Verdict};
use super::json::{index, offset};
use super::tree::Tree;
use crate::ids::ResourceType;
use crate::label::{Label, LabelSet};
use crate::reference::Reference;

pub use options::{Level, Notice, RedactError, RedactOptions, Redacted, Removal, Style, Totals};
use plan::{Cause, Plan};
use targets::Targets;

impl Document<'_> {
    /// What may be seen of this document: the bytes of the input, minus what the judge withholds and what repeats it or
    /// cannot stand without it, plus what the options ask for.
    pub fn redact(&self, judge: &dyn Judge, options: &RedactOptions<'_>) -> Result<Redacted, RedactError> {
        let mut redaction = Redaction::new(self, judge, options);
        redaction.judge_resources();
        redaction.settle()?;
        Ok(redaction.finish())
    }
}

struct Redaction<'r, 'a> {
    document: &'r Document<'a>,
    judge: &'r dyn Judge,
    options: &'r RedactOptions<'r>,
    targets: Targets,
    /// By reference: why it goes, if its target is not in the document.
    outside: Vec<Option<Cause>>,
    /// By resource: why it goes.
    withheld: Vec<Option<Cause>>,
    plans: BTreeMap<u32, Plan>,
    /// Resources to plan, again or for the first time.
    due: BTreeSet<u32>,
}

impl<'r, 'a> Redaction<'r, 'a> {
    fn new(document: &'r Document<'a>, judge: &'r dyn Judge, options: &'r RedactOptions<'r>) -> Self {
        let targets = Targets::of(document);
        let outside = (0..offset(document.references.len()))
            .map(|number| {
                let reference = document.reference(number)?;
                if targets.may_be_here(number, reference) {
                    return None;
                }
                match judge.reference(reference) {
                    Verdict::Show => None,
                    Verdict::Withhold { rule } => Some(Cause::reference(Some(rule), LabelSet::EMPTY, None)),
                }
            })
            .collect();
        let withheld = vec![None; document.resources.len()];
        let (plans, due) = (BTreeMap::new(), BTreeSet::new());
        Self { document, judge, options, targets, outside, withheld, plans, due }
    }

    fn facts(&self, resource: u32) -> Option<&'r ResourceFacts> {
        self.document.resources.get(index(resource))
    }

    fn why_withheld(&self, resource: u32) -> Option<Cause> {
        self.withheld.get(index(resource)).copied().flatten()
    }

    fn is_withheld(&self, resource: u32) -> bool {
        matches!(self.withheld.get(index(resource)), Some(Some(_)))
    }

    /// Asks for every resource; what stands in a withheld one is withheld with it.
    fn judge_resources(&mut self) {
        for (facts, at) in self.document.resources.iter().zip(0u32..) {
            let container = facts.parent.and_then(|parent| self.why_withheld(parent));
            let cause = container.or_else(|| self.judged(at, facts));
            if let Some(slot) = self.withheld.get_mut(index(at)) {
                *slot = cause;
            }
        }
        let goes = |number| {
            self.outside.get(index(number)).is_some_and(Option::is_some)
                || matches!(self.document.reference(number), Some(Reference::Contained(_)))
                || self.targets.here(number).any(|target| self.is_withheld(target))
        };
        let suspect: Vec<bool> = (0..offset(self.document.references.len())).map(goes).collect();
        let uses = self.document.uses.iter();
        let users = uses.filter(|used| suspect.get(index(used.reference)) != Some(&false)).map(|used| used.resource);
        self.due.extend(users);
        for at in 0..offset(self.document.resources.len()) {
            if self.is_withheld(at) {
                self.withhold_dependents(at);
            } else if self.must_be_planned(at) {
                self.due.insert(at);
            }
        }
    }

    fn judged(&self, at: u32, facts: &ResourceFacts) -> Option<Cause> {
        if self.is_transport(at) || envelope::is_advisory(self.document.text_of(at)) {
            return None;
        }
        match self.judge.resource(at, facts) {
            Verdict::Show => None,
            Verdict::Withhold { rule } => {
                Some(Cause::resource(Some(rule), facts.labels, facts.provenance.first().map(|(_, source)| *source)))
            }
        }
    }

    /// Has anything gone, anywhere?
    fn withheld_anything(&self) -> bool {
        self.withheld.iter().any(Option::is_some) || self.plans.values().any(Plan::reduced)
    }

    /// The Bundle that carries an answer is nobody's record.
    fn is_transport(&self, at: u32) -> bool {
        at == 0 && self.document.is_transport()
    }

    fn must_be_planned(&self, at: u32) -> bool {
        let (Some(facts), Some(site)) = (self.facts(at), self.document.sites.get(index(at))) else { return false };
        let verbatim = self.options.totals == Totals::Keep && !self.options.advisory;
        (facts.kind == ResourceType::BUNDLE && !(verbatim && !site.has_links && !self.is_labelled_envelope(at)))
            || !facts.inline.is_empty()
            || (facts.kind == ResourceType::OPERATION_OUTCOME && self.options.strip_outcomes)
            || (self.options.public_base.is_some() && self.document.has_own_url(site.span))
            || (facts.labels.contains(Label::PART2) && self.options.notice.is_some())
    }

    fn is_labelled_envelope(&self, at: u32) -> bool {
        self.is_transport(at) && self.facts(at).is_some_and(|facts| !facts.labels.is_empty())
    }

    /// Why a reference in a resource goes, if it does.
    fn why_reference_goes(&self, resource: u32, number: u32) -> Option<Cause> {
        let target = self
            .targets
            .here(number)
            .chain(self.targets.contained(self.document, resource, number))
            .find_map(|target| self.why_withheld(target));
        target
            .map(|cause| Cause::reference(cause.rule, cause.labels, cause.source))
            .or_else(|| self.outside.get(index(number)).copied().flatten())
    }

    /// Plans what is due until nothing is.
    fn settle(&mut self) -> Result<(), RedactError> {
        while let Some(at) = self.due.pop_last() {
            if self.is_withheld(at) {
                continue;
            }
            match surgery::plan(self, at) {
                Ok(plan) => {
                    let reduced = plan.reduced();
                    let lost = plan.lost.clone();
                    let was_reduced = self.plans.insert(at, plan).is_some_and(|before| before.reduced());
                    for resource in lost {
                        if !self.is_withheld(resource) {
                            self.withhold(resource, Cause::resource(None, LabelSet::EMPTY, None));
                        }
                    }
                    if reduced && !was_reduced {
                        self.plan_container(at);
                    }
                }
                Err(cause) => self.withhold(at, cause),
            }
        }
        match self.why_withheld(0) {
            None => Ok(()),
            Some(_) => Err(RedactError::RootWithheld { removals: self.resource_removals() }),
        }
    }

    /// What contains a reduced resource is reduced too: its narrative may repeat what went.
    fn plan_container(&mut self, at: u32) {
        let contained = self.facts(at).filter(|facts| facts.place == Place::Contained);
        if let Some(parent) = contained.and_then(|facts| facts.parent) {
            self.due.insert(parent);
        } else if at != 0 {
            // The envelope may have to say that something went.
            self.due.insert(0);
        }
    }

    fn withhold(&mut self, at: u32, cause: Cause) {
        let mut going = vec![at];
        for (facts, child) in self.document.resources.iter().zip(0u32..).skip(index(at) + 1) {
            match facts.parent {
                Some(parent) if parent >= at && going.contains(&parent) => going.push(child),
                Some(parent) if parent < at => break,
                Some(_) | None => {}
            }
        }
        for resource in &going {
            if let Some(slot) = self.withheld.get_mut(index(*resource)) {
                slot.get_or_insert(cause);
            }
            self.plans.remove(resource);
        }
        for resource in going {
            self.withhold_dependents(resource);
        }
    }

    /// Whatever holds or refers to a withheld resource must be planned.
    fn withhold_dependents(&mut self, at: u32) {
        let Some(facts) = self.facts(at) else { return };
        let parent = facts.parent.filter(|parent| !self.is_withheld(*parent));
        self.due.extend(parent);
        if facts.place == Place::Contained
            && let Some(container) = parent
        {
            // References to it are local to the container and to what else it contains.
            let siblings = self.document.resources.iter().zip(0u32..);
            let siblings =
                siblings.skip(index(container)).take_while(|(f, n)| *n == container || f.parent >= Some(container));
            self.due.extend(siblings.filter(|(f, _)| f.parent == Some(container)).map(|(_, n)| n));
        }
        self.due.extend(self.targets.users_of(at));
    }

    fn resource_removals(&self) -> Vec<Removal> {
        let resources = self.document.resources.iter().zip(0u32..);
        let topmost = resources.filter_map(|(facts, at)| {
            let cause = self.why_withheld(at)?;
            let in_withheld = facts.parent.is_some_and(|parent| self.is_withheld(parent));
            (!in_withheld).then(|| cause.removal(at, self.document.path_of(at)))
        });
        topmost.collect()
    }

    fn finish(self) -> Redacted {
        let mut removals = self.resource_removals();
        let mut edits = Vec::new();
        let mut reduced = Vec::new();
        for (at, plan) in self.plans.iter() {
            if plan.reduced() {
                reduced.push(*at);
            }
            let path = if plan.removals.is_empty() { String::new() } else { self.document.path_of(*at) };
            removals.extend(plan.removals.iter().map(|(cause, below)| cause.removal(*at, format!("{path}{below}"))));
            edits.extend(plan.edits.iter());
        }
        let disclosed = (0..offset(self.withheld.len())).filter(|at| !self.is_withheld(*at)).collect();
        Redacted { body: plan::splice(self.document.text, edits), removals, disclosed, reduced }
    }
}

impl Document<'_> {
    /// The JSONPath of a resource.
    pub(super) fn path_of(&self, resource: u32) -> String {
        let (Some(facts), Some(site)) = (self.resources.get(index(resource)), self.sites.get(index(resource))) else {
            return String::new();
        };
        let Some(parent) = facts.parent else { return "$".to_owned() };
        let above = self.path_of(parent);
        match facts.place {
            Place::Root => above,
            Place::Entry => format!("{above}.entry[{}].resource", site.position),
            Place::EntryOutcome => format!("{above}.entry[{}].response.outcome", site.position),
            Place::Contained => format!("{above}.contained[{}]", site.position),
            Place::Parameter => {
                let tree = Tree::of(self, parent);
                let path = tree.find_resource(resource).map(|node| tree.path(node)).unwrap_or_default();
                format!("{above}{path}")
            }
        }
    }
}
