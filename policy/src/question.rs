//! Everything a policy can read, in plain values: what tables, records, explanations and proofs speak of.
//!
//! A [`Question`] holds codes and yes or no, never an identifier of a patient and never content. In JSON, what is left
//! out has the value of an ordinary caller in good standing, so that a table row states only what matters to it.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::LabelSet;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::cedar::{PolicySet, Verdict};
use crate::decide::{EndpointRole, Risk, UserKind};
use crate::partner::Part2Basis;
use crate::purpose::PurposeOfUse;
use crate::reason::Reason;

/// Who asks, about one type of a request or about one record of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    #[serde(default)]
    pub caller: Caller,
    #[serde(flatten)]
    pub about: About,
}

/// The two moments of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    Target(Target),
    Record(Record),
}

/// The caller and the channel, as policies see them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Caller {
    /// The partner's client id.
    pub app: String,
    pub active: bool,
    pub evidence_current: bool,
    #[serde(with = "code")]
    pub basis: Part2Basis,
    /// The purposes the partner is registered for. Empty in a table row: the asked one.
    #[serde(with = "codes")]
    pub purposes: Vec<PurposeOfUse>,
    pub silent: bool,
    pub jurisdiction: String,
    #[serde(with = "code")]
    pub purpose: PurposeOfUse,
    #[serde(with = "code")]
    pub user: UserKind,
    pub strong: bool,
    pub mtls: bool,
    pub sender_constrained: bool,
    pub emergency: bool,
    /// On whose behalf the app asks, as the token states it; empty: not stated.
    pub organization: String,
    #[serde(with = "code")]
    pub risk: Risk,
    #[serde(with = "code")]
    pub endpoint: EndpointRole,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            app: "app".to_owned(),
            active: true,
            evidence_current: true,
            basis: Part2Basis::None,
            purposes: Vec::new(),
            silent: false,
            jurisdiction: "US".to_owned(),
            purpose: PurposeOfUse::Treat,
            user: UserKind::None,
            strong: false,
            mtls: true,
            sender_constrained: true,
            emergency: false,
            organization: String::new(),
            risk: Risk::Low,
            endpoint: EndpointRole::Program,
            time: time::macros::datetime!(2026-06-01 12:00 UTC),
        }
    }
}

impl Caller {
    /// The registered purposes; in a table row that names none, the asked one.
    pub fn registered(&self) -> &[PurposeOfUse] {
        if self.purposes.is_empty() { std::slice::from_ref(&self.purpose) } else { &self.purposes }
    }
}

/// One type that a request touches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The schema's action: `read`, `search-type`, `update`, …
    pub action: String,
    #[serde(with = "code")]
    pub kind: ResourceType,
    /// `target`, `include`, `revinclude`, …
    #[serde(default = "target")]
    pub path: String,
}

fn target() -> String {
    "target".to_owned()
}

/// One record of an answer: all that distinguishes it from another, for policies. It is also the key verdicts are
/// remembered under, so no policy can read outside the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    #[serde(with = "code")]
    pub kind: ResourceType,
    #[serde(default, with = "labels")]
    pub labels: LabelSet,
    #[serde(default, with = "code")]
    pub consent: ConsentState,
    /// A consent for psychotherapy or counseling notes alone permits.
    #[serde(default)]
    pub notes_consent: bool,
    /// A consent for proceedings alone permits.
    #[serde(default)]
    pub proceedings_consent: bool,
    #[serde(default, with = "code")]
    pub patient: Relation,
    #[serde(default)]
    pub emergency_patient: bool,
    #[serde(default)]
    pub court_order: bool,
}

/// What the patient's consents say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConsentState {
    Permits,
    Denies,
    #[default]
    Silent,
}

/// Whose record it is, seen from the caller's launch context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    #[default]
    Own,
    Other,
    /// About no patient.
    None,
}

/// What the policies say to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    pub decision: Decision,
    /// The policies that decided: the permits, or the forbids; empty where none permitted.
    pub policies: Vec<String>,
    /// The reason code of a denial.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_code")]
    pub reason: Option<Reason>,
    /// Shadowed policies that would have denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Deny,
    /// A policy could not be evaluated; the answer to a client is a denial.
    Error,
}

