//! The endpoints of the sample authorization server.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::jose::{self, Signature};
use super::{Grant, Issuer, RegisteredClient, USERS, User, page};
use crate::config::{environment, load_partner};
use crate::demo::tls_server::Peer;
use crate::identify::partners::ClientType;

type Fields = Vec<(String, String)>;

/// An authorization code, good once and for a minute.
pub(super) struct Code {
    client_id: String,
    redirect_uri: String,
    challenge: String,
    scope: String,
    user: User,
    until: OffsetDateTime,
}

pub(super) fn router(issuer: Arc<Issuer>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/.well-known/oauth-authorization-server", get(discovery))
        .route("/jwks", get(|State(issuer): State<Arc<Issuer>>| async move { Json(issuer.keys.jwks()) }))
        .route("/clients/{client_id}/jwks", get(client_jwks))
        .route("/authorize", get(authorize).post(authorize_form))
        .route("/token", post(token))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&issuer), count))
        .with_state(issuer)
}

async fn count(State(issuer): State<Arc<Issuer>>, request: Request, next: Next) -> Response {
    {
        let mut state = issuer.state();
        *state.requests.entry(request.uri().path().to_owned()).or_default() += 1;
        if state.down {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    next.run(request).await
}

async fn discovery(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", issuer.url());
    Json(json!({
        "issuer": issuer.url(),
        "jwks_uri": at("/jwks"),
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "tls_client_certificate_bound_access_tokens": true,
    }))
}

async fn client_jwks(State(issuer): State<Arc<Issuer>>, Path(client_id): Path<String>) -> Response {
    match issuer.client(&client_id).and_then(|client| client.jwk.clone()) {
        Some(mut key) => {
            if let Some(key) = key.as_object_mut() {
                key.insert("kid".to_owned(), json!("app"));
            }
            Json(json!({"keys": [key]})).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn authorize(
    State(issuer): State<Arc<Issuer>>,
    axum::extract::Query(request): axum::extract::Query<Fields>,
) -> Response {
    begin(&issuer, &request)
}

async fn authorize_form(State(issuer): State<Arc<Issuer>>, Form(request): Form<Fields>) -> Response {
    begin(&issuer, &request)
}

/// SMART 2.2 "Obtain authorization code". Errors before the client is known stay here; later ones go to the client.
fn begin(issuer: &Issuer, request: &Fields) -> Response {
    let field = |name: &str| field(request, name);
    let client = field("client_id").and_then(|id| issuer.client(id));
    let redirect_uri = field("redirect_uri").unwrap_or_default();
    let Some(client) = client.filter(|client| client.redirect_uris.iter().any(|uri| uri == redirect_uri)) else {
        return (StatusCode::BAD_REQUEST, "unknown client or redirect_uri").into_response();
    };
    let back = |outcome: &[(&str, &str)]| {
        let mut url = url::form_urlencoded::Serializer::new(String::new());
        url.extend_pairs(outcome).append_pair("state", field("state").unwrap_or_default());
        let separator = if redirect_uri.contains('?') { '&' } else { '?' };
        Redirect::to(&format!("{redirect_uri}{separator}{}", url.finish())).into_response()
    };
    let challenge = field("code_challenge").filter(|challenge| challenge.len() == 43);
    let (Some(challenge), Some("S256"), Some("code"), Some(_)) =
        (challenge, field("code_challenge_method"), field("response_type"), field("state"))
    else {
        return back(&[("error", "invalid_request")]);
    };
    if field("aud") != Some(issuer.audience.as_str()) {
        return back(&[("error", "invalid_request"), ("error_description", "aud is not this server's FHIR base")]);
    }
    let Some(scope) = narrowed(client, field("scope").unwrap_or_default()) else {
        return back(&[("error", "invalid_scope")]);
    };
    // `login_hint` picks without a page: the demo's stand-in for a session that is already there.
    let login = field("user").or_else(|| field("login_hint"));
    let Some(user) = USERS.iter().find(|user| Some(user.login) == login) else {
        return page::pick_a_user(&client.client_id, &scope, request).into_response();
    };
    let code = uuid::Uuid::new_v4().simple().to_string();
    let granted = Code {
        client_id: client.client_id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        challenge: challenge.to_owned(),
        scope,
        user: *user,
        until: issuer.clock.now() + Duration::MINUTE,
    };
    issuer.state().codes.insert(code.clone(), granted);
    back(&[("code", &code)])
}

async fn token(
    State(issuer): State<Arc<Issuer>>,
    Extension(peer): Extension<Peer>,
    Form(request): Form<Fields>,
) -> Response {
    let answer = match field(&request, "grant_type") {
        Some("authorization_code") => code_grant(&issuer, &request, &peer),
        Some("client_credentials") => backend_grant(&issuer, &request, &peer),
        _ => Err("unsupported_grant_type"),
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error @ "invalid_client") => (StatusCode::UNAUTHORIZED, json!({"error": error})),
        Err(error) => (StatusCode::BAD_REQUEST, json!({"error": error})),
    };
    let mut response: Response<Body> = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn code_grant(issuer: &Issuer, request: &Fields, peer: &Peer) -> Result<Value, &'static str> {
    let client = authenticated(issuer, request)?;
    let code = field(request, "code").unwrap_or_default();
    let code = issuer.state().codes.remove(code).ok_or("invalid_grant")?;
    let verifier = field(request, "code_verifier").unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let proven = URL_SAFE_NO_PAD.encode(digest) == code.challenge
        && code.client_id == client.client_id
        && field(request, "redirect_uri") == Some(code.redirect_uri.as_str())
        && issuer.clock.now() < code.until;
    if !proven {
        return Err("invalid_grant");
    }
    let grant = Grant {
        client_id: client.client_id.clone(),
        sub: code.user.login.to_owned(),
        patient: code.user.patient.map(str::to_owned),
        fhir_user: Some(code.user.fhir_user.to_owned()),
        scope: code.scope,
        x5t_s256: peer.0.as_ref().map(|peer| peer.x5t_s256()),
        claims: Map::new(),
    };
    answer(issuer, &grant, true)
}

fn backend_grant(issuer: &Issuer, request: &Fields, peer: &Peer) -> Result<Value, &'static str> {
    let client = authenticated(issuer, request)?;
    if !client.backend || client.jwk.is_none() {
        return Err("unauthorized_client");
    }
    let scope = narrowed(&client, field(request, "scope").unwrap_or_default()).ok_or("invalid_scope")?;
    let grant = Grant {
        client_id: client.client_id.clone(),
        sub: client.client_id.clone(),
        scope,
        x5t_s256: peer.0.as_ref().map(|peer| peer.x5t_s256()),
        ..Grant::default()
    };
    answer(issuer, &grant, false)
}

fn answer(issuer: &Issuer, grant: &Grant, user: bool) -> Result<Value, &'static str> {
    let claims = issuer.claims(grant);
    let sign = |typ: &str, claims: Map<String, Value>, how: Signature| {
        issuer.keys.sign(typ, &Value::Object(claims), how).map_err(|_| "server_error")
    };
    let mut body = json!({
        "access_token": sign("at+jwt", claims.clone(), Signature::Es256)?,
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": grant.scope,
    });
    if let Some(body) = body.as_object_mut() {
        if let Some(patient) = &grant.patient {
            body.insert("patient".to_owned(), json!(patient));
        }
        if user && grant.scope.split(' ').any(|scope| scope == "openid") {
            let mut id_token = claims;
            id_token.insert("aud".to_owned(), json!(grant.client_id));
            body.insert("id_token".to_owned(), json!(sign("JWT", id_token, Signature::Rs256)?));
        }
    }
    Ok(body)
}

/// The client, by assertion (RFC 7523; SMART 2.2 asymmetric) or, for a public one, by name.
fn authenticated(issuer: &Issuer, request: &Fields) -> Result<RegisteredClient, &'static str> {
    let Some(assertion) = field(request, "client_assertion") else {
        let client = field(request, "client_id").and_then(|id| issuer.client(id));
        return client.filter(|client| client.jwk.is_none()).cloned().ok_or("invalid_client");
    };
    let taken_on = jose::issuer_of(assertion).and_then(|id| issuer.taken_on(&id));
    let clients = issuer.clients.iter().chain(&taken_on);
    let mut claimed = clients.filter_map(|client| Some((client, jose::verify_es256(assertion, client.jwk.as_ref()?)?)));
    let (client, claims) = claimed.next().ok_or("invalid_client")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let audiences = [format!("{}/token", issuer.url()), format!("{}/auth/token", issuer.audience)];
    let now = issuer.clock.now().unix_timestamp();
    let expires = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
    let good = text("iss") == Some(client.client_id.as_str())
        && text("sub") == text("iss")
        && audiences.iter().any(|audience| text("aud") == Some(audience.as_str()))
        && (now..=now + 300).contains(&expires);
    let fresh = good && issuer.state().assertions.insert(text("jti").unwrap_or_default().to_owned());
    if fresh { Ok(client.clone()) } else { Err("invalid_client") }
}

/// The scopes asked for, if the client may have them all.
fn narrowed(client: &RegisteredClient, asked: &str) -> Option<String> {
    let may = |scope: &str| {
        let launch = matches!(scope, "openid" | "fhirUser" | "launch" | "launch/patient");
        launch || client.scope.split(' ').any(|one| one == scope)
    };
    let all = asked.split(' ').filter(|scope| !scope.is_empty());
    (all.clone().count() > 0 && all.clone().all(may)).then(|| all.collect::<Vec<_>>().join(" "))
}

fn field<'a>(request: &'a Fields, name: &str) -> Option<&'a str> {
    let mut values = request.iter().filter(|(key, _)| key == name);
    // RFC 6749 3.1: a parameter must not occur twice.
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

impl Issuer {
    fn client(&self, client_id: &str) -> Option<&RegisteredClient> {
        self.clients.iter().find(|client| client.client_id == client_id)
    }

    /// A backend service that the gateway took on after the demo began, by its partner file.
    fn taken_on(&self, client_id: &str) -> Option<RegisteredClient> {
        let plain = client_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let file = plain.then(|| self.partners.join(format!("{client_id}.yaml")))?;
        let partner = load_partner(&file, &environment).ok()?;
        let keys = std::fs::read(partner.jwks_file.as_deref()?).ok()?;
        let keys: Value = serde_json::from_slice(&keys).ok()?;
        Some(RegisteredClient {
            client_id: partner.client_id,
            redirect_uris: Vec::new(),
            scope: partner.scopes.join(" "),
            jwk: Some(keys.get("keys")?.get(0)?.clone()),
            backend: partner.client_type == ClientType::BackendService,
        })
    }
}
