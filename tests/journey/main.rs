//! The whole journey over real TLS: the gateway between a sample EHR, a sample issuer and three partner apps.
//!
//! Each refusal stands beside the legitimate request that passes, and says what the EHR received.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod alerts;
mod attacks;
mod bad_certificates;
mod bundles;
mod certificates;
mod changes;
mod chaos;
mod consents;
mod dashboard;
mod doors;
mod emergency;
mod exports;
mod hidden;
mod history;
mod hostile;
mod instances;
mod kit;
mod observe;
mod operations;
mod operators;
mod policies;
mod programs;
mod proxies;
mod public;
mod receiver;
mod revocations;
mod risk;
mod sealed;
mod search;
mod sinks;
mod standard;
mod stepup;
mod support;
mod traffic;
mod transactions;
mod types;
mod upstreams;
mod wire;
mod writes;

use fhirwall::demo::client::Reply;
use fhirwall::demo::world::{Neighbours, World};
use tempfile::TempDir;

/// A world of its own for each test.
struct Stage {
    world: World,
    _dir: TempDir,
}

impl Stage {
    async fn set() -> Self {
        // A port found free can be taken by another test before it is bound: then another is tried.
        for _ in 0..5 {
            let dir = TempDir::new().expect("a temporary directory");
            if let Ok(world) = World::start(dir.path(), None).await {
                return Self { world, _dir: dir };
            }
        }
        let dir = TempDir::new().expect("a temporary directory");
        let world = World::start(dir.path(), None).await.expect("the demo world starts");
        Self { world, _dir: dir }
    }

    /// As [`Stage::set`], with quotas that no test reaches by asking much.
    async fn roomy() -> Self {
        Self::with(|config| {
            let limits = "limits: {user: {requests_per_second: 2000}, partner: {requests_per_second: 2000}, \
                          address: {requests_per_second: 5000}}\n";
            assert!(!config.contains("\nlimits:"), "the demo states no limits");
            format!("{config}{limits}")
        })
        .await
    }

    /// A world whose configuration was changed before the gateway started.
    async fn with(change: impl FnOnce(String) -> String) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let neighbours = Neighbours::start(dir.path(), None).await.expect("the neighbours start");
        let path = neighbours.config_file();
        let config = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(&path, change(config)).expect("a configuration");
        for partner in std::fs::read_dir(neighbours.dir().join("partners")).expect("partner files") {
            let path = partner.expect("a partner file").path();
            let text = std::fs::read_to_string(&path).expect("a partner file");
            let text = text.replace("requests_per_second: 50,", "requests_per_second: 2000,");
            std::fs::write(&path, text).expect("a partner file");
        }
        let world = World::between(neighbours).expect("the gateway starts");
        Self { world, _dir: dir }
    }

    /// As [`Stage::set`], on a configuration that was edited before the gateway starts.
    async fn set_on(edit: impl FnOnce(&Neighbours)) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let neighbours = Neighbours::start(dir.path(), None).await.expect("the neighbours start");
        edit(&neighbours);
        let world = World::between(neighbours).expect("the gateway starts");
        world.write_demo_json().expect("a file");
        Self { world, _dir: dir }
    }

    fn neighbours(&self) -> &Neighbours {
        &self.world.neighbours
    }

    fn url(&self, below: &str) -> String {
        format!("{}{below}", self.neighbours().base_url())
    }

    async fn treatment(&self, below: &str) -> Reply {
        let app = &self.neighbours().treatment;
        app.client.get(&self.url(below), &app.token).await.expect("an answer")
    }

    async fn research(&self, below: &str) -> Reply {
        let app = &self.neighbours().research;
        app.client.get(&self.url(below), &app.token).await.expect("an answer")
    }

    /// What the EHR has been asked since the last look, without the gateway's own questions about consents.
    fn asked(&self) -> Vec<String> {
        let seen = self.neighbours().ehr.log();
        self.neighbours().ehr.forget();
        seen.iter()
            .filter(|request| !request.path.contains("/Consent"))
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }
}
