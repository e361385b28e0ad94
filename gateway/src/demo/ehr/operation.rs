//! The operations of the sample EHR (R4 operations.html).

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::answer::{outcome, resource};
use super::{Ehr, EhrState, SeenRequest, rest};

pub(super) fn answer(
    ehr: &Ehr,
    state: &mut EhrState,
    seen: &SeenRequest,
    on: &[&str],
    operation: &str,
) -> Response<Body> {
    let query = rest::query_of(seen.query.as_deref());
    let ok = |answer: serde_json::Value| resource(StatusCode::OK, &answer);
    match (on, operation) {
        (["Patient", id], "$everything") => rest::everything(ehr, state, seen, id),
        (["Observation"], "$lastn") => {
            let criteria = query.into_iter().filter(|(name, _)| name != "max").collect();
            rest::search_type(ehr, state, seen, "Observation", criteria)
        }
        (["DocumentReference"], "$docref") => {
            let patient = query.into_iter().filter(|(name, _)| name == "patient").collect();
            rest::search_type(ehr, state, seen, "DocumentReference", patient)
        }
        (["ValueSet", ..], "$expand") => ok(json!({
            "resourceType": "ValueSet", "status": "active", "url": "http://sample.example/vs",
            "expansion": {"timestamp": "2026-01-01T00:00:00Z", "contains": [{"system": "http://sample.example/cs", "code": "a"}]},
        })),
        (["CodeSystem"], "$lookup") => ok(json!({
            "resourceType": "Parameters", "parameter": [{"name": "display", "valueString": "A"}],
        })),
        (["CodeSystem" | "ValueSet", ..], "$validate-code") | (["ConceptMap", ..], "$translate") => ok(json!({
            "resourceType": "Parameters", "parameter": [{"name": "result", "valueBoolean": true}],
        })),
        _ => outcome(StatusCode::NOT_FOUND, "not-supported", "this server has no such operation"),
    }
}
