//! Front mode: the issuer's endpoints guarded. Attacks on the flow, each beside the flow that works.

use fhirwall::smart::request::AuthEndpoint;
use fhirwall_policy::partner::Status;
use http::StatusCode;
use serde_json::{Value, json};

use crate::site::{
    AUTH, Call, REDIRECT, Site, VERIFIER, authorize, body, cookies, exchange, front, location, query, text,
};
use crate::world::{BASE, ISSUER, NOW, RSA};

/// To the issuer and back: the answer of the callback.
async fn sign_in(site: &Site, client_id: &str, state: &str) -> url::Url {
    let started = site.get(AuthEndpoint::Authorize, &authorize(client_id, state)).await;
    let there = location(&started);
    let mut back = Call::new(&[("code", "issuer-code"), ("iss", ISSUER), ("state", &query(&there, "state").unwrap())]);
    back.headers = cookies(&started);
    location(&site.get(AuthEndpoint::Callback, &back).await)
}

fn issuer_gives(site: &Site, answer: Value) {
    site.fetch.set(&format!("{ISSUER}/token"), answer);
}

fn token_answer() -> Value {
    json!({"access_token": "issuer-token", "token_type": "bearer", "expires_in": 300, "patient": "a",
        "scope": "launch/patient patient/Observation.rs patient/*.cruds", "refresh_token": "issuer-refresh",
        "need_patient_banner": true, "internal": "secret of the issuer"})
}

#[tokio::test]
async fn a_sound_flow_reaches_the_issuer_with_our_own_state_and_pkce_and_comes_back_with_ours() {
    let site = front();
    let started = site.get(AuthEndpoint::Authorize, &authorize("public", "state-0123456789012345678")).await;
    let there = location(&started);
    assert!(there.as_str().starts_with(&format!("{ISSUER}/authorize?")));
    assert_eq!(query(&there, "redirect_uri").unwrap(), format!("{AUTH}/callback"));
    assert_eq!(query(&there, "code_challenge_method").unwrap(), "S256");
    assert_ne!(query(&there, "state").unwrap(), "state-0123456789012345678");
    assert_ne!(query(&there, "code_challenge"), Some(crate::site::challenge(VERIFIER)));
    assert_eq!(query(&there, "aud").unwrap(), BASE);
    let cookie = started.headers()[http::header::SET_COOKIE].to_str().unwrap();
    for attribute in ["__Host-", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }

    let back = sign_in(&site, "public", "another-state-9876543210").await;
    assert!(back.as_str().starts_with(&format!("{REDIRECT}?")));
    assert_eq!(query(&back, "state").unwrap(), "another-state-9876543210");
    assert_eq!(query(&back, "iss").unwrap(), AUTH);
    let code = query(&back, "code").unwrap();
    assert!(!code.contains("issuer-code"));

    issuer_gives(&site, token_answer());
    let answer = site.post(AuthEndpoint::Token, &exchange("public", &code)).await;
    let told = body(&answer);
    assert_eq!(
        (answer.status(), &told["access_token"], &told["patient"]),
        (StatusCode::OK, &json!("issuer-token"), &json!("a"))
    );
    assert_eq!(told["token_type"], "Bearer");
    assert_eq!(told["scope"], "launch/patient patient/Observation.rs patient/*.rs", "cut to the registration");
    assert!(told.get("internal").is_none(), "only what SMART names is passed on");
    assert_ne!(told["refresh_token"], "issuer-refresh");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let asked = site.fetch.requests.lock().unwrap().last().unwrap().1.clone();
    assert!(asked.contains("code=issuer-code") && asked.contains("client_assertion="), "our own proof");
    assert!(!asked.contains(VERIFIER), "our own verifier");
}

