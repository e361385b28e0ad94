//! Stage 5, second moment: gather what the judgement of an answer needs, and judge every resource in it.
//!
//! Policy is pure. What it cannot know is fetched here: the consents of every patient in the answer, and the labels of
//! instances that the answer refers to without holding them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fhir_profiles::engine::{Document, Judge, Place, ResourceFacts, Verdict};
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::Access;
use fhir_profiles::label::LabelSet;
use fhir_profiles::reference::Reference;
use fhir_profiles::search::{Query, matches};
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::consent::{ConsentBook, ConsentOutcome, RecordFacts, evaluate};
use fhirwall_policy::permit::{Disclosure, DisclosureFacts, Memo, Permit};
use fhirwall_policy::reason::Reason;
use fhirwall_policy::record::{Met, met};
use fhirwall_policy::scope::Constraint;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::resolve::Known;

/// The consents of the patients of an answer. A patient who is not in it has none that speak.
pub type Consents = HashMap<LogicalId, Arc<ConsentBook>>;

/// Why something was withheld, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub reason: Reason,
    pub policies: Arc<[String]>,
    /// Carried out in a trial run too: a forbid that protects Part 2 records.
    pub holds_always: bool,
}

/// The patients that a resource is about, by their ids on this server, each once.
pub fn patients_of<'a>(facts: &'a ResourceFacts, bases: &[&str]) -> Vec<&'a LogicalId> {
    let mut patients: Vec<&LogicalId> = named_in(facts, bases).collect();
    patients.sort();
    patients.dedup();
    patients
}

/// The patients that any of these resources is about, in order, each once.
pub fn patients_in<'a>(resources: impl IntoIterator<Item = &'a ResourceFacts>, bases: &[&str]) -> Vec<&'a LogicalId> {
    let mut patients: Vec<&LogicalId> = Vec::new();
    for id in resources.into_iter().flat_map(|facts| named_in(facts, bases)) {
        // Rows of one patient follow each other.
        if patients.last() != Some(&id) {
            patients.push(id);
        }
    }
    patients.sort();
    patients.dedup();
    patients
}

fn named_in<'a>(facts: &'a ResourceFacts, bases: &[&str]) -> impl Iterator<Item = &'a LogicalId> {
    let referred = facts.patients.iter().filter_map(|reference| reference.on_server(bases));
    let referred = referred.filter(|instance| instance.kind == ResourceType::PATIENT).map(|instance| &instance.id);
    let itself = facts.kind == ResourceType::PATIENT && facts.place != Place::Contained;
    referred.chain(facts.id.as_ref().filter(|_| itself))
}

/// Whose consents a record asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subjects<'d> {
    patients: Vec<&'d LogicalId>,
    /// It is about someone else too, whose consents nobody can ask for: a subject elsewhere, or named by no instance.
    others: bool,
}

impl<'d> Subjects<'d> {
    fn of(facts: &'d ResourceFacts, bases: &[&str]) -> Self {
        Self {
            patients: patients_of(facts, bases),
            others: facts.patients.iter().any(|reference| reference.on_server(bases).is_none()),
        }
    }
}

/// Instances that the answer refers to and does not hold. A patient whom the answer is about is no secret of the answer.
pub fn references_to_resolve(document: &Document<'_>, bases: &[&str]) -> HashSet<InstanceId> {
    let subjects = patients_in(document.resources(), bases);
    let is_subject =
        |instance: &InstanceId| instance.kind == ResourceType::PATIENT && subjects.binary_search(&&instance.id).is_ok();
    let local = document.references().filter_map(|reference| reference.on_server(bases));
    let mut local = local.filter(|instance| !is_subject(instance)).peekable();
    if local.peek().is_none() {
        return HashSet::new();
    }
    let held: HashSet<(ResourceType, &LogicalId)> = document
        .resources()
        .iter()
        .filter(|facts| facts.place != Place::Contained)
        .filter_map(|facts| Some((facts.kind, facts.id.as_ref()?)))
        .collect();
    local.filter(|instance| !held.contains(&(instance.kind, &instance.id))).cloned().collect()
}

/// What an answer is judged with.
#[derive(Debug)]
pub struct Judgement<'a> {
    pub policies: &'a PolicySet,
    pub permit: &'a Permit,
    pub bases: &'a [&'a str],
    pub consents: &'a Consents,
    pub known: &'a HashMap<InstanceId, Known>,
    /// Is all Part 2 data locked down?
    pub part2_locked: bool,
    /// For the image of a write: its scope letter. `None` for what is shown.
    pub write: Option<Access>,
    /// A trial run: what holds always must be told apart.
    pub observing: bool,
}

