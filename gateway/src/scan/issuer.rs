//! Does an issuer hold to what its tokens are trusted for?

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, LOCATION, ORIGIN};
use http::{Method, StatusCode};
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use crate::config::{Issuer, Partners};
use crate::control::{Control, Held, Severity};
use crate::scan::door::{STRANGE_ORIGIN, Stranger};
use crate::scan::ehr::UNSIGNED_TOKEN;
use crate::scan::{Report, keys, tls};

pub(super) static CONTROLS: &[&Control] = &[
    &ISSUER_PKCE_PLAIN,
    &ISSUER_PKCE_MISSING,
    &ISSUER_UNSIGNED,
    &ISSUER_IMPLICIT,
    &ISSUER_PLAINTEXT,
    &ISSUER_CORS,
    &ISSUER_KEYS,
];

static ISSUER_PKCE_PLAIN: Control = Control {
    id: "issuer-pkce-plain",
    severity: Severity::Risk,
    cites: "SMART App Launch 2.2, section \"Considerations for PKCE Support\"; RFC 9700 section 2.1.1",
    asks: "The issuer refuses the PKCE method `plain`.",
    fix: "allow S256 alone at the issuer, or put `smart.mode: front` before it",
    held: Held::ByScan,
};

static ISSUER_PKCE_MISSING: Control = Control {
    id: "issuer-pkce-missing",
    severity: Severity::Risk,
    cites: "SMART App Launch 2.2, section \"Considerations for PKCE Support\"; RFC 9700 section 2.1.1",
    asks: "The issuer asks public clients for PKCE.",
    fix: "require PKCE with S256 at the issuer, or put `smart.mode: front` before it",
    held: Held::ByScan,
};

static ISSUER_UNSIGNED: Control = Control {
    id: "issuer-unsigned",
    severity: Severity::Violation,
    cites: "RFC 8725 sections 2.1 and 3.1; RFC 9700 section 2.5",
    asks: "The issuer neither issues nor accepts unsigned tokens, assertions or request objects.",
    fix: "remove `none` from the issuer's algorithms",
    held: Held::ByScan,
};

static ISSUER_IMPLICIT: Control = Control {
    id: "issuer-implicit",
    severity: Severity::Advice,
    cites: "RFC 9700 section 2.1.2",
    asks: "The issuer hands no access token out by a redirect.",
    fix: "switch the implicit and hybrid flows off at the issuer",
    held: Held::ByScan,
};

static ISSUER_PLAINTEXT: Control = Control {
    id: "issuer-plaintext",
    severity: Severity::Violation,
    cites: "45 CFR 164.312(e)(1); RFC 9700 section 2.6",
    asks: "Every endpoint that the issuer announces is https.",
    fix: "correct the issuer's public address",
    held: Held::ByScan,
};

static ISSUER_CORS: Control = Control {
    id: "issuer-cors",
    severity: Severity::Risk,
    cites: "RFC 9700 section 2.6; SMART App Launch 2.2, section \"CORS\"",
    asks: "The issuer's token endpoint lets no page of an unregistered origin use its cookies.",
    fix: "name the apps' origins at the issuer instead of `*`",
    held: Held::ByScan,
};

static ISSUER_KEYS: Control = Control {
    id: "issuer-keys",
    severity: Severity::Risk,
    cites: "NIST SP 800-131A revision 2 section 3; RFC 7517 section 9.2",
    asks: "The issuer's keys are strong and public.",
    fix: "let the issuer make a new key and withdraw this one",
    held: Held::ByScan,
};

/// Where an announcement of `none` would be read (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2).
const SIGNATURES: &[&str] = &[
    "id_token_signing_alg_values_supported",
    "userinfo_signing_alg_values_supported",
    "request_object_signing_alg_values_supported",
    "token_endpoint_auth_signing_alg_values_supported",
];

/// Reads what the issuer announces, and tries the three doors that announcements are often wrong about.
pub(super) async fn probe(issuer: &Issuer, partners: &Partners, now: OffsetDateTime, report: &mut Report) {
    let subject = format!("issuer {}", issuer.issuer);
    let stranger = match Stranger::trusting(issuer.ca_file.as_ref()) {
        Ok(stranger) => stranger,
        Err(failure) => return report.asked(subject, Some(failure)),
    };
    let discovery = format!("{}/.well-known/openid-configuration", issuer.issuer.trim_end_matches('/'));
    let document = match stranger.get(&discovery, &[]).await.and_then(|seen| seen.json()) {
        Ok(document) => document,
        Err(failure) => return report.asked(format!("discovery of {subject}"), Some(failure)),
    };
    report.asked(format!("discovery of {subject}"), None);
    announced(&document, &subject, report);
    key_set(&stranger, issuer, &document, &subject, report).await;
    authorize(&stranger, &document, partners, &subject, report).await;
    userinfo(&stranger, &document, &subject, report).await;
    preflight(&stranger, &document, &subject, report).await;
    if let Ok(url) = Url::parse(&issuer.issuer) {
        tls::probe(&url, issuer.ca_file.as_ref(), &subject, now, report).await;
    }
}

