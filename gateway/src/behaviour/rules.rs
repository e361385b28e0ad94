//! Rules with a stated number: so many patients, refusals, Part 2 patients, emergencies or networks within a time.
//!
//! Unlike scores they need no history, and are the same for everybody. Windows begin with their first event and start
//! anew when they are over: over any stretch as long as the window, at most twice the threshold goes unanswered.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::profile::network;
use super::sketch::Sketch;
use super::{Answer, Observation, Signal, Why};

/// A number of events within a time, and the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub threshold: u32,
    pub window: Duration,
    pub answer: Answer,
}

/// The rules that hold; `None` for one that does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Different patients.
    pub mass_access: Option<Rule>,
    pub denied_requests: Option<Rule>,
    /// Different patients in answers with Part 2 records.
    pub part2_access: Option<Rule>,
    /// Networks that one token came from; eight at most are told apart.
    pub token_sharing: Option<Rule>,
    pub emergency_access: Option<Rule>,
}

/// What one caller did within each rule's window.
#[derive(Default)]
pub(super) struct Meters {
    patients: Set,
    part2: Set,
    denied: Count,
    emergencies: Count,
}

#[derive(Default)]
struct Set {
    since: i64,
    sketch: Option<Box<Sketch>>,
}

#[derive(Default)]
struct Count {
    since: i64,
    count: u32,
}

impl Meters {
    /// Takes in an exchange; returns the rules that are now passed, and their gravest answer.
    pub(super) fn observe(
        &mut self,
        seen: &Observation<'_>,
        rules: &Rules,
        who: &str,
        hasher: &RandomState,
    ) -> (Answer, Vec<Why>) {
        let now = seen.at.unix_timestamp();
        let mut found = Found::default();
        if let Some(rule) = rules.mass_access {
            // A service whose file says how many patients an hour it reads is held to that.
            let hourly = rule.window <= Duration::from_secs(3600);
            let stated = seen.expected.filter(|_| hourly).map_or(0.0, |expected| expected.patients_per_hour);
            let most = f64::from(rule.threshold).max(stated);
            let patients = self.patients.add(now, rule, seen.patients, hasher);
            found.above(Signal::MassAccess, rule, patients, most, || {
                format!("this {who} saw records of about {patients:.0} patients within {}", span(rule.window))
            });
        }
        if let Some(rule) = rules.part2_access {
            let of_part2: &[&str] = if seen.part2 { seen.patients } else { &[] };
            let patients = self.part2.add(now, rule, of_part2, hasher);
            found.above(Signal::Part2Access, rule, patients, f64::from(rule.threshold), || {
                let span = span(rule.window);
                format!("this {who} saw answers with Part 2 records of about {patients:.0} patients within {span}")
            });
        }
        if let Some(rule) = rules.denied_requests {
            let denied = self.denied.add(now, rule, seen.refused);
            found.above(Signal::DeniedRequests, rule, denied, f64::from(rule.threshold), || {
                format!("this {who} was refused {denied:.0} times within {}", span(rule.window))
            });
        }
        if let Some(rule) = rules.emergency_access {
            let claimed = self.emergencies.add(now, rule, seen.emergency && !seen.refused);
            found.above(Signal::EmergencyAccess, rule, claimed, f64::from(rule.threshold), || {
                format!("this {who} used emergency access {claimed:.0} times within {}", span(rule.window))
            });
        }
        (found.answer, found.reasons)
    }
}

struct Found {
    answer: Answer,
    reasons: Vec<Why>,
}

impl Default for Found {
    fn default() -> Self {
        Self { answer: Answer::Observe, reasons: Vec::new() }
    }
}

impl Found {
    fn above(&mut self, signal: Signal, rule: Rule, seen: f64, most: f64, say: impl FnOnce() -> String) {
        if seen > most {
            self.answer = self.answer.max(rule.answer);
            let sentence = format!("{}; {most:.0} are the bound", say());
            self.reasons.push(Why { signal, seen, usual: most, points: 0.0, sentence });
        }
    }
}

impl Set {
    fn add(&mut self, now: i64, rule: Rule, patients: &[&str], hasher: &RandomState) -> f64 {
        if is_over(now, self.since, rule) {
            self.since = now;
            self.sketch = None;
        }
        if patients.is_empty() && self.sketch.is_none() {
            return 0.0;
        }
        let sketch = self.sketch.get_or_insert_with(|| Box::new(Sketch::new()));
        for patient in patients {
            sketch.add(hasher.hash_one(patient));
        }
        sketch.estimate().round()
    }
}

impl Count {
    fn add(&mut self, now: i64, rule: Rule, one: bool) -> f64 {
        if is_over(now, self.since, rule) {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(u32::from(one));
        f64::from(self.count)
    }
}

fn is_over(now: i64, since: i64, rule: Rule) -> bool {
    now.saturating_sub(since) >= i64::try_from(rule.window.as_secs()).unwrap_or(i64::MAX)
}

fn span(window: Duration) -> String {
    match window.as_secs() {
        seconds if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        seconds if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// The networks that each token came from.
#[derive(Default)]
pub(super) struct Tokens(HashMap<u64, Places>);

struct Places {
    since: i64,
    networks: Vec<u64>,
}

impl Tokens {
    const MOST: usize = 1 << 16;
    const MOST_NETWORKS: usize = 8;

    /// Takes in where a token came from; returns why, when that is too many places.
    pub(super) fn observe(&mut self, seen: &Observation<'_>, rule: Rule, hasher: &RandomState) -> Option<Why> {
        let now = seen.at.unix_timestamp();
        let token = hasher.hash_one(seen.token?);
        if self.0.len() >= Self::MOST && !self.0.contains_key(&token) {
            self.0.retain(|_, places| !is_over(now, places.since, rule));
            if self.0.len() >= Self::MOST {
                // So many tokens at once: the newest is not followed, which its user's own profile still is.
                return None;
            }
        }
        let places = self.0.entry(token).or_insert_with(|| Places { since: now, networks: Vec::new() });
        if is_over(now, places.since, rule) {
            *places = Places { since: now, networks: Vec::new() };
        }
        let network = hasher.hash_one(network(seen.address));
        if !places.networks.contains(&network) && places.networks.len() < Self::MOST_NETWORKS {
            places.networks.push(network);
        }
        let count = places.networks.len();
        let most = (rule.threshold as usize).min(Self::MOST_NETWORKS);
        (count >= most).then(|| Why {
            signal: Signal::TokenSharing,
            seen: f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
            usual: 1.0,
            points: 0.0,
            sentence: format!("one token came from {count} networks within {}", span(rule.window)),
        })
    }
}
