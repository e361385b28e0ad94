//! The dashboard of a running gateway: what it shows, and what a click there does to the next request.

use fhirwall::demo::client::Reply;
use http::Method;

use crate::Stage;

impl Stage {
    async fn admin(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let url = format!("{}{path}", self.world.admin_url());
        let client = self.world.anonymous().unwrap();
        client.send(method, &url, headers, body.to_owned().into_bytes()).await.unwrap()
    }

    /// A form of the dashboard, as a browser on `origin` sends it.
    async fn form(&self, origin: &str, fields: &str) -> Reply {
        let headers = [("origin", origin), ("content-type", "application/x-www-form-urlencoded")];
        self.admin(Method::POST, "/acts", &headers, fields).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_of_the_traffic_and_names_no_patient() {
    let stage = Stage::set().await;
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
    assert_eq!(stage.treatment("/Patient/nobody").await.status, 404);
    let page = stage.admin(Method::GET, "/", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let text = page.text();
    for told in ["recovery-path", "1 permitted, 1 refused", "not-found", "read Patient", "enforce"] {
        assert!(text.contains(told), "{told} is missing in {text}");
    }
    for person in ["amara", "noor", "nobody"] {
        assert!(!text.contains(person), "{person} is named");
    }
    assert_eq!(stage.admin(Method::GET, "/dashboard.css", &[], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_suspended_there_is_refused_on_its_next_request_and_served_again_when_that_is_lifted() {
    let stage = Stage::set().await;
    let own = stage.world.admin_url();
    let asked = "act=suspend&client_id=recovery-path&hours=24&reason=a+leak";
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
    let confirm = stage.form(&own, asked).await;
    assert!(confirm.text().contains("Every request of partner recovery-path is refused"), "{}", confirm.text());
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200, "nothing happens before it is confirmed");
    let done = stage.form(&own, &format!("{asked}&confirmed=yes")).await;
    assert_eq!((done.status.as_u16(), done.header("location")), (303, "/?done=suspend"));
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 403);
    let page = stage.admin(Method::GET, "/", &[], "").await.text();
    assert!(
        page.contains("locked down until") && page.contains("a leak") && page.contains("loopback, at the dashboard")
    );
    let id = page.split("name=\"id\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    assert_eq!(stage.form(&own, &format!("act=lift&id={id}&confirmed=yes")).await.status, 303);
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_another_origin_acts_through_it() {
    let stage = Stage::set().await;
    let act = "act=withhold-part2&hours=1&reason=x&confirmed=yes";
    for origin in ["https://elsewhere.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(stage.form(origin, act).await.status, 403, "{origin}");
    }
    let no_origin = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(stage.admin(Method::POST, "/acts", &no_origin, act).await.status, 403);
    assert!(stage.admin(Method::GET, "/", &[], "").await.text().contains("Nothing is locked down."));
    assert_eq!(stage.form(&stage.world.admin_url(), act).await.status, 303);
    assert!(stage.admin(Method::GET, "/", &[], "").await.text().contains("all Part 2 data"));
    let unexplained = "act=withhold-part2&hours=1&reason=+&confirmed=yes";
    let refused = stage.form(&stage.world.admin_url(), unexplained).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("Not done as asked: say why"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_a_decision_as_a_page_and_a_program_as_json() {
    let stage = Stage::set().await;
    assert_eq!(stage.treatment("/Patient/nobody").await.status, 404);
    let overview = stage.admin(Method::GET, "/", &[], "").await.text();
    let id = overview.split("href=\"/decisions/").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let path = format!("/decisions/{id}");
    let page = stage.admin(Method::GET, &path, &[("accept", "text/html,*/*;q=0.8")], "").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(page.text().contains("not-found") && page.text().contains("Explanation"), "{}", page.text());
    assert_eq!(stage.admin(Method::GET, &path, &[], "").await.json()["decision"], id.as_str());
    assert_eq!(stage.admin(Method::GET, "/decisions/none", &[("accept", "text/html")], "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_puts_no_words_on_the_page() {
    let stage = Stage::set().await;
    let told = stage.admin(Method::GET, "/?done=suspend", &[], "").await.text();
    assert!(told.contains("role=\"status\"") && told.contains("the partner is refused from now on"));
    let strange = stage.admin(Method::GET, "/?done=call+this-number", &[], "").await.text();
    assert!(
        !strange.contains("role=\"status\"") && !strange.contains("this-number") && !strange.contains("this number")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_that_stands_out_is_shown_with_its_reasons() {
    let rule = "risk: {denied_requests: {threshold: 5, window: 5m, answer: throttle}}";
    let demo = "risk: {denied_requests: {threshold: 5000, window: 5m, answer: throttle}}";
    let stage = Stage::with(|config| config.replace(demo, rule)).await;
    for number in 0..8 {
        stage.research(&format!("/Condition/guess-{number}")).await;
    }
    let page = stage.admin(Method::GET, "/", &[], "").await.text();
    for told in ["5 are the bound", "slowed down", "risk-throttled", "Refusals by reason"] {
        assert!(page.contains(told), "{told} is missing in {page}");
    }
    assert!(!page.contains("guess-"), "nobody's id is on the page");
}
