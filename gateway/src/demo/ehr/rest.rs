//! The interactions of the sample EHR (R4 http.html).

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{outcome, resource, stamp, version};
use super::search::{self, Refused};
use super::store::{Key, Store, Written, instant};
use super::{Ehr, EhrState, SeenRequest, bundle, export, operation, patch};

/// What is left of a search for its next pages.
#[derive(Clone)]
pub(super) struct Rest {
    matches: Vec<Key>,
    offset: usize,
    count: usize,
    query: Vec<(String, String)>,
    self_url: String,
}

/// Answers one request.
pub(super) fn answer(ehr: &Ehr, seen: &SeenRequest) -> Response<Body> {
    let Some(path) = seen.path.strip_prefix("/fhir") else {
        return outcome(StatusCode::NOT_FOUND, "not-found", "the FHIR base is /fhir");
    };
    interaction(ehr, &mut ehr.state(), seen, path)
}

/// Answers one request, or one entry of a Bundle.
pub(super) fn interaction(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest, path: &str) -> Response<Body> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match (seen.method.as_str(), segments.as_slice()) {
        ("GET", ["metadata"]) => resource(StatusCode::OK, &capabilities(ehr, state)),
        ("GET", []) => page(ehr, state, seen),
        ("POST", []) => bundle::carry_out(ehr, state, seen),
        ("GET", [.., "$export"]) => export::kick_off(ehr, state, seen),
        (_, ["_bulk", job, file @ ..]) => export::job(ehr, state, seen, job, file),
        ("GET", [on @ .., operation]) if operation.starts_with('$') => {
            operation::answer(ehr, state, seen, on, operation)
        }
        ("GET", ["_history"]) => history_of_many(ehr, &state.store, None, seen),
        ("GET", [kind, "_history"]) => history_of_many(ehr, &state.store, Some(kind), seen),
        ("GET", [kind]) => search_type(ehr, state, seen, kind, query_of(seen.query.as_deref())),
        ("POST", [kind, "_search"]) => {
            let mut query = query_of(seen.query.as_deref());
            query.extend(query_of(std::str::from_utf8(&seen.body).ok()));
            search_type(ehr, state, seen, kind, query)
        }
        ("GET", ["Patient", id, kind]) if kind.starts_with(|c: char| c.is_ascii_uppercase()) => {
            let mut query = query_of(seen.query.as_deref());
            query.push(("patient".to_owned(), format!("Patient/{id}")));
            search_type(ehr, state, seen, kind, query)
        }
        ("GET", [kind, id]) => match state.store.current(kind, id) {
            Some(current) => version(StatusCode::OK, current),
            None => missing(kind, id),
        },
        ("GET", [kind, id, "_history"]) => history(ehr, &state.store, kind, id),
        ("GET", [kind, id, "_history", number]) => {
            let wanted = state.store.versions(kind, id).iter().find(|version| version.number.to_string() == *number);
            wanted.map_or_else(|| missing(kind, id), |found| version(StatusCode::OK, found))
        }
        ("POST", [kind]) => create(ehr, state, seen, kind),
        ("PUT", [kind, id]) => match body(seen) {
            Some(content) => update(ehr, state, seen, kind, id, content),
            None => outcome(StatusCode::BAD_REQUEST, "structure", "the body is not JSON"),
        },
        ("PATCH", [kind, id]) => patched(ehr, state, seen, kind, id),
        ("DELETE", [kind, id]) => match state.store.delete(kind, id, if_match(&seen.headers), ehr.clock.now()) {
            Written::Conflict => conflict(kind, id),
            Written::NotFound | Written::Created(_) | Written::Updated(_) => no_content(),
        },
        _ => outcome(StatusCode::METHOD_NOT_ALLOWED, "not-supported", "this server has no such interaction"),
    }
}

