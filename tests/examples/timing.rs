//! Can time tell a hidden record from a missing one? A measurement, run by `.ci/outside timing`.
//!
//! For each kind of request the two questions are asked in pairs, each pair in random order, by one client, alone on the
//! connection, after a warm-up that fills the schedule's window. What drifts (load, the schedule's floor) drifts for both
//! of a pair, so that under the hypothesis that nothing can be told the two of a pair may be swapped: the distribution of
//! the Kolmogorov-Smirnov distance and of the mean difference is found by swapping pairs at random, not from a formula that
//! supposes a quiet machine. Beside them the area under the ROC curve, as the chance to guess right from one time (1/2 is a coin).
//! "Separable" is said if one of the two tests rejects at 1% over all kinds (each at 1% divided by eight).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints its numbers and stops at the first surprise"
)]

use std::time::{Duration, Instant};

use fhirwall::demo::apps::App;
use fhirwall::demo::world::{Neighbours, World};
use http::Method;

const WARM_UP: usize = 300;
/// How often the pairs are swapped to see what chance does.
const SWAPS: usize = 9_999;

struct Kind {
    name: &'static str,
    method: Method,
    silent: bool,
    hidden: &'static str,
    missing: &'static str,
    condition: Option<(&'static str, &'static str)>,
}

fn kinds() -> [Kind; 4] {
    let get =
        |name, silent, hidden, missing| Kind { name, method: Method::GET, silent, hidden, missing, condition: None };
    [
        get("read", true, "/Condition/bruno-opioid-use", "/Condition/bruno-opioid-non"),
        get("vread", false, "/Condition/bruno-opioid-use/_history/1", "/Condition/bruno-opioid-non/_history/1"),
        get("search by _id", true, "/Condition?_id=bruno-opioid-use", "/Condition?_id=bruno-opioid-non"),
        Kind {
            name: "conditional create",
            method: Method::POST,
            silent: false,
            hidden: "/Observation",
            missing: "/Observation",
            condition: Some(("_id=bruno-drug-screen", "_id=bruno-drug-screet")),
        },
    ]
}

#[tokio::main]
async fn main() {
    let samples: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    without_quotas(&neighbours);
    let world = World::between(neighbours).unwrap();
    println!("{samples} samples each; times in ms as the client sees them");
    println!(
        "{:20} {:>7} {:>17} {:>17} {:>7} {:>7} {:>16} {:>7} {:>7}",
        "", "status", "hidden p50/p99", "missing p50/p99", "KS D", "p", "mean difference", "p", "AUC"
    );
    let mut separable = 0;
    for kind in kinds() {
        let (pairs, status) = measure(&world, &kind, samples).await;
        let tested = test(&pairs);
        let (hidden, missing): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let quantiles = |times: &[f64]| format!("{:.1}/{:.1}", quantile(times, 0.5), quantile(times, 0.99));
        let told = tested.p_distance < 0.01 / 8.0 || tested.p_mean < 0.01 / 8.0;
        separable += usize::from(told);
        println!(
            "{:20} {status:>7} {:>17} {:>17} {:>7.4} {:>7.4} {:>13.3} ms {:>7.4} {:>7.4} {}",
            kind.name,
            quantiles(&hidden),
            quantiles(&missing),
            tested.distance,
            tested.p_distance,
            tested.mean,
            tested.p_mean,
            area(&hidden, &missing),
            if told { "SEPARABLE" } else { "not separable" },
        );
    }
    world.stop().await;
    assert!(separable == 0, "{separable} kinds are separable");
}

/// No caller meets a limit: a refusal would end the measurement.
fn without_quotas(neighbours: &Neighbours) {
    let config = neighbours.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    let limits = "limits: {user: {requests_per_second: 5000}, address: {requests_per_second: 5000}}\n";
    std::fs::write(&config, format!("{text}{limits}")).unwrap();
    for partner in std::fs::read_dir(neighbours.dir().join("partners")).unwrap() {
        let path = partner.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("requests_per_second: 50,", "requests_per_second: 5000,")).unwrap();
    }
}

