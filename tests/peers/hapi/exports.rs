//! Bulk exports that HAPI makes: each line judged on its way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Value, json};

use super::{JSON, Stage, tells};

const SCOPE: &str = "system/Patient.rs system/Condition.rs system/Observation.rs system/List.rs system/Group.rs";
const KINDS: &str = "Patient,Condition,Observation,List";

impl Stage {
    async fn of_research(&self, method: Method, below: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask(&self.world.research, SCOPE, method, below, headers, "").await
    }

    /// Kicks off, waits for HAPI, and gives where the job is and its manifest.
    async fn exported(&self, below: &str) -> (String, Value) {
        let begun = Instant::now();
        let headers = [("prefer", "respond-async"), ("accept", JSON)];
        let started = self.of_research(Method::GET, below, &headers).await;
        assert_eq!(started.status, 202, "{}", started.text());
        let job = started.header("content-location").to_owned();
        assert!(job.starts_with(&self.url("/_export/")), "{job}");
        loop {
            let reply = self.of_research(Method::GET, &job, &[]).await;
            if reply.status == 200 {
                println!("{below}: done after {} s", begun.elapsed().as_secs());
                return (job, reply.json());
            }
            assert_eq!(reply.status, 202, "{}", reply.text());
            assert_eq!(reply.header("x-progress"), "");
            assert!(begun.elapsed() < Duration::from_secs(900), "HAPI does not come to an end");
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }

    /// All lines of all files of a type: HAPI makes as many files as it likes.
    async fn lines(&self, manifest: &Value, kind: &str) -> String {
        let mut text = String::new();
        let files = manifest["output"].as_array().unwrap().iter().filter(|file| file["type"] == kind);
        for file in files {
            let reply = self.of_research(Method::GET, file["url"].as_str().unwrap(), &[]).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("content-type"), "application/fhir+ndjson");
            text += &reply.text();
        }
        text
    }
}

fn names(lines: &str) -> BTreeSet<String> {
    let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|it| format!("{}/{}", it["resourceType"].as_str().unwrap(), it["id"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_exports_are_shown_line_by_line_to_who_started_them() {
    let Some(stage) = Stage::set_on(|neighbours, _| {
        let file = neighbours.dir().join("partners/cohort-lens.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"system/List.rs\"", "\"system/List.rs\", \"system/Group.rs\"")).unwrap();
    })
    .await
    else {
        return;
    };
    let samples = stage.world.records();
    let sees: BTreeSet<String> = stage.world.research.profile.sees().into_iter().collect();
    let (job, manifest) = stage.exported(&format!("/$export?_type={KINDS}")).await;
    assert!(!manifest.to_string().contains(&stage.hapi), "{manifest}");
    for kind in KINDS.split(',') {
        let lines = stage.lines(&manifest, kind).await;
        assert_eq!(tells(&lines), None);
        let shown: BTreeSet<String> = names(&lines).into_iter().filter(|name| samples.contains(name)).collect();
        let of_kind = |name: &&String| name.starts_with(&format!("{kind}/"));
        let expected: BTreeSet<String> = sees.iter().filter(of_kind).cloned().collect();
        assert_eq!(shown, expected, "{kind}");
        println!("{kind}: {} of {} sample records", shown.len(), samples.iter().filter(of_kind).count());
    }
    // HAPI keeps its files as Binaries of its own: none of them is read past the export.
    let treatment = &stage.world.treatment;
    let direct =
        stage.hapi(Method::GET, "/$export?_type=Condition", &[("prefer", "respond-async")], &Value::Null).await;
    let at = direct.header("content-location").strip_prefix(&stage.hapi).unwrap().to_owned();
    let begun = Instant::now();
    let files = loop {
        let reply = stage.hapi(Method::GET, &at, &[], &Value::Null).await;
        if reply.status == 200 {
            break reply.json();
        }
        assert!(begun.elapsed() < Duration::from_secs(900), "HAPI does not come to an end");
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    let file = files["output"][0]["url"].as_str().unwrap().strip_prefix(&stage.hapi).unwrap().to_owned();
    assert!(file.starts_with("/Binary/"), "{file}");
    let past = stage.get(treatment, &file).await;
    println!("HAPI's own file of an export, read as the Binary it is: {}", past.status);
    assert_eq!(past.status, 404, "{}", past.text());

    // Of a group, for who may read it; the members of a hidden one stay with the EHR.
    let group = |id: &str, meta: Value| {
        json!({
            "resourceType": "Group", "id": id, "type": "person", "actual": true, "meta": meta,
            "member": [{"entity": {"reference": "Patient/dov-hart"}}],
        })
    };
    let labelled =
        json!({"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}]});
    stage.put(&group("suite-open", json!({}))).await;
    stage.put(&group("suite-closed", labelled)).await;
    let headers = [("prefer", "respond-async"), ("accept", JSON)];
    for id in ["suite-closed", "suite-none"] {
        let below = format!("/Group/{id}/$export?_type=Patient");
        assert_eq!(stage.of_research(Method::GET, &below, &headers).await.status, 404, "{id}");
    }
    let (_, of_group) = stage.exported("/Group/suite-open/$export?_type=Patient,Condition").await;
    let lines = stage.lines(&of_group, "Patient").await;
    assert_eq!(names(&lines), BTreeSet::from(["Patient/dov-hart".to_owned()]));
    println!("of a group: its one member");

    let finished = stage.of_research(Method::DELETE, &job, &[]).await;
    println!("an export that HAPI has finished is not ended any more: {}", finished.status);
    assert_eq!(finished.status, 404, "{}", finished.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_ends_an_export_that_runs() {
    let Some(stage) = Stage::set().await else { return };
    let headers = [("prefer", "respond-async"), ("accept", JSON)];
    let app = &stage.world.research;
    let ask = async |method, below: &str| stage.ask(app, app.profile.token_scope, method, below, &headers, "").await;
    let started = ask(Method::GET, "/$export?_type=Patient").await;
    assert_eq!(started.status, 202, "{}", started.text());
    let job = started.header("content-location").to_owned();
    let ended = ask(Method::DELETE, &job).await;
    let after = ask(Method::GET, &job).await;
    println!("an export is ended while it runs: {}; asked for again: {}", ended.status, after.status);
    assert_eq!(ended.status, 202, "{}", ended.text());
    assert!(after.status.is_client_error() || after.status.is_server_error(), "{} {}", after.status, after.text());
}
