//! Media types: what the client will accept, and what its body is. Only FHIR JSON of R4 has a codec here (R4 http.html#mime-type).

use crate::interaction::ParseError;

/// Refuses when nothing in `Accept` can be answered with FHIR JSON of R4.
pub(super) fn acceptable(accept: Option<&str>, also: &[&str]) -> Result<(), ParseError> {
    let Some(accept) = accept.map(str::trim).filter(|accept| !accept.is_empty()) else { return Ok(()) };
    if accept.split(',').any(|range| range_fits(range, also)) { Ok(()) } else { Err(ParseError::NotAcceptable) }
}

fn range_fits(range: &str, also: &[&str]) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let known = matches!(kind.as_str(), "*/*" | "application/*" | "application/fhir+json" | "application/json")
        || also.contains(&kind.as_str());
    known && parts.all(parameter_fits)
}

/// `q` above zero, `charset` UTF-8, `fhirVersion` 4.0; other parameters say nothing that changes the answer.
fn parameter_fits(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return parameter.is_empty() };
    let value = value.trim().trim_matches('"');
    match name.trim().to_ascii_lowercase().as_str() {
        "q" => value.parse::<f32>().is_ok_and(|q| q > 0.0),
        "charset" => value.eq_ignore_ascii_case("utf-8"),
        // R4 versioning.html#mt-version
        "fhirversion" => matches!(value, "4.0" | "4.0.1"),
        _ => true,
    }
}

/// `_format` overrides `Accept` (R4 http.html#parameters). An unescaped `+` reaches us as a space.
pub(crate) fn format_parameter(value: &str) -> Result<(), ParseError> {
    match value {
        "json" | "application/json" | "application/fhir+json" | "application/fhir json" => Ok(()),
        _ => Err(ParseError::NotAcceptable),
    }
}

/// The body of a create, update, Bundle or operation.
pub(super) fn is_fhir_json(content_type: Option<&str>) -> Result<(), ParseError> {
    is_one_of(content_type, &["application/fhir+json", "application/json"])
}

/// The body of a patch: RFC 6902 alone. FHIRPath and XML patches have no codec here.
pub(super) fn is_json_patch(content_type: Option<&str>) -> Result<(), ParseError> {
    is_one_of(content_type, &["application/json-patch+json"])
}

/// The body of `_search`, where there is one.
pub(super) fn is_form(content_type: Option<&str>) -> Result<(), ParseError> {
    match content_type {
        None => Ok(()),
        Some(_) => is_one_of(content_type, &["application/x-www-form-urlencoded"]),
    }
}

fn is_one_of(content_type: Option<&str>, kinds: &[&str]) -> Result<(), ParseError> {
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if kinds.contains(&kind.as_str()) && parts.all(parameter_fits) {
        Ok(())
    } else {
        Err(ParseError::UnsupportedMediaType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fhir_json_of_r4_is_answered() {
        for right in [
            None,
            Some(""),
            Some("*/*"),
            Some("application/fhir+json"),
            Some("application/fhir+json; fhirVersion=4.0"),
            Some("text/html, application/json;q=0.5"),
        ] {
            assert_eq!(acceptable(right, &[]), Ok(()), "{right:?}");
        }
        for wrong in [
            "application/fhir+xml",
            "text/html",
            "text/turtle",
            "application/fhir+ndjson",
            "application/fhir+json;q=0",
            "application/fhir+json; fhirVersion=3.0",
            "application/pdf",
        ] {
            assert_eq!(acceptable(Some(wrong), &[]), Err(ParseError::NotAcceptable), "{wrong}");
        }
        assert_eq!(acceptable(Some("application/fhir+ndjson"), &["application/fhir+ndjson"]), Ok(()));
    }

    #[test]
    fn bodies_have_the_media_type_of_their_interaction() {
        assert_eq!(is_fhir_json(Some("application/fhir+json; charset=UTF-8")), Ok(()));
        assert_eq!(is_fhir_json(Some("application/fhir+xml")), Err(ParseError::UnsupportedMediaType));
        assert_eq!(is_fhir_json(Some("application/json; charset=utf-16")), Err(ParseError::UnsupportedMediaType));
        assert_eq!(is_fhir_json(None), Err(ParseError::UnsupportedMediaType));
        assert_eq!(is_json_patch(Some("application/json-patch+json")), Ok(()));
        assert_eq!(is_json_patch(Some("application/fhir+json")), Err(ParseError::UnsupportedMediaType));
        assert_eq!(is_form(None), Ok(()));
        assert_eq!(is_form(Some("application/json")), Err(ParseError::UnsupportedMediaType));
    }
}
