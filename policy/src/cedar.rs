//! The policy set: Cedar policies, strictly validated against the typed schema, sliced at load, asked at two moments.
//!
//! A set loads whole or not at all. An evaluation error anywhere is a denial: Cedar alone would skip an erroring
//! `forbid`. Cedar's types stay inside this module.

mod conditions;
mod entities;
mod load;
mod meta;
mod monotone;
mod remembered;
mod schema;
mod template;
mod vocabulary;

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy as cedar;

pub(crate) use entities::{Asker, Asking};
pub use load::Ceiling;
pub use load::PolicyProblem;
pub use meta::{Mode, Obligations, PolicyMeta};
pub use schema::schema_text;

use vocabulary::Vocabulary;

use crate::permit::Disclosure;
use crate::question::{About, Question, Record, Target};
use crate::reason::Reason;

/// A loaded, validated, immutable set of policies.
pub struct PolicySet {
    epoch: String,
    text_epoch: String,
    vocabulary: Vocabulary,
    policies: HashMap<cedar::PolicyId, Arc<PolicyMeta>>,
    /// In file order.
    listed: Vec<Arc<PolicyMeta>>,
    interact: Slices,
    disclose: Slices,
    reads_time: bool,
    remembered: remembered::Remembered,
    /// The policies themselves, in file order, for explanation and coverage.
    sources: Vec<cedar::Policy>,
}

/// The policies that one moment needs, by whom they can concern. A partner never pays for another's policies.
#[derive(Default)]
struct Slices {
    everyone: Slice,
    by_app: HashMap<cedar::EntityUid, Slice>,
}

#[derive(Default)]
struct Slice {
    enforced: cedar::PolicySet,
    /// Enforced and shadowed together; `None` where nothing is shadowed.
    with_shadow: Option<cedar::PolicySet>,
}

impl Slices {
    fn of(&self, app: &cedar::EntityUid) -> &Slice {
        self.by_app.get(app).unwrap_or(&self.everyone)
    }
}

/// What the policies say to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// The policies that decided: the permits, or the forbids; none when nothing permits.
    pub(crate) policies: Vec<Arc<PolicyMeta>>,
    /// Shadowed policies that would have turned the permit into a denial.
    pub(crate) would_deny: Vec<Arc<PolicyMeta>>,
}

impl Answer {
    pub(crate) const fn error() -> Self {
        Self { verdict: Verdict::Error, policies: Vec::new(), would_deny: Vec::new() }
    }

    /// The reason that the first deciding forbid gives.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.policies.iter().find_map(|policy| policy.reason)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Permit,
    Deny,
    /// Evaluation failed somewhere: a denial, told apart so that it alarms.
    Error,
}

impl PolicySet {
    /// The set in `policy/policies`, which is what runs when an organization brings none of its own.
    ///
    /// # Errors
    /// Never in a build whose tests pass; the problems are those of [`PolicySet::load`].
    pub fn shipped() -> Result<Self, Vec<PolicyProblem>> {
        let files: Vec<(String, String)> =
            SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Self::load(&files)
    }