pub(super) fn search_type(
    ehr: &Ehr,
    state: &mut EhrState,
    seen: &SeenRequest,
    kind: &str,
    query: Vec<(String, String)>,
) -> Response<Body> {
    let prefer = seen.headers.get("prefer").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let found = match search::search(&state.store, kind, &query, ehr.base(), prefer.contains("handling=strict")) {
        Ok(found) => found,
        Err(Refused(why)) => return outcome(StatusCode::BAD_REQUEST, "invalid", &why),
    };
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(query.iter().map(|(name, value)| (name, value)));
    let self_url = format!("{}/{kind}?{}", ehr.base(), text.finish());
    let rest = Rest { matches: found.matches, offset: 0, count: found.count, query, self_url };
    searchset(ehr, state, rest)
}

/// The next page of an earlier search: `GET [base]?_getpages=token`.
fn page(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest) -> Response<Body> {
    let query = query_of(seen.query.as_deref());
    let token = query.iter().find(|(name, _)| name == "_getpages").map(|(_, token)| token);
    match token.and_then(|token| state.pages.get(token).cloned()) {
        Some(rest) => searchset(ehr, state, rest),
        None => outcome(StatusCode::GONE, "not-found", "this page has expired"),
    }
}

fn searchset(ehr: &Ehr, state: &mut EhrState, rest: Rest) -> Response<Body> {
    let total = rest.matches.len();
    let page: Vec<Key> = rest.matches.iter().skip(rest.offset).take(rest.count).cloned().collect();
    let included = search::includes(&state.store, &rest.query, &page);
    let entry = |key: &Key, mode: &str| {
        let content = state.store.current(&key.0, &key.1).and_then(|version| version.resource.clone());
        json!({
            "fullUrl": format!("{}/{}/{}", ehr.base(), key.0, key.1),
            "resource": content,
            "search": {"mode": mode},
        })
    };
    let mut entries: Vec<Value> = page.iter().map(|key| entry(key, "match")).collect();
    entries.extend(included.iter().map(|key| entry(key, "include")));
    let mut links = vec![json!({"relation": "self", "url": rest.self_url})];
    let next = rest.offset + page.len();
    if next < total {
        let token = uuid::Uuid::new_v4().simple().to_string();
        links.push(json!({"relation": "next", "url": format!("{}?_getpages={token}", ehr.base())}));
        state.pages.insert(token, Rest { offset: next, ..rest });
    }
    let mut bundle = json!({
        "resourceType": "Bundle",
        "id": uuid::Uuid::new_v4().to_string(),
        "meta": {"lastUpdated": instant(ehr.clock.now())},
        "type": "searchset",
        "total": total,
        "link": links,
    });
    // R4: an array is never empty.
    if let (false, Some(bundle)) = (entries.is_empty(), bundle.as_object_mut()) {
        bundle.insert("entry".to_owned(), Value::from(entries));
    }
    resource(StatusCode::OK, &bundle)
}

/// `Patient/[id]/$everything`: the patient and all that names it as subject or patient.
pub(super) fn everything(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest, id: &str) -> Response<Body> {
    if state.store.current("Patient", id).is_none() {
        return missing("Patient", id);
    }
    let name = format!("Patient/{id}");
    let about = |content: &Value| {
        ["subject", "patient"].iter().any(|key| {
            content.get(key).and_then(|value| value.get("reference")).and_then(Value::as_str) == Some(name.as_str())
        })
    };
    let mut matches = vec![("Patient".to_owned(), id.to_owned())];
    matches.extend(state.store.all().filter(|(_, content)| about(content)).map(|(key, _)| key.clone()));
    let self_url = format!("{}/Patient/{id}/$everything", ehr.base());
    searchset(ehr, state, Rest { matches, offset: 0, count: 100, query: query_of(seen.query.as_deref()), self_url })
}

