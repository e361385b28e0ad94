//! Two of the tour's decisions, as their record tells them to the operator.

use fhirwall_policy::cedar::PolicySet;
use http::{Method, StatusCode};
use serde_json::Value;

use super::Guide;
use crate::demo::client::Reply;

impl Guide<'_> {
    /// Why Bruno Vale's conditions were withheld, and why a condition could not be created.
    pub(super) async fn explanation(&mut self) -> anyhow::Result<()> {
        self.screen.stop("Decisions, explained to the operator");
        self.screen.say(
            "The client got a number, X-Request-Id. Whoever runs the gateway asks what it stands for: first the search \
             about Bruno Vale, then the refusal.",
        );
        let search = self.decision(&self.withheld.clone()).await?;
        self.told(&search.json());
        let withheld = search.json().get("withheld").and_then(Value::as_array).map_or(0, Vec::len);
        let law = search.text().contains("part2-lawful-basis");
        self.screen.check("it tells what was withheld, under which rule and law", withheld > 0 && law);
        let text = search.text();
        let secret = self.world.treatment.token.rsplit('.').next().unwrap_or("?");
        let content = ["Vale", "pioid", "F11", secret].iter().any(|word| text.contains(word));
        self.screen.check("it holds no token and nothing of the record's content", !content);
        let refusal = self.decision(&self.refused.clone()).await?;
        self.told(&refusal.json());
        let reason = refusal.json().get("reason").cloned().unwrap_or_default();
        self.screen.check(
            "the refusal too, with the information-blocking exception it falls under",
            refusal.status == StatusCode::OK && reason == "insufficient-scope",
        );
        Ok(())
    }

    async fn decision(&mut self, id: &str) -> anyhow::Result<Reply> {
        let url = format!("{}/decisions/{id}", self.world.admin_url());
        self.screen.request("GET", &url, "the operator");
        self.anyone.send(Method::GET, &url, &[], "").await
    }

    /// A decision's record in a few lines.
    fn told(&mut self, record: &Value) {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or("-");
        let list = |key: &str| -> Vec<&str> {
            record.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let (partner, user, purpose) = (text("partner"), text("user"), text("purpose"));
        let status = record.get("status").map(ToString::to_string).unwrap_or_default();
        self.screen.fact(
            "asked",
            &format!("{} {} by {partner}, user {user}, purpose {purpose}", text("interaction"), text("resource_type")),
        );
        self.screen.fact(
            "answered",
            &format!("{status} {}", record.get("reason").and_then(Value::as_str).unwrap_or_default()),
        );
        if record.get("exception").is_some() {
            self.screen.fact("exception", text("exception"));
        }
        if !list("instances").is_empty() {
            self.screen.fact("shown", &list("instances").join(" "));
        }
        for withheld in record.get("withheld").and_then(Value::as_array).into_iter().flatten() {
            let labels: Vec<&str> = withheld
                .get("labels")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let rule = withheld.get("rule").and_then(Value::as_str).unwrap_or_default();
            let count = withheld.get("count").map(ToString::to_string).unwrap_or_default();
            self.screen.fact("withheld", &format!("{count} by {rule}: {}", labels.join(" ")));
        }
        // The demo runs on the shipped policies.
        let policies = PolicySet::shipped().ok();
        for policy in list("policies").iter().filter_map(|id| policies.as_ref()?.policy(id)) {
            self.screen.fact(&policy.id, &format!("{} ({})", policy.says, policy.cites));
        }
        self.screen.line("");
    }
}
