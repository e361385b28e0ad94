//! Whose records a user may open to an app, beside the user's own: a plain list, as the EHR links patients to the user.
//!
//! The EHR is asked with the gateway's own credential, so the list is no wider than what the EHR itself says of this user:
//! patients whose general practitioner the user is, or the one patient whom the user is related to. Records that carry
//! a security label stay off the list, since a name alone would tell.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use fhir_profiles::ids::LogicalId;
use fhir_profiles::reference::Reference;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::consent::PatientChoice;
use super::provider::User;
use crate::consents::{FetchFailed, UpstreamFetch};
use crate::identify::json::unique_object;

/// Longer lists are cut: nobody finds a patient among hundreds, and each name is a disclosure.
const MOST: usize = 50;

/// The EHR cannot say now. No empty list: that would say that there is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the EHR cannot be asked for the user's patients")]
pub struct DirectoryUnavailable;

/// Whose records a user may open to an app.
#[async_trait]
pub trait PatientDirectory: Send + Sync + fmt::Debug {
    /// The patients linked to this user, who is the resource `kind/id` of the EHR.
    async fn patients_of(
        &self,
        kind: &str,
        id: &LogicalId,
        now: OffsetDateTime,
    ) -> Result<Listed, DirectoryUnavailable>;
}

/// The list for the consent page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub choices: Vec<PatientChoice>,
    /// There are more, which are not shown.
    pub cut: bool,
}

impl Listed {
    pub fn only(choice: PatientChoice) -> Self {
        Self { choices: vec![choice], cut: false }
    }
}

/// Whom a page named to whom, for the record that comes before it.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedPatients {
    pub client_id: Arc<str>,
    /// Who vouches for the user.
    pub issuer: Arc<str>,
    pub sub: Arc<str>,
    pub fhir_user: Option<String>,
    pub patients: Vec<String>,
}

impl NamedPatients {
    pub(super) fn of(client_id: &str, issuer: &str, user: &User, listed: &Listed) -> Self {
        Self {
            client_id: client_id.into(),
            issuer: issuer.into(),
            sub: user.sub.as_str().into(),
            fhir_user: user.fhir_user.clone(),
            patients: listed.choices.iter().map(|choice| choice.id.clone()).collect(),
        }
    }
}

impl fmt::Debug for NamedPatients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedPatients").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// The list as the EHR has it.
#[derive(Debug)]
pub struct EhrPatients(Arc<dyn UpstreamFetch>);

impl EhrPatients {
    /// `ehr` asks with the gateway's own credential.
    pub fn new(ehr: Arc<dyn UpstreamFetch>) -> Self {
        Self(ehr)
    }

    async fn search(&self, query: &str) -> Result<Listed, DirectoryUnavailable> {
        let bundle = self.read("/Patient", query).await?.ok_or(DirectoryUnavailable)?;
        if bundle.get("resourceType").and_then(Value::as_str) != Some("Bundle") {
            return Err(DirectoryUnavailable);
        }
        let entries = bundle.get("entry").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let found = entries.iter().filter_map(|entry| entry.get("resource")?.as_object());
        let mut choices: Vec<PatientChoice> = found.filter_map(choice).collect();
        choices.sort_by(|a, b| a.label.cmp(&b.label));
        let more = bundle.get("link").and_then(Value::as_array).into_iter().flatten();
        let cut = choices.len() > MOST
            || more.filter_map(|link| link.get("relation")?.as_str()).any(|relation| relation == "next");
        choices.truncate(MOST);
        Ok(Listed { choices, cut })
    }

    /// The patient of a RelatedPerson, while the relation stands (R4 relatedperson.html: `active`, `period`).
    async fn related(&self, id: &LogicalId, now: OffsetDateTime) -> Result<Listed, DirectoryUnavailable> {
        let Some(person) = self.read(&format!("/RelatedPerson/{}", id.as_str()), "").await? else {
            return Ok(Listed::default());
        };
        let own = person.get("resourceType").and_then(Value::as_str) == Some("RelatedPerson")
            && person.get("id").and_then(Value::as_str) == Some(id.as_str());
        let active = person.get("active").and_then(Value::as_bool) != Some(false);
        let patient = person.get("patient").and_then(|patient| patient.get("reference")).and_then(Value::as_str);
        let Some(patient) = patient.filter(|_| own && active && stands(&person, now)).and_then(patient_id) else {
            return Ok(Listed::default());
        };
        let record = self.read(&format!("/Patient/{}", patient.as_str()), "").await?;
        let named = record.as_ref().and_then(choice).filter(|choice| choice.id == patient.as_str());
        Ok(Listed { choices: named.into_iter().collect(), cut: false })
    }

