//! Searches: pages that tell nothing, rows that are no oracle, and what the EHR is asked.

use std::path::Path;

use fhirwall::demo::client::Reply;
use fhirwall::demo::world::Neighbours;
use serde_json::{Value, json};

use crate::Stage;

pub(crate) const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
pub(crate) const INLINE_LABEL: &str =
    "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";

/// A configuration in which no caller meets a rate limit.
pub(crate) fn unhurried(neighbours: &Neighbours) {
    replace(&neighbours.config_file(), "audit: {dir", "limits: {user: {requests_per_second: 5000}}\naudit: {dir");
    for app in ["recovery-path", "cohort-lens", "pocket-chart"] {
        let file = neighbours.dir().join("partners").join(format!("{app}.yaml"));
        replace(&file, "requests_per_second: 50", "requests_per_second: 5000");
    }
}

pub(crate) fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {}", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// The rows of an answer by their mode, as `Type/id`.
pub(crate) fn rows(reply: &Reply, mode: &str) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let bundle = reply.json();
    let rows = bundle["entry"].as_array().into_iter().flatten().filter(|entry| entry["search"]["mode"] == mode);
    rows.map(|entry| {
        let text = |name: &str| entry["resource"][name].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("resourceType"), text("id"))
    })
    .collect()
}

pub(crate) fn link(reply: &Reply, relation: &str) -> Option<String> {
    let bundle = reply.json();
    let links = bundle["link"].as_array()?.iter().find(|link| link["relation"] == relation)?;
    Some(links["url"].as_str()?.to_owned())
}

impl Stage {
    /// The queries that the EHR has been asked since the last look, with their paths.
    pub(crate) fn queries(&self) -> Vec<String> {
        let seen = self.neighbours().ehr.log();
        self.neighbours().ehr.forget();
        let others = seen.iter().filter(|request| !request.path.contains("/Consent"));
        others
            .map(|request| {
                let path = request.path.strip_prefix("/fhir").unwrap_or(&request.path);
                let form = String::from_utf8_lossy(&request.body);
                format!("{} {path}?{}{form}", request.method, request.query.as_deref().unwrap_or_default())
            })
            .collect()
    }

    async fn follow(&self, url: &str) -> Reply {
        let app = &self.neighbours().research;
        app.client.get(url, &app.token).await.expect("an answer")
    }