impl PolicySet {
    /// Puts one question to the policies alone, without scopes. For tables, explanations and replays; requests go
    /// through [`crate::decide::decide`].
    pub fn rule(&self, question: &Question) -> Ruling {
        let answer = match crate::cedar::Asking::new(self, &question.caller) {
            Some(asking) => match &question.about {
                About::Target(target) => self.ask_target(&asking, target),
                About::Record(record) => self.ask_record(&asking, record),
            },
            None => crate::cedar::Answer::error(),
        };
        let fallback = match &question.about {
            About::Target(_) => Reason::PolicyForbids,
            About::Record(_) => Reason::LabelWithheld,
        };
        let (decision, reason) = match answer.verdict {
            Verdict::Permit => (Decision::Allow, None),
            Verdict::Deny => (Decision::Deny, Some(answer.reason().unwrap_or(fallback))),
            Verdict::Error => (Decision::Error, Some(Reason::PolicyError)),
        };
        let ids = |policies: &[std::sync::Arc<crate::cedar::PolicyMeta>]| {
            policies.iter().map(|policy| policy.id.clone()).collect()
        };
        Ruling { decision, policies: ids(&answer.policies), reason, would_deny: ids(&answer.would_deny) }
    }
}

/// A value that JSON shows by its code.
pub(crate) trait Coded: Sized {
    fn code(&self) -> &'static str;
    fn from_code(code: &str) -> Option<Self>;
}

macro_rules! coded {
    ($($type:ty: $($variant:ident = $code:literal),+;)+) => {$(
        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }

        impl Coded for $type {
            fn code(&self) -> &'static str {
                Self::code(*self)
            }
            fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.code() == code)
            }
        }
    )+};
}

coded! {
    ConsentState: Permits = "permits", Denies = "denies", Silent = "silent";
    Relation: Own = "own", Other = "other", None = "none";
    EndpointRole: Program = "program", Recipient = "recipient";
    Risk: Low = "low", Elevated = "elevated", High = "high";
    UserKind: None = "none", Patient = "Patient", Practitioner = "Practitioner",
        PractitionerRole = "PractitionerRole", RelatedPerson = "RelatedPerson", Person = "Person", Other = "other";
}

macro_rules! coded_elsewhere {
    ($($type:ty),+) => {$(
        impl Coded for $type {
            fn code(&self) -> &'static str {
                Self::code(*self)
            }
            fn from_code(code: &str) -> Option<Self> {
                Self::from_code(code)
            }
        }
    )+};
}

coded_elsewhere!(PurposeOfUse, Part2Basis, Reason);

impl Coded for ResourceType {
    fn code(&self) -> &'static str {
        self.as_str()
    }
    fn from_code(code: &str) -> Option<Self> {
        code.parse().ok()
    }
}

pub(crate) mod code {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Coded;

    pub(crate) fn serialize<T: Coded, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.code())
    }

    pub(crate) fn deserialize<'de, T: Coded, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let code = String::deserialize(from)?;
        T::from_code(&code).ok_or_else(|| Error::custom(format!("unknown code `{code}`")))
    }
}

pub(crate) mod maybe_code {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Coded;

    pub(crate) fn serialize<T: Coded, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Coded::code).serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Coded, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|code| T::from_code(&code).ok_or_else(|| Error::custom(format!("unknown code `{code}`"))))
            .transpose()
    }
}

pub(crate) mod codes {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Coded;

    pub(crate) fn serialize<T: Coded, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(Coded::code))
    }

    pub(crate) fn deserialize<'de, T: Coded, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
        let codes = Vec::<String>::deserialize(from)?;
        let read = |code: &String| T::from_code(code).ok_or_else(|| Error::custom(format!("unknown code `{code}`")));
        codes.iter().map(read).collect()
    }
}

/// Label sets as lists of codes; reading closes them under subsumption, as the labeller does.
mod labels {
    use fhir_profiles::label::{Label, LabelSet};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(labels: &LabelSet, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(labels.iter().map(Label::code))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LabelSet, D::Error> {
        let known = |code: &String| {
            Label::all()
                .find(|label| label.code() == code)
                .ok_or_else(|| Error::custom(format!("unknown label `{code}`; `unknown` stands for those")))
        };
        Vec::<String>::deserialize(from)?.iter().map(known).collect()
    }
}
