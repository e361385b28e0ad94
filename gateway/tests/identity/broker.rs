//! Broker mode: login at the provider, consent, tokens of ours. Attacks on the flow, each beside the flow that works.

use fhirwall::identify::Presented;
use fhirwall::identify::error::{IdentifyError, TokenFault};
use fhirwall::identify::jwk::thumbprint;
use fhirwall::smart::request::AuthEndpoint;
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::site::{
    AUTH, Call, PROVIDER, REDIRECT, SECRET, Site, authorize, body, broker, claims, cookies, exchange, in_time,
    location, query, text,
};
use crate::world::{BASE, ES256, FakeFetch, NOW, RSA, TestKey};

/// What the provider answers to our code: an id_token for the nonce of this login.
fn provider_gives(fetch: &FakeFetch, nonce: &str, change: impl Fn(&mut Value)) {
    let mut claims = json!({"iss": PROVIDER, "aud": "gateway", "sub": "user-1", "iat": NOW, "exp": NOW + 300,
        "nonce": nonce, "auth_time": NOW - 5, "fhirUser": "Patient/a"});
    change(&mut claims);
    let id_token = RSA.sign_as(Algorithm::RS256, &json!({"alg": "RS256", "typ": "JWT", "kid": "rs-1"}), &claims);
    fetch.set(
        &format!("{PROVIDER}/token"),
        json!({"access_token": "theirs", "token_type": "Bearer", "id_token": id_token, "refresh_token": "their-refresh"}),
    );
}

/// Up to the consent page.
async fn to_consent(site: &Site, call: &Call, change: impl Fn(&mut Value)) -> http::Response<bytes::Bytes> {
    let started = site.get(AuthEndpoint::Authorize, call).await;
    let there = location(&started);
    provider_gives(&site.fetch, &query(&there, "nonce").unwrap(), change);
    let mut back = Call::new(&[("code", "their-code"), ("state", &query(&there, "state").unwrap())]);
    back.headers = cookies(&started);
    site.get(AuthEndpoint::Callback, &back).await
}

/// The form of the consent page as a browser would send it with everything ticked.
fn form(page: &http::Response<bytes::Bytes>) -> Call {
    let markup = text(page);
    let value_after = |marker: &str| {
        let at = markup.find(marker)? + marker.len();
        Some(markup[at..at + markup[at..].find('"')?].to_owned())
    };
    let mut call = Call::new(&[("answer", "allow")]);
    call = call.with("question", &value_after("name=\"question\" value=\"").unwrap_or_else(|| panic!("{markup}")));
    if let Some(patient) = value_after("name=\"patient\" value=\"") {
        call = call.with("patient", &patient);
    }
    for at in 0..20 {
        if markup.contains(&format!("name=\"scope-{at}\"")) {
            call = call.with(&format!("scope-{at}"), "on");
        }
    }
    call.headers = cookies(page);
    call
}

async fn code(site: &Site, client_id: &str, state: &str) -> String {
    let page = to_consent(site, &authorize(client_id, state), |_| ()).await;
    query(&location(&site.post(AuthEndpoint::Consent, &form(&page)).await), "code").unwrap()
}

async fn tokens(site: &Site, state: &str) -> Value {
    let code = code(site, "public", state).await;
    body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await)
}

fn refresh(token: &Value) -> Call {
    Call::new(&[("grant_type", "refresh_token"), ("client_id", "public"), ("refresh_token", token.as_str().unwrap())])
}

async fn identify(
    site: &Site,
    token: &Value,
    seconds: i64,
) -> Result<fhirwall_policy::subject::Subject, IdentifyError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", token.as_str().unwrap())).unwrap();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    let presented = Presented {
        peer: None,
        headers: &headers,
        method: &Method::GET,
        url: "https://fhir.example.org/fhir/Observation",
        query: None,
        audience: Some(BASE),
    };
    site.identifier.identify(&presented, in_time(seconds)).await
}

