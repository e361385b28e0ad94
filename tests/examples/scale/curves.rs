//! One curve each.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fhirwall::demo::client::HttpsClient;
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::Neighbours;
use serde_json::json;

use crate::gateway::{Gateway, cpu_of};

const TIMES: u32 = 800;

fn upto(most: usize, sizes: &[usize]) -> Vec<usize> {
    sizes.iter().copied().filter(|size| *size <= most).collect()
}

fn micros(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e6)
}

pub(crate) async fn partners(binary: &str, most: usize) {
    println!("== partners\n  partners  start ms  resident KiB  read: CPU µs");
    for count in upto(most, &[10, 100, 1_000, 10_000]) {
        let gateway = Gateway::on(binary, |neighbours| add_partners(neighbours, count - 3)).await;
        let cost = gateway.cost(TIMES, async || gateway.read().await).await;
        println!("{count:>10}  {:>8}  {:>12}  {:>12}", gateway.start.as_millis(), gateway.memory(), micros(cost));
    }
}

/// More partners of the treatment app's kind, each with an id and a certificate of its own.
fn add_partners(neighbours: &Neighbours, count: usize) {
    let dir = neighbours.dir().join("partners");
    let own = std::fs::read_to_string(dir.join("recovery-path.yaml")).unwrap();
    for at in 0..count {
        let id = format!("clinic-{at}");
        let text = own.replace("recovery-path", &id).replace("gateway\"}]", &format!("gateway/{id}\"}}]"));
        let text = text.replace("spiffe://", &format!("spiffe://{id}."));
        std::fs::write(dir.join(format!("{id}.yaml")), text).unwrap();
    }
}

pub(crate) async fn policies(binary: &str, most: usize) {
    println!("== policies beside the shipped ones\n  policies  start ms  resident KiB  read: CPU µs");
    // Those for another app are not looked at; those for everybody are evaluated for each question that is new.
    for (of, head, when) in [
        ("of one app each", "principal == App::\"scale-N\", action, resource", ""),
        ("for everybody", "principal, action, resource", " when { principal.jurisdiction == \"N\" }"),
    ] {
        println!("  {of}");
        for count in upto(most, &[0, 10, 100, 1_000]) {
            let gateway = Gateway::on(binary, |neighbours| {
                let one = |at: usize| {
                    let text = "@id(\"scale-N\")\n@cites(\"45 CFR 164.312(a)(1)\")\n@says(\"Nobody whom there is.\")\n@reason(\"policy-forbids\")\n";
                    format!("{text}forbid ({head}){when};\n").replace('N', &at.to_string()).replace(&format!("{at}obody"), "Nobody")
                };
                let text: String = (0..count).map(one).collect();
                std::fs::write(neighbours.dir().join("policies/scale.cedar"), text).unwrap();
            })
            .await;
            let cost = gateway.cost(TIMES, async || gateway.read().await).await;
            println!("{count:>10}  {:>8}  {:>12}  {:>12}", gateway.start.as_millis(), gateway.memory(), micros(cost));
        }
    }
}

/// Each token of a user of its own: what is remembered of a token and what is counted of a user.
pub(crate) async fn tokens(binary: &str, most: usize) {
    println!(
        "== users, each with a token of its own\n     users  resident KiB  first read: CPU µs  known read: CPU µs"
    );
    let gateway = Gateway::on(binary, |_| {}).await;
    let world = &gateway.neighbours;
    let (app, url) = (&world.treatment, format!("{}/Patient/amara-osei", world.base_url()));
    let mut known = 0;
    for count in upto(most, &[10, 100, 1_000, 10_000]) {
        let before = gateway.cpu();
        for at in known..count {
            let mut grant = world.grant(app);
            grant.sub = format!("user-{at}");
            let token = world.issuer.mint(&grant).unwrap();
            let reply = app.client.get(&url, &token).await.expect("an answer");
            assert_eq!(reply.status, 200, "{}", reply.text());
            world.ehr.forget();
        }
        let first = (gateway.cpu() - before) / u32::try_from(count - known).unwrap();
        known = count;
        let cost = gateway.cost(TIMES, async || gateway.read().await).await;
        println!("{count:>10}  {:>12}  {:>18}  {:>18}", gateway.memory(), micros(first), micros(cost));
    }
}