    /// One answer of the EHR, strictly read; `None` when it has nothing there.
    async fn read(&self, path: &str, query: &str) -> Result<Option<Map<String, Value>>, DirectoryUnavailable> {
        match self.0.get(path, query).await {
            Ok(body) => unique_object(&body).map(Some).map_err(|_| DirectoryUnavailable),
            Err(FetchFailed::Unusable) if query.is_empty() => Ok(None),
            Err(FetchFailed::Unusable | FetchFailed::Unreachable | FetchFailed::TimedOut) => Err(DirectoryUnavailable),
        }
    }
}

#[async_trait]
impl PatientDirectory for EhrPatients {
    async fn patients_of(
        &self,
        kind: &str,
        id: &LogicalId,
        now: OffsetDateTime,
    ) -> Result<Listed, DirectoryUnavailable> {
        match kind {
            "Practitioner" | "PractitionerRole" => {
                let query = format!("general-practitioner={kind}/{}&_count={MOST}", id.as_str());
                self.search(&query).await
            }
            "RelatedPerson" => self.related(id, now).await,
            _ => Ok(Listed::default()),
        }
    }
}

fn patient_id(reference: &str) -> Option<LogicalId> {
    match Reference::parse(reference) {
        Reference::Relative { instance, .. } if instance.kind.as_str() == "Patient" => Some(instance.id),
        Reference::Relative { .. }
        | Reference::Absolute { .. }
        | Reference::Contained(_)
        | Reference::Urn(_)
        | Reference::Opaque => None,
    }
}

/// A patient as a line of the list. Nobody whose record is retired, and nobody whose record is labelled.
fn choice(patient: &Map<String, Value>) -> Option<PatientChoice> {
    let id: LogicalId = patient.get("id")?.as_str()?.parse().ok()?;
    let is_patient = patient.get("resourceType").and_then(Value::as_str) == Some("Patient");
    let retired = patient.get("active").and_then(Value::as_bool) == Some(false);
    if !is_patient || retired || is_labelled(patient) {
        return None;
    }
    let name = name(patient.get("name")?.as_array()?)?;
    let born = patient.get("birthDate").and_then(Value::as_str);
    let label = born.map_or_else(|| name.clone(), |born| format!("{name}, born {born}"));
    Some(PatientChoice { id: id.as_str().to_owned(), label })
}

/// Any security label beyond the ordinary degrees of confidentiality, in any shape.
fn is_labelled(patient: &Map<String, Value>) -> bool {
    const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
    let ordinary = |label: &Value| {
        let text = |name: &str| label.get(name).and_then(Value::as_str);
        text("system") == Some(CONFIDENTIALITY) && text("code").is_some_and(|code| ["U", "L", "M", "N"].contains(&code))
    };
    match patient.get("meta").map(|meta| meta.get("security")) {
        None | Some(None) => false,
        Some(Some(Value::Array(labels))) => !labels.iter().all(ordinary),
        Some(Some(_)) => true,
    }
}

/// The name in use: `official`, else `usual`, else the first that is not old.
fn name(names: &[Value]) -> Option<String> {
    let used = |wanted: &str| {
        names.iter().find(|name| name.get("use").and_then(Value::as_str).is_some_and(|used| used == wanted))
    };
    let current = || names.iter().find(|name| name.get("use").and_then(Value::as_str) != Some("old"));
    let name = used("official").or_else(|| used("usual")).or_else(current)?;
    if let Some(text) = name.get("text").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let given = name.get("given").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let parts: Vec<&str> = given.chain(name.get("family").and_then(Value::as_str)).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// `period`, by whole days as FHIR dates allow: a relation that has ended, or not begun, opens nothing.
fn stands(person: &Map<String, Value>, now: OffsetDateTime) -> bool {
    let Some(period) = person.get("period") else { return true };
    let today = now.date().to_string();
    let day = |name: &str| match period.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(()),
    };
    // Compared as text over what is stated: `2027` and `2027-03-01` both begin with the year.
    let (Ok(start), Ok(end)) = (day("start"), day("end")) else { return false };
    let cut = |text: &str| today.get(..text.len().min(10)).unwrap_or_default().to_owned();
    let begun = start.is_none_or(|start| start.get(..10).unwrap_or(start) <= cut(start).as_str());
    let over = end.is_some_and(|end| end.get(..10).unwrap_or(end) < cut(end).as_str());
    begun && !over
}

#[cfg(test)]
mod tests;
