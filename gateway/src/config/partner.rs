//! A partner's file: `kind: Partner`.

use std::num::NonZeroU32;
use std::sync::Arc;

use fhir_profiles::ids::LogicalId;
use fhirwall_policy::partner::{CourtOrder, Part2, Part2Basis, Partner, Recipient, Redaction, Status};
use fhirwall_policy::purpose::PurposeOfUse;
use serde_json::{Value as Json, json};
use time::{Date, OffsetDateTime, Time};

use crate::config::address::{Origin, RedirectUri, WebUrl};
use crate::config::gateway::{ApiVersion, Waiver};
use crate::config::read::{At, Setting};
use crate::config::section::{section, words, words_of};
use crate::config::shape::{Form, Shape};
use crate::config::value::{FilePath, Place, unknown_word};
use crate::identify::partners::{CertificateMatch, ClientType};

section! {
    /// One partner app and what it may have at most.
    pub struct PartnerFile {
        /// The version of this format.
        api_version as "apiVersion": ApiVersion,
        /// What this file is.
        kind: PartnerKind,
        /// The app's OAuth client id.
        client_id: String,
        /// Its name for people.
        name: String,
        /// Whether it is served. `suspended` holds from the moment this file is read.
        status: Status = Status::Active,
        /// What kind of client it is (SMART App Launch 2.2, section "Client types").
        client_type as "type": ClientType,
        /// Where its public keys are published.
        jwks_uri: Option<WebUrl>,
        /// Its public keys in a file, for partners that publish none.
        jwks_file: Option<FilePath>,
        /// confidential-symmetric, broker mode: the file that holds its secret.
        client_secret_file: Option<FilePath>,
        /// Where its users are sent back to; compared exactly.
        redirect_uris: Vec<RedirectUri> = Vec::new(),
        /// The browser origins it calls from; compared exactly.
        origins: Vec<Origin> = Vec::new(),
        /// Whether its requests must come with one of its certificates.
        mtls: MtlsMode = MtlsMode::Required,
        /// Whether its tokens must be bound to a DPoP key (RFC 9449).
        dpop: Dpop = Dpop::Optional,
        /// Its certificates.
        certificates: Vec<CertificateMatch> = Vec::new(),
        /// Where it is established, as an ISO 3166 code.
        jurisdiction: String,
        /// The issuers whose tokens count for it; without it, every configured one.
        issuers: Option<Vec<String>>,
        /// The most its tokens can ever grant, as SMART v2 scopes. Empty: nothing.
        scopes: Vec<String>,
        /// The templates of the policy set under which it stands: each forbids it what lies above, whatever else is permitted.
        ceilings: Vec<String> = Vec::new(),
        /// For what it may use what it gets. Empty: for nothing.
        purposes_of_use: Vec<PurposeOfUse>,
        /// On which lawful basis it may get 42 CFR Part 2 records, and how what is withheld looks to it.
        part2: PartnerPart2,
        /// Court orders of 42 CFR Part 2, subpart E (2.61 to 2.67), under which it gets records.
        court_orders: Vec<CourtOrder> = Vec::new(),
        /// How a Consent's actor names this partner.
        consent_recipients: Vec<Recipient> = Vec::new(),
        /// How much it may ask, where that differs from the gateway's own limits.
        limits: PartnerLimits,
        /// The papers behind all this.
        evidence: Evidence,
        /// Whom to reach.
        contacts: Contacts,
        /// Requirements that are knowingly not met, for a time.
        waivers: Vec<Waiver> = Vec::new(),
    }
    check check_partner;
}

words! {
    /// What a partner's file is.
    pub enum PartnerKind {
        /// A partner.
        Partner = "Partner",
    }
}

words_of!(ClientType {
    Public = "public", "An app that can keep no secret: a phone app, a page.";
    ConfidentialSymmetric = "confidential-symmetric", "A server-side app with a shared secret.";
    ConfidentialAsymmetric = "confidential-asymmetric", "A server-side app with its own key pair.";
    BackendService = "backend-service", "A server without a user (SMART Backend Services).";
});

words! {
    /// Whether requests must come with a certificate.
    pub enum MtlsMode {
        /// They must.
        Required = "required",
        /// They need not: only with DPoP, or a dated waiver.
        None = "none",
    }
}

words! {
    /// Whether tokens must be bound to a DPoP key.
    pub enum Dpop {
        /// They must.
        Required = "required",
        /// They may; a token that is bound must come with its proof.
        Optional = "optional",
    }
}

