//! Stage 7: give back only what the permit and the consents allow. What is not understood to its last byte is withheld.

mod lines;
mod observed;
pub mod rows;
mod shadow;
pub mod versions;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fhir_profiles::engine::{
    Document, Level, Notice, Place, RedactError, RedactOptions, Redacted, Removal, ResourceFacts, SearchMode, Style,
    Totals, scan,
};
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::Access;
use fhir_profiles::label::LabelSet;
use fhirwall_policy::partner::Redaction;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::record::Met;
use time::OffsetDateTime;

pub use observed::Enforced;

use crate::audit::Withheld;
use crate::decide::{Consents, Judgement, Verdicts, patients_in, references_to_resolve};
use crate::generation::{Endpoint, Generation};
use crate::refusal::Refusal;
use crate::resolve::{Known, date};
use crate::shared::Shared;

pub use lines::ShownLines;

/// What may be sent, and what the record says of it.
#[derive(Debug)]
pub struct Shown {
    pub body: Vec<u8>,
    pub account: Account,
}

/// What the record says of an answer: identifiers, codes and counts, never content.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub patients: Vec<String>,
    pub instances: Vec<String>,
    pub labels: Vec<String>,
    pub withheld: Vec<Withheld>,
    pub policies: Vec<String>,
    pub consents: Vec<String>,
    /// What policies were asked about, and what they said.
    pub met: Vec<Met>,
    /// Something was left out of the answer.
    pub reduced: bool,
    /// In a trial run: what carrying the verdicts out would have come to.
    pub enforced: Option<Enforced>,
}

/// What one answer is judged in.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    pub generation: &'a Generation,
    pub endpoint: &'a Endpoint,
    pub shared: &'a Shared,
    pub permit: &'a Permit,
    pub now: OffsetDateTime,
    /// All Part 2 data is locked down.
    pub part2_locked: bool,
    /// For the image of a write: its scope letter. `None` for what is shown.
    pub write: Option<Access>,
}

/// A judged document: every verdict is known, nothing is written yet.
#[derive(Debug)]
pub struct Judged<'a> {
    document: Document<'a>,
    /// Relation and URL of a Bundle's links.
    links: Vec<(String, String)>,
    verdicts: Verdicts,
    /// In a trial run: why the judgement lacks a fact, and would have been refused.
    lacks: Option<Refusal>,
}

impl Judged<'_> {
    /// What the resource itself says it is.
    pub fn root(&self) -> Option<&ResourceFacts> {
        self.document.root()
    }

    /// The version that the resource itself says it is.
    pub fn version(&self) -> Option<String> {
        self.document.version(0)
    }

    /// The patients that anything in it is about.
    pub fn patients(&self, bases: &[&str]) -> Vec<LogicalId> {
        patients_in(self.document.resources(), bases).into_iter().cloned().collect()
    }
}

