//! The facts of a verified access token, whether it came signed or by introspection.

use std::fmt;
use std::sync::Arc;

use fhir_profiles::ids::LogicalId;
use fhir_profiles::reference::Reference;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::Emergency;
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use super::error::TokenFault;
use super::issuer::IssuerConfig;

/// How far a clock and ours may differ, where nothing else is configured.
pub const LEEWAY: Duration = Duration::seconds(30);

const MAX_SCOPES: usize = 256;

/// What an issuer states by one access token. Signature or introspection, issuer, audience and times are verified.
#[derive(Clone)]
pub struct AccessTokenFacts {
    pub issuer: Arc<str>,
    pub audience: Arc<[String]>,
    pub sub: Arc<str>,
    pub client_id: Arc<str>,
    pub scopes: Arc<[String]>,
    pub patient: Option<LogicalId>,
    pub fhir_user: Option<Reference>,
    /// The same as the issuer wrote it.
    pub fhir_user_text: Option<Arc<str>>,
    /// As claimed; whether the partner may use it is judged with the partner file.
    pub purpose: ClaimedPurpose,
    pub emergency: Option<Emergency>,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    pub auth_time: Option<OffsetDateTime>,
    pub issued_at: Option<OffsetDateTime>,
    pub expires: OffsetDateTime,
    /// `jti`, or a digest of the token.
    pub token_id: Arc<str>,
    /// RFC 8705: SHA-256 of the only certificate that may present it.
    pub bound_certificate: Option<[u8; 32]>,
    /// RFC 9449: thumbprint of the only key that may present it.
    pub bound_key: Option<String>,
    /// The grant behind the token, when the issuer names it (our own broker does): a grant is revoked as a whole.
    pub grant_id: Option<Arc<str>>,
    /// `hl7-b2b` `organization_id`, a fact for policy.
    pub organization: Option<Arc<str>>,
}

/// What a token says about its purpose of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimedPurpose {
    /// Nothing.
    Unstated,
    One(PurposeOfUse),
    /// Several, or one that this gateway has no rules for: no single purpose to judge by.
    Unclear,
}

impl AccessTokenFacts {
    /// Reads the claims of a token that `issuer` has vouched for. `digest` stands in for a missing `jti`.
    pub fn read(
        claims: &Map<String, Value>,
        issuer: &IssuerConfig,
        digest: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<Self, TokenFault> {
        if claims.get("iss").and_then(Value::as_str) != Some(issuer.issuer.as_str()) {
            return Err(TokenFault::Issuer);
        }
        let audience = audience(claims, issuer)?;
        let expires = instant(claims, "exp")?.ok_or(TokenFault::Claims)?;
        let issued_at = instant(claims, "iat")?;
        if now >= expires + issuer.clock_skew {
            return Err(TokenFault::Expired);
        }
        let not_before = instant(claims, "nbf")?;
        if [issued_at, not_before].into_iter().flatten().any(|start| start > now + issuer.clock_skew) {
            return Err(TokenFault::NotYet);
        }
        only_an_access_token(claims)?;

        let names = &issuer.claims;
        let client_id = text(claims, &names.client_id)?.filter(|id| !id.is_empty()).ok_or(TokenFault::Claims)?;
        let sub = text(claims, "sub")?.filter(|sub| !sub.is_empty()).ok_or(TokenFault::Claims)?;
        let (bound_certificate, bound_key) = confirmation(claims)?;
        let extension = claims.get("extensions").and_then(|extensions| extensions.get("hl7-b2b"));
        Ok(Self {
            issuer: issuer.issuer.as_str().into(),
            audience,
            sub: sub.into(),
            client_id: client_id.into(),
            scopes: scopes(claim(claims, &names.scope))?,
            patient: patient(text(claims, &names.patient)?)?,
            fhir_user: text(claims, &names.fhir_user)?.map(Reference::parse),
            fhir_user_text: text(claims, &names.fhir_user)?.map(Arc::from),
            purpose: purpose(claims, &names.purpose_of_use, extension),
            emergency: emergency(claim(claims, &names.emergency))?,
            acr: text(claims, "acr")?.map(str::to_owned),
            amr: texts(claims.get("amr"))?,
            auth_time: instant(claims, "auth_time")?,
            issued_at,
            expires,
            token_id: text(claims, "jti")?.map_or_else(|| super::base64url(digest).into(), Arc::from),
            bound_certificate,
            bound_key,
            grant_id: text(claims, "grant_id")?.map(Arc::from),
            organization: organization(extension)?,
        })
    }
}

impl fmt::Debug for AccessTokenFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokenFacts")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A claim by name, or by JSON pointer.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    match name.strip_prefix('/') {
        None => claims.get(name),
        Some(path) => {
            let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
            let first = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
            rest.map_or(Some(first), |rest| first.pointer(&format!("/{rest}")))
        }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, TokenFault> {
    match claim(claims, name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenFault::Claims),
    }
}

