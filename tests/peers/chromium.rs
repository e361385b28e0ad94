//! A real browser through sign-in and consent, by keyboard alone; the page as a person meets it.

use serde_json::{Value, json};

use crate::clients::javascript;
use crate::processes::{Packages, Peer};
use crate::site::{Ground, Mode};

const SCOPE: &str = "openid fhirUser launch/patient patient/Observation.rs?category=laboratory patient/Condition.rs \
    patient/AllergyIntolerance.rs offline_access";

/// Signs in, picks a patient where there is a choice, unticks one line, allows the rest. For looking at:
/// `FHIRWALL_SCREENSHOTS=dir`.
async fn share(login: &str, pick: &str) -> Option<Value> {
    let packages = Packages::found()?;
    let browser = packages.chromium()?;
    let ground = Ground::lay().await;
    ground.links_patients_to("Practitioner/dr-ines", &["amara-osei", "bruno-vale"]);
    let (_app, address) = javascript(&packages, &ground, SCOPE).await;
    let until = format!("{address}/cb");
    let site = ground.open(&packages, Mode::Broker, &until).await;
    let mut keyboard = packages.script("keyboard.mjs");
    let start = format!("{address}/launch?iss={}", site.base);
    keyboard.arg(browser).args([&start, &until, login, pick, "Keep this access"]);
    if let Some(dir) = std::env::var_os("FHIRWALL_SCREENSHOTS") {
        keyboard.arg(std::path::Path::new(&dir).join(format!("consent-{login}.png")));
    }
    Some(serde_json::from_str(&Peer::start(keyboard).line().await).unwrap())
}

#[track_caller]
fn came_back_with_a_code(told: &Value) {
    assert_eq!(told["wrong"], json!([]), "{told}");
    assert!(told["unticked"].as_str().unwrap().contains("when you are not using the app"), "{told}");
    let back = told["back"].as_str().unwrap();
    assert!(back.contains("code=") && back.contains("iss="), "{back}");
}

#[tokio::test]
async fn a_person_with_a_keyboard_alone_signs_in_and_shares_a_part() {
    let Some(told) = share("amara-osei", "").await else { return };
    came_back_with_a_code(&told);
}

#[tokio::test]
async fn a_clinician_with_a_keyboard_alone_picks_a_patient() {
    let Some(told) = share("dr-ines", "Bruno").await else { return };
    came_back_with_a_code(&told);
}
