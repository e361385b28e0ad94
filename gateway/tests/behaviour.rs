//! Behaviour analytics on simulated callers whose seeds and parameters nothing was tuned on, and rule by rule.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::assertions_on_constants,
    reason = "tests may stop at the first surprise"
)]

#[path = "behaviour/simulation.rs"]
mod simulation;

use std::net::IpAddr;

use fhirwall::behaviour::{
    Answer, Behaviour, Caller, Gate, Observation, PROFILE_BYTES, Proof, Rule, Rules, Settings, Signal,
};
use simulation::{HELD_OUT, Scenario, area, rate, run};
use time::{Duration, OffsetDateTime};

/// What docs/behaviour.md states: (attack, found on at least this share of days, after at most so many patients or ids).
const BOUNDS: [(Scenario, f64, usize); 6] = [
    (Scenario::MassExport, 1.0, 60),
    (Scenario::CredentialTheft, 1.0, 50),
    // Within what a busy clinician's own days spread: the rest goes unnoticed on the first day.
    (Scenario::InsiderBrowsing, 0.5, 100),
    (Scenario::IdEnumeration, 1.0, 20),
    (Scenario::SlowScraping, 0.8, 144),
    (Scenario::SharedCredential, 1.0, 20),
];

#[test]
fn attacks_are_found_within_their_bounds_and_ordinary_days_left_alone() {
    let days = run(101..104, HELD_OUT);
    let of = |scenario| days.iter().filter(move |day| day.scenario == scenario);
    // Throttled at 40: of ordinary days at most 3 %; ended (85): none but in 1 %.
    let ordinary = || days.iter().filter(|day| !day.scenario.is_attack());
    assert!(rate(ordinary(), 40.0) <= 0.03, "{}", rate(ordinary(), 40.0));
    assert!(rate(ordinary(), 85.0) <= 0.01, "{}", rate(ordinary(), 85.0));
    let page = include_str!("../../docs/behaviour.md");
    for (attack, found, after) in BOUNDS {
        assert!(rate(of(attack), 40.0) >= found, "{attack:?}: {}", rate(of(attack), 40.0));
        assert!(area(&days, attack) >= 0.95, "{attack:?}: {}", area(&days, attack));
        let latest = of(attack).filter_map(|day| day.found_after).max().unwrap();
        assert!(latest <= after, "{attack:?}: {latest}");
        let row = format!("| {attack:?} | {:.0} % | {after} |", 100.0 * found);
        assert!(page.contains(&row), "docs/behaviour.md lacks {row}");
    }
}

/// A caller with forty ordinary working days behind it.
struct Known {
    behaviour: Behaviour,
    now: OffsetDateTime,
}

