//! Why a request was refused: stable codes, the same in answers, records, metrics and explanations.

/// A reason code (`urn:fhirwall:reason`). Adding one does not compile until every match has answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    // from the request and the connection
    MalformedRequest,
    MisdirectedRequest,
    UnknownParameter,
    UnsupportedParameter,
    ParameterNotAllowed,
    UnsupportedInteraction,
    UnknownInteraction,
    MethodNotAllowed,
    UnknownOperation,
    OperationNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    RequestTooLarge,
    // from the caller
    NoCredentials,
    InvalidToken,
    CertificateMismatch,
    StrongerAuthenticationNeeded,
    PartnerUnknown,
    PartnerSuspended,
    EvidenceExpired,
    PurposeNotAllowed,
    InsufficientScope,
    PatientMismatch,
    PolicyForbids,
    PolicyError,
    // from stored data: answered exactly like what does not exist
    NotFound,
    LabelWithheld,
    ConsentDenies,
    OutsideCompartment,
    OutsideGranularScope,
    // limits
    RateLimited,
    Overloaded,
    RiskThrottled,
    RiskTerminated,
    Lockdown,
    // writes
    VersionConflict,
    PreconditionRequired,
    LabelWouldBeLowered,
    // neighbours
    UpstreamUnintelligible,
    UpstreamUnavailable,
    UpstreamBusy,
    ConsentSourceUnavailable,
    IssuerUnavailable,
    AuditUnavailable,
    StateUnavailable,
}

impl Reason {
    pub const ALL: &'static [Self] = &[
        Self::MalformedRequest,
        Self::MisdirectedRequest,
        Self::UnknownParameter,
        Self::UnsupportedParameter,
        Self::ParameterNotAllowed,
        Self::UnsupportedInteraction,
        Self::UnknownInteraction,
        Self::MethodNotAllowed,
        Self::UnknownOperation,
        Self::OperationNotAllowed,
        Self::NotAcceptable,
        Self::UnsupportedMediaType,
        Self::RequestTooLarge,
        Self::NoCredentials,
        Self::InvalidToken,
        Self::CertificateMismatch,
        Self::StrongerAuthenticationNeeded,
        Self::PartnerUnknown,
        Self::PartnerSuspended,
        Self::EvidenceExpired,
        Self::PurposeNotAllowed,
        Self::InsufficientScope,
        Self::PatientMismatch,
        Self::PolicyForbids,
        Self::PolicyError,
        Self::NotFound,
        Self::LabelWithheld,
        Self::ConsentDenies,
        Self::OutsideCompartment,
        Self::OutsideGranularScope,
        Self::RateLimited,
        Self::Overloaded,
        Self::RiskThrottled,
        Self::RiskTerminated,
        Self::Lockdown,
        Self::VersionConflict,
        Self::PreconditionRequired,
        Self::LabelWouldBeLowered,
        Self::UpstreamUnintelligible,
        Self::UpstreamUnavailable,
        Self::UpstreamBusy,
        Self::ConsentSourceUnavailable,
        Self::IssuerUnavailable,
        Self::AuditUnavailable,
        Self::StateUnavailable,
    ];

    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    pub const fn code(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed-request",
            Self::MisdirectedRequest => "misdirected-request",
            Self::UnknownParameter => "unknown-parameter",
            Self::UnsupportedParameter => "unsupported-parameter",
            Self::ParameterNotAllowed => "parameter-not-allowed",
            Self::UnsupportedInteraction => "unsupported-interaction",
            Self::UnknownInteraction => "unknown-interaction",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UnknownOperation => "unknown-operation",
            Self::OperationNotAllowed => "operation-not-allowed",
            Self::NotAcceptable => "not-acceptable",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::RequestTooLarge => "request-too-large",
            Self::NoCredentials => "no-credentials",
            Self::InvalidToken => "invalid-token",
            Self::CertificateMismatch => "certificate-mismatch",
            Self::StrongerAuthenticationNeeded => "stronger-authentication-needed",
            Self::PartnerUnknown => "partner-unknown",
            Self::PartnerSuspended => "partner-suspended",
            Self::EvidenceExpired => "evidence-expired",
            Self::PurposeNotAllowed => "purpose-not-allowed",
            Self::InsufficientScope => "insufficient-scope",
            Self::PatientMismatch => "patient-mismatch",
            Self::PolicyForbids => "policy-forbids",
            Self::PolicyError => "policy-error",
            Self::NotFound => "not-found",
            Self::LabelWithheld => "label-withheld",
            Self::ConsentDenies => "consent-denies",
            Self::OutsideCompartment => "outside-compartment",
            Self::OutsideGranularScope => "outside-granular-scope",
            Self::RateLimited => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::RiskThrottled => "risk-throttled",
            Self::RiskTerminated => "risk-terminated",
            Self::Lockdown => "lockdown",
            Self::VersionConflict => "version-conflict",
            Self::PreconditionRequired => "precondition-required",
            Self::LabelWouldBeLowered => "label-would-be-lowered",
            Self::UpstreamUnintelligible => "upstream-unintelligible",
            Self::UpstreamUnavailable => "upstream-unavailable",
            Self::UpstreamBusy => "upstream-busy",
            Self::ConsentSourceUnavailable => "consent-source-unavailable",
            Self::IssuerUnavailable => "issuer-unavailable",
            Self::AuditUnavailable => "audit-unavailable",
            Self::StateUnavailable => "state-unavailable",
        }
    }

    /// Does the refusal depend on anything stored? Then the client must see [`Reason::NotFound`] (product.md 4).
    pub const fn depends_on_stored_data(self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::LabelWithheld
                | Self::ConsentDenies
                | Self::OutsideCompartment
                | Self::OutsideGranularScope
        )
    }
}
