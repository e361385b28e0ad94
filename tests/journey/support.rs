//! The support bundle of a gateway that has seen patients, users and tokens: it names none of them, and opens nothing.

use fhirwall::audit::Record;
use fhirwall::clock::{Clock as _, SystemClock};
use fhirwall::config::Config;
use fhirwall::evidence::{Period, Running, collect, support};
use http::Method;

use crate::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn the_support_bundle_names_no_patient_user_token_or_key() {
    let secret = "canary-of-a-password-7";
    let stage = Stage::with(|config| config).await;
    let app = &stage.neighbours().treatment;
    for below in [
        "/Patient/amara-osei",
        "/Condition?patient=amara-osei",
        "/Patient/canary-of-an-id-1",
        "/Patient?name=canary-of-a-name-2",
    ] {
        stage.treatment(below).await;
    }
    stage.research("/Observation?patient=bruno-vale").await;
    // What an operator writes, and what stands in the log beside decisions.
    let note = serde_json::json!({"admin": {"by": "canary-of-a-person-3"}});
    stage.world.gateway.shared.audit.record(Record::of(fhirwall::audit::Kind::Access, note)).await.unwrap();
    let file = stage.neighbours().config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("state: {dir: state}", "state: {redis_url: \"${REDIS}\"}")).unwrap();
    let url = format!("rediss://gateway:{secret}@redis.example:6379");
    let config = Config::load(&file, &|name| (name == "REDIS").then(|| url.clone())).unwrap();
    let evidence = collect(&config, None, None, Period::default(), SystemClock.now()).unwrap();
    let ask = async |path: &str| {
        let url = format!("{}{path}", stage.world.admin_url());
        stage.world.anonymous().unwrap().send(Method::GET, &url, &[], Vec::new()).await.unwrap()
    };
    let (readiness, metrics) = (ask("/readyz?verbose").await.json(), ask("/metrics").await.text());
    let bundle = support(&config, &evidence, &Running { readiness: Ok(readiness), metrics: Ok(metrics) });
    let text = bundle.to_string();
    // It is of use: findings, counts, configuration, partners, what the gateway says of itself.
    assert!(bundle["evidence"]["decisions"]["disclosures"].as_u64().unwrap() >= 2, "{bundle:#}");
    assert_eq!(bundle["partners"].as_array().unwrap().len(), 3);
    for told in ["recovery-path", "fhirwall_requests_total", "generation 1 serves", "observe-mode"] {
        assert!(text.contains(told), "{told} is missing");
    }
    let key = std::fs::read_to_string(&app.key).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    let token = app.token.split('.').nth(2).unwrap();
    for hidden in [
        "amara",
        "bruno",
        "osei",
        "canary",
        "noor",
        "Practitioner",
        "security@",
        "PRIVATE KEY",
        key_line,
        token,
        secret,
    ] {
        assert!(!text.contains(hidden), "{hidden} is in the bundle");
    }
}