fn observation<'a>(at: OffsetDateTime, patients: &'a [&'a str]) -> Observation<'a> {
    Observation {
        at,
        partner: "app",
        issuer: "https://idp.example",
        user: "u1",
        token: None,
        address: IpAddr::from([192, 0, 2, 1]),
        certificate: Some("c1"),
        patients,
        part2: false,
        refused: false,
        missing: false,
        bytes: 1000,
        emergency: false,
        expected: None,
    }
}

impl Known {
    fn new(shadow: bool) -> Self {
        let behaviour = Behaviour::new(Settings { shadow, ..Settings::default() });
        let start = OffsetDateTime::from_unix_timestamp(1_767_571_200).unwrap();
        for day in 0..40 {
            for n in 0..32 {
                let patient = format!("p{}", (day * 7 + n) % 50);
                let at = start + Duration::days(day) + Duration::hours(9) + Duration::minutes(n * 15);
                behaviour.observe(&observation(at, &[&patient]));
            }
        }
        Self { behaviour, now: start + Duration::days(40) + Duration::hours(10) }
    }

    fn signals(&self, observation: &Observation<'_>) -> Vec<Signal> {
        self.behaviour.observe(observation).user.reasons.iter().map(|why| why.signal).collect()
    }
}

#[test]
fn every_reason_is_true_of_what_happened() {
    let known = Known::new(false);
    let mut told = 0;
    for n in 1..=200_u32 {
        let patient = format!("x{n}");
        let assessment = known.behaviour.observe(&observation(known.now, &[&patient])).user;
        for why in &assessment.reasons {
            assert!(why.seen > why.usual && (0.0..=99.0).contains(&why.points), "{why:?}");
            if why.signal == Signal::DistinctPatients {
                // The sketch's own error is 6.5 % (one sigma).
                assert!((why.seen - f64::from(n)).abs() <= 0.25 * f64::from(n) + 1.0, "{why:?} at {n}");
                assert!(why.sentence.contains(&format!("about {:.0} patients", why.seen)), "{why:?}");
                told += 1;
            }
        }
    }
    assert!(told > 100);
}

#[test]
fn an_ordinary_hour_has_no_reasons() {
    let known = Known::new(false);
    for n in 0..6 {
        let patient = format!("p{n}");
        let assessment = known.behaviour.observe(&observation(known.now, &[&patient]));
        assert_eq!((assessment.user.reasons.len(), assessment.answer()), (0, Answer::Observe));
    }
}

#[test]
fn a_new_place_a_new_certificate_and_an_odd_hour_are_told_and_alone_stop_nobody() {
    let known = Known::new(false);
    let elsewhere = Observation { address: IpAddr::from([198, 51, 100, 1]), ..observation(known.now, &["p1"]) };
    assert_eq!(known.signals(&elsewhere), [Signal::Network]);
    assert_eq!(known.behaviour.observe(&elsewhere).answer(), Answer::Observe);

    let known = Known::new(false);
    let other = Observation { certificate: Some("c2"), ..observation(known.now, &["p1"]) };
    assert_eq!(known.signals(&other), [Signal::Certificate]);

    let known = Known::new(false);
    assert_eq!(known.signals(&observation(known.now - Duration::hours(8), &["p1"])), [Signal::TimeOfDay]);
    // An hour beside the usual ones is usual.
    let known = Known::new(false);
    assert!(known.signals(&observation(known.now - Duration::hours(2), &["p1"])).is_empty());
}

#[test]
fn being_in_two_places_at_once_is_told() {
    let known = Known::new(false);
    let mut signals = Vec::new();
    for n in 0..10_u8 {
        let address = IpAddr::from([198, 51, 100 + n % 2, 1]);
        let at = known.now + Duration::seconds(30 * i64::from(n));
        signals = known.signals(&Observation { address, ..observation(at, &["p1"]) });
    }
    assert!(signals.contains(&Signal::Concurrency), "{signals:?}");
}

#[test]
fn part_2_volume_and_break_glass_are_told() {
    let known = Known::new(false);
    let mut signals = Vec::new();
    for _ in 0..30 {
        signals = known.signals(&Observation { part2: true, bytes: 20 << 20, ..observation(known.now, &["p1"]) });
    }
    assert!(signals.contains(&Signal::Part2Share) && signals.contains(&Signal::Volume), "{signals:?}");

    let known = Known::new(false);
    for _ in 0..12 {
        signals = known.signals(&Observation { emergency: true, ..observation(known.now, &["p1"]) });
    }
    assert!(signals.contains(&Signal::BreakGlass), "{signals:?}");
}

fn export(behaviour: &Behaviour, now: OffsetDateTime, emergency: bool) -> Vec<Answer> {
    (0..300)
        .map(|n| {
            let patient = format!("x{n}");
            behaviour.observe(&Observation { emergency, ..observation(now, &[&patient]) }).user.answer
        })
        .collect()
}

#[test]
fn answers_rise_with_the_score() {
    let known = Known::new(false);
    let answers = export(&known.behaviour, known.now, false);
    assert_eq!((answers[0], answers[299]), (Answer::Observe, Answer::Terminate));
    assert!(answers.contains(&Answer::Throttle) && answers.contains(&Answer::StepUp));
}

#[test]
fn an_emergency_is_shown_to_people_and_never_stopped() {
    let known = Known::new(false);
    let answers = export(&known.behaviour, known.now, true);
    assert!(answers.iter().all(|answer| *answer <= Answer::Escalate));
    assert!(answers.contains(&Answer::Escalate));
}

#[test]
fn shadow_mode_does_nothing_and_says_what_it_would() {
    let known = Known::new(true);
    assert!(export(&known.behaviour, known.now, false).iter().all(|answer| *answer == Answer::Observe));
    assert_eq!(known.behaviour.observe(&observation(known.now, &["y"])).user.would, Answer::Terminate);
}

#[test]
fn an_app_is_never_stopped_for_one_of_its_users() {
    let known = Known::new(false);
    export(&known.behaviour, known.now, false);
    let other = Observation { user: "u2", ..observation(known.now, &["p1"]) };
    let assessments = known.behaviour.observe(&other);
    assert_eq!(assessments.user.answer, Answer::Observe);
    assert!(assessments.answer() <= Answer::Escalate);
}

#[test]
fn memory_is_bounded_whoever_comes() {
    let behaviour = Behaviour::new(Settings { most_profiles: 100, ..Settings::default() });
    let now = OffsetDateTime::from_unix_timestamp(1_767_571_200).unwrap();
    for n in 0..1000 {
        behaviour.observe(&Observation { user: &format!("u{n}"), ..observation(now, &["p"]) });
    }
    assert!(behaviour.len() <= 100);
    assert!(PROFILE_BYTES <= 2048, "{PROFILE_BYTES}");
}

const CALLER: Caller<'static> = Caller { partner: "app", issuer: "https://idp.example", user: "u1" };
const NO_PROOF: Proof = Proof { at: None, suffices: false };

fn ruled(rule: Rule) -> Behaviour {
    let rules = Rules { mass_access: Some(rule), denied_requests: Some(rule), ..Rules::default() };
    Behaviour::new(Settings { rules, ..Settings::default() })
}

fn rule(answer: Answer) -> Rule {
    Rule { threshold: 3, window: std::time::Duration::from_secs(3600), answer }
}

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_767_571_200).unwrap()
}