words_of!(Status {
    Active = "active", "It is served.";
    Suspended = "suspended", "Every request is refused.";
});

words_of!(Redaction {
    Marked = "marked", "What is withheld is marked as withheld.";
    Silent = "silent", "Nothing tells that anything was withheld.";
});

words_of!(Part2Basis {
    None = "none", "No basis: such records are never disclosed to it.";
    Consent = "consent", "The patient's written consent (2.31, 2.33).";
    Patient = "patient", "The patient's own access (2.23).";
    Program = "program", "Within the program, or its qualified service organization (2.12(c)(3), (4)).";
    Research = "research", "Research (2.52).";
    Audit = "audit", "Audit and evaluation (2.53).";
    CourtOrder = "court-order", "A court order of subpart E (2.61 to 2.67), for the patients it covers.";
});

section! {
    /// A partner and 42 CFR Part 2.
    pub struct PartnerPart2 {
        /// The lawful basis.
        basis: Part2Basis = Part2Basis::None,
        /// How what is withheld looks.
        redaction: Redaction = Redaction::Silent,
    }
}

section! {
    /// How much a partner may ask.
    pub struct PartnerLimits {
        /// Requests in a second.
        requests_per_second: Option<NonZeroU32>,
        /// Requests at once.
        concurrent_requests: Option<NonZeroU32>,
        /// Different patients in an hour.
        distinct_patients_per_hour: Option<NonZeroU32>,
    }
}

section! {
    /// The papers behind a partner.
    pub struct Evidence {
        /// The business associate agreement (45 CFR 164.504(e)) or qualified service organization agreement (42 CFR 2.11).
        baa: Option<Agreement>,
        /// The security assessment.
        security_assessment: Option<Assessment>,
    }
}

section! {
    /// A signed agreement.
    pub struct Agreement {
        /// The day of signature.
        signed: Date,
        /// The last day on which it holds.
        expires: Date,
        /// The document.
        document: Option<Place>,
    }
    check check_agreement;
}

section! {
    /// A security assessment.
    pub struct Assessment {
        /// By which framework.
        framework: String,
        /// The last day on which it holds.
        expires: Date,
        /// The document.
        document: Option<Place>,
    }
}

section! {
    /// Whom to reach at a partner.
    pub struct Contacts {
        /// For security incidents.
        security: Option<String>,
        /// For privacy questions.
        privacy: Option<String>,
        /// For technical questions.
        technical: Option<String>,
    }
}

section! {
    /// How a Consent's actor names a partner: one of these.
    pub(crate) struct RecipientKeys {
        /// A literal reference, as `Organization/x`.
        reference: Option<String>,
        /// A logical reference.
        identifier: Option<IdentifierKeys>,
    }
}

section! {
    /// A business identifier.
    pub(crate) struct IdentifierKeys {
        /// Its system.
        system: String,
        /// Its value.
        value: String,
    }
}

impl Setting for Recipient {
    fn read(at: &At<'_>) -> Option<Self> {
        let keys = RecipientKeys::read(at)?;
        match (keys.reference, keys.identifier) {
            (Some(reference), None) => Some(Self::Reference(reference)),
            (None, Some(identifier)) => Some(Self::Identifier { system: identifier.system, value: identifier.value }),
            (None, None) | (Some(_), Some(_)) => at
                .refuse("a recipient is named in one way", "write `reference`, or `identifier: {system: …, value: …}`"),
        }
    }

    fn shape() -> Shape {
        RecipientKeys::shape()
    }

    fn shown(&self) -> Json {
        let keys = match self {
            Self::Reference(reference) => RecipientKeys { reference: Some(reference.clone()), identifier: None },
            Self::Identifier { system, value } => {
                let identifier = IdentifierKeys { system: system.clone(), value: value.clone() };
                RecipientKeys { reference: None, identifier: Some(identifier) }
            }
        };
        keys.shown()
    }
}

section! {
    /// A court order.
    pub(crate) struct CourtOrderKeys {
        /// The id of the patient whose records it covers.
        patient: String,
        /// The last day on which it holds.
        expires: Date,
    }
}

impl Setting for CourtOrder {
    fn read(at: &At<'_>) -> Option<Self> {
        let keys = CourtOrderKeys::read(at)?;
        match keys.patient.parse::<LogicalId>() {
            Ok(patient) => Some(Self { patient, expires: end_of(keys.expires) }),
            Err(_) => at.refuse("`patient` is no FHIR id", "write the id alone, as in `Patient/<id>`"),
        }
    }

