//! Prints how well behaviour analytics tells attacks from ordinary days, on held-out seeds and parameters.
//!
//! `cargo run --release -p fhirwall --example behaviour_roc [tuned] [FILE.svg]`: with a file, draws the curves into it.
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "a program that prints a table")]

#[path = "../tests/behaviour/simulation.rs"]
mod simulation;

use simulation::{Day, HELD_OUT, Parameters, Scenario, area, rate, run};

const TUNED_ON: Parameters = Parameters { busiest: 7, missing_percent: 2, part2_percent: 20 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let tuned = arguments.iter().any(|argument| argument == "tuned");
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
    if let Some(file) = arguments.iter().find(|argument| argument.ends_with(".svg")) {
        match std::fs::write(file, drawing(&days)) {
            Ok(()) => println!("\nthe curves are drawn in {file}"),
            Err(error) => println!("\n{file} cannot be written: {error}"),
        }
    }
}

/// The ROC of each attack against all ordinary days, as SVG.
fn drawing(days: &[Day]) -> String {
    const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#2e8540", "#7b4b94", "#b8860b", "#444444"];
    let (left, bottom, size) = (50.0, 350.0, 300.0);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"400\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"640\" height=\"400\" fill=\"white\"/>\n\
         <path d=\"M50 50 V350 H350\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"110\" y=\"385\">ordinary days above the threshold, 0 to 10 %</text>\n\
         <text transform=\"translate(20 310) rotate(-90)\">attack days above the threshold, 0 to 100 %</text>\n",
    );
    for (n, (attack, colour)) in Scenario::ATTACKS.into_iter().zip(COLOURS).enumerate() {
        let mut points = String::new();
        for threshold in (0..=100).rev() {
            let at = f64::from(threshold);
            let fpr = rate(days.iter().filter(|day| !day.scenario.is_attack()), at).min(0.1) * 10.0;
            let tpr = rate(days.iter().filter(|day| day.scenario == attack), at);
            points.push_str(&format!("{:.1},{:.1} ", left + size * fpr, bottom - size * tpr));
        }
        let y = 70 + 22 * n;
        svg.push_str(&format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"380\" y=\"{y}\" fill=\"{colour}\">{attack:?}: area {:.4}</text>\n",
            area(days, attack)
        ));
    }
    svg + "</svg>\n"
}
