//! The dashboard in a real browser: axe-core finds nothing, a keyboard alone suspends a partner, and it fits a phone.

use fhirwall::demo::world::World;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::processes::{Packages, Peer};

/// axe-core looks at fourteen pages, on a machine that may have other things to do.
const LONG: std::time::Duration = std::time::Duration::from_secs(300);

/// Screenshots, for looking at: `FHIRWALL_SCREENSHOTS=dir`.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_accessible_and_a_keyboard_alone_suspends_a_partner() {
    let Some((packages, browser)) = Packages::for_pages() else { return };
    let dir = TempDir::new().unwrap();
    let world = World::start(dir.path(), None).await.unwrap();
    let read = async |app: &fhirwall::demo::apps::App, below: &str| {
        app.client.get(&format!("{}{below}", world.base_url()), &app.token).await.unwrap().status.as_u16()
    };
    // Something to show: disclosures, withheld records, refusals of several reasons, behaviour that stands out.
    for below in [
        "/Patient/amara-osei",
        "/Condition?patient=amara-osei",
        "/Observation?patient=amara-osei",
        "/Patient?_count=50",
    ] {
        assert_eq!(read(&world.treatment, below).await, 200, "{below}");
        read(&world.research, below).await;
    }
    for number in 0..60 {
        read(&world.research, &format!("/Condition/guess-{number}")).await;
    }
    let mut script = packages.script("dashboard.mjs");
    script.arg(browser).args([&world.admin_url(), "recovery-path"]);
    if let Some(dir) = std::env::var_os("FHIRWALL_SCREENSHOTS") {
        script.arg(dir);
    }
    assert_eq!(read(&world.treatment, "/Patient/amara-osei").await, 200);
    let told: Value = serde_json::from_str(&Peer::start(script).line_within(LONG).await).unwrap();
    assert_eq!(told["wrong"], json!([]), "{told:#}");
    assert_eq!(told["pages"], 14);
    assert!(told["rules"].as_u64().unwrap() > 20, "axe-core looked: {told}");
    assert!(told["notice"].as_str().unwrap().contains("refused from now on"), "{told}");
    assert_eq!(read(&world.treatment, "/Patient/amara-osei").await, 403, "its next request");
    assert_ne!(read(&world.research, "/Patient?_count=1").await, 403, "its neighbour is served on");
}
