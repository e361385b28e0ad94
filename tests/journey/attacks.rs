//! Attack cases as requests: each instance beside the legitimate request that still works, each with what the EHR heard.
//! `docs/attacks.md` says which test holds which row.

use fhirwall::demo::apps::App;
use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;
use crate::search::{link, replace, rows, unhurried};

const FORM: &str = "application/x-www-form-urlencoded";

/// A request of Amara Osei's own app, under a scope.
struct Case {
    row: u8,
    scope: &'static str,
    method: &'static str,
    target: &'static str,
    form: Option<&'static str>,
    accept: Option<&'static str>,
    status: u16,
    /// What the EHR hears: for what is refused, nothing.
    heard: &'static [&'static str],
}

const ALL: &str = "patient/*.rs";

const fn get(row: u8, target: &'static str, status: u16) -> Case {
    Case { row, scope: ALL, method: "GET", target, form: None, accept: None, status, heard: &[] }
}

const fn heard(row: u8, target: &'static str, heard: &'static [&'static str]) -> Case {
    Case { heard, ..get(row, target, 200) }
}

impl Case {
    const fn under(self, scope: &'static str) -> Self {
        Self { scope, ..self }
    }

    const fn posted(self, form: &'static str) -> Self {
        Self { method: "POST", form: Some(form), ..self }
    }

    const fn accepting(self, accept: &'static str) -> Self {
        Self { accept: Some(accept), ..self }
    }
}

/// Requests that are ruled on before the EHR is asked, and beside them those that are not refused.
const CASES: &[Case] = &[
    heard(1, "/Patient/amara-osei", &["GET /Patient/amara-osei?"]),
    get(1, "/Patient/bruno-vale", 403),
    get(1, "/Patient/there-is-none", 403),
    heard(2, "/Observation?patient=amara-osei", &["GET /Observation?patient=amara-osei&patient=Patient/amara-osei"]),
    get(2, "/Observation?patient=amara-osei,bruno-vale", 403),
    get(2, "/Observation?patient=amara-osei&patient=bruno-vale", 403),
    get(2, "/Observation?subject=Patient/amara-osei&patient=bruno-vale", 403),
    get(2, "/Observation?patient=bruno-vale", 403),
    heard(
        3,
        "/Observation?subject=Patient/amara-osei",
        &["GET /Observation?subject=Patient/amara-osei&patient=Patient/amara-osei"],
    ),
    get(3, "/Observation?subject:not=amara-osei", 403),
    get(3, "/Observation?subject:missing=true", 403),
    get(3, "/Observation?patient:identifier=urn:x%7C1", 403),
    get(3, "/Observation?subject=https://other.example/Patient/amara-osei", 403),
    get(4, "/Patient/amara-osei/Observation", 403).under("patient/Patient.rs"),
    get(4, "/Patient/amara-osei/*", 403).under("patient/Patient.rs"),
    get(4, "/Patient/bruno-vale/Observation", 403),
    heard(
        4,
        "/Patient/amara-osei/Observation?code=85354-9",
        &["GET /Observation?code=85354-9&patient=Patient/amara-osei"],
    ),
    get(4, "/Patient/amara-osei/$everything", 403).under("patient/Observation.rs"),
    get(4, "/Patient/bruno-vale/$everything", 403),
    heard(4, "/Patient/amara-osei/$everything", &["GET /Patient/amara-osei/$everything?"]),
    heard(
        5,
        "/Patient?_id=amara-osei&_revinclude=Observation:subject",
        &["GET /Patient?_id=amara-osei&_revinclude=Observation:subject"],
    ),
    get(5, "/Patient?_id=amara-osei&_revinclude=Observation:subject", 403).under("patient/Patient.rs"),
    get(5, "/Patient?_id=amara-osei&_revinclude:iterate=Observation:subject", 403).under("patient/Patient.rs"),
    get(5, "/Patient?_id=amara-osei&_revinclude:recurse=Observation:subject", 400),
    get(5, "/Patient?_id=amara-osei&_revinclude=*:*", 400),
    get(6, "/Coverage?patient=amara-osei&_include=Coverage:patient", 403).under("patient/Coverage.rs"),
    get(6, "/Observation?patient=amara-osei&_include=*", 400),
    get(6, "/Observation?patient=amara-osei&_include:iterate=Patient:organization", 403)
        .under("patient/Observation.rs"),
    // It may bring several types: each row is judged (see `row_6_…`).
    heard(
        6,
        "/Coverage?patient=amara-osei&_include=Coverage:subscriber",
        &["GET /Coverage?patient=amara-osei&_include=Coverage:subscriber&patient=Patient/amara-osei"],
    ),
    get(7, "/Patient?_has:Observation:subject:code=HIV", 403).under("patient/Patient.rs"),
    get(7, "/Patient?_has:Observation:subject:code=HIV", 403),
    get(7, "/Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=x", 403),
    get(7, "/Patient/_search", 403).posted("_has:Observation:subject:code=HIV"),
    get(7, "/Patient/_search", 403).posted("_has:Observation:patient:_has:AuditEvent:entity:agent=x"),
    heard(7, "/Patient?_id=amara-osei", &["GET /Patient?_id=amara-osei"]),
    get(8, "/Patient?_id=amara-osei&general-practitioner.name=x", 403).under("patient/Patient.rs"),
    get(8, "/Observation?patient.name=Al", 403),
    get(8, "/Observation?patient=amara-osei&_filter=code%20eq%20x", 403),
    get(8, "/Observation?patient=amara-osei&_query=x", 403),
    get(8, "/Observation?patient=amara-osei&_list=42", 403),
    get(8, "/Observation?patient=amara-osei&_text=x", 403),
    get(8, "/Observation?patient=amara-osei&_content=x", 403),
    get(8, "/Observation?patient=amara-osei&_contained=both", 403),
    get(8, "/Observation?patient=amara-osei&_security=42CFRPart2", 403),
    get(8, "/Observation?patient=amara-osei&_security:not=42CFRPart2", 403),
    get(8, "/Observation?patient=amara-osei&code:in=vs", 403),
    heard(
        8,
        "/Observation?patient=amara-osei&status:not=entered-in-error",
        &["GET /Observation?patient=amara-osei&status:not=entered-in-error&patient=Patient/amara-osei"],
    ),
    get(10, "/Observation?patient=amara-osei&_total=accurate", 400),
    get(10, "/Observation?patient=amara-osei&_summary=count", 400),
    get(10, "/Observation?patient=amara-osei&_count=0", 400),
    get(10, "/Observation/_search", 400).posted("patient=amara-osei&_summary=count"),
    get(10, "/Observation?patient=amara-osei&_sort=_score", 403),
    heard(
        10,
        "/Observation?patient=amara-osei&_count=2&_sort=-date",
        &["GET /Observation?patient=amara-osei&_sort=-date&patient=Patient/amara-osei&_count=2"],
    ),
    heard(
        11,
        "/Observation?patient=amara-osei&_elements=code&_summary=data",
        &["GET /Observation?patient=amara-osei&patient=Patient/amara-osei"],
    ),
    heard(
        11,
        "/Observation?patient=amara-osei&_summary=text",
        &["GET /Observation?patient=amara-osei&patient=Patient/amara-osei"],
    ),
    get(11, "/Observation?patient=amara-osei&_fields=code", 400),
    get(13, "/Observation/_search?patient=amara-osei", 400).posted("patient=bruno-vale"),
    get(13, "/Observation/_search", 403).posted("patient=bruno-vale"),
    Case {
        heard: &["POST /Observation/_search?patient=amara-osei&patient=Patient/amara-osei"],
        ..get(13, "/Observation/_search", 200).posted("patient=amara-osei")
    },
    get(20, "/Observation/$validate", 403),
    get(20, "/Observation/amara-tobacco/$meta", 403),
    get(19, "/Observation/amara-tobacco/$meta-add", 403),
    get(19, "/Observation/amara-tobacco/$meta-delete", 403),
    get(20, "/Observation/$meta", 403),
    heard(
        20,
        "/Observation/$lastn?patient=amara-osei&max=1",
        &["GET /Observation/$lastn?patient=amara-osei&max=1&patient=Patient/amara-osei"],
    ),
    get(20, "/$convert", 403),
    get(20, "/Patient/$member-match", 403),
    get(20, "/Composition/amara-summary/$document", 403),
    get(20, "/Patient/$no-such-operation", 404),
    get(20, "/Observation/$lastn?patient=bruno-vale", 403),
    get(21, "/$graphql?query=%7BObservationList%7Bid%7D%7D", 403),
    get(21, "/Patient/amara-osei/$graphql?query=%7Bid%7D", 403),
    get(23, "/$export", 403),
    get(23, "/Patient/$export", 403),
    get(24, "/Patient/bruno-vale/_history", 403),
    get(24, "/Observation/_history", 403),
    get(26, "/Patient/amara-osei?_format=xml", 406),
    get(26, "/Patient/amara-osei?_format=application/fhir%2Bxml", 406),
    get(26, "/Patient/amara-osei", 406).accepting("application/fhir+xml"),
    get(26, "/Patient/amara-osei", 406).accepting("text/html"),
    get(26, "/Patient/amara-osei", 406).accepting("text/turtle"),
    get(26, "/Patient/amara-osei", 406).accepting("application/fhir+ndjson"),
    get(25, "/Binary/amara-program-note-text", 406).accepting("application/pdf"),
    Case {
        heard: &["GET /Patient/amara-osei?"],
        ..get(26, "/Patient/amara-osei", 200).accepting("application/fhir+xml;q=0.2, application/fhir+json;q=0.9")
    },
    get(39, "/Patient/amara-osei/../bruno-vale", 400),
    get(39, "//Patient/amara-osei", 400),
    get(39, "/Patient%2Famara-osei", 400),
    get(39, "/Patient/amara-osei;x=1", 400),
    get(39, "/Patient/%2e%2e/Patient/bruno-vale", 400),
    get(39, "/Patient/amara-osei%00", 400),
    get(39, "/metadata/../Patient/bruno-vale", 400),
    get(39, "/Patient/amara-osei/", 400),
    get(39, "/patient/amara-osei", 404),
    get(39, "/Patient?q=/metadata", 400),
    get(33, "/Patient/amara-osei.", 403),
    get(33, "/Patient/amara", 403),
    get(33, "/Patient/Amara-Osei", 403),
    get(33, "/Patient/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 400),
];

impl Stage {
    fn token(&self, app: &App, change: impl FnOnce(&mut fhirwall::demo::authorization_server::Grant)) -> String {
        let mut grant = self.neighbours().grant(app);
        change(&mut grant);
        self.neighbours().issuer.mint(&grant).unwrap()
    }

    async fn ask(&self, case: &Case) -> Reply {
        let app = &self.neighbours().patient;
        let token = self.token(app, |grant| grant.scope = format!("openid fhirUser launch/patient {}", case.scope));
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("authorization", authorization.as_str())];
        if case.form.is_some() {
            headers.push(("content-type", FORM));
        }
        headers.extend(case.accept.map(|accept| ("accept", accept)));
        let method = Method::from_bytes(case.method.as_bytes()).unwrap();
        let body = case.form.unwrap_or_default().as_bytes().to_vec();
        app.client.send(method, &self.url(case.target), &headers, body).await.unwrap()
    }
}

/// A refusal without the number of its decision.
fn said(reply: &Reply) -> String {
    format!("{} {}", reply.status, reply.text().replace(reply.header("x-request-id"), "ID"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_never_reaches_the_ehr_and_what_is_not_does_as_it_was_decided() {
    let stage = Stage::set_on(unhurried).await;
    let mut refusals = Vec::new();
    stage.queries();
    for case in CASES {
        let reply = stage.ask(case).await;
        let Case { row, target, scope, .. } = case;
        assert_eq!(reply.status, case.status, "row {row}, {target} under {scope}: {}", reply.text());
        let heard: Vec<String> = stage.queries().iter().map(|query| query.replace("%3A", ":")).collect();
        // After what was asked for, the gateway looks up by `_id` what an answer refers to.
        let (asked, looked_up) = heard.split_at(case.heard.len().min(heard.len()));
        assert_eq!(asked, case.heard, "row {row}, {target} under {scope}");
        assert!(looked_up.iter().all(|query| !case.heard.is_empty() && query.contains("?_id=")), "{target}: {heard:?}");
        if case.status == 403 {
            refusals.push((case, said(&reply)));
        }
    }
    // Each refusal is the same before an empty EHR: nothing that is stored has been looked at.
    for record in stage.neighbours().records() {
        let (kind, id) = record.split_once('/').unwrap();
        stage.neighbours().ehr.delete(kind, id);
    }
    assert!(refusals.len() > 30, "{}", refusals.len());
    for (case, before) in refusals {
        assert_eq!(said(&stage.ask(case).await), before, "row {}, {}", case.row, case.target);
    }
    assert_eq!(stage.queries(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_1_another_patients_record_reads_like_none() {
    let stage = Stage::set().await;
    let own = stage.ask(&get(1, "/Observation/amara-blood-pressure-1", 200)).await;
    assert_eq!(own.status, 200, "{}", own.text());
    let other = stage.ask(&get(1, "/Observation/bruno-blood-pressure-1", 404)).await;
    let none = stage.ask(&get(1, "/Observation/there-is-none", 404)).await;
    assert_eq!(said(&other), said(&none));
    assert_eq!(other.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_6_an_include_that_reaches_another_patient_brings_nothing() {
    let stage = Stage::set().await;
    stage.neighbours().ehr.put(json!({
        "resourceType": "Observation", "id": "amara-by-bruno", "status": "final", "code": {"text": "weight"},
        "subject": {"reference": "Patient/amara-osei"},
        "performer": [{"reference": "Patient/bruno-vale"}, {"reference": "Practitioner/ines-okafor"}],
    }));
    let asked = "/Observation?_id=amara-by-bruno&_include=Observation:performer&_include=Observation:patient";
    let reply = stage.ask(&get(6, asked, 200)).await;
    assert_eq!(rows(&reply, "match"), ["Observation/amara-by-bruno"]);
    assert_eq!(rows(&reply, "include"), ["Patient/amara-osei", "Practitioner/ines-okafor"]);
    // Whatever an EHR thinks that such an include brings: another's row is not among it.
    let base = stage.neighbours().ehr.base_url();
    let row = |resource: Value, mode: &str| {
        let url = format!("{base}/{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        json!({"fullUrl": url, "resource": resource, "search": {"mode": mode}})
    };
    let named = |id: &str| json!({"reference": format!("Patient/{id}")});
    for (below, found) in [
        (
            "/Coverage?patient=amara-osei&_include=Coverage:subscriber",
            json!({"resourceType": "Coverage", "id": "c", "status": "active", "beneficiary": named("amara-osei"),
                "subscriber": named("bruno-vale"), "payor": [{"reference": "Organization/harbor-house"}]}),
        ),
        (
            "/Observation?patient=amara-osei&_include=Observation:focus",
            json!({"resourceType": "Observation", "id": "c", "status": "final", "code": {"text": "weight"},
                "subject": named("amara-osei"), "focus": [named("bruno-vale")]}),
        ),
        (
            "/Patient?_id=amara-osei&_include:iterate=Patient:link",
            json!({"resourceType": "Patient", "id": "amara-osei",
                "link": [{"other": named("bruno-vale"), "type": "seealso"}]}),
        ),
    ] {
        let kind = found["resourceType"].as_str().unwrap().to_owned();
        let own = format!("{kind}/{}", found["id"].as_str().unwrap());
        let bruno = stage.neighbours().ehr.resource("Patient", "bruno-vale").unwrap();
        let amara = stage.neighbours().ehr.resource("Patient", "amara-osei").unwrap();
        let mut entries = vec![row(found, "match"), row(bruno, "include")];
        if kind != "Patient" {
            entries.push(row(amara, "include"));
        }
        let page = json!({"resourceType": "Bundle", "type": "searchset", "entry": entries});
        stage.neighbours().ehr.misbehave(Some(&kind), Misbehaviour::Body(page.to_string().into_bytes()));
        let reply = stage.ask(&get(6, below, 200)).await;
        assert_eq!(rows(&reply, "match"), [own], "{below}");
        assert!(!rows(&reply, "include").contains(&"Patient/bruno-vale".to_owned()), "{below}: {}", reply.text());
        stage.neighbours().ehr.behave();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_versions_tell_a_silent_partner_nothing() {
    let stage = Stage::set().await;
    let silent = stage.research("/Condition/bruno-hypertension").await;
    assert_eq!(silent.status, 200);
    for header in ["etag", "last-modified", "content-location"] {
        assert_eq!(silent.header(header), "", "{header}");
    }
    // A marked one may write, and needs the version.
    let marked = stage.treatment("/Condition/bruno-hypertension").await;
    assert!(marked.header("etag").starts_with("W/"), "{:?}", marked.headers);
    assert_eq!(stage.research("/Condition/bruno-hypertension/_history/1").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_a_binary_follows_what_refers_to_it() {
    let stage = Stage::set().await;
    assert_eq!(stage.treatment("/Binary/amara-program-note-text").await.status, 200);
    let hidden = stage.treatment("/Binary/bruno-program-note-text").await;
    let none = stage.treatment("/Binary/there-is-none").await;
    assert_eq!(said(&hidden), said(&none));
    // Nothing refers to it: whose it is, and how protected, nobody knows.
    stage
        .neighbours()
        .ehr
        .put(json!({"resourceType": "Binary", "id": "loose", "contentType": "text/plain", "data": "eA=="}));
    assert_eq!(said(&stage.treatment("/Binary/loose").await), said(&none));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_bytes_with_two_readings_are_withheld() {
    let stage = Stage::set().await;
    let good = br#"{"resourceType":"Patient","id":"amara-osei"}"#;
    let utf16: Vec<u8> = String::from_utf8_lossy(good).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep =
        format!(r#"{{"resourceType":"Patient","id":"amara-osei","extension":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    let bodies: [Vec<u8>; 5] = [
        [b"\xef\xbb\xbf".as_slice(), good].concat(),
        utf16,
        deep.into_bytes(),
        [good.as_slice(), good].concat(),
        [b"\xff".as_slice(), good].concat(),
    ];
    stage.neighbours().ehr.misbehave(Some("Patient"), Misbehaviour::Body(good.to_vec()));
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
    for (number, body) in bodies.into_iter().enumerate() {
        stage.neighbours().ehr.misbehave(Some("Patient"), Misbehaviour::Body(body));
        assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 502, "{number}");
    }
    stage.neighbours().ehr.misbehave(Some("Patient"), Misbehaviour::Huge(200 << 20));
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_ids_are_compared_whole() {
    let stage = Stage::set().await;
    for id in ["1", "12", "123"] {
        stage.neighbours().ehr.put(json!({"resourceType": "Patient", "id": id}));
        stage.neighbours().ehr.put(json!({
            "resourceType": "Observation", "id": format!("of-{id}"), "status": "final", "code": {"text": "weight"},
            "subject": {"reference": format!("Patient/{id}")},
        }));
    }
    let app = &stage.neighbours().patient;
    let token = stage.token(app, |grant| {
        grant.patient = Some("12".to_owned());
        grant.fhir_user = Some("Patient/12".to_owned());
    });
    let ask = |below: &str| {
        let url = stage.url(below);
        async { app.client.get(&{ url }, &token).await.unwrap() }
    };
    assert_eq!(ask("/Patient/12").await.status, 200);
    assert_eq!(ask("/Observation/of-12").await.status, 200);
    for below in ["/Observation/of-1", "/Observation/of-123", "/Observation/of-1/_history/2"] {
        assert_eq!(ask(below).await.status, 404, "{below}");
    }
    for below in
        ["/Patient/1", "/Patient/123", "/Patient/1/_history/2", "/Observation?patient=1", "/Observation?patient=123"]
    {
        assert_eq!(ask(below).await.status, 403, "{below}");
    }
    assert_eq!(rows(&ask("/Observation").await, "match"), ["Observation/of-12"]);
    assert_eq!(ask("/Observation?subject=urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_38_each_scope_rules_in_its_own_context() {
    let stage = Stage::set_on(|neighbours| {
        let file = neighbours.dir().join("partners/recovery-path.yaml");
        replace(&file, "\"user/*.rs\"", "\"user/*.rs\", \"patient/*.rs\"");
    })
    .await;
    let app = &stage.neighbours().treatment;
    let token = stage.token(app, |grant| {
        grant.scope = "openid fhirUser launch/patient patient/Observation.rs user/Condition.rs".to_owned();
        grant.patient = Some("amara-osei".to_owned());
    });
    for (below, status) in [
        ("/Observation?patient=amara-osei", 200),
        ("/Observation?patient=bruno-vale", 403),
        ("/Condition?patient=bruno-vale", 200),
        ("/Condition/bruno-hypertension", 200),
        ("/Observation/bruno-blood-pressure-1", 404),
        ("/Observation/amara-blood-pressure-1", 200),
        ("/Encounter?patient=amara-osei", 403),
    ] {
        let reply = app.client.get(&stage.url(below), &token).await.unwrap();
        assert_eq!(reply.status, status, "{below}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_44_no_link_leads_behind_the_gateway_or_elsewhere() {
    let stage = Stage::set().await;
    let ehr = stage.neighbours().ehr.base_url();
    let bundle = |next: &str| {
        json!({
            "resourceType": "Bundle", "type": "searchset",
            "link": [{"relation": "self", "url": format!("{ehr}/Observation?x=1")}, {"relation": "next", "url": next}],
            "entry": [{
                "fullUrl": format!("{ehr}/Observation/o"),
                "resource": {
                    "resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "weight"},
                    "subject": {"reference": format!("{ehr}/Patient/dov-hart")},
                },
                "search": {"mode": "match"},
            }],
        })
    };
    let asked = "/Observation?patient=dov-hart";
    for (next, follows) in [
        (format!("{ehr}?_getpages=1"), true),
        (format!("{ehr}/Observation?page=2"), true),
        ("https://evil.example/fhir/Observation?page=2".to_owned(), false),
        ("http://169.254.169.254/latest/meta-data".to_owned(), false),
        (format!("{ehr}.evil.example/Observation?page=2"), false),
        (format!("{ehr}/../admin"), false),
        ("javascript:alert(1)".to_owned(), false),
    ] {
        stage
            .neighbours()
            .ehr
            .misbehave(Some("Observation"), Misbehaviour::Body(bundle(&next).to_string().into_bytes()));
        let reply = stage.treatment(asked).await;
        assert_eq!(rows(&reply, "match"), ["Observation/o"]);
        assert_eq!(link(&reply, "self").unwrap(), stage.url(asked));
        let shown = link(&reply, "next");
        assert_eq!(shown.is_some(), follows, "{next}");
        assert!(shown.is_none_or(|url| url.starts_with(&stage.url("/_page/"))));
        let text = reply.text();
        assert!(!text.contains(&ehr) && !text.contains("evil") && !text.contains("169.254"), "{text}");
        assert!(text.contains(&stage.url("/Observation/o")), "{text}");
    }
}

/// The resources of an answer at any depth, but those that stand in another.
fn resources(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            if let (Some(kind), Some(id)) = (text("resourceType"), text("id"))
                && kind != "Bundle"
            {
                found.push(format!("{kind}/{id}"));
            }
            members.iter().filter(|(name, _)| *name != "contained").for_each(|(_, value)| resources(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| resources(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_holds_what_a_lone_read_would_refuse() {
    let stage = Stage::set_on(unhurried).await;
    // A stored Bundle with everything in it, nested once more.
    let all: Vec<Value> = stage
        .neighbours()
        .records()
        .iter()
        .map(|record| record.split_once('/').unwrap())
        .map(|(kind, id)| json!({"resource": stage.neighbours().ehr.resource(kind, id).unwrap()}))
        .collect();
    let inner = json!({"resourceType": "Bundle", "id": "inner", "type": "collection", "entry": all});
    let outer = json!({"resourceType": "Bundle", "id": "outer", "type": "collection", "entry": [{"resource": inner}]});
    stage.neighbours().ehr.put(outer);
    let kinds = [
        "AllergyIntolerance",
        "Condition",
        "DocumentReference",
        "Encounter",
        "List",
        "MedicationRequest",
        "Observation",
        "Patient",
        "Provenance",
        "Practitioner",
        "Organization",
        "Composition",
    ];
    for app in stage.neighbours().apps() {
        let mut found = Vec::new();
        let asked = kinds
            .iter()
            .map(|kind| format!("/{kind}?_count=200"))
            .chain(["/Bundle/outer".to_owned(), "/Patient/amara-osei/$everything".to_owned()]);
        for below in asked {
            let reply = app.client.get(&stage.url(&below), &app.token).await.unwrap();
            if reply.status == 200 {
                resources(&reply.json(), &mut found);
            }
        }
        found.sort();
        found.dedup();
        assert!(found.len() >= 10, "{}: {found:?}", app.profile.client_id);
        for record in found {
            let alone = app.client.get(&stage.url(&format!("/{record}")), &app.token).await.unwrap();
            assert_eq!(
                alone.status,
                200,
                "{}: {record} is in an answer, and alone: {}",
                app.profile.client_id,
                alone.text()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_order_or_number_of_rows_each_verdict_is_the_same() {
    let stage = Stage::set_on(unhurried).await;
    let behind = stage.neighbours().behind_the_gateway().unwrap();
    let ehr = stage.neighbours().ehr.base_url();
    for kind in ["Condition", "Observation", "MedicationRequest"] {
        let url = format!("{ehr}/{kind}?patient=bruno-vale&_count=50");
        let bundle = behind.send(Method::GET, &url, &[], Vec::new()).await.unwrap().json();
        let rows_of = bundle["entry"].as_array().unwrap().clone();
        let expected = {
            let mut ids = rows(&stage.research(&format!("/{kind}?patient=bruno-vale")).await, "match");
            ids.sort();
            ids
        };
        assert!(expected.len() < rows_of.len(), "something is withheld");
        for turn in 0..rows_of.len() {
            let mut turned = rows_of.clone();
            turned.rotate_left(turn);
            if turn % 2 == 1 {
                turned.reverse();
            }
            if turn % 3 == 2 {
                // One row twice, at the other end.
                turned.push(turned[0].clone());
            }
            let mut answer = bundle.clone();
            answer["entry"] = Value::from(turned);
            stage.neighbours().ehr.misbehave(Some(kind), Misbehaviour::Body(answer.to_string().into_bytes()));
            let mut shown = rows(&stage.research(&format!("/{kind}?patient=bruno-vale&_count=50")).await, "match");
            shown.sort();
            shown.dedup();
            assert_eq!(shown, expected, "{kind}, turn {turn}");
        }
        stage.neighbours().ehr.behave();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_a_subscription_is_created_by_nobody_who_is_not_registered_for_it() {
    let stage = Stage::set().await;
    let body = json!({
        "resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Observation?code=F11.20",
        "channel": {"type": "rest-hook", "endpoint": "https://attacker.example/hook", "payload": "application/fhir+json"},
    });
    for app in stage.neighbours().apps() {
        let token = stage
            .token(app, |grant| grant.scope = format!("{} user/Subscription.c patient/Subscription.c", grant.scope));
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
        let url = stage.url("/Subscription");
        let reply = app.client.send(Method::POST, &url, &headers, body.to_string()).await.unwrap();
        assert_eq!(reply.status, 403, "{}: {}", app.profile.client_id, reply.text());
    }
    assert_eq!(stage.queries(), Vec::<String>::new());
}