/// The verdicts on one document, ready for the engine.
#[derive(Debug)]
pub struct Verdicts {
    resources: Vec<Verdict>,
    elements: HashMap<(u32, LabelSet), Verdict>,
    references: HashMap<InstanceId, Verdict>,
    rules: Vec<Rule>,
    /// The policies that permitted something.
    pub policies: Vec<String>,
    /// The consents that justified or refused something.
    pub consents: Vec<String>,
    /// What policies were asked about, and what they said.
    pub met: Vec<Met>,
    /// How often consents were weighed, by what they said: `permit`, `deny`, `silent`.
    pub weighed: [(&'static str, u64); 3],
    /// Shown on the basis of a consent: the notice of 42 CFR 2.32 travels with it.
    pub by_consent: bool,
    links: HashMap<(String, String), String>,
    bases: Vec<String>,
    /// Does the judge withhold only what holds always?
    trial: bool,
}

impl Judgement<'_> {
    /// Judges every resource of the document, every labelled element, and every reference that leaves it.
    pub fn judge(&self, document: &Document<'_>) -> Verdicts {
        let mut verdicts = Verdicts {
            resources: Vec::with_capacity(document.resources().len()),
            elements: HashMap::new(),
            references: HashMap::new(),
            rules: Vec::new(),
            policies: self.permit.policies().to_vec(),
            consents: Vec::new(),
            met: Vec::new(),
            weighed: [("permit", 0), ("deny", 0), ("silent", 0)],
            by_consent: false,
            links: HashMap::new(),
            bases: self.bases.iter().map(|base| (*base).to_owned()).collect(),
            trial: false,
        };
        let mut memo = Memo::default();
        let mut outcomes: HashMap<Weighed<'_>, Arc<ConsentOutcome>> = HashMap::new();
        let mut last: Option<(Weighed<'_>, Arc<ConsentOutcome>)> = None;
        for (index, facts) in (0u32..).zip(document.resources()) {
            let subjects = self.subjects(document, facts);
            let body = document.bytes_of(index);
            // Where a consent asks what is in the record, its answer is for this record alone.
            let record = self.record_facts(&subjects.patients, facts, body);
            let of_record = record.as_ref().map(|_| index);
            let mut outcome = |labels: LabelSet| {
                // Rows that ask the same follow each other.
                if let Some(((before, kind, of_labels, None), outcome)) = &last
                    && record.is_none()
                    && (before, *kind, *of_labels) == (&subjects, facts.kind, labels)
                {
                    return Arc::clone(outcome);
                }
                let asked = (subjects.clone(), facts.kind, labels, of_record);
                let weigh = || Arc::new(self.consent(&subjects, facts.kind, labels, record.as_ref()));
                let outcome = Arc::clone(outcomes.entry(asked.clone()).or_insert_with(weigh));
                last = Some((asked, Arc::clone(&outcome)));
                outcome
            };
            let matches = |constraint: &Constraint| constraint_holds(body, facts.kind, constraint, self.bases);
            let consent = outcome(facts.labels);
            let question = DisclosureFacts { consent: &consent, matches: &matches };
            let disclosure = self.locked(facts.labels).unwrap_or_else(|| match self.write {
                Some(access) => self.permit.touch(self.policies, &mut memo, facts, &question, access),
                None => self.permit.disclose(self.policies, &mut memo, facts, &question),
            });
            let holds = self.holds_always(&disclosure, &mut memo, facts, facts.labels, &consent);
            let verdict = verdicts.note(&disclosure, &consent, holds);
            verdicts.resources.push(verdict);
            for labels in &facts.inline {
                let consent = outcome(facts.labels.union(*labels));
                let question = DisclosureFacts { consent: &consent, matches: &matches };
                let disclosure = self
                    .locked(*labels)
                    .unwrap_or_else(|| self.permit.element(self.policies, &mut memo, facts, *labels, &question));
                let all = facts.labels.union(*labels);
                let holds = self.holds_always(&disclosure, &mut memo, facts, all, &consent);
                let verdict = verdicts.note(&disclosure, &consent, holds);
                verdicts.elements.insert((index, *labels), verdict);
            }
        }
        for id in patients_in(document.resources(), self.bases) {
            let instance = InstanceId { kind: ResourceType::PATIENT, id: id.clone() };
            verdicts.references.insert(instance, Verdict::Show);
        }
        for (instance, known) in self.known {
            let verdict = match known {
                Known::Missing => verdicts.withhold(Reason::NotFound, Arc::new([]), false),
                Known::Facts(facts) => {
                    let consent = self.consent(&Subjects::of(facts, self.bases), facts.kind, facts.labels, None);
                    let disclosure = self
                        .locked(facts.labels)
                        .unwrap_or_else(|| self.permit.mention(self.policies, &mut memo, facts, &consent));
                    let holds = self.holds_always(&disclosure, &mut memo, facts, facts.labels, &consent);
                    verdicts.note(&disclosure, &consent, holds)
                }
            };
            verdicts.references.insert(instance.clone(), verdict);
        }
        verdicts.met = met(&memo);
        for outcome in
            outcomes.iter().filter(|((subjects, ..), _)| !subjects.patients.is_empty()).map(|(_, outcome)| outcome)
        {
            let said = match &**outcome {
                ConsentOutcome::Permit { .. } => "permit",
                ConsentOutcome::Deny { .. } => "deny",
                ConsentOutcome::Silent => "silent",
            };
            verdicts.weighed.iter_mut().filter(|(word, _)| *word == said).for_each(|(_, count)| *count += 1);
        }
        verdicts
    }

    /// Is what is withheld here withheld in a trial run too?
    fn holds_always(
        &self,
        disclosure: &Disclosure,
        memo: &mut Memo,
        facts: &ResourceFacts,
        labels: LabelSet,
        consent: &ConsentOutcome,
    ) -> bool {
        self.observing
            && !disclosure.is_shown()
            && (self.locked(labels).is_some() || self.permit.part2_forbids(self.policies, memo, facts, labels, consent))
    }

    fn locked(&self, labels: LabelSet) -> Option<Disclosure> {
        let part2 = labels.contains(fhir_profiles::label::Label::PART2);
        (self.part2_locked && part2)
            .then(|| Disclosure::Withhold { reason: Reason::LabelWithheld, policies: Arc::new([]) })
    }

    /// Whom a resource is about; a contained one that does not say shares it with its container.
    fn subjects<'d>(&self, document: &'d Document<'_>, facts: &'d ResourceFacts) -> Subjects<'d> {
        let own = Subjects::of(facts, self.bases);
        if !own.patients.is_empty() || own.others || facts.place != Place::Contained {
            return own;
        }
        let container = facts.parent.and_then(|at| document.resources().get(usize::try_from(at).ok()?));
        container.map_or(own, |container| self.subjects(document, container))
    }

