//! What a caller's behaviour is answered with, and that its neighbour and an emergency are left alone.

use fhirwall::demo::client::Reply;
use fhirwall::demo::world::{Neighbours, World};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A world with these rules instead of the demo's.
async fn world_with(risk: &str) -> (World, TempDir) {
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let own = "risk: {denied_requests: {threshold: 5000, window: 5m, answer: throttle}}";
    assert!(text.contains(own));
    std::fs::write(&file, text.replace(own, &format!("risk: {{{risk}}}"))).unwrap();
    (World::between(neighbours).unwrap(), dir)
}

/// A token of the treatment app, with these claims besides.
fn token(world: &World, claims: &[(&str, Value)]) -> String {
    let mut grant = world.grant(&world.treatment);
    for (name, value) in claims {
        grant.claims.insert((*name).to_owned(), value.clone());
    }
    world.issuer.mint(&grant).unwrap()
}

async fn read(world: &World, token: &str, below: &str) -> Reply {
    world.treatment.client.get(&format!("{}{below}", world.base_url()), token).await.unwrap()
}

/// The bodies of the records of this kind.
async fn records(world: &World, dir: &TempDir, kind: fhirwall::audit::Kind) -> Vec<Value> {
    world.gateway.shared.audit.sign_head().await.unwrap();
    let filter = fhirwall::audit::read::Filter { kinds: vec![kind], ..Default::default() };
    let entries = fhirwall::audit::read::entries(&dir.path().join("audit"), None, &filter).unwrap();
    entries.into_iter().filter_map(|entry| entry.body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_again_and_again_is_slowed_down_with_the_reason_on_record_and_its_neighbour_is_not() {
    let (world, dir) = world_with("denied_requests: {threshold: 5, window: 5m, answer: throttle}").await;
    let research = |below: &str| {
        let url = format!("{}{below}", world.base_url());
        let app = &world.research;
        async move { app.client.get(&url, &app.token).await.unwrap() }
    };
    let mut statuses = Vec::new();
    for number in 0..8 {
        statuses.push(research(&format!("/Condition/guess-{number}")).await.status.as_u16());
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(statuses[..5], [404; 5], "up to the bound nobody is slowed down");
    let refused = records(&world, &dir, fhirwall::audit::Kind::Refusal).await;
    let throttled = refused.iter().find(|record| record["reason"] == "risk-throttled").expect("a record of it");
    let reasons = throttled["risk"]["reasons"].as_array().unwrap();
    let reason = reasons.iter().find(|reason| reason["signal"] == "denied-requests").expect("the rule among them");
    let (seen, bound) = (reason["seen"].as_f64().unwrap(), reason["usual"].as_f64().unwrap());
    assert!(seen >= 6.0 && bound == 5.0, "{reason}");
    let says = format!("refused {seen:.0} times within 5 min; 5 are the bound");
    assert!(reason["says"].as_str().unwrap().contains(&says), "{reason}");
    assert_eq!(read(&world, &world.treatment.token, "/Patient/amara-osei").await.status, 200);
    let told = records(&world, &dir, fhirwall::audit::Kind::Risk).await;
    assert_eq!(told.len(), 1, "told once: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_patients_ask_for_a_fresh_authentication_and_that_opens_the_door_again() {
    let rule =
        "mass_access: {threshold: 1, window: 1h, answer: step-up}, step_up_acr_values: [phr], step_up_max_age: 5m";
    let (world, _dir) = world_with(rule).await;
    let first = token(&world, &[]);
    let patients = read(&world, &first, "/Patient?_count=50").await;
    assert_eq!(patients.status, 200);
    assert!(patients.json()["entry"].as_array().unwrap().len() > 2, "{}", patients.text());
    let refused = read(&world, &first, "/Patient/amara-osei").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate");
    assert_eq!(challenge, r#"Bearer error="insufficient_user_authentication", acr_values="phr", max_age="300""#);
    let seconds = || OffsetDateTime::now_utc().unix_timestamp();
    for (auth_time, acr) in [(seconds() - 3600, "phr"), (seconds(), "password")] {
        let stale = token(&world, &[("auth_time", json!(auth_time)), ("acr", json!(acr))]);
        assert_eq!(read(&world, &stale, "/Patient/amara-osei").await.status, 401, "{auth_time} {acr}");
    }
    // The token is of the second that follows the order.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let fresh = token(&world, &[("auth_time", json!(seconds())), ("acr", json!("phr"))]);
    assert_eq!(read(&world, &fresh, "/Patient/amara-osei").await.status, 200);
    assert_eq!(read(&world, &fresh, "/Patient?_count=50").await.status, 200, "and it is not asked again at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_caller_gets_nothing_until_someone_has_looked() {
    let (world, dir) = world_with("mass_access: {threshold: 1, window: 1h, answer: terminate}").await;
    let first = token(&world, &[]);
    assert_eq!(read(&world, &first, "/Patient?_count=50").await.status, 200);
    let refused = read(&world, &first, "/Patient/amara-osei").await;
    assert!([401, 403].contains(&refused.status.as_u16()), "{}", refused.text());
    let fresh = || token(&world, &[]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let id = loop {
        let lockdowns = world.gateway.shared.lockdowns.list().await.unwrap();
        if let Some(lockdown) = lockdowns.first() {
            assert_eq!(lockdown.by, "behaviour analytics");
            break lockdown.id.clone();
        }
        assert!(std::time::Instant::now() < until, "no lockdown");
        tokio::task::yield_now().await;
    };
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    // A new token does not help.
    assert_eq!(read(&world, &fresh(), "/Patient/amara-osei").await.status, 403);
    let url = format!("{}/lockdowns/{id}/lift", world.admin_url());
    let lifted = world
        .anonymous()
        .unwrap()
        .send(
            http::Method::POST,
            &url,
            &[("x-fhirwall-admin", "1")],
            br#"{"reason": "a round of all wards", "by": "officer"}"#.to_vec(),
        )
        .await
        .unwrap();
    assert_eq!(lifted.status, 204, "{}", lifted.text());
    assert_eq!(read(&world, &fresh(), "/Patient/amara-osei").await.status, 200);
    let lockdowns = records(&world, &dir, fhirwall::audit::Kind::Lockdown).await;
    let events: Vec<&str> = lockdowns.iter().filter_map(|record| record["event"].as_str()).collect();
    assert_eq!(events, ["began", "lifted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_mode_scores_are_told_and_change_nothing_and_outside_they_are_answered() {
    for (mode, ended) in [("shadow", false), ("enforce", true)] {
        let scores = format!(
            "denied_requests: {{threshold: 5000, window: 5m, answer: alert}}, scores: {{mode: {mode}, throttle_at: 10, step_up_at: 100, terminate_at: 100}}"
        );
        let (world, dir) = world_with(&scores).await;
        let app = &world.research;
        let mut statuses = Vec::new();
        for number in 0..40 {
            let url = format!("{}/Condition/guess-{number}", world.base_url());
            let reply = app.client.get(&url, &app.token).await.unwrap();
            statuses.push((reply.status.as_u16(), reply.text().contains("risk-throttled")));
        }
        assert_eq!(statuses.contains(&(429, true)), ended, "{mode}: {statuses:?}");
        let told = records(&world, &dir, fhirwall::audit::Kind::Risk).await;
        assert!(!told.is_empty(), "{mode}");
        assert_eq!(told[0]["done"], if ended { "throttle" } else { "observe" });
    }
}
