//! How a caller stands: what its behaviour was answered with, for how long, and what lifts it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Answer, Assessment};

/// What a request of a caller meets, before anything else is decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Gate {
    /// Nothing stands against it.
    Open,
    /// It stands out, and goes on: policy is told.
    Watched(Arc<RiskNote>),
    /// It is slowed down: come back after this long.
    SlowDown(Duration, Arc<RiskNote>),
    /// It must authenticate anew (RFC 9470).
    StepUp(Arc<RiskNote>),
    /// It gets nothing until someone has looked.
    Closed(Arc<RiskNote>),
}

/// Why a caller stands as it does, for the record. It names no patient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RiskNote {
    /// `throttle`, `step-up`, `terminate`.
    pub answer: String,
    /// 0 to 100.
    pub score: f64,
    pub reasons: Vec<RiskReason>,
}

/// One reason, with its numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RiskReason {
    pub signal: String,
    pub seen: f64,
    pub usual: f64,
    pub says: String,
}

impl RiskNote {
    /// The note of an assessment; `answer` is what is done, or would be.
    pub fn of(assessment: &Assessment, answer: Answer) -> Self {
        let tenth = |number: f64| (number * 10.0).round() / 10.0;
        let reasons = assessment.reasons.iter().map(|why| RiskReason {
            signal: why.signal.as_str().to_owned(),
            seen: tenth(why.seen),
            usual: tenth(why.usual),
            says: why.sentence.clone(),
        });
        Self { answer: answer.as_str().to_owned(), score: tenth(assessment.score), reasons: reasons.collect() }
    }
}

/// When a caller proved who it is, as its token says.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    pub at: Option<OffsetDateTime>,
    /// In a way that a step-up asks for.
    pub suffices: bool,
}

/// How a caller stands now.
#[derive(Default)]
pub(super) struct Standing {
    /// The gravest answer that still holds.
    given: Option<Given>,
    /// Answers up to this one are not given before then: they were met, or someone has looked.
    excused: Option<(Answer, i64)>,
    /// When a slowed-down caller may ask next, in milliseconds.
    next_at: i64,
    /// The gravest answer that was told of, and when.
    told: Option<(Answer, i64)>,
}

struct Given {
    answer: Answer,
    since: i64,
    until: i64,
    note: Arc<RiskNote>,
}

/// A slowed-down caller asks once in so many milliseconds.
const PACE: i64 = 2_000;
const HOUR: i64 = 3_600;

/// For how long an answer holds after it was last called for.
const fn holds(answer: Answer) -> i64 {
    match answer {
        Answer::Observe | Answer::Escalate => 0,
        Answer::Throttle => 300,
        Answer::StepUp => HOUR,
        Answer::Terminate => 24 * HOUR,
    }
}

impl Standing {
    /// Takes in an assessment. `true`: it is graver than any that was told of in the last hour.
    pub(super) fn take(&mut self, assessment: &mut Assessment, now: i64) -> bool {
        let excused = self.excused.filter(|(_, until)| now < *until).map_or(Answer::Observe, |(answer, _)| answer);
        if assessment.answer <= excused {
            assessment.answer = Answer::Observe;
        }
        if assessment.answer > Answer::Escalate {
            let stands = self.given.as_ref().filter(|given| now < given.until);
            let graver = stands.is_none_or(|given| assessment.answer >= given.answer);
            if graver {
                let since = stands.filter(|given| given.answer == assessment.answer).map_or(now, |given| given.since);
                let note = Arc::new(RiskNote::of(assessment, assessment.answer));
                let until = now.saturating_add(holds(assessment.answer));
                self.given = Some(Given { answer: assessment.answer, since, until, note });
            }
        }
        let told = self.told.filter(|(_, at)| now.saturating_sub(*at) < HOUR).map(|(answer, _)| answer);
        let rose = assessment.would > told.unwrap_or(Answer::Observe);
        if rose {
            self.told = Some((assessment.would, now));
        }
        rose
    }

    /// What a request now meets. An emergency is watched and goes on.
    pub(super) fn gate(&mut self, now: OffsetDateTime, proof: Proof, emergency: bool) -> Gate {
        let seconds = now.unix_timestamp();
        let Some(given) = self.given.as_ref().filter(|given| seconds < given.until) else { return Gate::Open };
        let note = Arc::clone(&given.note);
        if emergency {
            return Gate::Watched(note);
        }
        match given.answer {
            Answer::Observe | Answer::Escalate => Gate::Open,
            Answer::Terminate => Gate::Closed(note),
            Answer::StepUp => {
                let anew = proof.at.is_some_and(|at| at.unix_timestamp() >= given.since && at <= now);
                if !(anew && proof.suffices) {
                    return Gate::StepUp(note);
                }
                self.excuse(Answer::StepUp, seconds.saturating_add(HOUR));
                Gate::Watched(note)
            }
            Answer::Throttle => {
                let now = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
                // A clock that was set back must not keep anybody waiting.
                let wait = self.next_at.saturating_sub(now).min(PACE);
                if wait > 0 {
                    return Gate::SlowDown(Duration::from_millis(wait.unsigned_abs()), note);
                }
                self.next_at = now.saturating_add(PACE);
                Gate::Watched(note)
            }
        }
    }

    /// Answers up to this one are lifted, and not given again before then.
    pub(super) fn excuse(&mut self, answer: Answer, until: i64) {
        self.excused = Some((answer, until));
        if self.given.as_ref().is_some_and(|given| given.answer <= answer) {
            self.given = None;
        }
    }
}
