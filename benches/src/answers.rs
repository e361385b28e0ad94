//! Searchset Bundles of a wanted size, of our own making: vital signs of an invented patient, some entries labelled.

use serde_json::{Value, json};

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const INLINE_LABEL: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label";

/// A searchset of about `bytes` bytes: one entry in twenty carries the Part 2 label, one in twenty an inline label.
pub fn searchset(bytes: usize) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut length = 200;
    while length < bytes {
        let entry = entry(entries.len());
        length += entry.to_string().len() + 1;
        entries.push(entry);
    }
    json!({"resourceType": "Bundle", "type": "searchset", "total": entries.len(), "entry": entries})
        .to_string()
        .into_bytes()
}

fn entry(number: usize) -> Value {
    let mut observation = json!({
        "resourceType": "Observation",
        "id": format!("vital-{number}"),
        "meta": {"versionId": "1", "lastUpdated": "2026-01-15T09:30:00Z"},
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "vital-signs", "display": "Vital Signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}], "text": "Heart rate"},
        "subject": {"reference": "Patient/amara-osei"},
        "effectiveDateTime": format!("2026-01-{:02}T09:30:00Z", number % 28 + 1),
        "valueQuantity": {
            "value": 60 + number % 40, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        "note": [{"text": "Taken at rest, sitting, left arm; the patient had walked for ten minutes before."}],
    });
    if number % 20 == 7 {
        observation["meta"]["security"] = json!([{"system": ACT_CODE, "code": "42CFRPart2"}]);
    }
    if number % 20 == 13 {
        observation["meta"]["security"] = json!([{"system": ACT_CODE, "code": "PROCESSINLINELABEL"}]);
        observation["note"][0]["extension"] =
            json!([{"url": INLINE_LABEL, "valueCoding": {"system": ACT_CODE, "code": "42CFRPart2"}}]);
    }
    json!({
        "fullUrl": format!("https://ehr.example/fhir/Observation/vital-{number}"),
        "resource": observation,
        "search": {"mode": "match"},
    })
}
