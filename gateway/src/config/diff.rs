//! What a change of configuration would alter, key by key, in words.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value as Json;

use crate::config::read::Setting as _;
use crate::config::{Config, Partners};

/// One thing that a change alters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Where: a key path, `partner x`, or `policy y`.
    pub subject: String,
    /// How.
    pub how: How,
}

/// How something is altered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It is new; the value, when it is a small one.
    Added(Option<String>),
    /// It is gone.
    Removed(Option<String>),
    /// It has another value.
    Changed {
        /// Before.
        from: String,
        /// After.
        to: String,
    },
    /// Its text is another.
    Rewritten,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, how } = self;
        match how {
            How::Added(None) => write!(f, "{subject} is added"),
            How::Added(Some(value)) => write!(f, "{subject} gains {value}"),
            How::Removed(None) => write!(f, "{subject} is removed"),
            How::Removed(Some(value)) => write!(f, "{subject} loses {value}"),
            How::Changed { from, to } => write!(f, "{subject}: {from} becomes {to}"),
            How::Rewritten => write!(f, "{subject} is rewritten"),
        }
    }
}

/// Everything that going from `old` to `new` alters. Paths are compared from each file's own directory.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", &at_home(old.gateway.shown(), old), &at_home(new.gateway.shown(), new), &mut changes);
    compare_partners((old, &old.partners), (new, &new.partners), &mut changes);
    compare_policies(old, new, &mut changes);
    changes
}