impl Stage<'_> {
    /// Reads an answer and judges everything in it.
    ///
    /// # Errors
    /// A refusal when the answer is not understood, or when a fact that the judgement needs is out of reach.
    pub async fn judge<'b>(&self, body: &'b [u8]) -> Result<Judged<'b>, Refusal> {
        let today = date(self.now);
        let document = scan(body, &self.generation.limits, &self.endpoint.labeller, &today)
            .map_err(|_| Refusal::from(Reason::UpstreamUnintelligible))?;
        if let Some(candidate) = &self.endpoint.candidate {
            let told_to = (self.endpoint.facts.name.as_str(), &*self.shared.metrics);
            shadow::compare(body, &document, candidate, (&self.generation.limits, &today), told_to);
        }
        self.judge_all(vec![document]).await?.pop().ok_or_else(|| Refusal::from(Reason::UpstreamUnintelligible))
    }

    /// Judges documents that belong together: what they refer to, and the consents of their patients, are looked up once.
    async fn judge_all<'b>(&self, mut documents: Vec<Document<'b>>) -> Result<Vec<Judged<'b>>, Refusal> {
        let bases: Vec<&str> = self.endpoint.facts.bases.iter().map(String::as_str).collect();
        let known = self.resolve(&mut documents, &bases).await;
        let (consents, lacks) = match self.consents(&documents, &bases).await {
            Ok(consents) => (consents, None),
            // Without consents no Part 2 record rests on one: what must not be seen stays out.
            Err(refusal) if self.observing() => (Consents::new(), Some(refusal)),
            Err(refusal) => return Err(refusal),
        };
        let judgement = Judgement {
            policies: &self.generation.policies,
            permit: self.permit,
            bases: &bases,
            consents: &consents,
            known: &known,
            part2_locked: self.part2_locked,
            write: self.write,
            observing: self.observing(),
        };
        let judged = documents.into_iter().map(|document| {
            let verdicts = judgement.judge(&document);
            if self.permit.needs_consents() {
                for (outcome, count) in verdicts.weighed.iter().filter(|(_, count)| *count > 0) {
                    self.shared.metrics.consent_evaluations(outcome, *count);
                }
            }
            let links = document.bundle_type().map(|_| document.links()).unwrap_or_default();
            Judged { document, links, verdicts, lacks: lacks.clone() }
        });
        Ok(judged.collect())
    }

    /// Writes what may be seen of a judged answer. `link` makes a client's link of an upstream's, by relation and URL.
    ///
    /// # Errors
    /// A refusal when the resource asked for is withheld; the account says why.
    pub fn write(
        &self,
        judged: Judged<'_>,
        link: impl Fn(&str, &str) -> Option<String>,
    ) -> Result<Shown, Box<(Refusal, Account)>> {
        let Judged { document, links, mut verdicts, lacks } = judged;
        let bases: Vec<&str> = self.endpoint.facts.bases.iter().map(String::as_str).collect();
        for (relation, url) in links {
            if let Some(shown) = link(&relation, &url) {
                verdicts.show_link(&relation, &url, shown);
            }
        }
        self.carried_out(&mut verdicts, lacks, |verdicts| match self.redact(&document, verdicts, Totals::Remove) {
            Ok(redacted) => {
                let mut account = account(&document, verdicts, &redacted.removals, &bases);
                account.disclose(&document, &redacted.disclosed, &bases);
                Ok(Shown { body: redacted.body, account })
            }
            Err(RedactError::RootWithheld { removals }) => Err(self.root_withheld(&document, verdicts, &removals)),
        })
    }

    fn redact(&self, document: &Document<'_>, verdicts: &Verdicts, totals: Totals) -> Result<Redacted, RedactError> {
        let notice = verdicts.by_consent.then(|| self.notice());
        let options = RedactOptions {
            notice: notice.as_ref(),
            totals,
            public_base: Some(&self.endpoint.base_url),
            ..RedactOptions::new(self.style())
        };
        document.redact(verdicts, &options)
    }

    fn root_withheld(
        &self,
        document: &Document<'_>,
        verdicts: &Verdicts,
        removals: &[Removal],
    ) -> Box<(Refusal, Account)> {
        let bases: Vec<&str> = self.endpoint.facts.bases.iter().map(String::as_str).collect();
        let account = account(document, verdicts, removals, &bases);
        let rule = removals.first().and_then(|removal| verdicts.rule(removal.rule?));
        let mut refusal = Refusal::from(rule.map_or(Reason::LabelWithheld, |rule| rule.reason));
        refusal.policies = rule.map(|rule| rule.policies.to_vec()).unwrap_or_default();
        Box::new((refusal, account))
    }

    /// Looks up what the answer refers to, and lets labels spread from there into it.
    async fn resolve(&self, documents: &mut [Document<'_>], bases: &[&str]) -> HashMap<InstanceId, Known> {
        let mut wanted = HashSet::new();
        for document in &*documents {
            wanted.extend(references_to_resolve(document, bases));
            wanted.extend(document.label_sources());
        }
        if wanted.is_empty() && documents.iter().all(|document| document.binaries().is_empty()) {
            return Default::default();
        }
        let fetches = self.generation.config.gateway.limits.fetches_per_request.get();
        let limits = &self.generation.limits;
        let known = self.endpoint.resolver.resolve(&wanted, &self.endpoint.labeller, limits, fetches).await;
        for document in documents {
            let binaries = document.binaries();
            let owned = self.owned(document, &binaries, &known, bases).await;
            document
                .take_over(&|instance| owned.get(instance).copied().or_else(|| known.get(instance).map(Known::labels)));
        }
        known
    }

    /// The labels of each Binary, from the records that it belongs to: what it names itself (`securityContext`), and the
    /// documents that refer to it. One that belongs to nothing known, or perhaps to more than is known, is not in the
    /// result: its sensitivity is unknown.
    async fn owned(
        &self,
        document: &mut Document<'_>,
        binaries: &[(u32, InstanceId)],
        known: &HashMap<InstanceId, Known>,
        bases: &[&str],
    ) -> HashMap<InstanceId, LabelSet> {
        let fetches = self.generation.config.gateway.limits.fetches_per_request.get();
        let mut labels = HashMap::new();
        for ((at, binary), left) in binaries.iter().zip((0..fetches).rev().map(Some).chain(std::iter::repeat(None))) {
            let (mut owners, mut all_known) = (Vec::new(), true);
            for instance in document.references_of(*at).filter_map(|reference| reference.on_server(bases)) {
                match (record_in(document, instance), known.get(instance)) {
                    (Some(facts), _) => owners.push(facts),
                    (None, Some(Known::Facts(facts))) => owners.push(Arc::clone(facts)),
                    (None, Some(Known::Missing)) => {}
                    (None, None) => all_known = false,
                }
            }
            owners.extend(referrers_in(document, *at, binary, bases));
            let resolver = &self.endpoint.resolver;
            let found = match left {
                Some(_) => resolver.documents_of(binary, &self.endpoint.labeller, &self.generation.limits).await,
                None => None,
            };
            all_known &= found.is_some();
            owners.extend(found.into_iter().flatten());
            for owner in &owners {
                document.belongs_to(*at, owner);
            }
            if all_known && !owners.is_empty() {
                let all = owners.iter().fold(LabelSet::EMPTY, |all, owner| all.union(owner.labels));
                labels.insert(binary.clone(), all);
            }
        }
        labels
    }

    /// The consents of every patient in the answer, labelled or not, so that neither time nor an outage tells who has
    /// a labelled record.
    async fn consents(&self, documents: &[Document<'_>], bases: &[&str]) -> Result<Consents, Refusal> {
        if !self.permit.needs_consents() {
            return Ok(Consents::new());
        }
        let resources = documents.iter().flat_map(|document| document.resources());
        let patients: Vec<LogicalId> = patients_in(resources, bases).into_iter().cloned().collect();
        if patients.is_empty() {
            return Ok(Consents::new());
        }
        self.endpoint
            .consents
            .consents(&patients, self.now)
            .await
            .map_err(|_| Refusal::from(Reason::ConsentSourceUnavailable))
    }

    fn style(&self) -> Style {
        match self.permit.redaction() {
            Redaction::Marked => Style::Marked,
            Redaction::Silent => Style::Silent,
        }
    }

    /// 42 CFR 2.32: the statement of paragraph (a), and of (b) a clear explanation of the scope of the consent.
    fn notice(&self) -> Notice {
        Notice {
            statement: Notice::STATEMENT.to_owned(),
            scope: format!(
                "Disclosed with the patient's consent, for {} only, to the recipient of this answer.",
                self.permit.purpose().code()
            ),
        }
    }
}

fn add_withheld(all: &mut Vec<Withheld>, more: Vec<Withheld>) {
    for one in more {
        match all.iter_mut().find(|known| known.rule == one.rule && known.labels == one.labels) {
            Some(known) => known.count = known.count.saturating_add(one.count),
            None => all.push(one),
        }
    }
}

/// The record of the document itself that an instance is.
fn record_in(document: &Document<'_>, instance: &InstanceId) -> Option<Arc<ResourceFacts>> {
    let mut records = document.resources().iter().filter(|facts| facts.place != Place::Contained);
    let found = records.find(|facts| facts.kind == instance.kind && facts.id.as_ref() == Some(&instance.id))?;
    Some(Arc::new(found.clone()))
}

/// The records of the document itself that refer to this Binary.
pub(crate) fn referrers_in(
    document: &Document<'_>,
    at: u32,
    binary: &InstanceId,
    bases: &[&str],
) -> Vec<Arc<ResourceFacts>> {
    let others = document.resources().iter().zip(0u32..).filter(|(facts, other)| {
        *other != at
            && facts.kind != ResourceType::BUNDLE
            && document.references_of(*other).any(|reference| reference.on_server(bases) == Some(binary))
    });
    others.map(|(facts, _)| Arc::new(facts.clone())).collect()
}

fn account(document: &Document<'_>, verdicts: &Verdicts, removals: &[Removal], bases: &[&str]) -> Account {
    let mut withheld: Vec<Withheld> = Vec::new();
    // What permitted, and what forbade.
    let mut policies = verdicts.policies.clone();
    for removal in removals.iter().filter(|removal| removal.rule.is_some()) {
        let rule = removal.rule.and_then(|rule| verdicts.rule(rule));
        for policy in rule.iter().flat_map(|rule| rule.policies.iter()) {
            if !policies.contains(policy) {
                policies.push(policy.clone());
            }
        }
        let rule = rule.map_or("unjudged", |rule| rule.reason.code());
        let labels: Vec<String> = removal.labels.iter().map(|label| label.code().to_owned()).collect();
        match withheld.iter_mut().find(|known| known.rule == rule && known.labels == labels) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => withheld.push(Withheld { rule: rule.to_owned(), count: 1, labels }),
        }
    }
    Account {
        // Whose records were asked for, even where all of them were withheld.
        patients: patients_in(document.resources(), bases).into_iter().map(|id| id.as_str().to_owned()).collect(),
        withheld,
        policies,
        consents: verdicts.consents.clone(),
        met: verdicts.met.clone(),
        reduced: removals
            .iter()
            .any(|removal| matches!(removal.level, Level::Resource | Level::Element | Level::Masked)),
        ..Account::default()
    }
}

