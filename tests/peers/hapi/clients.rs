//! The two public SMART clients, unchanged, with the gateway between them and HAPI.

use std::fs;

use fhirwall::demo::client::HttpsClient;

use super::{behind, load};
use crate::clients::{AMARA, javascript_on, python_on, read_her_own_record};
use crate::processes::Packages;
use crate::site::{Ground, Mode};

/// The neighbours, with HAPI in the sample EHR's place.
async fn before(hapi: &str) -> Ground {
    let ground = Ground::lay().await;
    let client = HttpsClient::new(&fs::read(ground.ca_file()).unwrap(), None).unwrap();
    behind(ground.neighbours(), hapi);
    load(ground.neighbours(), hapi, &client).await;
    ground
}

#[tokio::test]
async fn hapi_is_read_by_both_smart_clients_in_front_and_broker_mode() {
    let (Ok(hapi), Some(packages)) = (std::env::var("FHIRWALL_HAPI"), Packages::found()) else {
        println!("skipped: no FHIRWALL_HAPI; run .ci/outside hapi");
        return;
    };
    for mode in [Mode::Front, Mode::Broker] {
        let (_site, told, _) = javascript_on(before(&hapi).await, &packages, mode, AMARA).await;
        read_her_own_record(&told);
        println!("fhirclient for JavaScript, {mode:?} mode, HAPI: {} observations", told["observations"]);
        let Some(told) = python_on(before(&hapi).await, &packages, mode).await else { continue };
        read_her_own_record(&told);
        println!("fhirclient for Python, {mode:?} mode, HAPI: {} observations", told["observations"]);
    }
}
