//! The whole journey over real TLS: the gateway between a sample EHR, a sample issuer and three partner apps.
//!
//! Each refusal stands beside the legitimate request that passes, and says what the EHR received.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod changes;
mod doors;
mod hidden;
mod hostile;
mod public;
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
        let dir = TempDir::new().expect("a temporary directory");
        let world = World::start(dir.path(), None).await.expect("the demo world starts");
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
