//! Bulk exports: for backend services alone, bound to their owner, every line judged.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use fhirwall::audit::Kind;
use fhirwall::audit::read::{Filter, entries, scan};
use fhirwall::demo::apps::App;
use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::Stage;
use crate::bundles::{bundle, entry};
use crate::search::replace;

const TYPES: &str = "_type=Patient,Condition,Observation,List";

impl Stage {
    async fn kick_off_as(&self, app: &App, token: &str, below: &str, prefer: &str) -> Reply {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("authorization", authorization.as_str()), ("accept", "application/fhir+json")];
        if !prefer.is_empty() {
            headers.push(("prefer", prefer));
        }
        app.client.send(Method::GET, &self.url(below), &headers, Vec::new()).await.unwrap()
    }

    async fn kick_off(&self, below: &str) -> Reply {
        let app = &self.neighbours().research;
        self.kick_off_as(app, &app.token, below, "respond-async").await
    }

    pub(crate) async fn of_research(&self, method: Method, url: &str) -> Reply {
        let app = &self.neighbours().research;
        let authorization = format!("Bearer {}", app.token);
        app.client.send(method, url, &[("authorization", &authorization)], Vec::new()).await.unwrap()
    }

    /// Kicks off, waits, and returns where the job is, with its manifest.
    pub(crate) async fn exported(&self, below: &str) -> (String, Value) {
        let started = self.kick_off(below).await;
        assert_eq!(started.status, 202, "{}", started.text());
        let job = started.header("content-location").to_owned();
        assert_eq!(self.of_research(Method::GET, &job).await.status, 202);
        let done = self.of_research(Method::GET, &job).await;
        assert_eq!(done.status, 200, "{}", done.text());
        (job, done.json())
    }

    pub(crate) fn file_of(&self, manifest: &Value, kind: &str) -> String {
        let files = manifest["output"].as_array().unwrap();
        let file = files.iter().find(|file| file["type"] == kind).expect("a file of this type");
        file["url"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_shows_its_owner_every_line_that_it_may_read_and_no_other() {
    let stage = Stage::roomy().await;
    stage.neighbours().ehr.forget();
    let started = stage.kick_off(&format!("/$export?{TYPES}")).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let job = started.header("content-location").to_owned();
    assert!(job.starts_with(&stage.url("/_export/")), "{job}");
    let seen = stage.neighbours().ehr.log();
    let sent = seen.iter().find(|seen| seen.path.ends_with("$export")).expect("the EHR was asked");
    assert_eq!(sent.headers["prefer"], "respond-async");
    assert_eq!(sent.query.as_deref(), Some(TYPES));

    let running = stage.of_research(Method::GET, &job).await;
    assert_eq!(running.status, 202);
    assert_eq!(running.header("retry-after"), "1");
    assert_eq!(running.header("x-progress"), "", "the EHR's words name a patient");
    let done = stage.of_research(Method::GET, &job).await;
    assert_eq!(done.header("content-type"), "application/json");
    let manifest = done.json();
    assert_eq!(manifest["request"], stage.url(&format!("/$export?{TYPES}")));
    assert_eq!(manifest["requiresAccessToken"], true);
    assert_eq!(manifest["error"], json!([]));
    assert!(!done.text().contains("count") && !done.text().contains(&stage.neighbours().ehr.base_url()));

    let sees = stage.neighbours().research.profile.sees();
    for kind in ["Patient", "Condition", "Observation", "List"] {
        let file = stage.of_research(Method::GET, &stage.file_of(&manifest, kind)).await;
        assert_eq!(file.status, 200, "{}", file.text());
        assert_eq!(file.header("content-type"), "application/fhir+ndjson");
        let text = file.text();
        let shown: BTreeSet<String> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| format!("{}/{}", line["resourceType"].as_str().unwrap(), line["id"].as_str().unwrap()))
            .collect();
        let expected: BTreeSet<String> =
            sees.iter().filter(|record| record.starts_with(&format!("{kind}/"))).cloned().collect();
        assert_eq!(shown, expected, "{kind}");
        for trace in ["42CFRPart2", "pioid", "F11", "REDACTED", "arbor House"] {
            assert!(!text.contains(trace), "{trace} is in {text}");
        }
        let records = stage.records_under(file.header("x-request-id"));
        let disclosed = records.iter().find(|(kind, _)| *kind == Kind::Disclosure).expect("a record");
        assert_eq!(disclosed.1.instances.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert_eq!(disclosed.1.withheld.is_empty(), kind == "Patient", "{:?}", disclosed.1.withheld);
    }
    stage.neighbours().ehr.forget();
    let ended = stage.of_research(Method::DELETE, &job).await;
    assert_eq!(ended.status, 202, "{}", ended.text());
    assert!(stage.asked()[0].starts_with("DELETE /fhir/_bulk/"));
    assert_eq!(stage.of_research(Method::GET, &job).await.status, 404);
    assert_eq!(stage.of_research(Method::DELETE, &job).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_and_its_files_are_their_owners_alone() {
    let stage = Stage::roomy().await;
    let (job, manifest) = stage.exported(&format!("/$export?{TYPES}")).await;
    let file = stage.file_of(&manifest, "Patient");
    let app = &stage.neighbours().research;
    let mut other_user = stage.neighbours().grant(app);
    other_user.sub = "another-service".to_owned();
    let other_user = stage.neighbours().issuer.mint(&other_user).unwrap();
    let treatment = &stage.neighbours().treatment;
    stage.asked();
    for url in [&job, &file] {
        for (client, token) in [(app, &other_user), (treatment, &treatment.token)] {
            let authorization = format!("Bearer {token}");
            let headers = [("authorization", authorization.as_str())];
            let reply = client.client.send(Method::GET, url, &headers, Vec::new()).await.unwrap();
            assert_eq!(reply.status, 404, "{}", reply.text());
        }
        let anonymous = app.client.send(Method::GET, url, &[], Vec::new()).await.unwrap();
        assert_eq!(anonymous.status, 401, "a file is never without a token");
        let edited = url.replacen("/_export/", "/_export/A", 1);
        assert_eq!(stage.of_research(Method::GET, &edited).await.status, 404);
    }
    // A file's name opens no job, and a job's no file.
    let as_job = file.rsplit_once('/').unwrap().0.to_owned();
    assert_eq!(stage.of_research(Method::DELETE, &as_job).await.status, 404);
    assert_eq!(stage.of_research(Method::GET, &format!("{job}/0")).await.status, 404);
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(stage.of_research(Method::GET, &file).await.status, 200);
    assert_eq!(stage.of_research(Method::GET, &job).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_backend_service_has_its_own_jobs_and_reaches_no_others() {
    let stage = Stage::set_on(|neighbours| {
        crate::search::unhurried(neighbours);
        let file = neighbours.dir().join("partners/recovery-path.yaml");
        replace(&file, "type: confidential-asymmetric", "type: backend-service");
        replace(&file, "redirect_uris: [\"https://recovery-path.example/callback\"]", "redirect_uris: []");
        replace(&file, "\"user/*.rs\"", "\"system/*.rs\"");
    })
    .await;
    let (job, manifest) = stage.exported("/$export?_type=Patient").await;
    let file = stage.file_of(&manifest, "Patient");
    let other = &stage.neighbours().treatment;
    let mut grant = stage.neighbours().grant(other);
    (grant.scope, grant.fhir_user) = ("system/*.rs".to_owned(), None);
    let token = stage.neighbours().issuer.mint(&grant).unwrap();
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let missing = format!("{}/_export/{}", stage.neighbours().base_url(), "A".repeat(80));
    stage.asked();
    for (method, url) in [(Method::GET, &job), (Method::DELETE, &job), (Method::GET, &file)] {
        let ask = async |url: &str| other.client.send(method.clone(), url, &headers, Vec::new()).await.unwrap();
        let (others, none) = (ask(url).await, ask(&missing).await);
        let said = |reply: &Reply| reply.text().replace(reply.header("x-request-id"), "ID");
        assert_eq!(others.status, 404, "{method} {url}: {}", others.text());
        assert_eq!((none.status, said(&none)), (others.status, said(&others)), "{method} {url}");
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    let own = stage.kick_off_as(other, &token, "/$export?_type=Patient", "respond-async").await;
    assert_eq!(own.status, 202, "{}", own.text());
    let own = own.header("content-location").to_owned();
    assert_eq!(other.client.send(Method::GET, &own, &headers, Vec::new()).await.unwrap().status, 202);
    assert_eq!(stage.of_research(Method::GET, &own).await.status, 404, "nor the other way round");
    assert_eq!(stage.of_research(Method::GET, &file).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_group_are_exported_to_who_may_read_the_group() {
    let stage = Stage::set_on(|neighbours| {
        crate::search::unhurried(neighbours);
        let file = neighbours.dir().join("partners/cohort-lens.yaml");
        replace(&file, "\"system/List.rs\"", "\"system/List.rs\", \"system/Group.rs\"");
    })
    .await;
    let ehr = &stage.neighbours().ehr;
    let group = |id: &str, meta: Value| {
        json!({
            "resourceType": "Group", "id": id, "type": "person", "actual": true, "meta": meta,
            "member": [{"entity": {"reference": "Patient/dov-hart"}}],
        })
    };
    ehr.put(group("open", json!({})));
    ehr.put(group("closed", json!({"security": [{"system": crate::search::ACT_CODE, "code": "42CFRPart2"}]})));
    let app = &stage.neighbours().research;
    let mut grant = stage.neighbours().grant(app);
    grant.scope = format!("{} system/Group.rs", grant.scope);
    let token = stage.neighbours().issuer.mint(&grant).unwrap();
    let ask = async |id: &str| {
        let below = format!("/Group/{id}/$export?_type=Patient");
        stage.kick_off_as(app, &token, &below, "respond-async").await
    };
    stage.asked();
    let started = ask("open").await;
    assert_eq!(started.status, 202, "{}", started.text());
    assert_eq!(stage.asked(), ["GET /fhir/Group/open", "GET /fhir/Group/open/$export"]);
    let job = started.header("content-location").to_owned();
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    for status in [202, 200] {
        assert_eq!(app.client.send(Method::GET, &job, &headers, Vec::new()).await.unwrap().status, status);
    }
    stage.asked();
    let (hidden, missing) = (ask("closed").await, ask("none").await);
    let said = |reply: &Reply| reply.text().replace(reply.header("x-request-id"), "ID");
    assert_eq!((hidden.status, said(&hidden)), (missing.status, said(&missing)));
    assert_eq!(hidden.status, 404);
    assert_eq!(stage.asked(), ["GET /fhir/Group/closed", "GET /fhir/Group/none"], "no job was started");
    assert_eq!(stage.kick_off("/Group/open/$export?_type=Patient").await.status, 403, "without the group's scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_export_is_refused_and_the_ehr_hears_nothing() {
    let stage = Stage::roomy().await;
    let (research, treatment, patient) =
        (&stage.neighbours().research, &stage.neighbours().treatment, &stage.neighbours().patient);
    stage.asked();
    let whole = format!("/$export?{TYPES}");
    for (app, below, prefer, status) in [
        (treatment, whole.as_str(), "respond-async", 403),
        (patient, whole.as_str(), "respond-async", 403),
        (patient, "/Patient/$export?_type=Patient", "respond-async", 403),
        // Without `_type` every type is asked for.
        (research, "/$export", "respond-async", 403),
        (research, "/$export?_type=Encounter", "respond-async", 403),
        (research, "/Group/g/$export?_type=Patient", "respond-async", 403),
        (research, "/Patient/amara-osei/$export", "respond-async", 403),
        (
            research,
            "/$export?_type=Condition&_typeFilter=Condition%3F_has:Observation:subject:code=x",
            "respond-async",
            400,
        ),
        (research, "/$export?_type=Patient&_elements=id", "respond-async", 400),
        (research, "/$export?_type=Patient&_outputFormat=application/xml", "respond-async", 400),
        (research, "/$export?_type=Patient", "", 400),
    ] {
        let reply = stage.kick_off_as(app, &app.token, below, prefer).await;
        assert_eq!(reply.status, status, "{below}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{below}");
    }
    let batch = stage.post(research, &research.token, &bundle("batch", &[entry("GET", "$export?_type=Patient")])).await;
    assert_eq!(batch.json()["entry"][0]["response"]["status"], "403 Forbidden");
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(stage.kick_off("/Patient/$export?_type=Patient").await.status, 202);
    assert_eq!(stage.kick_off("/$export?_type=Patient").await.status, 202);
    let third = stage.kick_off("/$export?_type=Patient").await;
    assert_eq!(third.status, 429, "two jobs an hour: {}", third.text());
    assert!(!third.header("retry-after").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_not_understood_is_withheld() {
    let stage = Stage::roomy().await;
    let ehr = &stage.neighbours().ehr;
    let (job, manifest) = stage.exported("/$export?_type=Patient,Condition").await;
    let file = stage.file_of(&manifest, "Condition");
    let at = |url: &str| {
        let manifest = json!({
            "transactionTime": "2026-01-01T00:00:00Z", "request": "x", "requiresAccessToken": false,
            "output": [{"type": "Patient", "url": url}], "error": [],
        });
        Misbehaviour::Body(manifest.to_string().into_bytes())
    };
    let own = format!("{}/_bulk/x", ehr.base_url());
    for how in [
        at("https://storage.example/patients.ndjson"),
        at("http://169.254.169.254/latest"),
        at(&own.replacen("https://", "https://user@", 1)),
        at(&format!("{}/../admin", ehr.base_url())),
        Misbehaviour::Redirect(own.clone()),
        Misbehaviour::TruncatedJson,
        Misbehaviour::WrongContentType,
    ] {
        ehr.misbehave(Some("_bulk"), how.clone());
        let reply = stage.of_research(Method::GET, &job).await;
        assert_eq!(reply.status, 502, "{how:?}: {}", reply.text());
    }
    ehr.misbehave(Some("_bulk"), at(&own));
    assert_eq!(stage.of_research(Method::GET, &job).await.status, 200, "the EHR's own URL is followed");
    let patient = br#"{"resourceType":"Patient","id":"dov-hart"}"#.to_vec();
    for how in [
        Misbehaviour::TruncatedJson,
        Misbehaviour::DuplicateKeys,
        Misbehaviour::GzipBomb,
        Misbehaviour::WrongContentType,
        Misbehaviour::Redirect(own.clone()),
        // A line of another type than the file's.
        Misbehaviour::Body(patient),
    ] {
        ehr.misbehave(Some("_bulk"), how.clone());
        let reply = stage.of_research(Method::GET, &file).await;
        assert_eq!(reply.status, 502, "{how:?}: {}", reply.text());
        assert!(!reply.text().contains("amara"), "{how:?}");
    }
    ehr.behave();
    assert_eq!(stage.of_research(Method::GET, &file).await.status, 200);
    stage.world.gateway.shared.audit.close().await;
    let unrecorded = stage.of_research(Method::GET, &file).await;
    assert_eq!(unrecorded.status, 503, "{}", unrecorded.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_comes_in_windows_each_on_record() {
    let stage = Stage::roomy().await;
    let ehr = &stage.neighbours().ehr;
    let note = "n".repeat(16 * 1024);
    for number in 0..240 {
        ehr.put(json!({
            "resourceType": "List", "id": format!("long-{number}"), "status": "current", "mode": "working",
            "subject": {"reference": "Patient/dov-hart"}, "note": [{"text": note}],
        }));
    }
    let (_, manifest) = stage.exported("/$export?_type=List").await;
    let url = stage.file_of(&manifest, "List");
    let file = stage.of_research(Method::GET, &url).await;
    assert_eq!(file.status, 200);
    let long = file.text().lines().filter(|line| line.contains("\"long-")).count();
    assert_eq!(long, 240);
    let records = stage.records_under(file.header("x-request-id"));
    let windows: Vec<_> = records.iter().filter(|(kind, _)| *kind == Kind::Disclosure).collect();
    assert!(windows.len() >= 3, "{}", windows.len());
    assert!(windows.iter().all(|(_, record)| record.bytes.unwrap() < 2 << 20));
    let decision = file.header("x-request-id").to_owned();
    let mut ended = None;
    let filter = Filter { decision: Some(decision), kinds: vec![Kind::End], ..Filter::default() };
    // The end is written without anybody waiting for it: closing the log waits.
    stage.world.gateway.shared.audit.close().await;
    scan(&stage.neighbours().audit_dir(), None, &filter, |entry| {
        ended = entry.body;
        ControlFlow::Continue(())
    })
    .unwrap();
    let ended = ended.expect("an end");
    assert_eq!(ended["aborted"], false);
    assert_eq!(ended["bytes"], file.body.len());
    assert!(ended["lines"].as_u64().unwrap() >= 240, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_in_the_middle_is_cut_off() {
    let stage = Stage::roomy().await;
    let ehr = &stage.neighbours().ehr;
    let (_, manifest) = stage.exported("/$export?_type=List").await;
    let url = stage.file_of(&manifest, "List");
    let mut lines = String::new();
    for number in 0..100 {
        let note = "n".repeat(16 * 1024);
        lines += &format!("{{\"resourceType\":\"List\",\"id\":\"l-{number}\",\"note\":[{{\"text\":\"{note}\"}}]}}\n");
    }
    lines += "{\"resourceType\":\"List\",\"resourceType\":\"List\"}\n";
    ehr.misbehave(Some("_bulk"), Misbehaviour::Body(lines.into_bytes()));
    let app = &stage.neighbours().research;
    let authorization = format!("Bearer {}", app.token);
    let reply = app.client.send(Method::GET, &url, &[("authorization", &authorization)], Vec::new()).await;
    let error = reply.expect_err("nobody may take it for the whole");
    assert!(error.to_string().contains("broke off"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_or_locked_down_meanwhile_ends_a_file_under_way_and_what_concerns_others_does_not() {
    let partner = |name: &str| format!(r#"{{"partner": {{"client_id": "{name}"}}}}"#);
    for (revoked, name, cut) in [
        (true, "cohort-lens", true),
        (true, "recovery-path", false),
        (false, "cohort-lens", true),
        (false, "recovery-path", false),
    ] {
        let stage = Stage::roomy().await;
        let (_, manifest) = stage.exported("/$export?_type=List").await;
        let url = stage.file_of(&manifest, "List");
        let lines: String = (0..20)
            .map(|number| {
                let subject = r#"{"reference":"Patient/dov-hart"}"#;
                format!(
                    r#"{{"resourceType":"List","id":"l-{number}","status":"current","mode":"working","subject":{subject}}}"#
                ) + "\n"
            })
            .collect();
        let go_on = Arc::new(Notify::new());
        stage.neighbours().ehr.misbehave(Some("_bulk"), Misbehaviour::Held(lines.into_bytes(), Arc::clone(&go_on)));
        let app = &stage.neighbours().research;
        let authorization = format!("Bearer {}", app.token);
        let headers = [("authorization", authorization.as_str())];
        let file = app.client.send(Method::GET, &url, &headers, Vec::new());
        let disclosures = || {
            let filter = Filter { kinds: vec![Kind::Disclosure], ..Filter::default() };
            entries(&stage.neighbours().audit_dir(), None, &filter).unwrap().len()
        };
        let before = disclosures();
        let order = async {
            // When its first half is on record, the file is under way.
            while disclosures() == before {
                tokio::task::yield_now().await;
            }
            if revoked {
                let body = format!(r#"{{"what": {}, "by": "desk", "reason": "theft"}}"#, partner(name));
                assert_eq!(stage.order(&body, true).await.status, 204);
            } else {
                stage.lock_down(&partner(name)).await;
            }
            go_on.notify_one();
        };
        let (file, ()) = tokio::join!(file, order);
        match file {
            Ok(file) => assert!(!cut && file.text().contains("l-19"), "revoked: {revoked} {name}: {}", file.text()),
            Err(error) => assert!(cut && error.to_string().contains("broke off"), "revoked: {revoked} {name}: {error}"),
        }
    }
}
