//! Broker mode: the gateway is the SMART authorization server before a plain OpenID provider.
//!
//! The provider says who the user is; the user says, on a page of ours, what the app may have; the gateway signs tokens
//! that live for minutes. Nothing is stored: logins, codes and refresh tokens are sealed, and the shared state only
//! remembers what was used and what was revoked.

pub mod consent;
pub mod mint;
pub mod patients;
pub mod provider;
mod tokens;

use std::sync::Arc;

use fhir_profiles::ids::LogicalId;
use fhir_profiles::reference::Reference;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use self::consent::{PatientChoice, Question};
use self::mint::{Grant, Mint};
use self::patients::{DirectoryUnavailable, Listed, NamedPatients, PatientDirectory};
use self::provider::{Provider, REFRESHES, User};
use super::answer::{Answer, ErrorCode, error_page, json_answer, redirect};
use super::authorize::{self, AuthorizeRequest, back_to_client};
use super::front::known_error;
use super::login::{Login, NotThisBrowser, cookie, set_cookie};
use super::parameters::Parameters;
use super::request::{AuthEndpoint, AuthRequest};
use super::scopes::needs_patient;
use super::seal::{CODE_LIFETIME, LOGIN_LIFETIME, Purpose, Seal, random};
use super::signing::jwks;
use super::tokeninfo::TokenInfo;
use super::wellknown;
use crate::identify::dpop::Nonces;
use crate::identify::sha256;

/// What the broker works with.
#[derive(Debug)]
pub struct BrokerParts {
    pub mint: Mint,
    pub provider: Provider,
    /// Its identifier must know [`Mint::issuer`] as an issuer.
    pub info: TokenInfo,
    pub seal: Arc<Seal>,
    /// For users who are no patients themselves.
    pub patients: Option<Arc<dyn PatientDirectory>>,
    /// DPoP nonces at the token endpoint, where they are asked for.
    pub nonces: Option<Nonces>,
}

/// The SMART authorization server at `{base_url}/auth/`.
#[derive(Debug)]
pub struct Broker(BrokerParts);

/// What a code holds.
#[derive(Serialize, Deserialize)]
struct BrokerCode {
    grant: Grant,
    redirect_uri: String,
    challenge: String,
}

const CONSENT_COOKIE: &str = "__Host-fw-consent";

impl Broker {
    pub fn new(parts: BrokerParts) -> Self {
        Self(parts)
    }

    /// Can sign-on be offered?
    pub fn signs_id_tokens(&self) -> bool {
        self.0.mint.signs_id_tokens()
    }

    /// Answers one request; the method was looked at before.
    pub async fn answer(&self, endpoint: AuthEndpoint, request: &AuthRequest<'_>) -> Answer {
        match endpoint {
            AuthEndpoint::Authorize => self.authorize(request).await,
            AuthEndpoint::Callback => self.callback(request).await,
            AuthEndpoint::Consent => self.consent(request),
            AuthEndpoint::Token => self.token(request).await.unwrap_or_else(|error| error.answer()),
            AuthEndpoint::Introspect => self.0.info.introspect(request).await.unwrap_or_else(|error| error.answer()),
            AuthEndpoint::Revoke => self.revoke(request).await.unwrap_or_else(|error| error.answer()),
            AuthEndpoint::Jwks => json_answer(StatusCode::OK, &jwks(&self.0.mint.keys)),
            AuthEndpoint::OpenidConfiguration => {
                let signs = self.0.mint.signs_id_tokens();
                json_answer(StatusCode::OK, &wellknown::openid_configuration(&self.0.mint.base_url, signs))
            }
        }
    }

    async fn authorize(&self, request: &AuthRequest<'_>) -> Answer {
        let parameters = match request.parameters() {
            Ok(parameters) => parameters,
            Err(words) => return error_page(words),
        };
        let (partners, replays) = (&*self.0.info.clients.partners, &*self.0.info.clients.replays);
        let sound = authorize::read(&parameters, partners, replays, &self.0.mint.base_url, request.now).await;
        let login = match sound {
            // An app that was launched from a chart would take whatever is chosen here for that chart.
            Ok(AuthorizeRequest { launch: Some(_), redirect_uri, state, .. }) => {
                let told = [("error", "invalid_request"), ("error_description", "launch: no launch is known here")];
                return back_to_client(&redirect_uri, &told, Some(&state), &self.0.mint.issuer, &[]);
            }
            Ok(sound) => Login::start(sound),
            Err(refused) => return refused.answer(&self.0.mint.issuer),
        };
        let started = login.and_then(|login| Ok((login.cookie(&self.0.seal, request.now)?, login)));
        let Ok((cookie, login)) = started else { return error_page("sign-in cannot be started now") };
        match self.0.provider.authorize_url(&login, request.now).await {
            Ok(url) => redirect(&url, &[cookie]),
            Err(error) => {
                let asked = &login.request;
                let told = [("error", error.code.text()), ("error_description", error.words)];
                back_to_client(&asked.redirect_uri, &told, Some(&asked.state), &self.0.mint.issuer, &[])
            }
        }
    }

