//! OAuth parameters: each at most once (RFC 6749 section 3.1), of bounded size.

use std::collections::BTreeMap;
use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

/// The parameters of one request to an OAuth endpoint. Their values may be secrets: they do not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, String>);

/// Why parameters cannot be read. The text is for the client's developer.
pub type Unreadable = &'static str;

const MAX_BYTES: usize = 64 * 1024;

impl Parameters {
    /// Reads a query or a form. Refuses repeated names; leaves out empty values, as RFC 6749 section 3.1 says.
    pub fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        if text.len() > MAX_BYTES {
            return Err("the request is too large");
        }
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text) {
            if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err("a parameter is repeated");
            }
        }
        parameters.retain(|_, value| !value.is_empty());
        Ok(Self(parameters))
    }

    /// The parameters of a GET with a query, or of a POST with a form and no query.
    pub fn of(method: &Method, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, Unreadable> {
        if *method == Method::GET {
            return Self::parse(query.unwrap_or_default().as_bytes());
        }
        let form = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.split(';').next())
            .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        if !form {
            return Err("the body must be a form");
        }
        if query.is_some_and(|query| !query.is_empty()) {
            return Err("parameters stand in the body alone");
        }
        Self::parse(body)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn need(&self, name: &'static str) -> Result<&str, Unreadable> {
        self.get(name).ok_or(match name {
            "response_type" => "response_type is missing",
            "client_id" => "client_id is missing",
            "redirect_uri" => "redirect_uri is missing",
            "state" => "state is missing",
            "scope" => "scope is missing",
            "aud" => "aud is missing",
            "code" => "code is missing",
            "code_verifier" => "code_verifier is missing",
            "refresh_token" => "refresh_token is missing",
            "grant_type" => "grant_type is missing",
            "token" => "token is missing",
            _ => "a parameter is missing",
        })
    }

    /// The names with this prefix whose value is as given: checkboxes.
    pub fn checked<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter_map(move |name| name.strip_prefix(prefix))
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn repeated_parameters_are_refused_and_empty_ones_are_not_there() {
        assert!(Parameters::parse(b"scope=a&scope=b").is_err());
        assert!(Parameters::parse(b"scope=a&sc%6Fpe=b").is_err());
        let read = Parameters::parse(b"scope=a+b&state=&aud=https%3A%2F%2Fx").unwrap();
        assert_eq!((read.get("scope"), read.get("state"), read.get("aud")), (Some("a b"), None, Some("https://x")));
        assert!(Parameters::parse(&vec![b'a'; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn a_post_has_its_parameters_in_a_form_alone() {
        let form = HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
        )]);
        assert!(Parameters::of(&Method::POST, &form, None, b"a=b").is_ok());
        assert!(Parameters::of(&Method::POST, &form, Some("a=b"), b"a=b").is_err());
        assert!(Parameters::of(&Method::POST, &HeaderMap::new(), None, b"a=b").is_err());
        assert_eq!(Parameters::of(&Method::GET, &HeaderMap::new(), Some("a=b"), b"").unwrap().get("a"), Some("b"));
    }
}