#[tokio::test]
async fn a_sound_flow_ends_in_tokens_that_the_gateway_itself_accepts() {
    let site = broker();
    let started = site.get(AuthEndpoint::Authorize, &authorize("public", "sound-flow-0123456789012")).await;
    let there = location(&started);
    assert!(there.as_str().starts_with(&format!("{PROVIDER}/authorize?")));
    assert_eq!(query(&there, "code_challenge_method").unwrap(), "S256", "PKCE on that leg too");
    assert_ne!(query(&there, "nonce").unwrap(), "the app's nonce");
    assert_eq!(query(&there, "redirect_uri").unwrap(), format!("{AUTH}/callback"));

    let told = tokens(&site, "sound-flow-9876543210987").await;
    assert_eq!(
        (&told["token_type"], &told["expires_in"], &told["patient"]),
        (&json!("Bearer"), &json!(300), &json!("a"))
    );
    assert_eq!(
        told["scope"],
        "openid fhirUser launch/patient offline_access patient/Observation.rs patient/Condition.rs"
    );
    let id_token = claims(&told["id_token"]);
    assert_eq!((&id_token["iss"], &id_token["aud"]), (&json!(AUTH), &json!("public")));
    assert_eq!(id_token["nonce"], "the app's nonce");
    assert_eq!(id_token["fhirUser"], format!("{BASE}/Patient/a"));
    assert!(told["id_token"].as_str().unwrap().starts_with(&crate::world::b64(br#"{"alg":"RS256""#)[..18]));

    let subject = identify(&site, &told["access_token"], 0).await.unwrap();
    assert_eq!((&*subject.sub, subject.patient.unwrap().as_str()), ("user-1", "a"));
    assert_eq!(subject.authentication.auth_time.unwrap().unix_timestamp(), NOW - 5);
    let as_access = identify(&site, &told["id_token"], 0).await.err();
    assert_eq!(as_access, Some(IdentifyError::InvalidToken(TokenFault::Type)), "an id_token is no access token");
}

#[tokio::test]
async fn there_is_no_refresh_where_the_provider_could_not_be_asked_whether_the_user_is_still_there() {
    let site = broker();
    let there = location(&site.get(AuthEndpoint::Authorize, &authorize("public", "offline-0123456789012")).await);
    let asked = query(&there, "scope").unwrap();
    assert_eq!(asked, "openid profile offline_access", "the configured scopes, and a refresh token of our own");
    assert_eq!(query(&there, "prompt").as_deref(), Some("consent"), "or the provider ignores it");

    let page = to_consent(&site, &authorize("public", "offline-1123456789012"), |_| ()).await;
    assert!(text(&page).contains("Keep this access"), "the neighbour: the provider gave a refresh token");
    for scope in ["offline_access", "online_access"] {
        let call = authorize("public", &format!("no-{scope}-0123456789012"));
        let call = call.with("scope", &format!("openid launch/patient patient/Observation.rs {scope}"));
        let started = site.get(AuthEndpoint::Authorize, &call).await;
        let there = location(&started);
        provider_gives(&site.fetch, &query(&there, "nonce").unwrap(), |_| ());
        site.fetch.change(&format!("{PROVIDER}/token"), |answer| {
            answer.as_object_mut().unwrap().remove("refresh_token");
        });
        let mut back = Call::new(&[("code", "their-code"), ("state", &query(&there, "state").unwrap())]);
        back.headers = cookies(&started);
        let page = site.get(AuthEndpoint::Callback, &back).await;
        assert!(!text(&page).contains("Keep this access"), "{scope}");
        let code = query(&location(&site.post(AuthEndpoint::Consent, &form(&page)).await), "code").unwrap();
        let told = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await);
        assert_eq!(told["scope"], "openid launch/patient patient/Observation.rs", "{scope}");
        assert!(told.get("refresh_token").is_none(), "{scope}");
    }
}

#[tokio::test]
async fn the_consent_page_says_it_in_words_and_cannot_be_framed_or_forged() {
    let site = broker();
    let page = to_consent(&site, &authorize("public", "consent-page-01234567890"), |_| ()).await;
    let markup = text(&page);
    assert!(markup.contains("See test results, vital signs and other measurements"));
    assert!(markup.contains("Keep this access when you are not using the app"));
    assert!(markup.contains("separate written consent"));
    assert_eq!(page.headers()["x-frame-options"], "DENY");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"));
    let cookie = page.headers()["set-cookie"].to_str().unwrap();
    for attribute in ["__Host-", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    let sound = form(&page);
    for (name, call) in [
        ("CSRF: no cookie", Call { headers: Vec::new(), ..sound.clone() }),
        (
            "CSRF: another browser's cookie",
            Call { headers: vec![(COOKIE, "__Host-fw-consent=x".to_owned())], ..sound.clone() },
        ),
        ("a changed question", sound.clone().with("question", "AAAA")),
        ("no question", sound.clone().with("question", "")),
        ("too late", sound.clone().after(600)),
    ] {
        assert_eq!(site.post(AuthEndpoint::Consent, &call).await.status(), StatusCode::BAD_REQUEST, "{name}");
    }
    for call in [sound.clone().with("answer", "deny"), sound.clone().with("answer", "")] {
        let denied = location(&site.post(AuthEndpoint::Consent, &call).await);
        assert_eq!(query(&denied, "error").as_deref(), Some("access_denied"));
    }
    let allowed = location(&site.post(AuthEndpoint::Consent, &sound).await);
    assert!(allowed.as_str().starts_with(REDIRECT) && query(&allowed, "code").is_some());
    assert_eq!(query(&allowed, "iss").as_deref(), Some(AUTH));
}

#[tokio::test]
async fn a_launch_that_nobody_made_here_is_refused_and_a_standalone_one_is_not() {
    let site = broker();
    let launched = authorize("public", "launch-012345678901234").with("launch", "from-another-chart");
    let refused = location(&site.get(AuthEndpoint::Authorize, &launched).await);
    assert!(refused.as_str().starts_with(REDIRECT), "{refused}");
    assert_eq!(query(&refused, "error").as_deref(), Some("invalid_request"));
    assert_eq!(query(&refused, "state").as_deref(), Some("launch-012345678901234"));
    assert_eq!(query(&refused, "code"), None);
    let alone = location(&site.get(AuthEndpoint::Authorize, &authorize("public", "alone-0123456789012345")).await);
    assert!(alone.as_str().starts_with(PROVIDER), "{alone}");
}

#[tokio::test]
async fn the_user_s_choice_cuts_the_scopes() {
    let site = broker();
    let page = to_consent(&site, &authorize("public", "choice-012345678901234"), |_| ()).await;
    // Ticked: patient/Condition.rs alone; the fifth and sixth scopes are the resource scopes, the fourth offline_access.
    let mut call = form(&page);
    for at in [3, 4] {
        call = call.with(&format!("scope-{at}"), "");
    }
    let code = query(&location(&site.post(AuthEndpoint::Consent, &call).await), "code").unwrap();
    let told = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await);
    assert_eq!(told["scope"], "openid fhirUser launch/patient patient/Condition.rs");
    assert!(told.get("refresh_token").is_none(), "without offline_access");
    // A scope that was not on the page cannot be ticked.
    let forged =
        form(&to_consent(&site, &authorize("public", "choice-forged-0123456"), |_| ()).await).with("scope-17", "on");
    let code = query(&location(&site.post(AuthEndpoint::Consent, &forged).await), "code").unwrap();
    let told = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await);
    assert_eq!(told["scope"].as_str().unwrap().split(' ').count(), 6);
}

#[tokio::test]
async fn a_patient_scope_is_granted_with_a_patient_or_not_at_all() {
    let site = broker();
    let practitioner = |claims: &mut Value| claims["fhirUser"] = json!("Practitioner/p");
    let page = to_consent(&site, &authorize("public", "practitioner-0123456789"), practitioner).await;
    assert!(text(&page).contains("No patient record is linked to you"));
    let forged = form(&page).with("patient", "b");
    let code = query(&location(&site.post(AuthEndpoint::Consent, &forged).await), "code").unwrap();
    let told = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await);
    assert_eq!(told["scope"], "openid fhirUser offline_access");
    assert!(told.get("patient").is_none(), "a patient that was not offered cannot be chosen");

    let stranger = |claims: &mut Value| claims["fhirUser"] = json!("Organization/o");
    let page = to_consent(&site, &authorize("public", "no-fhir-user-0123456789"), stranger).await;
    let code = query(&location(&site.post(AuthEndpoint::Consent, &form(&page)).await), "code").unwrap();
    let told = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await);
    assert_eq!(told["scope"], "openid offline_access", "no fhirUser without a FHIR resource for the user");
}

