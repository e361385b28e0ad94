//! Why a request names no interaction that this gateway can rule on.

use core::fmt;

/// A request that was not understood, or not wanted from anybody. It never carries the text that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParseError {
    /// A path that is not `/`-separated FHIR segments: empty segment, dot segment, percent encoding, `;`, control byte.
    MalformedPath,
    /// No R4 interaction has this method on this path.
    NoInteraction,
    /// R4 knows the interaction; this gateway rules on it by refusing it.
    UnsupportedInteraction,
    /// The type is not one of R4's 146, or not in its exact spelling.
    UnknownResourceType,
    /// An id or version id outside `[A-Za-z0-9\-\.]{1,64}`.
    InvalidId,
    /// A query or form that has no single decoding.
    MalformedQuery,
    /// `name=` with nothing behind it: servers ignore such a parameter, which widens the answer.
    EmptyValue,
    /// More parameters or alternatives than any honest request has.
    TooManyParameters,
    /// Not a search parameter of this type in R4.
    UnknownParameter,
    /// Not a modifier of R4.
    UnknownModifier,
    /// A value that its parameter's type cannot hold.
    MalformedValue,
    /// A chain that leads nowhere, or further than three steps.
    MalformedChain,
    /// The same parameter in the URL and in the form, with different values; or a header that its method has no use for.
    Contradictory,
    /// Repeated where R4 gives repetition no meaning.
    Repeated,
    /// R4 knows the parameter, this gateway does not support it.
    UnsupportedParameter,
    /// R4 knows the parameter or modifier, and nobody may use it here: it asks about what may be hidden.
    ParameterNotAllowed,
    /// No operation of this name is known.
    UnknownOperation,
    /// The operation is known and refused here, or is not defined on this level.
    OperationNotAllowed,
    /// The answer is wanted in something other than FHIR JSON of R4.
    NotAcceptable,
    /// The body is in something other than the interaction's media type.
    UnsupportedMediaType,
    /// A request Bundle that is not one: wrong type, wrong shape, ambiguous JSON.
    MalformedBundle,
    /// A Bundle of a type that is no request (document, message, history, searchset, collection).
    BundleTypeNotAccepted,
    /// More entries than a request Bundle may have here.
    TooManyEntries,
    /// A batch or transaction inside another.
    NestedBundle,
    /// `Parameters` with anything but single primitive values.
    UnsupportedOperationParameter,
}

/// What sort of refusal it is, whatever the policy. `gateway::refusal` turns it into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// 400
    Malformed,
    /// 400
    UnknownParameter,
    /// 400 `not-supported`
    UnsupportedParameter,
    /// 403
    ParameterNotAllowed,
    /// 404
    UnknownResourceType,
    /// 404
    NoInteraction,
    /// 403
    UnsupportedInteraction,
    /// 404
    UnknownOperation,
    /// 403
    OperationNotAllowed,
    /// 406
    NotAcceptable,
    /// 415
    UnsupportedMediaType,
    /// 413
    TooLarge,
}

impl ParseError {
    /// Every error, for tables that must not forget one.
    pub const ALL: &'static [Self] = &[
        Self::MalformedPath,
        Self::NoInteraction,
        Self::UnsupportedInteraction,
        Self::UnknownResourceType,
        Self::InvalidId,
        Self::MalformedQuery,
        Self::EmptyValue,
        Self::TooManyParameters,
        Self::UnknownParameter,
        Self::UnknownModifier,
        Self::MalformedValue,
        Self::MalformedChain,
        Self::Contradictory,
        Self::Repeated,
        Self::UnsupportedParameter,
        Self::ParameterNotAllowed,
        Self::UnknownOperation,
        Self::OperationNotAllowed,
        Self::NotAcceptable,
        Self::UnsupportedMediaType,
        Self::MalformedBundle,
        Self::BundleTypeNotAccepted,
        Self::TooManyEntries,
        Self::NestedBundle,
        Self::UnsupportedOperationParameter,
    ];

    pub const fn class(self) -> Class {
        match self {
            Self::MalformedPath
            | Self::InvalidId
            | Self::MalformedQuery
            | Self::EmptyValue
            | Self::TooManyParameters
            | Self::MalformedValue
            | Self::MalformedChain
            | Self::Contradictory
            | Self::Repeated
            | Self::MalformedBundle
            | Self::BundleTypeNotAccepted
            | Self::NestedBundle => Class::Malformed,
            Self::UnknownParameter | Self::UnknownModifier => Class::UnknownParameter,
            Self::UnsupportedParameter | Self::UnsupportedOperationParameter => Class::UnsupportedParameter,
            Self::ParameterNotAllowed => Class::ParameterNotAllowed,
            Self::UnknownResourceType => Class::UnknownResourceType,
            Self::NoInteraction => Class::NoInteraction,
            Self::UnsupportedInteraction => Class::UnsupportedInteraction,
            Self::UnknownOperation => Class::UnknownOperation,
            Self::OperationNotAllowed => Class::OperationNotAllowed,
            Self::NotAcceptable => Class::NotAcceptable,
            Self::UnsupportedMediaType => Class::UnsupportedMediaType,
            Self::TooManyEntries => Class::TooLarge,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::MalformedPath => "the path is not a canonical FHIR path",
            Self::NoInteraction => "no FHIR R4 interaction has this method and path",
            Self::UnsupportedInteraction => "this interaction is not offered",
            Self::UnknownResourceType => "not a FHIR R4 resource type",
            Self::InvalidId => "not a FHIR id",
            Self::MalformedQuery => "the query or form is not canonically encoded",
            Self::EmptyValue => "a parameter has no value",
            Self::TooManyParameters => "too many parameters or alternatives",
            Self::UnknownParameter => "not a search parameter of this type in FHIR R4",
            Self::UnknownModifier => "not a modifier of this parameter in FHIR R4",
            Self::MalformedValue => "a value does not fit the type of its parameter",
            Self::MalformedChain => "a chain leads to no parameter within three steps",
            Self::Contradictory => "two parts of the request contradict each other",
            Self::Repeated => "a parameter is repeated where repetition has no meaning",
            Self::UnsupportedParameter => "this parameter, or this value of it, is not supported",
            Self::ParameterNotAllowed => "this parameter or modifier is not allowed",
            Self::UnknownOperation => "no such operation",
            Self::OperationNotAllowed => "this operation is not allowed",
            Self::NotAcceptable => "only application/fhir+json of FHIR R4 is offered",
            Self::UnsupportedMediaType => "the body's media type is not the one this interaction takes",
            Self::MalformedBundle => "the body is not a well-formed request Bundle",
            Self::BundleTypeNotAccepted => "only Bundles of type batch and transaction are accepted here",
            Self::TooManyEntries => "the Bundle has more entries than are accepted here",
            Self::NestedBundle => "a batch or transaction may not hold another",
            Self::UnsupportedOperationParameter => "operation parameters must be single primitive values",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for ParseError {}
