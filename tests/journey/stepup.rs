//! Step-up (RFC 9470): what is asked of users' authentication, by the endpoint and by policies.

use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;

const CONDITIONS: &str = "/Condition?patient=bruno-vale";

impl Stage {
    /// The clinician's app with a token of this authentication: `null` says nothing of it.
    async fn authenticated(&self, method: Method, below: &str, acr: Value, age: Option<i64>) -> Reply {
        let app = &self.neighbours().treatment;
        let mut grant = self.neighbours().grant(app);
        grant.scope = "user/*.cruds".to_owned();
        grant.claims.insert("acr".to_owned(), acr);
        if let Some(age) = age {
            let at = time::OffsetDateTime::now_utc().unix_timestamp() - age;
            grant.claims.insert("auth_time".to_owned(), json!(at));
            grant.claims.insert("amr".to_owned(), json!(["pwd", "mfa"]));
        }
        let authorization = format!("Bearer {}", self.neighbours().issuer.mint(&grant).unwrap());
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
        app.client.send(method, &self.url(below), &headers, Vec::new()).await.unwrap()
    }
}

#[track_caller]
fn asks_for_more(reply: &Reply, challenge: &[&str]) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    let told = reply.header("www-authenticate");
    assert!(told.starts_with("Bearer error=\"insufficient_user_authentication\""), "{told}");
    for part in challenge {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_asks_users_for_a_strong_and_fresh_authentication_before_the_ehr_is_asked() {
    let stage = Stage::set().await;
    assert_eq!(stage.authenticated(Method::GET, CONDITIONS, Value::Null, None).await.status, 200, "nothing is asked");
    stage.edit("fhirwall.yaml", |text| {
        text.replace(
            "part2: {role: program}",
            "part2: {role: program}\n    authentication: {acr_values: [phr, phrh], max_age: 5m}",
        )
    });
    assert_eq!(stage.reload().await, 2);
    stage.asked();
    for (name, acr, age) in [
        ("nothing is said", Value::Null, None),
        ("another acr", json!("pwd"), Some(10)),
        ("too old", json!("phr"), Some(301)),
        ("no time", json!("phr"), None),
    ] {
        let reply = stage.authenticated(Method::GET, CONDITIONS, acr, age).await;
        asks_for_more(&reply, &["acr_values=\"phr phrh\"", "max_age=\"300\"", "resource_metadata="]);
        assert!(stage.asked().is_empty(), "{name}: the EHR was asked");
    }
    for acr in ["phr", "phrh"] {
        assert_eq!(stage.authenticated(Method::GET, CONDITIONS, json!(acr), Some(10)).await.status, 200);
    }
    // Behind a backend service's token stands no user who could sign in again.
    assert_eq!(stage.research("/Patient?_count=1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_ask_it_of_changes_alone() {
    let stage = Stage::set().await;
    stage.edit("fhirwall.yaml", |text| {
        text.replace(
            "part2: {role: program}",
            "part2: {role: program}\n    authentication: {max_age: 5m, writes_only: true}",
        )
    });
    assert_eq!(stage.reload().await, 2);
    assert_eq!(stage.authenticated(Method::GET, CONDITIONS, Value::Null, None).await.status, 200);
    let delete = "/Observation/no-such-record";
    asks_for_more(&stage.authenticated(Method::DELETE, delete, Value::Null, None).await, &["max_age=\"300\""]);
    let fresh = stage.authenticated(Method::DELETE, delete, json!("any"), Some(10)).await;
    assert_ne!(fresh.status, 401, "{}", fresh.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_needs_more_says_what_to_come_back_with() {
    let stage = Stage::set().await;
    let policy = "@id(\"conditions-need-a-strong-login\")\n@cites(\"45 CFR 164.312(d)\")\n\
        @says(\"Diagnoses are shown after a fresh login with a second factor alone.\")\n\
        @reason(\"stronger-authentication-needed\")\n\
        forbid (principal, action in Action::\"interact\", resource)\n\
        when { resource.kind == Kind::\"Condition\" && !context.strong };\n";
    std::fs::write(stage.neighbours().dir().join("policies/stepup.cedar"), policy).unwrap();
    stage.edit("fhirwall.yaml", |text| {
        text.replace("risk: {", "risk: {step_up_acr_values: [phr], step_up_max_age: 10m, ")
    });
    assert_eq!(stage.reload().await, 2, "{:?}", stage.world.gateway.live.status().rejected.map(|one| one.problems));
    stage.asked();
    let weak = stage.authenticated(Method::GET, CONDITIONS, Value::Null, None).await;
    asks_for_more(&weak, &["acr_values=\"phr\"", "max_age=\"600\""]);
    assert!(stage.asked().is_empty(), "the EHR was asked");
    assert_eq!(
        stage.authenticated(Method::GET, CONDITIONS, Value::Null, Some(10)).await.status,
        200,
        "a second factor"
    );
    let other = "/AllergyIntolerance?patient=bruno-vale";
    assert_eq!(stage.authenticated(Method::GET, other, Value::Null, None).await.status, 200, "the policy's neighbour");
}
