//! The two public SMART clients, unchanged, through launch, token, data and refresh, in front and broker mode.

use fhirwall::audit::read::{self, Entry, Filter};
use serde_json::Value;

use crate::browser::{Browser, Person};
use crate::processes::{Packages, Peer, script};
use crate::site::{CLIENT, Ground, Mode, NOWHERE, Site};

const SCOPE: &str = "openid fhirUser launch/patient patient/*.rs offline_access";
/// The sample EHR knows this patient; the provider believes whoever signs in.
pub(crate) const AMARA: Person<'_> = Person { login: "amara-osei", patient: None, unticks: None };

/// The JavaScript app, and where it listens.
pub(crate) async fn javascript(packages: &Packages, ground: &Ground, scope: &str) -> (Peer, String) {
    let mut command = packages.script("app.cjs");
    command.env("NODE_EXTRA_CA_CERTS", ground.ca_file()).env("APP_CLIENT_ID", CLIENT).env("APP_SCOPE", scope);
    let mut app = Peer::start(command);
    let address = app.line().await;
    (app, address)
}

async fn with_javascript(mode: Mode, person: Person<'_>) -> Option<(Site, Value, String)> {
    Some(javascript_on(Ground::lay().await, &Packages::found()?, mode, person).await)
}

/// Somebody signs in at the JavaScript app: what it was told, and the page that asked for consent.
pub(crate) async fn javascript_on(
    ground: Ground,
    packages: &Packages,
    mode: Mode,
    person: Person<'_>,
) -> (Site, Value, String) {
    let (_app, address) = javascript(packages, &ground, SCOPE).await;
    let site = ground.open(packages, mode, &format!("{address}/cb")).await;
    let mut browser = Browser::new(site.world.anonymous().unwrap());
    let start = format!("{address}/launch?iss={}", site.base);
    let (back, consent) = browser.sign_in(&start, person, &format!("{address}/cb")).await;
    let told = browser.get(&back).await;
    (site, serde_json::from_slice(&told.body).unwrap_or_else(|_| panic!("{}", told.text())), consent)
}

async fn with_python(mode: Mode) -> Option<Value> {
    python_on(Ground::lay().await, &Packages::found()?, mode).await
}

/// Amara signs in at the Python app: what it was told. `None` without a Python that has the client.
pub(crate) async fn python_on(ground: Ground, packages: &Packages, mode: Mode) -> Option<Value> {
    let python = packages.python()?;
    let ca = ground.ca_file();
    let site = ground.open(packages, mode, "http://127.0.0.1:10/cb").await;
    let mut command = tokio::process::Command::new(python);
    command.arg(script("app.py")).args([&site.base, CLIENT, NOWHERE, SCOPE]).env("REQUESTS_CA_BUNDLE", ca);
    let mut app = Peer::start(command);
    let start = app.line().await;
    let mut browser = Browser::new(site.world.anonymous().unwrap());
    let (back, _) = browser.sign_in(&start, AMARA, NOWHERE).await;
    app.tell(&back).await;
    Some(serde_json::from_str(&app.line().await).unwrap())
}

#[track_caller]
pub(crate) fn read_her_own_record(told: &Value) {
    assert_eq!((&told["patient"], &told["family"]), (&"amara-osei".into(), &"Osei".into()), "{told}");
    assert!(told["observations"].as_u64().unwrap() > 0, "{told}");
}

#[tokio::test]
async fn fhirclient_for_javascript_works_unchanged_in_front_mode() {
    let Some((_site, told, _)) = with_javascript(Mode::Front, AMARA).await else { return };
    read_her_own_record(&told);
    assert_eq!(told["scope"].as_str().unwrap().split(' ').filter(|one| *one == "patient/*.rs").count(), 1);
}

#[tokio::test]
async fn fhirclient_for_javascript_works_unchanged_in_broker_mode() {
    let Some((_site, told, consent)) = with_javascript(Mode::Broker, AMARA).await else { return };
    read_her_own_record(&told);
    assert_eq!(told["scope"], SCOPE);
    assert_eq!(told["refreshed"], true, "the refresh token counts, and the provider still knows the user");
    assert!(consent.contains("Pocket Chart") && consent.contains("See health records of every kind"));
}

#[tokio::test]
async fn what_the_user_unticks_the_app_does_not_get() {
    let person = Person { unticks: Some("Keep this access"), ..AMARA };
    let Some((_site, told, _)) = with_javascript(Mode::Broker, person).await else { return };
    read_her_own_record(&told);
    assert_eq!(told["scope"], "openid fhirUser launch/patient patient/*.rs");
    assert_eq!(told["refreshed"], false);
}

#[tokio::test]
async fn a_clinician_picks_one_of_her_own_patients_and_the_list_is_on_record() {
    // The sample EHR has one patient of this practitioner; the provider takes logins that begin with `dr` for clinicians.
    let person = Person { login: "dr-ines", patient: Some("bruno-vale"), unticks: None };
    let Some(packages) = Packages::found() else { return };
    let ground = Ground::lay().await;
    ground.links_patients_to("Practitioner/dr-ines", &["amara-osei", "bruno-vale"]);
    let (_app, address) = javascript(&packages, &ground, SCOPE).await;
    let site = ground.open(&packages, Mode::Broker, &format!("{address}/cb")).await;
    let mut browser = Browser::new(site.world.anonymous().unwrap());
    let start = format!("{address}/launch?iss={}", site.base);
    let (back, consent) = browser.sign_in(&start, person, &format!("{address}/cb")).await;
    assert!(consent.contains("Whose record?") && consent.contains("Amara") && consent.contains("Bruno"), "{consent}");
    let told: Value = serde_json::from_slice(&browser.get(&back).await.body).unwrap();
    assert_eq!(told["patient"], "bruno-vale", "{told}");
    let entries = read::entries(&site.world.audit_dir(), None, &Filter::default()).unwrap();
    let lists: Vec<_> = entries.iter().filter_map(Entry::record).filter(|record| record.patients.len() == 2).collect();
    assert_eq!(lists.len(), 1, "the list is one disclosure");
    assert_eq!((&*lists[0].user, &*lists[0].partner, lists[0].status), ("dr-ines", CLIENT, Some(200)));
    assert_eq!(lists[0].instances, ["Patient/amara-osei", "Patient/bruno-vale"]);
}

#[tokio::test]
async fn fhirclient_for_python_works_unchanged_in_front_mode() {
    let Some(told) = with_python(Mode::Front).await else { return };
    read_her_own_record(&told);
}

#[tokio::test]
async fn fhirclient_for_python_works_unchanged_in_broker_mode() {
    let Some(told) = with_python(Mode::Broker).await else { return };
    read_her_own_record(&told);
    assert_eq!((&told["ready"], &told["refreshed"]), (&true.into(), &true.into()));
}
