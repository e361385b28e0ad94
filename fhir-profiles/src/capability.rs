//! The CapabilityStatement of an endpoint: what this gateway rules on and offers, nothing of the EHR behind it
//! (R4 capabilitystatement.html, http.html#capabilities; SMART App Launch 2.2 for the security part).

use serde_json::{Value, json};

use crate::ids::ResourceType;
use crate::operation::Operation;
use crate::search::{Kind, definition, definitions};

/// What one endpoint offers, as one configuration generation has it.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// `base_url`, as clients see it.
    pub base_url: &'a str,
    /// When the configuration generation was made, as a FHIR dateTime.
    pub date: &'a str,
    /// Version of the gateway.
    pub software_version: &'a str,
    /// Interactions on each type, by the codes of R4 `type-restful-interaction`.
    pub types: &'a [(ResourceType, &'a [&'static str])],
    /// `batch`, `transaction`, `search-system`, `history-system`.
    pub system: &'a [&'static str],
    pub operations: &'a [Operation],
    /// Where the authorization server stands, if clients are to be told here too.
    pub smart: Option<Smart<'a>>,
}

/// The endpoints of SMART App Launch, for servers whose clients still read them from the CapabilityStatement.
#[derive(Clone, Copy, Debug)]
pub struct Smart<'a> {
    pub authorize: &'a str,
    pub token: &'a str,
}

/// Every type-level interaction that has a rule here.
pub const TYPE_INTERACTIONS: &[&str] =
    &["read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"];

/// Every system-level interaction that has a rule here.
pub const SYSTEM_INTERACTIONS: &[&str] = &["transaction", "batch", "search-system", "history-system"];

/// Writes the statement.
pub fn statement(offer: &Offer<'_>) -> Value {
    let mut rest = json!({
        "mode": "server",
        "security": security(offer.smart),
        "resource": offer.types.iter().map(|(kind, codes)| resource(*kind, codes, offer.operations)).collect::<Vec<_>>(),
    });
    if let Value::Object(members) = &mut rest {
        for (name, list) in [("interaction", codes(offer.system)), ("operation", operations(None, offer.operations))] {
            if !list.is_empty() {
                members.insert(name.to_owned(), Value::Array(list));
            }
        }
    }
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": offer.date,
        "kind": "instance",
        "software": {"name": "fhirwall", "version": offer.software_version},
        "implementation": {"description": "FHIR R4 endpoint behind fhirwall", "url": offer.base_url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "patchFormat": ["application/json-patch+json"],
        "rest": [rest],
    })
}

fn security(smart: Option<Smart<'_>>) -> Value {
    let mut security = json!({
        "cors": true,
        "service": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
            "code": "SMART-on-FHIR",
        }]}],
    });
    if let (Some(smart), Value::Object(members)) = (smart, &mut security) {
        members.insert(
            "extension".to_owned(),
            json!([{
                "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                "extension": [
                    {"url": "authorize", "valueUri": smart.authorize},
                    {"url": "token", "valueUri": smart.token},
                ],
            }]),
        );
    }
    security
}

