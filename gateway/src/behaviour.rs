//! Behaviour analytics: does a caller act as it usually does, and if not, in what, and what then?
//!
//! For each user and each app one small profile (under 2 KiB), fed by every answer: what it did in this hour and this
//! day, and its own baseline of both. A score comes with reasons, each a sentence with its numbers. A newcomer is
//! measured against a stated prior until its own baseline outweighs it. Emergency access is observed and escalated to
//! people, never throttled or ended (42 CFR 2.51; 45 CFR 164.312(a)(2)(ii)).

mod baseline;
mod profile;
mod replay;
mod rules;
mod sketch;
mod standing;
mod told;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use arc_swap::ArcSwap;
pub use profile::PROFILE_BYTES;
use profile::Profile;
pub use replay::{Seen, replay};
use rules::Tokens;
pub use rules::{Rule, Rules};
pub use standing::{Gate, Proof, RiskNote, RiskReason};
use told::Notices;
pub use told::Told;

/// What one exchange showed of its caller.
#[derive(Clone, Copy)]
pub struct Observation<'a> {
    pub at: OffsetDateTime,
    pub partner: &'a str,
    pub issuer: &'a str,
    /// `sub`; the client itself for client-credentials tokens.
    pub user: &'a str,
    /// The token's id.
    pub token: Option<&'a str>,
    pub address: IpAddr,
    pub certificate: Option<&'a str>,
    /// Whose records were disclosed.
    pub patients: &'a [&'a str],
    /// Part 2 records were among them.
    pub part2: bool,
    pub refused: bool,
    /// It named an instance that it was told does not exist.
    pub missing: bool,
    pub bytes: u64,
    pub emergency: bool,
    /// What the partner file says is usual for this app, where it says so.
    pub expected: Option<Prior>,
}

/// What to do about a caller, in rising order; `Escalate` calls people and stops nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    Observe,
    Escalate,
    Throttle,
    StepUp,
    Terminate,
}

impl Answer {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Escalate => "escalate",
            Self::Throttle => "throttle",
            Self::StepUp => "step-up",
            Self::Terminate => "terminate",
        }
    }
}

/// In what a caller differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    DistinctPatients,
    DistinctPatientsOfTheDay,
    Part2Share,
    Refusals,
    Enumeration,
    TimeOfDay,
    Network,
    Certificate,
    Concurrency,
    Volume,
    BreakGlass,
    /// The rules of the configuration.
    MassAccess,
    DeniedRequests,
    Part2Access,
    TokenSharing,
    EmergencyAccess,
}

impl Signal {
    /// The kind of a risk event, in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DistinctPatients => "distinct-patients",
            Self::DistinctPatientsOfTheDay => "distinct-patients-of-the-day",
            Self::Part2Share => "part2-share",
            Self::Refusals => "refusals",
            Self::Enumeration => "enumeration",
            Self::TimeOfDay => "time-of-day",
            Self::Network => "network",
            Self::Certificate => "certificate",
            Self::Concurrency => "concurrency",
            Self::Volume => "volume",
            Self::BreakGlass => "break-glass",
            Self::MassAccess => "mass-access",
            Self::DeniedRequests => "denied-requests",
            Self::Part2Access => "part2-access",
            Self::TokenSharing => "token-sharing",
            Self::EmergencyAccess => "emergency-access",
        }
    }
}

/// One reason for a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    pub signal: Signal,
    /// What was seen, and what is usual, in the signal's own unit.
    pub seen: f64,
    pub usual: f64,
    /// Of 100.
    pub points: f64,
    /// For people; it names no patient and no user.
    pub sentence: String,
}

/// How a caller's behaviour is judged after an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// 0 to 100.
    pub score: f64,
    /// What to do; in shadow mode always `Observe`.
    pub answer: Answer,
    /// What would be done outside shadow mode.
    pub would: Answer,
    /// The strongest first; rules last.
    pub reasons: Vec<Why>,
    /// It is graver than any within the last hour: it is told of.
    pub rose: bool,
}

impl Assessment {
    /// Is this among its reasons?
    pub fn names(&self, signal: Signal) -> bool {
        self.reasons.iter().any(|why| why.signal == signal)
    }
}