#[tokio::test]
async fn authorization_requests_that_are_not_sound_are_refused() {
    let site = front();
    type Change = fn(Call) -> Call;
    let here: &[(&str, Change)] = &[
        ("unknown client", |c| c.with("client_id", "nobody")),
        ("no client", |c| c.with("client_id", "")),
        ("another redirect", |c| c.with("redirect_uri", "https://evil.example/cb")),
        ("redirect with a suffix", |c| c.with("redirect_uri", "https://recovery.example/cb/../evil")),
        ("redirect with a query", |c| c.with("redirect_uri", "https://recovery.example/cb?x=1")),
        ("redirect in other case", |c| c.with("redirect_uri", "https://recovery.example/CB")),
        ("redirect of a prefix", |c| c.with("redirect_uri", "https://recovery.example/c")),
        ("no redirect", |c| c.with("redirect_uri", "")),
        ("two clients", |c| c.again("client_id", "symmetric")),
        ("two redirects", |c| c.again("redirect_uri", "https://evil.example")),
    ];
    for (at, (name, change)) in here.iter().enumerate() {
        let answer =
            site.get(AuthEndpoint::Authorize, &change(authorize("public", &format!("here-0123456789012-{at}")))).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name}");
        assert!(answer.headers().get("location").is_none(), "sent away: {name}");
        assert!(text(&answer).contains("Sign-in cannot go on"), "{name}");
    }
    let there: &[(&str, Change, &str)] = &[
        ("implicit", |c| c.with("response_type", "token"), "unsupported_response_type"),
        ("hybrid", |c| c.with("response_type", "code token"), "unsupported_response_type"),
        ("no state", |c| c.with("state", ""), "invalid_request"),
        ("short state", |c| c.with("state", "1234567"), "invalid_request"),
        ("no aud", |c| c.with("aud", ""), "invalid_request"),
        ("another aud", |c| c.with("aud", "https://other.example/fhir"), "invalid_request"),
        ("aud and another resource", |c| c.with("resource", "https://other.example/fhir"), "invalid_request"),
        ("no challenge", |c| c.with("code_challenge", ""), "invalid_request"),
        ("plain", |c| c.with("code_challenge_method", "plain"), "invalid_request"),
        ("no method", |c| c.with("code_challenge_method", ""), "invalid_request"),
        ("s256", |c| c.with("code_challenge_method", "s256"), "invalid_request"),
        ("challenge too short", |c| c.with("code_challenge", "abc"), "invalid_request"),
        ("no scope", |c| c.with("scope", ""), "invalid_request"),
        ("scopes not registered", |c| c.with("scope", "user/*.cruds"), "invalid_scope"),
        ("system scopes for a user", |c| c.with("scope", "system/*.rs"), "invalid_scope"),
        ("a request object", |c| c.with("request", "eyJ"), "invalid_request"),
        ("a request by reference", |c| c.with("request_uri", "https://evil.example"), "invalid_request"),
        ("fragment response", |c| c.with("response_mode", "fragment"), "invalid_request"),
    ];
    for (at, (name, change, expected)) in there.iter().enumerate() {
        let call = change(authorize("public", &format!("there-012345678901-{at}")));
        let answer = location(&site.get(AuthEndpoint::Authorize, &call).await);
        assert!(answer.as_str().starts_with(&format!("{REDIRECT}?")), "{name}");
        assert_eq!(query(&answer, "error").as_deref(), Some(*expected), "{name}");
        assert_eq!(query(&answer, "iss").as_deref(), Some(AUTH), "{name}");
    }
    let backend = location(&site.get(AuthEndpoint::Authorize, &authorize("backend", "state-of-a-backend-0123")).await);
    assert_eq!(query(&backend, "error").as_deref(), Some("unauthorized_client"));
    let resource = authorize("public", "resource-0123456789012").with("aud", "").with("resource", BASE);
    let sound = location(&site.post(AuthEndpoint::Authorize, &resource).await);
    assert!(sound.as_str().starts_with(ISSUER), "POST, and RFC 8707 resource for aud");
}

#[tokio::test]
async fn what_the_app_wants_asked_once_more_and_its_launch_reach_the_issuer() {
    let site = front();
    for (at, (prompt, passed)) in [
        ("consent", Some("consent")),
        ("login consent", Some("login consent")),
        ("select_account", Some("select_account")),
        ("none", None),
        ("create https://evil.example", None),
        ("", None),
    ]
    .into_iter()
    .enumerate()
    {
        let call = authorize("public", &format!("prompt-0123456789012-{at}")).with("prompt", prompt);
        let there = location(&site.get(AuthEndpoint::Authorize, &call).await);
        assert_eq!(query(&there, "prompt").as_deref(), passed, "{prompt}");
        assert_eq!(query(&there, "launch"), None);
    }
    let launched = authorize("public", "launched-0123456789012").with("launch", "from-a-chart");
    let there = location(&site.get(AuthEndpoint::Authorize, &launched).await);
    assert_eq!(query(&there, "launch").as_deref(), Some("from-a-chart"));
}