fn history(ehr: &Ehr, store: &Store, kind: &str, id: &str) -> Response<Body> {
    let versions = store.versions(kind, id);
    if versions.is_empty() {
        return missing(kind, id);
    }
    let key = (kind.to_owned(), id.to_owned());
    let entries: Vec<Value> = versions.iter().rev().map(|version| versioned(ehr, &key, version)).collect();
    let own = json!({"relation": "self", "url": format!("{}/{kind}/{id}/_history", ehr.base())});
    resource(StatusCode::OK, &history_bundle(entries.len(), &[own], &entries))
}

/// The history of a type, or of all: newest first, `_count` and `_offset`.
fn history_of_many(ehr: &Ehr, store: &Store, kind: Option<&str>, seen: &SeenRequest) -> Response<Body> {
    let query = query_of(seen.query.as_deref());
    let number = |name: &str| query.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.parse().ok());
    let (offset, count) = (number("_offset").unwrap_or(0usize), number("_count").unwrap_or(20usize));
    let mut versions: Vec<_> = store.every_version().filter(|(key, _)| kind.is_none_or(|kind| key.0 == kind)).collect();
    versions.sort_by_key(|(_, version)| std::cmp::Reverse(version.at));
    let total = versions.len();
    let page: Vec<Value> =
        versions.iter().skip(offset).take(count).map(|(key, version)| versioned(ehr, key, version)).collect();
    let path = kind.map_or_else(String::new, |kind| format!("/{kind}"));
    let at = |offset: usize| format!("{}{path}/_history?_count={count}&_offset={offset}", ehr.base());
    let mut links = vec![json!({"relation": "self", "url": at(offset)})];
    if offset + page.len() < total {
        links.push(json!({"relation": "next", "url": at(offset + page.len())}));
    }
    resource(StatusCode::OK, &history_bundle(total, &links, &page))
}

fn versioned(ehr: &Ehr, (kind, id): &Key, version: &super::store::Version) -> Value {
    let method = match (&version.resource, version.number) {
        (None, _) => "DELETE",
        (Some(_), 1) => "POST",
        (Some(_), _) => "PUT",
    };
    let mut entry = json!({
        "fullUrl": format!("{}/{kind}/{id}", ehr.base()),
        "request": {"method": method, "url": format!("{kind}/{id}")},
        "response": {"status": "200", "etag": version.etag(), "lastModified": instant(version.at)},
    });
    if let (Some(content), Some(entry)) = (&version.resource, entry.as_object_mut()) {
        entry.insert("resource".to_owned(), content.clone());
    }
    entry
}

fn history_bundle(total: usize, links: &[Value], entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": "history", "total": total, "link": links, "entry": entries})
}