/// The judgements of a user and, where that is somebody else, of its app.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessments {
    pub user: Assessment,
    pub app: Option<Assessment>,
    /// The answer to the token's having come from too many places: it ends the token, not the user.
    pub token: Answer,
}

impl Assessments {
    /// What to do now: the graver of the two.
    pub fn answer(&self) -> Answer {
        self.app.as_ref().map_or(Answer::Observe, |app| app.answer).max(self.user.answer)
    }
}

/// Thresholds and priors.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Record what scores would bring, and do nothing. Rules are carried out all the same.
    pub shadow: bool,
    pub throttle_at: f64,
    pub step_up_at: f64,
    pub terminate_at: f64,
    pub rules: Rules,
    pub user: Prior,
    pub partner: Prior,
    /// How many profiles are kept; beyond, the one longest unseen is forgotten.
    pub most_profiles: usize,
}

/// What is taken as usual of somebody not yet known.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    pub patients_per_hour: f64,
    pub patients_per_day: f64,
    pub mib_per_hour: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shadow: true,
            throttle_at: 40.0,
            step_up_at: 60.0,
            terminate_at: 85.0,
            rules: Rules::default(),
            user: Prior { patients_per_hour: 8.0, patients_per_day: 40.0, mib_per_hour: 5.0 },
            partner: Prior { patients_per_hour: 100.0, patients_per_day: 600.0, mib_per_hour: 100.0 },
            most_profiles: 1 << 20,
        }
    }
}

/// The profiles of all callers of this process.
pub struct Behaviour {
    settings: ArcSwap<Settings>,
    hasher: RandomState,
    profiles: Mutex<HashMap<u64, Box<Profile>>>,
    tokens: Mutex<Tokens>,
    notices: Notices,
}

/// A user of an app, as its tokens name it.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub partner: &'a str,
    pub issuer: &'a str,
    pub user: &'a str,
}

