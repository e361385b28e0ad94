//! Callers as they are, and attacks on them: every value follows from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use fhirwall::behaviour::{Answer, Assessment, Behaviour, Observation, Prior, Settings};
use time::{Duration, OffsetDateTime};

/// A small generator whose every value follows from its seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Roughly Poisson: so many on average.
    fn about(&mut self, mean: u64) -> u64 {
        (0..mean * 4).filter(|_| self.chance(25)).count() as u64
    }
}

/// What a day of a caller was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    ClinicDay,
    NightShift,
    Onboarding,
    ResearchExport,
    MassExport,
    CredentialTheft,
    InsiderBrowsing,
    IdEnumeration,
    SlowScraping,
    SharedCredential,
}

impl Scenario {
    pub(crate) const ATTACKS: [Self; 6] = [
        Self::MassExport,
        Self::CredentialTheft,
        Self::InsiderBrowsing,
        Self::IdEnumeration,
        Self::SlowScraping,
        Self::SharedCredential,
    ];

    pub(crate) fn is_attack(self) -> bool {
        Self::ATTACKS.contains(&self)
    }
}

/// One caller's day, as judged.
#[derive(Clone, Debug)]
pub(crate) struct Day {
    pub(crate) scenario: Scenario,
    /// The highest score of the day.
    pub(crate) score: f64,
    /// How many patients the attack had seen when it was first answered, if it ever was.
    pub(crate) found_after: Option<usize>,
    pub(crate) worst: Option<Assessment>,
}

/// Ranges that the callers of a population are drawn from.
#[derive(Clone, Copy)]
pub(crate) struct Parameters {
    pub(crate) busiest: u64,
    pub(crate) missing_percent: u64,
    pub(crate) part2_percent: u64,
}

struct Caller {
    name: String,
    partner: String,
    address: u32,
    start: u64,
    hours: u64,
    per_hour: u64,
    missing: u64,
    part2: u64,
    kib: u64,
    panel: u64,
}

const TRAINING_DAYS: i64 = 15;
/// 2026-01-05 00:00 UTC.
const START: i64 = 1_767_571_200;

pub(crate) struct World {
    pub(crate) behaviour: Behaviour,
    random: Random,
    callers: Vec<Caller>,
}

/// One request to be made.
struct Act {
    second: u64,
    caller: usize,
    address: u32,
    certificate: &'static str,
    patient: u64,
    missing: bool,
}

impl World {
    /// A population after three weeks: thirty clinicians, ten on nights, two research services.
    pub(crate) fn trained(seed: u64, parameters: Parameters) -> Self {
        let mut random = Random::new(seed);
        let mut callers = Vec::new();
        for n in 0..42_u64 {
            let night = (30..40).contains(&n);
            let research = n >= 40;
            callers.push(Caller {
                name: if research { format!("research-{n}") } else { format!("user-{n}") },
                partner: if research { format!("research-{n}") } else { "clinic-app".to_owned() },
                address: 0x0a00_0000 + (random.below(200) as u32) * 256,
                start: if night { 19 } else { 7 + random.below(3) },
                hours: if research { 1 } else { 8 },
                per_hour: if research { 300 + random.below(200) } else { 2 + random.below(parameters.busiest) },
                missing: random.below(parameters.missing_percent + 1),
                part2: random.below(parameters.part2_percent + 1),
                kib: 10 + random.below(60),
                panel: 100 + random.below(900),
            });
        }
        let settings = Settings { shadow: true, ..Settings::default() };
        let mut world = Self { behaviour: Behaviour::new(settings), random, callers };
        for day in 0..TRAINING_DAYS {
            world.ordinary_day(day);
        }
        world
    }

    /// The ordinary days after training: five for each caller, and five newcomers' first five.
    pub(crate) fn benign_days(&mut self) -> Vec<Day> {
        for n in 0..5 {
            let per_hour = 3 + self.random.below(6);
            let name = format!("newcomer-{n}");
            let template = &self.callers[0];
            let caller = Caller { name, per_hour, partner: template.partner.clone(), panel: 500, ..*template };
            self.callers.push(caller);
        }
        let mut days = Vec::new();
        for day in 0..5 {
            days.extend(self.ordinary_day(TRAINING_DAYS + day));
        }
        days
    }

    /// Each attack on three clinicians of its own.
    pub(crate) fn attack_days(&mut self) -> Vec<Day> {
        let (mut acts, mut scenarios) = (Vec::new(), BTreeMap::new());
        for (n, attack) in Scenario::ATTACKS.into_iter().enumerate() {
            for victim in n * 3..n * 3 + 3 {
                scenarios.insert(victim, attack);
                self.attack(victim, attack, &mut acts);
            }
        }
        self.live(TRAINING_DAYS + 5, acts, &scenarios)
    }

    /// A day of everybody, in the order of its hours.
    fn ordinary_day(&mut self, day: i64) -> Vec<Day> {
        let (mut acts, mut scenarios) = (Vec::new(), BTreeMap::new());
        for caller in 0..self.callers.len() {
            let scenario = match caller {
                0..30 => Scenario::ClinicDay,
                30..40 => Scenario::NightShift,
                40..42 => Scenario::ResearchExport,
                _ => Scenario::Onboarding,
            };
            scenarios.insert(caller, scenario);
            self.ordinary(caller, &mut acts);
        }
        self.live(day, acts, &scenarios)
    }

