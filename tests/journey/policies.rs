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
