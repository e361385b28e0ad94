//! Consents from a file: a Bundle, an array, a single Consent, or NDJSON. For offline questions, and for a source that
//! is given whole.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use fhir_profiles::ids::LogicalId;
use fhirwall_policy::consent::{ConsentBook, ConsentRecord};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::searchset::Found;
use super::{ConsentSource, ConsentUnavailable};

/// Consents that were given whole. Those of other patients than the one asked for are left out of the patient's book.
pub struct GivenConsents {
    found: Vec<Found>,
    bases: Arc<[Box<str>]>,
    /// Resources of other types, which say nothing here.
    others: usize,
}

/// Refusal of a file that is none of the forms above. It carries no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a Bundle, an array, a Consent, or NDJSON of Consents: every value must be one JSON object with a resourceType"
)]
pub struct NotConsents(());

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "resourceType")]
    resource_type: String,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(default, borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

impl GivenConsents {
    /// Reads a file. `bases` are those under which the Consents name the instances of their server.
    ///
    /// # Errors
    /// [`NotConsents`] for another form. A Consent that cannot be understood is no error: it denies.
    pub fn read(text: &[u8], bases: &[String]) -> Result<Self, NotConsents> {
        let bases = bases.iter().map(|base| base.trim_end_matches('/').into()).collect();
        let mut given = Self { found: Vec::new(), bases, others: 0 };
        match serde_json::from_slice::<&RawValue>(text) {
            Ok(whole) => given.value(whole.get())?,
            Err(_) => {
                let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
                for line in lines {
                    given.resource(std::str::from_utf8(line).map_err(|_| NotConsents(()))?)?;
                }
            }
        }
        Ok(given)
    }

    /// How many Consents there are, readable or not, and how many resources of other types.
    pub const fn count(&self) -> (usize, usize) {
        (self.found.len(), self.others)
    }

    /// The patient's book. A Consent that cannot be understood and does not name its patient is in every book.
    pub fn book(&self, patient: &LogicalId) -> ConsentBook {
        let mut book = ConsentBook::new(patient.clone(), Arc::clone(&self.bases));
        let bases: Vec<&str> = self.bases.iter().map(|base| &**base).collect();
        for found in &self.found {
            match found {
                // Refused means another patient's.
                Found::Read(record) => drop(book.add(record.clone())),
                Found::Unreadable(unreadable) => {
                    let named = unreadable.patient.as_ref().and_then(|reference| reference.on_server(&bases));
                    if named.is_none_or(|named| named.id == *patient) {
                        book.add_unreadable(unreadable.clone());
                    }
                }
            }
        }
        book
    }

    fn value(&mut self, text: &str) -> Result<(), NotConsents> {
        if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
            return items.into_iter().try_for_each(|item| self.resource(item.get()));
        }
        if type_of(text)? != "Bundle" {
            return self.resource(text);
        }
        let bundle: Bundle<'_> = serde_json::from_str(text).map_err(|_| NotConsents(()))?;
        bundle.entry.into_iter().filter_map(|entry| entry.resource).try_for_each(|item| self.resource(item.get()))
    }

    fn resource(&mut self, text: &str) -> Result<(), NotConsents> {
        if type_of(text)? != "Consent" {
            self.others += 1;
            return Ok(());
        }
        self.found.push(match ConsentRecord::parse(text.as_bytes()) {
            Ok(record) => Found::Read(record),
            Err(unreadable) => Found::Unreadable(unreadable),
        });
        Ok(())
    }
}

fn type_of(text: &str) -> Result<String, NotConsents> {
    serde_json::from_str::<Typed>(text).map(|typed| typed.resource_type).map_err(|_| NotConsents(()))
}

#[async_trait]
impl ConsentSource for GivenConsents {
    async fn consents(
        &self,
        patients: &[LogicalId],
        _now: OffsetDateTime,
    ) -> Result<HashMap<LogicalId, Arc<ConsentBook>>, ConsentUnavailable> {
        Ok(patients.iter().map(|patient| (patient.clone(), Arc::new(self.book(patient)))).collect())
    }

    fn changed(&self, _patient: &LogicalId) {}

    fn changed_all(&self) {}

    fn epoch(&self) -> u64 {
        0
    }
}

impl fmt::Debug for GivenConsents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenConsents").field("found", &self.found.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = r#"{"resourceType":"Consent","id":"c1","status":"inactive","patient":{"reference":"Patient/a"}}"#;
    const B: &str = r#"{"resourceType":"Consent","id":"c2","status":"inactive","patient":{"reference":"Patient/b"}}"#;
    const PATIENT: &str = r#"{"resourceType":"Patient","id":"a"}"#;

    #[test]
    fn every_form_gives_the_same_books() {
        for text in [
            format!(
                r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"resource":{A}}},{{"resource":{B}}},{{"resource":{PATIENT}}},{{}}]}}"#
            ),
            format!("[{A},{B},{PATIENT}]"),
            format!("{A}\n\n{B}\r\n{PATIENT}\n"),
        ] {
            let given = GivenConsents::read(text.as_bytes(), &[]).unwrap();
            assert_eq!(given.count(), (2, 1), "{text}");
            assert_eq!(given.book(&"a".parse().unwrap()).len(), 1);
            assert_eq!(given.book(&"z".parse().unwrap()).len(), 0);
        }
        assert_eq!(GivenConsents::read(A.as_bytes(), &[]).unwrap().count(), (1, 0));
    }

    #[test]
    fn what_cannot_be_attributed_is_everybodys() {
        let text = r#"[{"resourceType":"Consent","id":"c1","status":"active"}]"#;
        let given = GivenConsents::read(text.as_bytes(), &[]).unwrap();
        assert_eq!(given.book(&"z".parse().unwrap()).len(), 1);
    }

    #[test]
    fn another_form_is_refused() {
        for text in ["", "{", "{}", "[1]", "resource", "{\"resourceType\":\"Consent\",\"resourceType\":\"Patient\"}"] {
            let refused = GivenConsents::read(text.as_bytes(), &[]);
            assert!(refused.is_err() || text.is_empty(), "{text}");
        }
    }
}
