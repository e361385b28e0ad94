//! Attack cases that need a body, a header or a record of their own: each beside the legitimate request that still works,
//! each with what the EHR heard. The table of plain requests is in `attacks.rs`; `docs/attacks.md` says which test holds
//! which row.

use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;
use crate::bundles::{bundle, entry, with};
use crate::search::{ACT_CODE, INLINE_LABEL, rows, unhurried};

const JSON: &str = "application/fhir+json";
const PATCH: &str = "application/json-patch+json";
/// The scopes that Amara Osei's own app is registered for.
const OWN: &str = "patient/*.rs patient/Observation.cud";
const ITS_OWN: &str = "/Observation/amara-blood-pressure-1";
const ANOTHERS: &str = "/Observation/bruno-blood-pressure-1";

impl Stage {
    /// Asks as Amara Osei's own app, under a scope.
    async fn own(&self, scope: &str, method: Method, below: &str, body: &Value) -> Reply {
        let app = &self.neighbours().patient;
        let mut grant = self.neighbours().grant(app);
        grant.scope = format!("openid fhirUser launch/patient {scope}");
        let authorization = format!("Bearer {}", self.neighbours().issuer.mint(&grant).unwrap());
        let kind = if method == Method::PATCH { PATCH } else { JSON };
        let mut headers = vec![("authorization", authorization.as_str())];
        if !body.is_null() {
            headers.push(("content-type", kind));
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        app.client.send(method, &self.url(below), &headers, body).await.unwrap()
    }

    /// The changes that the EHR was asked for since the last look.
    fn changes(&self) -> Vec<String> {
        self.asked().into_iter().filter(|asked| !asked.starts_with("GET")).collect()
    }

    /// What the EHR was asked since the last look, without the labels of records that others refer to.
    fn heard(&self) -> Vec<String> {
        self.queries().into_iter().filter(|query| !query.contains("?_id=")).collect()
    }

    fn kept(&self, below: &str) -> Value {
        let (kind, id) = below.trim_start_matches('/').split_once('/').unwrap();
        self.neighbours().ehr.resource(kind, id).unwrap()
    }
}

fn observation(subject: &str, performer: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "code": {"text": "weight"},
        "subject": {"reference": format!("Patient/{subject}")},
        "performer": [{"reference": format!("Patient/{performer}")}],
    })
}