fn create(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest, kind: &str) -> Response<Body> {
    let Some(content) = body(seen).filter(|content| content.get("resourceType").and_then(Value::as_str) == Some(kind))
    else {
        return outcome(StatusCode::BAD_REQUEST, "structure", "the body is not a resource of this type");
    };
    if let Some(condition) = seen.headers.get("if-none-exist").and_then(|value| value.to_str().ok()) {
        let query = query_of(Some(condition));
        let found = search::search(&state.store, kind, &query, ehr.base(), true);
        match found.map(|found| found.matches).as_deref() {
            Ok([]) => {}
            Ok([(kind, id)]) => {
                let current = state.store.current(kind, id);
                return current.map_or_else(|| missing(kind, id), |current| version(StatusCode::OK, current));
            }
            Ok(_) | Err(_) => return outcome(StatusCode::PRECONDITION_FAILED, "multiple-matches", "not one match"),
        }
    }
    let written = state.store.create(kind, content, ehr.clock.now());
    let id = written.resource.as_ref().and_then(|content| content.get("id")?.as_str()).unwrap_or_default();
    let location = format!("{}/{kind}/{id}/_history/{}", ehr.base(), written.number);
    let mut response = returned(seen, StatusCode::CREATED, &written);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn update(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest, kind: &str, id: &str, content: Value) -> Response<Body> {
    if super::store::key_of(&content) != Some((kind.to_owned(), id.to_owned())) {
        return outcome(StatusCode::BAD_REQUEST, "invalid", "the resource's type and id must be those of the URL");
    }
    match state.store.update(kind, id, content, if_match(&seen.headers), ehr.clock.now()) {
        Written::Created(written) => returned(seen, StatusCode::CREATED, &written),
        Written::Updated(written) => returned(seen, StatusCode::OK, &written),
        Written::Conflict => conflict(kind, id),
        Written::NotFound => missing(kind, id),
    }
}

fn patched(ehr: &Ehr, state: &mut EhrState, seen: &SeenRequest, kind: &str, id: &str) -> Response<Body> {
    let Some(before) = state.store.current(kind, id).and_then(|version| version.resource.clone()) else {
        return missing(kind, id);
    };
    let after = body(seen).ok_or(patch::NotApplicable).and_then(|operations| patch::apply(before, &operations));
    match after {
        Ok(after) => update(ehr, state, seen, kind, id, after),
        Err(patch::NotApplicable) => {
            outcome(StatusCode::UNPROCESSABLE_ENTITY, "processing", "the patch does not apply")
        }
    }
}

/// What a write gives back, by `Prefer: return`.
fn returned(seen: &SeenRequest, status: StatusCode, written: &super::store::Version) -> Response<Body> {
    let prefer = seen.headers.get("prefer").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if prefer.contains("return=minimal") {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        stamp(&mut response, written);
        return response;
    }
    version(status, written)
}

pub(super) fn body(seen: &SeenRequest) -> Option<Value> {
    serde_json::from_slice(&seen.body).ok()
}

fn if_match(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::IF_MATCH)?.to_str().ok()?;
    // An unreadable tag matches no version.
    Some(value.trim_start_matches("W/").trim_matches('"').parse().unwrap_or(0))
}

pub(super) fn query_of(text: Option<&str>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect()
}

pub(super) fn missing(kind: &str, id: &str) -> Response<Body> {
    outcome(StatusCode::NOT_FOUND, "not-found", &format!("{kind}/{id} is not known"))
}

fn conflict(kind: &str, id: &str) -> Response<Body> {
    outcome(StatusCode::PRECONDITION_FAILED, "conflict", &format!("{kind}/{id} has another version"))
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn capabilities(ehr: &Ehr, state: &EhrState) -> Value {
    let system: &[&str] = if state.no_transactions { &[] } else { &["transaction", "batch"] };
    let kinds = crate::demo::patients::KINDS;
    let resources: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let interactions =
                ["read", "vread", "history-instance", "create", "update", "patch", "delete", "search-type"];
            let operations: &[&str] = match *kind {
                "Patient" => &["everything", "export"],
                "Observation" => &["lastn"],
                "DocumentReference" => &["docref"],
                _ => &[],
            };
            described(kind, &interactions, operations)
        })
        .chain([
            described("CodeSystem", &["read"], &["lookup", "validate-code"]),
            described("ValueSet", &["read"], &["expand", "validate-code"]),
            described("ConceptMap", &["read"], &["translate"]),
        ])
        .collect();
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "sample EHR", "version": "7.4.1-internal"},
        "implementation": {"description": "sample EHR", "url": ehr.base()},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{
            "mode": "server",
            "resource": resources,
            "interaction": system.iter().map(|code| json!({"code": code})).collect::<Vec<_>>(),
            "operation": [{"name": "export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}],
        }],
    })
}

fn described(kind: &str, interactions: &[&str], operations: &[&str]) -> Value {
    let codes: Vec<Value> = interactions.iter().map(|code| json!({"code": code})).collect();
    let mut described = json!({"type": kind, "versioning": "versioned-update", "interaction": codes});
    if let (false, Some(members)) = (operations.is_empty(), described.as_object_mut()) {
        let names =
            operations.iter().map(|name| json!({"name": name, "definition": format!("http://sample.example/{name}")}));
        members.insert("operation".to_owned(), names.collect());
    }
    described
}