    fn shape() -> Shape {
        CourtOrderKeys::shape()
    }

    fn shown(&self) -> Json {
        // The patient is not shown: that there is an order about somebody is itself protected (42 CFR 2.13(c)).
        json!({"patient": "(withheld)", "expires": (self.expires.date() - time::Duration::DAY).to_string()})
    }
}

impl Setting for PurposeOfUse {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        if let Some(purpose) = Self::from_code(&text) {
            return Some(purpose);
        }
        let known: Vec<&str> = Self::ALL.iter().map(|purpose| purpose.code()).collect();
        unknown_word(at, &known)
    }

    fn shape() -> Shape {
        Shape::Text(Form { what: "a code of v3-ActReason, value set PurposeOfUse", pattern: None, example: "TREAT" })
    }

    fn shown(&self) -> Json {
        Json::from(self.code())
    }
}

fn check_partner(partner: &PartnerFile, at: &At<'_>) {
    let no_certificate = partner.certificates.is_empty();
    match partner.mtls {
        MtlsMode::Required if no_certificate => at.problem_at(
            "certificates",
            "`mtls: required` and no certificate is registered, so every request would be refused",
            "add `certificates: [{san_uri: …}]`",
        ),
        MtlsMode::None if partner.dpop == Dpop::Optional && partner.unbound_tokens_until().is_none() => at.problem_at(
            "mtls",
            "without a certificate a stolen token works anywhere (RFC 9700 section 2.2.1)",
            "set `mtls: required`, or `dpop: required`, or add a dated waiver of `partner-mtls`",
        ),
        MtlsMode::Required | MtlsMode::None => {}
    }
    check_credentials(partner, at);
    if partner.part2.basis == Part2Basis::Consent && partner.consent_recipients.is_empty() {
        at.problem_at(
            "consent_recipients",
            "no Consent could name this partner, so its Part 2 basis could never hold (42 CFR 2.31(a)(4))",
            "say how a Consent's actor names it: `[{reference: Organization/…}]`",
        );
    }
}

fn check_credentials(partner: &PartnerFile, at: &At<'_>) {
    let keys = partner.jwks_uri.is_some() || partner.jwks_file.is_some();
    match partner.client_type {
        ClientType::ConfidentialAsymmetric | ClientType::BackendService if !keys => {
            at.problem_at(
                "jwks_uri",
                "this type of client signs with its own key, and none is named",
                "add `jwks_uri` or `jwks_file`",
            );
        }
        ClientType::Public if partner.client_secret_file.is_some() => {
            at.problem_at("client_secret_file", "a public client can keep no secret", "remove it, or change `type`");
        }
        ClientType::BackendService if !partner.redirect_uris.is_empty() => {
            at.problem_at(
                "redirect_uris",
                "a backend service has no user to send back",
                "remove them, or change `type`",
            );
        }
        ClientType::Public
        | ClientType::ConfidentialSymmetric
        | ClientType::ConfidentialAsymmetric
        | ClientType::BackendService => {}
    }
    if partner.jwks_uri.is_some() && partner.jwks_file.is_some() {
        at.problem_at("jwks_file", "two sources of keys can contradict each other", "keep `jwks_uri` or `jwks_file`");
    }
}

fn check_agreement(agreement: &Agreement, at: &At<'_>) {
    if agreement.expires <= agreement.signed {
        at.problem_at("expires", "it ends before it begins", "correct `signed` or `expires`");
    }
}

impl PartnerFile {
    /// The facts that decisions rest on.
    pub fn partner(&self) -> Partner {
        Partner {
            client_id: Arc::from(self.client_id.as_str()),
            name: self.name.clone(),
            status: self.status,
            scopes: self.scopes.clone().into(),
            purposes_of_use: self.purposes_of_use.clone(),
            part2: Part2 { basis: self.part2.basis, redaction: self.part2.redaction },
            consent_recipients: self.consent_recipients.clone(),
            jurisdiction: self.jurisdiction.clone(),
            baa_expires: self.evidence.baa.as_ref().map(|baa| end_of(baa.expires)),
            assessment_expires: self.evidence.security_assessment.as_ref().map(|it| end_of(it.expires)),
            court_orders: self.court_orders.clone(),
        }
    }
}

/// The moment at which the last valid day has ended (UTC).
pub(crate) fn end_of(day: Date) -> OffsetDateTime {
    day.next_day().unwrap_or(Date::MAX).with_time(Time::MIDNIGHT).assume_utc()
}
