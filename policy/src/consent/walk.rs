//! From one Consent and one question to permit, deny, or nothing said.
//!
//! Every rule has one certain reading or several; the least permissive of them counts (deny before silence before
//! permit). A rule that fits decides unless an exception in it does; of several exceptions that fit, a denial wins.

use super::asked::{Asked, Element};
use super::provision::Rule;
use super::record::{ConsentRecord, Status, Terms};
use super::separate::{self, Lack};
use super::terms::{Effect, Scope};
use super::when::Match;
use crate::purpose::PurposeOfUse;

/// What one Consent, or one rule of it, comes to. A permit carries the paths of rules that grant it.
pub(super) enum Decision<'a> {
    Permit(Vec<Vec<&'a Rule>>),
    Deny,
    Silent,
}

/// What a Consent or a rule says, for explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    Permits,
    Denies,
    Nothing,
}

/// One rule, as it was weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands: `[]` is the root provision, `[0, 1]` is `provision.provision[0].provision[1]`.
    pub place: Vec<usize>,
    /// What it would decide: permit, deny, or nothing where neither type nor policy rule says.
    pub effect: Said,
    /// The elements that do not certainly fit.
    pub misfits: Vec<(Element, Match)>,
    /// Why it does not count although it fits.
    pub lack: Option<Lack>,
    /// What it came to, its exceptions included.
    pub said: Said,
}

impl Decision<'_> {
    pub(super) const fn said(&self) -> Said {
        match self {
            Self::Permit(_) => Said::Permits,
            Self::Deny => Said::Denies,
            Self::Silent => Said::Nothing,
        }
    }
}

/// What the Consent says to the question. `trace` takes a step for every rule that was weighed.
pub(super) fn decide<'a>(asked: &Asked<'_>, record: &'a ConsentRecord, trace: Option<&mut Vec<Step>>) -> Decision<'a> {
    let (Status::Active, Some(terms)) = (record.status, record.terms.as_deref()) else { return Decision::Silent };
    let mut walk = Walk { asked, terms, path: Vec::new(), place: Vec::new(), trace };
    let decision = walk.rule(&terms.root, 0);
    match (terms.scope, decision) {
        // Consent to research, or its refusal, is about research; treatment and adr are not about disclosure at all.
        (Scope::Research, Decision::Deny) if !asked.question.purpose.is_a(PurposeOfUse::Hresch) => Decision::Silent,
        (Scope::NotDisclosure, _) => Decision::Silent,
        (Scope::PatientPrivacy | Scope::Research | Scope::Unknown, decision) => decision,
    }
}

struct Walk<'w, 'a> {
    asked: &'w Asked<'w>,
    terms: &'a Terms,
    path: Vec<&'a Rule>,
    place: Vec<usize>,
    trace: Option<&'w mut Vec<Step>>,
}

impl<'a> Walk<'_, 'a> {
    /// `unmet`: the elements on which rules above certainly fail, and which no rule since has stated anew.
    fn rule(&mut self, rule: &'a Rule, unmet: u16) -> Decision<'a> {
        let weighed = Element::ALL.map(|element| (element, self.asked.weigh(self.terms, rule, element)));
        let step = self.open_step(rule, &weighed);
        let decision = self.weighed_rule(rule, &weighed, unmet, step);
        if let Some(step) = self.step(step) {
            step.said = decision.said();
        }
        decision
    }

    fn weighed_rule(
        &mut self,
        rule: &'a Rule,
        weighed: &[(Element, Match)],
        unmet: u16,
        step: Option<usize>,
    ) -> Decision<'a> {
        let failing = |content: bool| {
            let no = weighed.iter().filter(move |(e, m)| *m == Match::No && e.is_content() == content);
            no.fold(0, |bits, (element, _)| bits | element.bit())
        };
        if failing(false) != 0 {
            return Decision::Silent;
        }
        // IHE PCF (appendix P) lets a nested rule restate what data it is about; R4 makes it an exception within its
        // parent. Where they part, only a denial is heard, and only if it states every element its parents fail on.
        let restated = weighed.iter().filter(|(e, m)| *m != Match::No && states(rule, *e));
        let unmet = restated.fold(unmet, |bits, (element, _)| bits & !element.bit()) | failing(true);
        self.path.push(rule);
        let mut inner = self.exceptions(rule, unmet);
        if let (Decision::Silent, 0) = (&inner, unmet) {
            inner = self.own(rule, step);
        }
        self.path.pop();
        let certain = unmet == 0 && weighed.iter().all(|(_, m)| *m == Match::Yes);
        match inner {
            Decision::Permit(_) if !certain => Decision::Silent,
            inner @ (Decision::Permit(_) | Decision::Deny | Decision::Silent) => inner,
        }
    }

    fn exceptions(&mut self, rule: &'a Rule, unmet: u16) -> Decision<'a> {
        let mut granted = Vec::new();
        let mut denied = false;
        for (at, exception) in rule.exceptions.iter().enumerate() {
            self.place.push(at);
            match self.rule(exception, unmet) {
                Decision::Permit(paths) => granted.extend(paths),
                Decision::Deny => denied = true,
                Decision::Silent => {}
            }
            self.place.pop();
        }
        if denied {
            Decision::Deny
        } else if granted.is_empty() {
            Decision::Silent
        } else {
            Decision::Permit(granted)
        }
    }

    fn own(&mut self, rule: &Rule, step: Option<usize>) -> Decision<'a> {
        match rule.effect_for(self.asked.question.purpose) {
            Effect::Deny | Effect::EmergencyOnly => Decision::Deny,
            Effect::Unstated => Decision::Silent,
            Effect::Permit => match separate::lack(self.asked, self.terms, &self.path) {
                None => Decision::Permit(vec![self.path.clone()]),
                Some(lack) => {
                    if let Some(step) = self.step(step) {
                        step.lack = Some(lack);
                    }
                    Decision::Silent
                }
            },
        }
    }

    fn open_step(&mut self, rule: &Rule, weighed: &[(Element, Match)]) -> Option<usize> {
        let effect = match rule.effect_for(self.asked.question.purpose) {
            Effect::Permit => Said::Permits,
            Effect::Deny | Effect::EmergencyOnly => Said::Denies,
            Effect::Unstated => Said::Nothing,
        };
        let place = self.place.clone();
        let trace = self.trace.as_deref_mut()?;
        let misfits = weighed.iter().filter(|(_, fit)| *fit != Match::Yes).copied().collect();
        trace.push(Step { place, effect, misfits, lack: None, said: Said::Nothing });
        trace.len().checked_sub(1)
    }

    fn step(&mut self, at: Option<usize>) -> Option<&mut Step> {
        self.trace.as_deref_mut()?.get_mut(at?)
    }
}

fn states(rule: &Rule, element: Element) -> bool {
    match element {
        Element::SecurityLabel => !rule.labels.is_empty(),
        Element::Class => !rule.classes.is_empty(),
        Element::Code => !rule.codes.is_empty(),
        Element::DataPeriod => rule.data_period.is_some(),
        Element::Data => !rule.data.is_empty(),
        Element::Unknown | Element::Period | Element::Actor | Element::Action | Element::Purpose => false,
    }
}
