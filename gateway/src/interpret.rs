//! Stage 4: name the FHIR interaction that is asked for. What cannot be named is refused, and so is what has two readings.

use fhir_profiles::interaction::{Class, Interaction, ParseError, RequestParts, interpret as parse};
use fhirwall_policy::reason::Reason;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::generation::Endpoint;
use crate::listen::Request;
use crate::refusal::Refusal;

const FORM: &str = "application/x-www-form-urlencoded";

/// The interaction of a request to this endpoint. `path` is below the endpoint's base; a Bundle may have `max_entries`.
pub fn interpret(
    endpoint: &Endpoint,
    path: &str,
    request: &Request,
    max_entries: usize,
) -> Result<Interaction, Refusal> {
    let text = |name: &http::HeaderName| one(request, name);
    let content_type = text(&CONTENT_TYPE)?;
    let is_form = content_type.is_some_and(|value| media(value).eq_ignore_ascii_case(FORM));
    let form = match is_form {
        true => Some(std::str::from_utf8(&request.body).map_err(|_| Refusal::from(Reason::MalformedRequest))?),
        false => None,
    };
    let body = (!request.body.is_empty() && !is_form).then_some(&*request.body);
    let parts = RequestParts {
        method: request.method.as_str(),
        path,
        query: request.query.as_deref(),
        form,
        if_none_exist: text(&http::HeaderName::from_static("if-none-exist"))?,
        accept: text(&ACCEPT)?,
        content_type: if request.body.is_empty() { None } else { content_type },
        body,
        base: &endpoint.base_url,
        max_entries,
    };
    parse(&parts).map_err(|error| Refusal::from(reason(error)))
}

/// A header that may stand once.
fn one<'a>(request: &'a Request, name: &http::HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = request.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refusal::from(Reason::MalformedRequest)),
        (Some(_), Some(_)) => Err(Refusal::from(Reason::MalformedRequest)),
    }
}

fn media(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// The reason that a client and the record are told.
pub fn reason(error: ParseError) -> Reason {
    match error.class() {
        Class::Malformed => Reason::MalformedRequest,
        Class::UnknownParameter => Reason::UnknownParameter,
        Class::UnsupportedParameter => Reason::UnsupportedParameter,
        Class::ParameterNotAllowed => Reason::ParameterNotAllowed,
        Class::UnknownResourceType | Class::NoInteraction => Reason::UnknownInteraction,
        Class::UnsupportedInteraction => Reason::UnsupportedInteraction,
        Class::UnknownOperation => Reason::UnknownOperation,
        Class::OperationNotAllowed => Reason::OperationNotAllowed,
        Class::NotAcceptable => Reason::NotAcceptable,
        Class::UnsupportedMediaType => Reason::UnsupportedMediaType,
        Class::TooLarge => Reason::RequestTooLarge,
    }
}
