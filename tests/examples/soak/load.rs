//! Who asks, and what they may hear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fhirwall::demo::apps::App;
use fhirwall::demo::authorization_server::Flaw;
use fhirwall::demo::client::HttpsClient;
use tokio::task::{JoinHandle, JoinSet};

use crate::site::Site;

/// Requests a second.
const RATE: u64 = 20;

/// What an asker may hear.
#[derive(Clone, Copy, Debug)]
enum May {
    /// A whole answer, in which this stands and that does not; or a 5xx.
    Be { served: &'static str, never: &'static str },
    /// One of these, or a 5xx; never an answer.
    BeRefused(&'static [u16]),
}

/// One kind of request.
#[derive(Clone)]
struct Question {
    name: &'static str,
    ca: Arc<Vec<u8>>,
    identity: (Vec<u8>, Vec<u8>),
    client: HttpsClient,
    token: String,
    url: String,
    may: May,
}

#[derive(Default)]
pub(crate) struct Heard {
    served: Mutex<BTreeSet<String>>,
    latest: Mutex<Option<Instant>>,
    counts: Mutex<BTreeMap<(&'static str, u16), u64>>,
    finding: Mutex<Option<String>>,
    longest_return: Mutex<Duration>,
    under_way: AtomicU64,
}

impl Heard {
    /// Stops at the first thing that may not be.
    pub(crate) fn hold(&self) {
        if let Some(finding) = self.finding.lock().unwrap().as_ref() {
            panic!("FINDING: {finding}");
        }
    }

    fn found(&self, finding: String) {
        self.finding.lock().unwrap().get_or_insert(finding);
    }

    /// Was a question that was asked after this answered whole?
    pub(crate) fn served_since(&self, returned: Instant) -> bool {
        self.latest.lock().unwrap().is_some_and(|asked| asked >= returned)
    }

    pub(crate) fn was_back(&self, after: Duration) {
        let mut longest = self.longest_return.lock().unwrap();
        *longest = (*longest).max(after);
    }

    pub(crate) fn served(&self) -> BTreeSet<String> {
        self.served.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self) -> u64 {
        self.counts.lock().unwrap().values().sum()
    }

    pub(crate) fn print(&self) {
        println!("requests, by who asked and what they heard:");
        for ((name, status), count) in self.counts.lock().unwrap().iter() {
            println!("  {name}: {status} {count} times");
        }
        println!(
            "the longest until a neighbour was used again: {} ms",
            self.longest_return.lock().unwrap().as_millis()
        );
    }
}

/// The askers.
pub(crate) struct Load {
    questions: Vec<Question>,
    heard: Arc<Heard>,
}

impl Load {
    pub(crate) async fn on(site: &Site, heard: &Arc<Heard>) -> Self {
        let (world, ca) = (&site.neighbours, Arc::new(site.neighbours.site_ca().unwrap()));
        let question = |name, app: &App, token: String, below: &str, may| {
            let identity = (std::fs::read(&app.certificate).unwrap(), std::fs::read(&app.key).unwrap());
            let client = HttpsClient::new(&ca, Some(identity.clone())).unwrap();
            let url = format!("{}{below}", world.base_url());
            Question { name, ca: Arc::clone(&ca), identity, client, token, url, may }
        };
        let (treatment, research, patient) = (&world.treatment, &world.research, &world.patient);
        let fresh = |app: &App| world.issuer.mint(&world.grant(app)).unwrap();
        let (search, read) = ("/Condition?patient=amara-osei", "/Patient/amara-osei");
        let be = |served, never| May::Be { served, never };
        let flawed = |flaw| world.issuer.mint_flawed(&world.grant(treatment), flaw).unwrap();
        let questions = vec![
            question("treatment, search", treatment, fresh(treatment), search, be("amara-opioid-use", "bruno-")),
            question("treatment, read", treatment, fresh(treatment), "/Patient/bruno-vale", be("bruno-vale", "amara")),
            // Without a consent the same search hides the same record, whatever happens.
            question("research, search", research, fresh(research), search, be("searchset", "amara-opioid-use")),
            question("patient, own record", patient, fresh(patient), read, be("amara-osei", "bruno")),
            question("patient, another's", patient, fresh(patient), "/Patient/bruno-vale", May::BeRefused(&[403, 404])),
            question(
                "research, hidden",
                research,
                fresh(research),
                "/Condition/amara-opioid-use",
                May::BeRefused(&[403, 404]),
            ),
            question("expired token", treatment, flawed(Flaw::Expired), read, May::BeRefused(&[401])),
            question("forged token", treatment, flawed(Flaw::ChangedClaims), read, May::BeRefused(&[401])),
            question("stolen token", research, fresh(treatment), read, May::BeRefused(&[401])),
            question("revoked token", patient, site.revoked.clone(), read, May::BeRefused(&[401])),
            question(
                "two readings",
                treatment,
                fresh(treatment),
                "/Patient/%2e%2e/Patient/amara-osei",
                May::BeRefused(&[400]),
            ),
        ];
        Self { questions, heard: Arc::clone(heard) }
    }

    /// Asks everything once.
    pub(crate) async fn once(&self) {
        for question in &self.questions {
            ask(question.clone(), Arc::clone(&self.heard)).await;
        }
        self.heard.hold();
    }

    /// Asks at a constant rate until it is ended.
    pub(crate) fn begin(self) -> Asking {
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let task = tokio::spawn(async move {
            let mut turns = tokio::time::interval(Duration::from_millis(1000 / RATE));
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let (mut asked, mut at) = (JoinSet::new(), 0_usize);
            while !told.load(Ordering::Relaxed) {
                turns.tick().await;
                let mut question = self.questions[at % self.questions.len()].clone();
                at += 1;
                // Connections come and go, too.
                if at.is_multiple_of(7) {
                    question.client = HttpsClient::new(&question.ca, Some(question.identity.clone())).unwrap();
                }
                asked.spawn(ask(question, Arc::clone(&self.heard)));
                while asked.try_join_next().is_some() {}
            }
            while asked.join_next().await.is_some() {}
        });
        Asking { task, done }
    }
}

/// The askers at work.
pub(crate) struct Asking {
    task: JoinHandle<()>,
    done: Arc<AtomicBool>,
}

impl Asking {
    pub(crate) async fn end(self) {
        self.done.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

async fn ask(question: Question, heard: Arc<Heard>) {
    let asked = Instant::now();
    heard.under_way.fetch_add(1, Ordering::Relaxed);
    let reply = question.client.get(&question.url, &question.token).await;
    heard.under_way.fetch_sub(1, Ordering::Relaxed);
    let Ok(reply) = reply else { return heard.found(format!("{}: the gateway gave no answer", question.name)) };
    let (status, text) = (reply.status.as_u16(), reply.text());
    *heard.counts.lock().unwrap().entry((question.name, status)).or_default() += 1;
    match (question.may, status) {
        (May::Be { served, never }, 200) => {
            if !text.contains(served) || text.contains(never) {
                heard.found(format!("{}: {text}", question.name));
            }
            heard.served.lock().unwrap().insert(reply.header("x-request-id").to_owned());
            let mut latest = heard.latest.lock().unwrap();
            *latest = Some(latest.map_or(asked, |latest| latest.max(asked)));
        }
        (_, 502..=504) => {}
        (May::BeRefused(as_which), status) if as_which.contains(&status) => {
            if text.contains("\"Patient\"") || text.contains("\"Condition\"") {
                heard.found(format!("{}, refused: {text}", question.name));
            }
        }
        (May::Be { .. } | May::BeRefused(_), status) => heard.found(format!("{}: {status} {text}", question.name)),
    }
}