    /// The files of the shipped set, by name.
    pub const fn shipped_files() -> &'static [(&'static str, &'static str)] {
        SHIPPED
    }

    /// Loads a set from the texts of its files. All problems are reported, each with its file.
    ///
    /// # Errors
    /// Refuses text that does not parse, a policy without `@id` or `@cites`, an id used twice, a policy that strict
    /// validation against the schema finds fault with, shadow mode on a Part 2 forbid, and an empty set.
    pub fn load(files: &[(String, String)]) -> Result<Self, Vec<PolicyProblem>> {
        load::load(files, &[])
    }

    /// Loads a set, with the partners that stand under one of its templates.
    ///
    /// # Errors
    /// As [`PolicySet::load`], and for a ceiling that names no template of the set.
    pub fn load_with(files: &[(String, String)], ceilings: &[Ceiling]) -> Result<Self, Vec<PolicyProblem>> {
        load::load(files, ceilings)
    }

    /// A digest of the set's texts, of who stands under its templates, and of the schema: equal sets have equal epochs. It
    /// keys decision caches and records.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// A digest of the set's texts and of the schema alone. Proofs are about these: they speak of whoever stands under a
    /// template, so that it does not matter who does.
    pub fn text_epoch(&self) -> &str {
        &self.text_epoch
    }

    /// The actions of the first moment, by their names in the schema.
    pub fn actions() -> impl Iterator<Item = &'static str> {
        vocabulary::ACTIONS.iter().map(|(name, _)| *name).filter(|name| *name != "disclose")
    }

    /// Every policy, in file order.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyMeta> {
        self.listed.iter().map(AsRef::as_ref)
    }

    /// The policy with this `@id`.
    pub fn policy(&self, id: &str) -> Option<&PolicyMeta> {
        self.policies.get(&cedar::PolicyId::new(id)).map(AsRef::as_ref)
    }

    /// May verdicts be kept across requests? Not if a policy reads the time: it stands outside every cache key.
    pub const fn verdicts_outlive_the_request(&self) -> bool {
        !self.reads_time
    }

    /// What the policies say to one type that a request touches, from memory where they were asked before.
    pub(crate) fn target(&self, asker: &Asker, target: &Target) -> Answer {
        let ask = || asker.asking(self).map_or_else(Answer::error, |asking| self.ask_target(asking, target));
        self.remembered.target(asker.number(), target, ask)
    }

    /// What `disclosure` makes of the policies' answer about one record, from memory where they were asked before.
    pub(crate) fn record(
        &self,
        asker: &Asker,
        record: &Record,
        disclosure: impl FnOnce(Answer) -> Disclosure,
    ) -> Disclosure {
        let ask =
            || disclosure(asker.asking(self).map_or_else(Answer::error, |asking| self.ask_record(asking, record)));
        self.remembered.record(asker.number(), record, ask)
    }

    pub(crate) fn ask_target(&self, asking: &Asking, target: &Target) -> Answer {
        self.ask(&self.interact, asking, self.vocabulary.target(target))
    }

    pub(crate) fn ask_record(&self, asking: &Asking, record: &Record) -> Answer {
        self.ask(&self.disclose, asking, self.vocabulary.record(record))
    }

    fn ask(&self, slices: &Slices, asking: &Asking, question: Option<vocabulary::Question>) -> Answer {
        let slice = slices.of(asking.uid());
        let Some((request, entities)) = question.and_then(|question| asking.request(question)) else {
            return Answer::error();
        };
        let mut answer = self.evaluate(&slice.enforced, &request, &entities);
        if let Some(with_shadow) = &slice.with_shadow
            && answer.verdict == Verdict::Permit
        {
            let shadow = self.evaluate(with_shadow, &request, &entities);
            if shadow.verdict != Verdict::Permit {
                answer.would_deny = shadow.policies;
            }
        }
        answer
    }

    /// The question in Cedar's terms; `None` is an error, and errors deny.
    fn build(&self, question: &Question) -> Option<(cedar::Request, cedar::Entities)> {
        let built = match &question.about {
            About::Target(target) => self.vocabulary.target(target),
            About::Record(record) => self.vocabulary.record(record),
        };
        Asking::new(self, &question.caller)?.request(built?)
    }

    fn evaluate(&self, policies: &cedar::PolicySet, request: &cedar::Request, entities: &cedar::Entities) -> Answer {
        let response = cedar::Authorizer::new().is_authorized(request, policies, entities);
        let mut deciding: Vec<Arc<PolicyMeta>> =
            response.diagnostics().reason().filter_map(|id| self.policies.get(id)).map(Arc::clone).collect();
        deciding.sort_by_key(|policy| policy.position);
        let verdict = match (response.diagnostics().errors().next().is_some(), response.decision()) {
            (true, _) => Verdict::Error,
            (false, cedar::Decision::Allow) => Verdict::Permit,
            (false, cedar::Decision::Deny) => Verdict::Deny,
        };
        Answer { verdict, policies: deciding, would_deny: Vec::new() }
    }
}

impl core::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PolicySet({} policies, epoch {})", self.listed.len(), self.epoch)
    }
}

const SHIPPED: &[(&str, &str)] = &[
    ("ceilings.cedar", include_str!("../policies/ceilings.cedar")),
    ("interactions.cedar", include_str!("../policies/interactions.cedar")),
    ("part2.cedar", include_str!("../policies/part2.cedar")),
    ("partners.cedar", include_str!("../policies/partners.cedar")),
    ("records.cedar", include_str!("../policies/records.cedar")),
];