    /// What the record says of itself, if a consent of its patients asks.
    fn record_facts(&self, patients: &[&LogicalId], facts: &ResourceFacts, body: &[u8]) -> Option<RecordFacts> {
        let mut books = patients.iter().filter_map(|patient| self.consents.get(*patient));
        let instance = || Some(InstanceId { kind: facts.kind, id: facts.id.clone()? });
        books.any(|book| book.facts_read().any()).then(|| RecordFacts::read(body, instance()))
    }

    /// What the consents of all these patients say: one denial denies, and all must permit (42 CFR 2.31(a)(1): a consent
    /// is that of the patient it names).
    fn consent(
        &self,
        subjects: &Subjects<'_>,
        kind: ResourceType,
        labels: LabelSet,
        record: Option<&RecordFacts>,
    ) -> ConsentOutcome {
        let (mut justified, mut silent) = (Vec::new(), subjects.patients.is_empty() || subjects.others);
        for patient in &subjects.patients {
            let Some(book) = self.consents.get(*patient) else {
                silent = true;
                continue;
            };
            let mut question = self.permit.consent_question(patient, kind, labels);
            question.about = record.map(RecordFacts::about).unwrap_or_default();
            match evaluate(book, &question) {
                ConsentOutcome::Permit { consents } => justified.extend(consents),
                ConsentOutcome::Deny { consents } => return ConsentOutcome::Deny { consents },
                ConsentOutcome::Silent => silent = true,
            }
        }
        if silent { ConsentOutcome::Silent } else { ConsentOutcome::Permit { consents: justified } }
    }
}

/// A granular scope's constraint on the body of a record; what cannot be evaluated does not hold (digest 1.4).
fn constraint_holds(body: &[u8], kind: ResourceType, constraint: &Constraint, bases: &[&str]) -> bool {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let criteria: Vec<String> = constraint
        .0
        .iter()
        .map(|criterion| format!("{}={}", encoded(&criterion.name), encoded(&criterion.value)))
        .collect();
    Query::criteria(kind, &criteria.join("&")).is_ok_and(|query| matches(body, kind, &query, bases).unwrap_or(false))
}

