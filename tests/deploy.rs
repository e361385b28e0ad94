//! What stands in `deploy/` and `docs/` agrees with the program: examples load, alerts have runbooks, metrics exist.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fhirwall::config::{Config, load_partner};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn the_kustomize_example_is_a_good_configuration() {
    let example = root().join("deploy/kustomize/beside-hapi");
    let here = format!("{{dir: {}/", example.display());
    let yaml = text("deploy/kustomize/beside-hapi/fhirwall.yaml");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fhirwall.yaml");
    std::fs::write(&file, yaml.replace("{dir: /etc/fhirwall/", &here)).unwrap();
    let config = Config::load(&file, &|_| None).map_err(|problems| problems.to_string()).unwrap();
    assert_eq!(config.partners.len(), 1);
    assert_eq!(config.policies.len(), 4);
    load_partner(&example.join("partners/recovery-path.yaml"), &|_| None).unwrap();
}

/// Every `fhirwall_…` word of a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("fhirwall_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let known = metrics(&text("gateway/src/telemetry/metrics.rs"));
    for file in ["deploy/observability/alerts.yaml", "deploy/observability/grafana-dashboard.json"] {
        for metric in metrics(&text(file)) {
            let base = metric.trim_end_matches("_total").trim_end_matches("_bucket");
            assert!(known.contains(base) || known.contains(&metric), "{file} asks for {metric}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = text("deploy/observability/alerts.yaml");
    let named: BTreeSet<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).map(str::to_owned).collect();
    assert_eq!(alerts.matches("- alert:").count(), alerts.matches("runbook:").count());
    let entries = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let there: BTreeSet<_> =
        entries.map(|entry| format!("docs/runbooks/{}", entry.unwrap().file_name().to_string_lossy())).collect();
    assert_eq!(named, there);
}

#[test]
fn the_gateways_own_alerts_name_runbooks_that_are_there() {
    for alert in fhirwall::alerts::Alert::ALL {
        assert!(root().join(alert.runbook()).is_file(), "{}: {}", alert.as_str(), alert.runbook());
    }
}

#[test]
fn every_key_of_the_charts_values_is_in_its_schema() {
    let schema: serde_json::Value = serde_json::from_str(&text("deploy/helm/fhirwall/values.schema.json")).unwrap();
    let values = text("deploy/helm/fhirwall/values.yaml");
    let top = values.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    for key in top.filter_map(|line| line.split_once(':')).map(|(key, _)| key) {
        assert!(schema.pointer(&format!("/properties/{key}")).is_some(), "values.schema.json lacks {key}");
    }
}
