//! Redaction beside what else could do it, in one run on one thread: the ratios hold on any machine, the times do not.
//!
//! `cargo bench -p fhirwall-redaction-bench [-- --check]`; with `--check` it fails where a ratio of the
//! acceptance table is missed.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that reports, or stops")]

mod corpus;
mod memory;
mod others;

use std::hint::black_box;
use std::time::Instant;

use fhir_profiles::codes::part2_lists;
use fhir_profiles::engine::{Judge, Limits, RedactOptions, ResourceFacts, Style, Verdict, scan};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::{Labeller, LabellerConfig};
use fhir_profiles::reference::Reference;

/// Withholds Part 2 records and elements.
struct NoPart2;

impl NoPart2 {
    fn of(labels: LabelSet) -> Verdict {
        if labels.contains(Label::PART2) { Verdict::Withhold { rule: 0 } } else { Verdict::Show }
    }
}

impl Judge for NoPart2 {
    fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
        Self::of(facts.labels)
    }
    fn element(&self, _: u32, _: &ResourceFacts, labels: LabelSet) -> Verdict {
        Self::of(labels)
    }
    fn reference(&self, _: &Reference) -> Verdict {
        Verdict::Show
    }
    fn link(&self, _: &str, url: &str) -> Option<String> {
        Some(url.to_owned())
    }
}

fn ours(bytes: &[u8], labeller: &Labeller) -> Vec<u8> {
    let limits = Limits { max_bytes: 1 << 30, max_resources: u32::MAX, ..Limits::default() };
    let document = scan(bytes, &limits, labeller, "2026-11-22").unwrap();
    document.redact(&NoPart2, &RedactOptions::verbatim(Style::Silent)).unwrap().body
}

/// Seconds this thread was on a processor: neighbours on the machine do not count. Wall time where Linux is not.
fn on_cpu() -> f64 {
    static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    nanoseconds.map_or_else(|| STARTED.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Gigabytes a second: the median of several runs.
fn speed(bytes: usize, mut run: impl FnMut()) -> f64 {
    run();
    let samples = (200_000_000 / bytes).clamp(3, 15);
    // The clock ticks every few milliseconds: a sample is many of them.
    let times_each = (50_000_000 / bytes).max(1);
    let mut times: Vec<f64> = (0..samples)
        .map(|_| {
            let started = on_cpu();
            (0..times_each).for_each(|_| run());
            (on_cpu() - started) / times_each as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    bytes as f64 / times.get(times.len() / 2).unwrap() / 1e9
}

fn main() {
    let check = std::env::args().any(|argument| argument == "--check");
    let labels_only = Labeller::new(LabellerConfig { lists: Vec::new(), ..LabellerConfig::default() });
    let with_codes = Labeller::new(LabellerConfig { lists: part2_lists(), ..LabellerConfig::default() });
    println!("GB/s on one thread; peak memory beyond the input, in inputs");
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  {:>7} {:>7}  {:>5} {:>5}",
        "bytes", "memcpy", "Value", "simd", "sonic", "ours", "+codes", "/Value", "/sonic", "peak", "+codes"
    );
    let mut missed = Vec::new();
    for size in [10 << 10, 100 << 10, 1 << 20, 10 << 20, 50 << 20] {
        let input = corpus::bundle(size);
        let bytes = input.len();
        // What a process builds once is no part of a document's memory.
        drop(ours(&input, &labels_only));
        let (redacted, peak) = memory::peak(|| ours(&input, &labels_only));
        let (_, peak_codes) = memory::peak(|| ours(&input, &with_codes));
        others::assert_same(&others::value(&input), &redacted);
        let memcpy = speed(bytes, || drop(black_box(input.clone())));
        let value = speed(bytes, || drop(black_box(others::value(&input))));
        let simd = speed(bytes, || drop(black_box(others::simd(&input))));
        let sonic = speed(bytes, || drop(black_box(others::sonic(&input))));
        let own = speed(bytes, || drop(black_box(ours(&input, &labels_only))));
        let codes = speed(bytes, || drop(black_box(ours(&input, &with_codes))));
        let (peak, peak_codes) = (peak as f64 / bytes as f64, peak_codes as f64 / bytes as f64);
        println!(
            "{bytes:>9} {memcpy:>8.2} {value:>8.3} {simd:>8.3} {sonic:>8.3} {own:>8.3} {codes:>8.3}  {:>6.1}x {:>6.2}x  {peak:>5.2} {peak_codes:>5.2}",
            codes / value,
            codes / sonic,
        );
        for (what, holds) in [
            ("at least 8 times serde_json::Value", codes >= 8.0 * value),
            ("at least 1.5 times sonic-rs", codes >= 1.5 * sonic),
            ("at most 1.6 times the input in memory", peak_codes <= 1.6),
        ] {
            if !holds {
                missed.push(format!("{bytes} bytes: {what}"));
            }
        }
    }
    for miss in &missed {
        println!("missed: {miss}");
    }
    if check && !missed.is_empty() {
        std::process::exit(1);
    }
}