#[test]
fn a_rule_holds_from_one_above_its_number_and_its_window_ends() {
    let behaviour = ruled(rule(Answer::Throttle));
    let gate = |now| behaviour.gate(CALLER, now, NO_PROOF, false);
    for (n, patient) in ["a", "b", "c", "c", "c"].into_iter().enumerate() {
        let answer = behaviour.observe(&observation(start(), &[patient])).user.answer;
        assert_eq!(answer, Answer::Observe, "patient {n}");
    }
    assert_eq!(gate(start()), Gate::Open);
    assert_eq!(behaviour.observe(&observation(start(), &["d"])).user.answer, Answer::Throttle);
    assert!(matches!(gate(start()), Gate::Watched(_)), "the first request goes on");
    assert!(matches!(gate(start()), Gate::SlowDown(wait, _) if wait <= std::time::Duration::from_secs(2)));
    assert!(matches!(gate(start() + Duration::seconds(2)), Gate::Watched(_)), "slowed down, not stopped");
    // The answer ends five minutes after it was last called for, and the window after an hour.
    assert_eq!(gate(start() + Duration::seconds(301)), Gate::Open);
    let later = start() + Duration::seconds(3600);
    assert_eq!(behaviour.observe(&observation(later, &["e"])).user.answer, Answer::Observe);
}

#[test]
fn a_step_up_is_met_by_a_later_authentication_of_the_right_kind_alone() {
    let behaviour = ruled(rule(Answer::StepUp));
    for patient in ["a", "b", "c", "d"] {
        behaviour.observe(&observation(start(), &[patient]));
    }
    let now = start() + Duration::seconds(60);
    let gate = |at: Option<i64>, suffices| {
        let at = at.map(|seconds| start() + Duration::seconds(seconds));
        behaviour.gate(CALLER, now, Proof { at, suffices }, false)
    };
    for (at, suffices) in [(None, true), (Some(-1), true), (Some(30), false), (Some(61), true)] {
        assert!(matches!(gate(at, suffices), Gate::StepUp(_)), "{at:?} {suffices}");
    }
    assert!(matches!(gate(Some(30), true), Gate::Watched(_)));
    assert_eq!(gate(None, false), Gate::Open, "it is met");
    assert_eq!(
        behaviour.observe(&observation(now, &["e"])).user.answer,
        Answer::Observe,
        "and not asked again at once"
    );
}

