//! The front filter: what HTTP parsers disagree on, or what pingora lets through, is refused before anything reads it.
//!
//! Ground: RFC 9112 sections 2.2, 3.2, 5, 6; RFC 9113 section 8.2; attack cases 35, 39, 40, 41.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method};
use pingora::http::RequestHeader;

use super::connection::served_version;

/// Why a request was refused before it was interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontRefusal {
    /// Not one clear HTTP request.
    Malformed,
    /// It names another host than the TLS handshake did.
    Misdirected,
    /// A method that FHIR does not use (`TRACE`, `CONNECT`, …).
    MethodNotAllowed,
    HeaderTooLarge,
    BodyTooLarge,
    TooSlow,
    /// The client is gone: nothing to answer.
    Disconnected,
}

/// The request target, split but not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub path: String,
    pub query: Option<String>,
}

/// Refuses what is ambiguous. `raw` is the request's header as received, on HTTP/1.1.
pub fn inspect(head: &RequestHeader, raw: Option<&[u8]>, max_header_bytes: usize) -> Result<Target, FrontRefusal> {
    if let Some(raw) = raw {
        if raw.len() > max_header_bytes {
            return Err(FrontRefusal::HeaderTooLarge);
        }
        inspect_raw(raw)?;
    }
    if !served_version(head.version) {
        return Err(FrontRefusal::Malformed);
    }
    match head.method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {}
        _ => return Err(FrontRefusal::MethodNotAllowed),
    }
    inspect_fields(&head.headers, raw.is_some())?;
    let bodiless = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if bodiless && (head.headers.contains_key(TRANSFER_ENCODING) || declared_length(&head.headers)?.unwrap_or(0) > 0) {
        return Err(FrontRefusal::Malformed);
    }
    inspect_target(head.raw_path())
}

/// Refuses a request for another host than the TLS handshake named (RFC 6066 section 3; RFC 9110 section 7.4): whoever judged the
/// connection by its name has judged another. A handshake that names none, as one with an address does, says nothing here.
///
/// # Errors
/// When both name a host and the names differ; ports, case and a final dot count for nothing.
pub fn of_the_handshake(server_name: Option<&str>, authority: Option<&str>) -> Result<(), FrontRefusal> {
    let (Some(named), Some(asked)) = (server_name, authority) else { return Ok(()) };
    let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let host = asked.rsplit_once(':').filter(|(_, digits)| port(digits)).map_or(asked, |(host, _)| host);
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if bare(named) == bare(host) { Ok(()) } else { Err(FrontRefusal::Misdirected) }
}

/// `Content-Length`, where there is one.
pub fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, FrontRefusal> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(FrontRefusal::Malformed);
    }
    let digits = value.as_bytes();
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FrontRefusal::Malformed);
    }
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(FrontRefusal::Malformed)
}

/// Origin form alone (RFC 9112 3.2.1), printable ASCII alone, no fragment.
fn inspect_target(target: &[u8]) -> Result<Target, FrontRefusal> {
    let legal =
        |b: &u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'}');
    if target.first() != Some(&b'/') || target.len() > 8 * 1024 || !target.iter().all(legal) {
        return Err(FrontRefusal::Malformed);
    }
    let text = std::str::from_utf8(target).map_err(|_| FrontRefusal::Malformed)?;
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (text, None),
    };
    Ok(Target { path: path.to_owned(), query })
}

/// On HTTP/1.1, the bytes themselves: every line ends in CRLF, no line is folded, no name is unusual, and the framing is
/// said once.
fn inspect_raw(raw: &[u8]) -> Result<(), FrontRefusal> {
    let mut lines = raw.split(|b| *b == b'\n');
    let request_line = lines.next().and_then(|line| line.strip_suffix(b"\r")).ok_or(FrontRefusal::Malformed)?;
    if request_line.iter().filter(|b| **b == b' ').count() != 2 || request_line.iter().any(|b| *b < b' ' || *b == 0x7f)
    {
        return Err(FrontRefusal::Malformed);
    }
    let (mut lengths, mut encodings, mut hosts) = (0u32, 0u32, 0u32);
    let mut ended = false;
    for line in lines {
        if ended {
            // `split` yields one empty piece behind the last LF.
            return if line.is_empty() {
                count_framing(lengths, encodings, hosts)
            } else {
                Err(FrontRefusal::Malformed)
            };
        }
        let line = line.strip_suffix(b"\r").ok_or(FrontRefusal::Malformed)?;
        if line.is_empty() {
            ended = true;
            continue;
        }
        let name = field_name(line)?;
        lengths = lengths.saturating_add(u32::from(name.eq_ignore_ascii_case(b"content-length")));
        encodings = encodings.saturating_add(u32::from(name.eq_ignore_ascii_case(b"transfer-encoding")));
        hosts = hosts.saturating_add(u32::from(name.eq_ignore_ascii_case(b"host")));
    }
    Err(FrontRefusal::Malformed)
}

