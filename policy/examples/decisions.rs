//! Deciding on a search and on each kind of record in its answer, by a caller nobody knows yet, so many times over: what is
//! counted is how many instructions one more round takes (`.ci/outside instructions`).
//!
//! `decisions ROUNDS`
#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement may stop at the first surprise")]

#[path = "../benches/decide/asked.rs"]
mod asked;

use std::hint::black_box;

use fhirwall_policy::permit::{DisclosureFacts, Memo};

fn main() {
    let rounds: usize = std::env::args().nth(1).unwrap_or_else(|| panic!("decisions ROUNDS")).parse().unwrap();
    let (set, records, matches) = (asked::loaded(100), asked::records(), |_: &_| true);
    let search = asked::Search::new();
    for round in 0..rounds {
        let permit = search.by(&asked::subject(&format!("X{round}")), &set);
        let mut memo = Memo::default();
        for (facts, consent) in &records {
            let question = DisclosureFacts { consent, matches: &matches };
            black_box(permit.disclose(&set, &mut memo, facts, &question));
        }
    }
}