#[tokio::test]
async fn a_state_counts_once_and_a_suspended_app_not_at_all() {
    let site = front();
    let first = location(&site.get(AuthEndpoint::Authorize, &authorize("public", "the-very-same-state-0123")).await);
    assert!(first.as_str().starts_with(ISSUER));
    let again = location(&site.get(AuthEndpoint::Authorize, &authorize("public", "the-very-same-state-0123")).await);
    assert_eq!(query(&again, "error").as_deref(), Some("invalid_request"));
    site.change("public", |entry| {
        let mut facts = (*entry.partner).clone();
        facts.status = Status::Suspended;
        entry.partner = facts.into();
    });
    let suspended = location(&site.get(AuthEndpoint::Authorize, &authorize("public", "a-new-state-0123456789")).await);
    assert_eq!(query(&suspended, "error").as_deref(), Some("unauthorized_client"));
}

#[tokio::test]
async fn an_answer_of_another_server_or_for_another_browser_goes_nowhere() {
    let site = front();
    let started = site.get(AuthEndpoint::Authorize, &authorize("public", "mix-up-0123456789012345")).await;
    let state = query(&location(&started), "state").unwrap();
    let sound = || {
        let mut call = Call::new(&[("code", "issuer-code"), ("iss", ISSUER), ("state", &state)]);
        call.headers = cookies(&started);
        call
    };
    for (name, call) in [
        ("mix-up: another iss", sound().with("iss", "https://evil.example")),
        ("mix-up: no iss from a server that sends it", sound().with("iss", "")),
        ("no state", sound().with("state", "")),
        ("another state", sound().with("state", "somebody-else-s-state")),
        ("login CSRF: no cookie", Call { headers: Vec::new(), ..sound() }),
        ("too late", sound().after(601)),
    ] {
        let answer = site.get(AuthEndpoint::Callback, &call).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name}");
    }
    let denied = sound().with("code", "").with("error", "access_denied");
    assert_eq!(
        query(&location(&site.get(AuthEndpoint::Callback, &denied).await), "error").as_deref(),
        Some("access_denied")
    );
    let odd = sound().with("code", "").with("error", "<script>");
    assert_eq!(
        query(&location(&site.get(AuthEndpoint::Callback, &odd).await), "error").as_deref(),
        Some("server_error")
    );
    assert!(query(&location(&site.get(AuthEndpoint::Callback, &sound()).await), "code").is_some());
}

#[tokio::test]
async fn a_code_counts_once_for_its_client_with_its_verifier_at_its_address_for_a_minute() {
    let site = front();
    issuer_gives(&site, token_answer());
    let code = query(&sign_in(&site, "public", "code-tests-01234567890").await, "code").unwrap();
    let sound = || exchange("public", &code);
    let other = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for (name, call, expected) in [
        (
            "code injection: another client",
            sound().with("client_id", "").basic("symmetric", crate::site::SECRET),
            "invalid_grant",
        ),
        ("another verifier", sound().with("code_verifier", other), "invalid_grant"),
        ("PKCE downgrade: no verifier", sound().with("code_verifier", ""), "invalid_request"),
        (
            "the challenge as verifier",
            sound().with("code_verifier", &crate::site::challenge(VERIFIER)),
            "invalid_grant",
        ),
        ("another redirect", sound().with("redirect_uri", "https://recovery.example/other"), "invalid_grant"),
        ("no redirect", sound().with("redirect_uri", ""), "invalid_request"),
        ("the issuer's own code", sound().with("code", "issuer-code"), "invalid_grant"),
        ("too late", sound().after(60), "invalid_grant"),
        ("a grant that does not exist", sound().with("grant_type", "password"), "unsupported_grant_type"),
        ("a user's app as a backend", sound().with("grant_type", "client_credentials"), "unauthorized_client"),
    ] {
        let answer = site.post(AuthEndpoint::Token, &call).await;
        assert_eq!(body(&answer)["error"], expected, "{name}");
    }
    assert_eq!(site.post(AuthEndpoint::Token, &sound().after(59)).await.status(), StatusCode::OK);
    assert_eq!(body(&site.post(AuthEndpoint::Token, &sound()).await)["error"], "invalid_grant", "used twice");
}

