//! The same record, seen by different apps.

use http::{Method, StatusCode};
use serde_json::Value;

use super::Guide;
use super::bundle::{Change, Diff, resources};
use crate::demo::apps::App;
use crate::demo::client::Reply;

/// Words that would tell of treatment for a substance use disorder.
const TELLING: &[&str] = &[
    "F11",
    "pioid",
    "uprenorphine",
    "ethadone",
    "42CFRPart2",
    "SUD",
    "OPIOIDUD",
    "NORDSCLCD",
    "arbor",
    "indqvist",
    "PROCESSINLINELABEL",
];

impl Guide<'_> {
    /// Search before and after, for someone who has consented.
    pub(super) async fn with_consent(&mut self) -> anyhow::Result<()> {
        self.screen.stop("A clinician asks about a patient who has consented");
        self.screen.say(
            "Amara Osei is treated at Harbor House, a substance use disorder program. She has signed a consent that names \
             Recovery Path. The diff is between what the EHR answered and what the app got.",
        );
        let diff = self.compare(&self.world.treatment, "Condition?patient=amara-osei").await?;
        self.screen.check("every condition is shown, the protected ones too", diff.with(Change::Gone).is_empty());
        Ok(())
    }

    /// The same search, for someone who has not.
    pub(super) async fn without_consent(&mut self) -> anyhow::Result<()> {
        self.screen.stop("The same clinician, a patient who has not");
        self.screen.say(
            "Bruno Vale is treated there too, and has signed nothing. One of his diagnoses carries the label, another only \
             the code: nobody labelled it.",
        );
        let diff = self.compare(&self.world.treatment, "Condition?patient=bruno-vale").await?;
        self.last_id.clone_into(&mut self.withheld);
        self.screen.check("his hypertension is there", diff.with(Change::Gone).len() == 2);
        self.screen.check("no word of his treatment is", self.silent_about_treatment());
        let diff = self.compare(&self.world.treatment, "AllergyIntolerance?patient=bruno-vale").await?;
        self.screen.check(
            "his allergy is there: nothing that may save his life is hidden",
            diff.with(Change::Gone).is_empty(),
        );
        self.screen.say("");
        self.screen.say("Protected words also hide inside ordinary records: a note, a problem list.");
        let diff =
            self.compare(&self.world.treatment, "Observation?patient=bruno-vale&category=social-history").await?;
        self.screen.check("the note alone is gone, the observation stays", diff.with(Change::Altered).len() == 1);
        let diff = self.compare(&self.world.treatment, "List?patient=bruno-vale").await?;
        self.screen.check("the list no longer names what is hidden", diff.with(Change::Altered).len() == 1);
        self.screen.check("no word of his treatment is left", self.silent_about_treatment());
        Ok(())
    }

    /// An app that must not even notice.
    pub(super) async fn research(&mut self) -> anyhow::Result<()> {
        self.screen.stop("A research app, which must not even notice");
        self.screen.say(
            "Cohort Lens has no basis for Part 2 records. For it they do not exist: no mark, no count, no gap. Whether anything \
             is withheld from one of its answers cannot be told from the answer.",
        );
        let diff = self.compare(&self.world.research, "Condition?patient=bruno-vale").await?;
        let with = self.last.clone();
        self.screen.check("the labelled and the code-only diagnosis are gone", diff.with(Change::Gone).len() == 2);
        self.screen.check("no word, label, total or mark is left", self.silent_about_treatment() && unmarked(&with));
        let app = &self.world.research;
        let without = self.fetch(app, "Condition?patient=dov-hart").await?;
        let shape = |answer: &Value| {
            let keys: Vec<String> = answer.as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
            (keys, resources(answer).len())
        };
        self.screen.check(
            "the answer about Dov Hart, who has nothing to hide, has the same shape",
            shape(&with) == shape(&without.json()),
        );
        let hidden = self.fetch(app, "Condition/bruno-opioid-use").await?;
        let missing = self.fetch(app, "Condition/never-existed").await?;
        self.screen.check(
            "reading the hidden diagnosis by its id gives what a wrong id gives: 404",
            hidden.status == StatusCode::NOT_FOUND && told(&hidden) == told(&missing),
        );
        let guess = self.fetch(app, "Condition?patient=bruno-vale&code=F11.20").await?.json();
        let wrong = self.fetch(app, "Condition?patient=bruno-vale&code=Z99.9").await?.json();
        self.screen
            .check("searching for the diagnosis itself finds as little as any guess", shape(&guess) == shape(&wrong));
        Ok(())
    }

    /// The patient's own access.
    pub(super) async fn patient(&mut self) -> anyhow::Result<()> {
        self.screen.stop("The patient herself");
        self.screen
            .say("Amara Osei's own app shows her all of her record (42 CFR 2.23), and nothing of anybody else's.");
        let diff = self.compare(&self.world.patient, "Condition?patient=amara-osei").await?;
        self.screen.check("she sees her diagnoses", diff.with(Change::Gone).is_empty());
        let other = self.fetch(&self.world.patient, "Patient/bruno-vale").await?;
        let nobody = self.fetch(&self.world.patient, "Patient/never-existed").await?;
        self.screen.check(
            &format!("another patient is refused her ({}) just as one who never existed", other.status.as_str()),
            other.status.is_client_error() && told(&other) == told(&nobody),
        );
        Ok(())
    }

    /// Consent taken back.
    pub(super) async fn revoked(&mut self) -> anyhow::Result<()> {
        self.screen.stop("Consent revoked");
        self.screen.say(
            "Amara Osei takes her consent back. It is written into the EHR, and the gateway is told (or would look).",
        );
        self.world.revoke_consent(self.clock.now());
        let url = format!("{}/consents/changed", self.world.admin_url());
        self.screen.request("POST", &url, "the program's staff");
        let told = self.world.consents_changed("amara-osei").await?;
        self.screen.answer(told.status.as_str());
        let diff = self.compare(&self.world.treatment, "Condition?patient=amara-osei").await?;
        self.screen.check(
            "from the next request on, the clinician's app sees her as it sees Bruno",
            diff.with(Change::Gone).len() == 2,
        );
        self.screen.check("no word of her treatment is left", self.silent_about_treatment());
        let own = self.fetch(&self.world.patient, "Condition/amara-opioid-use").await?;
        self.screen.check("her own app still shows her everything", own.status == StatusCode::OK);
        Ok(())
    }

    /// Shows a search as an app, against what the EHR says to the gateway.
    async fn compare(&mut self, app: &App, target: &str) -> anyhow::Result<Diff> {
        self.screen.request("GET", &format!("/{target}"), app.profile.client_id);
        let url = format!("{}/{target}", self.world.ehr.base_url());
        let before = self.behind.send(Method::GET, &url, &[], "").await?.json();
        let reply = self.fetch(app, target).await?;
        if reply.status != StatusCode::OK {
            self.screen.answer(&format!("{} {}", reply.status, reply.text()));
        }
        let after = reply.json();
        let diff = Diff::between(&before, &after);
        self.screen.diff(&diff);
        self.last = after;
        reply.header("x-request-id").clone_into(&mut self.last_id);
        Ok(diff)
    }

    fn silent_about_treatment(&self) -> bool {
        // What the app asked for itself may stand in its own link.
        let mut answer = self.last.clone();
        if let Some(answer) = answer.as_object_mut() {
            answer.remove("link");
        }
        let text = answer.to_string();
        self.last.is_object() && !TELLING.iter().any(|word| text.contains(word))
    }
}

/// What a caller can tell from an answer, the number of the request apart.
fn told(reply: &Reply) -> (StatusCode, String, Vec<String>) {
    let body = reply.text().replace(reply.header("x-request-id"), "");
    (reply.status, body, reply.headers.keys().map(ToString::to_string).collect())
}

fn unmarked(answer: &Value) -> bool {
    answer.get("total").is_none() && !answer.to_string().contains("REDACTED") && answer.is_object()
}
