//! Versions of many records: each is shown only if its record may be seen as it is now, whole.

use std::collections::HashSet;

use fhir_profiles::engine::{BundleType, Document, Place, RedactError, ResourceFacts, Totals};
use fhir_profiles::ids::InstanceId;
use fhir_profiles::json;
use fhir_profiles::reference::Reference;
use fhirwall_policy::reason::Reason;
use serde_json::Value;

use super::{Account, Judged, Shown, Stage, account};
use crate::decide::Verdicts;
use crate::refusal::Refusal;

impl Judged<'_> {
    /// Is it a history?
    pub fn is_history(&self) -> bool {
        self.document.bundle_type() == Some(BundleType::History)
    }
}

/// The records whose versions an answer holds, deletions included. `None`: an entry names no record, or two.
pub fn recorded(history: &[u8]) -> Option<HashSet<InstanceId>> {
    let history = json::parse(history).ok()?;
    let entries = history.get("entry").and_then(Value::as_array);
    entries.into_iter().flatten().map(record_of).collect()
}

/// The record that a history entry is about: by the resource, or, where it was deleted, by the request.
fn record_of(entry: &Value) -> Option<InstanceId> {
    let requested = entry.get("request").and_then(|request| request.get("url")).and_then(Value::as_str);
    let requested = requested.map(Reference::parse).and_then(|reference| reference.on_server(&[]).cloned());
    let Some(resource) = entry.get("resource") else { return requested };
    let text = |name: &str| resource.get(name).and_then(Value::as_str);
    let shown = InstanceId { kind: text("resourceType")?.parse().ok()?, id: text("id")?.parse().ok()? };
    (requested.is_none_or(|requested| requested == shown)).then_some(shown)
}

/// Records that a caller sees whole.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    enforced: HashSet<InstanceId>,
    /// In a trial run: with only those verdicts carried out that hold in one.
    observed: HashSet<InstanceId>,
}

impl Whole {
    /// Those of another answer too.
    pub fn extend(&mut self, other: Self) {
        self.enforced.extend(other.enforced);
        self.observed.extend(other.observed);
    }
}

fn is_entry(facts: &ResourceFacts) -> bool {
    facts.place == Place::Entry && facts.parent == Some(0)
}

fn instance(facts: &ResourceFacts) -> Option<InstanceId> {
    Some(InstanceId { kind: facts.kind, id: facts.id.clone()? })
}

impl Stage<'_> {
    /// The rows of an answer that this caller sees whole.
    pub fn whole(&self, judged: Judged<'_>) -> Whole {
        let Judged { document, mut verdicts, .. } = judged;
        let enforced = self.seen_whole(&document, &verdicts);
        verdicts.try_out();
        let observed = if self.observing() { self.seen_whole(&document, &verdicts) } else { HashSet::new() };
        Whole { enforced, observed }
    }

    fn seen_whole(&self, document: &Document<'_>, verdicts: &Verdicts) -> HashSet<InstanceId> {
        let Ok(redacted) = self.redact(document, verdicts, Totals::Remove) else { return HashSet::new() };
        // A row of which something contained was reduced is reduced itself.
        let reduced: HashSet<u32> = redacted.reduced.into_iter().collect();
        let shown = redacted.disclosed.into_iter().filter(|at| !reduced.contains(at));
        let facts = shown.filter_map(|at| document.resources().get(usize::try_from(at).ok()?));
        facts.filter(|facts| is_entry(facts)).filter_map(instance).collect()
    }

    /// What may be seen of a judged history: versions of these records alone, each by its own labels too.
    ///
    /// # Errors
    /// A refusal when the answer as a whole is withheld.
    pub fn versions(
        &self,
        judged: Judged<'_>,
        current: &Whole,
        link: impl Fn(&str, &str) -> Option<String>,
    ) -> Result<Shown, Box<(Refusal, Account)>> {
        let Judged { document, links, mut verdicts, lacks } = judged;
        for (relation, url) in links {
            if let Some(shown) = link(&relation, &url) {
                verdicts.show_link(&relation, &url, shown);
            }
        }
        self.carried_out(&mut verdicts, lacks, |verdicts| {
            let current = if verdicts.is_trial() { &current.observed } else { &current.enforced };
            self.versions_of(&document, verdicts, current)
        })
    }

    fn versions_of(
        &self,
        document: &Document<'_>,
        verdicts: &mut Verdicts,
        current: &HashSet<InstanceId>,
    ) -> Result<Shown, Box<(Refusal, Account)>> {
        for (facts, at) in document.resources().iter().zip(0u32..).filter(|(facts, _)| is_entry(facts)) {
            if !instance(facts).is_some_and(|instance| current.contains(&instance)) {
                verdicts.withhold_row(at, Reason::LabelWithheld);
            }
        }
        let redacted = match self.redact(document, verdicts, Totals::Remove) {
            Ok(redacted) => redacted,
            Err(RedactError::RootWithheld { removals }) => {
                return Err(self.root_withheld(document, verdicts, &removals));
            }
        };
        let bases: Vec<&str> = self.endpoint.facts.bases.iter().map(String::as_str).collect();
        let mut account = account(document, verdicts, &redacted.removals, &bases);
        account.disclose(document, &redacted.disclosed, &bases);
        let body = without_foreign(document, &redacted.body, current)
            .map_err(|_| Box::new((Refusal::from(Reason::UpstreamUnintelligible), Account::default())))?;
        Ok(Shown { body, account })
    }
}

