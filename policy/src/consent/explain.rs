//! Why the consents say what they say, rule by rule.

use core::fmt;

use fhir_profiles::ids::LogicalId;

use super::asked::{Asked, Element};
use super::record::{Status, Why};
use super::separate::Lack;
use super::terms::Scope;
use super::walk::{self, Said, Step};
use super::when::Match;
use super::{ConsentBook, ConsentOutcome, ConsentQuestion, evaluate};

/// The outcome, and what each Consent of the book contributed to it.
#[derive(Clone)]
pub struct Explanation {
    pub outcome: ConsentOutcome,
    /// One finding a Consent, in the order of the book.
    pub findings: Vec<Finding>,
}

/// What one Consent says to the question, and why.
#[derive(Clone)]
pub struct Finding {
    pub consent: Option<LogicalId>,
    pub said: Said,
    pub because: Because,
}

#[derive(Clone)]
pub enum Because {
    /// It cannot be understood, so it denies.
    Unreadable(Why),
    /// It is not active, so it says nothing.
    NotActive(Status),
    /// It is about treatment or an advance directive, so it says nothing about disclosure.
    NotAboutDisclosure,
    /// Its rules say so. The first step is the root.
    Rules(Vec<Step>),
}

/// [`evaluate`], with its reasons. For people and records, not for the path of a request.
pub fn explain(book: &ConsentBook, question: &ConsentQuestion<'_>) -> Explanation {
    let asked = Asked::new(book, question);
    let readable = book.records.iter().map(|record| {
        let mut steps = Vec::new();
        let said = walk::decide(&asked, record, Some(&mut steps)).said();
        let because = match (record.status(), &record.terms) {
            (Status::Active, Some(terms)) if terms.scope == Scope::NotDisclosure => Because::NotAboutDisclosure,
            (Status::Active, Some(_)) => Because::Rules(steps),
            (status, _) => Because::NotActive(status),
        };
        Finding { consent: Some(record.id().clone()), said, because }
    });
    let unreadable = book.unreadable.iter().map(|unreadable| Finding {
        consent: unreadable.id.clone(),
        said: Said::Denies,
        because: Because::Unreadable(unreadable.why),
    });
    Explanation { findings: readable.chain(unreadable).collect(), outcome: evaluate(book, question) }
}

impl Step {
    /// Where the rule stands, as an R4 path.
    pub fn path(&self) -> String {
        let mut path = String::from("provision");
        for at in &self.place {
            path.push_str(&format!(".provision[{at}]"));
        }
        path
    }

    /// Does the rule itself hold, or is it one that a denial is heard through?
    pub fn fits(&self) -> bool {
        self.misfits.is_empty()
    }
}

/// One sentence for a rule, without codes or values of the Consent: `provision would permit: purpose does not fit`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = match self.effect {
            Said::Permits => "permits",
            Said::Denies => "denies",
            Said::Nothing => "decides nothing by itself",
        };
        write!(f, "{} {would}", self.path())?;
        let mut separator = ", but ";
        for (element, fit) in &self.misfits {
            let how = match fit {
                Match::No => "does not fit",
                Match::Maybe | Match::Yes => "cannot be told to fit",
            };
            write!(f, "{separator}its {element} {how}")?;
            separator = " and ";
        }
        if let Some(lack) = self.lack {
            write!(f, "{separator}it does not count: {lack}")?;
        }
        if self.misfits.is_empty() && self.lack.is_none() {
            f.write_str(", and fits")?;
        }
        Ok(())
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown element",
            Self::Period => "period",
            Self::Actor => "actor",
            Self::Action => "action",
            Self::Purpose => "purpose",
            Self::SecurityLabel => "securityLabel",
            Self::Class => "class",
            Self::Code => "code",
            Self::DataPeriod => "dataPeriod",
            Self::Data => "data",
        })
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scope => "the scope of the Consent is not patient-privacy",
            Self::Category => "the category of the Consent does not reach this purpose",
            Self::SignedInFuture => "the Consent is dated in the future",
            Self::NotesOfTheirOwn => {
                "psychotherapy and counseling notes need a consent for them alone (45 CFR 164.508(b)(3)(ii), 42 CFR 2.31(b))"
            }
            Self::ProceedingsOfTheirOwn => {
                "use in proceedings against the patient needs a consent for it alone (42 CFR 2.31(d))"
            }
            Self::Description => {
                "neither its category (42CFRPart2CD) nor a label speaks of substance use disorder records (42 CFR 2.31(a)(3))"
            }
            Self::Recipient => "it names no recipient (42 CFR 2.31(a)(4))",
            Self::Purpose => "it names no purpose (42 CFR 2.31(a)(5))",
            Self::Expiry => "it has no expiration (42 CFR 2.31(a)(7))",
            Self::Signature => "nothing shows that it was signed (42 CFR 2.31(a)(8))",
            Self::Date => "it has no date (42 CFR 2.31(a)(9))",
        })
    }
}

impl fmt::Debug for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explanation").field("findings", &self.findings.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finding").field("said", &self.said).finish_non_exhaustive()
    }
}

impl fmt::Debug for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => f.debug_tuple("Unreadable").field(why).finish(),
            Self::NotActive(status) => f.debug_tuple("NotActive").field(status).finish(),
            Self::NotAboutDisclosure => f.write_str("NotAboutDisclosure"),
            Self::Rules(steps) => f.debug_tuple("Rules").field(&steps.len()).finish(),
        }
    }
}
