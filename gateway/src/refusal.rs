//! The one place where a reason becomes a status, a challenge and an OperationOutcome.
//!
//! Ground: product.md section 4; RFC 6750 3.1, RFC 9449 7.1, RFC 9470 3, RFC 9110; R4 issue-type codes.

use std::time::Duration;

use bytes::Bytes;
use fhirwall_policy::reason::Reason;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::identify::error::IdentifyError;
use crate::listen::Answer;
use crate::listen::front::FrontRefusal;
use crate::listen::trusted::Untrue;

/// `application/fhir+json`, the one format this gateway speaks.
pub const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json; charset=utf-8");
/// On every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The code system of the reason codes.
pub const REASON_SYSTEM: &str = "urn:fhirwall:reason";

/// A refusal on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// For 429 and 503.
    pub retry_after: Option<Duration>,
    /// `WWW-Authenticate` values beyond the default one, each already in the form of its RFC.
    pub challenges: Vec<String>,
    /// For `DPoP-Nonce` (RFC 9449 section 9).
    pub dpop_nonce: Option<String>,
    /// The scope that would allow it (RFC 6750 3.1), where one would.
    pub needed_scope: Option<String>,
    /// The policies that decided, for the record.
    pub policies: Vec<String>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            retry_after: None,
            challenges: Vec::new(),
            dpop_nonce: None,
            needed_scope: None,
            policies: Vec::new(),
        }
    }
}

impl From<FrontRefusal> for Refusal {
    fn from(refusal: FrontRefusal) -> Self {
        Self::from(match refusal {
            FrontRefusal::Malformed | FrontRefusal::Disconnected | FrontRefusal::TooSlow => Reason::MalformedRequest,
            FrontRefusal::Misdirected => Reason::MisdirectedRequest,
            FrontRefusal::MethodNotAllowed => Reason::MethodNotAllowed,
            FrontRefusal::HeaderTooLarge | FrontRefusal::BodyTooLarge => Reason::RequestTooLarge,
        })
    }
}

impl From<Untrue> for Refusal {
    fn from(untrue: Untrue) -> Self {
        Self::from(match untrue {
            Untrue::Malformed => Reason::MalformedRequest,
            Untrue::Certificate => Reason::CertificateMismatch,
        })
    }
}

/// What the client is told. What depends on stored data is told as what a missing id is told.
fn visible(reason: Reason) -> Reason {
    if reason.depends_on_stored_data() { Reason::NotFound } else { reason }
}

