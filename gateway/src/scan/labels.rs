//! Which sensitivity labels does the EHR use that no rule knows? They count as restricted, so each may withhold too much.

use std::collections::BTreeMap;
use std::sync::Arc;

use fhir_profiles::label::Label;
use serde_json::Value;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::control::{Control, Held, Severity};
use crate::forward::UpstreamRequest;
use crate::generation::upstream_of;
use crate::scan::Report;

pub(super) static CONTROLS: &[&Control] = &[&LABELS_UNKNOWN];

static LABELS_UNKNOWN: Control = Control {
    id: "labels-unknown",
    severity: Severity::Risk,
    cites: "42 CFR 2.13(a); 45 CFR 171.301(a); HL7 Healthcare Privacy and Security Classification System, section 5",
    asks: "Every sensitivity label that the EHR uses has a meaning here.",
    fix: "say in `labels.map` what it counts as; until then it counts as restricted",
    held: Held::ByScan,
};

/// The types on which labels are looked for, one page each: those that hold clinical facts.
const TYPES: &[&str] = &[
    "AllergyIntolerance",
    "Condition",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "MedicationRequest",
    "Observation",
    "Procedure",
];
const PAGE: u32 = 100;

/// The extension that carries a label of one element (DS4P, inline security labels).
const INLINE: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";

type Counts = BTreeMap<(String, String), u64>;

/// Reads one page of each clinical type with the gateway's own credential, keeps the labels and drops the rest.
pub(super) async fn sample(config: &Config, report: &mut Report) -> Vec<(String, String, u64)> {
    let mut seen = Counts::new();
    for endpoint in &config.gateway.endpoints {
        let what = format!("records of endpoint {}, for their labels", endpoint.name);
        let upstream = match upstream_of(endpoint, &config.gateway, &(Arc::new(SystemClock) as Arc<_>)) {
            Ok(upstream) => upstream,
            Err(error) => {
                report.asked(what, Some(error.to_string()));
                continue;
            }
        };
        let mut labels = Counts::new();
        let mut failure = None;
        for kind in TYPES {
            let query = format!("_count={PAGE}");
            match upstream.exchange(&UpstreamRequest::get(format!("/{kind}"), query)).await {
                Ok(answer) if answer.status.is_success() => match serde_json::from_slice::<Value>(&answer.body) {
                    Ok(page) => count(&page, &mut labels),
                    Err(_) => failure = Some(format!("its answer for {kind} is no JSON")),
                },
                // An EHR need not have every type.
                Ok(_) => {}
                Err(error) => failure = Some(format!("{kind}: {error:?}")),
            }
        }
        report.asked(what, failure);
        labels.retain(|(system, code), _| !is_known(config, system, code));
        for ((system, code), count) in &labels {
            let what = format!("the label `{code}` of {system} was seen {count} times, and no rule knows it");
            report.finding(&LABELS_UNKNOWN, &format!("endpoint {}", endpoint.name), what);
        }
        for (label, count) in labels {
            let so_far = seen.entry(label).or_default();
            *so_far = so_far.saturating_add(count);
        }
    }
    seen.into_iter().map(|((system, code), count)| (system, code, count)).collect()
}

fn is_known(config: &Config, system: &str, code: &str) -> bool {
    let mapped = config.gateway.labels.map.iter().any(|one| one.system == system && one.code == code);
    mapped || Label::from_coding(system, code).is_some()
}

/// Counts the labels of every resource and element below.
fn count(value: &Value, labels: &mut Counts) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| count(item, labels)),
        Value::Object(members) => {
            if let Some(security) = members.get("meta").and_then(|meta| meta.get("security")) {
                security.as_array().into_iter().flatten().for_each(|coding| note(coding, labels));
            }
            if members.get("url").and_then(Value::as_str) == Some(INLINE) {
                members.get("valueCoding").into_iter().for_each(|coding| note(coding, labels));
            }
            members.values().for_each(|member| count(member, labels));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn note(coding: &Value, labels: &mut Counts) {
    let text = |name: &str| coding.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let so_far = labels.entry((text("system"), text("code"))).or_default();
    *so_far = so_far.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_counted_wherever_they_stand() {
        let own = json!({"system": "urn:own", "code": "X"});
        let page = json!({"resourceType": "Bundle", "meta": {"security": [own]}, "entry": [
            {"resource": {"resourceType": "Condition", "meta": {"security": [own, {"code": "bare"}]},
                "contained": [{"resourceType": "Observation", "meta": {"security": [own]}}],
                "note": [{"text": "a", "_text": {"extension": [{"url": INLINE, "valueCoding": own}]}}]}},
            {"resource": {"resourceType": "Condition", "security": [own]}},
        ]});
        let mut labels = Counts::new();
        count(&page, &mut labels);
        let expected = [(("".to_owned(), "bare".to_owned()), 1), (("urn:own".to_owned(), "X".to_owned()), 4)];
        assert_eq!(labels.into_iter().collect::<Vec<_>>(), expected);
    }
}
