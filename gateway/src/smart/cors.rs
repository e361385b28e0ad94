//! Which pages may call from a browser (SMART App Launch 2.2, "Considerations for CORS support").
//!
//! Any origin may read the public discovery documents; a registered origin may use the token endpoint and the FHIR base;
//! nobody may use the authorization endpoint this way (RFC 9700 section 2.6). Origins are compared whole, never as a
//! pattern, and cookies are never let through: there is no `Access-Control-Allow-Credentials`.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderName, HeaderValue};

/// What is asked for, as far as its origin matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `.well-known` documents, `metadata`, `jwks`.
    Discovery,
    /// The token, introspection and revocation endpoints.
    Token,
    /// The FHIR base.
    Fhir,
    /// Pages of ours: authorize, consent.
    Page,
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Accept, Prefer, If-Match, If-None-Match, DPoP, X-Request-Id",
);
const EXPOSED: HeaderValue =
    HeaderValue::from_static("WWW-Authenticate, DPoP-Nonce, ETag, Last-Modified, Location, Retry-After, X-Request-Id");

/// The headers to add to an answer for this origin; none when the browser must keep it from the page.
///
/// `registered` tells whether this very origin stands in a partner file.
pub fn headers(
    target: Target,
    origin: &HeaderValue,
    registered: impl Fn(&str) -> bool,
) -> Vec<(HeaderName, HeaderValue)> {
    let allowed = match target {
        Target::Discovery => HeaderValue::from_static("*"),
        Target::Token | Target::Fhir => match origin.to_str() {
            Ok(text) if registered(text) => origin.clone(),
            _ => return vec![(VARY, HeaderValue::from_static("Origin"))],
        },
        Target::Page => return Vec::new(),
    };
    vec![
        (ACCESS_CONTROL_ALLOW_ORIGIN, allowed),
        (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
        (VARY, HeaderValue::from_static("Origin")),
    ]
}

/// The answer to a preflight: further headers for an origin that may, `None` for one that may not.
pub fn preflight(
    target: Target,
    origin: &HeaderValue,
    registered: impl Fn(&str) -> bool,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = headers(target, origin, registered);
    if !headers.iter().any(|(name, _)| name == ACCESS_CONTROL_ALLOW_ORIGIN) {
        return None;
    }
    headers.push((ACCESS_CONTROL_ALLOW_METHODS, METHODS));
    headers.push((ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS));
    headers.push((ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")));
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(target: Target, origin: &'static str) -> Option<String> {
        let registered = |origin: &str| origin == "https://recovery.example";
        headers(target, &HeaderValue::from_static(origin), registered)
            .into_iter()
            .find(|(name, _)| name == ACCESS_CONTROL_ALLOW_ORIGIN)
            .map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn origins_are_compared_whole() {
        for target in [Target::Fhir, Target::Token] {
            assert_eq!(allowed(target, "https://recovery.example").as_deref(), Some("https://recovery.example"));
            for evil in [
                "https://evil.example",
                "https://recovery.example.evil.example",
                "https://evil.example/https://recovery.example",
                "http://recovery.example",
                "https://recovery.example:8443",
                "https://sub.recovery.example",
                "https://RECOVERY.example",
                "null",
                "*",
                "",
            ] {
                assert_eq!(allowed(target, evil), None, "{evil}");
            }
        }
    }

    #[test]
    fn discovery_is_for_everybody_and_pages_are_for_nobody() {
        assert_eq!(allowed(Target::Discovery, "https://evil.example").as_deref(), Some("*"));
        assert_eq!(allowed(Target::Page, "https://recovery.example"), None);
    }

    #[test]
    fn cookies_are_never_let_through() {
        let registered = |_: &str| true;
        for target in [Target::Discovery, Target::Token, Target::Fhir, Target::Page] {
            let origin = HeaderValue::from_static("https://recovery.example");
            let all = preflight(target, &origin, registered).unwrap_or_default();
            assert!(all.iter().all(|(name, _)| name != "access-control-allow-credentials"), "{target:?}");
        }
    }

    #[test]
    fn a_preflight_from_a_stranger_is_refused_and_from_a_registered_origin_answered() {
        let registered = |origin: &str| origin == "https://recovery.example";
        let stranger = HeaderValue::from_static("https://evil.example");
        assert_eq!(preflight(Target::Fhir, &stranger, registered), None);
        let known = HeaderValue::from_static("https://recovery.example");
        let headers = preflight(Target::Fhir, &known, registered).unwrap();
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == ACCESS_CONTROL_ALLOW_HEADERS && value.to_str().unwrap().contains("DPoP"))
        );
    }
}