fn texts(value: Option<&Value>) -> Result<Vec<String>, TokenFault> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(all)) => {
            all.iter().map(|one| one.as_str().map(str::to_owned).ok_or(TokenFault::Claims)).collect()
        }
        Some(_) => Err(TokenFault::Claims),
    }
}

/// The audiences of the token that are ours; refused when none is (RFC 9700 section 4.9.1).
fn audience(claims: &Map<String, Value>, issuer: &IssuerConfig) -> Result<Arc<[String]>, TokenFault> {
    let named = texts(claims.get("aud")).map_err(|_| TokenFault::Audience)?;
    let ours: Arc<[String]> = named.into_iter().filter(|one| issuer.audience.contains(one)).collect();
    if ours.is_empty() { Err(TokenFault::Audience) } else { Ok(ours) }
}

/// A NumericDate (RFC 7519 section 2), whole or not.
fn instant(claims: &Map<String, Value>, name: &str) -> Result<Option<OffsetDateTime>, TokenFault> {
    let seconds = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => match (value.as_i64(), value.as_f64()) {
            (Some(whole), _) => whole,
            (None, Some(fraction)) if fraction.is_finite() && fraction.abs() < 1e12 => fraction.floor() as i64,
            _ => return Err(TokenFault::Claims),
        },
    };
    OffsetDateTime::from_unix_timestamp(seconds).map(Some).map_err(|_| TokenFault::Claims)
}

/// Tells id_tokens, logout tokens, refresh tokens and security events from access tokens, where `typ` does not.
fn only_an_access_token(claims: &Map<String, Value>) -> Result<(), TokenFault> {
    // OpenID Connect Core 2, Back-Channel Logout 2.4, RFC 8417: claims that no access token has.
    let foreign = ["nonce", "at_hash", "c_hash", "s_hash", "events", "toe", "logout_token"];
    if foreign.iter().any(|name| claims.contains_key(*name)) {
        return Err(TokenFault::NotAnAccessToken);
    }
    // Issuers that name the kind in the payload: Keycloak `typ`, Amazon Cognito `token_use`.
    let kind = |name: &str, access: &[&str]| match claims.get(name) {
        None => true,
        Some(value) => value.as_str().is_some_and(|kind| access.iter().any(|one| one.eq_ignore_ascii_case(kind))),
    };
    if kind("typ", &["Bearer", "DPoP", "at+jwt"]) && kind("token_use", &["access"]) {
        Ok(())
    } else {
        Err(TokenFault::NotAnAccessToken)
    }
}

fn scopes(value: Option<&Value>) -> Result<Arc<[String]>, TokenFault> {
    let scopes: Vec<String> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        other => texts(other)?,
    };
    // RFC 6749 section 3.3: %x21 / %x23-5B / %x5D-7E.
    let legal =
        |scope: &String| !scope.is_empty() && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    if scopes.len() > MAX_SCOPES || !scopes.iter().all(legal) {
        return Err(TokenFault::Claims);
    }
    Ok(scopes.into())
}

/// A bare id (SMART App Launch 2.2, launch context), or `Patient/id` as some issuers write it.
fn patient(text: Option<&str>) -> Result<Option<LogicalId>, TokenFault> {
    text.map(|text| text.strip_prefix("Patient/").unwrap_or(text).parse().map_err(|_| TokenFault::Claims)).transpose()
}

