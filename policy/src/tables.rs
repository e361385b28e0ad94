//! Decision tables: requests and records with the ruling they must get, and what of the policies they exercise.
//!
//! The shape follows cedar-integration-tests (`requests`, each with `description`, `decision`, `reason`), the questions
//! are in FHIR's terms. A policy that decides no row, or a condition that no row makes both true and false, is a finding.

use serde::{Deserialize, Serialize};

use crate::cedar::PolicySet;
use crate::question::{About, Caller, Decision, Question, Record, Ruling, Target, maybe_code};
use crate::reason::Reason;

/// The tables that the shipped set is held to.
pub const SHIPPED: &[(&str, &str)] = &[
    ("ceilings.json", include_str!("../tests/decisions/ceilings.json")),
    ("emergency.json", include_str!("../tests/decisions/emergency.json")),
    ("interactions.json", include_str!("../tests/decisions/interactions.json")),
    ("part2.json", include_str!("../tests/decisions/part2.json")),
    ("partners.json", include_str!("../tests/decisions/partners.json")),
    ("records.json", include_str!("../tests/decisions/records.json")),
];

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    requests: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the row says, in a sentence.
    pub description: String,
    #[serde(default)]
    pub caller: Caller,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    pub decision: Decision,
    /// The ids of the deciding policies, all of them, in any order.
    pub reason: Vec<String>,
    /// The reason code of a denial, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_code")]
    pub code: Option<Reason>,
}

impl Row {
    fn question(&self) -> Result<Question, String> {
        let about = match (&self.target, self.record) {
            (Some(target), None) => About::Target(target.clone()),
            (None, Some(record)) => About::Record(record),
            (Some(_), Some(_)) | (None, None) => {
                return Err(format!("`{}`: a row has either a `target` or a `record`", self.description));
            }
        };
        Ok(Question { caller: self.caller.clone(), about })
    }

    fn holds(&self, ruling: &Ruling) -> bool {
        let sorted = |ids: &[String]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        ruling.decision == self.decision
            && sorted(&ruling.policies) == sorted(&self.reason)
            && self.code.is_none_or(|code| ruling.reason == Some(code))
    }
}

/// Rows of several files, ready to be put to a set.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    rows: Vec<(String, Row, Question)>,
}

impl Tables {
    /// Reads tables from the texts of their files.
    ///
    /// # Errors
    /// Every file that is no table, with what is wrong with it.
    pub fn read(files: &[(String, String)]) -> Result<Self, Vec<String>> {
        let (mut tables, mut problems) = (Self::default(), Vec::new());
        for (file, text) in files {
            match serde_json::from_str::<Table>(text) {
                Err(error) => problems.push(format!("{file}: {error}")),
                Ok(table) => {
                    for row in table.requests {
                        match row.question() {
                            Ok(question) => tables.rows.push((file.clone(), row, question)),
                            Err(problem) => problems.push(format!("{file}: {problem}")),
                        }
                    }
                }
            }
        }
        if problems.is_empty() { Ok(tables) } else { Err(problems) }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The questions of all rows.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.rows.iter().map(|(_, _, question)| question)
    }

    /// The rows whose ruling is not the expected one.
    pub fn failures(&self, set: &PolicySet) -> Vec<Failure> {
        self.rows.iter().filter_map(|row| Failure::of(set, row)).collect()
    }

    /// Does any row fail? Stops at the first.
    pub fn catches(&self, set: &PolicySet) -> Option<Failure> {
        self.rows.iter().find_map(|row| Failure::of(set, row))
    }

    /// Policies and conditions that no row exercises.
    pub fn uncovered(&self, set: &PolicySet) -> Vec<Uncovered> {
        let questions: Vec<&Question> = self.questions().collect();
        let deciding: std::collections::BTreeSet<String> =
            questions.iter().flat_map(|question| set.rule(question).policies).collect();
        let idle = set.policies().filter(|policy| !deciding.contains(&policy.id)).map(|policy| Uncovered {
            policy: policy.id.clone(),
            condition: None,
            missing: "it decides no row",
        });
        idle.chain(set.unexercised_conditions(&questions)).collect()
    }
}

/// A row that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub file: String,
    pub description: String,
    pub expected: Ruling,
    pub got: Ruling,
}

impl Failure {
    fn of(set: &PolicySet, (file, row, question): &(String, Row, Question)) -> Option<Self> {
        let got = set.rule(question);
        (!row.holds(&got)).then(|| Self {
            file: file.clone(),
            description: row.description.clone(),
            expected: Ruling {
                decision: row.decision,
                policies: row.reason.clone(),
                reason: row.code,
                would_deny: Vec::new(),
            },
            got,
        })
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { file, description, expected, got } = self;
        write!(f, "{file}: {description}: expected {expected}, got {got}")
    }
}

impl core::fmt::Display for Ruling {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let decision = match self.decision {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
            Decision::Error => "error",
        };
        let by = if self.policies.is_empty() { "no policy".to_owned() } else { self.policies.join(", ") };
        write!(f, "{decision} by {by}")?;
        self.reason.map_or(Ok(()), |reason| write!(f, " ({})", reason.code()))
    }
}

/// A part of a policy that no row exercises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uncovered {
    pub policy: String,
    /// The condition in Cedar's words; `None` for the policy as a whole.
    pub condition: Option<String>,
    pub missing: &'static str,
}

impl core::fmt::Display for Uncovered {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.condition {
            Some(condition) => write!(f, "policy `{}`: `{condition}`: {}", self.policy, self.missing),
            None => write!(f, "policy `{}`: {}", self.policy, self.missing),
        }
    }
}
