//! Bulk export of the sample EHR (Bulk Data Access 2.0): kick-off, status, files, deletion.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{outcome, resource};
use super::store::instant;
use super::{Ehr, EhrState, SeenRequest, rest};

/// One export. It is ready when it is asked for the second time.
#[derive(Clone)]
pub(super) struct Job {
    kinds: Vec<String>,
    polls: u32,
    request: String,
}

pub(super) fn kick_off(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest) -> Response<Body> {
    let prefer = seen.headers.get("prefer").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !prefer.contains("respond-async") {
        return outcome(StatusCode::BAD_REQUEST, "invalid", "an export is asynchronous");
    }
    let query = rest::query_of(seen.query.as_deref());
    let named = query.iter().find(|(name, _)| name == "_type").map(|(_, kinds)| kinds.as_str());
    let kinds = match named {
        Some(kinds) => kinds.split(',').map(str::to_owned).collect(),
        None => crate::demo::patients::KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
    };
    let job = uuid::Uuid::new_v4().simple().to_string();
    let request = format!("{}{}", ehr.base(), seen.path.trim_start_matches("/fhir"));
    let location = format!("{}/_bulk/{job}", ehr.base());
    state.jobs.insert(job, Job { kinds, polls: 0, request });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::CONTENT_LOCATION, location);
    }
    response
}

pub(super) fn job(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest, name: &str, file: &[&str]) -> Response<Body> {
    if seen.method == Method::DELETE {
        let known = state.jobs.remove(name).is_some();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = if known { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND };
        return response;
    }
    let Some(job) = state.jobs.get_mut(name) else {
        return outcome(StatusCode::NOT_FOUND, "not-found", "there is no such job");
    };
    job.polls += 1;
    let job = job.clone();
    match file {
        [] if job.polls == 1 => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            let headers = response.headers_mut();
            headers.insert("x-progress", HeaderValue::from_static("reading chart of bruno-vale"));
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        [] => manifest(ehr, state, name, &job),
        [file] => match file.strip_suffix(".ndjson").filter(|kind| job.kinds.iter().any(|asked| asked == kind)) {
            Some(kind) => ndjson(lines(state, kind)),
            None => outcome(StatusCode::NOT_FOUND, "not-found", "there is no such file"),
        },
        _ => outcome(StatusCode::NOT_FOUND, "not-found", "there is no such file"),
    }
}

fn manifest(ehr: &Ehr, state: &EhrState, name: &str, job: &Job) -> Response<Body> {
    let of = |kind: &String| {
        let count = state.store.living(kind).count();
        let url = format!("{}/_bulk/{name}/{kind}.ndjson", ehr.base());
        (count > 0).then(|| json!({"type": kind, "url": url, "count": count}))
    };
    let output: Vec<Value> = job.kinds.iter().filter_map(of).collect();
    let mut response = resource(
        StatusCode::OK,
        &json!({
            "transactionTime": instant(ehr.clock.now()),
            "request": job.request,
            "requiresAccessToken": false,
            "output": output,
            "deleted": [],
            "error": [{"type": "OperationOutcome", "url": format!("{}/_bulk/{name}/errors.ndjson", ehr.base())}],
        }),
    );
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn lines(state: &EhrState, kind: &str) -> String {
    state.store.living(kind).map(|(_, resource)| format!("{resource}\n")).collect()
}

fn ndjson(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/fhir+ndjson"));
    response
}