#[test]
fn a_service_has_nobody_to_authenticate_anew_and_is_slowed_down() {
    let behaviour = ruled(rule(Answer::StepUp));
    let mut answer = Answer::Observe;
    for patient in ["a", "b", "c", "d"] {
        let patients = [patient];
        let seen = Observation { user: "app", ..observation(start(), &patients) };
        answer = behaviour.observe(&seen).user.answer;
    }
    assert_eq!(answer, Answer::Throttle);
}

#[test]
fn whatever_stands_against_a_caller_an_emergency_passes_and_policy_knows() {
    for answer in [Answer::Throttle, Answer::StepUp, Answer::Terminate] {
        let behaviour = ruled(rule(answer));
        for patient in ["a", "b", "c", "d"] {
            behaviour.observe(&observation(start(), &[patient]));
        }
        for _ in 0..50 {
            let gate = behaviour.gate(CALLER, start(), NO_PROOF, true);
            assert!(matches!(gate, Gate::Watched(_)), "{answer:?}: {gate:?}");
        }
        let neighbour = Caller { user: "u2", ..CALLER };
        assert_eq!(behaviour.gate(neighbour, start(), NO_PROOF, false), Gate::Open);
    }
}

#[test]
fn who_was_looked_at_is_not_stopped_again_by_the_same_numbers() {
    let behaviour = ruled(rule(Answer::Terminate));
    for patient in ["a", "b", "c", "d"] {
        behaviour.observe(&observation(start(), &[patient]));
    }
    assert!(matches!(behaviour.gate(CALLER, start(), NO_PROOF, false), Gate::Closed(_)));
    behaviour.excuse("https://idp.example", "u1", start() + Duration::days(1));
    assert_eq!(behaviour.gate(CALLER, start(), NO_PROOF, false), Gate::Open);
    assert_eq!(behaviour.observe(&observation(start(), &["e"])).user.answer, Answer::Observe);
    let tomorrow = start() + Duration::days(1);
    for patient in ["a", "b", "c", "d"] {
        behaviour.observe(&observation(tomorrow, &[patient]));
    }
    assert!(matches!(behaviour.gate(CALLER, tomorrow, NO_PROOF, false), Gate::Closed(_)));
}

#[test]
fn one_token_from_many_networks_ends_the_token_and_from_many_addresses_of_one_does_not() {
    let rules = Rules { token_sharing: Some(rule(Answer::Terminate)), ..Rules::default() };
    let behaviour = Behaviour::new(Settings { rules, ..Settings::default() });
    let from = |token, address: [u8; 4]| {
        let seen = Observation { token: Some(token), address: IpAddr::from(address), ..observation(start(), &["p"]) };
        behaviour.observe(&seen)
    };
    for host in 0..50 {
        assert_eq!(from("t1", [192, 0, 2, host]).token, Answer::Observe);
    }
    assert_eq!(from("t1", [198, 51, 100, 1]).token, Answer::Observe);
    let third = from("t1", [203, 0, 113, 1]);
    assert_eq!((third.token, third.user.answer), (Answer::Terminate, Answer::Escalate));
    assert!(third.user.names(Signal::TokenSharing));
    assert_eq!(from("t2", [203, 0, 113, 1]).token, Answer::Observe);
    for third in [1, 2, 3, 4_u8] {
        let address = IpAddr::from([203, 0, third, 1]);
        let service = Observation { token: Some("t3"), user: "app", address, ..observation(start(), &["p"]) };
        assert_eq!(behaviour.observe(&service).token, Answer::Observe, "a service with its certificate");
    }
}
