//! One request to an endpoint below `{base_url}/auth/`.

use bytes::Bytes;
use fhirwall_certs::peer::PeerIdentity;
use http::{HeaderMap, Method};
use time::OffsetDateTime;

use super::parameters::{Parameters, Unreadable};

/// The endpoints that the gateway serves in front and broker mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthEndpoint {
    Authorize,
    /// Where the other server sends the browser back to us.
    Callback,
    /// The consent page's form.
    Consent,
    Token,
    Introspect,
    Revoke,
    Jwks,
    OpenidConfiguration,
}

impl AuthEndpoint {
    /// By what stands after `{base_url}/auth/`.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "authorize" => Some(Self::Authorize),
            "callback" => Some(Self::Callback),
            "consent" => Some(Self::Consent),
            "token" => Some(Self::Token),
            "introspect" => Some(Self::Introspect),
            "revoke" => Some(Self::Revoke),
            "jwks" => Some(Self::Jwks),
            ".well-known/openid-configuration" => Some(Self::OpenidConfiguration),
            _ => None,
        }
    }

    /// The methods it takes.
    pub fn takes(self, method: &Method) -> bool {
        let get = *method == Method::GET || *method == Method::HEAD;
        let post = *method == Method::POST;
        match self {
            // SMART App Launch 2.2: GET and POST at the authorization endpoint.
            Self::Authorize => get || post,
            Self::Callback | Self::Jwks | Self::OpenidConfiguration => get,
            Self::Consent | Self::Token | Self::Introspect | Self::Revoke => post,
        }
    }

    /// For `Allow` (RFC 9110 section 10.2.1).
    pub const fn allowed(self) -> http::HeaderValue {
        match self {
            Self::Authorize => http::HeaderValue::from_static("GET, HEAD, POST"),
            Self::Callback | Self::Jwks | Self::OpenidConfiguration => http::HeaderValue::from_static("GET, HEAD"),
            Self::Consent | Self::Token | Self::Introspect | Self::Revoke => http::HeaderValue::from_static("POST"),
        }
    }

    /// How its answers are shared with pages of other origins.
    pub const fn cors(self) -> super::cors::Target {
        match self {
            Self::Authorize | Self::Callback | Self::Consent => super::cors::Target::Page,
            Self::Token | Self::Introspect | Self::Revoke => super::cors::Target::Token,
            Self::Jwks | Self::OpenidConfiguration => super::cors::Target::Discovery,
        }
    }
}

/// A request, as far as these endpoints look at it.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    pub method: &'a Method,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub peer: Option<&'a PeerIdentity>,
    pub now: OffsetDateTime,
}

impl<'a> AuthRequest<'a> {
    pub fn new(request: &'a http::Request<Bytes>, peer: Option<&'a PeerIdentity>, now: OffsetDateTime) -> Self {
        Self {
            method: request.method(),
            query: request.uri().query(),
            headers: request.headers(),
            body: request.body(),
            peer,
            now,
        }
    }

    pub fn parameters(&self) -> Result<Parameters, Unreadable> {
        Parameters::of(self.method, self.headers, self.query, self.body)
    }
}
