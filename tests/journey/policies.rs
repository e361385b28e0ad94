//! Policy sets on their way to live, and decisions on their way to words.

use crate::Stage;

impl Stage {
    fn policy_file(&self, name: &str, text: &str) {
        std::fs::write(self.neighbours().dir().join("policies").join(name), text).unwrap();
    }

    /// What the last attempt to reload was refused for.
    fn refused(&self) -> String {
        self.world.gateway.live.status().rejected.expect("a refusal").problems
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_carries_a_failed_proof_never_goes_live() {
    let stage = Stage::set().await;
    let epoch = stage.world.gateway.live.current().generation.policies.epoch().to_owned();
    let report = |epoch: &str, failed: bool| {
        serde_json::json!({
            "epoch": epoch, "invariants": "", "solver": "cvc5",
            "proofs": [{"id": "notes-never-by-general-consent", "says": "", "actions": 1, "failed": failed}],
        })
        .to_string()
    };
    stage.policy_file("proof.json", &report(&epoch, true));
    assert_eq!(stage.reload().await, 1);
    assert!(stage.refused().contains("breaks: notes-never-by-general-consent"), "{}", stage.refused());
    // The same report about another set says nothing of this one.
    stage.policy_file("proof.json", &report("another", true));
    assert_eq!(stage.reload().await, 2);
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_ones_own_goes_live_unproved_only_where_the_configuration_bears_it() {
    let stage = Stage::set().await;
    let own = r#"@id("own") @cites("a contract") @says("x") @reason("policy-forbids")
        forbid (principal == App::"nobody", action, resource);"#;
    stage.edit("fhirwall.yaml", |text| text.replace("{dir: policies}", "{dir: policies, proof: required}"));
    assert_eq!(stage.reload().await, 2, "the shipped set needs no report");
    stage.policy_file("own.cedar", own);
    assert_eq!(stage.reload().await, 2);
    assert!(stage.refused().contains("not proved: no proof.json"), "{}", stage.refused());
    stage.edit("fhirwall.yaml", |text| text.replace("proof: required", "proof: optional"));
    assert_eq!(stage.reload().await, 3);
}

/// A shadowed forbid beside the shipped set.
const WATCHED: &str = r#"@id("no-observations") @cites("a trial") @says("No observations.") @mode("shadow")
    forbid (principal, action, resource) when { resource.kind == Kind::"Observation" };"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_forbid_in_shadow_mode_would_deny_is_counted_and_not_denied() {
    let stage = Stage::set().await;
    stage.policy_file("watched.cedar", WATCHED);
    assert_eq!(stage.reload().await, 2);
    let reply = stage.treatment("/Observation?patient=dov-hart").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(stage.treatment("/Condition?patient=dov-hart").await.status, 200);
    let metrics = stage.world.gateway.shared.metrics.text().unwrap();
    let line = r#"fhirwall_shadow_denials_total{moment="request",policy="no-observations"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains(r#"{moment="record",policy="no-observations"}"#), "{metrics}");
    // What protects Part 2 records is never only watched.
    let part2 = WATCHED.replace("a trial", "42 CFR 2.13(a)").replace("no-observations", "part2-trial");
    stage.policy_file("watched.cedar", &part2);
    assert_eq!(stage.reload().await, 2);
    assert!(stage.refused().contains("shadow mode"), "{}", stage.refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_is_kept_under_the_ceiling_that_its_file_names() {
    let stage = Stage::set().await;
    let dov = "/Condition?patient=dov-hart";
    assert!(stage.treatment(dov).await.text().contains("Condition/"));
    stage.edit("partners/recovery-path.yaml", |text| text + "ceilings: [laboratory-results-only]\n");
    assert_eq!(stage.reload().await, 2);
    assert!(!stage.treatment(dov).await.text().contains("Condition/"));
    assert!(stage.treatment("/Observation?patient=dov-hart").await.text().contains("Observation/"));
    stage.edit("partners/recovery-path.yaml", |text| text.replace("laboratory-results-only", "results-only"));
    assert_eq!(stage.reload().await, 2);
    assert!(stage.refused().contains("no such template"), "{}", stage.refused());
}
