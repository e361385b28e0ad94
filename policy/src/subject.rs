//! Who asks: the verified caller, joined from certificate, token and partner file. Built by `gateway::identify`.

use std::sync::Arc;

use fhir_profiles::ids::LogicalId;
use fhir_profiles::reference::Reference;
use time::OffsetDateTime;

use crate::partner::Partner;
use crate::purpose::PurposeOfUse;

/// A verified caller. Every field was checked; nothing here comes from an unverified header.
#[derive(Clone, Debug)]
pub struct Subject {
    pub partner: Arc<Partner>,
    pub issuer: Arc<str>,
    /// `sub`; equal to the client for client-credentials tokens.
    pub sub: Arc<str>,
    /// `fhirUser`, as the issuer states it.
    pub fhir_user: Option<Reference>,
    /// The patient in the launch context.
    pub patient: Option<LogicalId>,
    /// `scope`, split at spaces, as the token carries it.
    pub scopes: Arc<[String]>,
    /// The purpose claimed by the token, if it is one the partner may use; else the partner's only purpose.
    pub purpose: Option<PurposeOfUse>,
    pub authentication: Authentication,
    /// `jti`, or a digest of an opaque token: for audit, never the token.
    pub token_id: Arc<str>,
    pub expires: OffsetDateTime,
    pub emergency: Option<Emergency>,
    /// The organization on whose behalf the client asks, as the issuer states it (UDAP Security, `hl7-b2b`
    /// `organization_id`: a URI).
    pub organization: Option<Arc<str>>,
}

/// How strongly, and how, the caller proved who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    pub acr: Option<String>,
    pub amr: Vec<String>,
    pub auth_time: Option<OffsetDateTime>,
    /// The issuer's word for a strength that the configuration takes for multi-factor (RFC 9470 `acr_values`), and fresh by
    /// the configuration's own measure.
    pub stepped_up: bool,
    /// The connection carried the partner's certificate.
    pub mtls: bool,
    /// The token is bound to the connection's certificate or to a DPoP key.
    pub sender_constrained: bool,
}

/// A claimed emergency (42 CFR 2.51), verified as a claim; whether it opens anything is for policy.
#[derive(Clone, Debug)]
pub struct Emergency {
    /// The nature of the emergency, in the caller's words (2.51(c)(4)).
    pub reason: String,
    pub patient: LogicalId,
    /// When it ends; it never outlives the token that claims it.
    pub until: OffsetDateTime,
    /// The name of the medical personnel who receive the records (2.51(c)(1)), where the claim states it.
    pub name: Option<String>,
    /// Their affiliation with a health care facility (2.51(c)(1)), where the claim states it.
    pub affiliation: Option<String>,
}
