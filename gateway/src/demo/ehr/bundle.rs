//! Batch and transaction, as the sample EHR carries them out (R4 http.html#transaction).

#![expect(
    clippy::indexing_slicing,
    reason = "reading JSON by name gives null where there is none, and what is written to is an object"
)]

use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{outcome, resource};
use super::{Ehr, EhrState, SeenRequest, rest};

/// All entries, or for a transaction none.
pub(super) fn carry_out(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest) -> Response<Body> {
    let Some(bundle) = rest::body(seen).filter(|body| body["resourceType"] == "Bundle") else {
        return outcome(StatusCode::BAD_REQUEST, "structure", "the body is not a Bundle");
    };
    let all_or_nothing = bundle["type"] == "transaction";
    let before = state.store.clone();
    let entries = with_ids(state, &bundle);
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|at| entries.get(*at).map(turn));
    let mut answers = vec![Value::Null; entries.len()];
    for at in order {
        let (Some(entry), Some(answer)) = (entries.get(at), answers.get_mut(at)) else { continue };
        let (status, answered) = alone(ehr, state, entry);
        if all_or_nothing && (status.is_client_error() || status.is_server_error()) {
            state.store = before;
            let why = format!("entry {at} failed: {answered}");
            return outcome(status, "processing", &why);
        }
        *answer = answered;
    }
    let kind = if all_or_nothing { "transaction-response" } else { "batch-response" };
    resource(StatusCode::OK, &json!({"resourceType": "Bundle", "type": kind, "entry": answers}))
}

/// The entries, what is to be created under its new id, and referred to by it.
fn with_ids(state: &mut EhrState, bundle: &Value) -> Vec<Value> {
    let mut entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let mut names = Vec::new();
    for entry in &mut entries {
        let kind = entry["request"]["url"].as_str().unwrap_or_default().to_owned();
        if entry["request"]["method"] != "POST" || kind.contains('_') || !entry["resource"].is_object() {
            continue;
        }
        let id = state.store.fresh_id();
        let path = format!("{kind}/{id}");
        if let Some(name) = entry["fullUrl"].as_str() {
            names.push((Value::from(name).to_string(), Value::from(path.clone()).to_string()));
        }
        entry["resource"]["id"] = Value::from(id);
        entry["request"]["url"] = Value::from(path);
    }
    let mut text = Value::from(entries).to_string();
    for (name, path) in names {
        text = text.replace(&name, &path);
    }
    serde_json::from_str(&text).unwrap_or_default()
}

fn turn(entry: &Value) -> u8 {
    match entry["request"]["method"].as_str() {
        Some("DELETE") => 0,
        Some("POST") => 1,
        Some("PUT" | "PATCH") => 2,
        Some(_) | None => 3,
    }
}

/// One entry as a request of its own, and its answer as an entry.
fn alone(ehr: &Ehr, state: &mut EhrState, entry: &Value) -> (StatusCode, Value) {
    let request = &entry["request"];
    let url = request["url"].as_str().unwrap_or_default();
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query.to_owned())));
    let creates = request["method"] == "POST";
    let method = if creates { "PUT" } else { request["method"].as_str().unwrap_or_default() };
    let mut headers = HeaderMap::new();
    let tag = request["ifMatch"].as_str().and_then(|tag| HeaderValue::from_str(tag).ok());
    headers.extend(tag.map(|tag| (header::IF_MATCH, tag)));
    headers.insert(HeaderName::from_static("prefer"), HeaderValue::from_static("return=representation"));
    let seen = SeenRequest {
        method: method.parse().unwrap_or_default(),
        path: format!("/fhir/{path}"),
        query,
        headers,
        body: entry["resource"].to_string().into_bytes(),
        peer: None,
    };
    let (head, body) = rest::interaction(ehr, state, &seen, path).into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).now_or_never().and_then(Result::ok).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = json!({"status": head.status.to_string()});
    if let Some(tag) = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) {
        response["etag"] = Value::from(tag);
        let version = tag.trim_start_matches("W/").trim_matches('"');
        if method == "PUT" {
            response["location"] = Value::from(format!("{}/{path}/_history/{version}", ehr.base()));
        }
    }
    let mut answer = json!({"response": response});
    if !body.is_null() {
        answer["resource"] = body;
    }
    (head.status, answer)
}