fn values<'d>(document: &'d Value, name: &str) -> Vec<&'d str> {
    document.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn announced(document: &Value, subject: &str, report: &mut Report) {
    let methods = values(document, "code_challenge_methods_supported");
    if methods.contains(&"plain") {
        report.finding(&ISSUER_PKCE_PLAIN, subject, "it announces `plain` among its code_challenge_methods_supported");
    }
    if !methods.contains(&"S256") {
        report.finding(&ISSUER_PKCE_MISSING, subject, "it does not announce S256 in code_challenge_methods_supported");
    }
    for name in SIGNATURES.iter().filter(|name| values(document, name).contains(&"none")) {
        report.finding(&ISSUER_UNSIGNED, subject, format!("it announces `none` in {name}"));
    }
    let redirected = |kind: &&str| kind.split(' ').any(|part| part == "token");
    if let Some(kind) = values(document, "response_types_supported").into_iter().find(redirected) {
        report.finding(&ISSUER_IMPLICIT, subject, format!("it offers the response type `{kind}`"));
    }
    let endpoints = document.as_object().into_iter().flatten();
    for (name, value) in endpoints.filter(|(name, _)| name.ends_with("_endpoint") || *name == "jwks_uri") {
        let url = value.as_str().and_then(|text| Url::parse(text).ok());
        if url.is_some_and(|url| url.scheme() != "https" && !crate::config::is_loopback(&url)) {
            report.finding(&ISSUER_PLAINTEXT, subject, format!("its {name} is not https"));
        }
    }
}

async fn key_set(stranger: &Stranger, issuer: &Issuer, document: &Value, subject: &str, report: &mut Report) {
    let named = issuer.jwks_uri.as_ref().map(|uri| uri.url().as_str());
    let Some(url) = named.or_else(|| document.get("jwks_uri").and_then(Value::as_str)) else { return };
    match stranger.get(url, &[]).await.and_then(|seen| seen.json()) {
        Ok(set) => {
            report.asked(format!("keys of {subject}"), None);
            for fault in keys::faults(&set) {
                report.finding(&ISSUER_KEYS, subject, fault);
            }
        }
        Err(failure) => report.asked(format!("keys of {subject}"), Some(failure)),
    }
}

/// Begins a login for a registered partner in two wrong ways. Nobody logs in, so nothing comes of it.
async fn authorize(stranger: &Stranger, document: &Value, partners: &Partners, subject: &str, report: &mut Report) {
    let Some(endpoint) = document.get("authorization_endpoint").and_then(Value::as_str) else { return };
    let registered = partners.iter().find_map(|partner| {
        let redirect = partner.file.redirect_uris.first()?;
        Some((partner.file.client_id.clone(), redirect.as_str().to_owned()))
    });
    let Some((client, redirect)) = registered else { return };
    let state = uuid::Uuid::new_v4().to_string();
    let plain = [("code_challenge", state.as_str()), ("code_challenge_method", "plain")];
    for (control, challenge, what) in [
        (&ISSUER_PKCE_PLAIN, plain.as_slice(), "it begins a login with the PKCE method `plain`"),
        (&ISSUER_PKCE_MISSING, [].as_slice(), "it begins a login without PKCE"),
    ] {
        let fixed = [
            ("response_type", "code"),
            ("client_id", client.as_str()),
            ("redirect_uri", redirect.as_str()),
            ("scope", "openid"),
            ("state", state.as_str()),
        ];
        let Ok(url) = Url::parse_with_params(endpoint, fixed.iter().chain(challenge)) else { return };
        let Ok(seen) = stranger.get(url.as_str(), &[]).await else { return };
        if begins_login(seen.status, seen.headers.get(LOCATION).and_then(|to| to.to_str().ok()), &redirect) {
            report.finding(control, subject, format!("{what} (asked as partner {client})"));
        }
    }
}

/// A page, or a redirect to anywhere but back to the app with an error.
fn begins_login(status: StatusCode, location: Option<&str>, redirect: &str) -> bool {
    match location {
        Some(to) => status.is_redirection() && !(to.starts_with(redirect) && to.contains("error=")),
        None => status.is_success(),
    }
}

async fn userinfo(stranger: &Stranger, document: &Value, subject: &str, report: &mut Report) {
    let Some(endpoint) = document.get("userinfo_endpoint").and_then(Value::as_str) else { return };
    let token = format!("Bearer {UNSIGNED_TOKEN}");
    let seen = stranger.get(endpoint, &[(AUTHORIZATION, token.as_str())]).await;
    if seen.is_ok_and(|seen| seen.status.is_success()) {
        report.finding(&ISSUER_UNSIGNED, subject, "its userinfo endpoint takes a token that nobody signed");
    }
}

async fn preflight(stranger: &Stranger, document: &Value, subject: &str, report: &mut Report) {
    let Some(endpoint) = document.get("token_endpoint").and_then(Value::as_str) else { return };
    let headers = [(ORIGIN, STRANGE_ORIGIN), (ACCESS_CONTROL_REQUEST_METHOD, "POST")];
    let Ok(seen) = stranger.ask(Method::OPTIONS, endpoint, &headers, Vec::new()).await else { return };
    if seen.open_to_any_origin() && seen.header("access-control-allow-credentials") == Some("true") {
        report.finding(&ISSUER_CORS, subject, "its token endpoint answers any origin, cookies included");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_sent_back_to_the_app_is_a_refusal_and_a_login_page_is_none() {
        let app = "https://app.example/cb";
        for (status, location, begins) in [
            (302, Some("https://app.example/cb?error=invalid_request&state=1"), false),
            (302, Some("https://app.example/cb?code=1"), true),
            (302, Some("/login?session=1"), true),
            (303, Some("https://idp.example/login?error=0"), true),
            (200, None, true),
            (400, None, false),
            (401, None, false),
            (500, None, false),
        ] {
            assert_eq!(
                begins_login(StatusCode::from_u16(status).unwrap(), location, app),
                begins,
                "{status} {location:?}"
            );
        }
    }
}
