//! The three partner apps of the demo, as their partner files register them.

use std::path::PathBuf;

use serde_json::Map;

use crate::demo::authorization_server::{Grant, RegisteredClient};
use crate::demo::client::HttpsClient;
use crate::demo::patients;

/// What is fixed about an app.
#[derive(Clone, Copy, Debug)]
pub struct AppProfile {
    pub client_id: &'static str,
    pub name: &'static str,
    pub spiffe_id: &'static str,
    /// Who uses it, for people.
    pub who: &'static str,
    client_type: &'static str,
    /// The most its tokens can grant.
    registered_scopes: &'static [&'static str],
    /// The scopes of its demo token.
    pub token_scope: &'static str,
    purpose: &'static str,
    basis: &'static str,
    redaction: &'static str,
    sub: &'static str,
    fhir_user: Option<&'static str>,
    patient: Option<&'static str>,
}

/// A clinician's app whose organization patients may name in a consent. What is withheld is marked.
pub const TREATMENT: AppProfile = AppProfile {
    client_id: "recovery-path",
    name: "Recovery Path Inc.",
    spiffe_id: "spiffe://recovery.example/gateway",
    who: "treating clinician, Part 2 by the patient's consent",
    client_type: "confidential-asymmetric",
    registered_scopes: &["user/*.rs", "user/Observation.cud", "user/Condition.cud"],
    token_scope: "openid fhirUser user/*.rs",
    purpose: "TREAT",
    basis: "consent",
    redaction: "marked",
    sub: "noor",
    fhir_user: Some("Practitioner/noor-haddad"),
    patient: None,
};

/// A research app without any Part 2 basis. Nothing tells it that anything is withheld.
pub const RESEARCH: AppProfile = AppProfile {
    client_id: "cohort-lens",
    name: "Cohort Lens Research",
    spiffe_id: "spiffe://cohort-lens.example/collector",
    who: "research, no Part 2 basis",
    client_type: "backend-service",
    registered_scopes: &[
        "system/Patient.rs",
        "system/Condition.rs",
        "system/Observation.rs",
        "system/AllergyIntolerance.rs",
        "system/MedicationRequest.rs",
        "system/List.rs",
    ],
    token_scope: "system/Patient.rs system/Condition.rs system/Observation.rs system/AllergyIntolerance.rs \
                  system/MedicationRequest.rs system/List.rs",
    purpose: "HRESCH",
    basis: "none",
    redaction: "silent",
    sub: "cohort-lens",
    fhir_user: None,
    patient: None,
};

/// Amara Osei's own app: her access to her own records, 42 CFR 2.23.
pub const PATIENT: AppProfile = AppProfile {
    client_id: "pocket-chart",
    name: "Pocket Chart",
    spiffe_id: "spiffe://pocket-chart.example/app",
    who: "Amara Osei's own app",
    client_type: "confidential-asymmetric",
    registered_scopes: &["patient/*.rs", "patient/Observation.cud"],
    token_scope: "openid fhirUser launch/patient patient/*.rs patient/Observation.c",
    purpose: "PATRQT",
    basis: "patient",
    redaction: "marked",
    sub: "amara",
    fhir_user: Some("Patient/amara-osei"),
    patient: Some("amara-osei"),
};

/// An app, ready to call.
#[derive(Clone, Debug)]
pub struct App {
    pub profile: AppProfile,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The SHA-256 thumbprint of its certificate, as tokens carry it.
    pub x5t_s256: String,
    /// An access token, bound to the certificate, good for an hour.
    pub token: String,
    /// Its HTTPS client: the site's authority and its own certificate.
    pub client: HttpsClient,
}

impl AppProfile {
    /// What the demo's token of this app says, bound to the certificate with this thumbprint.
    pub fn grant(&self, x5t_s256: &str) -> Grant {
        Grant {
            client_id: self.client_id.to_owned(),
            sub: self.sub.to_owned(),
            patient: self.patient.map(str::to_owned),
            fhir_user: self.fhir_user.map(str::to_owned),
            scope: self.token_scope.to_owned(),
            x5t_s256: Some(x5t_s256.to_owned()),
            claims: Map::new(),
        }
    }

    pub(crate) fn registration(&self, jwk: serde_json::Value) -> RegisteredClient {
        RegisteredClient {
            client_id: self.client_id.to_owned(),
            redirect_uris: self.redirect_uris(),
            scope: self.registered_scopes.join(" ") + " " + self.token_scope,
            jwk: Some(jwk),
            backend: self.client_type == "backend-service",
        }
    }

    fn redirect_uris(&self) -> Vec<String> {
        match self.client_type {
            "backend-service" => Vec::new(),
            _ => vec![format!("https://{}.example/callback", self.client_id)],
        }
    }

    /// The partner file. `jwks_uri` is where the issuer publishes the app's key; dates hold around `year`.
    pub(crate) fn partner_file(&self, jwks_uri: &str, year: i32) -> String {
        let Self { client_id, name, client_type, spiffe_id, purpose, basis, redaction, who, .. } = self;
        let scopes: Vec<String> = self.registered_scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
        let redirects: Vec<String> = self.redirect_uris().iter().map(|uri| format!("\"{uri}\"")).collect();
        let recipients = match *basis {
            "consent" => format!(
                "consent_recipients:   # how a Consent's actor names this partner\n  \
                   - reference: Organization/{client_id}\n  \
                   - identifier: {{system: \"urn:ietf:rfc:3986\", value: \"https://recovery.example\"}}\n"
            ),
            _ => String::new(),
        };
        format!(
            "# {who}\n\
             apiVersion: fhirwall/v1\n\
             kind: Partner\n\
             client_id: {client_id}\n\
             name: {name}\n\
             status: active\n\
             type: {client_type}\n\
             jwks_uri: {jwks_uri}\n\
             redirect_uris: [{redirects}]\n\
             mtls: required\n\
             certificates: [{{san_uri: \"{spiffe_id}\"}}]\n\
             jurisdiction: US\n\
             scopes: [{scopes}]\n\
             purposes_of_use: [{purpose}]\n\
             part2: {{basis: {basis}, redaction: {redaction}}}\n\
             {recipients}\
             limits: {{requests_per_second: 50, distinct_patients_per_hour: 200}}\n\
             evidence:\n  \
               baa: {{signed: {signed}-01-15, expires: {expires}-01-15}}\n  \
               security_assessment: {{framework: HITRUST, expires: {expires}-06-30}}\n\
             contacts: {{security: security@{client_id}.example}}\n",
            redirects = redirects.join(", "),
            scopes = scopes.join(", "),
            signed = year - 1,
            expires = year + 2,
        )
    }

    /// The sample records that this app can read, as `Type/id`.
    pub fn sees(&self) -> Vec<String> {
        patients::references()
            .into_iter()
            .filter(|record| match self.basis {
                "consent" => !record.protected || record.patient == Some("amara-osei"),
                // Who treats her, and where, is in no patient's compartment and open to all.
                "patient" => record.patient.map_or(!record.protected, |patient| patient == "amara-osei"),
                _ => {
                    let scope = format!("system/{}.rs", record.kind);
                    !record.protected && self.registered_scopes.contains(&scope.as_str())
                }
            })
            .map(|record| record.reference)
            .collect()
    }
}
