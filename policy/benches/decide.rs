//! What a decision costs with 1,000 partners loaded: the request, and each kind of record in its answer, asked for the first
//! time and remembered. Prints every goal beside what was measured; the median of many rounds of one run.
//!
//! `cargo bench -p fhirwall-policy --bench decide`

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement may stop at the first surprise, and prints what it finds"
)]

#[path = "decide/asked.rs"]
mod asked;

use std::hint::black_box;
use std::time::Instant;

use asked::{Search, loaded, records, subject};
use fhir_profiles::engine::ResourceFacts;
use fhirwall_policy::consent::ConsentOutcome;
use fhirwall_policy::permit::{DisclosureFacts, Memo, Permit};
use fhirwall_policy::subject::Subject;

const PARTNERS: usize = 1_000;
const ROUNDS: usize = 301;

fn main() {
    let began = Instant::now();
    let set = loaded(PARTNERS);
    println!("loaded in {} ms", began.elapsed().as_millis());
    let mut fresh = 0_u64;
    // A caller nobody asked as before: nothing is remembered of it.
    let mut stranger = || {
        fresh += 1;
        subject(&format!("X{fresh}"))
    };
    let known = subject("US");
    let search = Search::new();
    let ask = |subject: &Subject| search.by(subject, &set);

    println!("{PARTNERS} partners, {} policies", set.policies().count());
    let strangers: Vec<Subject> = (0..ROUNDS).map(|_| stranger()).collect();
    let mut next = strangers.iter().cycle();
    tell("decide on a plain search, asked for the first time", 30_000.0, 1, || {
        drop(black_box(ask(next.next().unwrap())))
    });
    ask(&known);
    tell("decide on a plain search, remembered", 30_000.0, 1, || drop(black_box(ask(&known))));

    let records = records();
    let permits: Vec<Permit> = (0..ROUNDS).map(|_| ask(&stranger())).collect();
    let mut next = permits.iter().cycle();
    let matches = |_: &_| true;
    let show = |permit: &Permit, memo: &mut Memo, (facts, consent): &(ResourceFacts, ConsentOutcome)| {
        let question = DisclosureFacts { consent, matches: &matches };
        black_box(permit.disclose(&set, memo, facts, &question));
    };
    tell("a (type, labels, consents) tuple, asked for the first time", 15_000.0, records.len(), || {
        let (permit, mut memo) = (next.next().unwrap(), Memo::default());
        records.iter().for_each(|record| show(permit, &mut memo, record));
    });
    let permit = ask(&known);
    let mut memo = Memo::default();
    records.iter().for_each(|record| show(&permit, &mut memo, record));
    tell("the same, remembered within the request", 50.0, records.len(), || {
        records.iter().for_each(|record| show(&permit, &mut memo, record));
    });
    tell("the same, remembered from another request", f64::NAN, records.len(), || {
        let mut memo = Memo::default();
        records.iter().for_each(|record| show(&permit, &mut memo, record));
    });
}

/// Prints the median of the rounds, by item, in nanoseconds.
fn tell(what: &str, goal: f64, items: usize, mut round: impl FnMut()) {
    let mut taken: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed().as_nanos() as f64 / items as f64
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    let median = taken[ROUNDS / 2];
    let verdict = match (goal.is_nan(), median <= goal) {
        (true, _) => String::new(),
        (false, true) => format!("  goal {goal:.0} ns: met"),
        (false, false) => format!("  goal {goal:.0} ns: MISSED"),
    };
    println!("{median:>9.0} ns  {what}{verdict}");
}
