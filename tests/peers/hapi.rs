//! HAPI FHIR, with persistence and search of its own, as the EHR behind the gateway.
//!
//! `.ci/outside hapi` builds and starts it, names its base in `FHIRWALL_HAPI`, and keeps what these tests print; without it
//! each says `skipped`. It holds the sample patients: labelled as a whole, labelled inline, sensitive by code alone. The
//! tests run one after the other: they share one server.

mod clients;
mod consents;
mod coverage;
mod exports;
mod reads;
mod searches;
mod together;
mod writes;

use std::collections::BTreeMap;
use std::fs;

use fhirwall::demo::apps::App;
use fhirwall::demo::client::{HttpsClient, Reply};
use fhirwall::demo::world::{Neighbours, World};
use http::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const JSON: &str = "application/fhir+json";

/// HAPI, the gateway before it, and the apps.
pub(crate) struct Stage {
    pub(crate) world: World,
    /// HAPI's base.
    pub(crate) hapi: String,
    direct: HttpsClient,
    _dir: TempDir,
}

impl Stage {
    /// `None`, and said so, where there is no HAPI.
    pub(crate) async fn set() -> Option<Self> {
        Self::set_on(|_, _| {}).await
    }

    /// As [`Stage::set`], on files that were edited before the gateway starts; the edit is told HAPI's base.
    pub(crate) async fn set_on(edit: impl FnOnce(&Neighbours, &str)) -> Option<Self> {
        let Ok(hapi) = std::env::var("FHIRWALL_HAPI") else {
            println!("skipped: no FHIRWALL_HAPI; run .ci/outside hapi");
            return None;
        };
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.expect("the neighbours start");
        behind(&neighbours, &hapi);
        edit(&neighbours, &hapi);
        let direct = neighbours.anonymous().unwrap();
        let world = World::between(neighbours).expect("the gateway starts");
        let stage = Self { world, hapi, direct, _dir: dir };
        load(&stage.world, &stage.hapi, &stage.direct).await;
        Some(stage)
    }

    /// What HAPI answers without the gateway.
    pub(crate) async fn hapi(&self, method: Method, below: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        // HAPI may answer a search from what it found a moment ago.
        let headers = [&[("cache-control", "no-cache"), ("accept", JSON)], headers].concat();
        let url = format!("{}{below}", self.hapi);
        // On a machine that is busy with other things HAPI's first answers take their time.
        for _ in 0..4 {
            if let Ok(reply) = self.direct.send(method.clone(), &url, &headers, body.clone()).await {
                return reply;
            }
        }
        panic!("{method} {below}: no answer of HAPI")
    }

    pub(crate) async fn stored(&self, below: &str) -> Reply {
        let reply = self.hapi(Method::GET, below, &[], &Value::Null).await;
        assert_eq!(reply.status, 200, "{below}: {}", reply.text());
        reply
    }

