//! The question, prepared once for all consents of a patient; and each condition of a rule, weighed against it.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::{Label, LabelKind, LabelSet};
use fhir_profiles::reference::Reference;

use super::provision::{Actor, Class, DataTerm, Meaning, Name, Rule};
use super::record::Terms;
use super::separate::{self, Part2Role};
use super::terms::{Code, Concept, ConsentAction, Effect, LabelTerm, PurposeTerm, Role};
use super::when::Match;
use super::{ConsentBook, ConsentQuestion};
use crate::partner::Recipient;
use crate::purpose::PurposeOfUse;

pub(super) struct Asked<'a> {
    pub(super) question: &'a ConsentQuestion<'a>,
    bases: Vec<&'a str>,
    recipients: Vec<Party<'a>>,
    custodians: Vec<Party<'a>>,
    /// The sensitive labels that no other label of the resource implies.
    leaves: Vec<(Label, LabelSet)>,
    unknown_label: bool,
    confidentiality: Label,
    pub(super) part2: bool,
    pub(super) notes: bool,
}

enum Party<'a> {
    Reference(Reference),
    Identifier(&'a str, &'a str),
}

/// The constraints of a provision, in the order in which an explanation lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// An element that R4 does not define.
    Unknown,
    Period,
    Actor,
    Action,
    Purpose,
    SecurityLabel,
    Class,
    Code,
    DataPeriod,
    Data,
}