/// The one purpose of use: from its claim, from `hl7-b2b` (UDAP Security), or from IUA; plain, as URI, or as Coding.
fn purpose(claims: &Map<String, Value>, name: &str, b2b: Option<&Value>) -> ClaimedPurpose {
    let iua = claims.get("extensions").and_then(|extensions| extensions.get("ihe_iua"));
    let stated = claim(claims, name)
        .or_else(|| b2b.and_then(|extension| extension.get("purpose_of_use")))
        .or_else(|| iua.and_then(|extension| extension.get("purpose_of_use")));
    let all = match stated {
        None | Some(Value::Null) => return ClaimedPurpose::Unstated,
        Some(Value::Array(all)) => all.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    match all {
        [one] => {
            purpose_code(one).and_then(PurposeOfUse::from_code).map_or(ClaimedPurpose::Unclear, ClaimedPurpose::One)
        }
        _ => ClaimedPurpose::Unclear,
    }
}

/// `organization_id` of `hl7-b2b`: a URI. What is no such thing is no fact to decide by, and no token.
fn organization(b2b: Option<&Value>) -> Result<Option<Arc<str>>, TokenFault> {
    match b2b.and_then(|extension| extension.get("organization_id")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(uri)) if !uri.is_empty() && uri.len() <= 512 => Ok(Some(uri.as_str().into())),
        Some(_) => Err(TokenFault::Claims),
    }
}

fn purpose_code(value: &Value) -> Option<&str> {
    const SYSTEMS: [&str; 3] = [
        "urn:oid:2.16.840.1.113883.5.8",
        "2.16.840.1.113883.5.8",
        "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    ];
    match value {
        Value::String(text) => match text.rsplit_once(['#', '|']) {
            None => Some(text),
            Some((system, code)) => SYSTEMS.contains(&system).then_some(code),
        },
        Value::Object(coding) => {
            let system = coding.get("system").and_then(Value::as_str)?;
            SYSTEMS.contains(&system).then(|| coding.get("code").and_then(Value::as_str)).flatten()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// `{reason, patient, until}` (42 CFR 2.51(c)): all three, or no token. `name` and `affiliation` of who asks may stand
/// beside them.
fn emergency(value: Option<&Value>) -> Result<Option<Emergency>, TokenFault> {
    let object = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(TokenFault::Claims),
    };
    let reason = text(object, "reason")?.filter(|reason| !reason.trim().is_empty()).ok_or(TokenFault::Claims)?;
    let patient = patient(text(object, "patient")?)?.ok_or(TokenFault::Claims)?;
    let until = instant(object, "until")?.ok_or(TokenFault::Claims)?;
    let (name, affiliation) = (text(object, "name")?, text(object, "affiliation")?);
    let (name, affiliation) = (name.map(str::to_owned), affiliation.map(str::to_owned));
    Ok(Some(Emergency { reason: reason.to_owned(), patient, until, name, affiliation }))
}

type Bindings = (Option<[u8; 32]>, Option<String>);

/// `cnf` (RFC 7800): by certificate or by DPoP key. A binding that we cannot verify is no token.
fn confirmation(claims: &Map<String, Value>) -> Result<Bindings, TokenFault> {
    let members = match claims.get("cnf") {
        None | Some(Value::Null) => return Ok((None, None)),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(TokenFault::Claims),
    };
    let mut bindings = (None, None);
    for (name, value) in members {
        let value = value.as_str().ok_or(TokenFault::Claims)?;
        let digest: [u8; 32] =
            super::from_base64url(value).and_then(|bytes| bytes.try_into().ok()).ok_or(TokenFault::Claims)?;
        match name.as_str() {
            "x5t#S256" => bindings.0 = Some(digest),
            "jkt" => bindings.1 = Some(value.to_owned()),
            _ => return Err(TokenFault::Claims),
        }
    }
    if bindings == (None, None) { Err(TokenFault::Claims) } else { Ok(bindings) }
}
