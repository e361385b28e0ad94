//! Reads, versions and histories.

use http::Method;
use serde_json::{Value, json};

use super::writes::{condition, fresh};
use super::{Stage, in_scope, link, rows, same_but_meta, tells};

#[tokio::test(flavor = "multi_thread")]
async fn hapi_every_record_is_shown_byte_for_byte_or_absent_to_each_app() {
    let Some(stage) = Stage::set().await else { return };
    for app in stage.world.apps() {
        let sees = app.profile.sees();
        let (mut whole, mut noticed, mut lessened, mut absent) = (0, 0, 0, 0);
        for reference in stage.world.records() {
            let stored = stage.stored(&format!("/{reference}")).await;
            let reply = stage.get(app, &format!("/{reference}")).await;
            let said = reply.text();
            let who = app.profile.client_id;
            if !sees.contains(&reference) {
                absent += 1;
                // Another patient is refused whether or not there is one.
                let status: &[u16] = match (in_scope(app, &reference), who) {
                    (false, _) => &[403],
                    (true, "pocket-chart") => &[403, 404],
                    (true, _) => &[404],
                };
                assert!(status.contains(&reply.status.as_u16()), "{who} {reference}: {} {said}", reply.status);
                assert_eq!(tells(&said), None, "{who} {reference}: {said}");
                continue;
            }
            assert_eq!(reply.status, 200, "{who} {reference}: {said}");
            let lawful = who == "pocket-chart" || (who == "recovery-path" && reference.contains("amara"));
            // The note is in base64: what it tells shows in the document that it belongs to.
            let hidden = tells(&stored.text()).or_else(|| reference.contains("program-note").then_some("a note"));
            match (hidden, lawful) {
                (None, _) => {
                    whole += 1;
                    assert_eq!(said, stored.text(), "{who} {reference}");
                    // To whom nothing is told, versions are not either.
                    let etag = if who == "cohort-lens" { "" } else { stored.header("etag") };
                    assert_eq!(reply.header("etag"), etag, "{who} {reference}");
                }
                (Some(_), true) => {
                    noticed += 1;
                    assert!(same_but_meta(&said, &stored.text(), &sees), "{who} {reference}: {said}");
                }
                (Some(_), false) => {
                    lessened += 1;
                    assert_eq!(tells(&said), None, "{who} {reference}: {said}");
                }
            }
        }
        println!(
            "reads of {}: {whole} as HAPI gives them to the byte, {noticed} so but for the notice in meta, \
             {lessened} without what is hidden, {absent} refused",
            app.profile.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hapi_versions_and_histories_are_judged_as_they_are() {
    let Some(stage) = Stage::set().await else { return };
    stage.patient().await;
    let app = &stage.world.treatment;
    for (id, codes, shown) in
        [("wren-open", ["I10", "I11", "I10"], 3), ("wren-once-hidden", ["I10", "F11.20", "I10"], 0)]
    {
        for code in codes {
            let mut record = condition(id, code);
            record["note"] = json!([{"text": fresh()}]);
            stage.put(&record).await;
        }
        let last = stage.version(&format!("/Condition/{id}")).await;
        let mut statuses = Vec::new();
        for version in [last - 2, last - 1, last, last + 40] {
            let below = format!("/Condition/{id}/_history/{version}");
            let reply = stage.get(app, &below).await;
            statuses.push(reply.status.as_u16());
            if reply.status == 200 {
                assert_eq!(reply.text(), stage.stored(&below).await.text());
            }
            assert_eq!(tells(&reply.text()), None, "{}", reply.text());
        }
        let hidden = if shown == 0 { 404 } else { 200 };
        assert_eq!(statuses, [200, hidden, 200, 404], "{id}");
        // A history has no gaps: one version that is hidden keeps all of them on the page.
        let below = format!("/Condition/{id}/_history?_count=3");
        let history = stage.get(app, &below).await;
        assert_eq!(history.status, 200, "{}", history.text());
        let direct: Vec<_> = rows(&stage.stored(&below).await, "match").into_iter().take(shown).collect();
        assert_eq!(rows(&history, "match"), direct, "{id}");
        assert!(!history.text().contains(&stage.hapi));
        // To whom gaps would tell, no history is shown at all.
        assert_eq!(stage.get(&stage.world.research, &below).await.status, 403);
        println!("versions of {id}, read one by one: {statuses:?}; in its history: {}", direct.len());
    }

    let mut reply = stage.get(app, "/Condition/_history?_count=10").await;
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(!reply.text().contains(&stage.hapi), "{}", reply.text());
        seen.extend(rows(&reply, "match"));
        pages += 1;
        let Some(next) = link(&reply, "next") else { break };
        reply = stage.get(app, &next).await;
    }
    assert!(seen.iter().any(|(name, _)| name == "Condition/dov-hypertension"), "{seen:?}");
    assert!(seen.iter().any(|(name, _)| name == "Condition/amara-opioid-use"), "{seen:?}");
    for (name, text) in &seen {
        let consented = ["amara", "ruth"].iter().any(|who| name.contains(who));
        assert!(consented || tells(text).is_none(), "{text}");
    }
    println!("the history of a type: {} versions on {pages} pages", seen.len());
    let gone = stage.hapi(Method::DELETE, "/Condition/wren-open", &[], &Value::Null).await;
    assert!(gone.status.is_success());
    let direct = stage.hapi(Method::GET, "/Condition/wren-open", &[], &Value::Null).await;
    for below in ["/Condition/wren-open", "/Condition/wren-open/_history"] {
        let reply = stage.get(app, below).await;
        println!("deleted, {below}: HAPI says {}, the gateway {}", direct.status, reply.status);
        assert_eq!(reply.status, 404, "{}", reply.text());
    }
}
