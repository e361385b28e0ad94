use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fhir_profiles::label::LabelSet;
use fhirwall_policy::consent::{ConsentOutcome, ConsentQuestion, evaluate};
use fhirwall_policy::purpose::PurposeOfUse;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;

const BASE: &str = "https://ehr.example/fhir";

/// A consent source in memory: what it answers to each GET, in turn; then again and again the last.
#[derive(Default)]
struct Fake {
    answers: Mutex<VecDeque<Result<Bytes, FetchFailed>>>,
    asked: Mutex<Vec<String>>,
    calls: AtomicUsize,
    gate: Option<Arc<Notify>>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

#[async_trait]
impl UpstreamFetch for Fake {
    async fn get(&self, path: &str, query: &str) -> Result<Bytes, FetchFailed> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(format!("{path}?{query}"));
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            let last = answers.len() == 1;
            if last { answers.front().cloned().unwrap() } else { answers.pop_front().unwrap() }
        };
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        answer
    }
}

fn answering(answers: impl IntoIterator<Item = Value>) -> Arc<Fake> {
    let answers = answers.into_iter().map(|body| Ok(Bytes::from(body.to_string()))).collect();
    Arc::new(Fake { answers: Mutex::new(answers), ..Fake::default() })
}

fn source(fake: &Arc<Fake>, settings: Settings) -> FetchedConsents {
    FetchedConsents::new(Arc::clone(fake) as Arc<dyn UpstreamFetch>, &[format!("{BASE}/")], settings)
}

fn id(text: &str) -> LogicalId {
    text.parse().unwrap()
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_780_000_000 + seconds).unwrap()
}

fn consent(id: &str, patient: &str, decision: &str) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": patient}, "dateTime": "2026-01-01", "provision": {"type": decision}
    })
}

fn searchset(consents: &[Value]) -> Value {
    let entries: Vec<Value> =
        consents.iter().map(|resource| json!({"resource": resource, "search": {"mode": "match"}})).collect();
    match entries.is_empty() {
        true => json!({"resourceType": "Bundle", "type": "searchset", "total": 0}),
        false => json!({"resourceType": "Bundle", "type": "searchset", "entry": entries}),
    }
}

fn with_next(mut bundle: Value, url: &str) -> Value {
    bundle["link"] = json!([{"relation": "self", "url": BASE}, {"relation": "next", "url": url}]);
    bundle
}

fn outcome(book: &ConsentBook, now: OffsetDateTime) -> ConsentOutcome {
    let kind = "Condition".parse().unwrap();
    evaluate(book, &ConsentQuestion::new(book.patient(), &[], PurposeOfUse::Treat, LabelSet::EMPTY, kind, now))
}

async fn ask(
    source: &FetchedConsents,
    patient: &str,
    now: OffsetDateTime,
) -> Result<ConsentOutcome, ConsentUnavailable> {
    let books = source.consents(&[id(patient)], now).await?;
    Ok(outcome(&books[&id(patient)], now))
}

fn permitted(by: &str) -> Result<ConsentOutcome, ConsentUnavailable> {
    Ok(ConsentOutcome::Permit { consents: vec![id(by)] })
}

fn denied(by: &str) -> Result<ConsentOutcome, ConsentUnavailable> {
    Ok(ConsentOutcome::Deny { consents: vec![id(by)] })
}

#[tokio::test]
async fn many_patients_are_asked_for_at_once_and_each_gets_its_own() {
    let fake = answering([searchset(&[consent("c1", "Patient/a", "permit"), consent("c2", "Patient/b", "deny")])]);
    let source = source(&fake, Settings::default());
    let books = source.consents(&[id("b"), id("a"), id("c"), id("a")], at(0)).await.unwrap();
    assert_eq!(outcome(&books[&id("a")], at(0)), permitted("c1").unwrap());
    assert_eq!(outcome(&books[&id("b")], at(0)), denied("c2").unwrap());
    assert_eq!(outcome(&books[&id("c")], at(0)), ConsentOutcome::Silent);
    assert_eq!(*fake.asked.lock().unwrap(), ["/Consent?patient=a,b,c&_count=200"]);
}