    /// Writes a record into HAPI behind the gateway's back.
    pub(crate) async fn put(&self, resource: &Value) {
        let below = format!("/{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        let reply = self.hapi(Method::PUT, &below, &[("content-type", JSON)], resource).await;
        assert!(reply.status.is_success(), "{below}: {}", reply.text());
    }

    pub(crate) fn url(&self, below: &str) -> String {
        if below.starts_with("https:") { below.to_owned() } else { format!("{}{below}", self.world.base_url()) }
    }

    /// `GET` by an app, with the token of the demo.
    pub(crate) async fn get(&self, app: &App, below: &str) -> Reply {
        app.client.get(&self.url(below), &app.token).await.expect("an answer")
    }

    /// A request by an app, with a token of this scope.
    pub(crate) async fn ask(
        &self,
        app: &App,
        scope: &str,
        method: Method,
        below: &str,
        more: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        let mut grant = self.world.grant(app);
        scope.clone_into(&mut grant.scope);
        let authorization = format!("Bearer {}", self.world.issuer.mint(&grant).unwrap());
        let headers = [&[("authorization", authorization.as_str())], more].concat();
        app.client.send(method, &self.url(below), &headers, body.into()).await.expect("an answer")
    }
}

/// Writes the sample records into HAPI, as they are; what is as it was stays the version it was.
async fn load(neighbours: &Neighbours, hapi: &str, client: &HttpsClient) {
    let records = neighbours.records().into_iter().map(|reference| {
        let (kind, id) = reference.split_once('/').unwrap();
        let resource = neighbours.ehr.resource(kind, id).expect("a sample record");
        put(&reference, resource)
    });
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": records.collect::<Vec<_>>()});
    let headers = [("content-type", JSON), ("accept", JSON)];
    let reply = client.send(Method::POST, hapi, &headers, bundle.to_string()).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// An entry that writes a record under its own id.
pub(crate) fn put(reference: &str, resource: Value) -> Value {
    json!({"resource": resource, "request": {"method": "PUT", "url": reference}})
}

/// Puts HAPI in the sample EHR's place, and lets everybody ask as often as the suite does.
fn behind(neighbours: &Neighbours, hapi: &str) {
    let file = neighbours.config_file();
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("urls: [").unwrap();
    let (_, after) = rest.split_once("auth: {kind: none}").unwrap();
    let limits = "limits: {user: {requests_per_second: 2000}, partner: {requests_per_second: 2000}, \
                  address: {requests_per_second: 5000}}\n";
    fs::write(&file, format!("{before}urls: [\"{hapi}\"]\n      auth: {{kind: none}}{after}{limits}")).unwrap();
    for app in neighbours.apps() {
        let file = neighbours.dir().join("partners").join(format!("{}.yaml", app.profile.client_id));
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace("requests_per_second: 50,", "requests_per_second: 2000,");
        fs::write(&file, text.replace("distinct_patients_per_hour: 200", "distinct_patients_per_hour: 5000")).unwrap();
    }
}

/// The members of an object, each as its bytes.
pub(crate) fn members(text: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

/// Is this the stored record to the byte, but for what its `meta` says, where the notice of 42 CFR 2.32 is written, and
/// but for members that refer to what is not among `sees`?
pub(crate) fn same_but_meta(shown: &str, stored: &str, sees: &[String]) -> bool {
    let (shown, stored) = (members(shown), members(stored));
    let refers_to_unseen = |text: &str| {
        let references = text.split("\"reference\"").skip(1).filter_map(|rest| rest.split('"').nth(1));
        references.into_iter().any(|reference| !sees.iter().any(|seen| seen == reference))
    };
    let told = stored.iter().filter(|(name, _)| *name != "meta").all(|(name, value)| {
        shown.get(name).is_some_and(|shown| shown.get() == value.get()) || refers_to_unseen(value.get())
    });
    told && shown.keys().all(|name| stored.contains_key(name))
}

/// The rows of a Bundle by their mode, as `Type/id`, with their bytes.
pub(crate) fn rows(reply: &Reply, mode: &str) -> Vec<(String, String)> {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    let text = reply.text();
    let bundle = members(&text);
    let entries: Vec<Members<'_>> =
        bundle.get("entry").map(|text| serde_json::from_str(text.get()).unwrap()).unwrap_or_default();
    let value = |text: &RawValue| serde_json::from_str::<Value>(text.get()).unwrap();
    let of_mode = |entry: &&Members<'_>| entry.get("search").is_none_or(|search| value(search)["mode"] == mode);
    let named = |entry: &Members<'_>| {
        let text = entry.get("resource")?;
        let resource = value(text);
        let name = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
        Some((format!("{}/{}", name("resourceType"), name("id")), text.get().to_owned()))
    };
    entries.iter().filter(of_mode).filter_map(named).collect()
}

pub(crate) fn link(reply: &Reply, relation: &str) -> Option<String> {
    let bundle = reply.json();
    let found = bundle["link"].as_array()?.iter().find(|link| link["relation"] == relation)?;
    Some(found["url"].as_str()?.to_owned())
}

/// What would tell of the program, to whom nothing may.
pub(crate) const TRACES: [&str; 7] =
    ["42CFRPart2", "pioid", "F11.2", "arbor House", "methadone", "buprenorphine", "counselor"];

/// An answer without the id of its decision.
pub(crate) fn said(reply: &Reply) -> String {
    let text = reply.text();
    let decision = reply.json()["issue"][0]["diagnostics"].as_str().map(str::to_owned).unwrap_or_default();
    if decision.is_empty() { text } else { text.replace(&decision, "") }
}

/// May this app read anything of the type at all?
pub(crate) fn in_scope(app: &App, reference: &str) -> bool {
    let kind = reference.split(['/', '?']).find(|part| !part.is_empty()).unwrap_or_default();
    let mut scopes = app.profile.token_scope.split_whitespace();
    scopes.any(|scope| scope.ends_with("/*.rs") || scope.ends_with(&format!("/{kind}.rs")))
}

/// Does a text say what only whoever may see the program's records may read?
pub(crate) fn tells(text: &str) -> Option<&'static str> {
    TRACES.into_iter().find(|trace| text.contains(trace))
}
