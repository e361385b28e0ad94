//! What the sample EHR sends: resources, outcomes, and, when told to, rubbish.

use std::io::Write as _;

use axum::body::{Body, Bytes};
use axum::response::Response;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::Misbehaviour;
use super::store::Version;

/// A resource as FHIR JSON.
pub(super) fn resource(status: StatusCode, resource: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(resource.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/fhir+json;charset=utf-8"));
    response
}

/// A version, with its `ETag` and `Last-Modified`; 410 for a deletion.
pub(super) fn version(status: StatusCode, version: &Version) -> Response<Body> {
    let Some(content) = &version.resource else {
        return outcome(StatusCode::GONE, "deleted", "this resource was deleted");
    };
    let mut response = resource(status, content);
    stamp(&mut response, version);
    response
}

/// Adds `ETag` and `Last-Modified`.
pub(super) fn stamp(response: &mut Response<Body>, version: &Version) {
    let rfc2822 = version.at.format(&time::format_description::well_known::Rfc2822).unwrap_or_default();
    for (name, text) in [(header::ETAG, version.etag()), (header::LAST_MODIFIED, rfc2822.replace("+0000", "GMT"))] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// An OperationOutcome. Like many a server, it says more than it should.
pub(super) fn outcome(status: StatusCode, code: &str, diagnostics: &str) -> Response<Body> {
    let outcome = json!({
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": diagnostics}],
    });
    resource(status, &outcome)
}

/// A proper answer, spoiled.
pub(super) async fn spoiled(how: Misbehaviour, proper: Response<Body>) -> Response<Body> {
    match how {
        Misbehaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            return proper;
        }
        Misbehaviour::Redirect(to) => {
            let mut response = outcome(StatusCode::FOUND, "informational", "elsewhere");
            if let Ok(to) = HeaderValue::from_str(&to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            return response;
        }
        Misbehaviour::Located(at) => {
            let mut response = proper;
            for name in [header::LOCATION, header::CONTENT_LOCATION] {
                if let Ok(at) = HeaderValue::from_str(&at) {
                    response.headers_mut().insert(name, at);
                }
            }
            return response;
        }
        Misbehaviour::ServerError => {
            let trace = "NullPointerException at PatientDao.load(bruno-vale): F11.20 has no onset";
            return outcome(StatusCode::INTERNAL_SERVER_ERROR, "exception", trace);
        }
        Misbehaviour::Unavailable => {
            let mut response = outcome(StatusCode::SERVICE_UNAVAILABLE, "transient", "maintenance");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
            return response;
        }
        Misbehaviour::TruncatedJson
        | Misbehaviour::DuplicateKeys
        | Misbehaviour::GzipBomb
        | Misbehaviour::Encoded(_)
        | Misbehaviour::InPieces { .. }
        | Misbehaviour::WrongContentType
        | Misbehaviour::DieMidAnswer
        | Misbehaviour::Huge(_)
        | Misbehaviour::Body(_)
        | Misbehaviour::Held(..) => {}
    }
    let (mut parts, body) = proper.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = match how {
        Misbehaviour::TruncatedJson => Body::from(body.slice(..body.len() / 2)),
        Misbehaviour::DuplicateKeys => {
            let doubled = [br#"{"resourceType":"Basic","id":"first","#.as_slice(), body.get(1..).unwrap_or_default()];
            Body::from(doubled.concat())
        }
        Misbehaviour::GzipBomb => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Body::from(bomb())
        }
        Misbehaviour::Encoded(coding) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            Body::from(packed(coding, &body))
        }
        Misbehaviour::InPieces { whole } => {
            let mut pieces: Vec<Result<Bytes, std::io::Error>> =
                body.chunks(64).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            if !whole {
                pieces.pop();
                pieces.push(Err(std::io::Error::other("the power went")));
            }
            Body::from_stream(stream::iter(pieces))
        }
        Misbehaviour::WrongContentType => {
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Body::from(body)
        }
        Misbehaviour::DieMidAnswer => {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            let half = Ok(body.slice(..body.len() / 2));
            Body::from_stream(stream::iter([half, Err(std::io::Error::other("the power went"))]))
        }
        Misbehaviour::Huge(bytes) => {
            let padding = Bytes::from(vec![b' '; 64 * 1024]);
            let chunks = bytes / padding.len() + 1;
            Body::from_stream(stream::iter((0..chunks).map(move |_| Ok::<_, std::io::Error>(padding.clone()))))
        }
        Misbehaviour::Body(exactly) => {
            parts.status = StatusCode::OK;
            Body::from(exactly)
        }
        Misbehaviour::Held(whole, go_on) => {
            parts.status = StatusCode::OK;
            let whole = Bytes::from(whole);
            let (first, second) = (whole.slice(..whole.len() / 2), whole.slice(whole.len() / 2..));
            let second = async move {
                go_on.notified().await;
                Ok::<_, std::io::Error>(second)
            };
            Body::from_stream(stream::iter([Ok(first)]).chain(stream::once(second)))
        }
        Misbehaviour::Slow(_)
        | Misbehaviour::Redirect(_)
        | Misbehaviour::Located(_)
        | Misbehaviour::ServerError
        | Misbehaviour::Unavailable => Body::from(body),
    };
    Response::from_parts(parts, body)
}

/// What is written to memory is written: no error is hidden.
fn packed(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            drop(gzip.write_all(body));
            gzip.finish().unwrap_or_default()
        }
        "deflate" => {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            drop(zlib.write_all(body));
            zlib.finish().unwrap_or_default()
        }
        _ => body.to_vec(),
    }
}

/// 64 MiB of spaces in front of a resource: about 64 KiB on the wire.
fn bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..64 {
        // Writing to memory does not fail; a short bomb is still a bomb.
        drop(gzip.write_all(&spaces));
    }
    drop(gzip.write_all(br#"{"resourceType":"Patient","id":"bomb"}"#));
    gzip.finish().unwrap_or_default()
}