#[tokio::test]
async fn a_long_list_of_patients_is_asked_for_in_parts() {
    let fake = answering([searchset(&[])]);
    let source = source(&fake, Settings { patients_per_search: 2, ..Settings::default() });
    let patients = ["a", "b", "c", "d", "e"].map(id);
    assert_eq!(source.consents(&patients, at(0)).await.unwrap().len(), 5);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn all_pages_are_read() {
    let first = with_next(searchset(&[consent("c1", "Patient/a", "permit")]), "https://ehr.example/fhir?_getpages=1");
    let fake = answering([first, searchset(&[consent("c2", "Patient/a", "deny")])]);
    assert_eq!(ask(&source(&fake, Settings::default()), "a", at(0)).await, denied("c2"));
    assert_eq!(fake.asked.lock().unwrap()[1], "?_getpages=1");
}

#[tokio::test]
async fn what_was_fetched_is_used_until_its_time_is_over() {
    let fake = answering([searchset(&[consent("c1", "Patient/a", "permit")]), searchset(&[])]);
    let source = source(&fake, Settings::default());
    assert_eq!(ask(&source, "a", at(0)).await, permitted("c1"));
    assert_eq!(ask(&source, "a", at(29)).await, permitted("c1"));
    assert_eq!(ask(&source, "a", at(30)).await, Ok(ConsentOutcome::Silent));
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_has_no_consent_is_not_asked_for_again_at_once() {
    let fake = answering([searchset(&[])]);
    let source = source(&fake, Settings::default());
    for second in 0..10 {
        assert_eq!(ask(&source, "a", at(second)).await, Ok(ConsentOutcome::Silent));
    }
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_clock_set_back_makes_nothing_fresh() {
    let fake = answering([searchset(&[])]);
    let source = source(&fake, Settings::default());
    ask(&source, "a", at(100)).await.unwrap();
    ask(&source, "a", at(0)).await.unwrap();
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_revocation_that_was_told_holds_from_the_next_question() {
    for all in [false, true] {
        let fake = answering([searchset(&[consent("c1", "Patient/a", "permit")]), searchset(&[])]);
        let source = source(&fake, Settings::default());
        assert_eq!(ask(&source, "a", at(0)).await, permitted("c1"));
        let epoch = source.epoch();
        if all {
            source.changed_all()
        } else {
            source.changed(&id("a"))
        }
        assert!(source.epoch() > epoch);
        assert_eq!(ask(&source, "a", at(0)).await, Ok(ConsentOutcome::Silent));
    }
}

#[tokio::test]
async fn a_change_to_one_patient_leaves_the_others_kept() {
    let fake = answering([searchset(&[])]);
    let source = source(&fake, Settings::default());
    source.consents(&[id("a"), id("b")], at(0)).await.unwrap();
    source.changed(&id("a"));
    ask(&source, "b", at(1)).await.unwrap();
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
    ask(&source, "a", at(1)).await.unwrap();
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_was_asked_before_a_change_is_kept_for_nobody_and_joined_by_nobody() {
    let gate = Arc::new(Notify::new());
    let permit = Ok(Bytes::from(searchset(&[consent("c1", "Patient/a", "permit")]).to_string()));
    let nothing = Ok(Bytes::from(searchset(&[]).to_string()));
    let answers = Mutex::new(VecDeque::from([permit, nothing]));
    let fake = Arc::new(Fake { answers, gate: Some(Arc::clone(&gate)), ..Fake::default() });
    let source = Arc::new(source(&fake, Settings::default()));
    let (before, after) = (Arc::clone(&source), Arc::clone(&source));
    let before = tokio::spawn(async move { ask(&before, "a", at(0)).await });
    while fake.calls.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    source.changed(&id("a"));
    let after = tokio::spawn(async move { ask(&after, "a", at(0)).await });
    while fake.calls.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    gate.notify_one();
    gate.notify_waiters();
    assert_eq!(before.await.unwrap(), permitted("c1"));
    assert_eq!(after.await.unwrap(), Ok(ConsentOutcome::Silent));
    assert_eq!(ask(&source, "a", at(1)).await, Ok(ConsentOutcome::Silent));
}

#[tokio::test]
async fn one_question_is_asked_once_however_many_wait() {
    let gate = Arc::new(Notify::new());
    let answers = Mutex::new(VecDeque::from([Ok(Bytes::from(searchset(&[]).to_string()))]));
    let fake = Arc::new(Fake { answers, gate: Some(Arc::clone(&gate)), ..Fake::default() });
    let source = Arc::new(source(&fake, Settings { cache: Duration::ZERO, ..Settings::default() }));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move { ask(&source, "a", at(0)).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Ok(ConsentOutcome::Silent));
    }
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_source_that_is_down_is_unavailable_beyond_what_is_fresh_and_recovers() {
    let permit = || Ok(Bytes::from(searchset(&[consent("c1", "Patient/a", "permit")]).to_string()));
    let answers = VecDeque::from([permit(), Err(FetchFailed::Unreachable), permit()]);
    let fake = Arc::new(Fake { answers: Mutex::new(answers), ..Fake::default() });
    let source = source(&fake, Settings::default());
    assert_eq!(ask(&source, "a", at(0)).await, permitted("c1"));
    assert_eq!(ask(&source, "a", at(10)).await, permitted("c1"));
    assert_eq!(ask(&source, "a", at(40)).await, Err(ConsentUnavailable::Unreachable));
    assert_eq!(ask(&source, "a", at(41)).await, permitted("c1"));
}

#[tokio::test]
async fn one_unavailable_patient_makes_the_answer_unavailable() {
    let answers = VecDeque::from([Ok(Bytes::from(searchset(&[]).to_string())), Err(FetchFailed::Unreachable)]);
    let fake = Arc::new(Fake { answers: Mutex::new(answers), ..Fake::default() });
    let source = source(&fake, Settings::default());
    ask(&source, "a", at(0)).await.unwrap();
    assert_eq!(
        source.consents(&[id("a"), id("b")], at(1)).await.map(|books| books.len()),
        Err(ConsentUnavailable::Unreachable)
    );
}

#[tokio::test]
async fn a_source_that_does_not_answer_in_time_is_unavailable() {
    let answers = Mutex::new(VecDeque::from([Ok(Bytes::from(searchset(&[]).to_string()))]));
    let fake = Arc::new(Fake { answers, gate: Some(Arc::new(Notify::new())), ..Fake::default() });
    let source = source(&fake, Settings { deadline: Duration::ZERO, ..Settings::default() });
    assert_eq!(ask(&source, "a", at(0)).await, Err(ConsentUnavailable::TimedOut));
}

#[track_caller]
fn lies(answers: impl IntoIterator<Item = Value>, expected: ConsentUnavailable) {
    let fake = answering(answers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let settings = Settings { max_pages: 5, ..Settings::default() };
    assert_eq!(runtime.block_on(ask(&source(&fake, settings), "a", at(0))), Err(expected));
}

#[test]
fn a_lying_source_is_unavailable() {
    use ConsentUnavailable::{EndlessPages, ForeignConsent, ForeignPage, Incomplete, NotSearchset, Truncated};
    let permit = || consent("c1", "Patient/a", "permit");
    let next = |url: &str| with_next(searchset(&[permit()]), url);
    // another patient's
    lies([searchset(&[permit(), consent("c2", "Patient/b", "deny")])], ForeignConsent);
    lies([searchset(&[consent("c2", "Patient/aa", "permit")])], ForeignConsent);
    lies([searchset(&[consent("c2", "https://other.example/fhir/Patient/a", "permit")])], ForeignConsent);
    lies([searchset(&[consent("c2", "Group/a", "permit")])], ForeignConsent);
    // cut off
    let mut short = searchset(&[permit()]);
    short["total"] = json!(2);
    lies([short], Truncated);
    lies([searchset(&[permit(), permit()])], Truncated);
    // pages that do not end, or lie elsewhere
    lies([next("https://ehr.example/fhir?page=2"), next("https://ehr.example/fhir?page=2")], EndlessPages);
    lies([next("https://evil.example/fhir?page=2")], ForeignPage);
    lies([next("https://ehr.example/fhirx?page=2")], ForeignPage);
    lies([next("https://ehr.example/fhir@evil.example/?page=2")], ForeignPage);
    lies([next("https://ehr.example/fhir/../admin?page=2")], ForeignPage);
    lies([next("https://ehr.example/fhir/%2e%2e/admin?page=2")], ForeignPage);
    lies([next("https://ehr.example/fhir?page=2#x")], ForeignPage);
    lies([next("https://ehr.example/fhir?page=2\r\nX: y")], ForeignPage);
    // not a searchset of Consents
    lies([json!({"resourceType": "OperationOutcome", "issue": []})], NotSearchset);
    lies([json!({"resourceType": "Bundle", "type": "history"})], NotSearchset);
    lies([json!({"resourceType": "Bundle", "type": "searchset", "entry": [{"fullUrl": "urn:x"}]})], NotSearchset);
    lies([json!({"resourceType": "Bundle", "type": "searchset", "surprise": 1})], NotSearchset);
    let mode = |mode: &str, resource: Value| {
        json!({"resourceType": "Bundle", "type": "searchset",
        "entry": [{"resource": resource, "search": {"mode": mode}}]})
    };
    lies([mode("include", permit())], NotSearchset);
    let issue = |severity: &str| json!({"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "incomplete"}]});
    lies([mode("outcome", issue("warning"))], Incomplete);
    lies([mode("outcome", issue("error"))], Incomplete);
}

#[tokio::test]
async fn distinct_pages_without_end_are_bounded() {
    let pages = (0..100).map(|page| with_next(searchset(&[]), &format!("{BASE}?page={page}")));
    let fake = answering(pages);
    let source = source(&fake, Settings { max_pages: 5, ..Settings::default() });
    assert_eq!(ask(&source, "a", at(0)).await, Err(ConsentUnavailable::EndlessPages));
    assert!(fake.calls.load(Ordering::SeqCst) <= 6);
}

#[tokio::test]
async fn a_bundle_with_a_key_twice_is_unavailable() {
    let twice = r#"{"resourceType":"Bundle","type":"searchset","entry":[],"entry":[]}"#;
    let answers = Mutex::new(VecDeque::from([Ok(Bytes::from_static(twice.as_bytes()))]));
    let fake = Arc::new(Fake { answers, ..Fake::default() });
    assert_eq!(ask(&source(&fake, Settings::default()), "a", at(0)).await, Err(ConsentUnavailable::NotSearchset));
}

#[tokio::test]
async fn the_honest_neighbours_of_lies_are_believed() {
    let mut total = searchset(&[consent("c1", "https://ehr.example/fhir/Patient/a", "permit")]);
    total["total"] = json!(1);
    let information = json!({"resource": {"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]},
        "search": {"mode": "outcome"}});
    total["entry"].as_array_mut().unwrap().push(information);
    assert_eq!(ask(&source(&answering([total]), Settings::default()), "a", at(0)).await, permitted("c1"));
}

#[tokio::test]
async fn an_unreadable_consent_denies_its_patient_and_an_unattributable_one_all_who_were_asked_for() {
    let mut unreadable = consent("c1", "Patient/a", "permit");
    unreadable["modifierExtension"] = json!([{"url": "urn:x"}]);
    let source_of_a = source(&answering([searchset(&[unreadable.clone()])]), Settings::default());
    let books = source_of_a.consents(&[id("a"), id("b")], at(0)).await.unwrap();
    assert_eq!(outcome(&books[&id("a")], at(0)), denied("c1").unwrap());
    assert_eq!(outcome(&books[&id("b")], at(0)), ConsentOutcome::Silent);
    unreadable["patient"] = json!({"display": "somebody"});
    let source_of_any = source(&answering([searchset(&[unreadable])]), Settings::default());
    let books = source_of_any.consents(&[id("a"), id("b")], at(0)).await.unwrap();
    assert_eq!(outcome(&books[&id("a")], at(0)), denied("c1").unwrap());
    assert_eq!(outcome(&books[&id("b")], at(0)), denied("c1").unwrap());
}

#[tokio::test]
async fn nobody_is_asked_for_without_patients() {
    let fake = answering([searchset(&[])]);
    assert!(source(&fake, Settings::default()).consents(&[], at(0)).await.unwrap().is_empty());
    assert_eq!(fake.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_patient_and_no_consent_is_printed() {
    let fake = answering([searchset(&[consent("secret-c", "Patient/secret-p", "permit")])]);
    let source = source(&fake, Settings::default());
    let books = source.consents(&[id("secret-p")], at(0)).await.unwrap();
    let printed = format!("{source:?} {books:?} {}", ConsentUnavailable::ForeignConsent);
    assert!(!printed.contains("secret"), "{printed}");
}
