//! Prints how well behaviour analytics tells attacks from ordinary days, on held-out seeds and parameters.
//!
//! `cargo run --release -p fhirwall --example behaviour_roc [tuned]`
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "a program that prints a table")]

#[path = "../tests/behaviour/simulation.rs"]
mod simulation;

use simulation::{Day, HELD_OUT, Parameters, Scenario, area, rate, run};

const TUNED_ON: Parameters = Parameters { busiest: 7, missing_percent: 2, part2_percent: 20 };

fn main() {
    let tuned = std::env::args().nth(1).is_some_and(|arg| arg == "tuned");
    let days = if tuned { run(1..6, TUNED_ON) } else { run(101..106, HELD_OUT) };
    let benign = |day: &&Day| !day.scenario.is_attack();
    println!(
        "{} ordinary days, {} attacks",
        days.iter().filter(benign).count(),
        days.iter().filter(|d| !benign(d)).count()
    );
    for scenario in [Scenario::ClinicDay, Scenario::NightShift, Scenario::Onboarding, Scenario::ResearchExport] {
        let of = || days.iter().filter(|day| day.scenario == scenario);
        println!(
            "{scenario:?}: throttled {:.2} %, stepped up {:.2} %, ended {:.2} % of {} days",
            100.0 * rate(of(), 40.0),
            100.0 * rate(of(), 60.0),
            100.0 * rate(of(), 85.0),
            of().count()
        );
        let worst = of().max_by(|a, b| a.score.total_cmp(&b.score)).and_then(|day| day.worst.as_ref());
        if let Some(worst) = worst.filter(|worst| worst.score >= 40.0) {
            println!("    worst {:.0}: {}", worst.score, worst.reasons[0].sentence);
        }
    }
    for attack in Scenario::ATTACKS {
        let of = || days.iter().filter(|day| day.scenario == attack);
        let mut after: Vec<_> = of().filter_map(|day| day.found_after).collect();
        after.sort_unstable();
        println!(
            "{attack:?}: found {:.0} %, stepped up {:.0} %, ended {:.0} %; after {after:?} patients; area {:.4}",
            100.0 * rate(of(), 40.0),
            100.0 * rate(of(), 60.0),
            100.0 * rate(of(), 85.0),
            area(&days, attack)
        );
        if let Some(worst) = of().next().and_then(|day| day.worst.as_ref()) {
            println!("    {:.0}: {}", worst.score, worst.reasons[0].sentence);
        }
    }
    println!("\nROC: false positive rate (days) against true positive rate, by threshold");
    for threshold in (5..100).step_by(5) {
        let at = f64::from(threshold);
        let (fpr, tpr) = (rate(days.iter().filter(benign), at), rate(days.iter().filter(|d| !benign(d)), at));
        let bar = "#".repeat((tpr * 50.0) as usize);
        println!("{threshold:>3}  fpr {fpr:.4}  tpr {tpr:.3} |{bar:<50}|");
    }
}
