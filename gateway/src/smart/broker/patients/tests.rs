use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;

use super::*;

/// An EHR that answers by URL; what it does not know is not there.
#[derive(Debug, Default)]
struct Ehr {
    answers: HashMap<String, Result<Value, FetchFailed>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl UpstreamFetch for Ehr {
    async fn get(&self, path: &str, query: &str) -> Result<Bytes, FetchFailed> {
        let url = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        self.asked.lock().unwrap().push(url.clone());
        let answer = self.answers.get(&url).cloned().unwrap_or(Err(FetchFailed::Unusable));
        answer.map(|body| Bytes::from(body.to_string()))
    }
}

const BY_PRACTITIONER: &str = "/Patient?general-practitioner=Practitioner/p&_count=50";

fn ehr(answers: &[(&str, Result<Value, FetchFailed>)]) -> EhrPatients {
    let answers = answers.iter().map(|(url, answer)| ((*url).to_owned(), answer.clone())).collect();
    EhrPatients::new(Arc::new(Ehr { answers, ..Ehr::default() }))
}

async fn list(directory: &EhrPatients, kind: &str, id: &str) -> Result<Vec<(String, String)>, DirectoryUnavailable> {
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap(); // 2027-01-15
    let listed = directory.patients_of(kind, &id.parse().unwrap(), now).await?;
    Ok(listed.choices.into_iter().map(|choice| (choice.id, choice.label)).collect())
}

fn patient(id: &str, change: impl Fn(&mut Value)) -> Value {
    let mut patient = json!({"resourceType": "Patient", "id": id, "birthDate": "1987-04-12",
        "name": [{"use": "old", "text": "Maiden Name"}, {"use": "official", "given": ["Ada", "B."], "family": id}]});
    change(&mut patient);
    patient
}

fn bundle(patients: Vec<Value>) -> Value {
    let entries: Vec<Value> = patients.into_iter().map(|patient| json!({"resource": patient})).collect();
    json!({"resourceType": "Bundle", "type": "searchset", "entry": entries})
}

#[tokio::test]
async fn a_practitioner_s_own_patients_are_listed_by_name_and_birth_date() {
    let directory = ehr(&[(BY_PRACTITIONER, Ok(bundle(vec![patient("zoe", |_| ()), patient("amy", |_| ())])))]);
    let listed = list(&directory, "Practitioner", "p").await.unwrap();
    let named = |id: &str| (id.to_owned(), format!("Ada B. {id}, born 1987-04-12"));
    assert_eq!(listed, vec![named("amy"), named("zoe")]);
    for kind in ["Person", "Patient", "Organization", "Device"] {
        assert_eq!(list(&directory, kind, "p").await, Ok(Vec::new()), "{kind}");
    }
}

#[tokio::test]
async fn a_labelled_a_retired_and_a_nameless_record_stay_off_the_list() {
    let label = |system: &'static str, code: &'static str| {
        move |patient: &mut Value| patient["meta"] = json!({"security": [{"system": system, "code": code}]})
    };
    let confidentiality = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
    let act = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
    let hidden = vec![
        patient("restricted", label(confidentiality, "R")),
        patient("part2", label(act, "42CFRPart2")),
        patient("odd", label("urn:other", "N")),
        patient("mis-shaped", |patient| patient["meta"] = json!({"security": {"code": "N"}})),
        patient("retired", |patient| patient["active"] = json!(false)),
        patient("nameless", |patient| patient["name"] = json!([])),
        json!({"resourceType": "Person", "id": "person", "name": [{"text": "A Person"}]}),
    ];
    let mut all = hidden;
    all.push(patient("normal", label(confidentiality, "N")));
    let listed = list(&ehr(&[(BY_PRACTITIONER, Ok(bundle(all)))]), "Practitioner", "p").await.unwrap();
    assert_eq!(listed.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["normal"]);
}

#[tokio::test]
async fn a_related_person_sees_the_one_patient_while_the_relation_stands() {
    let person = |change: fn(&mut Value)| {
        let mut person = json!({"resourceType": "RelatedPerson", "id": "r", "patient": {"reference": "Patient/kim"}});
        change(&mut person);
        person
    };
    type Case = (&'static str, fn(&mut Value), usize);
    let cases: &[Case] = &[
        ("standing", |_| (), 1),
        ("within its period", |p| p["period"] = json!({"start": "2026", "end": "2027-01-15"}), 1),
        ("ended", |p| p["period"] = json!({"end": "2027-01-14"}), 0),
        ("ended last year", |p| p["period"] = json!({"end": "2026"}), 0),
        ("not begun", |p| p["period"] = json!({"start": "2027-02"}), 0),
        ("unreadable period", |p| p["period"] = json!({"end": 2027}), 0),
        ("not active", |p| p["active"] = json!(false), 0),
        ("of another server", |p| p["patient"] = json!({"reference": "https://other.example/fhir/Patient/kim"}), 0),
        ("another record", |p| p["id"] = json!("s"), 0),
    ];
    for (name, change, expected) in cases {
        let directory = ehr(&[("/RelatedPerson/r", Ok(person(*change))), ("/Patient/kim", Ok(patient("kim", |_| ())))]);
        assert_eq!(list(&directory, "RelatedPerson", "r").await.unwrap().len(), *expected, "{name}");
    }
    assert_eq!(list(&ehr(&[]), "RelatedPerson", "r").await, Ok(Vec::new()), "not there");
}

#[tokio::test]
async fn an_ehr_that_cannot_say_is_no_empty_list() {
    for answer in [
        Err(FetchFailed::Unreachable),
        Err(FetchFailed::TimedOut),
        Err(FetchFailed::Unusable),
        Ok(json!({"resourceType": "OperationOutcome"})),
        Ok(json!([])),
    ] {
        assert_eq!(list(&ehr(&[(BY_PRACTITIONER, answer)]), "Practitioner", "p").await, Err(DirectoryUnavailable));
    }
    let related = ehr(&[("/RelatedPerson/r", Err(FetchFailed::Unreachable))]);
    assert_eq!(list(&related, "RelatedPerson", "r").await, Err(DirectoryUnavailable));
}

#[tokio::test]
async fn a_long_list_is_cut_and_says_so() {
    let many = (0..60).map(|at| patient(&format!("p{at:02}"), |_| ())).collect();
    let directory = ehr(&[(BY_PRACTITIONER, Ok(bundle(many)))]);
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let listed = directory.patients_of("Practitioner", &"p".parse().unwrap(), now).await.unwrap();
    assert_eq!((listed.choices.len(), listed.cut), (MOST, true));
    let mut more = bundle(vec![patient("a", |_| ())]);
    more["link"] = json!([{"relation": "next", "url": "https://ehr/page2"}]);
    let listed = ehr(&[(BY_PRACTITIONER, Ok(more))]);
    assert!(listed.patients_of("Practitioner", &"p".parse().unwrap(), now).await.unwrap().cut);
}