    async fn callback(&self, request: &AuthRequest<'_>) -> Answer {
        let parameters = match request.parameters() {
            Ok(parameters) => parameters,
            Err(words) => return error_page(words),
        };
        let provider = self.0.provider.config();
        let Ok(sends_iss) = self.0.provider.sends_iss(request.now).await else {
            return error_page("the sign-in service is out of reach");
        };
        let resumed =
            Login::resume(request.headers, &parameters, &self.0.seal, &provider.issuer, sends_iss, request.now);
        let login = match resumed {
            Ok(login) => login,
            Err(NotThisBrowser::Unknown) => return error_page("no sign-in is under way in this browser"),
            Err(NotThisBrowser::AnotherServer) => return error_page("the answer came from another server"),
        };
        let asked = &login.request;
        let back = |error: &str| {
            let told = [("error", error)];
            back_to_client(&asked.redirect_uri, &told, Some(&asked.state), &self.0.mint.issuer, &[login.forget()])
        };
        let Some(code) = parameters.get("code") else { return back(known_error(parameters.get("error"))) };
        let user = match self.0.provider.user(code, &login, request.now).await {
            Ok(user) => user,
            Err(error) => return back(error.code.text()),
        };
        let patients = match self.patients(&login, &user, request.now).await {
            Ok(patients) => patients,
            Err(DirectoryUnavailable) => return back(ErrorCode::TemporarilyUnavailable.text()),
        };
        match self.ask_consent(&login, user, patients, request) {
            Some(page) => page,
            None => back(ErrorCode::ServerError.text()),
        }
    }

    /// Whose records the user may open to the app: the user's own, or those that the EHR links to the user.
    async fn patients(&self, login: &Login, user: &User, now: OffsetDateTime) -> Result<Listed, DirectoryUnavailable> {
        let base_url = &self.0.mint.base_url;
        if let Some(id) = patient_of(user, base_url) {
            return Ok(Listed::only(PatientChoice { id, label: consent::OWN.to_owned() }));
        }
        match (&self.0.patients, user.fhir_user.as_deref().and_then(|text| here(text, base_url))) {
            (Some(directory), Some((kind, id))) if needs_patient(&login.request.scopes) => {
                directory.patients_of(&kind, &id, now).await
            }
            _ => Ok(Listed::default()),
        }
    }

    /// The consent page, its question sealed into the form, the form bound to this browser.
    fn ask_consent(&self, login: &Login, user: User, listed: Listed, request: &AuthRequest<'_>) -> Option<Answer> {
        let mut asked = login.request.clone();
        let fhir_user = user.fhir_user.clone().filter(|text| is_fhir_user(text));
        if fhir_user.is_none() {
            // SMART App Launch 2.2: who is no FHIR resource here has no fhirUser.
            asked.scopes.retain(|scope| scope != "fhirUser");
        }
        let user = User { fhir_user, ..user };
        if user.refresh_token.is_none() {
            // Nobody could say at a refresh whether the user is still there: then there is none.
            asked.scopes.retain(|scope| !REFRESHES.contains(&scope.as_str()));
        }
        let entry = self.0.info.clients.partners.by_client_id(&asked.client_id)?;
        let browser = random().ok()?;
        let others = patient_of(&user, &self.0.mint.base_url).is_none() && !listed.choices.is_empty();
        let shown =
            others.then(|| NamedPatients::of(&asked.client_id, &self.0.provider.config().issuer, &user, &listed));
        let browser_digest = sha256(browser.as_bytes());
        let question =
            Question { request: asked, user, patients: listed.choices, cut: listed.cut, browser: browser_digest };
        let sealed = self.0.seal.seal(Purpose::Consent, &question, request.now + LOGIN_LIFETIME).ok()?;
        let form = format!("{}/consent", self.0.mint.issuer);
        let cookie = set_cookie(CONSENT_COOKIE, &browser, LOGIN_LIFETIME.whole_seconds(), "Strict");
        let mut page = consent::show(&question, &entry.partner, &sealed, &form, &cookie);
        if let Some(shown) = shown {
            // Goes on record before the page goes out.
            page.extensions_mut().insert(shown);
        }
        Some(page)
    }

