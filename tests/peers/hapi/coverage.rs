//! The rows of docs/fhir-coverage.md, asked of HAPI through the gateway.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::{JSON, Stage, rows, said};

const SCOPE: &str = "user/*.rs user/Observation.cud";

/// The rows of a table of the page: the text before the first column's end, and the last column.
fn table(page: &str, heading: &str) -> Vec<(String, String)> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("a section of the page");
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.splitn(2, "` |");
        let asked = cells.next()?.to_owned();
        let last = cells.next()?.trim().trim_end_matches('|').rsplit(" | ").next()?;
        let last = last.trim_start_matches('|').trim().to_owned();
        Some((asked, last))
    };
    section.lines().filter_map(row).collect()
}

fn refused(says: &str) -> Option<u16> {
    says.strip_prefix("refused: ")?.get(..3)?.parse().ok()
}

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fhir-coverage.md")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_every_row_of_the_coverage_page_is_answered_as_it_says() {
    let Some(stage) = Stage::set().await else { return };
    stage.patient().await;
    let app = &stage.world.treatment;
    let observation = json!({
        "resourceType": "Observation", "id": "suite-covered", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/wren-alder"},
    });
    println!("{:<45} {:>7} {:>6}   the page says", "asked", "gateway", "HAPI");
    for (asked, says) in table(&page(), "Interactions") {
        let (method, path) = asked.split_once(' ').unwrap();
        // Jobs, pages and their tokens are made by what goes before them; other tests follow them.
        if path.contains("token") {
            continue;
        }
        stage.put(&observation).await;
        let criteria = path.contains("?patient=a") && method != "GET";
        let below = path
            .replace("/Observation/1", "/Observation/suite-covered")
            .replace("_history/2", "_history/1")
            .replace("patient=a", if criteria { "_id=suite-covered" } else { "patient=dov-hart" })
            .replace("/Patient/a/", "/Patient/dov-hart/")
            .replace("/Encounter/e/", "/Encounter/dov-visit/");
        let method: Method = method.parse().unwrap();
        let patch = json!([{"op": "replace", "path": "/status", "value": "amended"}]);
        let (kind, body) = match method {
            Method::PATCH => ("application/json-patch+json", patch.to_string()),
            Method::POST if below.ends_with("_search") => {
                ("application/x-www-form-urlencoded", "patient=dov-hart".into())
            }
            Method::POST => {
                let mut new = observation.clone();
                new.as_object_mut().unwrap().remove("id");
                (JSON, new.to_string())
            }
            Method::PUT => (JSON, observation.to_string()),
            _ => ("", String::new()),
        };
        let headers = if kind.is_empty() { vec![] } else { vec![("content-type", kind)] };
        let reply = stage.ask(app, SCOPE, method.clone(), &below, &headers, body.clone()).await;
        let status = reply.status.as_u16();
        let direct = if matches!(method, Method::GET | Method::HEAD) && refused(&says).is_none() {
            stage.hapi(method.clone(), &below, &[], &Value::Null).await.status.as_u16().to_string()
        } else {
            String::new()
        };
        println!("{asked:<45} {status:>7} {direct:>6}   {says}");
        let expected = refused(&says);
        match (expected, below.as_str()) {
            // The door knows the method before the parser is asked.
            (Some(_), _) if method == Method::OPTIONS => assert_eq!(status, 405, "{asked}: {}", reply.text()),
            (Some(expected), _) => assert_eq!(status, expected, "{asked}: {}", reply.text()),
            // Everything has audit events in it, which this app may not read.
            (None, "/_history") => assert_eq!(status, 403, "{asked}: {}", reply.text()),
            // What HAPI does not offer is refused as it refuses it; a compartment is searched all the same.
            (None, _) if direct.starts_with('4') && !below.starts_with("/Patient/") => {
                assert_eq!(status.to_string(), direct, "{asked}: {}", said(&reply))
            }
            (None, _) => assert!(reply.status.is_success(), "{asked}: {} {}", reply.status, reply.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_every_common_parameter_is_answered_as_the_coverage_page_says() {
    let Some(stage) = Stage::set().await else { return };
    let app = &stage.world.treatment;
    println!("{:<45} {:>7} {:>6}   the page says", "GET /Observation?", "gateway", "HAPI");
    for (asked, says) in table(&page(), "Parameters of every search") {
        let kind = if asked.contains("Patient:organization") {
            "Observation?_include=Observation:patient&"
        } else {
            "Observation?"
        };
        let below = format!("/{kind}{asked}");
        let reply = stage.get(app, &below).await;
        let status = reply.status.as_u16();
        let direct = match refused(&says) {
            Some(_) => String::new(),
            None => stage.hapi(Method::GET, &below, &[], &Value::Null).await.status.as_u16().to_string(),
        };
        println!("{asked:<45} {status:>7} {direct:>6}   {says}");
        match refused(&says) {
            Some(expected) => assert_eq!(status, expected, "{asked}: {}", reply.text()),
            // Audit events are for auditors, and chains over patients' records for those who see them all.
            None if asked.contains("AuditEvent") || says.contains("chain:Patient") => {
                assert_eq!(status, 403, "{asked}: {}", reply.text())
            }
            None => assert_eq!(status.to_string(), direct, "{asked}: {}", said(&reply)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_every_type_is_searched_and_every_operation_is_answered() {
    let Some(stage) = Stage::set().await else { return };
    let app = &stage.world.treatment;
    let (_, section) = page().split_once("\n## Types\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let section = section.split("\n## ").next().unwrap().to_owned();
    let kinds = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next().map(str::to_owned));
    let kinds: Vec<String> = kinds.filter(|kind| kind.starts_with(char::is_uppercase)).collect();
    assert!(kinds.len() > 140, "{kinds:?}");
    let (mut same, mut others) = (0, Vec::new());
    for kind in &kinds {
        let below = format!("/{kind}?_count=5");
        let (reply, direct) = (stage.get(app, &below).await, stage.hapi(Method::GET, &below, &[], &Value::Null).await);
        if reply.status == 200 && direct.status == 200 {
            rows(&reply, "match");
            assert!(!reply.text().contains(&stage.hapi));
            same += 1;
        } else {
            others.push(format!("{kind}: {} ({} at HAPI)", reply.status.as_u16(), direct.status.as_u16()));
        }
    }
    println!("types: {same} of {} are searched; the others: {}", kinds.len(), others.join(", "));

    for (asked, says) in table(&page(), "Operations") {
        let below = match asked.as_str() {
            "$everything" => "/Patient/dov-hart/$everything",
            "$lastn" => "/Observation/$lastn?patient=dov-hart&category=vital-signs",
            "$docref" => "/DocumentReference/$docref?patient=dov-hart",
            "$expand" => "/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender",
            "$lookup" => "/CodeSystem/$lookup?system=http://hl7.org/fhir/administrative-gender&code=female",
            "$validate-code" => {
                "/ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/administrative-gender&code=female&system=http://hl7.org/fhir/administrative-gender"
            }
            "$translate" => {
                "/ConceptMap/$translate?url=http://hl7.org/fhir/ConceptMap/cm-address-use-v3&system=http://hl7.org/fhir/address-use&code=home"
            }
            _ => continue,
        };
        // HAPI first: what it loads at the first question takes longer than the gateway waits.
        let direct = stage.hapi(Method::GET, below, &[], &Value::Null).await;
        let reply = stage.get(app, below).await;
        println!("{asked:<16} {:>4}, at HAPI {:>4}   {says}", reply.status.as_u16(), direct.status.as_u16());
        if direct.status == 200 {
            assert!(
                reply.status == 200
                    || !matches!(asked.as_str(), "$everything" | "$expand" | "$lookup" | "$validate-code"),
                "{asked}: {}",
                reply.text()
            );
        } else {
            assert!(reply.status.is_client_error(), "{asked}: {}", reply.text());
        }
    }
}
