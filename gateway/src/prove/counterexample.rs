//! A request that breaks an invariant, in FHIR's terms.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the solver found: the question as tables and `policy explain` take it. It is synthetic; no data stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counterexample(pub(super) Value);

impl Counterexample {
    fn text(&self, path: [&str; 2]) -> String {
        match self.0.get(path[0]).and_then(|of| of.get(path[1])) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                if items.is_empty() { "none".to_owned() } else { items.join(", ") }
            }
            Some(other) => other.to_string(),
            None => "any".to_owned(),
        }
    }
}

impl core::fmt::Display for Counterexample {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "  permitted: a partner with Part 2 basis {} (registered for {}), asking for {}, user type {}",
            self.text(["caller", "basis"]),
            self.text(["caller", "purposes"]),
            self.text(["caller", "purpose"]),
            self.text(["caller", "user"]),
        )?;
        if self.0.get("record").is_some() {
            write!(
                f,
                ",\n    sees a {} labelled {}; consents: {}; patient: {}",
                self.text(["record", "kind"]),
                self.text(["record", "labels"]),
                self.text(["record", "consent"]),
                self.text(["record", "patient"]),
            )?;
        } else {
            write!(f, ",\n    does {} on {}", self.text(["target", "action"]), self.text(["target", "kind"]))?;
        }
        write!(f, "\n  all facts: {}", self.0)
    }
}
