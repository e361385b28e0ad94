//! The whole journey beside what else a site could put before its EHR: one run, one upstream, one client.

use std::path::Path;

use anyhow::{Context as _, ensure};
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::Neighbours;
use fhirwall_benches::answers::searchset;
use http::Method;
use serde_json::Value;

use super::configs::{self, ENVOY, ENVOY_LUA, GATEWAY, NJS, Tokens};
use super::rows::{CONNECTIONS, Row};
use super::{ROUNDS, SECONDS, SIZES, page, peers};

/// What was measured for one size of answers.
pub(crate) struct Measured {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// A goal: this one's CPU per request by the gateway's, at least.
struct Goal {
    size: usize,
    other: &'static str,
    times: f64,
}

const GOALS: [Goal; 5] = [
    Goal { size: 0, other: ENVOY_LUA, times: 4.0 },
    Goal { size: 1, other: ENVOY_LUA, times: 12.0 },
    Goal { size: 1, other: NJS, times: 6.0 },
    Goal { size: 0, other: ENVOY, times: 1.0 },
    Goal { size: 1, other: ENVOY, times: 1.0 / 1.1 },
];

/// Measures them all, prints the table and the goals, and writes the page.
pub(crate) async fn compare(page: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let neighbours = Neighbours::start(dir.path(), None).await?;
    peers::unlimit(&neighbours)?;
    // Its partner has no basis for Part 2 records: they are withheld, as the scripts remove them.
    let app = &neighbours.research;
    let site = peers::Site::of(&neighbours, app)?;
    let issuer = neighbours.issuer.issuer();
    let keys = neighbours.anonymous()?.send(Method::GET, &format!("{issuer}/jwks"), &[], "").await?.json();
    let tokens = Tokens { issuer, audience: neighbours.base_url(), keys, scope: "system/Observation.rs" };
    // What HAProxy and Envoy verify most cheaply.
    let token = neighbours.issuer.mint_rs256(&neighbours.grant(app))?;
    let mut all = Vec::new();
    for (title, bytes) in SIZES {
        let answer = searchset(bytes);
        let kept = kept_rows(&answer)?;
        neighbours.ehr.misbehave(Some("Observation"), Misbehaviour::Body(answer));
        let mut rows = Vec::new();
        for (name, _, start) in configs::ALL {
            match start(&site, &tokens) {
                Ok(proxy) => rows.push(Row::new(name, proxy, site.target(&token))),
                Err(error) => println!("{name}: not measured: {error:#}"),
            }
        }
        for row in rows.iter().filter(|row| [NJS, ENVOY_LUA, GATEWAY].contains(&row.name)) {
            removes(row, kept).await.with_context(|| row.name.to_owned())?;
        }
        for _ in 0..ROUNDS {
            for row in &mut rows {
                row.saturate(&neighbours, SECONDS).await.with_context(|| row.name.to_owned())?;
            }
        }
        for row in &mut rows {
            row.arrive(&neighbours, SECONDS).await.with_context(|| row.name.to_owned())?;
        }
        rows.iter_mut().for_each(Row::stop);
        print(title, &rows);
        all.push(Measured { title, rows });
    }
    for (name, does, _) in configs::ALL {
        println!("{name:<24} {does}");
    }
    println!(
        "{CONNECTIONS} connections, TLS 1.3 with client certificates to each and behind each; {ROUNDS} rounds of {SECONDS} s as fast\n\
         as answers come, then {SECONDS} s at a constant rate of half of that. x: CPU per request by the gateway's."
    );
    let goals = goals(&all);
    println!("{}", goals.join("\n"));
    std::fs::write(page, page::html(&all, &goals)).with_context(|| page.display().to_string())?;
    Ok(())
}

fn print(title: &str, rows: &[Row]) {
    println!(
        "{title:<24} {:>8} {:>17} {:>6} {:>7} {:>7} {:>7} {:>9} {:>7} {:>8}",
        "CPU µs", "spread", "x", "req/s", "p50 ms", "p99 ms", "half: p50", "p99", "RSS MiB"
    );
    let own = rows.iter().find(|row| row.name == GATEWAY).map_or(f64::NAN, Row::cpu);
    for row in rows {
        let ((least, most), (p50, p99)) = (row.spread(), row.at_half());
        println!(
            "  {:<22} {:>8.1} {:>7.1} – {:>7.1} {:>6.2} {:>7.0} {:>7.2} {:>7.2} {:>9.2} {:>7.2} {:>8.1}",
            row.name,
            row.cpu(),
            least,
            most,
            row.cpu() / own,
            row.rate(),
            row.p50(),
            row.p99(),
            p50,
            p99,
            row.resident(),
        );
    }
}

/// How far each goal is met, in words.
fn goals(all: &[Measured]) -> Vec<String> {
    let cpu = |size: usize, name: &str| all.get(size)?.rows.iter().find(|row| row.name == name).map(Row::cpu);
    let said = |goal: &Goal| {
        let title = all.get(goal.size).map_or("", |measured| measured.title);
        let times = cpu(goal.size, goal.other)? / cpu(goal.size, GATEWAY)?;
        let met = if times >= goal.times { "met" } else { "MISSED" };
        Some(format!(
            "{title}, {}: {times:.2} times the gateway's CPU; goal at least {:.2}: {met}",
            goal.other, goal.times
        ))
    };
    GOALS.iter().filter_map(said).collect()
}

/// The rows of a page that carry no label of Part 2.
fn kept_rows(page: &[u8]) -> anyhow::Result<usize> {
    let page: Value = serde_json::from_slice(page)?;
    let rows = page.get("entry").and_then(Value::as_array).context("no rows")?;
    let labelled = |row: &&Value| row["resource"]["meta"]["security"][0]["code"] == "42CFRPart2";
    Ok(rows.len().saturating_sub(rows.iter().filter(labelled).count()))
}

/// All that are said to remove what is labelled do the same work.
async fn removes(row: &Row, kept: usize) -> anyhow::Result<()> {
    let page: Value = serde_json::from_slice(&row.once().await?)?;
    let rows = page.get("entry").and_then(Value::as_array).context("no rows")?.iter();
    let observations = rows.filter(|row| row["resource"]["resourceType"] == "Observation").count();
    ensure!(observations == kept, "shows {observations} rows of {kept}");
    ensure!(!page.to_string().contains("\"42CFRPart2\""), "shows something labelled");
    Ok(())
}
