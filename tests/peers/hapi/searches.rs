//! Searches: the rows that HAPI finds, without the hidden ones, to the end of its pages.

use std::collections::BTreeSet;

use fhirwall::demo::apps::App;
use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::Value;

use super::{JSON, Stage, in_scope, link, rows, said, same_but_meta, tells};

type Row = (String, String);

/// What a search gave on all of its pages.
#[derive(Default)]
struct Found {
    matches: Vec<Row>,
    includes: Vec<Row>,
    pages: usize,
    totals: Vec<u64>,
    next: Vec<String>,
}

impl Found {
    /// Takes a page, and says where the next one is.
    fn take(&mut self, reply: &Reply) -> Option<String> {
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.matches.extend(rows(reply, "match"));
        for row in rows(reply, "include") {
            if !self.includes.contains(&row) {
                self.includes.push(row);
            }
        }
        self.pages += 1;
        self.totals.extend(reply.json()["total"].as_u64());
        let next = link(reply, "next");
        self.next.extend(next.clone());
        next
    }
}

fn names(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|(name, _)| name.as_str()).collect()
}

impl Stage {
    /// All pages of a search at HAPI itself.
    async fn direct(&self, below: &str) -> Found {
        let mut found = Found::default();
        let mut next = found.take(&self.stored(below).await);
        while let Some(url) = next {
            let below = url.strip_prefix(&self.hapi).unwrap_or_else(|| panic!("{url}")).to_owned();
            next = found.take(&self.stored(&below).await);
        }
        found
    }

    /// All pages through the gateway, from this first one on.
    async fn through(&self, app: &App, first: Reply) -> Found {
        let mut found = Found::default();
        let mut reply = first;
        loop {
            assert!(!reply.text().contains(&self.hapi), "HAPI's own base: {}", reply.text());
            let Some(url) = found.take(&reply) else { return found };
            assert!(url.starts_with(&self.url("/_page/")), "{url}");
            reply = self.get(app, &url).await;
        }
    }

    /// The rows that this app is to be shown of what HAPI finds.
    fn expected(app: &App, direct: Found) -> Found {
        let sees: BTreeSet<String> = app.profile.sees().into_iter().collect();
        let open = |rows: Vec<Row>| rows.into_iter().filter(|(name, _)| sees.contains(name)).collect::<Vec<_>>();
        let matches = open(direct.matches);
        let together = |one: &Row, other: &Row| one.1.contains(&format!("\"{}\"", other.0));
        let brought = |row: &Row| matches.iter().any(|found| together(found, row) || together(row, found));
        let includes = open(direct.includes).into_iter().filter(brought).collect();
        Found { matches, includes, ..direct }
    }

    /// Is each row as HAPI has it, less what is hidden in it?
    fn compare(app: &App, below: &str, shown: &[Row], expected: &[Row]) {
        let (who, sees) = (app.profile.client_id, app.profile.sees());
        assert_eq!(names(shown), names(expected), "{who} {below}");
        for ((name, shown), (_, stored)) in shown.iter().zip(expected) {
            let lawful = who == "pocket-chart" || (who == "recovery-path" && name.contains("amara"));
            match (tells(stored), lawful) {
                // A row that is brought in and not to be shown takes the references to it along.
                (None, _) if below.contains("_include") => {
                    assert!(shown == stored || same_but_meta(shown, stored, &sees), "{who} {below}: {shown}");
                }
                (None, _) => assert_eq!(shown, stored, "{who} {below}"),
                (Some(_), true) => assert!(same_but_meta(shown, stored, &sees), "{who} {below}: {shown}"),
                (Some(_), false) => assert_eq!(tells(shown), None, "{who} {below}: {shown}"),
            }
        }
    }
}

