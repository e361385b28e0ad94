//! `fhirwall policy`, as it is typed: on the log of a running demo, and each command of the guide.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::path::Path;
use std::process::Command;

use fhirwall::demo::world::World;

fn fhirwall(words: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_fhirwall")).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decisions_id_leads_to_words_and_a_log_can_be_replayed() {
    let dir = tempfile::TempDir::new().unwrap();
    let world = World::start(dir.path(), None).await.unwrap();
    let app = &world.treatment;
    let url = format!("{}/Condition?patient=bruno-vale", world.base_url());
    let withheld = app.client.get(&url, &app.token).await.unwrap();
    let url = format!("{}/Condition/dov-asthma", world.base_url());
    let bearer = format!("Bearer {}", app.token);
    let refused = app.client.send(http::Method::DELETE, &url, &[("authorization", &bearer)], "").await.unwrap();
    assert_eq!(refused.status, 403, "{}", refused.text());
    let (withheld, refused) = (withheld.header("x-request-id").to_owned(), refused.header("x-request-id").to_owned());

    // The running gateway tells it in words, and names no patient in them.
    let admin = world.anonymous().unwrap();
    let record = admin.get(&format!("{}/decisions/{withheld}", world.admin_url()), "").await.unwrap().json();
    let words = record["explanation"].as_str().unwrap().to_owned();
    let of_withheld = [
        "search-type of Condition",
        "Partner `recovery-path` (Part 2 basis: consent) asked, for TREAT",
        "labelled",
        "42CFRPart2",
        "deny by part2-lawful-basis",
        "rests on 42 CFR 2.13(a)",
        "yes when resource.labels",
        "It would be permitted if the patient's consent permitted it.",
    ];
    for part in of_withheld {
        assert!(words.contains(part), "{part} is not in:\n{words}");
    }
    assert!(!words.contains("bruno"), "{words}");

    // Offline, from the log of the demo.
    world.gateway.shared.audit.close().await;
    let dir = world.audit_dir().display().to_string();
    let (code, text) = fhirwall(&["policy", "explain", "--audit", &dir, &withheld]);
    assert_eq!(code, 0, "{text}");
    for part in of_withheld {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let config = world.config_file().display().to_string();
    let (code, text) = fhirwall(&["policy", "explain", "--config", &config, &refused]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Refused: insufficient-scope") && text.contains("user/Condition.d"), "{text}");
    assert_eq!(fhirwall(&["policy", "explain", "--audit", &dir, "01980000-0000-7000-8000-000000000000"]).0, 1);

    // The same set decides alike, another one does not.
    let (code, text) = fhirwall(&["policy", "replay", "--audit", &dir]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("0 differ") && !text.starts_with('0'), "{text}");
    let stricter = tempfile::TempDir::new().unwrap();
    for (name, text) in fhirwall_policy::cedar::PolicySet::shipped_files() {
        std::fs::write(stricter.path().join(name), text).unwrap();
    }
    let own = r#"@id("no-conditions") @cites("a trial") @says("No conditions.")
        forbid (principal, action, resource) when { resource.kind == Kind::"Condition" };"#;
    std::fs::write(stricter.path().join("own.cedar"), own).unwrap();
    let stricter = stricter.path().display().to_string();
    let (code, text) = fhirwall(&["policy", "replay", "--policies", &stricter, "--audit", &dir]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no-conditions"), "{text}");
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join(name), text).unwrap();
}

/// A decision as a log has it.
const DECISION: &str = r#"{
  "version": 1, "decision": "d-1", "time": "2026-06-01T12:00:00Z", "endpoint": "main", "user": "u-7",
  "caller": { "app": "acme", "basis": "consent" },
  "interaction": "search-type", "targets": [ { "action": "search-type", "kind": "Condition" } ],
  "scopes": ["patient/Condition.rs"], "permitted": true, "policies": ["registered-purpose"],
  "met": [
    { "record": { "kind": "Condition", "labels": ["42CFRPart2"] }, "count": 2, "shown": false,
      "reason": "label-withheld", "policies": ["part2-lawful-basis"] },
    { "record": { "kind": "Condition", "labels": [] }, "count": 5, "shown": true,
      "basis": "ordinary", "policies": ["ordinary-records"] } ],
  "generation": 3, "epoch": "e"
}"#;

/// A directory in which every command of docs/policy-guide.md has what it names.
fn newcomers_directory() -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for set in ["policies", "policies-now", "policies-next"] {
        for (name, text) in fhirwall_policy::cedar::PolicySet::shipped_files() {
            write(&at(set), name, text);
        }
    }
    for (name, text) in fhirwall_policy::tables::SHIPPED {
        write(&at("tables"), name, text);
    }
    let own = r#"@id("own") @cites("x") @says("x") forbid (principal, action, resource) when { !principal.active };"#;
    write(&at("invariants"), "own.cedar", own);
    let question = r#"{"caller":{"basis":"consent"},"record":{"kind":"Condition","labels":["HIV"]}}"#;
    write(dir.path(), "question.json", question);
    let decided = DECISION;
    write(dir.path(), "decision.json", decided);
    let line = serde_json::from_str::<serde_json::Value>(decided).unwrap().to_string();
    write(dir.path(), "decisions.ndjson", &line);
    dir
}

#[test]
fn every_command_of_the_guide_runs_as_it_is_printed() {
    let dir = newcomers_directory();
    let guide = include_str!("../../docs/policy-guide.md");
    let commands: Vec<&str> = guide.lines().filter(|line| line.starts_with("fhirwall policy ")).collect();
    let mut run = 0;
    for command in commands {
        // These need a running gateway's log (the test above), or minutes (`.ci/outside mutants`).
        if command.contains("--audit") || command.contains("--config") || command.contains("mutate") {
            continue;
        }
        let solver = Command::new("cvc5").arg("--version").output().is_ok();
        let words = command.split_whitespace().skip(1);
        let done = Command::new(env!("CARGO_BIN_EXE_fhirwall")).args(words).current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        let expected = if command.contains("prove") && !solver { 3 } else { 0 };
        assert_eq!(done.status.code(), Some(expected), "{command}: {text}");
        assert!(!text.is_empty(), "{command} says nothing");
        run += 1;
    }
    assert!(run >= 9, "{run} commands: are they still found?");
    let stamp = std::fs::read_to_string(dir.path().join("policies/proof.json"));
    assert!(
        stamp.is_ok_and(|text| text.contains("part2-only-on-a-lawful-basis")) || Command::new("cvc5").output().is_err()
    );
}

#[test]
fn without_the_solver_the_verb_says_how_to_install_it() {
    let done = Command::new(env!("CARGO_BIN_EXE_fhirwall"))
        .args(["policy", "prove"])
        .env("CVC5", "/nowhere/cvc5")
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(3));
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(text.contains("apt-get install cvc5"), "{text}");
}

#[test]
fn proving_the_shipped_set_takes_less_than_ten_seconds_and_says_so() {
    if Command::new("cvc5").arg("--version").output().is_err() {
        eprintln!("skipped: no cvc5 on this machine");
        return;
    }
    let (code, text) = fhirwall(&["policy", "prove"]);
    assert_eq!(code, 0, "{text}");
    for proof in
        ["reads-only-within-its-ceiling", "part2-only-on-a-lawful-basis", "no-policy-errs", "not-everything-is-denied"]
    {
        assert!(text.contains(&format!("PROVED {proof}")), "{proof}: {text}");
    }
    assert!(text.contains(" 0 failed, in "), "{text}");
}