impl Account {
    /// What the record says of two pages that are sent as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { patients, instances, labels, withheld, policies, consents, met, reduced, enforced } = other;
        let pairs = [
            (&mut self.patients, patients),
            (&mut self.instances, instances),
            (&mut self.labels, labels),
            (&mut self.policies, policies),
            (&mut self.consents, consents),
        ];
        for (all, more) in pairs {
            for one in more {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        add_withheld(&mut self.withheld, withheld);
        self.met.extend(met);
        self.reduced |= reduced;
        self.enforced = match (self.enforced.take(), enforced) {
            (Some(first), Some(second)) => Some(first.and(second)),
            (first, second) => first.or(second),
        };
        self
    }

    /// What of the document is shown: instances, their patients, their labels.
    fn disclose(&mut self, document: &Document<'_>, shown: &[u32], bases: &[&str]) {
        let shown = shown.iter().filter_map(|index| document.resources().get(usize::try_from(*index).ok()?));
        self.patients = patients_in(shown.clone(), bases).into_iter().map(|id| id.as_str().to_owned()).collect();
        for facts in shown {
            for label in facts.labels.iter() {
                if !self.labels.iter().any(|known| known == label.code()) {
                    self.labels.push(label.code().to_owned());
                }
            }
            let own = facts.place != Place::Contained
                && facts.search_mode != Some(SearchMode::Outcome)
                && facts.kind != ResourceType::BUNDLE
                && facts.kind != ResourceType::OPERATION_OUTCOME;
            if let (true, Some(id)) = (own, &facts.id) {
                self.instances.push([facts.kind.as_str(), "/", id.as_str()].concat());
            }
        }
    }
}