const SEARCHES: &[&str] = &[
    "/Condition?patient=bruno-vale",
    "/Condition?patient=amara-osei,bruno-vale,celia-moss,dov-hart&_count=3",
    "/Condition?code=http://hl7.org/fhir/sid/icd-10-cm%7CI10",
    "/Condition?code=I10,F11.20,F11.21",
    "/Condition?code=F11.20",
    "/Condition?subject=Patient/celia-moss&clinical-status=active",
    "/Condition?subject:Patient=dov-hart",
    "/Condition?recorded-date=ge2026-03-01&_sort=-recorded-date,_id&_count=4",
    "/Observation?patient=dov-hart&_sort=-date&_count=2",
    "/Observation?patient=bruno-vale&date=ge2026-03-01&_count=3",
    "/Observation?category=vital-signs&_count=5",
    "/Observation?status:not=amended&patient=celia-moss&_count=4",
    "/Observation?code=85354-9&component-code-value-quantity=8480-6$gt134",
    "/Patient?name=Osei",
    "/Patient?birthdate=1979-11-02",
    "/Patient?family:exact=Vale",
    "/Patient?name:contains=oss",
    "/Patient?_id=amara-osei,dov-hart",
    "/Patient?_lastUpdated=ge2020-01-01&_count=2",
    "/Patient?organization.name=Mill",
    "/Encounter?service-provider.name=Mill&_count=3",
    "/MedicationRequest?requester:Practitioner.family=Okafor",
    "/Condition?patient=bruno-vale&_include=Condition:subject",
    "/Patient?_id=bruno-vale&_revinclude=Condition:subject",
    "/Patient?_id=amara-osei,bruno-vale&_revinclude=Observation:patient&_count=1",
    "/MedicationRequest?patient=bruno-vale&_include=MedicationRequest:subject",
    "/MedicationRequest?patient=amara-osei&_include=MedicationRequest:requester",
    "/Encounter?patient=bruno-vale&_include=Encounter:service-provider",
    "/Condition?patient=bruno-vale&_include=Condition:encounter",
    "/AllergyIntolerance?criticality=high",
    "/AllergyIntolerance?patient=celia-moss",
    "/DocumentReference?patient=amara-osei",
    "/DocumentReference?patient=bruno-vale",
    "/List?patient=bruno-vale",
    "/Composition?patient=celia-moss",
    "/Provenance?target=Patient/bruno-vale",
    "/Consent?patient=amara-osei",
    "/Organization?name=Harbor",
    "/Practitioner?family=Lindqvist,Haddad",
];

/// Over records of patients: for those alone from whom none is withheld.
const CHAINS: &[&str] = &[
    "/Observation?patient.name=Vale&_count=3",
    "/Observation?patient:Patient.family=Moss&code=85354-9",
    "/Observation?subject:Patient.birthdate=1961-01-19",
    "/Patient?_has:Observation:patient:code=85354-9",
    "/Patient?_has:Condition:patient:code=F11.20",
];

#[tokio::test(flavor = "multi_thread")]
async fn hapi_every_search_gives_what_hapi_finds_without_what_is_hidden() {
    let Some(stage) = Stage::set().await else { return };
    for app in [&stage.world.treatment, &stage.world.research] {
        let (mut searches, mut shown, mut hidden, mut pages, mut refused) = (0, 0, 0, 0, 0);
        for below in SEARCHES {
            let first = stage.get(app, below).await;
            if first.status == 403 {
                let (kind, query) = below.split_once('?').unwrap_or((below, ""));
                // A chain asks of records that are not shown: to whom nothing is told it is not offered.
                let chained = query.split('&').any(|it| it.split('=').next().unwrap().contains(['.', '_']));
                assert!(!in_scope(app, kind) || chained, "{below}: {}", first.text());
                refused += 1;
                continue;
            }
            // What other tests wrote is judged like all else, and compared by nobody.
            let samples = stage.world.records();
            let mut direct = stage.direct(below).await;
            direct.matches.retain(|(name, _)| samples.contains(name));
            let all = direct.matches.len() + direct.includes.len();
            let expected = Stage::expected(app, direct);
            let mut found = stage.through(app, first).await;
            found.matches.retain(|(name, _)| samples.contains(name));
            Stage::compare(app, below, &found.matches, &expected.matches);
            let sorted = |mut rows: Vec<Row>| {
                rows.sort();
                rows
            };
            let (mine, theirs) = (sorted(found.includes), sorted(expected.includes));
            Stage::compare(app, below, &mine, &theirs);
            let withheld = all - found.matches.len() - mine.len();
            let silent = app.profile.client_id == "cohort-lens";
            assert!(found.totals.is_empty() || (withheld == 0 && !silent), "{below}: a total tells");
            // The same by POST.
            if let Some((kind, query)) = below.split_once('?').filter(|(kind, _)| kind.matches('/').count() == 1) {
                let headers = [("content-type", "application/x-www-form-urlencoded")];
                let form = format!("{kind}/_search");
                let first = stage.ask(app, app.profile.token_scope, Method::POST, &form, &headers, query).await;
                let mut posted = stage.through(app, first).await;
                posted.matches.retain(|(name, _)| samples.contains(name));
                Stage::compare(app, below, &posted.matches, &expected.matches);
                assert_eq!(posted.pages, found.pages);
            }
            searches += 1;
            shown += found.matches.len() + mine.len();
            hidden += withheld;
            pages += found.pages;
        }
        println!(
            "searches of {}: {searches} by GET and by POST, {shown} rows on {pages} pages, {hidden} of HAPI's rows hidden; \
             {refused} searches refused",
            app.profile.name
        );
    }
}