impl Verdicts {
    /// The links that may be shown: by relation and upstream URL, what the client sees instead.
    pub fn show_link(&mut self, relation: &str, url: &str, shown: String) {
        self.links.insert((relation.to_owned(), url.to_owned()), shown);
    }

    /// What a rule number of the engine's removals means.
    pub fn rule(&self, rule: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(rule).ok()?)
    }

    /// Withholds a resource that would by itself be shown: the answer it stands in would tell what is hidden in it.
    pub fn withhold_row(&mut self, resource: u32, reason: Reason) {
        let verdict = self.withhold(reason, Arc::new([]), self.trial);
        let slot = usize::try_from(resource).ok().and_then(|at| self.resources.get_mut(at));
        // A verdict that holds always is not lifted by one that does not.
        if let Some(slot) = slot
            && (self.trial || *slot == Verdict::Show)
        {
            *slot = verdict;
        }
    }

    /// From now on only those verdicts are carried out that hold in a trial run.
    pub const fn try_out(&mut self) {
        self.trial = true;
    }

    /// Are only those verdicts carried out that hold in a trial run?
    pub const fn is_trial(&self) -> bool {
        self.trial
    }

    fn note(&mut self, disclosure: &Disclosure, consent: &ConsentOutcome, holds_always: bool) -> Verdict {
        match consent {
            ConsentOutcome::Permit { consents } | ConsentOutcome::Deny { consents } => {
                for id in consents {
                    add(&mut self.consents, id.as_str());
                }
            }
            ConsentOutcome::Silent => {}
        }
        match disclosure {
            Disclosure::Show { basis, policies, .. } => {
                self.by_consent |= &**basis == "consent";
                for policy in policies.iter() {
                    add(&mut self.policies, policy);
                }
                Verdict::Show
            }
            Disclosure::Withhold { reason, policies } => self.withhold(*reason, Arc::clone(policies), holds_always),
        }
    }

    /// What is carried out of a verdict. What was never judged stays withheld: it may be a Part 2 record.
    fn carried_out(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Withhold { rule } if self.trial && self.rule(rule).is_some_and(|rule| !rule.holds_always) => {
                Verdict::Show
            }
            Verdict::Show | Verdict::Withhold { .. } => verdict,
        }
    }

    fn withhold(&mut self, reason: Reason, policies: Arc<[String]>, holds_always: bool) -> Verdict {
        let rule = Rule { reason, policies, holds_always };
        let at = self.rules.iter().position(|known| *known == rule).unwrap_or_else(|| {
            self.rules.push(rule);
            self.rules.len().saturating_sub(1)
        });
        Verdict::Withhold { rule: u32::try_from(at).unwrap_or(u32::MAX) }
    }
}

fn add(list: &mut Vec<String>, item: &str) {
    if !list.iter().any(|known| known == item) {
        list.push(item.to_owned());
    }
}

/// What consents are weighed for: patients, type and labels of a record, and the record itself where a consent asks.
type Weighed<'d> = (Subjects<'d>, ResourceType, LabelSet, Option<u32>);

/// What was never judged is withheld.
const UNJUDGED: Verdict = Verdict::Withhold { rule: u32::MAX };

impl Judge for Verdicts {
    fn resource(&self, index: u32, _facts: &ResourceFacts) -> Verdict {
        let judged = usize::try_from(index).ok().and_then(|at| self.resources.get(at)).copied();
        self.carried_out(judged.unwrap_or(UNJUDGED))
    }

    fn element(&self, index: u32, _facts: &ResourceFacts, labels: LabelSet) -> Verdict {
        self.carried_out(self.elements.get(&(index, labels)).copied().unwrap_or(UNJUDGED))
    }

    fn reference(&self, target: &Reference) -> Verdict {
        let bases: Vec<&str> = self.bases.iter().map(String::as_str).collect();
        match target.on_server(&bases) {
            // Beyond the bound of look-ups nothing is known of it, and it goes (rule 14).
            Some(instance) => match self.references.get(instance) {
                Some(verdict) => self.carried_out(*verdict),
                None => UNJUDGED,
            },
            // What cannot be read as a reference may be an odd spelling of one that is withheld.
            None if *target == Reference::Opaque => UNJUDGED,
            // It names no record of this server.
            None => Verdict::Show,
        }
    }

    fn link(&self, relation: &str, url: &str) -> Option<String> {
        self.links.get(&(relation.to_owned(), url.to_owned())).cloned()
    }
}
