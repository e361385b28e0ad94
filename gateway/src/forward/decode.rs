//! What may be read of an answer at all: its status, type and encoding (attack case 27).

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use time::OffsetDateTime;

use super::UpstreamFailure;
use super::retry::{Ended, retry_after};

/// How the body is packed. The gateway asks for `identity`; a server that sends gzip all the same is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

/// Refuses statuses that no FHIR interaction of ours may have.
pub(super) fn acceptable(status: StatusCode, headers: &HeaderMap, now: OffsetDateTime) -> Result<(), Ended> {
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return Err(Ended::Answered(UpstreamFailure::Credential));
    }
    let busy = || UpstreamFailure::Unavailable { retry_after: retry_after(headers, now) };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return Err(Ended::TurnedAway(busy()));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Ended::Answered(busy()));
    }
    // Said by what stands before the EHR: it has no answer of the EHR itself.
    if status == StatusCode::BAD_GATEWAY || status == StatusCode::GATEWAY_TIMEOUT {
        return Err(Ended::TurnedAway(UpstreamFailure::Unreachable));
    }
    // Redirects are never followed with credentials; a part of a body cannot be judged.
    if status.is_redirection() || status.is_informational() || headers.contains_key(CONTENT_RANGE) {
        return Err(Ended::Answered(UpstreamFailure::Unintelligible));
    }
    Ok(())
}

pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, UpstreamFailure> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Encoding::Identity),
        (Some(value), None) if value == "identity" => Ok(Encoding::Identity),
        (Some(value), None) if value == "gzip" || value == "x-gzip" => Ok(Encoding::Gzip),
        (Some(_), _) => Err(UpstreamFailure::Unintelligible),
    }
}

/// Unpacks within the bound of an answer: a bomb costs no more than `limit` bytes.
pub(super) fn decode(encoding: Encoding, body: Bytes, limit: usize) -> Result<Bytes, UpstreamFailure> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => {
            let mut out = Vec::new();
            let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            GzDecoder::new(&*body).take(bound).read_to_end(&mut out).map_err(|_| UpstreamFailure::Unintelligible)?;
            if out.len() > limit { Err(UpstreamFailure::TooLarge) } else { Ok(Bytes::from(out)) }
        }
    }
}

/// FHIR JSON in UTF-8, and nothing else.
pub(super) fn json_type(headers: &HeaderMap) -> Result<(), UpstreamFailure> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(UpstreamFailure::Unintelligible) };
    let text = value.to_str().map_err(|_| UpstreamFailure::Unintelligible)?;
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let json = ["application/fhir+json", "application/json", "application/json+fhir"];
    if !json.iter().any(|known| media.eq_ignore_ascii_case(known)) {
        return Err(UpstreamFailure::Unintelligible);
    }
    let utf8 = parts.all(|part| match part.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        // R4 http.html: the fhirVersion parameter names another version than ours only by mistake.
        Some((name, version)) if name.eq_ignore_ascii_case("fhirversion") => {
            version.trim_matches('"').starts_with("4.0")
        }
        Some(_) | None => true,
    });
    if utf8 { Ok(()) } else { Err(UpstreamFailure::Unintelligible) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http::HeaderValue;

    use super::*;

    fn typed(value: &'static str) -> Result<(), UpstreamFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        json_type(&headers)
    }

    #[test]
    fn only_fhir_json_in_utf8_is_read() {
        for right in [
            "application/fhir+json",
            "application/fhir+json; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/fhir+json; fhirVersion=4.0",
        ] {
            assert_eq!(typed(right), Ok(()), "{right}");
        }
        for wrong in [
            "application/fhir+xml",
            "text/html",
            "text/plain",
            "application/fhir+json; charset=utf-16",
            "application/fhir+json; fhirVersion=5.0",
            "",
        ] {
            assert_eq!(typed(wrong), Err(UpstreamFailure::Unintelligible), "{wrong}");
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_bound() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gz.write_all(&vec![b' '; 1 << 20]).unwrap();
        let packed = Bytes::from(gz.finish().unwrap());
        assert_eq!(decode(Encoding::Gzip, packed.clone(), 1 << 16), Err(UpstreamFailure::TooLarge));
        assert_eq!(decode(Encoding::Gzip, packed.clone(), 1 << 20).map(|body| body.len()), Ok(1 << 20));
        assert_eq!(decode(Encoding::Gzip, packed.slice(..64), 1 << 20), Err(UpstreamFailure::Unintelligible));
    }

    #[test]
    fn only_whole_answers_of_the_ehr_itself_are_read() {
        let none = HeaderMap::new();
        let judged = |status: StatusCode, headers: &HeaderMap| acceptable(status, headers, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(judged(StatusCode::OK, &none), Ok(()));
        assert_eq!(judged(StatusCode::NOT_FOUND, &none), Ok(()));
        let unintelligible = Err(Ended::Answered(UpstreamFailure::Unintelligible));
        assert_eq!(judged(StatusCode::FOUND, &none), unintelligible);
        let mut partial = HeaderMap::new();
        partial.insert(CONTENT_RANGE, HeaderValue::from_static("bytes 0-1/2"));
        assert_eq!(judged(StatusCode::PARTIAL_CONTENT, &partial), unintelligible);
        let away = Err(Ended::TurnedAway(UpstreamFailure::Unreachable));
        assert_eq!(judged(StatusCode::BAD_GATEWAY, &none), away);
        assert_eq!(judged(StatusCode::GATEWAY_TIMEOUT, &none), away);
    }
}
