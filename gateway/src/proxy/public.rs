//! What anybody may know: the CapabilityStatement, discovery documents, and what a browser page may do.
//!
//! Nothing of a patient is in any of them, so that they are answered before a caller is known.

use bytes::Bytes;
use fhir_profiles::capability::{Offer, SYSTEM_INTERACTIONS, Smart, statement};
use fhir_profiles::ids::ResourceType;
use fhir_profiles::operation::Operation;
use fhirwall_policy::reason::Reason;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::config::{Serves, SmartMode};
use crate::generation::{Endpoint, Generation};
use crate::identify::partners::Partners as _;
use crate::listen::{Answer, Request};
use crate::offers::Offered;
use crate::refusal::{FHIR_JSON, Refusal, base_headers};
use crate::smart::AuthServer;
use crate::smart::cors::{self, Target};
use crate::smart::wellknown::{
    AuthorizationServer, auth_base, protected_resource, protected_resource_url, smart_configuration,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CAPABILITIES: &str = "/metadata";
const SMART: &str = "/.well-known/smart-configuration";

/// The interactions offered on every type.
const OFFERED: &[&str] = &["read", "vread", "update", "patch", "delete", "create", "search-type"];

/// The path of the RFC 9728 document of an endpoint.
fn resource_metadata_path(endpoint: &Endpoint) -> String {
    format!("/.well-known/oauth-protected-resource{}", endpoint.base_path)
}

/// The URL of the RFC 9728 document of an endpoint, for challenges.
pub(super) fn resource_metadata(endpoint: &Endpoint) -> Option<String> {
    protected_resource_url(&endpoint.base_url)
}

/// The public document asked for, if one is. The CapabilityStatement belongs to the FHIR base; discovery belongs to both.
pub(super) async fn document(
    generation: &Generation,
    serves: &[Serves],
    request: &Request,
    decision: Uuid,
    now: OffsetDateTime,
) -> Option<Answer> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return None;
    }
    let authority = request.authority.as_deref().unwrap_or_default();
    let here = generation.endpoints.iter().filter(|endpoint| endpoint.authority.eq_ignore_ascii_case(authority));
    for endpoint in here {
        if request.path == resource_metadata_path(endpoint) {
            let document = protected_resource(&endpoint.base_url, &issuers(generation, endpoint), &scopes(generation));
            return Some(json(decision, JSON, &document));
        }
        match request.path.strip_prefix(endpoint.base_path.as_str()) {
            Some(SMART) => {
                let document = smart_configuration(&endpoint.base_url, &server(generation, endpoint, now).await);
                return Some(json(decision, JSON, &document));
            }
            Some(CAPABILITIES) if acceptable(request) && serves.contains(&Serves::Fhir) => {
                let write = |offered: Option<&Offered>| capabilities(generation, endpoint, offered).to_string().into();
                return Some(document_of(decision, FHIR_JSON, endpoint.offers.statement(write).await));
            }
            Some(_) | None => {}
        }
    }
    None
}

/// The answer to a preflight: only for a registered origin, and only where there is something to call.
pub(super) fn preflight(generation: &Generation, request: &Request, decision: Uuid) -> Result<Answer, Refusal> {
    let refused = || Refusal::from(Reason::MethodNotAllowed);
    let origin = request.headers.get(ORIGIN).ok_or_else(refused)?;
    let registered = |origin: &str| generation.config.partners.origin_registered(origin);
    let headers = cors::preflight(target(generation, request), origin, registered).ok_or_else(refused)?;
    let mut answer = Answer {
        status: StatusCode::NO_CONTENT,
        headers: base_headers(decision),
        body: Bytes::new(),
        rest: None,
        ending: None,
    };
    answer.headers.extend(headers);
    Ok(answer)
}

/// Adds what lets a registered page read the answer.
pub(super) fn share(generation: &Generation, request: &Request, answer: &mut Answer) {
    if let Some(origin) = request.headers.get(ORIGIN) {
        let registered = |origin: &str| generation.config.partners.origin_registered(origin);
        for (name, value) in cors::headers(target(generation, request), origin, registered) {
            if name != http::header::VARY {
                answer.headers.insert(name, value);
            }
        }
    }
}

fn target(generation: &Generation, request: &Request) -> Target {
    let authority = request.authority.as_deref().unwrap_or_default();
    if request.path.starts_with("/.well-known/") {
        return Target::Discovery;
    }
    let endpoint = generation.endpoint(authority, &request.path);
    match endpoint.and_then(|endpoint| request.path.strip_prefix(endpoint.base_path.as_str())) {
        Some(CAPABILITIES | SMART | "/auth/jwks" | "/auth/.well-known/openid-configuration") => Target::Discovery,
        Some("/auth/token" | "/auth/introspect" | "/auth/revoke") => Target::Token,
        Some(path) if path.starts_with("/auth/") => Target::Page,
        Some(_) => Target::Fhir,
        None => Target::Page,
    }
}