/// HAPI's JPA server searches in no compartment: what is asked of it is the search by type with the same rows.
#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_compartment_is_searched_where_hapi_searches_in_none() {
    let Some(stage) = Stage::set().await else { return };
    for (below, by_type) in [
        ("/Patient/bruno-vale/Condition", "/Condition?patient=bruno-vale"),
        (
            "/Patient/amara-osei/Observation?code=85354-9&_count=2",
            "/Observation?patient=amara-osei&code=85354-9&_count=2",
        ),
        ("/Patient/celia-moss/MedicationRequest", "/MedicationRequest?patient=celia-moss"),
    ] {
        assert_eq!(stage.hapi(Method::GET, below, &[], &Value::Null).await.status, 400);
        for app in [&stage.world.treatment, &stage.world.research] {
            let found = stage.through(app, stage.get(app, below).await).await;
            let same = stage.through(app, stage.get(app, by_type).await).await;
            assert_eq!(found.matches, same.matches, "{below}");
            assert!(!found.matches.is_empty());
            assert!(found.next.iter().all(|url| url.starts_with(&stage.url("/_page/"))));
            println!("{below} to {}: {} rows (400 at HAPI)", app.profile.name, found.matches.len());
        }
    }
}

/// Who sees every record gets every row of HAPI's, to the byte, by chains too.
#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_program_of_its_own_gets_every_row_that_hapi_finds() {
    let set = Stage::set_on(|neighbours, _| {
        let file = neighbours.dir().join("partners/recovery-path.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("basis: consent", "basis: program")).unwrap();
    });
    let Some(stage) = set.await else { return };
    let app = &stage.world.treatment;
    let all = stage.world.records();
    let (mut shown, mut pages) = (0, 0);
    for below in SEARCHES.iter().chain(CHAINS) {
        let direct = stage.direct(below).await;
        let found = stage.through(app, stage.get(app, below).await).await;
        assert_eq!(names(&found.matches), names(&direct.matches), "{below}");
        let sorted = |rows: &[Row]| names(rows).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(sorted(&found.includes), sorted(&direct.includes), "{below}");
        for (row, stored) in found.matches.iter().zip(&direct.matches) {
            assert!(row.1 == stored.1 || same_but_meta(&row.1, &stored.1, &all), "{below}: {}", row.1);
        }
        shown += found.matches.len() + found.includes.len();
        pages += found.pages;
    }
    println!("a program of its own: {shown} rows on {pages} pages, all that HAPI finds");
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_what_is_hidden_is_searched_like_what_is_absent() {
    let Some(stage) = Stage::set().await else { return };
    let app = &stage.world.research;
    for (hidden, absent) in [
        ("/Condition?patient=celia-moss&code=F11.20", "/Condition?patient=celia-moss&code=F10.10"),
        ("/Condition?code=F11.21", "/Condition?code=F10.21"),
        ("/Condition?_id=bruno-opioid-use", "/Condition?_id=bruno-opioid-xyz"),
        (
            "/List?patient=bruno-vale&item=Condition/bruno-opioid-use",
            "/List?patient=bruno-vale&item=Condition/bruno-opioid-xyz",
        ),
        ("/Patient?_has:Condition:patient:code=F11.20", "/Patient?_has:Condition:patient:code=F10.20"),
        ("/Patient?_has:Condition:subject:code=F11.21", "/Patient?_has:Condition:subject:code=F10.21"),
        ("/MedicationRequest?patient=bruno-vale&code=1010600", "/MedicationRequest?patient=bruno-vale&code=1010601"),
        ("/Observation?code=19295-5", "/Observation?code=19295-4"),
        (
            "/Observation?patient=bruno-vale&encounter=bruno-intake",
            "/Observation?patient=bruno-vale&encounter=bruno-outake",
        ),
    ] {
        let there = stage.direct(hidden).await.matches.len();
        let shape = |reply: &Reply| {
            let mut body: Value = serde_json::from_str(&said(reply)).unwrap();
            for member in ["id", "meta", "link"] {
                body[member] = Value::Null;
            }
            (reply.status, body.to_string(), reply.headers.keys().cloned().collect::<Vec<_>>())
        };
        let (one, other) = (stage.get(app, hidden).await, stage.get(app, absent).await);
        // A chain into a type whose records may be hidden is refused, whatever is there.
        assert_eq!(shape(&one), shape(&other), "{hidden}");
        println!(
            "HAPI finds {there}, {}: {hidden}",
            if one.status == 200 { "the app none" } else { "the app is refused" }
        );
    }
    // The neighbours of each, which are found.
    for (below, row) in [
        ("/Condition?patient=celia-moss&code=I10", "Condition/celia-hypertension"),
        ("/List?patient=bruno-vale&item=Condition/bruno-hypertension", "List/bruno-problems"),
        ("/MedicationRequest?patient=bruno-vale&code=314076", "MedicationRequest/bruno-lisinopril"),
    ] {
        assert_eq!(names(&rows(&stage.get(app, below).await, "match")), [row], "{below}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_everything_about_a_patient_is_there_but_for_what_is_hidden() {
    let Some(stage) = Stage::set().await else { return };
    for app in [&stage.world.treatment, &stage.world.research] {
        let silent = app.profile.client_id == "cohort-lens";
        let kinds = "Patient,Condition,Observation,MedicationRequest,AllergyIntolerance,List";
        for below in [
            format!("/Patient/bruno-vale/$everything?_type={kinds}"),
            format!("/Patient/bruno-vale/$everything?_type={kinds}&_count=4"),
        ] {
            let found = stage.through(app, stage.get(app, &below).await).await;
            let shown: BTreeSet<String> =
                found.matches.iter().chain(&found.includes).map(|row| row.0.clone()).collect();
            let sees = app.profile.sees();
            // HAPI gives rows of other types too, which the asked-for ones refer to.
            let whole = stage.direct(&below).await;
            let whole: BTreeSet<String> = whole.matches.into_iter().chain(whole.includes).map(|row| row.0).collect();
            let expected: BTreeSet<String> = whole.iter().filter(|name| sees.contains(name)).cloned().collect();
            assert_eq!(shown, expected, "{} {below}", app.profile.name);
            assert!(found.matches.iter().all(|(_, text)| tells(text).is_none()));
            assert!(found.totals.is_empty());
            println!("{below}: {} of {} rows on {} pages", shown.len(), whole.len(), found.pages);
        }
        if !silent {
            let all = stage.through(app, stage.get(app, "/Patient/bruno-vale/$everything").await).await;
            let whole = stage.direct("/Patient/bruno-vale/$everything").await;
            println!("all of it to {}: {} of {} rows", app.profile.name, all.matches.len(), whole.matches.len());
            assert!(all.matches.iter().chain(&all.includes).all(|(_, text)| tells(text).is_none()));
        }
    }
}

/// HAPI keeps what a search found for a minute, and answers the same search from it: a record written in that minute would
/// be missing, a label or a consent among them.
#[tokio::test(flavor = "multi_thread")]
async fn hapi_a_search_finds_what_was_written_a_moment_ago() {
    let Some(stage) = Stage::set().await else { return };
    let app = &stage.world.treatment;
    let below = "/AllergyIntolerance?patient=dov-hart";
    let before = rows(&stage.get(app, below).await, "match").len();
    let id = format!("dov-{}", time::OffsetDateTime::now_utc().unix_timestamp());
    stage
        .put(&serde_json::json!({
            "resourceType": "AllergyIntolerance", "id": id, "patient": {"reference": "Patient/dov-hart"},
            "code": {"text": "latex"},
        }))
        .await;
    assert_eq!(rows(&stage.get(app, below).await, "match").len(), before + 1);
    let gone =
        stage.hapi(Method::DELETE, &format!("/AllergyIntolerance/{id}"), &[("accept", JSON)], &Value::Null).await;
    assert!(gone.status.is_success());
    assert_eq!(rows(&stage.get(app, below).await, "match").len(), before);
}
