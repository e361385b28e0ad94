//! The page with plots: one file, no script, nothing loaded.

use std::fmt::Write as _;

use super::alternatives::Measured;
use super::configs::{self, GATEWAY};
use super::rows::Row;

type Value = fn(&Row) -> f64;

const PLOTS: [(&str, &str, Value); 5] = [
    ("CPU per request", "µs", Row::cpu),
    ("Throughput on one core, closed loop", "requests/s", Row::rate),
    ("p50 at half of its own throughput", "ms", |row| row.at_half().0),
    ("p99 at half of its own throughput", "ms", |row| row.at_half().1),
    ("Memory", "MiB", Row::resident),
];

/// Everything that was measured.
pub(crate) fn html(all: &[Measured], goals: &[String]) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>fhirwall beside the alternatives</title>\n<style>\n\
         body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b2430 }\n\
         h2 { margin-top: 2.5rem } figure { margin: 1rem 0 } figcaption { font-weight: 600 }\n\
         svg text { font: 13px system-ui, sans-serif; fill: #1b2430 } .own { fill: #0b6e4f } .other { fill: #9db4c0 }\n\
         td { padding: .1rem 1rem .1rem 0; vertical-align: top }\n</style>\n<h1>fhirwall beside the alternatives</h1>\n\
         <p>One run on one machine: one worker each, alone on a core; TLS 1.3 with client certificates in front and behind;\n\
         the same EHR, the same client. Only ratios within the run mean anything. The table that this page plots, with machine,\n\
         date and versions, is <code>alternatives.txt</code> beside it.</p>\n<table>\n",
    );
    for (name, does, _) in configs::ALL {
        row(&mut page, name, does);
    }
    page.push_str("</table>\n<ul>\n");
    for goal in goals {
        line(&mut page, &format!("<li>{}</li>", escaped(goal)));
    }
    page.push_str("</ul>\n");
    for measured in all {
        line(&mut page, &format!("<h2>{}</h2>", escaped(measured.title)));
        for (title, unit, value) in PLOTS {
            plot(&mut page, &format!("{title}, {unit}"), &measured.rows, value);
        }
    }
    page.push_str("</html>\n");
    page
}

fn row(page: &mut String, name: &str, does: &str) {
    line(page, &format!("<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(does)));
}

/// Horizontal bars, one for each proxy.
fn plot(page: &mut String, title: &str, rows: &[Row], value: Value) {
    const LABELS: f64 = 200.0;
    const WIDTH: f64 = 560.0;
    let most = rows.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
    let height = 26 * rows.len() + 6;
    line(page, &format!("<figure><figcaption>{}</figcaption>", escaped(title)));
    line(page, &format!("<svg viewBox=\"0 0 860 {height}\" role=\"img\" aria-label=\"{}\">", escaped(title)));
    for (at, row) in rows.iter().enumerate() {
        let (top, amount) = (26 * at + 4, value(row));
        let long = (amount / most * WIDTH).max(1.0);
        let class = if row.name == GATEWAY { "own" } else { "other" };
        let decimals = if amount < 10.0 { 2 } else { 0 };
        line(page, &format!("<text x=\"0\" y=\"{}\">{}</text>", top + 15, escaped(row.name)));
        line(page, &format!("<rect class=\"{class}\" x=\"{LABELS}\" y=\"{top}\" width=\"{long:.1}\" height=\"20\"/>"));
        let x = LABELS + long + 6.0;
        line(page, &format!("<text x=\"{x:.1}\" y=\"{}\">{amount:.decimals$}</text>", top + 15));
    }
    page.push_str("</svg></figure>\n");
}

fn line(page: &mut String, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(page, "{text}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