/// Pairs of times in milliseconds: hidden, missing.
async fn measure(world: &World, kind: &Kind, samples: usize) -> (Vec<(f64, f64)>, u16) {
    let app = if kind.silent { &world.research } else { &world.treatment };
    let mut grant = world.grant(app);
    if kind.condition.is_some() {
        grant.scope = "user/*.rs user/Observation.cud".to_owned();
    }
    let token = world.issuer.mint(&grant).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut status = 0;
    let mut pairs = Vec::with_capacity(samples);
    for at in 0..WARM_UP / 2 + samples {
        let first = random.coin();
        let (one, said) = ask(world, app, &token, kind, first).await;
        let (other, too) = ask(world, app, &token, kind, !first).await;
        assert!(said == too && (status == 0 || status == said), "{}: {status}, {said} and {too}", kind.name);
        status = said;
        if at >= WARM_UP / 2 {
            let (hidden, missing) = if first { (one, other) } else { (other, one) };
            pairs.push((hidden.as_secs_f64() * 1e3, missing.as_secs_f64() * 1e3));
        }
    }
    (pairs, status)
}

/// A small generator: which of a pair goes first, and which pairs are swapped, must not hang on anything measured.
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 63 == 0
    }
}

async fn ask(world: &World, app: &App, token: &str, kind: &Kind, hidden: bool) -> (Duration, u16) {
    let url = format!("{}{}", world.base_url(), if hidden { kind.hidden } else { kind.missing });
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("authorization", authorization.as_str())];
    let mut body = "";
    if let Some((matches_hidden, matches_none)) = kind.condition {
        headers.push(("content-type", "application/fhir+json"));
        headers.push(("if-none-exist", if hidden { matches_hidden } else { matches_none }));
        body = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/dov-hart"}}"#;
    }
    let started = Instant::now();
    let reply = app.client.send(kind.method.clone(), &url, &headers, body).await.unwrap();
    let took = started.elapsed();
    if let (true, Some(id)) = (kind.condition.is_some(), reply.json().get("id").and_then(serde_json::Value::as_str)) {
        world.ehr.delete("Observation", id);
    }
    (took, reply.status.as_u16())
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times
}

fn quantile(times: &[f64], q: f64) -> f64 {
    let times = sorted(times);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = ((times.len() - 1) as f64 * q) as usize;
    times.get(at).copied().unwrap_or_default()
}

struct Tested {
    /// The greatest distance of the two distributions.
    distance: f64,
    p_distance: f64,
    /// Hidden less missing.
    mean: f64,
    p_mean: f64,
}

/// Both tests, by swapping the two of a pair at random.
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn test(pairs: &[(f64, f64)]) -> Tested {
    // All times in order, each with its pair and which of the two it is; ties are one step.
    let mut all: Vec<(f64, usize, bool)> = pairs
        .iter()
        .enumerate()
        .flat_map(|(at, (hidden, missing))| [(*hidden, at, true), (*missing, at, false)])
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = pairs.len() as f64;
    let judge = |swapped: &[bool]| {
        let (mut step, mut furthest) = (0.0f64, 0.0f64);
        for (place, (time, at, hidden)) in all.iter().enumerate() {
            let swap = swapped.get(*at).copied().unwrap_or_default();
            step += if *hidden != swap { 1.0 } else { -1.0 };
            if all.get(place + 1).is_none_or(|(next, ..)| next > time) {
                furthest = furthest.max(step.abs());
            }
        }
        let differences = pairs.iter().zip(swapped);
        let mean = differences.map(|((h, m), swap)| if *swap { m - h } else { h - m }).sum::<f64>() / count;
        (furthest / count, mean)
    };
    let (distance, mean) = judge(&vec![false; pairs.len()]);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut further, mut larger) = (1usize, 1usize);
    for _ in 0..SWAPS {
        let swapped: Vec<bool> = pairs.iter().map(|_| random.coin()).collect();
        let (other, difference) = judge(&swapped);
        further += usize::from(other >= distance);
        larger += usize::from(difference.abs() >= mean.abs());
    }
    let p = |as_far: usize| as_far as f64 / (SWAPS + 1) as f64;
    Tested { distance, p_distance: p(further), mean, p_mean: p(larger) }
}

/// How likely a hidden one took longer than a missing one, ties halved.
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn area(hidden: &[f64], missing: &[f64]) -> f64 {
    let missing = sorted(missing);
    let wins: f64 = hidden
        .iter()
        .map(|t| {
            let less = missing.partition_point(|one| one < t) as f64;
            let same = missing.partition_point(|one| one <= t) as f64 - less;
            less + same / 2.0
        })
        .sum();
    wins / (hidden.len() as f64 * missing.len() as f64)
}