/// A page of so many entries, one row in twenty labelled and absent from the answer.
fn page(bytes: usize) -> (Vec<u8>, usize) {
    let note = "x".repeat(700);
    let entry = |at: usize| {
        let security = match at % 20 {
            0 => json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}]),
            _ => json!([]),
        };
        let mut resource = json!({
            "resourceType": "Observation", "id": format!("scale-{at}"), "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": "Patient/dov-hart"}, "note": [{"text": note}],
        });
        if at.is_multiple_of(20) {
            resource.as_object_mut().unwrap().insert("meta".to_owned(), json!({"security": security}));
        }
        json!({"resource": resource, "search": {"mode": "match"}}).to_string()
    };
    let (mut entries, mut length) = (Vec::new(), 0);
    while length < bytes {
        let text = entry(entries.len());
        length += text.len() + 1;
        entries.push(text);
    }
    let count = entries.len();
    let text = format!(r#"{{"resourceType":"Bundle","type":"searchset","entry":[{}]}}"#, entries.join(","));
    (text.into_bytes(), count)
}

pub(crate) async fn entries(binary: &str, most: usize) {
    println!("== entries of a page\n   entries       KiB  search: CPU ms  µs an entry  at most resident KiB");
    for kib in [10, 100, 1_024, 10_240, 51_200] {
        let (body, count) = page(kib * 1024);
        if count > most {
            continue;
        }
        let gateway = Gateway::on(binary, |_| {}).await;
        gateway.neighbours.ehr.misbehave(Some("Observation"), Misbehaviour::Body(body));
        let times = u32::try_from((200_000 / kib).clamp(4, 400)).unwrap();
        let cost =
            gateway.cost_alone(times, async || assert!(gateway.ask("/Observation?patient=dov-hart").await > 0)).await;
        let each = cost.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap());
        let (milli, peak) = (cost.as_secs_f64() * 1e3, gateway.peak());
        println!("{count:>10}  {kib:>8}  {milli:>14.2}  {each:>11.1}  {peak:>20}");
    }
}

/// HTTP/2 connections that have asked once and stay open.
pub(crate) async fn connections(binary: &str, most: usize) {
    println!(
        "== open HTTP/2 connections\nconnections  resident KiB  KiB each  handshake and read: CPU µs  read beside them: CPU µs"
    );
    let gateway = Gateway::on(binary, |_| {}).await;
    let world = &gateway.neighbours;
    let app = &world.treatment;
    let identity = (std::fs::read(&app.certificate).unwrap(), std::fs::read(&app.key).unwrap());
    let (ca, url) = (world.site_ca().unwrap(), format!("{}/Patient/amara-osei", world.base_url()));
    gateway.cost(TIMES, async || gateway.read().await).await;
    let alone = gateway.memory();
    let mut open = Vec::new();
    for count in upto(most, &[100, 1_000, 5_000, 9_900]) {
        let before = gateway.cpu();
        let new = count - open.len();
        for _ in 0..new {
            let client = HttpsClient::new(&ca, Some(identity.clone())).unwrap();
            let reply = client.get(&url, &app.token).await.expect("an answer");
            assert_eq!(reply.status, 200, "{}", reply.text());
            open.push(client);
            world.ehr.forget();
        }
        let each = (gateway.cpu() - before) / u32::try_from(new).unwrap();
        let cost = gateway.cost(TIMES, async || gateway.read().await).await;
        let (memory, grown) = (gateway.memory(), gateway.memory().saturating_sub(alone));
        let per = grown / u64::try_from(count).unwrap();
        println!("{count:>11}  {memory:>12}  {per:>8}  {:>26}  {:>24}", micros(each), micros(cost));
    }
}

struct Redis(Child, u16);

impl Redis {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = port.to_string();
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &text];
        let child = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn().ok()?;
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self(child, port))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Replicas that share their state, asked in turn: what sharing costs each of them, and the store.
pub(crate) async fn replicas(binary: &str, most: usize) {
    let alone = Gateway::on(binary, |_| {}).await;
    let cost = alone.cost(TIMES, async || alone.read().await).await;
    drop(alone);
    println!("== replicas that share their state\n  replicas  read: CPU µs of a replica  and of the store");
    println!("   (alone)  {:>25}  {:>16}", micros(cost), 0);
    let Some(redis) = Redis::start() else { return println!("skipped: there is no redis-server") };
    let url = format!("redis://127.0.0.1:{}/0", redis.1);
    for count in upto(most, &[1, 2, 4]) {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Gateway::sharing(binary, Some(&url), |_| {}).await);
        }
        for _ in 0..TIMES / 5 {
            for replica in &all {
                replica.read().await;
            }
        }
        let of_all = || all.iter().map(Gateway::cpu).sum::<Duration>();
        let (before, store) = (of_all(), cpu_of(redis.0.id()));
        let begun = Instant::now();
        for _ in 0..TIMES / 4 {
            for replica in &all {
                let ask = || replica.read();
                tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
            }
        }
        let requests = TIMES * 2 * u32::try_from(count).unwrap();
        let (cost, store) = ((of_all() - before) / requests, (cpu_of(redis.0.id()) - store) / requests);
        println!("{count:>10}  {:>25}  {:>16}   ({:.0} s)", micros(cost), micros(store), begun.elapsed().as_secs_f64());
    }
}