impl Element {
    pub(super) const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Period,
        Self::Actor,
        Self::Action,
        Self::Purpose,
        Self::SecurityLabel,
        Self::Class,
        Self::Code,
        Self::DataPeriod,
        Self::Data,
    ];

    /// Does it say which data, rather than who, when and why?
    pub(super) const fn is_content(self) -> bool {
        match self {
            Self::SecurityLabel | Self::Class | Self::Code | Self::DataPeriod | Self::Data => true,
            Self::Unknown | Self::Period | Self::Actor | Self::Action | Self::Purpose => false,
        }
    }

    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl<'a> Asked<'a> {
    pub(super) fn new(book: &'a ConsentBook, question: &'a ConsentQuestion<'a>) -> Self {
        let closures: Vec<(Label, LabelSet)> =
            question.labels.iter().map(|label| (label, LabelSet::EMPTY.with(label))).collect();
        let implied = |label: Label| closures.iter().any(|(other, closed)| *other != label && closed.contains(label));
        let leaves: Vec<_> =
            closures.iter().filter(|(label, _)| is_sensitive(*label) && !implied(*label)).copied().collect();
        let stated = question.labels.confidentiality();
        // v3-Confidentiality: N is the norm under HIPAA, R is what 42 CFR Part 2 and the like protect. So sensitive
        // content is at least R whatever its label says, and content without any label is N.
        let floor = if leaves.is_empty() { normal() } else { Label::RESTRICTED };
        let has = |label| question.labels.contains(label);
        Self {
            question,
            bases: book.bases.iter().map(|base| &**base).collect(),
            recipients: question.recipients.iter().map(Party::of).collect(),
            custodians: question.custodians.iter().map(Party::of).collect(),
            unknown_label: has(Label::UNKNOWN),
            confidentiality: stated.map_or(floor, |stated| stated.max(floor)),
            part2: has(Label::PART2) || has(Label::ETH) || has(Label::SUD),
            notes: has(Label::PSYTHPN) || has(Label::HIPAA_PSY_NOTES),
            leaves,
        }
    }

    /// 2.33(b)(1): a covered entity or business associate that received the records under a consent for treatment,
    /// payment and operations may disclose them further for these, but not for proceedings against the patient.
    pub(super) fn may_redisclose(&self) -> bool {
        let purpose = self.question.purpose;
        let tpo = [PurposeOfUse::Treat, PurposeOfUse::Hpaymt, PurposeOfUse::Hoperat];
        self.question.part2.role == Part2Role::Recipient
            && tpo.into_iter().any(|of| purpose.is_a(of))
            && !purpose.is_a(PurposeOfUse::Hlegal)
    }

    /// How surely one element of the rule fits the question. An element that is not there constrains nothing.
    pub(super) fn weigh(&self, terms: &Terms, rule: &Rule, element: Element) -> Match {
        let question = self.question;
        let deny = match rule.effect_for(question.purpose) {
            Effect::Deny => true,
            Effect::Permit | Effect::Unstated | Effect::EmergencyOnly => false,
        };
        match element {
            Element::Unknown => {
                if rule.unknown {
                    Match::Maybe
                } else {
                    Match::Yes
                }
            }
            Element::Period => rule.period.map_or(Match::Yes, |period| period.holds(question.now, question.zone)),
            Element::Actor => self.actors(terms, rule),
            Element::Action => any_of(&rule.actions, |action| self.action(*action, deny)),
            Element::Purpose => any_of(&rule.purposes, |purpose| self.purpose(*purpose)),
            Element::SecurityLabel => self.labels(terms, &rule.labels, deny),
            Element::Class => any_of(&rule.classes, |class| self.class(class)),
            Element::Code => any_of(&rule.codes, |code| self.code(code)),
            Element::DataPeriod => match (rule.data_period, question.about.time) {
                (None, _) => Match::Yes,
                (Some(_), None) => Match::Maybe,
                (Some(period), Some(time)) if deny => period.meets(time, question.zone),
                (Some(period), Some(time)) => period.covers(time, question.zone),
            },
            Element::Data => any_of(&rule.data, |data| self.data(data)),
        }
    }

    /// Parties of one role are alternatives; recipient and custodian must both fit. A rule whose actors play other roles
    /// alone is for a purpose that cannot be told.
    fn actors(&self, terms: &Terms, rule: &Rule) -> Match {
        if rule.actors.is_empty() {
            return Match::Yes;
        }
        let of_role = |role: Role| rule.actors.iter().filter(move |actor| actor.role == role);
        let custodian = match of_role(Role::Custodian).count() {
            0 => Match::Yes,
            _ => Match::any(of_role(Role::Custodian).map(|actor| self.party(&actor.name, &self.custodians))),
        };
        let others = of_role(Role::Other).count() > 0;
        let recipient = match of_role(Role::Recipient).count() {
            0 => Match::Maybe,
            _ => Match::any(of_role(Role::Recipient).map(|actor| self.recipient(terms, rule, actor))),
        };
        let recipient = match (recipient, others) {
            (Match::No, true) => Match::Maybe,
            (recipient, _) => recipient,
        };
        // A custodian alone: in a denial "this holder discloses nothing"; in a permit no recipient is named, so nobody is.
        let nobody = of_role(Role::Recipient).count() == 0 && !others;
        if nobody && rule.effect_for(self.question.purpose) == Effect::Deny {
            custodian
        } else {
            recipient.min(custodian)
        }
    }

    fn recipient(&self, terms: &Terms, rule: &Rule, actor: &Actor) -> Match {
        let named = self.party(&actor.name, &self.recipients);
        // The consent under which this holder received the records is what it discloses them further under.
        let through_holder = terms.directive
            && separate::names_tpo(rule)
            && self.may_redisclose()
            && rule.effect_for(self.question.purpose) == Effect::Permit
            && self.party(&actor.name, &self.custodians) == Match::Yes;
        if through_holder { Match::Yes } else { named }
    }

    fn party(&self, name: &Name, parties: &[Party<'_>]) -> Match {
        let by_reference = name.reference.as_ref().map(|reference| self.by_reference(reference, parties));
        let by_identifier = name.identifier.as_ref().map(|(system, value)| {
            let mut own = parties.iter().filter_map(|party| party.value_in(system)).peekable();
            match own.peek() {
                None => Match::Maybe,
                Some(_) => Match::of(own.any(|own| own == &**value)),
            }
        });
        match (by_reference, by_identifier) {
            (Some(Match::Yes), Some(Match::No)) | (Some(Match::No), Some(Match::Yes)) => Match::Maybe,
            (Some(reference), Some(identifier)) => reference.max(identifier),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => Match::Maybe,
        }
    }

    /// A party is certainly another only where one of the same sort is known and differs: a partner known by an
    /// identifier alone may well be the organization that the Consent refers to.
    fn by_reference(&self, reference: &Reference, parties: &[Party<'_>]) -> Match {
        let own = parties.iter().filter_map(|party| match party {
            Party::Reference(own) => Some(own),
            Party::Identifier(..) => None,
        });
        let Some(instance) = reference.on_server(&self.bases) else {
            return if own.into_iter().any(|own| own == reference && is_absolute(own)) {
                Match::Yes
            } else {
                Match::Maybe
            };
        };
        let mut same_sort = false;
        for own in own.filter_map(|own| own.on_server(&self.bases)) {
            if own == instance {
                return Match::Yes;
            }
            same_sort |= sort(own.kind).is_some_and(|own| sort(instance.kind) == Some(own));
        }
        if same_sort { Match::No } else { Match::Maybe }
    }

    /// Gaining access and disclosing are one act seen from two sides; who is barred from use is barred from getting.
    fn action(&self, action: Option<ConsentAction>, deny: bool) -> Match {
        let Some(action) = action else { return Match::Maybe };
        let same = match self.question.action {
            ConsentAction::Disclose | ConsentAction::Access => {
                matches!(action, ConsentAction::Disclose | ConsentAction::Access)
                    || (deny && action == ConsentAction::Use)
            }
            asked @ (ConsentAction::Collect | ConsentAction::Use | ConsentAction::Correct) => action == asked,
        };
        Match::of(same)
    }

    fn purpose(&self, term: PurposeTerm) -> Match {
        match term {
            PurposeTerm::Known(purpose) => Match::of(self.question.purpose.is_a(purpose)),
            PurposeTerm::Under(above) if self.question.purpose.is_a(above) => Match::Maybe,
            PurposeTerm::Under(_) => Match::No,
            PurposeTerm::Unknown => Match::Maybe,
        }
    }

    /// A permit covers a resource when it covers every sensitive label on it; a denial reaches it by any.
    fn labels(&self, terms: &Terms, labels: &[LabelTerm], deny: bool) -> Match {
        if labels.is_empty() {
            return Match::Yes;
        }
        let known = || {
            labels.iter().filter_map(|term| match term {
                LabelTerm::Known(label) => Some(*label),
                LabelTerm::Unknown => None,
            })
        };
        let unknown = if labels.contains(&LabelTerm::Unknown) { Match::Maybe } else { Match::No };
        let found = if deny {
            Match::any(known().map(|label| self.denial_reaches(label)))
        } else {
            self.permit_covers(terms, &known().collect::<Vec<_>>())
        };
        found.max(unknown)
    }

    fn denial_reaches(&self, label: Label) -> Match {
        if label.kind() == LabelKind::Confidentiality {
            // "Not what is restricted" is not "nor what is normal": a denial reaches its level and all above it.
            return Match::of(self.confidentiality >= label);
        }
        if self.question.labels.contains(label) {
            return Match::Yes;
        }
        if !is_sensitive(label) {
            return Match::No;
        }
        // Labelled more coarsely than the denial, or by the other name of the same thing (ETH, SUD).
        let closed = LabelSet::EMPTY.with(label);
        let coarser = self.leaves.iter().any(|(leaf, _)| closed.contains(*leaf));
        let substance = |closed: &LabelSet| closed.contains(Label::ETH) || closed.contains(Label::SUD);
        let other_name = (label == Label::ETH && self.leaves.iter().any(|(_, leaf)| substance(leaf)))
            || (substance(&closed) && self.question.labels.contains(Label::ETH));
        if coarser || other_name || self.unknown_label { Match::Maybe } else { Match::No }
    }

    fn permit_covers(&self, terms: &Terms, labels: &[Label]) -> Match {
        // R4 Consent.provision.securityLabel: "R" applies to all that is labelled "R" or lower.
        let level = labels.iter().filter(|label| label.kind() == LabelKind::Confidentiality).max();
        if level.is_some_and(|level| *level >= self.confidentiality) {
            return Match::Yes;
        }
        let covers = |(leaf, closed): &(Label, LabelSet)| {
            labels
                .iter()
                .any(|label| closed.contains(*label) || covers_by_law(*label, *leaf, terms.directive, self.notes))
        };
        let touched =
            self.leaves.iter().any(covers) || labels.iter().any(|label| self.question.labels.contains(*label));
        // V is set for a case of its own (a legal hold, a victim of abuse): a kind of content does not reach it.
        let all = self.leaves.iter().all(covers) && self.confidentiality <= Label::RESTRICTED;
        match (touched, all) {
            (true, true) => Match::Yes,
            (true, false) => Match::Maybe,
            (false, _) => Match::No,
        }
    }

    fn class(&self, class: &Class) -> Match {
        match class {
            Class::Kind(kind) => Match::of(*kind == self.question.kind),
            // A code that the resource carries; a profile or a media type it may have without carrying.
            Class::Code(code) if self.carries(code) == Match::Yes => Match::Yes,
            Class::Code(_) | Class::Unknown => Match::Maybe,
        }
    }

    fn code(&self, concept: &Concept) -> Match {
        if concept.is_empty() {
            return Match::Maybe;
        }
        Match::any(concept.iter().map(|code| self.carries(code)))
    }

    fn carries(&self, code: &Code) -> Match {
        self.question.about.codes.map_or(Match::Maybe, |codes| Match::of(codes.contains(code)))
    }

    fn data(&self, data: &DataTerm) -> Match {
        let about = &self.question.about;
        let Some(named) = data.instance(&self.bases) else { return Match::Maybe };
        let itself = about.instance.map_or(Match::Maybe, |own| Match::of(own == named));
        let among = |references: Option<&[Reference]>| {
            let names = |reference: &Reference| reference.on_server(&self.bases).is_some_and(|own| own == named);
            references.map_or(Match::Maybe, |references| Match::of(references.iter().any(names)))
        };
        match data.meaning {
            Meaning::Instance => itself,
            // What the named instance refers to shows in that instance, not in this one.
            Meaning::Related => itself.max(Match::Maybe),
            Meaning::Dependents => itself.max(among(about.references)),
            Meaning::AuthoredBy => among(about.authors),
            Meaning::Unknown => Match::Maybe,
        }
    }
}

impl<'a> Party<'a> {
    fn of(recipient: &'a Recipient) -> Self {
        match recipient {
            Recipient::Reference(text) => Self::Reference(Reference::parse(text)),
            Recipient::Identifier { system, value } => Self::Identifier(system, value),
        }
    }

    fn value_in(&self, wanted: &str) -> Option<&'a str> {
        match self {
            Self::Identifier(system, value) if *system == wanted => Some(value),
            Self::Identifier(..) | Self::Reference(_) => None,
        }
    }
}

/// What kinds of resource name one sort of party, so that two different ones are two different parties.
fn sort(kind: ResourceType) -> Option<&'static str> {
    match kind.as_str() {
        "Patient" | "Practitioner" | "RelatedPerson" => Some("individual"),
        "Organization" => Some("organization"),
        "Device" => Some("device"),
        // Groups, teams, roles and services have members that are not told.
        _ => None,
    }
}