/// The HTTP status of a reason.
pub fn status(reason: Reason) -> StatusCode {
    match visible(reason) {
        Reason::MalformedRequest | Reason::UnknownParameter | Reason::UnsupportedParameter => StatusCode::BAD_REQUEST,
        Reason::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
        Reason::NoCredentials | Reason::InvalidToken | Reason::StrongerAuthenticationNeeded => StatusCode::UNAUTHORIZED,
        Reason::ParameterNotAllowed
        | Reason::UnsupportedInteraction
        | Reason::OperationNotAllowed
        | Reason::CertificateMismatch
        | Reason::PartnerUnknown
        | Reason::PartnerSuspended
        | Reason::EvidenceExpired
        | Reason::PurposeNotAllowed
        | Reason::InsufficientScope
        | Reason::PatientMismatch
        | Reason::PolicyForbids
        | Reason::PolicyError
        | Reason::RiskTerminated
        | Reason::Lockdown
        | Reason::LabelWouldBeLowered => StatusCode::FORBIDDEN,
        Reason::NotFound
        | Reason::LabelWithheld
        | Reason::ConsentDenies
        | Reason::OutsideCompartment
        | Reason::OutsideGranularScope
        | Reason::UnknownInteraction
        | Reason::UnknownOperation => StatusCode::NOT_FOUND,
        Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Reason::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Reason::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::RateLimited | Reason::RiskThrottled => StatusCode::TOO_MANY_REQUESTS,
        Reason::VersionConflict => StatusCode::PRECONDITION_FAILED,
        Reason::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        Reason::UpstreamUnintelligible | Reason::UpstreamUnavailable => StatusCode::BAD_GATEWAY,
        Reason::Overloaded
        | Reason::UpstreamBusy
        | Reason::ConsentSourceUnavailable
        | Reason::IssuerUnavailable
        | Reason::AuditUnavailable
        | Reason::StateUnavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The R4 `issue-type` code of a reason.
fn issue_code(reason: Reason) -> &'static str {
    match visible(reason) {
        Reason::MalformedRequest | Reason::MisdirectedRequest | Reason::UnknownParameter => "invalid",
        Reason::UnsupportedParameter
        | Reason::UnsupportedInteraction
        | Reason::UnknownInteraction
        | Reason::MethodNotAllowed
        | Reason::UnknownOperation
        | Reason::NotAcceptable
        | Reason::UnsupportedMediaType => "not-supported",
        Reason::RequestTooLarge => "too-long",
        Reason::NoCredentials | Reason::StrongerAuthenticationNeeded => "login",
        Reason::InvalidToken => "unknown",
        Reason::ParameterNotAllowed
        | Reason::OperationNotAllowed
        | Reason::CertificateMismatch
        | Reason::PartnerUnknown
        | Reason::PartnerSuspended
        | Reason::EvidenceExpired
        | Reason::PurposeNotAllowed
        | Reason::InsufficientScope
        | Reason::PatientMismatch
        | Reason::PolicyForbids
        | Reason::PolicyError
        | Reason::RiskTerminated
        | Reason::Lockdown
        | Reason::LabelWouldBeLowered => "forbidden",
        Reason::NotFound
        | Reason::LabelWithheld
        | Reason::ConsentDenies
        | Reason::OutsideCompartment
        | Reason::OutsideGranularScope => "not-found",
        Reason::RateLimited | Reason::RiskThrottled => "throttled",
        Reason::VersionConflict | Reason::PreconditionRequired => "conflict",
        Reason::UpstreamUnintelligible => "exception",
        Reason::Overloaded
        | Reason::UpstreamUnavailable
        | Reason::UpstreamBusy
        | Reason::ConsentSourceUnavailable
        | Reason::IssuerUnavailable
        | Reason::AuditUnavailable
        | Reason::StateUnavailable => "transient",
    }
}

impl Refusal {
    /// The refusal of a caller who could not be identified, with the challenge of RFC 6750, 9449 or 9470.
    /// `resource_metadata` is the URL of the RFC 9728 document.
    pub fn identify(error: &IdentifyError, resource_metadata: Option<&str>) -> Self {
        Self {
            challenges: error.challenge(resource_metadata).into_iter().collect(),
            dpop_nonce: error.dpop_nonce().map(str::to_owned),
            ..Self::from(error.reason())
        }
    }

    /// The answer to the client: nothing in it but codes, and the id under which the record explains it.
    pub fn answer(&self, request_id: Uuid) -> Answer {
        let reason = visible(self.reason);
        let status = status(reason);
        let mut headers = base_headers(request_id);
        headers.insert(CONTENT_TYPE, FHIR_JSON);
        if status == StatusCode::UNAUTHORIZED || reason == Reason::InsufficientScope {
            for challenge in self.challenges(reason) {
                if let Ok(value) = HeaderValue::from_str(&challenge) {
                    headers.append(WWW_AUTHENTICATE, value);
                }
            }
        }
        if let Some(nonce) = self.dpop_nonce.as_deref().and_then(|nonce| HeaderValue::from_str(nonce).ok()) {
            headers.insert("dpop-nonce", nonce);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(http::header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"));
        }
        if let Some(wait) = self.retry_after.or_else(|| default_wait(status)) {
            let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let body = format!(
            r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","code":"{}","details":{{"coding":[{{"system":"{REASON_SYSTEM}","code":"{}"}}]}},"diagnostics":"decision {request_id}"}}]}}"#,
            issue_code(reason),
            reason.code(),
        );
        Answer { status, headers, body: Bytes::from(body), rest: None, ending: None }
    }

    fn challenges(&self, reason: Reason) -> Vec<String> {
        if !self.challenges.is_empty() {
            return self.challenges.clone();
        }
        let scope = self.needed_scope.as_deref().filter(|scope| !scope.contains(['"', '\\']));
        vec![match (reason, scope) {
            // RFC 6750 3.1: no error code where no credentials were given.
            (Reason::NoCredentials, _) => r#"Bearer realm="fhir""#.to_owned(),
            (Reason::StrongerAuthenticationNeeded, _) => {
                r#"Bearer error="insufficient_user_authentication""#.to_owned()
            }
            (Reason::InsufficientScope, Some(scope)) => {
                format!(r#"Bearer error="insufficient_scope", scope="{scope}""#)
            }
            (Reason::InsufficientScope, None) => r#"Bearer error="insufficient_scope""#.to_owned(),
            (_, _) => r#"Bearer error="invalid_token""#.to_owned(),
        }]
    }
}

fn default_wait(status: StatusCode) -> Option<Duration> {
    (status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS)
        .then_some(Duration::from_secs(5))
}

/// The headers of every answer: PHI is not cached, not sniffed, not framed.
pub fn base_headers(request_id: Uuid) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
    if let Ok(value) = HeaderValue::from_str(request_id.hyphenated().encode_lower(&mut text)) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::VARY, HeaderValue::from_static("Authorization, Origin"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        http::header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubDomains"),
    );
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_stored_data_looks_like_a_missing_id() {
        let id = Uuid::nil();
        let missing = Refusal::from(Reason::NotFound).answer(id);
        for hidden in
            [Reason::LabelWithheld, Reason::ConsentDenies, Reason::OutsideCompartment, Reason::OutsideGranularScope]
        {
            let answer = Refusal { policies: vec!["p".into()], ..Refusal::from(hidden) }.answer(id);
            assert_eq!(answer.status, missing.status);
            assert_eq!(answer.headers, missing.headers);
            assert_eq!(answer.body, missing.body);
        }
    }

    #[test]
    fn a_missing_credential_gets_a_challenge_without_an_error_code() {
        let answer = Refusal::from(Reason::NoCredentials).answer(Uuid::nil());
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers.get(WWW_AUTHENTICATE).unwrap(), r#"Bearer realm="fhir""#);
    }

    #[test]
    fn an_insufficient_scope_names_the_scope_that_would_do() {
        let refusal =
            Refusal { needed_scope: Some("patient/Observation.rs".into()), ..Refusal::from(Reason::InsufficientScope) };
        let answer = refusal.answer(Uuid::nil());
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(
            answer.headers.get(WWW_AUTHENTICATE).unwrap(),
            r#"Bearer error="insufficient_scope", scope="patient/Observation.rs""#
        );
    }

    #[test]
    fn a_wait_is_said_in_whole_seconds_rounded_up() {
        let refusal = Refusal { retry_after: Some(Duration::from_millis(1_200)), ..Refusal::from(Reason::RateLimited) };
        assert_eq!(refusal.answer(Uuid::nil()).headers.get(RETRY_AFTER).unwrap(), "2");
    }
}
