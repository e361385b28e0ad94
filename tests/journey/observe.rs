//! The trial run: the same requests through both modes come to the same decisions in the record, and in the trial run
//! nothing but Part 2 records is kept back.

use fhirwall::demo::apps::App;
use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;
use crate::bundles::{bundle, with};

/// Who asks what. The first word is the app.
const READS: &[&str] = &[
    // Permitted alike.
    "treatment /Patient/amara-osei",
    "treatment /Condition?patient=amara-osei",
    "research /Patient?_id=amara-osei",
    "patient /Condition?patient=amara-osei",
    // Beyond the scopes.
    "research /Encounter/amara-visit",
    "research /Encounter?patient=amara-osei",
    // Another patient's.
    "patient /Patient/dov-hart",
    "patient /Condition/dov-hypertension",
    "patient /Condition?patient=dov-hart",
    "patient /Observation",
    // Protected, and not by Part 2.
    "research /Observation/dov-screening",
    "research /Observation?patient=dov-hart",
    "patient /Observation/amara-later",
    "patient /Observation?patient=amara-osei",
    // Protected by Part 2.
    "research /Condition/amara-opioid-use",
    "research /Condition?patient=amara-osei",
    "research /Observation/amara-tobacco",
    "research /List/amara-problems",
    "treatment /Condition/bruno-opioid-use",
    "treatment /Condition/celia-opioid-use",
    "treatment /Condition/celia-hypertension",
    "treatment /Condition?patient=bruno-vale",
    // Would tell of Part 2 records.
    "research /Patient?_has:Condition:patient:code=F11.20",
    "research /Condition/dov-hypertension/_history",
    // Nothing to decide on.
    "treatment /Patient/there-is-none",
    "treatment /Patient?colour=green",
    "treatment /Elsewhere",
];

impl Stage {
    async fn observing() -> Self {
        Self::set().await.observes().await
    }

    async fn observes(self) -> Self {
        let stage = self;
        let path = stage.neighbours().config_file();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("mode: enforce"));
        std::fs::write(&path, text.replace("mode: enforce", "mode: observe")).unwrap();
        let mut status = stage.world.gateway.live.subscribe();
        status.mark_unchanged();
        stage.world.gateway.reload();
        status.changed().await.unwrap();
        assert_eq!(stage.world.gateway.live.current().number, 2);
        stage
    }

    /// What is protected, and not by Part 2.
    fn protect(&self) {
        let observation = |id: &str, patient: &str, label: &str| {
            json!({
                "resourceType": "Observation", "id": id, "status": "final",
                "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": label}]},
                "code": {"coding": [{"system": "http://loinc.org", "code": "11488-4"}]},
                "subject": {"reference": format!("Patient/{patient}")},
            })
        };
        self.neighbours().ehr.put(observation("dov-screening", "dov-hart", "HIV"));
        self.neighbours().ehr.put(observation("amara-later", "amara-osei", "TBOO"));
    }

    fn app(&self, name: &str) -> &App {
        match name {
            "treatment" => &self.neighbours().treatment,
            "research" => &self.neighbours().research,
            _ => &self.neighbours().patient,
        }
    }

    async fn asks(&self, line: &str) -> Reply {
        let (app, below) = line.split_once(' ').unwrap();
        let app = self.app(app);
        app.client.get(&self.url(below), &app.token).await.expect("an answer")
    }

    fn record(&self, reply: &Reply) -> Value {
        self.world.gateway.shared.audit.recent_decision(reply.header("x-request-id")).unwrap_or_default()
    }
}

/// What was decided, in either mode: the reason, the policies, what is held back.
fn decision(record: &Value) -> Value {
    let would = record.get("would").filter(|would| would.get("reason").is_some() || record.get("reason").is_none());
    let decided = would.unwrap_or(record);
    let withheld = record.get("would").unwrap_or(record).get("withheld").cloned();
    let mut policies = decided["policies"].as_array().cloned().unwrap_or_default();
    policies.sort_by_key(ToString::to_string);
    json!({
        "interaction": record["interaction"], "partner": record["partner"], "reason": decided["reason"],
        "policies": policies, "withheld": withheld,
    })
}

/// The resources of an answer, by their own bytes as JSON, without what the gateway says itself.
fn resources(body: &Value) -> Vec<Value> {
    let of_entries = body["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"].clone());
    let own = (body["resourceType"] != "Bundle").then(|| body.clone());
    of_entries.chain(own).filter(|resource| resource["resourceType"] != "OperationOutcome").collect()
}

