//! One caller's profile: this hour, this day, and what is usual for it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use time::OffsetDateTime;

use super::baseline::Baseline;
use super::rules::Meters;
use super::sketch::Sketch;
use super::standing::Standing;
use super::{Observation, Prior, Signal, Why};

/// The size of a profile, without the two sketches of 264 bytes that rules make once it discloses.
pub const PROFILE_BYTES: usize = size_of::<Profile>();
const _: () = assert!(PROFILE_BYTES + 2 * size_of::<Sketch>() <= 2048, "a profile is at most 2 KiB");

/// What is kept of one user or app. Fixed in size, whatever it does.
pub(super) struct Profile {
    /// Whose it is, whatever the app; 0 for an app's own.
    pub(super) user: u64,
    pub(super) meters: Meters,
    pub(super) standing: Standing,
    last_seen: i64,
    hour: Window,
    day: Window,
    patients_hourly: Baseline,
    patients_daily: Baseline,
    mib_hourly: Baseline,
    refusals_hourly: Baseline,
    missing_hourly: Baseline,
    part2_share: Baseline,
    emergencies_daily: Baseline,
    /// Observations by hour of the day (UTC), forgetting.
    by_hour: [f32; 24],
    observed: f32,
    networks: [Network; 8],
    certificate: Option<u64>,
    /// Changes of network closer together than anyone travels, in this hour.
    jumps: u32,
}

/// Counts of an hour or a day.
struct Window {
    number: i64,
    patients: Sketch,
    answers: u32,
    part2: u32,
    refused: u32,
    missing: u32,
    bytes: u64,
    emergencies: u32,
    /// It was unusual: it is learnt from with caution.
    suspect: bool,
    new_network: bool,
    new_certificate: bool,
    odd_hour: bool,
}

#[derive(Clone, Copy, Default)]
struct Network {
    id: u64,
    last_seen: i64,
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Nobody changes networks back and forth within this, save who is in two places.
const TRAVEL: i64 = 120;

impl Window {
    const fn new(number: i64) -> Self {
        Self {
            number,
            patients: Sketch::new(),
            answers: 0,
            part2: 0,
            refused: 0,
            missing: 0,
            bytes: 0,
            emergencies: 0,
            suspect: false,
            new_network: false,
            new_certificate: false,
            odd_hour: false,
        }
    }

    fn add(&mut self, observation: &Observation<'_>, hasher: &RandomState) {
        for patient in observation.patients {
            self.patients.add(hasher.hash_one(patient));
        }
        self.answers = self.answers.saturating_add(1);
        self.part2 = self.part2.saturating_add(u32::from(observation.part2));
        self.refused = self.refused.saturating_add(u32::from(observation.refused));
        self.missing = self.missing.saturating_add(u32::from(observation.missing));
        self.bytes = self.bytes.saturating_add(observation.bytes);
        self.emergencies = self.emergencies.saturating_add(u32::from(observation.emergency));
    }

    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    fn mib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }

    fn part2_percent(&self) -> f64 {
        100.0 * f64::from(self.part2) / f64::from(self.answers.max(1))
    }
}

impl Profile {
    pub(super) fn new(now: OffsetDateTime, user: u64) -> Self {
        let seconds = now.unix_timestamp();
        Self {
            user,
            meters: Meters::default(),
            standing: Standing::default(),
            last_seen: seconds,
            hour: Window::new(seconds.div_euclid(HOUR)),
            day: Window::new(seconds.div_euclid(DAY)),
            patients_hourly: Baseline::default(),
            patients_daily: Baseline::default(),
            mib_hourly: Baseline::default(),
            refusals_hourly: Baseline::default(),
            missing_hourly: Baseline::default(),
            part2_share: Baseline::default(),
            emergencies_daily: Baseline::default(),
            by_hour: [0.0; 24],
            observed: 0.0,
            networks: [Network::default(); 8],
            certificate: None,
            jumps: 0,
        }
    }

    pub(super) fn last_seen(&self) -> i64 {
        self.last_seen
    }

    /// What is unusual is learnt from with caution.
    pub(super) fn remember_score(&mut self, unusual: bool) {
        self.hour.suspect |= unusual;
        self.day.suspect |= unusual;
    }

