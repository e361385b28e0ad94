//! What a record itself says of the things that Consents may ask for: its dates, codes, references and authors.

use fhir_profiles::ids::InstanceId;
use fhir_profiles::reference::Reference;

use super::About;
use super::json::{Node, Object};
use super::terms::Code;
use super::when::TimeSpan;

/// Facts read from one resource, without its contained resources, which are judged by themselves.
#[derive(Clone, Default)]
pub struct RecordFacts {
    instance: Option<InstanceId>,
    time: Option<TimeSpan>,
    codes: Vec<Code>,
    references: Vec<Reference>,
    authors: Vec<Reference>,
}

/// R4's elements for when something took place, was ordered, or was recorded. `Consent.provision.dataPeriod` bounds
/// "clinical or operational relevant" time, so all of them count.
const MOMENTS: &[&str] = &[
    "effectiveDateTime",
    "effectiveInstant",
    "onsetDateTime",
    "performedDateTime",
    "occurrenceDateTime",
    "occurredDateTime",
    "authoredOn",
    "recordedDate",
    "assertedDate",
    "dateAsserted",
    "date",
    "dateTime",
    "issued",
    "created",
    "started",
    "sent",
    "received",
    "whenPrepared",
    "whenHandedOver",
    "recorded",
];
const PERIODS: &[&str] = &[
    "effectivePeriod",
    "onsetPeriod",
    "performedPeriod",
    "occurrencePeriod",
    "occurredPeriod",
    "period",
    "billablePeriod",
];
const AUTHORS: &[&str] = &["author", "performer", "recorder", "asserter", "informationSource", "requester"];

impl RecordFacts {
    /// Reads one resource. `instance` is what it is known as. What cannot be read is not known, which helps no permit.
    pub fn read(json: &[u8], instance: Option<InstanceId>) -> Self {
        let Some(Node::Object(mut resource)) = Node::parse(json) else { return Self { instance, ..Self::default() } };
        resource.remove("contained");
        let mut facts = Self { instance, time: time(&resource), ..Self::default() };
        for (element, value) in &resource {
            facts.collect(value, AUTHORS.contains(&element.as_str()));
        }
        facts
    }

    /// The facts, for a question. None where the record does not say.
    pub fn about(&self) -> About<'_> {
        About {
            instance: self.instance.as_ref(),
            time: self.time.as_ref(),
            codes: Some(&self.codes),
            references: Some(&self.references),
            authors: (!self.authors.is_empty()).then_some(self.authors.as_slice()),
        }
    }

    fn collect(&mut self, node: &Node, author: bool) {
        match node {
            Node::Null | Node::Bool(_) | Node::Number | Node::Text(_) => {}
            Node::Array(items) => items.iter().for_each(|item| self.collect(item, author)),
            Node::Object(object) => {
                let text = |key: &str| object.get(key).and_then(Node::as_text);
                if let (Some(system), Some(code)) = (text("system"), text("code")) {
                    self.codes.push(Code::new(system, code));
                }
                if let Some(reference) = text("reference") {
                    let reference = Reference::parse(reference);
                    if author {
                        self.authors.push(reference.clone());
                    }
                    self.references.push(reference);
                }
                object.values().for_each(|value| self.collect(value, author));
            }
        }
    }
}

/// The span of all dates of the resource. None if it has none, or one that cannot be read.
fn time(resource: &Object) -> Option<TimeSpan> {
    let mut all: Option<TimeSpan> = None;
    let moments = MOMENTS.iter().filter_map(|element| resource.get(*element)).map(moment);
    let periods = PERIODS.iter().filter_map(|element| resource.get(*element)).map(period);
    for span in moments.chain(periods) {
        let span = span?;
        all = Some(all.map_or(span, |all| all.hull(&span)));
    }
    all
}

fn moment(node: &Node) -> Option<TimeSpan> {
    TimeSpan::moment(node.as_text()?)
}

fn period(node: &Node) -> Option<TimeSpan> {
    // A list of periods, or one without bounds that can be read, is nothing to rely on.
    let period = node.as_object()?;
    let bound = |key: &str| match period.get(key) {
        None => Some(None),
        Some(node) => node.as_text().map(Some),
    };
    TimeSpan::period(bound("start")?, bound("end")?)
}

impl core::fmt::Debug for RecordFacts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RecordFacts").field("codes", &self.codes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_codes_references_and_authors_are_found() {
        let facts = RecordFacts::read(
            br#"{"resourceType":"Observation","id":"1","effectiveDateTime":"2025-03-01","issued":"2025-03-04T10:00:00Z",
                "code":{"coding":[{"system":"http://loinc.org","code":"1-8"}]},"subject":{"reference":"Patient/a"},
                "performer":[{"reference":"Practitioner/x"}],
                "contained":[{"resourceType":"Condition","code":{"coding":[{"system":"urn:s","code":"hidden"}]}}]}"#,
            None,
        );
        let about = facts.about();
        assert_eq!(about.codes, Some(&[Code::new("http://loinc.org", "1-8")][..]));
        assert_eq!(about.references.map(<[_]>::len), Some(2));
        assert_eq!(about.authors, Some(&[Reference::parse("Practitioner/x")][..]));
        assert_eq!(about.time, TimeSpan::period(Some("2025-03-01"), Some("2025-03-04T10:00:00Z")).as_ref());
    }

    #[test]
    fn what_is_not_there_is_not_known() {
        let facts = RecordFacts::read(br#"{"resourceType":"Observation"}"#, None);
        assert!(facts.about().time.is_none() && facts.about().authors.is_none() && facts.about().instance.is_none());
        for broken in [
            &br#"{"date":"soon"}"#[..],
            br#"{"date":"2025","period":{"start":5}}"#,
            br#"{"period":[{"start":"2025"}]}"#,
            b"{",
        ] {
            assert!(RecordFacts::read(broken, None).about().time.is_none());
        }
    }
}