    /// Observations of Dov Hart, hidden where the pattern says so. Their ids are in the order in which the EHR gives them.
    fn put_observations(&self, hidden: &[bool]) {
        for (at, hidden) in hidden.iter().enumerate() {
            let labels = if *hidden { json!([{"system": ACT_CODE, "code": "42CFRPart2"}]) } else { json!([]) };
            let mut row = json!({
                "resourceType": "Observation", "id": format!("row-{at:03}"), "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
                "subject": {"reference": "Patient/dov-hart"},
            });
            if *hidden {
                row["meta"] = json!({"security": labels});
            }
            self.neighbours().ehr.put(row);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_full_and_every_row_comes_once() {
    const SIZE: usize = 5;
    let stage = Stage::set_on(unhurried).await;
    // A pseudo-random pattern, one with long gaps, and the extremes.
    let mut seed = 7u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 24
    };
    let patterns: [Vec<bool>; 5] = [
        (0..43).map(|_| random() < 110).collect(),
        (0..43).map(|at| at % 2 == 0).collect(),
        (0..43).map(|at| (4..17).contains(&at)).collect(),
        vec![false; 43],
        vec![true; 43],
    ];
    for (number, hidden) in patterns.iter().enumerate() {
        stage.put_observations(hidden);
        let expected: Vec<String> = hidden
            .iter()
            .enumerate()
            .filter(|(_, hidden)| !**hidden)
            .map(|(at, _)| format!("Observation/row-{at:03}"))
            .collect();
        let asked = format!("/Observation?patient=dov-hart&code=29463-7&_count={SIZE}");
        let mut reply = stage.research(&asked).await;
        let mut seen = Vec::new();
        loop {
            let queries = stage.queries();
            assert!(queries.len() <= 5, "pattern {number}: {queries:?}");
            let page = rows(&reply, "match");
            let next = link(&reply, "next");
            let own = link(&reply, "self").unwrap();
            assert_eq!(own, stage.url(&asked), "pattern {number}");
            assert!(!reply.text().contains("42CFRPart2"), "{}", reply.text());
            assert!(reply.json().get("total").is_none());
            match &next {
                // Five pages of the EHR held less than one of ours.
                Some(_) if queries.len() == 5 => assert!(page.len() <= SIZE),
                Some(_) => assert_eq!(page.len(), SIZE, "pattern {number}: {queries:?}"),
                None => assert!(page.len() <= SIZE),
            }
            seen.extend(page);
            match next {
                Some(url) => reply = stage.follow(&url).await,
                None => break,
            }
        }
        assert_eq!(seen, expected, "pattern {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refill_pages_bounds_what_one_page_costs() {
    let stage = Stage::set_on(|neighbours| {
        unhurried(neighbours);
        replace(&neighbours.config_file(), "limits: {", "limits: {refill_pages: 1, ");
    })
    .await;
    stage.put_observations(&[true; 20]);
    stage.queries();
    let reply = stage.research("/Observation?patient=dov-hart&code=29463-7&_count=2").await;
    assert_eq!(stage.queries().len(), 2);
    assert_eq!(rows(&reply, "match"), Vec::<String>::new());
    assert!(link(&reply, "next").is_some(), "what was not read yet can be asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_link_of_a_form_goes_to_the_ehr_as_a_form() {
    let stage = Stage::set_on(unhurried).await;
    stage.put_observations(&[false, true, false, false, false, false]);
    let app = &stage.neighbours().research;
    let authorization = format!("Bearer {}", app.token);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let url = stage.url("/Observation/_search");
    let body = "patient=dov-hart&code=29463-7&_count=3";
    stage.queries();
    let reply = app.client.send(http::Method::POST, &url, &headers, body).await.unwrap();
    assert_eq!(rows(&reply, "match"), ["Observation/row-000", "Observation/row-002", "Observation/row-003"]);
    assert!(stage.queries()[0].starts_with("POST /Observation/_search?patient="));
    let next = link(&reply, "next").unwrap();
    let reply = stage.follow(&next).await;
    assert_eq!(rows(&reply, "match"), ["Observation/row-004", "Observation/row-005"]);
    for query in stage.queries() {
        assert!(!query.starts_with("GET /Observation?"), "the criteria stand in no URL: {query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_included_row_goes_with_the_row_that_brought_it() {
    let stage = Stage::set().await;
    let shown = stage.research("/Condition?patient=bruno-vale&code=I10&_include=Condition:subject").await;
    assert_eq!(rows(&shown, "match"), ["Condition/bruno-hypertension"]);
    assert_eq!(rows(&shown, "include"), ["Patient/bruno-vale"]);
    // His protected diagnoses match, and are withheld: that he has one is what the criterion asks.
    let hidden = stage.research("/Condition?patient=bruno-vale&code=F11.20,F11.21&_include=Condition:subject").await;
    let none = stage.research("/Condition?patient=bruno-vale&code=Z99.99&_include=Condition:subject").await;
    assert_eq!(same_but_names(&hidden), same_but_names(&none));
    assert_eq!(hidden.body.len() + "Z99.99".len(), none.body.len() + "F11.20,F11.21".len());
    let reverse = stage.research("/Patient?_id=bruno-vale&_revinclude=Condition:subject").await;
    assert_eq!(rows(&reverse, "include"), ["Condition/bruno-hypertension"]);
}

/// An answer without what names this one request.
fn same_but_names(reply: &Reply) -> Value {
    let mut bundle = reply.json();
    bundle["id"] = Value::Null;
    bundle["meta"] = Value::Null;
    bundle["link"] = Value::Null;
    json!([reply.status.as_u16(), bundle])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_diagnosis_is_searched_like_an_absent_one() {
    let stage = Stage::set().await;
    // A partner who is told nothing sees an empty page, and the same one.
    let asked = |code: &str| format!("/Condition?patient=celia-moss&code={code}");
    let (hidden, absent) = (stage.research(&asked("F11.20")).await, stage.research(&asked("F10.10")).await);
    assert_eq!(same_but_names(&hidden), same_but_names(&absent));
    assert_eq!(hidden.body.len(), absent.body.len());
    let names = |reply: &Reply| reply.headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&hidden), names(&absent));
    assert_eq!(rows(&stage.research(&asked("I10")).await, "match"), ["Condition/celia-hypertension"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_matched_by_a_hidden_element_is_not_shown() {
    let stage = Stage::set().await;
    let category = |code: &str, extension: Value| {
        let mut category = json!({"coding": [{"system": "http://example.org/category", "code": code}]});
        if !extension.is_null() {
            category["extension"] = extension;
        }
        category
    };
    let inline = json!([{"url": INLINE_LABEL, "valueCoding": {"system": ACT_CODE, "code": "42CFRPart2"}}]);
    stage.neighbours().ehr.put(json!({
        "resourceType": "Condition", "id": "dov-two-categories",
        "meta": {"security": [{"system": ACT_CODE, "code": "PROCESSINLINELABEL"}]},
        "category": [category("encounter-diagnosis", Value::Null), category("program", inline)],
        "code": {"text": "sprain"}, "subject": {"reference": "Patient/dov-hart"},
    }));
    let row = ["Condition/dov-two-categories"];
    // The element is taken out of the record, and the record is shown.
    let open = stage.research("/Condition?patient=dov-hart&category=encounter-diagnosis").await;
    assert_eq!(rows(&open, "match"), row);
    assert!(!open.text().contains("program"), "{}", open.text());
    assert_eq!(stage.research("/Condition/dov-two-categories").await.status, 200);
    // By the element that is taken out it is not found.
    stage.queries();
    let hidden = stage.research("/Condition?patient=dov-hart&category=program").await;
    let absent = stage.research("/Condition?patient=dov-hart&category=there-is-none").await;
    assert_eq!(same_but_names(&hidden), same_but_names(&absent));
    assert_eq!(stage.queries().len(), 2, "the EHR was asked, and found it once");
    // An order by it would tell as much: then the row is absent too.
    let hart = rows(&stage.research("/Condition?patient=dov-hart").await, "match");
    assert!(hart.contains(&row[0].to_owned()));
    let ordered = rows(&stage.research("/Condition?patient=dov-hart&_sort=category").await, "match");
    assert!(!ordered.contains(&row[0].to_owned()), "{ordered:?}");
    assert!(!ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_not_found_by_its_reference_to_a_hidden_record() {
    let stage = Stage::set().await;
    // His problem list names a protected diagnosis, which is taken out of it.
    let found = |item: &str| format!("/List?patient=bruno-vale&item=Condition/{item}");
    assert_eq!(rows(&stage.research(&found("bruno-hypertension")).await, "match"), ["List/bruno-problems"]);
    let hidden = stage.research(&found("bruno-opioid-use")).await;
    let absent = stage.research(&found("bruno-there-is-no")).await;
    assert_eq!(same_but_names(&hidden), same_but_names(&absent));
    assert_eq!(stage.research("/List/bruno-problems").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_is_told_only_where_every_row_was_seen_and_none_differs() {
    let stage = Stage::set().await;
    let total = |reply: &Reply| reply.json().get("total").and_then(Value::as_u64);
    // Marked: all of his ordinary records, none withheld.
    assert_eq!(total(&stage.treatment("/AllergyIntolerance?patient=bruno-vale").await), Some(1));
    // Bruno has consented to nothing: two of his conditions are withheld.
    let conditions = stage.treatment("/Condition?patient=bruno-vale").await;
    assert_eq!(total(&conditions), None, "{}", conditions.text());
    // Not every row was seen.
    assert_eq!(total(&stage.treatment("/Observation?patient=dov-hart&_count=2").await), None);
    // Silent: never.
    assert_eq!(total(&stage.research("/AllergyIntolerance?patient=bruno-vale").await), None);
    stage.queries();
    for query in ["_summary=count", "_count=0", "_total=accurate"] {
        let reply = stage.treatment(&format!("/AllergyIntolerance?patient=bruno-vale&{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.text().contains("not-supported"), "{}", reply.text());
    }
    assert_eq!(stage.queries(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_silent_partner_may_never_see_is_excluded_at_the_source() {
    let stage = Stage::set_on(|neighbours| {
        unhurried(neighbours);
        replace(&neighbours.config_file(), "timeout: 10s", "timeout: 10s\n      security_not: true");
    })
    .await;
    let hidden: Vec<bool> = (0..30).map(|at| at % 3 != 0).collect();
    stage.put_observations(&hidden);
    stage.queries();
    let asked = "/Observation?patient=dov-hart&code=29463-7&_count=5";
    let reply = stage.research(asked).await;
    let queries = stage.queries();
    assert_eq!(queries.len(), 1, "no page has to be filled: {queries:?}");
    assert!(queries[0].contains("_security%3Anot=http"), "{queries:?}");
    assert!(queries[0].contains("42CFRPart2"), "{queries:?}");
    assert_eq!(rows(&reply, "match").len(), 5);
    assert_eq!(link(&reply, "self").unwrap(), stage.url(asked));
    assert!(!reply.text().contains("_security"), "{}", reply.text());
    // What no label says is still judged as it comes.
    let conditions = stage.research("/Condition?patient=bruno-vale").await;
    assert_eq!(rows(&conditions, "match"), ["Condition/bruno-hypertension"]);
    stage.queries();
    // A marked partner is told that something is withheld: its rows have to come.
    let marked = stage.treatment("/Condition?patient=bruno-vale").await;
    assert!(!stage.queries().iter().any(|query| query.contains("_security")));
    assert!(marked.text().contains("Some information was withheld"), "{}", marked.text());
    // And whoever may see some of it is asked for all of it.
    let app = &stage.neighbours().patient;
    let own = app.client.get(&stage.url("/Condition?patient=amara-osei"), &app.token).await.unwrap();
    assert!(rows(&own, "match").contains(&"Condition/amara-opioid-use".to_owned()));
    assert!(!stage.queries().iter().any(|query| query.contains("_security")));
}