/// An answer without what names this one request.
fn said(reply: &Reply) -> String {
    format!("{} {}", reply.status, reply.text().replace(reply.header("x-request-id"), "ID"))
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_link_is_no_key_to_the_ehrs_own_pages() {
    let stage = Stage::set().await;
    let research = &stage.neighbours().research;
    let first = stage.research("/Observation?patient=amara-osei&_count=2").await;
    let next = crate::search::link(&first, "next").unwrap();
    stage.asked();
    for below in ["/?_getpages=1", "/Observation?_getpages=1", "/Observation?ct=1&patient=amara-osei"] {
        assert_eq!(stage.research(below).await.status, 400, "{below}");
    }
    // The search behind the link is decided anew with each page: a scope that is gone takes the pages along.
    let mut grant = stage.neighbours().grant(research);
    grant.scope = "system/Patient.rs".to_owned();
    let narrowed = stage.neighbours().issuer.mint(&grant).unwrap();
    assert_eq!(research.client.get(&next, &narrowed).await.unwrap().status, 403);
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(research.client.get(&next, &research.token).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_no_patch_moves_a_record_or_asks_about_anothers() {
    let stage = Stage::set_on(unhurried).await;
    let foreign = observation("bruno-vale", "amara-osei");
    for patch in [
        json!([{"op": "replace", "path": "", "value": foreign}]),
        json!([{"op": "replace", "path": "/subject/reference", "value": "Patient/bruno-vale"}]),
        json!([{"op": "replace", "path": "/subject", "value": {"reference": "Patient/bruno-vale"}}]),
        json!([{"op": "add", "path": "/performer", "value": [{"reference": "Patient/bruno-vale"}]},
               {"op": "move", "from": "/performer/0", "path": "/subject"}]),
        json!([{"op": "add", "path": "/performer", "value": [{"reference": "Patient/bruno-vale"}]},
               {"op": "copy", "from": "/performer/0/reference", "path": "/subject/reference"}]),
    ] {
        for below in [ITS_OWN, "/Observation?_id=amara-blood-pressure-1"] {
            stage.asked();
            let reply = stage.own(OWN, Method::PATCH, below, &patch).await;
            assert!([400, 403, 404].contains(&reply.status.as_u16()), "{below} {patch}: {}", reply.text());
            assert_eq!(stage.changes(), Vec::<String>::new(), "{below} {patch}");
        }
    }
    assert_eq!(stage.kept(ITS_OWN)["subject"]["reference"], "Patient/amara-osei");
    // `test` asks what is stored: about another's record it says what it says about none.
    let asks = |value: &str| json!([{"op": "test", "path": "/status", "value": value}]);
    let answers = [
        stage.own(OWN, Method::PATCH, ANOTHERS, &asks("final")).await,
        stage.own(OWN, Method::PATCH, ANOTHERS, &asks("amended")).await,
        stage.own(OWN, Method::PATCH, "/Observation/there-is-none", &asks("final")).await,
    ];
    assert!(answers.iter().all(|answer| said(answer) == said(&answers[0])), "{answers:?}");
    assert_eq!(answers[0].status, 403, "`test` is nobody's");
    assert_eq!(stage.asked(), Vec::<String>::new());
    let note = json!([{"op": "add", "path": "/note", "value": [{"text": "after rest"}]}]);
    let own = stage.own(OWN, Method::PATCH, ITS_OWN, &note).await;
    assert_eq!(own.status, 200, "{}", own.text());
    assert_eq!(stage.changes(), [format!("PATCH /fhir{ITS_OWN}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_a_scope_that_reads_writes_nothing() {
    let stage = Stage::set_on(unhurried).await;
    let own = stage.kept(ITS_OWN);
    let patch = json!([{"op": "add", "path": "/note", "value": [{"text": "x"}]}]);
    let writes = [
        (Method::POST, "/Observation", observation("amara-osei", "amara-osei")),
        (Method::PUT, ITS_OWN, own.clone()),
        (Method::PUT, "/Observation?_id=amara-blood-pressure-1", own),
        (Method::PATCH, ITS_OWN, patch.clone()),
        (Method::PATCH, "/Observation?_id=amara-blood-pressure-1", patch),
        (Method::DELETE, ITS_OWN, Value::Null),
        (Method::DELETE, "/Observation?_id=amara-blood-pressure-1", Value::Null),
    ];
    assert_eq!(stage.own("patient/Observation.rs", Method::GET, ITS_OWN, &Value::Null).await.status, 200);
    stage.asked();
    for (method, below, body) in &writes {
        let reply = stage.own("patient/Observation.rs", method.clone(), below, body).await;
        assert_eq!(reply.status, 403, "{method} {below}: {}", reply.text());
        assert!(reply.header("www-authenticate").contains("insufficient_scope"), "{method} {below}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{method} {below}");
    }
    for (method, below, body) in &writes {
        let reply = stage.own(OWN, method.clone(), below, body).await;
        assert!(reply.status.is_success() || reply.status == 404, "{method} {below}: {}", reply.text());
    }
    let changes = stage.changes();
    // The last deletes what is gone by then.
    assert_eq!(changes.len(), writes.len() - 1, "{changes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_a_write_is_judged_on_the_record_as_it_is_and_as_it_would_be() {
    let stage = Stage::set_on(unhurried).await;
    stage.asked();
    let created = stage.own(OWN, Method::POST, "/Observation", &observation("bruno-vale", "amara-osei")).await;
    assert_eq!(created.status, 403, "{}", created.text());
    assert_eq!(stage.asked(), ["GET /fhir/Patient"], "what it would be is another's; its performer was looked up");
    let take = |id: &str| {
        let mut body = observation("amara-osei", "amara-osei");
        body["id"] = json!(id);
        body
    };
    let taken = stage.own(OWN, Method::PUT, ANOTHERS, &take("bruno-blood-pressure-1")).await;
    let none = stage.own(OWN, Method::PUT, "/Observation/there-is-none", &take("there-is-none")).await;
    assert_eq!(said(&taken), said(&none), "what it is is another's");
    assert_eq!(taken.status, 404);
    let mut gives = take("amara-blood-pressure-1");
    gives["subject"]["reference"] = json!("Patient/bruno-vale");
    let given = stage.own(OWN, Method::PUT, ITS_OWN, &gives).await;
    assert!([403, 404].contains(&given.status.as_u16()), "{}", given.text());
    assert_eq!(stage.changes(), Vec::<String>::new());
    let own = stage.own(OWN, Method::PUT, ITS_OWN, &take("amara-blood-pressure-1")).await;
    assert_eq!(own.status, 200, "{}", own.text());
    assert_eq!(
        stage.own(OWN, Method::POST, "/Observation", &observation("amara-osei", "bruno-vale")).await.status,
        201
    );
    assert_eq!(stage.changes(), [format!("PUT /fhir{ITS_OWN}"), "POST /fhir/Observation".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_an_entry_reaches_no_further_than_its_caller() {
    let stage = Stage::set_on(unhurried).await;
    let mut on_anothers = with("POST", "Observation", &observation("amara-osei", "amara-osei"));
    on_anothers["request"]["ifNoneExist"] = json!("patient=bruno-vale");
    let entries = [
        entry("DELETE", "Observation?patient=amara-osei,bruno-vale"),
        entry("GET", "Patient/bruno-vale/$everything"),
        on_anothers,
        entry("GET", "https://other.example/fhir/Patient/bruno-vale"),
        with("POST", "", &bundle("batch", &[entry("GET", "Patient/bruno-vale")])),
        entry("GET", "Patient/amara-osei"),
    ];
    stage.asked();
    let batch = stage.own(OWN, Method::POST, "/", &bundle("batch", &entries)).await;
    assert_eq!(batch.status, 200, "{}", batch.text());
    let answer = batch.json();
    let statuses: Vec<&str> = answer["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["response"]["status"].as_str().unwrap().split(' ').next().unwrap())
        .collect();
    assert_eq!(statuses, ["403", "403", "403", "400", "400", "200"], "{answer}");
    assert_eq!(stage.heard(), ["GET /Patient/amara-osei?"]);
    let own = with("POST", "Observation", &observation("amara-osei", "amara-osei"));
    for bad in &entries[..5] {
        let reply = stage.own(OWN, Method::POST, "/", &bundle("transaction", &[own.clone(), bad.clone()])).await;
        assert!([400, 403].contains(&reply.status.as_u16()), "{bad}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{bad}");
    }
    let good = stage.own(OWN, Method::POST, "/", &bundle("transaction", &[own, entries[5].clone()])).await;
    assert_eq!(good.status, 200, "{}", good.text());
    assert_eq!(stage.changes(), ["POST /fhir"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_a_bundle_of_no_type_is_none() {
    let stage = Stage::set().await;
    stage.asked();
    for body in [
        json!({"resourceType": "Bundle", "entry": [entry("GET", "Patient/amara-osei")]}),
        json!({"resourceType": "Bundle", "type": "", "entry": [entry("GET", "Patient/amara-osei")]}),
        json!({"resourceType": "Patient", "id": "amara-osei"}),
        json!([bundle("batch", &[entry("GET", "Patient/amara-osei")])]),
    ] {
        let reply = stage.own(OWN, Method::POST, "/", &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{body}");
    }
    let batch = stage.own(OWN, Method::POST, "/", &bundle("batch", &[entry("GET", "Patient/amara-osei")])).await;
    assert_eq!(batch.status, 200);
    assert_eq!(stage.heard(), ["GET /Patient/amara-osei?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_inline_labels_are_neither_added_nor_taken_off() {
    let stage = Stage::set_on(unhurried).await;
    let inline = json!([{"url": INLINE_LABEL, "valueCoding": {"system": ACT_CODE, "code": "42CFRPart2"}}]);
    let mut labelled = observation("amara-osei", "amara-osei");
    labelled["note"] = json!([{"extension": inline, "text": "x"}]);
    stage.asked();
    let added = stage.own(OWN, Method::POST, "/Observation", &labelled).await;
    assert_eq!(added.status, 403, "{}", added.text());
    for operation in ["$meta-add", "$meta-delete"] {
        let meta = json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [
            {"system": ACT_CODE, "code": "42CFRPart2"}]}}]});
        let reply = stage.own(OWN, Method::POST, &format!("/Observation/amara-tobacco/{operation}"), &meta).await;
        assert_eq!(reply.status, 403, "{operation}: {}", reply.text());
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    // Her own record, which she sees whole; its note is labelled inline.
    let stored = stage.kept("/Observation/amara-tobacco");
    let labels = |resource: &Value| resource.to_string().matches("42CFRPart2").count();
    assert_eq!(labels(&stored), 1);
    let mut washed = stored.clone();
    washed["note"][1].as_object_mut().unwrap().remove("extension");
    let mut unmarked = stored.clone();
    unmarked["meta"].as_object_mut().unwrap().remove("security");
    let remove = json!([{"op": "remove", "path": "/note/1/extension"}]);
    for (method, body) in [(Method::PUT, &washed), (Method::PUT, &unmarked), (Method::PATCH, &remove)] {
        let reply = stage.own(OWN, method.clone(), "/Observation/amara-tobacco", body).await;
        assert!([200, 403].contains(&reply.status.as_u16()), "{method} {body}: {}", reply.text());
        let now = stage.kept("/Observation/amara-tobacco");
        assert_eq!(labels(&now), 1, "{method} {body}: {now}");
        assert!(now["meta"].to_string().contains("PROCESSINLINELABEL"), "{method} {body}: {now}");
    }
    let mut noted = stored.clone();
    noted["note"][0]["text"] = json!("Quit in 2018.");
    let reply = stage.own(OWN, Method::PUT, "/Observation/amara-tobacco", &noted).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(stage.kept("/Observation/amara-tobacco")["note"][0]["text"], "Quit in 2018.");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_graphql_is_refused_in_every_form() {
    let stage = Stage::set().await;
    stage.asked();
    for query in [
        "{a: ObservationList(patient: \"bruno-vale\") {id}}",
        "{Patient(id: \"bruno-vale\") {...f}} fragment f on Patient {ObservationList(_reference: patient) {id}}",
        "{__schema {types {name}}}",
    ] {
        for below in ["/$graphql", "/Patient/amara-osei/$graphql", "/Patient/$graphql"] {
            let reply = stage.own(OWN, Method::POST, below, &json!({"query": query})).await;
            assert!([403, 415].contains(&reply.status.as_u16()), "{below}: {}", reply.text());
        }
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    let search = stage.own(OWN, Method::GET, "/Observation?patient=amara-osei&_count=1", &Value::Null).await;
    assert_eq!(rows(&search, "match").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_a_deleted_record_has_no_history_here() {
    let stage = Stage::set_on(unhurried).await;
    let mut gone = observation("amara-osei", "amara-osei");
    gone["id"] = json!("gone");
    stage.neighbours().ehr.put(gone);
    let own = async |below: &str| stage.own(OWN, Method::GET, below, &Value::Null).await;
    assert_eq!(own("/Observation/gone/_history/1").await.status, 200);
    assert_eq!(own("/Observation/gone/_history?_since=2020-01-01T00:00:00Z").await.status, 200);
    stage.neighbours().ehr.delete("Observation", "gone");
    for below in [
        "/Observation/X",
        "/Observation/X/_history",
        "/Observation/X/_history?_since=2020-01-01T00:00:00Z",
        "/Observation/X/_history/1",
        "/Observation/X/_history/2",
    ] {
        let (deleted, none) = (own(&below.replace('X', "gone")).await, own(&below.replace('X', "none")).await);
        assert_eq!(said(&deleted), said(&none), "{below}");
        assert_eq!(deleted.status, 404, "{below}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_what_is_attached_goes_with_its_record() {
    let stage = Stage::set_on(unhurried).await;
    let ehr = &stage.neighbours().ehr;
    let base = ehr.base_url();
    let subject = json!({"reference": "Patient/dov-hart"});
    let protected = json!({"security": [{"system": ACT_CODE, "code": "42CFRPart2"}]});
    for (id, meta) in [("open", json!({})), ("closed", protected)] {
        let binary = format!("{base}/Binary/{id}-pdf");
        let document = json!({
            "resourceType": "DocumentReference", "id": id, "status": "current", "meta": meta, "subject": subject,
            "content": [{"attachment": {"contentType": "application/pdf", "url": binary}}],
        });
        let report = json!({
            "resourceType": "DiagnosticReport", "id": id, "status": "final", "meta": meta, "subject": subject,
            "code": {"text": "Panel"}, "presentedForm": [{"contentType": "application/pdf", "data": "c2VjcmV0"}],
        });
        let context = json!({"reference": format!("DocumentReference/{id}")});
        for resource in [
            document,
            report,
            json!({"resourceType": "Binary", "id": format!("{id}-pdf"), "contentType": "application/pdf",
                "securityContext": context, "data": "c2VjcmV0"}),
        ] {
            ehr.put(resource);
        }
    }
    let open = stage.treatment("/DocumentReference/open").await;
    assert_eq!(open.status, 200, "{}", open.text());
    let url = open.json()["content"][0]["attachment"]["url"].as_str().unwrap().to_owned();
    assert_eq!(url, stage.url("/Binary/open-pdf"), "the EHR's own address is not told");
    assert_eq!(stage.treatment("/Binary/open-pdf").await.json()["data"], "c2VjcmV0");
    assert_eq!(stage.treatment("/DiagnosticReport/open").await.json()["presentedForm"][0]["data"], "c2VjcmV0");
    for kind in ["DocumentReference", "DiagnosticReport", "Binary"] {
        let id = if kind == "Binary" { "closed-pdf" } else { "closed" };
        let (hidden, none) =
            (stage.treatment(&format!("/{kind}/{id}")).await, stage.treatment(&format!("/{kind}/none")).await);
        assert_eq!(said(&hidden), said(&none), "{kind}");
    }
    // As itself, and not as FHIR JSON, it is given to nobody.
    let app = &stage.neighbours().treatment;
    let authorization = format!("Bearer {}", app.token);
    stage.asked();
    for accept in ["application/pdf", "application/octet-stream", "image/*"] {
        let headers = [("authorization", authorization.as_str()), ("accept", accept)];
        let reply = app.client.send(Method::GET, &stage.url("/Binary/open-pdf"), &headers, Vec::new()).await.unwrap();
        assert_eq!(reply.status, 406, "{accept}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_an_encoding_is_undone_whole_or_the_answer_withheld() {
    let stage = Stage::set_on(unhurried).await;
    let ehr = &stage.neighbours().ehr;
    let plain = stage.treatment("/Patient/amara-osei").await.json();
    ehr.forget();
    for how in
        [Misbehaviour::Encoded("identity"), Misbehaviour::Encoded("gzip"), Misbehaviour::InPieces { whole: true }]
    {
        ehr.misbehave(Some("Patient"), how.clone());
        let reply = stage.treatment("/Patient/amara-osei").await;
        assert_eq!(reply.status, 200, "{how:?}: {}", reply.text());
        assert_eq!(reply.json(), plain, "{how:?}");
        assert_eq!(reply.header("content-encoding"), "", "{how:?}");
    }
    for how in [
        Misbehaviour::Encoded("deflate"),
        Misbehaviour::Encoded("br"),
        Misbehaviour::Encoded("zstd"),
        Misbehaviour::Encoded("compress"),
        // Said, and not so.
        Misbehaviour::Encoded("x-gzip"),
        Misbehaviour::Encoded("gzip, gzip"),
        Misbehaviour::Encoded("gzip, br"),
        Misbehaviour::Encoded(""),
        Misbehaviour::InPieces { whole: false },
    ] {
        ehr.misbehave(Some("Patient"), how.clone());
        let reply = stage.treatment("/Patient/amara-osei").await;
        assert_eq!(reply.status, 502, "{how:?}: {}", reply.text());
        assert!(!reply.text().contains("mara"), "{how:?}: {}", reply.text());
    }
    let asked = ehr.log();
    let asked: Vec<_> = asked.iter().filter(|seen| seen.path.ends_with("/Patient/amara-osei")).collect();
    assert!(asked.len() >= 12 && asked.iter().all(|seen| seen.headers["accept-encoding"] == "identity"), "{asked:?}");
    ehr.behave();
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_44_where_a_record_is_said_in_our_words() {
    let stage = Stage::set_on(unhurried).await;
    let ehr = &stage.neighbours().ehr;
    for at in [
        "https://evil.example/fhir/Observation/planted/_history/1".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        format!("{}/Observation/planted/_history/1", ehr.base_url()),
    ] {
        ehr.misbehave(Some("Observation"), Misbehaviour::Located(at.clone()));
        let read = stage.own(OWN, Method::GET, ITS_OWN, &Value::Null).await;
        assert_eq!(read.status, 200, "{at}");
        let written = stage.own(OWN, Method::POST, "/Observation", &observation("amara-osei", "amara-osei")).await;
        assert_eq!(written.status, 201, "{at}: {}", written.text());
        for reply in [&read, &written] {
            for header in ["location", "content-location"] {
                let said = reply.header(header);
                assert!(said.is_empty() || said.starts_with(&stage.url("/Observation/")), "{header}: {said}");
            }
            assert!(!reply.text().contains("evil") && !reply.text().contains(&ehr.base_url()), "{}", reply.text());
        }
        assert_eq!(read.header("location"), "");
    }
    let elsewhere = "https://evil.example/fhir/_bulk/1".to_owned();
    ehr.misbehave(Some("Patient"), Misbehaviour::Located(elsewhere));
    let research = &stage.neighbours().research;
    let authorization = format!("Bearer {}", research.token);
    let headers = [("authorization", authorization.as_str()), ("prefer", "respond-async")];
    let url = stage.url("/Patient/$export?_type=Patient");
    let kick_off = research.client.send(Method::GET, &url, &headers, Vec::new()).await.unwrap();
    assert_eq!(kick_off.status, 502, "a job elsewhere is none: {}", kick_off.text());
    ehr.behave();
    assert_eq!(research.client.send(Method::GET, &url, &headers, Vec::new()).await.unwrap().status, 202);
}