fn is_absolute(reference: &Reference) -> bool {
    match reference {
        Reference::Absolute { .. } => true,
        Reference::Relative { .. } | Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => false,
    }
}

fn is_sensitive(label: Label) -> bool {
    match label.kind() {
        LabelKind::Sensitivity | LabelKind::Law | LabelKind::Unknown => true,
        LabelKind::Confidentiality
        | LabelKind::Obligation
        | LabelKind::Refrain
        | LabelKind::Mark
        | LabelKind::Integrity => false,
    }
}

fn normal() -> Label {
    Label::by_code("N", &[LabelKind::Confidentiality]).unwrap_or(Label::RESTRICTED)
}

/// 42CFRPart2 is the law of what SUD and ETH name, and HIPAAPsyNotes of what PSYTHPN names: to speak of the one is to
/// speak of the other, from content to law only where the Consent says that it complies with 2.31.
fn covers_by_law(term: Label, leaf: Label, directive: bool, notes: bool) -> bool {
    (term == Label::PART2 && separate::speaks_of_part2(leaf))
        || (leaf == Label::PART2 && directive && separate::speaks_of_part2(term))
        || (separate::is_notes(term) && separate::is_notes(leaf))
        || (separate::is_notes(term) && notes && directive && separate::speaks_of_part2(leaf))
}

fn any_of<T>(terms: &[T], weigh: impl Fn(&T) -> Match) -> Match {
    if terms.is_empty() { Match::Yes } else { Match::any(terms.iter().map(weigh)) }
}