    fn ordinary(&mut self, caller: usize, acts: &mut Vec<Act>) {
        let Caller { start, hours, address, per_hour, panel, missing: misses, .. } = self.callers[caller];
        for hour in 0..hours {
            let visits = self.random.about(per_hour);
            for visit in 0..visits {
                let second = 3600 * (start + hour) + visit * 3600 / visits.max(1);
                let patient = self.random.below(panel);
                let missing = self.random.below(100) < misses;
                for step in 0..3 {
                    let second = (second + step * 7).min(3600 * (start + hour) + 3599);
                    acts.push(Act { second, caller, address, certificate: "own", patient, missing });
                }
            }
        }
    }

    fn attack(&mut self, caller: usize, scenario: Scenario, acts: &mut Vec<Act>) {
        let Caller { start, address: own, .. } = self.callers[caller];
        let elsewhere = 0xc633_6400_u32;
        // (from hour, hours, patients an hour, address, certificate, ids that are not there)
        let (from, hours, per_hour, address, certificate, missing) = match scenario {
            Scenario::MassExport => (start + 1, 1, 300, own, "own", false),
            Scenario::CredentialTheft => (2, 2, 40, elsewhere, "stolen", false),
            Scenario::InsiderBrowsing => (start + 1, 4, 25, own, "own", false),
            Scenario::IdEnumeration => (start + 1, 1, 80, own, "own", true),
            Scenario::SlowScraping => (0, 24, 6, own, "own", false),
            Scenario::ClinicDay
            | Scenario::NightShift
            | Scenario::Onboarding
            | Scenario::ResearchExport
            | Scenario::SharedCredential => (start + 1, 2, 10, own, "own", false),
        };
        for hour in 0..hours {
            for n in 0..per_hour {
                let second = 3600 * (from + hour) + n * 3600 / per_hour;
                let patient = 1_000_000 + self.random.below(10_000_000);
                acts.push(Act { second, caller, address, certificate, patient, missing });
                if scenario == Scenario::SharedCredential {
                    // The other one of the two, a minute later and from elsewhere.
                    let patient = 1_000_000 + self.random.below(10_000_000);
                    acts.push(Act { second: second + 60, caller, address: elsewhere, certificate, patient, missing });
                }
            }
        }
    }

    fn live(&mut self, day: i64, mut acts: Vec<Act>, scenarios: &BTreeMap<usize, Scenario>) -> Vec<Day> {
        acts.sort_by_key(|act| act.second);
        let mut days: BTreeMap<usize, (Day, BTreeSet<u64>)> = BTreeMap::new();
        for act in acts {
            let scenario = scenarios[&act.caller];
            let new = || (Day { scenario, score: 0.0, found_after: None, worst: None }, BTreeSet::new());
            let assessment = self.act(day, &act);
            let (record, seen) = days.entry(act.caller).or_insert_with(new);
            seen.insert(act.patient);
            if assessment.would > Answer::Observe && record.found_after.is_none() {
                record.found_after = Some(seen.len());
            }
            if assessment.score > record.score {
                record.score = assessment.score;
                record.worst = Some(assessment);
            }
        }
        days.into_values().map(|(day, _)| day).collect()
    }

    fn act(&mut self, day: i64, act: &Act) -> Assessment {
        let caller = &self.callers[act.caller];
        let patient = format!("{}-{}", caller.name, act.patient);
        let patients: &[&str] = if act.missing { &[] } else { &[&patient] };
        let part2 = self.random.below(100) < caller.part2;
        // A research service's partner file says what it exports.
        let expected = (caller.name == caller.partner).then_some(Prior {
            patients_per_hour: 400.0,
            patients_per_day: 400.0,
            mib_per_hour: 100.0,
        });
        let observation = Observation {
            at: moment(day, act.second),
            partner: &caller.partner,
            issuer: "https://idp.example",
            user: &caller.name,
            token: None,
            address: IpAddr::V4(Ipv4Addr::from(act.address)),
            certificate: Some(act.certificate),
            patients,
            part2,
            refused: act.missing,
            missing: act.missing,
            bytes: caller.kib * 1024,
            emergency: false,
            expected,
        };
        self.behaviour.observe(&observation).user
    }
}

fn moment(day: i64, second: u64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(START + day * 86_400 + second as i64)
}

/// All days of these seeds.
pub(crate) fn run(seeds: impl Iterator<Item = u64>, parameters: Parameters) -> Vec<Day> {
    let mut days = Vec::new();
    for seed in seeds {
        let mut world = World::trained(seed, parameters);
        days.extend(world.benign_days());
        days.extend(world.attack_days());
    }
    days
}

pub(crate) const HELD_OUT: Parameters = Parameters { busiest: 9, missing_percent: 3, part2_percent: 30 };

/// The share of these days that reach the threshold.
pub(crate) fn rate<'a>(days: impl Iterator<Item = &'a Day>, threshold: f64) -> f64 {
    let (mut all, mut over) = (0.0_f64, 0.0);
    for day in days {
        all += 1.0;
        if day.score >= threshold {
            over += 1.0;
        }
    }
    over / all.max(1.0)
}

/// The area under the ROC: how often an attack's day scores above an ordinary one.
pub(crate) fn area(days: &[Day], attack: Scenario) -> f64 {
    let (mut won, mut all) = (0.0_f64, 0.0_f64);
    for a in days.iter().filter(|day| day.scenario == attack) {
        for b in days.iter().filter(|day| !day.scenario.is_attack()) {
            all += 1.0;
            won += if a.score > b.score {
                1.0
            } else if a.score == b.score {
                0.5
            } else {
                0.0
            };
        }
    }
    won / all.max(1.0)
}