    /// Takes in an exchange; returns in what the caller now differs.
    pub(super) fn observe(
        &mut self,
        seen: &Observation<'_>,
        prior: Prior,
        who: &str,
        hasher: &RandomState,
    ) -> Vec<Why> {
        let now = seen.at.unix_timestamp();
        self.roll(now, prior);
        self.hour.add(seen, hasher);
        self.day.add(seen, hasher);
        // An app has many users: their networks and hours are its own, and say nothing.
        if who == "user" {
            self.place(seen, now, hasher);
        }
        self.last_seen = now;
        self.reasons(prior, who)
    }

    fn roll(&mut self, now: i64, prior: Prior) {
        let (hour, day) = (now.div_euclid(HOUR), now.div_euclid(DAY));
        if hour != self.hour.number {
            let (last, unusual) = (&self.hour, self.hour.suspect);
            self.patients_hourly.learn(last.patients.estimate(), prior.patients_per_hour, unusual);
            self.mib_hourly.learn(last.mib(), prior.mib_per_hour, unusual);
            self.refusals_hourly.learn(f64::from(last.refused), REFUSALS_PRIOR, unusual);
            self.missing_hourly.learn(f64::from(last.missing), MISSING_PRIOR, unusual);
            if last.answers >= ENOUGH_ANSWERS {
                self.part2_share.learn(last.part2_percent(), PART2_PRIOR, unusual);
            }
            self.hour = Window::new(hour);
            self.jumps = 0;
        }
        if day != self.day.number {
            let (last, unusual) = (&self.day, self.day.suspect);
            self.patients_daily.learn(last.patients.estimate(), prior.patients_per_day, unusual);
            self.emergencies_daily.learn(f64::from(last.emergencies), EMERGENCIES_PRIOR, unusual);
            self.day = Window::new(day);
        }
    }

    fn place(&mut self, seen: &Observation<'_>, now: i64, hasher: &RandomState) {
        let known_well = self.observed >= KNOWN_AFTER;
        let of_day = usize::try_from(now.rem_euclid(DAY).div_euclid(HOUR)).unwrap_or(0);
        // A shift begins and ends an hour earlier or later without being odd.
        let near: f32 = [23, 0, 1].iter().filter_map(|d| self.by_hour.get((of_day + d) % 24)).sum();
        self.hour.odd_hour |= known_well && near / self.observed < 0.005;
        if let Some(count) = self.by_hour.get_mut(of_day) {
            *count += 1.0;
        }
        self.observed += 1.0;
        if self.observed > FORGET_AT {
            self.observed /= 2.0;
            for count in &mut self.by_hour {
                *count /= 2.0;
            }
        }
        let certificate = seen.certificate.map(|certificate| hasher.hash_one(certificate));
        self.hour.new_certificate |= known_well && certificate.is_some() && certificate != self.certificate;
        self.certificate = certificate.or(self.certificate);
        self.network(hasher.hash_one(network(seen.address)), now, known_well);
    }

    fn network(&mut self, id: u64, now: i64, known_well: bool) {
        let last = self.networks.iter().max_by_key(|network| network.last_seen).copied().unwrap_or_default();
        if last.id != id && last.last_seen > 0 && now - last.last_seen < TRAVEL {
            self.jumps = self.jumps.saturating_add(1);
        }
        if let Some(known) = self.networks.iter_mut().find(|network| network.id == id && network.last_seen > 0) {
            known.last_seen = now;
            return;
        }
        self.hour.new_network |= known_well;
        if let Some(oldest) = self.networks.iter_mut().min_by_key(|network| network.last_seen) {
            *oldest = Network { id, last_seen: now };
        }
    }

