//! Can time tell a hidden record from a missing one? A measurement, run by `.ci/outside timing`.
//!
//! For each kind of request the two questions are asked in random turns by one client, alone on the connection, after a
//! warm-up that fills the schedule's window. Both sets of times are compared by a two-sample Kolmogorov-Smirnov test and by
//! the area under the ROC curve of the best threshold classifier (1/2 is a coin; 95% interval by Hanley and McNeil).
//! "Separable" is said if the area's interval leaves out 1/2 by more than 0.02, or the KS test rejects at 1% over all kinds.

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
        "{:20} {:>7} {:>17} {:>17} {:>7} {:>7} {:>22}",
        "", "status", "hidden p50/p99", "missing p50/p99", "KS D", "KS p", "AUC (95%)"
    );
    let mut separable = 0;
    for kind in kinds() {
        let (hidden, missing, status) = measure(&world, &kind, samples).await;
        let (d, p) = kolmogorov_smirnov(&hidden, &missing);
        let (auc, half) = area(&hidden, &missing);
        let quantiles = |times: &[f64]| format!("{:.1}/{:.1}", quantile(times, 0.5), quantile(times, 0.99));
        let told = p < 0.01 / 4.0 || (auc - 0.5).abs() - half > 0.02;
        separable += usize::from(told);
        println!(
            "{:20} {status:>7} {:>17} {:>17} {d:>7.4} {p:>7.3} {:>22} {}",
            kind.name,
            quantiles(&hidden),
            quantiles(&missing),
            format!("{auc:.4} ({:.4} to {:.4})", auc - half, auc + half),
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

async fn measure(world: &World, kind: &Kind, samples: usize) -> (Vec<f64>, Vec<f64>, u16) {
    let app = if kind.silent { &world.research } else { &world.treatment };
    let mut grant = world.grant(app);
    if kind.condition.is_some() {
        grant.scope = "user/*.rs user/Observation.cud".to_owned();
    }
    let token = world.issuer.mint(&grant).unwrap();
    let (mut hidden, mut missing) = (Vec::new(), Vec::new());
    let mut status = 0;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut asked = 0;
    while hidden.len() < samples || missing.len() < samples {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let first = seed >> 63 == 0;
        let (took, said) = ask(world, app, &token, kind, first).await;
        asked += 1;
        assert!(status == 0 || status == said, "{}: {status} and {said}", kind.name);
        status = said;
        if asked <= WARM_UP {
            continue;
        }
        let times = if first { &mut hidden } else { &mut missing };
        if times.len() < samples {
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    (hidden, missing, status)
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

/// The greatest distance of the two distributions, and how likely it is by chance (asymptotic).
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (a, b) = (sorted(a), sorted(b));
    let below = |times: &[f64], t: f64| times.partition_point(|one| *one <= t) as f64 / times.len() as f64;
    let d = a.iter().chain(&b).map(|t| (below(&a, *t) - below(&b, *t)).abs()).fold(0.0, f64::max);
    let effective = (a.len() as f64 * b.len() as f64 / (a.len() + b.len()) as f64).sqrt();
    let lambda = (effective + 0.12 + 0.11 / effective) * d;
    let p: f64 =
        (1..=100).map(f64::from).map(|k| 2.0 * (-1.0_f64).powf(k - 1.0) * (-2.0 * k * k * lambda * lambda).exp()).sum();
    (d, if lambda < 0.2 { 1.0 } else { p.clamp(0.0, 1.0) })
}

/// How likely a hidden one took longer than a missing one, ties halved, and half the width of the 95% interval.
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn area(hidden: &[f64], missing: &[f64]) -> (f64, f64) {
    let missing = sorted(missing);
    let (m, n) = (hidden.len() as f64, missing.len() as f64);
    let wins: f64 = hidden
        .iter()
        .map(|t| {
            let less = missing.partition_point(|one| one < t) as f64;
            let same = missing.partition_point(|one| one <= t) as f64 - less;
            less + same / 2.0
        })
        .sum();
    let auc = wins / (m * n);
    let (q1, q2) = (auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc));
    let variance = (auc * (1.0 - auc) + (m - 1.0) * (q1 - auc * auc) + (n - 1.0) * (q2 - auc * auc)) / (m * n);
    (auc, 1.96 * variance.sqrt())
}