#[tokio::test]
async fn answers_of_the_issuer_are_checked() {
    for (name, answer, expected) in [
        ("no token", json!({"token_type": "Bearer"}), "server_error"),
        ("another kind of token", json!({"access_token": "x", "token_type": "mac"}), "server_error"),
        ("an error that a client can act on", json!({"error": "invalid_grant"}), "server_error"),
        ("a list", json!([]), "server_error"),
    ] {
        let site = front();
        issuer_gives(&site, answer);
        let code = query(&sign_in(&site, "public", "answers-0123456789012345").await, "code").unwrap();
        let told = site.post(AuthEndpoint::Token, &exchange("public", &code)).await;
        assert_eq!(body(&told)["error"], expected, "{name}");
    }
    let site = front();
    let code = query(&sign_in(&site, "public", "answers-0123456789012345").await, "code").unwrap();
    let away = site.post(AuthEndpoint::Token, &exchange("public", &code)).await;
    assert_eq!(
        (away.status(), &body(&away)["error"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("temporarily_unavailable"))
    );
}

#[tokio::test]
async fn a_refresh_token_is_its_client_s_alone_and_narrows_at_most() {
    let site = front();
    issuer_gives(&site, token_answer());
    let code = query(&sign_in(&site, "public", "refresh-0123456789012345").await, "code").unwrap();
    let refresh = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await)["refresh_token"].clone();
    let refresh = refresh.as_str().unwrap().to_owned();
    let sound = || Call::new(&[("grant_type", "refresh_token"), ("refresh_token", &refresh), ("client_id", "public")]);
    for (name, call, expected) in [
        ("another client", sound().with("client_id", "").basic("symmetric", crate::site::SECRET), "invalid_grant"),
        ("the issuer's own", sound().with("refresh_token", "issuer-refresh"), "invalid_grant"),
        ("a code as refresh token", sound().with("refresh_token", &code), "invalid_grant"),
        ("more than was granted", sound().with("scope", "patient/Observation.cruds"), "invalid_scope"),
    ] {
        assert_eq!(body(&site.post(AuthEndpoint::Token, &call).await)["error"], expected, "{name}");
    }
    let narrowed = sound().with("scope", "patient/Observation.rs");
    assert_eq!(site.post(AuthEndpoint::Token, &narrowed).await.status(), StatusCode::OK);
    let asked = site.fetch.requests.lock().unwrap().last().unwrap().1.clone();
    assert!(asked.contains("refresh_token=issuer-refresh") && asked.contains("scope=patient%2FObservation.rs"));
    let stranger = Call::new(&[("token", &refresh)]).basic("symmetric", crate::site::SECRET);
    assert_eq!(site.post(AuthEndpoint::Revoke, &stranger).await.status(), StatusCode::OK);
    assert_eq!(site.post(AuthEndpoint::Token, &sound()).await.status(), StatusCode::OK, "a stranger ends nothing");
    let own = Call::new(&[("token", &refresh), ("client_id", "public")]);
    assert_eq!(site.post(AuthEndpoint::Revoke, &own).await.status(), StatusCode::OK);
    assert_eq!(body(&site.post(AuthEndpoint::Token, &sound()).await)["error"], "invalid_grant", "its own client does");
}

#[tokio::test]
async fn a_patient_whom_the_issuer_names_in_its_token_alone_is_told_to_the_app() {
    let site = front();
    site.fetch.set(&format!("{AUTH}/jwks"), json!({"keys": [RSA.jwk.clone()]}));
    let cases = [
        ("in the token alone", Some("a"), None, Some("a")),
        ("in both, alike", Some("a"), Some("a"), Some("a")),
        ("in the answer alone", None, Some("b"), Some("b")),
        ("in neither", None, None, None),
    ];
    let answers = async |at: usize, in_token: Option<&str>, in_answer: Option<&str>| {
        let claims = json!({"iss": AUTH, "aud": BASE, "sub": "u", "client_id": "public", "jti": format!("j{at}"),
            "iat": NOW, "exp": NOW + 300, "scope": "patient/*.rs", "patient": in_token});
        let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "rs-1"});
        let token = RSA.sign_as(jsonwebtoken::Algorithm::RS256, &header, &claims);
        issuer_gives(&site, json!({"access_token": token, "token_type": "Bearer", "patient": in_answer}));
        let back = sign_in(&site, "public", &format!("context-0123456789012-{at}")).await;
        body(&site.post(AuthEndpoint::Token, &exchange("public", &query(&back, "code").unwrap())).await)
    };
    for (at, (name, in_token, in_answer, expected)) in cases.into_iter().enumerate() {
        let told = answers(at, in_token, in_answer).await;
        assert!(told["access_token"].is_string(), "{name}");
        assert_eq!(told["patient"].as_str(), expected, "{name}");
    }
    let mixed_up = answers(9, Some("a"), Some("b")).await;
    assert_eq!(mixed_up["error"], "server_error", "a token for another patient than the answer's");
}