impl Behaviour {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            hasher: RandomState::new(),
            profiles: Mutex::default(),
            tokens: Mutex::default(),
            notices: Notices::default(),
        }
    }

    /// New settings hold from the next exchange; what was learnt stays.
    pub fn reload(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What a request of this caller meets now.
    pub fn gate(&self, caller: Caller<'_>, now: OffsetDateTime, proof: Proof, emergency: bool) -> Gate {
        let key = self.key(caller);
        self.profiles().get_mut(&key).map_or(Gate::Open, |profile| profile.standing.gate(now, proof, emergency))
    }

    /// Someone has looked: nothing stands against this user any more, through whatever app, until then.
    pub fn excuse(&self, issuer: &str, user: &str, until: OffsetDateTime) {
        let who = self.hasher.hash_one((issuer, user));
        for profile in self.profiles().values_mut().filter(|profile| profile.user == who) {
            profile.standing.excuse(Answer::Terminate, until.unix_timestamp());
        }
    }

    fn key(&self, Caller { partner, issuer, user }: Caller<'_>) -> u64 {
        match user == partner {
            true => self.hasher.hash_one(partner),
            false => self.hasher.hash_one((partner, issuer, user)),
        }
    }

    /// Takes in an exchange and judges its user and its app.
    ///
    /// An app as a whole is never stopped by its score, only shown to people: most of its users did nothing. A
    /// backend service is its own user.
    pub fn observe(&self, observation: &Observation<'_>) -> Assessments {
        let settings = self.settings.load();
        let of_app = observation.expected.unwrap_or(settings.partner);
        let Observation { partner, issuer, user, .. } = *observation;
        let own = self.key(Caller { partner, issuer, user });
        let (token, shared) = self.token(observation, &settings);
        // Ending the token is enough; the user is answered with less.
        let shared = shared.map(|why| (if token == Answer::Terminate { Answer::Escalate } else { token }, why));
        if user == partner {
            let user = self.observe_as(own, observation, (of_app, "user"), &settings, shared);
            return Assessments { user, app: None, token };
        }
        let of_user = (settings.user, "user");
        let user = self.observe_as(own, &Observation { expected: None, ..*observation }, of_user, &settings, shared);
        let partner = self.hasher.hash_one(partner);
        let mut app = self.observe_as(partner, observation, (of_app, "app"), &settings, None);
        app.would = app.would.min(Answer::Escalate);
        app.answer = app.answer.min(Answer::Escalate);
        Assessments { user, app: Some(app), token }
    }

    fn token(&self, observation: &Observation<'_>, settings: &Settings) -> (Answer, Option<Why>) {
        let Some(rule) = settings.rules.token_sharing else { return (Answer::Observe, None) };
        // A service that shows its certificate runs wherever its operator lets it, on several networks at once.
        if observation.user == observation.partner && observation.certificate.is_some() {
            return (Answer::Observe, None);
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let why = tokens.observe(observation, rule, &self.hasher);
        let most = if observation.emergency { Answer::Escalate } else { rule.answer };
        (if why.is_some() { rule.answer.min(most) } else { Answer::Observe }, why)
    }

    /// How many callers are known.
    pub fn len(&self) -> usize {
        self.profiles().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn observe_as(
        &self,
        key: u64,
        observation: &Observation<'_>,
        (prior, who): (Prior, &'static str),
        settings: &Settings,
        shared: Option<(Answer, Why)>,
    ) -> Assessment {
        let mut profiles = self.profiles();
        if profiles.len() >= settings.most_profiles && !profiles.contains_key(&key) {
            forget_the_longest_unseen(&mut profiles);
        }
        let new = || {
            let user = self.hasher.hash_one((observation.issuer, observation.user));
            Box::new(Profile::new(observation.at, if who == "user" { user } else { 0 }))
        };
        let profile = profiles.entry(key).or_insert_with(new);
        let mut reasons = profile.observe(observation, prior, who, &self.hasher);
        reasons.sort_by(|a, b| b.points.total_cmp(&a.points));
        let score = combined(&reasons);
        let by_score = settings.answer(score);
        // Rules are for callers, not for an app with all its users.
        let (by_rule, broken) = match who {
            "user" => profile.meters.observe(observation, &settings.rules, who, &self.hasher),
            _ => (Answer::Observe, Vec::new()),
        };
        let by_rule = shared.as_ref().map_or(by_rule, |(answer, _)| by_rule.max(*answer));
        reasons.extend(broken.into_iter().chain(shared.map(|(_, why)| why)));
        profile.remember_score(score >= settings.throttle_at);
        let most = if observation.emergency { Answer::Escalate } else { Answer::Terminate };
        // A service has nobody who could authenticate anew.
        let fitting = |answer: Answer| match answer.min(most) {
            Answer::StepUp if observation.user == observation.partner => Answer::Throttle,
            answer @ (Answer::Observe | Answer::Escalate | Answer::Throttle | Answer::StepUp | Answer::Terminate) => {
                answer
            }
        };
        let would = fitting(by_rule.max(by_score));
        let answer = if settings.shadow { fitting(by_rule) } else { would };
        let mut assessment = Assessment { score, answer, would, reasons, rose: false };
        assessment.rose = profile.standing.take(&mut assessment, observation.at.unix_timestamp());
        assessment
    }

    fn profiles(&self) -> MutexGuard<'_, HashMap<u64, Box<Profile>>> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    fn answer(&self, score: f64) -> Answer {
        match score {
            score if score < self.throttle_at => Answer::Observe,
            score if score >= self.terminate_at => Answer::Terminate,
            score if score >= self.step_up_at => Answer::StepUp,
            _ => Answer::Throttle,
        }
    }
}

/// Reasons add up as independent doubts: two of 50 make 75.
fn combined(reasons: &[Why]) -> f64 {
    let doubt = reasons.iter().fold(1.0, |left, why| left * (1.0 - why.points.clamp(0.0, 99.0) / 100.0));
    100.0 * (1.0 - doubt)
}

/// Looks at a few and forgets the oldest of them: enough to bound memory, and cheap.
fn forget_the_longest_unseen(profiles: &mut HashMap<u64, Box<Profile>>) {
    const LOOKED_AT: usize = 64;
    let oldest = profiles.iter().take(LOOKED_AT).min_by_key(|(_, profile)| profile.last_seen()).map(|(key, _)| *key);
    if let Some(oldest) = oldest {
        profiles.remove(&oldest);
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("settings", &**self.settings.load()).finish_non_exhaustive()
    }
}

/// Users, addresses and patients do not print.
impl fmt::Debug for Observation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").field("partner", &self.partner).finish_non_exhaustive()
    }
}

/// Users do not print.
impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("partner", &self.partner).finish_non_exhaustive()
    }
}