fn is_part2(resource: &Value) -> bool {
    let text = resource.to_string();
    ["42CFRPart2", "F11.", "opioid-use", "Opioid"].iter().any(|sign| text.contains(sign))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_modes_come_to_the_same_decisions_in_the_record() {
    let (enforcing, observing) = (Stage::set().await, Stage::observing().await);
    enforcing.protect();
    observing.protect();
    let mut differ = 0;
    for line in READS {
        let (enforced, observed) = (enforcing.asks(line).await, observing.asks(line).await);
        let (first, second) = (enforcing.record(&enforced), observing.record(&observed));
        assert_eq!(decision(&first), decision(&second), "{line}: {first} {second}");
        assert_eq!(first.get("mode"), None, "{line}");
        if second != Value::Null {
            assert_eq!(second["mode"], "observe", "{line}");
            assert_eq!(second["status"], observed.status.as_u16(), "{line}");
        }
        differ += usize::from(enforced.status != observed.status);
    }
    assert!(differ >= 7, "{differ} requests told the modes apart");
    let metrics = |stage: &Stage| {
        let text = stage.world.gateway.shared.metrics.text().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("fhirwall_decisions_total")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    let observed: Vec<String> =
        metrics(&observing).iter().map(|line| line.replace("mode=\"observe\"", "mode=\"enforce\"")).collect();
    assert_eq!(metrics(&enforcing), observed);
    assert!(metrics(&observing).iter().all(|line| line.contains("mode=\"observe\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_run_changes_no_answer_but_where_part_2_forbids() {
    let stage = Stage::observing().await;
    stage.protect();
    let ehr = stage.neighbours().behind_the_gateway().unwrap();
    for line in READS.iter().take_while(|line| !line.contains("_has")) {
        let reply = stage.asks(line).await;
        let below = line.split_once(' ').unwrap().1;
        let own = ehr.get(&format!("{}{below}", stage.neighbours().ehr.base_url()), "").await.unwrap();
        assert_eq!(own.status, 200, "{line}");
        let own = resources(&own.json());
        let shown = if reply.status == 200 { resources(&reply.json()) } else { Vec::new() };
        let ids = |all: &[Value]| all.iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
        assert!(reply.status != 404 || own.iter().any(is_part2), "{line}: {}", stage.record(&reply));
        let (protected, open): (Vec<Value>, Vec<Value>) = own.into_iter().partition(is_part2);
        for resource in &open {
            assert!(shown.contains(resource), "{line}: {} is not as the EHR has it: {:?}", resource["id"], ids(&shown));
        }
        let lawful = matches!(
            *line,
            "treatment /Condition?patient=amara-osei"
                | "patient /Condition?patient=amara-osei"
                | "patient /Observation"
        ) || line.ends_with("patient=amara-osei") && line.starts_with("patient");
        for resource in protected.iter().filter(|resource| resource["resourceType"] == "Condition") {
            assert_eq!(ids(&shown).contains(&resource["id"]), lawful, "{line}: {}", resource["id"]);
        }
        if !lawful {
            assert!(!shown.iter().any(is_part2), "{line}: {:?}", ids(&shown));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_told_and_what_cannot_be_read_is_refused_in_a_trial_run_too() {
    let stage = Stage::observing().await;
    let app = &stage.neighbours().treatment;
    let url = stage.url("/Patient/amara-osei");
    assert_eq!(app.client.get(&url, &app.token).await.unwrap().status, 200);
    stage.asked();
    assert_eq!(app.client.get(&url, "bm8.dG9r.ZW4").await.unwrap().status, 401);
    assert_eq!(stage.neighbours().research.client.get(&url, &app.token).await.unwrap().status, 401);
    assert_eq!(app.client.get(&stage.url("/Patient?colour=green"), &app.token).await.unwrap().status, 400);
    assert_eq!(app.client.get(&stage.url("/Patient/a%20b"), &app.token).await.unwrap().status, 400);
    // An operator's act is no decision to be tried.
    let file = stage.neighbours().dir().join("partners/cohort-lens.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("status: active", "status: suspended")).unwrap();
    let mut status = stage.world.gateway.live.subscribe();
    status.mark_unchanged();
    stage.world.gateway.reload();
    status.changed().await.unwrap();
    assert_eq!(stage.research("/Patient?_id=amara-osei").await.status, 403);
    assert_eq!(stage.asked(), Vec::<String>::new());
    stage.neighbours().ehr.misbehave(Some("Patient"), Misbehaviour::DuplicateKeys);
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consents_a_trial_run_keeps_part_2_back_and_nothing_else() {
    let stage = Stage::observing().await;
    stage.neighbours().ehr.misbehave(Some("Consent"), Misbehaviour::ServerError);
    let reply = stage.treatment("/Condition?patient=amara-osei").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("amara-hypertension") && !reply.text().contains("opioid"), "{}", reply.text());
    assert_eq!(stage.record(&reply)["would"]["reason"], "consent-source-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_run_lets_writes_pass_and_keeps_labels_all_the_same() {
    let stage = Stage::observing().await;
    let app = &stage.neighbours().patient;
    let authorization = format!("Bearer {}", app.token);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
    let change = |kind: &'static str, id: &'static str, edit: fn(&mut Value)| {
        let mut record = stage.neighbours().ehr.resource(kind, id).unwrap();
        edit(&mut record);
        let url = stage.url(&format!("/{kind}/{id}"));
        let body = serde_json::to_vec(&record).unwrap();
        async move { app.client.send(Method::PUT, &url, &headers, body).await.unwrap() }
    };
    // Beyond its scopes: recorded, and done.
    let reply = change("Condition", "amara-hypertension", |record| record["recordedDate"] = "2026-04-01".into()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(stage.record(&reply)["would"]["reason"], "insufficient-scope");
    let stored = stage.neighbours().ehr.resource("Condition", "amara-hypertension").unwrap();
    assert_eq!(stored["recordedDate"], "2026-04-01");
    // A label that goes could not be given back by enforcing later: it stays.
    let reply = change("Condition", "amara-opioid-use", |record| {
        record.as_object_mut().unwrap().remove("meta");
    });
    reply.await;
    let stored = stage.neighbours().ehr.resource("Condition", "amara-opioid-use").unwrap();
    assert!(stored.to_string().contains("42CFRPart2"), "{stored}");
    // What Part 2 hides from the writer cannot be written.
    let research = &stage.neighbours().treatment;
    let authorization = format!("Bearer {}", research.token);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
    let mut record = stage.neighbours().ehr.resource("Condition", "bruno-opioid-use").unwrap();
    record["recordedDate"] = "2026-04-01".into();
    let url = stage.url("/Condition/bruno-opioid-use");
    let body = serde_json::to_vec(&record).unwrap();
    let reply = research.client.send(Method::PUT, &url, &headers, body).await.unwrap();
    assert_eq!(reply.status, 404, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_run_lets_a_weak_login_pass_and_records_what_it_would_have_asked_for() {
    let stage = Stage::observing().await;
    stage.edit("fhirwall.yaml", |text| {
        let asked = "part2: {role: program}\n    authentication: {acr_values: [phr], max_age: 5m}";
        text.replace("part2: {role: program}", asked)
    });
    assert_eq!(stage.reload().await, 3);
    let reply = stage.treatment("/Condition?patient=bruno-vale").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("bruno-hypertension") && !reply.text().contains("opioid"), "{}", reply.text());
    assert_eq!(stage.record(&reply)["would"]["reason"], "stronger-authentication-needed");
    // With the same words enforced it is refused.
    stage.edit("fhirwall.yaml", |text| text.replace("mode: observe", "mode: enforce"));
    assert_eq!(stage.reload().await, 4);
    assert_eq!(stage.treatment("/Condition?patient=bruno-vale").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_run_lets_a_transaction_pass_that_scopes_forbid_and_none_that_part_2_does() {
    let (enforcing, observing) = (Stage::set().await, Stage::observing().await);
    let dated = |stage: &Stage, id: &str| {
        let mut record = stage.neighbours().ehr.resource("Condition", id).unwrap();
        record["recordedDate"] = "2026-04-01".into();
        with("PUT", &format!("Condition/{id}"), &record)
    };
    let date =
        |stage: &Stage, id: &str| stage.neighbours().ehr.resource("Condition", id).unwrap()["recordedDate"].clone();
    // Beyond the scopes of the patient's app.
    for (stage, passes) in [(&enforcing, false), (&observing, true)] {
        let app = &stage.neighbours().patient;
        let reply = stage.post(app, &app.token, &bundle("transaction", &[dated(stage, "amara-hypertension")])).await;
        assert_eq!(reply.status == 200, passes, "{} {}", reply.status, reply.text());
        assert_eq!(date(stage, "amara-hypertension") == "2026-04-01", passes);
        if passes {
            let records = stage.records_under(reply.header("x-request-id"));
            let would = records.iter().filter_map(|(_, record)| record.would.as_ref()?.reason.as_deref());
            assert!(would.collect::<Vec<_>>().contains(&"insufficient-scope"));
        }
    }
    // What Part 2 hides from the writer: neither entry is carried out, in either mode.
    for stage in [&enforcing, &observing] {
        let (app, token) = (&stage.neighbours().treatment, stage.writing_token());
        let entries = [dated(stage, "dov-hypertension"), dated(stage, "bruno-opioid-use")];
        let reply = stage.post(app, &token, &bundle("transaction", &entries)).await;
        assert!(reply.status.is_client_error(), "{} {}", reply.status, reply.text());
        for id in ["dov-hypertension", "bruno-opioid-use"] {
            assert_ne!(date(stage, id), "2026-04-01", "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_runs_export_holds_what_policy_would_remove_and_nothing_of_part_2() {
    let (enforcing, observing) = (Stage::roomy().await, Stage::roomy().await.observes().await);
    for (stage, shown) in [(&enforcing, false), (&observing, true)] {
        stage.protect();
        let (_, manifest) = stage.exported("/$export?_type=Observation,Condition").await;
        let observations = stage.of_research(Method::GET, &stage.file_of(&manifest, "Observation")).await;
        assert_eq!(observations.status, 200, "{}", observations.text());
        assert_eq!(observations.text().contains("dov-screening"), shown, "{}", observations.text());
        assert!(observations.text().contains("dov-blood-pressure-1"));
        let conditions = stage.of_research(Method::GET, &stage.file_of(&manifest, "Condition")).await;
        assert!(conditions.text().contains("amara-hypertension"), "{}", conditions.text());
        for line in conditions.text().lines().chain(observations.text().lines()) {
            assert!(!is_part2(&serde_json::from_str(line).unwrap()), "{line}");
        }
    }
}