/// The tree with paths below the configuration's directory made relative to it.
fn at_home(mut tree: Json, config: &Config) -> Json {
    fn walk(tree: &mut Json, home: &str) {
        match tree {
            Json::String(text) => {
                if let Some(rest) = text.strip_prefix(home).and_then(|rest| rest.strip_prefix('/')) {
                    *text = rest.to_owned();
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| walk(item, home)),
            Json::Object(map) => map.values_mut().for_each(|value| walk(value, home)),
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }
    if let Some(home) = config.file.parent().filter(|home| !home.as_os_str().is_empty()) {
        walk(&mut tree, &home.display().to_string());
    }
    tree
}

fn compare_partners(old: (&Config, &Partners), new: (&Config, &Partners), changes: &mut Vec<Change>) {
    let ids = |partners: &Partners| partners.iter().map(|one| one.file.client_id.clone()).collect::<BTreeSet<_>>();
    for id in ids(old.1).union(&ids(new.1)) {
        let subject = format!("partner {id}");
        match (old.1.get(id), new.1.get(id)) {
            (Some(before), Some(after)) => {
                compare(&subject, &at_home(before.file.shown(), old.0), &at_home(after.file.shown(), new.0), changes);
            }
            (Some(_), None) => changes.push(Change { subject, how: How::Removed(None) }),
            (None, _) => changes.push(Change { subject, how: How::Added(None) }),
        }
    }
}

fn compare_policies(old: &Config, new: &Config, changes: &mut Vec<Change>) {
    let find = |config: &Config, name: &str| config.policies.iter().find(|policy| policy.name == name).cloned();
    let names: BTreeSet<_> = old.policies.iter().chain(new.policies.iter()).map(|policy| policy.name.clone()).collect();
    for name in names {
        let how = match (find(old, &name), find(new, &name)) {
            (Some(before), Some(after)) if before == after => continue,
            (Some(_), Some(_)) => How::Rewritten,
            (Some(_), None) => How::Removed(None),
            (None, _) => How::Added(None),
        };
        changes.push(Change { subject: format!("policy {name}"), how });
    }
}

fn compare(path: &str, old: &Json, new: &Json, changes: &mut Vec<Change>) {
    match (old, new) {
        _ if old == new => {}
        (Json::Object(before), Json::Object(after)) => {
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (before.get(key), after.get(key)) {
                    (Some(old), Some(new)) => compare(&path, old, new, changes),
                    (Some(old), None) => changes.push(Change { subject: path, how: How::Removed(small(old)) }),
                    (None, Some(new)) => changes.push(Change { subject: path, how: How::Added(small(new)) }),
                    (None, None) => {}
                }
            }
        }
        (Json::Array(before), Json::Array(after)) => compare_lists(path, before, after, changes),
        _ => changes.push(Change { subject: path.to_owned(), how: How::Changed { from: words(old), to: words(new) } }),
    }
}

/// Items with a name of their own are compared with their namesake; others are there or not; order counts when it alone
/// differs, as it does for keys.
fn compare_lists(path: &str, old: &[Json], new: &[Json], changes: &mut Vec<Change>) {
    let before = changes.len();
    let same = |a: &Json, b: &Json| match (name(a), name(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a == b,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let item = |value: &Json| name(value).map_or_else(|| path.to_owned(), |name| format!("{path}[{name}]"));
    for one in old {
        match new.iter().find(|other| same(one, other)) {
            Some(other) => compare(&item(one), one, other, changes),
            None => changes.push(Change { subject: item(one), how: How::Removed(small(one)) }),
        }
    }
    for one in new.iter().filter(|one| !old.iter().any(|other| same(one, other))) {
        changes.push(Change { subject: item(one), how: How::Added(small(one)) });
    }
    if changes.len() == before {
        let (from, to) = (Json::from(old.to_vec()), Json::from(new.to_vec()));
        changes.push(Change { subject: path.to_owned(), how: How::Changed { from: words(&from), to: words(&to) } });
    }
}

fn name(item: &Json) -> Option<&str> {
    ["name", "issuer", "address", "control"].iter().find_map(|key| item.get(key)?.as_str())
}

fn small(value: &Json) -> Option<String> {
    (!value.is_object() || name(value).is_none()).then(|| words(value))
}

fn words(value: &Json) -> String {
    match value {
        Json::String(text) => format!("`{text}`"),
        Json::Array(items) => format!("[{}]", items.iter().map(words).collect::<Vec<_>>().join(", ")),
        Json::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}: {}", words(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{Site, good};

    fn told(patches: &[(&str, &str, &str)]) -> String {
        let site = Site::good();
        for (file, old, new) in patches {
            site.patch(file, old, new);
        }
        let changed = site.load().unwrap();
        changes(&good(), &changed).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_same_configuration_in_another_place_changes_nothing() {
        assert_eq!(told(&[]), "");
    }

    #[test]
    fn changes_are_told_in_words() {
        let site = Site::good();
        site.patch("fhirwall.yaml", "cache: 30s", "cache: 60s");
        site.patch("fhirwall.yaml", "sources: [meta, inline, codes]", "sources: [meta, codes]");
        site.patch("fhirwall.yaml", "seal-2.key, keys/seal-1.key", "seal-1.key, keys/seal-2.key");
        site.patch("fhirwall.yaml", "ehr-2.internal:9443/fhir]", "ehr-3.internal:9443/fhir]");
        site.patch("fhirwall.yaml", "  - name: side", "  - name: annex");
        site.patch("fhirwall.yaml", "otlp_endpoint: https://otel.example.org:4317, ", "");
        site.patch("partners/recovery-path.yaml", "status: active", "status: suspended");
        site.patch("policies/base.cedar", "forbid (", "permit (");
        std::fs::remove_file(site.path("partners/portal.yaml")).unwrap();
        let told: Vec<_> = changes(&good(), &site.load().unwrap()).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        consent.cache: `30s` becomes `1m`
        endpoints[main].upstream.urls loses `https://ehr-2.internal:9443/fhir`
        endpoints[main].upstream.urls gains `https://ehr-3.internal:9443/fhir`
        endpoints[side] is removed
        endpoints[annex] is added
        keys.seal_files: [`keys/seal-2.key`, `keys/seal-1.key`] becomes [`keys/seal-1.key`, `keys/seal-2.key`]
        labels.sources loses `inline`
        telemetry.otlp_endpoint loses `https://otel.example.org:4317`
        partner portal is removed
        partner recovery-path.status: `active` becomes `suspended`
        policy base.cedar is rewritten
        ");
    }

    #[test]
    fn a_changed_secret_is_not_told() {
        assert_eq!(told(&[("fhirwall.yaml", "${REDIS_URL}", "${REDIS_URL_2}")]), "");
    }
}