fn resource(kind: ResourceType, interactions: &[&'static str], offered: &[Operation]) -> Value {
    let has = |code: &str| interactions.contains(&code);
    let mut resource = json!({
        "type": kind.as_str(),
        "versioning": if has("update") || has("patch") { "versioned-update" } else { "versioned" },
        "readHistory": has("history-instance"),
        // A PUT to an id that is not there would tell which ids are there.
        "updateCreate": false,
        "conditionalCreate": has("create") && has("search-type"),
        "conditionalRead": "not-supported",
        "conditionalUpdate": has("update") && has("search-type"),
        "conditionalDelete": if has("delete") && has("search-type") { "single" } else { "not-supported" },
    });
    if let Value::Object(members) = &mut resource {
        if !interactions.is_empty() {
            members.insert("interaction".to_owned(), Value::Array(codes(interactions)));
        }
        let operations = operations(Some(kind), offered);
        if !operations.is_empty() {
            members.insert("operation".to_owned(), Value::Array(operations));
        }
        if has("search-type") {
            members.insert("searchParam".to_owned(), Value::Array(search_parameters(kind)));
        }
    }
    resource
}

fn codes(codes: &[&'static str]) -> Vec<Value> {
    codes.iter().map(|code| json!({"code": code})).collect()
}

fn search_parameters(kind: ResourceType) -> Vec<Value> {
    let common = ["_id", "_lastUpdated", "_profile"].into_iter().filter_map(|name| definition(kind, name));
    common
        .chain(definitions(kind))
        // What has no rule is not advertised.
        .filter(|row| row.kind != Kind::Special)
        .map(|row| json!({"name": row.name, "type": row.kind.code()}))
        .collect()
}

fn operations(kind: Option<ResourceType>, offered: &[Operation]) -> Vec<Value> {
    offered
        .iter()
        .filter(|operation| operation.is_offered_on(kind))
        .map(|operation| json!({"name": operation.name(), "definition": operation.definition()}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer<'a>(types: &'a [(ResourceType, &'a [&'static str])]) -> Value {
        statement(&Offer {
            base_url: "https://fhir.example.org/fhir",
            date: "2026-01-01T00:00:00Z",
            software_version: "0.1.0",
            types,
            system: &["batch"],
            operations: Operation::ALL,
            smart: Some(Smart {
                authorize: "https://fhir.example.org/fhir/auth/authorize",
                token: "https://fhir.example.org/fhir/auth/token",
            }),
        })
    }

    #[test]
    fn only_what_is_offered_is_said() {
        let observation: ResourceType = "Observation".parse().unwrap();
        let statement = offer(&[
            (ResourceType::PATIENT, &["read", "search-type"]),
            (observation, &["read"]),
            (ResourceType::BUNDLE, &[]),
        ]);
        let rest = &statement["rest"][0];
        let of = |at: usize, name: &str| rest["resource"][at][name].clone();
        assert_eq!(of(0, "type"), "Patient");
        assert_eq!(of(0, "interaction"), json!([{"code": "read"}, {"code": "search-type"}]));
        assert_eq!(of(0, "updateCreate"), false);
        assert_eq!(of(0, "conditionalDelete"), "not-supported");
        assert!(of(0, "searchParam").as_array().unwrap().contains(&json!({"name": "birthdate", "type": "date"})));
        assert_eq!(of(1, "searchParam"), Value::Null);
        assert_eq!(of(2, "interaction"), Value::Null, "R4 json.html: an array is never empty");
        assert_eq!(rest["interaction"], json!([{"code": "batch"}]));
        assert_eq!(
            rest["operation"],
            json!([{"name": "export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}])
        );
        assert_eq!(
            of(1, "operation"),
            json!([{"name": "lastn", "definition": "http://hl7.org/fhir/OperationDefinition/Observation-lastn"}])
        );
        assert_eq!(rest["security"]["service"][0]["coding"][0]["code"], "SMART-on-FHIR");
        assert_eq!(statement["implementation"]["url"], "https://fhir.example.org/fhir");
    }

    #[test]
    fn every_advertised_parameter_is_one_that_is_read() {
        for kind in ResourceType::every() {
            for parameter in search_parameters(kind) {
                let name = parameter["name"].as_str().unwrap();
                let value = match parameter["type"].as_str().unwrap() {
                    "number" | "quantity" => "5",
                    "date" => "2024",
                    "reference" | "uri" => "http://x",
                    "composite" => "a%24b",
                    _ => "x",
                };
                let asked = crate::search::Query::search(&[kind], Some(&format!("{name}={value}")), None, "");
                assert!(asked.is_ok(), "{kind}.{name}: {asked:?}");
            }
        }
    }
}
