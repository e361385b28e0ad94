//! Addresses on the web that a configuration names: none of them in plain text off this machine.

use std::fmt;
use std::ops::Deref;

use serde_json::{Value as Json, json};
use url::{Host, Url};

use crate::config::read::{At, Setting};
use crate::config::shape::{Form, Shape};

/// An https URL, or an http URL of this machine's loopback; without credentials, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebUrl(Url);

impl WebUrl {
    /// The URL as text without a slash at its end: what paths are appended to, and what audiences are compared with.
    pub fn base(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The URL.
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl Deref for WebUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base())
    }
}

/// Does the URL name this machine alone?
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // Of a scheme that URLs know nothing of, as `redis`, an address is left a name (WHATWG URL 3.5, opaque hosts).
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn parse(at: &At<'_>) -> Option<Url> {
    let text = at.text()?;
    let url = match Url::parse(&text) {
        Ok(url) => url,
        Err(error) => return at.refuse(format!("this is no URL: {error}"), "write it whole, as `https://host/path`"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return at.refuse("a URL may not carry credentials", "name them in their own keys, as files");
    }
    if url.fragment().is_some() {
        return at.refuse("a fragment (`#…`) has no place here", "remove it");
    }
    Some(url)
}

impl Setting for WebUrl {
    fn read(at: &At<'_>) -> Option<Self> {
        let url = parse(at)?;
        if url.query().is_some() {
            return at.refuse("a query (`?…`) has no place here", "remove it");
        }
        match url.scheme() {
            "https" => Some(Self(url)),
            "http" if is_loopback(&url) => Some(Self(url)),
            "http" => at.refuse(
                "plain text leaves this machine (45 CFR 164.312(e)(1))",
                "use https; http is accepted to loopback only, as `http://127.0.0.1:8080/fhir`",
            ),
            _ => at.refuse("this scheme has no use here", "use https"),
        }
    }

    fn shape() -> Shape {
        Shape::Text(Form {
            what: "an https URL, or http to loopback",
            pattern: Some("^(https://|http://(127\\.|localhost|\\[::1\\]))"),
            example: "https://fhir.example.org/fhir",
        })
    }

    fn shown(&self) -> Json {
        json!(self.base())
    }
}

/// Where a partner's app is sent back to (RFC 9700 section 2.1: compared exactly, so written exactly).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedirectUri(String);

impl RedirectUri {
    /// The URI as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for RedirectUri {
    fn read(at: &At<'_>) -> Option<Self> {
        let url = parse(at)?;
        let written = at.text()?;
        if written.contains('*') {
            return at.refuse(
                "a wildcard would send codes to whoever matches it (RFC 9700 section 2.1)",
                "list each redirect URI whole",
            );
        }
        match url.scheme() {
            "https" => Some(Self(written)),
            "http" if is_loopback(&url) => Some(Self(written)),
            "http" => at.refuse("a code would come back in plain text", "use https, or http to loopback for native apps"),
            // RFC 8252 section 7.1: a native app's own scheme is a reversed domain name.
            scheme if scheme.contains('.') => Some(Self(written)),
            _ => at.refuse(
                "this is no scheme for a redirect",
                "use https, or an app's own scheme in reversed-domain form, as `com.example.app:/cb` (RFC 8252 section 7.1)",
            ),
        }
    }

    fn shape() -> Shape {
        Shape::Text(Form {
            what: "a redirect URI, compared exactly",
            pattern: Some("^[^*#]+$"),
            example: "https://app.example.org/callback",
        })
    }

    fn shown(&self) -> Json {
        json!(self.0)
    }
}

/// A browser origin (scheme, host, port), compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// The origin as a browser writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for Origin {
    fn read(at: &At<'_>) -> Option<Self> {
        let url = parse(at)?;
        let written = at.text()?;
        let origin = url.origin().ascii_serialization();
        if written.contains('*') || written == "null" {
            return at.refuse("an origin must be one site", "list each origin, as `https://app.example.org`");
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return at.refuse("an origin in plain text can be forged on the way", "use https");
        }
        if written.trim_end_matches('/') != origin {
            return at.refuse("an origin is scheme, host and port alone", "write it as `https://app.example.org`");
        }
        Some(Self(origin))
    }

    fn shape() -> Shape {
        Shape::Text(Form {
            what: "a browser origin, compared exactly",
            pattern: Some("^https?://[^/*]+$"),
            example: "https://app.example.org",
        })
    }

    fn shown(&self) -> Json {
        json!(self.0)
    }
}
