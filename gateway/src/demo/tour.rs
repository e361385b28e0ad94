//! The demo's tour: real requests through the gateway, shown and checked.

mod attacks;
pub(crate) mod bundle;
mod chain;
mod explanation;
pub(crate) mod screen;
mod views;
pub(crate) mod welcome;

use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::clock::Clock;
use crate::demo::apps::App;
use crate::demo::client::{HttpsClient, Reply};
use crate::demo::world::Neighbours;
use screen::Screen;

/// Leads through the tour. The gateway must answer at the neighbours' base URL.
pub(crate) struct Guide<'a> {
    world: &'a Neighbours,
    screen: &'a mut Screen,
    clock: Arc<dyn Clock>,
    /// What the EHR says to the gateway.
    behind: HttpsClient,
    /// For the administration on loopback.
    anyone: HttpsClient,
    /// The last answer that was compared.
    last: Value,
    /// Its number.
    last_id: String,
    /// The number of the refusal that is explained later.
    refused: String,
    /// The number of the search that is explained later.
    withheld: String,
}

impl<'a> Guide<'a> {
    pub(crate) fn new(world: &'a Neighbours, screen: &'a mut Screen, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let (behind, anyone) = (world.behind_the_gateway()?, world.anonymous()?);
        Ok(Self {
            world,
            screen,
            clock,
            behind,
            anyone,
            last: Value::Null,
            last_id: String::new(),
            refused: String::new(),
            withheld: String::new(),
        })
    }

    /// All stops, in order. Gives whether every check held.
    pub(crate) async fn lead(mut self) -> anyhow::Result<bool> {
        self.with_consent().await?;
        self.without_consent().await?;
        self.research().await?;
        self.patient().await?;
        self.refusal().await?;
        self.explanation().await?;
        self.revoked().await?;
        self.attacks().await?;
        self.chain()?;
        Ok(self.screen.end())
    }

    async fn fetch(&self, app: &App, target: &str) -> anyhow::Result<Reply> {
        let url = format!("{}/{target}", self.world.base_url());
        let authorization = format!("Bearer {}", app.token);
        app.client.send(Method::GET, &url, &[("authorization", &authorization)], "").await
    }
}