/// Entries that hold no resource were judged by nobody: they stay for the records that may be seen.
fn without_foreign(
    document: &Document<'_>,
    redacted: &[u8],
    current: &HashSet<InstanceId>,
) -> Result<Vec<u8>, json::Ambiguous> {
    debug_assert_eq!(document.bundle_type(), Some(BundleType::History), "only a history has such entries");
    let mut members = Vec::new();
    for (name, text) in json::members(redacted)? {
        if name != "entry" {
            members.push((name, text.get().to_owned()));
            continue;
        }
        let mut kept: Vec<String> = Vec::new();
        for entry in json::items(text.get().as_bytes())? {
            let about = record_of(&json::parse(entry.get().as_bytes())?);
            if about.is_some_and(|about| current.contains(&about)) {
                kept.push(entry.get().to_owned());
            }
        }
        if !kept.is_empty() {
            members.push((name, format!("[{}]", kept.join(","))));
        }
    }
    Ok(json::object(members.iter().map(|(name, text)| (name.as_str(), text.as_str()))).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entry: &str) -> Option<Vec<String>> {
        let found = recorded(format!(r#"{{"entry":[{entry}]}}"#).as_bytes())?;
        Some(found.iter().map(InstanceId::relative).collect())
    }

    #[test]
    fn an_entry_names_one_record_or_the_history_is_not_understood() {
        let one = Some(vec!["Patient/a".to_owned()]);
        assert_eq!(names(r#"{"resource":{"resourceType":"Patient","id":"a"}}"#), one);
        assert_eq!(names(r#"{"resource":{"resourceType":"Patient","id":"a"},"request":{"url":"Patient"}}"#), one);
        assert_eq!(names(r#"{"request":{"method":"DELETE","url":"Patient/a"}}"#), one);
        assert_eq!(names(r#"{"request":{"method":"DELETE","url":"Patient/a/_history/3"}}"#), one);
        for unclear in [
            r#"{"request":{"method":"DELETE","url":"https://ehr/fhir/Patient/a"}}"#,
            r#"{"request":{"method":"DELETE","url":"Patient"}}"#,
            r#"{"resource":{"resourceType":"Patient"}}"#,
            r#"{"resource":{"resourceType":"Patient","id":"a"},"request":{"url":"Patient/b"}}"#,
            "{}",
        ] {
            assert_eq!(names(unclear), None, "{unclear}");
        }
    }
}