/// Is FHIR JSON wanted, as far as `metadata` is asked for plainly? Anything odd goes the way of other requests.
fn acceptable(request: &Request) -> bool {
    request.query.as_deref().is_none_or(|query| query == "_format=json" || query == "mode=full")
        && request
            .headers
            .get(http::header::ACCEPT)
            .is_none_or(|accept| accept.to_str().is_ok_and(|accept| accept.contains("json") || accept.contains("*/*")))
}

fn json(decision: Uuid, content_type: HeaderValue, document: &Value) -> Answer {
    document_of(decision, content_type, Bytes::from(document.to_string()))
}

fn document_of(decision: Uuid, content_type: HeaderValue, body: Bytes) -> Answer {
    let mut headers = base_headers(decision);
    headers.insert(CONTENT_TYPE, content_type);
    Answer { status: StatusCode::OK, headers, body, rest: None, ending: None }
}

/// What is ruled on here and offered by the EHR. Of an EHR that has said nothing yet, what is ruled on, without what the EHR
/// alone can do.
fn capabilities(generation: &Generation, endpoint: &Endpoint, offered: Option<&Offered>) -> Value {
    let does = |kind: ResourceType, code: &str| offered.is_none_or(|offered| offered.on_type(kind, code));
    let types: Vec<(ResourceType, Vec<&'static str>)> = ResourceType::all()
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|kind| *kind != ResourceType::BUNDLE && *kind != ResourceType::OPERATION_OUTCOME)
        .filter(|kind| offered.is_none_or(|offered| offered.names(*kind)))
        .map(|kind| (kind, OFFERED.iter().copied().filter(|code| does(kind, code)).collect()))
        .collect();
    let types: Vec<(ResourceType, &[&'static str])> = types.iter().map(|(kind, codes)| (*kind, &**codes)).collect();
    let system: Vec<&'static str> = SYSTEM_INTERACTIONS
        .iter()
        .copied()
        .filter(|code| match *code {
            // Carried out here, entry by entry.
            "batch" => true,
            "search-system" | "transaction" => offered.is_some_and(|offered| offered.on_system(code)),
            _ => false,
        })
        .collect();
    let operations: Vec<Operation> = Operation::ALL
        .iter()
        .copied()
        .filter(|operation| offered.is_none_or(|offered| offered.operation(operation.name())))
        .collect();
    let auth = endpoint.auth.as_ref().map(|_| auth_base(&endpoint.base_url));
    let endpoints = auth.map(|auth| (format!("{auth}/authorize"), format!("{auth}/token")));
    statement(&Offer {
        base_url: &endpoint.base_url,
        date: &crate::resolve::date(generation.built),
        software_version: env!("CARGO_PKG_VERSION"),
        types: &types,
        system: &system,
        operations: &operations,
        smart: endpoints.as_ref().map(|(authorize, token)| Smart { authorize, token }),
    })
}

fn issuers(generation: &Generation, endpoint: &Endpoint) -> Vec<String> {
    match generation.config.gateway.smart.mode {
        SmartMode::Broker | SmartMode::Front => vec![auth_base(&endpoint.base_url)],
        SmartMode::Resource => generation.config.gateway.issuers.iter().map(|issuer| issuer.issuer.clone()).collect(),
    }
}

/// Every scope that some partner is registered for.
fn scopes(generation: &Generation) -> Vec<String> {
    let mut scopes: Vec<String> =
        generation.config.partners.iter().flat_map(|partner| partner.file.scopes.iter().cloned()).collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

async fn server(generation: &Generation, endpoint: &Endpoint, now: OffsetDateTime) -> AuthorizationServer {
    let gateway = &generation.config.gateway;
    let scopes = scopes(generation);
    match gateway.smart.mode {
        SmartMode::Front | SmartMode::Broker => AuthorizationServer::Ours {
            openid: endpoint.auth.as_ref().is_some_and(AuthServer::signs_id_tokens),
            client_credentials: true,
            launch_ehr: gateway.smart.mode == SmartMode::Front,
            scopes,
        },
        SmartMode::Resource => {
            // SMART App Launch 2.2 wants the endpoints named here; while the issuer is away, clients ask it themselves.
            let announced = match &generation.issuer {
                Some(issuer) => issuer.metadata(now).await.ok(),
                None => None,
            };
            let announced = announced.as_ref();
            AuthorizationServer::Issuer {
                issuer: gateway.issuers.first().map(|issuer| issuer.issuer.clone()).unwrap_or_default(),
                authorization_endpoint: announced.map(|server| server.authorization_endpoint().to_string()),
                token_endpoint: announced.and_then(|server| server.token_endpoint()).map(|url| url.to_string()),
                introspection_endpoint: announced
                    .and_then(|server| server.additional_metadata().introspection_endpoint.clone()),
                revocation_endpoint: announced
                    .and_then(|server| server.additional_metadata().revocation_endpoint.clone()),
                scopes,
            }
        }
    }
}