fn count_framing(lengths: u32, encodings: u32, hosts: u32) -> Result<(), FrontRefusal> {
    if lengths > 1 || encodings > 1 || (lengths > 0 && encodings > 0) || hosts != 1 {
        return Err(FrontRefusal::Malformed);
    }
    Ok(())
}

fn field_name(line: &[u8]) -> Result<&[u8], FrontRefusal> {
    let mut halves = line.splitn(2, |b| *b == b':');
    let (Some(name), Some(value)) = (halves.next(), halves.next()) else { return Err(FrontRefusal::Malformed) };
    // An underscore becomes a hyphen in CGI-like servers: `X_Forwarded_User` would pass for `X-Forwarded-User`.
    let legal = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|' | b'~'
            )
    };
    if name.is_empty() || !name.iter().all(legal) {
        return Err(FrontRefusal::Malformed);
    }
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(FrontRefusal::Malformed);
    }
    Ok(name)
}

fn inspect_fields(headers: &HeaderMap, http1: bool) -> Result<(), FrontRefusal> {
    for (name, value) in headers {
        if name.as_str().contains('_') || value.to_str().is_err() {
            return Err(FrontRefusal::Malformed);
        }
    }
    for once in [http::header::AUTHORIZATION, http::header::CONTENT_TYPE, http::header::IF_MATCH, HOST, EXPECT] {
        if headers.get_all(&once).iter().count() > 1 {
            return Err(FrontRefusal::Malformed);
        }
    }
    if headers.contains_key(UPGRADE) || override_asked(headers) {
        return Err(FrontRefusal::Malformed);
    }
    if headers.get(EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(FrontRefusal::Malformed);
    }
    match headers.get(TRANSFER_ENCODING) {
        // RFC 9113 8.2.2: connection-specific fields make an HTTP/2 request malformed.
        Some(_) if !http1 => Err(FrontRefusal::Malformed),
        Some(value) if value.as_bytes() != b"chunked" => Err(FrontRefusal::Malformed),
        Some(_) | None => Ok(()),
    }
}

fn override_asked(headers: &HeaderMap) -> bool {
    ["x-http-method-override", "x-http-method", "x-method-override"].iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(raw: &str) -> Result<(), FrontRefusal> {
        inspect_raw(raw.as_bytes())
    }

    #[test]
    fn what_parsers_disagree_on_is_refused() {
        for raw in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Auth: b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        ] {
            assert_eq!(judged(raw), Err(FrontRefusal::Malformed), "{raw:?}");
        }
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(judged("GET /a?b=c HTTP/1.1\r\nHost: a\r\nX-A: b\tc\r\n\r\n"), Ok(()));
        assert_eq!(judged("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), Ok(()));
        assert_eq!(judged("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n"), Ok(()));
    }

    #[test]
    fn the_target_is_in_origin_form() {
        for wrong in ["", "*", "http://h/Patient", "Patient", "/a b", "/a#b", "/a\\b", "/é"] {
            assert_eq!(inspect_target(wrong.as_bytes()), Err(FrontRefusal::Malformed), "{wrong}");
        }
        assert_eq!(
            inspect_target(b"/fhir/Patient?name=a%20b"),
            Ok(Target { path: "/fhir/Patient".into(), query: Some("name=a%20b".into()) })
        );
    }

    #[test]
    fn a_request_is_for_the_host_that_the_handshake_named() {
        for (named, asked) in [
            (Some("fhir.example"), Some("fhir.example")),
            (Some("fhir.example"), Some("FHIR.example:8443")),
            (Some("fhir.example"), Some("fhir.example.")),
            (None, Some("fhir.example")),
            (None, Some("[::1]:8443")),
            (Some("fhir.example"), None),
        ] {
            assert_eq!(of_the_handshake(named, asked), Ok(()), "{named:?} {asked:?}");
        }
        for asked in [
            "other.example",
            "fhir.example.evil",
            "",
            "127.0.0.1:8443",
            "[::1]",
            "fhir.example:8443:1",
            "fhir.example:x",
        ] {
            assert_eq!(of_the_handshake(Some("fhir.example"), Some(asked)), Err(FrontRefusal::Misdirected), "{asked}");
        }
    }

    #[test]
    fn a_length_is_digits_said_once() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, http::HeaderValue::from_static(value));
            }
            declared_length(&headers)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["12"]), Ok(Some(12)));
        for wrong in [&["+1"][..], &["1,1"], &[""], &["1", "1"], &["0x1"], &["9999999999999999999"]] {
            assert_eq!(with(wrong), Err(FrontRefusal::Malformed), "{wrong:?}");
        }
    }
}