    fn consent(&self, request: &AuthRequest<'_>) -> Answer {
        let parameters = match request.parameters() {
            Ok(parameters) => parameters,
            Err(words) => return error_page(words),
        };
        let sealed = parameters.get("question").unwrap_or_default();
        let Ok(question) = self.0.seal.open::<Question>(Purpose::Consent, sealed, request.now) else {
            return error_page("this page is too old, or was changed");
        };
        let here = cookie(request.headers, CONSENT_COOKIE).map(|browser| sha256(browser.as_bytes()));
        if here != Some(question.browser) {
            return error_page("the answer did not come from the page that was shown");
        }
        let Question { request: asked, user, patients, .. } = question;
        let issuer = &self.0.mint.issuer;
        let forget = set_cookie(CONSENT_COOKIE, "", 0, "Strict");
        let back = |told: &[(&str, &str)]| {
            back_to_client(&asked.redirect_uri, told, Some(&asked.state), issuer, std::slice::from_ref(&forget))
        };
        if parameters.get("answer") != Some("allow") {
            return back(&[("error", ErrorCode::AccessDenied.text())]);
        }
        let patient = parameters.get("patient").filter(|id| patients.iter().any(|choice| choice.id == *id));
        let Some(scopes) = granted(&asked.scopes, &parameters, patient.is_some()) else {
            return back(&[("error", ErrorCode::AccessDenied.text())]);
        };
        let grant = random().map(|id| Grant {
            id,
            client_id: asked.client_id.clone(),
            patient: patient.filter(|_| needs_patient(&scopes)).map(str::to_owned),
            scopes,
            user: Some(user),
            nonce: asked.nonce.clone(),
            started: request.now.unix_timestamp(),
            bound_certificate: None,
            bound_key: None,
        });
        let code = grant.and_then(|grant| {
            let code =
                BrokerCode { grant, redirect_uri: asked.redirect_uri.clone(), challenge: asked.challenge.clone() };
            self.0.seal.seal(Purpose::Code, &code, request.now + CODE_LIFETIME)
        });
        match code {
            Ok(code) => back(&[("code", &code)]),
            Err(_) => back(&[("error", ErrorCode::ServerError.text())]),
        }
    }
}

/// What is left of the scopes after the user's choice; `None` when nothing is.
fn granted(asked: &[String], parameters: &Parameters, has_patient: bool) -> Option<Vec<String>> {
    let ticked: Vec<usize> = parameters.checked("scope-").filter_map(|at| at.parse().ok()).collect();
    let mut scopes: Vec<String> = asked
        .iter()
        .enumerate()
        .filter(|(at, scope)| !Question::is_choice(scope) || ticked.contains(at))
        .map(|(_, scope)| scope.clone())
        .collect();
    if !has_patient {
        // SMART App Launch 2.2: a patient scope is granted together with a patient, or not at all.
        scopes.retain(|scope| scope != "launch/patient" && !scope.starts_with("patient/"));
    }
    let opens = |scope: &String| scope == "openid" || (Question::is_choice(scope) && scope != "offline_access");
    scopes.iter().any(opens).then_some(scopes)
}

/// SMART App Launch 2.2: Patient, Practitioner, PractitionerRole, RelatedPerson or Person.
fn is_fhir_user(text: &str) -> bool {
    const KINDS: [&str; 5] = ["Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person"];
    instance(text).is_some_and(|(kind, _)| KINDS.contains(&kind.as_str()))
}

fn instance(text: &str) -> Option<(String, LogicalId)> {
    match Reference::parse(text) {
        Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => {
            Some((instance.kind.as_str().to_owned(), instance.id))
        }
        Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => None,
    }
}

/// The same, if it is a resource of this endpoint: an absolute reference to another server names somebody else.
fn here(text: &str, base_url: &str) -> Option<(String, LogicalId)> {
    let elsewhere = text.contains("://") && !text.strip_prefix(base_url).is_some_and(|rest| rest.starts_with('/'));
    if elsewhere { None } else { instance(text) }
}

/// The user's own record: as the provider states it, or the user's own Patient.
fn patient_of(user: &User, base_url: &str) -> Option<String> {
    let stated = user.patient.as_deref().and_then(|id| id.parse::<LogicalId>().ok());
    let fhir_user = || user.fhir_user.as_deref().and_then(|text| here(text, base_url));
    let own = || fhir_user().filter(|(kind, _)| kind == "Patient").map(|(_, id)| id);
    stated.or_else(own).map(|id| id.as_str().to_owned())
}