    fn reasons(&self, prior: Prior, who: &str) -> Vec<Why> {
        let mut reasons = Vec::new();
        let mut above = |signal, baseline: &Baseline, seen: f64, prior: f64, from: f64, say: &dyn Fn(f64) -> String| {
            let excess = baseline.excess(seen, prior);
            if excess > from {
                let usual = baseline.usual(prior);
                // At the threshold a hint, six spreads on a near certainty.
                let points = (15.0 + 13.0 * (excess - from)).min(95.0);
                reasons.push(Why { signal, seen, usual, points, sentence: say(usual) });
            }
        };
        let (hour, day) = (&self.hour, &self.day);
        let patients = hour.patients.estimate();
        above(Signal::DistinctPatients, &self.patients_hourly, patients, prior.patients_per_hour, 4.0, &|usual| {
            format!("this {who} saw records of about {patients:.0} patients this hour; usual are {usual:.0}")
        });
        let today = day.patients.estimate();
        above(Signal::DistinctPatientsOfTheDay, &self.patients_daily, today, prior.patients_per_day, 4.0, &|usual| {
            format!("this {who} saw records of about {today:.0} patients today; usual are {usual:.0}")
        });
        let mib = hour.mib();
        above(Signal::Volume, &self.mib_hourly, mib, prior.mib_per_hour, 5.0, &|usual| {
            format!("this {who} received {mib:.1} MiB this hour; usual are {usual:.1}")
        });
        // Who asks much is refused and misses something now and then.
        let notable = |count: u32| count.saturating_mul(NOTABLE_SHARE) >= hour.answers;
        let refused = f64::from(hour.refused);
        let from = if notable(hour.refused) { 5.0 } else { f64::INFINITY };
        above(Signal::Refusals, &self.refusals_hourly, refused, REFUSALS_PRIOR, from, &|usual| {
            format!("this {who} was refused {refused:.0} times this hour; usual are {usual:.1}")
        });
        let missing = f64::from(hour.missing);
        let from = if notable(hour.missing) { 5.0 } else { f64::INFINITY };
        above(Signal::Enumeration, &self.missing_hourly, missing, MISSING_PRIOR, from, &|usual| {
            format!("this {who} named {missing:.0} ids this hour that it cannot see; usual are {usual:.1}")
        });
        if hour.answers >= ENOUGH_ANSWERS {
            let percent = hour.part2_percent();
            above(Signal::Part2Share, &self.part2_share, percent, PART2_PRIOR, 4.0, &|usual| {
                format!("{percent:.0} % of this {who}'s answers this hour held Part 2 records; usual are {usual:.0} %")
            });
        }
        let glass = f64::from(day.emergencies);
        above(Signal::BreakGlass, &self.emergencies_daily, glass, EMERGENCIES_PRIOR, 4.0, &|usual| {
            format!("this {who} claimed {glass:.0} emergencies today; usual are {usual:.1}")
        });
        self.marks(&mut reasons, who);
        reasons
    }

    /// What is noted rather than counted. Each alone is no ground to stop anyone.
    fn marks(&self, reasons: &mut Vec<Why>, who: &str) {
        let mut mark = |holds: bool, signal, seen, points, sentence: String| {
            if holds {
                reasons.push(Why { signal, seen, usual: 0.0, points, sentence });
            }
        };
        let (hour, jumps) = (&self.hour, f64::from(self.jumps));
        mark(hour.odd_hour, Signal::TimeOfDay, 1.0, 12.0, format!("this {who} is hardly ever active at this hour"));
        mark(hour.new_network, Signal::Network, 1.0, 15.0, format!("this {who} came from a network not seen before"));
        mark(
            hour.new_certificate,
            Signal::Certificate,
            1.0,
            15.0,
            format!("this {who} came with a certificate not seen before"),
        );
        mark(
            self.jumps >= 4,
            Signal::Concurrency,
            jumps,
            (10.0 * jumps).min(60.0),
            format!("this {who} changed networks {jumps:.0} times this hour within {TRAVEL} seconds each"),
        );
    }
}

/// A share of fewer answers says nothing.
const ENOUGH_ANSWERS: u32 = 20;
/// One in so many answers.
const NOTABLE_SHARE: u32 = 20;
const REFUSALS_PRIOR: f64 = 2.0;
const MISSING_PRIOR: f64 = 1.0;
const PART2_PRIOR: f64 = 10.0;
const EMERGENCIES_PRIOR: f64 = 0.5;
/// A caller whose places and hours are known.
const KNOWN_AFTER: f32 = 200.0;
const FORGET_AT: f32 = 20_000.0;

/// The network an address is in: /24 and /48.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 80 << 80).into()),
    }
}
