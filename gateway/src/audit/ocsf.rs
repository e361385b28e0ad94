//! Entries as security tools read them: OCSF 1.5 API Activity (class 6003), one JSON object a line.

use serde_json::{Value, json};

use super::read::Entry;
use super::record::AuditRecord;

/// An attempt, a disclosure or a refusal under OCSF's names; anything else as it stands, under `unmapped`.
pub fn event(entry: &Entry) -> Value {
    let time = entry.time.unix_timestamp_nanos().checked_div(1_000_000).unwrap_or(0);
    let mut event = json!({
        "category_uid": 6,
        "class_uid": 6003,
        "class_name": "API Activity",
        "time": i64::try_from(time).unwrap_or(0),
        "severity_id": 1,
        "metadata": {
            "version": "1.5.0",
            "uid": entry.hash,
            "sequence": entry.seq,
            "log_name": entry.kind.as_str(),
            "product": {"name": "fhirwall", "version": env!("CARGO_PKG_VERSION")},
        },
    });
    let activity = match entry.record() {
        Some(record) => {
            describe(&mut event, &record);
            activity(&record.interaction)
        }
        None => {
            set(&mut event, "unmapped", entry.body.clone().unwrap_or(Value::Null));
            99
        }
    };
    set(&mut event, "activity_id", json!(activity));
    set(&mut event, "type_uid", json!(600_300 + activity));
    event
}

fn describe(event: &mut Value, record: &AuditRecord) {
    let refused = record.reason.is_some();
    set(
        event,
        "actor",
        json!({
            "user": {"uid": record.user, "name": record.fhir_user, "domain": record.issuer},
            "app_uid": record.partner,
            "session": {"uid": record.token},
        }),
    );
    set(event, "src_endpoint", json!({"ip": record.address}));
    set(event, "api", json!({"operation": record.interaction, "request": {"uid": record.request_id}}));
    set(event, "http_request", json!({"uid": record.request_id, "args": record.query}));
    set(event, "http_response", json!({"code": record.status, "body_length": record.bytes}));
    let resources: Vec<Value> = record.instances.iter().map(|instance| json!({"uid": instance})).collect();
    set(event, "resources", Value::Array(resources));
    set(event, "status_id", json!(if refused { 2 } else { 1 }));
    set(event, "status", json!(if refused { "Failure" } else { "Success" }));
    set(event, "status_code", json!(record.reason));
    let withheld: u32 = record.withheld.iter().fold(0, |sum, withheld| sum.saturating_add(withheld.count));
    set(
        event,
        "unmapped",
        json!({
            "decision": record.decision,
            "endpoint": record.endpoint,
            "purpose_of_use": record.purpose,
            "emergency": record.emergency.is_some(),
            "patients": record.patients,
            "labels": record.labels,
            "withheld": withheld,
            "policies": record.policies,
            "consents": record.consents,
            "information_blocking_exception": record.exception,
        }),
    );
    if record.emergency.is_some() || refused {
        set(event, "severity_id", json!(3));
    }
}

fn activity(interaction: &str) -> u32 {
    match interaction {
        "create" => 1,
        "update" | "patch" => 3,
        "delete" => 4,
        "batch" | "transaction" | "operation" => 99,
        _ => 2,
    }
}

fn set(event: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = event {
        fields.insert(key.to_owned(), value);
    }
}
