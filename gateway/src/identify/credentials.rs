//! The credentials of one request: exactly one `Authorization` header, and nowhere else.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::error::IdentifyError;

/// The longest token that is looked at. Longer ones are refused before any of it is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The token of one request, and the scheme under which it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub scheme: Scheme,
    token: &'a str,
}

/// The schemes that this gateway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// RFC 9449.
    Dpop,
}

impl<'a> Credentials<'a> {
    /// Reads the one `Authorization` header: scheme in any case, one space, one `token68` (RFC 9110 section 11.4).
    ///
    /// Refuses a second header, a tab or several spaces, another scheme, and bytes outside `token68`.
    pub fn from_headers(headers: &'a HeaderMap) -> Result<Self, IdentifyError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Err(IdentifyError::NoCredentials);
        };
        if values.next().is_some() {
            return Err(IdentifyError::Malformed("more than one Authorization header"));
        }
        let text = value.to_str().map_err(|_| IdentifyError::Malformed("Authorization is not ASCII"))?;
        let Some((scheme, token)) = text.split_once(' ') else {
            return Err(IdentifyError::Malformed("Authorization is not scheme and token"));
        };
        let scheme = if scheme.eq_ignore_ascii_case("bearer") {
            Scheme::Bearer
        } else if scheme.eq_ignore_ascii_case("dpop") {
            Scheme::Dpop
        } else {
            // A scheme that this resource does not take is no credential for it.
            return Err(IdentifyError::NoCredentials);
        };
        if !is_token68(token) {
            return Err(IdentifyError::Malformed("the token has illegal characters"));
        }
        Ok(Self { scheme, token })
    }

    /// The token itself. Never to be logged, stored or sent on.
    pub fn reveal(&self) -> &'a str {
        self.token
    }
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// Refuses a token in the query or in a form body (RFC 9700 section 4.3.2), whether or not a header is there too.
///
/// `parameters` is a raw `application/x-www-form-urlencoded` text: the query, or the body of a form.
pub fn no_token_in(parameters: &str) -> Result<(), IdentifyError> {
    let named = url::form_urlencoded::parse(parameters.as_bytes())
        .any(|(name, _)| matches!(&*name.to_ascii_lowercase(), "access_token" | "id_token" | "refresh_token"));
    if named { Err(IdentifyError::Malformed("a token may stand in the Authorization header alone")) } else { Ok(()) }
}

fn is_token68(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static [u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn reads(value: &'static str, scheme: Scheme) {
        let headers = headers(&[value.as_bytes()]);
        let credentials = Credentials::from_headers(&headers).unwrap();
        assert_eq!((credentials.scheme, credentials.reveal()), (scheme, "a.b-c_d~e+f/g=="));
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        reads("Bearer a.b-c_d~e+f/g==", Scheme::Bearer);
        reads("bearer a.b-c_d~e+f/g==", Scheme::Bearer);
        reads("BEARER a.b-c_d~e+f/g==", Scheme::Bearer);
        reads("DPoP a.b-c_d~e+f/g==", Scheme::Dpop);
        reads("dpop a.b-c_d~e+f/g==", Scheme::Dpop);
    }

    #[test]
    fn anything_but_one_plain_header_is_refused() {
        let malformed = |values: &[&'static [u8]]| {
            let headers = headers(values);
            let error = Credentials::from_headers(&headers).unwrap_err();
            assert!(matches!(error, IdentifyError::Malformed(_)), "{error:?}");
        };
        malformed(&[b"Bearer a", b"Bearer a"]);
        malformed(&[b"Bearer a", b"Basic YTpi"]);
        malformed(&[b"Bearer\ta"]);
        malformed(&[b"Bearer  a"]);
        malformed(&[b"Bearer a b"]);
        malformed(&[b"Bearer a,Bearer b"]);
        malformed(&[b"Bearer a\tb"]);
        malformed(&[b"Bearer "]);
        malformed(&[b"Bearer"]);
        malformed(&[b"Bearer =="]);
        malformed(&[b"Bearer a=b"]);
        malformed(&[b"Bearer \xff"]);
    }

    #[test]
    fn nothing_and_another_scheme_are_no_credentials() {
        assert_eq!(Credentials::from_headers(&headers(&[])), Err(IdentifyError::NoCredentials));
        assert_eq!(Credentials::from_headers(&headers(&[b"Basic YTpi"])), Err(IdentifyError::NoCredentials));
    }

    #[test]
    fn tokens_in_parameters_are_refused() {
        for parameters in ["access_token=x", "a=b&access_token=", "access%5Ftoken=x", "ACCESS_TOKEN=x", "id_token=x"] {
            assert!(no_token_in(parameters).is_err(), "{parameters}");
        }
        for parameters in ["", "patient=a", "token=x", "code=access_token"] {
            assert!(no_token_in(parameters).is_ok(), "{parameters}");
        }
    }

    #[test]
    fn the_token_does_not_print() {
        let headers = headers(&[b"Bearer secret"]);
        assert!(!format!("{:?}", Credentials::from_headers(&headers).unwrap()).contains("secret"));
    }
}