#[tokio::test]
async fn what_the_provider_says_is_verified() {
    type Change = fn(&mut Value);
    let bad: &[(&str, Change)] = &[
        ("another nonce: code injection at the provider", |c| c["nonce"] = json!("another")),
        ("no nonce", |c| drop(c.as_object_mut().unwrap().remove("nonce"))),
        ("another issuer", |c| c["iss"] = json!("https://evil.example")),
        ("another client", |c| c["aud"] = json!("another")),
        ("us among others", |c| c["aud"] = json!(["gateway", "another"])),
        ("expired", |c| c["exp"] = json!(NOW - 1)),
    ];
    for (name, change) in bad {
        let site = broker();
        let answer = to_consent(&site, &authorize("public", "provider-0123456789012"), change).await;
        assert_eq!(query(&location(&answer), "error").as_deref(), Some("access_denied"), "{name}");
    }
    let site = broker();
    let stale = |claims: &mut Value| claims["auth_time"] = json!(NOW - 120);
    let asked = authorize("public", "provider-max-age-012345").with("max_age", "60");
    let answer = to_consent(&site, &asked, stale).await;
    assert_eq!(query(&location(&answer), "error").as_deref(), Some("access_denied"), "max_age was asked");

    let site = broker();
    let started = site.get(AuthEndpoint::Authorize, &authorize("public", "provider-forged-01234567")).await;
    let there = location(&started);
    let forged = json!({"iss": PROVIDER, "aud": "gateway", "sub": "user-1", "iat": NOW, "exp": NOW + 300,
        "nonce": query(&there, "nonce").unwrap()});
    let secret = jsonwebtoken::EncodingKey::from_secret(b"the gateway's secret");
    let message =
        format!("{}.{}", crate::world::b64(br#"{"alg":"HS256"}"#), crate::world::b64(forged.to_string().as_bytes()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
    let es256 = ES256.sign(&json!({"alg": "ES256", "kid": "rs-1"}), &forged);
    for id_token in [format!("{message}.{signature}"), es256, format!("{message}.")] {
        site.fetch.set(
            &format!("{PROVIDER}/token"),
            json!({"access_token": "x", "token_type": "Bearer", "id_token": id_token}),
        );
        let mut back = Call::new(&[("code", "their-code"), ("state", &query(&there, "state").unwrap())]);
        back.headers = cookies(&started);
        let answer = site.get(AuthEndpoint::Callback, &back).await;
        assert_eq!(query(&location(&answer), "error").as_deref(), Some("access_denied"));
    }
}

#[tokio::test]
async fn a_code_used_twice_ends_its_grant() {
    let site = broker();
    let code = code(&site, "public", "code-twice-0123456789012").await;
    let told = body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await);
    assert!(identify(&site, &told["access_token"], 0).await.is_ok());
    let other = exchange("public", &code).with("code_verifier", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    assert_eq!(body(&site.post(AuthEndpoint::Token, &other).await)["error"], "invalid_grant");
    assert!(identify(&site, &told["access_token"], 0).await.is_ok(), "a stranger's guess ends nothing");
    assert_eq!(body(&site.post(AuthEndpoint::Token, &exchange("public", &code)).await)["error"], "invalid_grant");
    let ended = identify(&site, &told["access_token"], 0).await.err();
    assert_eq!(ended, Some(IdentifyError::InvalidToken(TokenFault::Revoked)));
    assert_eq!(body(&site.post(AuthEndpoint::Token, &refresh(&told["refresh_token"])).await)["error"], "invalid_grant");
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_reused_one_ends_the_grant() {
    let site = broker();
    let first = tokens(&site, "rotation-01234567890123").await;
    let second = body(&site.post(AuthEndpoint::Token, &refresh(&first["refresh_token"])).await);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(second["scope"], first["scope"]);
    assert!(identify(&site, &second["access_token"], 0).await.is_ok());
    let reuse = site.post(AuthEndpoint::Token, &refresh(&first["refresh_token"])).await;
    assert_eq!(body(&reuse)["error"], "invalid_grant");
    let after = site.post(AuthEndpoint::Token, &refresh(&second["refresh_token"])).await;
    assert_eq!(body(&after)["error"], "invalid_grant", "the thief's and the owner's both end");
    let access = identify(&site, &second["access_token"], 0).await.err();
    assert_eq!(access, Some(IdentifyError::InvalidToken(TokenFault::Revoked)));
}

#[tokio::test]
async fn a_refresh_narrows_only_the_token_and_never_widens() {
    let site = broker();
    let first = tokens(&site, "narrowing-0123456789012").await;
    let wider = refresh(&first["refresh_token"]).with("scope", "patient/Observation.rs patient/Patient.rs");
    assert_eq!(body(&site.post(AuthEndpoint::Token, &wider).await)["error"], "invalid_scope");
    let stolen = refresh(&first["refresh_token"]).with("client_id", "").basic("symmetric", SECRET);
    assert_eq!(body(&site.post(AuthEndpoint::Token, &stolen).await)["error"], "invalid_grant");
    let narrow = refresh(&first["refresh_token"]).with("scope", "patient/Observation.rs");
    let second = body(&site.post(AuthEndpoint::Token, &narrow).await);
    assert_eq!(second["scope"], "patient/Observation.rs");
    let third = body(&site.post(AuthEndpoint::Token, &refresh(&second["refresh_token"])).await);
    assert_eq!(third["scope"], first["scope"], "a missing scope asks for all that was granted");
}

#[tokio::test]
async fn a_user_disabled_at_the_provider_is_cut_off_at_the_next_refresh() {
    let site = broker();
    let first = tokens(&site, "disabled-01234567890123").await;
    site.fetch.set(&format!("{PROVIDER}/token"), json!({"error": "invalid_grant"}));
    let answer = site.post(AuthEndpoint::Token, &refresh(&first["refresh_token"])).await;
    assert_ne!(answer.status(), StatusCode::OK);
    assert!(identify(&site, &first["access_token"], 329).await.is_ok());
    let over = identify(&site, &first["access_token"], 330).await.err();
    assert_eq!(over, Some(IdentifyError::InvalidToken(TokenFault::Expired)), "minutes after");
}

#[tokio::test]
async fn tokens_are_introspected_by_their_client_and_revoked_at_once() {
    let site = broker();
    let code = {
        let page = to_consent(&site, &authorize("symmetric", "introspect-0123456789"), |_| ()).await;
        query(&location(&site.post(AuthEndpoint::Consent, &form(&page)).await), "code").unwrap()
    };
    let call = exchange("symmetric", &code).with("client_id", "").basic("symmetric", SECRET);
    let told = body(&site.post(AuthEndpoint::Token, &call).await);
    let access = told["access_token"].as_str().unwrap();
    let ask = |token: &str| Call::new(&[("token", token)]).basic("symmetric", SECRET);
    let active = body(&site.post(AuthEndpoint::Introspect, &ask(access)).await);
    for (name, expected) in [
        ("active", json!(true)),
        ("client_id", json!("symmetric")),
        ("patient", json!("a")),
        ("exp", json!(NOW + 300)),
        ("sub", json!("user-1")),
        ("iss", json!(AUTH)),
        ("fhirUser", json!(format!("{BASE}/Patient/a"))),
    ] {
        assert_eq!(active[name], expected, "{name}");
    }
    let inactive = json!({"active": false});
    let backend = Call::new(&[
        ("token", access),
        ("client_assertion_type", fhirwall::smart::clients::JWT_BEARER),
        ("client_assertion", &crate::site::assertion("asymmetric", |_, _| ())),
    ]);
    assert_eq!(body(&site.post(AuthEndpoint::Introspect, &backend).await), inactive, "another client's token");
    assert_eq!(body(&site.post(AuthEndpoint::Introspect, &ask("nonsense")).await), inactive);
    let public = Call::new(&[("token", access), ("client_id", "public")]);
    assert_eq!(body(&site.post(AuthEndpoint::Introspect, &public).await)["error"], "unauthorized_client");
    // A stranger's revocation does nothing, and says so to nobody.
    assert_eq!(site.post(AuthEndpoint::Revoke, &public).await.status(), StatusCode::OK);
    assert_eq!(body(&site.post(AuthEndpoint::Introspect, &ask(access)).await)["active"], true);
    assert_eq!(site.post(AuthEndpoint::Revoke, &ask(access)).await.status(), StatusCode::OK);
    assert_eq!(body(&site.post(AuthEndpoint::Introspect, &ask(access)).await), inactive);
    let refresh_token = told["refresh_token"].as_str().unwrap();
    assert_eq!(site.post(AuthEndpoint::Revoke, &ask(refresh_token)).await.status(), StatusCode::OK);
    let call =
        Call::new(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).basic("symmetric", SECRET);
    assert_eq!(body(&site.post(AuthEndpoint::Token, &call).await)["error"], "invalid_grant");
}

#[tokio::test]
async fn a_dpop_proof_at_the_token_endpoint_binds_the_tokens() {
    let site = broker();
    site.change("public", |entry| entry.dpop_required = true);
    let device = TestKey::es256("device");
    let proof = |htu: &str, jti: &str| {
        let mut jwk = device.jwk.clone();
        for member in ["kid", "use"] {
            jwk.as_object_mut().unwrap().remove(member);
        }
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        device.sign(&header, &json!({"jti": jti, "htm": "POST", "htu": htu, "iat": NOW}))
    };
    let dpop = HeaderName::from_static("dpop");
    let token_url = format!("{AUTH}/token");
    let code = code(&site, "public", "dpop-012345678901234567").await;
    let plain = exchange("public", &code);
    assert_eq!(body(&site.post(AuthEndpoint::Token, &plain).await)["error"], "invalid_dpop_proof");
    let wrong = plain.clone().header(dpop.clone(), &proof("https://evil.example/token", "1"));
    assert_eq!(body(&site.post(AuthEndpoint::Token, &wrong).await)["error"], "invalid_dpop_proof");
    let told = body(&site.post(AuthEndpoint::Token, &plain.header(dpop.clone(), &proof(&token_url, "2"))).await);
    assert_eq!(told["token_type"], "DPoP");
    let jkt = thumbprint(device.jwk.as_object().unwrap()).unwrap();
    assert_eq!(claims(&told["access_token"])["cnf"]["jkt"], json!(jkt));
    let as_bearer = identify(&site, &told["access_token"], 0).await.err();
    assert_eq!(as_bearer, Some(IdentifyError::InvalidToken(TokenFault::KeyBinding)));
    let replayed = refresh(&told["refresh_token"]).header(dpop.clone(), &proof(&token_url, "2"));
    assert_eq!(body(&site.post(AuthEndpoint::Token, &replayed).await)["error"], "invalid_dpop_proof");
    let renewed = refresh(&told["refresh_token"]).header(dpop, &proof(&token_url, "3"));
    assert_eq!(body(&site.post(AuthEndpoint::Token, &renewed).await)["token_type"], "DPoP");
}

#[tokio::test]
async fn the_keys_are_published_without_their_private_halves() {
    let site = broker();
    let told = body(&site.get(AuthEndpoint::Jwks, &Call::default()).await);
    assert_eq!(told["keys"].as_array().unwrap().len(), 2);
    for key in told["keys"].as_array().unwrap() {
        assert!(key.get("d").is_none() && key.get("p").is_none(), "{key}");
    }
    let metadata = body(&site.get(AuthEndpoint::OpenidConfiguration, &Call::default()).await);
    assert_eq!((&metadata["issuer"], &metadata["jwks_uri"]), (&json!(AUTH), &json!(format!("{AUTH}/jwks"))));
}

#[tokio::test]
async fn a_public_app_need_not_name_itself_beside_its_refresh_token_and_nobody_else_may_leave_it_out() {
    let site = broker();
    let first = tokens(&site, "implied-012345678901234").await;
    let unnamed = refresh(&first["refresh_token"]).with("client_id", "");
    let second = body(&site.post(AuthEndpoint::Token, &unnamed).await);
    assert!(second["access_token"].is_string(), "{second}");
    assert_eq!(body(&site.post(AuthEndpoint::Token, &unnamed).await)["error"], "invalid_grant", "it counts once");
    let unread = Call::new(&[("grant_type", "refresh_token"), ("refresh_token", "no token of ours")]);
    assert_eq!(body(&site.post(AuthEndpoint::Token, &unread).await)["error"], "invalid_client");

    // A client that can keep a secret proves who it is, token or not.
    let code = code(&site, "symmetric", "implied-112345678901234").await;
    let call = exchange("symmetric", &code).with("client_id", "").basic("symmetric", SECRET);
    let told = body(&site.post(AuthEndpoint::Token, &call).await);
    let unnamed = refresh(&told["refresh_token"]).with("client_id", "");
    assert_eq!(body(&site.post(AuthEndpoint::Token, &unnamed).await)["error"], "invalid_client");
    let named = unnamed.basic("symmetric", SECRET);
    assert!(body(&site.post(AuthEndpoint::Token, &named).await)["access_token"].is_string());
}

#[tokio::test]
async fn a_provider_that_rotates_its_keys_is_asked_again_and_a_forger_leads_to_one_fetch_a_window() {
    let site = broker();
    let sign_in = async |key: &TestKey, state: &str, seconds: i64| {
        let started = site.get(AuthEndpoint::Authorize, &authorize("public", state).after(seconds)).await;
        let there = location(&started);
        let claims = json!({"iss": PROVIDER, "aud": "gateway", "sub": "user-1", "iat": NOW, "exp": NOW + 300,
            "nonce": query(&there, "nonce").unwrap(), "fhirUser": "Patient/a"});
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": key.kid()});
        let id_token = key.sign_as(Algorithm::ES256, &header, &claims);
        let answer = json!({"access_token": "theirs", "token_type": "Bearer", "id_token": id_token});
        site.fetch.set(&format!("{PROVIDER}/token"), answer);
        let mut back = Call::new(&[("code", "their-code"), ("state", &query(&there, "state").unwrap())]).after(seconds);
        back.headers = cookies(&started);
        site.get(AuthEndpoint::Callback, &back).await.status()
    };
    let asked = || site.fetch.requests.lock().unwrap().iter().filter(|(url, _)| url.ends_with("/jwks")).count();
    site.get(AuthEndpoint::Authorize, &authorize("public", "first-0123456789012345")).await;
    // Known: RSA alone. Until the new key is published, nobody signs in with it, and keys are asked for once.
    for at in 0..20 {
        assert_eq!(
            sign_in(&ES256, &format!("forged-0123456789012-{at}"), 15).await,
            StatusCode::SEE_OTHER,
            "sent back"
        );
    }
    assert_eq!(asked(), 2, "once at the start, once for the flood");
    site.fetch.set(&format!("{PROVIDER}/jwks"), json!({"keys": [RSA.jwk.clone(), ES256.jwk.clone()]}));
    assert_eq!(sign_in(&ES256, "rotated-0123456789012", 30).await, StatusCode::OK, "the consent page");
    assert_eq!(asked(), 3);
}
