//! Real peers around the gateway: a certified OpenID provider as the kit sets it up, the two public SMART clients,
//! unchanged, and a browser.
//!
//! The packages are in `target/peers`, where `.ci/peers` installs them; without them, or without the kit, each test says
//! `skipped`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may stop at the first surprise"
)]

mod browser;
mod chromium;
mod clients;
mod dashboard;
mod hapi;
mod inferno;
mod keycloak;
mod processes;
mod site;
