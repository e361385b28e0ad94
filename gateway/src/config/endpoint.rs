//! The EHR's FHIR endpoints: what clients see, and how the gateway reaches what stands behind.

use std::time::Duration;

use fhir_profiles::ids::InstanceId;
use fhir_profiles::reference::Reference;
use serde_json::Value as Json;

use crate::config::address::{WebUrl, is_loopback};
use crate::config::read::{At, Setting};
use crate::config::section::{section, words};
use crate::config::shape::Shape;
use crate::config::value::{FilePath, Place, Sha256};

section! {
    /// One FHIR endpoint that clients see.
    pub struct Endpoint {
        /// Its name in records, metrics and messages.
        name: String,
        /// The base URL that clients see: the audience of tokens, the start of links, the CapabilityStatement's address.
        base_url: WebUrl,
        /// The FHIR version.
        version: FhirVersion = FhirVersion::R4,
        /// The EHR behind it.
        upstream: Upstream,
        /// How 42 CFR Part 2 binds the holder of these records.
        part2: EndpointPart2 = EndpointPart2 { role: Part2Role::Program, programs: Part2Programs::none() },
        /// How strong and how fresh the authentication of users must be here (RFC 9470).
        authentication: EndpointAuthentication,
    }
}

section! {
    /// How strong and how fresh the authentication of users must be (RFC 9470): a token of less is answered 401 with what
    /// to come back with. Tokens that no user stands behind are not concerned. Policies may ask for more
    /// (`@reason("stronger-authentication-needed")`); they answer with `risk.step_up_acr_values` and `risk.step_up_max_age`.
    pub struct EndpointAuthentication {
        /// The token's `acr` must be one of these; empty: any will do.
        acr_values: Vec<String> = Vec::new(),
        /// How long ago the user may have signed in; without it, any time will do.
        max_age: Option<Duration>,
        /// Ask it of requests that change records, and of no others.
        writes_only: bool = false,
    }
    check check_authentication;
}

fn check_authentication(authentication: &EndpointAuthentication, at: &At<'_>) {
    let asks = !authentication.acr_values.is_empty() || authentication.max_age.is_some();
    if authentication.writes_only && !asks {
        at.problem_at("writes_only", "nothing is asked of the authentication", "add `acr_values` or `max_age`");
    }
    // RFC 9470 section 3: a list split by spaces, in quotes.
    let plain = |acr: &String| !acr.is_empty() && acr.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if !authentication.acr_values.iter().all(plain) {
        at.problem_at("acr_values", "a value has characters that no challenge can carry", "write them without spaces");
    }
}

impl Endpoint {
    /// The path of the base URL, without a slash at its end: empty when the base is the host's root.
    pub fn base_path(&self) -> &str {
        self.base_url.path().trim_end_matches('/')
    }
}

words! {
    /// A version of FHIR.
    pub enum FhirVersion {
        /// FHIR R4, 4.0.1.
        R4 = "R4",
    }
}

section! {
    /// How 42 CFR Part 2 binds the holder of these records.
    pub struct EndpointPart2 {
        /// The holder's role.
        role: Part2Role = Part2Role::Program,
        /// What marks a record as one of a Part 2 program, whatever its codes and labels say (42 CFR 2.11, 2.12).
        programs: Part2Programs = Part2Programs::none(),
    }
}

section! {
    /// What marks a record as one of a Part 2 program. Any one of these suffices; a record also counts as the program's when
    /// the Encounter or EpisodeOfCare that it refers to does, and a Binary when the document that refers to it does.
    pub struct Part2Programs {
        /// The program's own entries in the EHR's directory, as `Organization/harbor-house` or `Location/methadone-clinic`:
        /// organizations, locations, services, practitioners and their roles. A record that refers to one is the program's.
        references: Vec<String> = Vec::new(),
        /// Identifiers of the program, such as its NPI. A record that holds one is the program's.
        identifiers: Vec<Part2Identifier> = Vec::new(),
        /// Source tags: a record is the program's when its `meta.source` is one of these, or continues it after `#` or `/`.
        sources: Vec<String> = Vec::new(),
        /// A record is the program's when its `meta.tag` is one of these.
        tags: Vec<Part2Tag> = Vec::new(),
    }
    check check_programs;
}

section! {
    /// An identifier of a Part 2 program.
    pub struct Part2Identifier {
        /// Its system, as `http://hl7.org/fhir/sid/us-npi`.
        system: String,
        /// Its value.
        value: String,
    }
}

section! {
    /// A tag that the records of a Part 2 program carry.
    pub struct Part2Tag {
        /// Its system.
        system: String,
        /// Its code.
        code: String,
    }
}

impl Part2Programs {
    pub(crate) const fn none() -> Self {
        Self { references: Vec::new(), identifiers: Vec::new(), sources: Vec::new(), tags: Vec::new() }
    }
}

/// The instance that a reference in [`Part2Programs::references`] names; none for one that would mark patients' records by
/// what is no program.
pub(crate) fn program_instance(reference: &str) -> Option<InstanceId> {
    const PROGRAMS: [&str; 5] = ["Organization", "Location", "HealthcareService", "Practitioner", "PractitionerRole"];
    match Reference::parse(reference) {
        Reference::Relative { instance, version: None } => {
            PROGRAMS.contains(&instance.kind.as_str()).then_some(instance)
        }
        Reference::Relative { .. }
        | Reference::Absolute { .. }
        | Reference::Contained(_)
        | Reference::Urn(_)
        | Reference::Opaque => None,
    }
}

fn check_programs(programs: &Part2Programs, at: &At<'_>) {
    for reference in &programs.references {
        if program_instance(reference).is_none() {
            at.problem_at(
                "references",
                format!("`{reference}` names no organization, location, service or practitioner of this server"),
                "write them as `Organization/its-id`",
            );
        }
    }
    if programs.sources.iter().any(|source| source.trim().is_empty()) {
        at.problem_at("sources", "an empty source tag", "write the `meta.source` of the program's records");
    }
}

words! {
    /// The role of the holder of records under 42 CFR Part 2.
    pub enum Part2Role {
        /// A Part 2 program: labelled records leave on a lawful basis only.
        Program = "program",
        /// A covered entity that holds records received under a single consent for treatment, payment and operations, and
        /// need not segregate them (2.12(d)(2)(i)(C)).
        Recipient = "recipient",
    }
}

section! {
    /// The EHR behind an endpoint.
    pub struct Upstream {
        /// Its base URLs; requests are balanced over those that are healthy.
        urls: Vec<WebUrl>,
        /// A Unix socket to connect to, for an EHR in the same pod or machine; then one http://localhost URL gives the path.
        unix_socket: Option<Place>,
        /// The authorities that may vouch for it, PEM; without it, the system's roots.
        ca_file: Option<FilePath>,
        /// Digests (SHA-256 of the public key, SPKI) of which one must be in its chain; empty: no pinning.
        pins_sha256: Vec<Sha256> = Vec::new(),
        /// The certificate that the gateway shows, PEM.
        client_certificate_file: Option<FilePath>,
        /// Its private key, PEM.
        client_key_file: Option<FilePath>,
        /// How the gateway authorizes itself.
        auth: UpstreamAuth = UpstreamAuth::None,
        /// How long one exchange may take.
        timeout: Duration = Duration::from_secs(10),
        /// The EHR honours `_security:not` in searches: then it leaves out what a silent partner may never see. Every row is
        /// judged all the same.
        security_not: bool = false,
        /// How often each URL is asked for its CapabilityStatement (`GET {url}/metadata`, with the gateway's credential), to
        /// see whether it is healthy. One that fails three times in a row is left alone, and tried again after 1 s to 4 s.
        health_interval: Duration = Duration::from_secs(10),
    }
    check check_upstream;
}

/// How the gateway authorizes itself to the EHR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAuth {
    /// By its certificate or its place alone.
    None,
    /// By SMART Backend Services (client credentials with a signed assertion).
    BackendService {
        /// Where tokens are got.
        token_endpoint: WebUrl,
        /// The gateway's client id there.
        client_id: String,
        /// The private key that signs assertions, PEM.
        key_file: FilePath,
        /// The scopes asked for.
        scope: String,
    },
    /// By a header value kept in a file.
    HeaderFile {
        /// The header's name.
        header: String,
        /// The file that holds its value.
        file: FilePath,
    },
}

words! {
    /// The ways for the gateway to authorize itself.
    pub(crate) enum UpstreamAuthKind {
        /// By certificate or place alone.
        None = "none",
        /// SMART Backend Services: needs token_endpoint, client_id, key_file.
        BackendService = "backend-service",
        /// A header whose value a file holds: needs file.
        HeaderFile = "header_file",
    }
}

section! {
    /// How the gateway authorizes itself to the EHR.
    pub(crate) struct UpstreamAuthKeys {
        /// The way.
        kind: UpstreamAuthKind = UpstreamAuthKind::None,
        /// backend-service: where tokens are got.
        token_endpoint: Option<WebUrl>,
        /// backend-service: the gateway's client id.
        client_id: Option<String>,
        /// backend-service: the private key that signs assertions, PEM.
        key_file: Option<FilePath>,
        /// backend-service: the scopes asked for.
        scope: String = "system/*.cruds".to_owned(),
        /// header_file: the header's name.
        header: String = "authorization".to_owned(),
        /// header_file: the file that holds the header's value.
        file: Option<FilePath>,
    }
}

impl Setting for UpstreamAuth {
    fn read(at: &At<'_>) -> Option<Self> {
        let keys = UpstreamAuthKeys::read(at)?;
        let missing = |key: &str, value: bool| {
            if !value {
                at.problem_at(key, format!("`kind: {}` needs this key", shown_word(keys.kind)), format!("add `{key}`"));
            }
        };
        match keys.kind {
            UpstreamAuthKind::None => Some(Self::None),
            UpstreamAuthKind::BackendService => {
                missing("token_endpoint", keys.token_endpoint.is_some());
                missing("client_id", keys.client_id.is_some());
                missing("key_file", keys.key_file.is_some());
                Some(Self::BackendService {
                    token_endpoint: keys.token_endpoint?,
                    client_id: keys.client_id?,
                    key_file: keys.key_file?,
                    scope: keys.scope,
                })
            }
            UpstreamAuthKind::HeaderFile => {
                missing("file", keys.file.is_some());
                if http::HeaderName::try_from(keys.header.as_str()).is_err() {
                    at.problem_at(
                        "header",
                        "this is no header name",
                        "write `authorization`, or the name the EHR expects",
                    );
                }
                Some(Self::HeaderFile { header: keys.header.to_ascii_lowercase(), file: keys.file? })
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self::None)
    }

    fn shape() -> Shape {
        UpstreamAuthKeys::shape()
    }

    fn shown(&self) -> Json {
        let none = UpstreamAuthKeys::absent();
        let keys = match (none, self) {
            (None, _) => return Json::Null,
            (Some(keys), Self::None) => keys,
            (Some(keys), Self::BackendService { token_endpoint, client_id, key_file, scope }) => UpstreamAuthKeys {
                kind: UpstreamAuthKind::BackendService,
                token_endpoint: Some(token_endpoint.clone()),
                client_id: Some(client_id.clone()),
                key_file: Some(key_file.clone()),
                scope: scope.clone(),
                ..keys
            },
            (Some(keys), Self::HeaderFile { header, file }) => UpstreamAuthKeys {
                kind: UpstreamAuthKind::HeaderFile,
                header: header.clone(),
                file: Some(file.clone()),
                ..keys
            },
        };
        keys.shown()
    }
}

fn shown_word(word: impl Setting) -> String {
    word.shown().as_str().unwrap_or_default().to_owned()
}

fn check_upstream(upstream: &Upstream, at: &At<'_>) {
    if upstream.urls.is_empty() {
        at.problem_at("urls", "no EHR to ask", "list at least one URL");
    }
    match (&upstream.client_certificate_file, &upstream.client_key_file) {
        (Some(_), None) => at.problem_at("client_key_file", "a certificate without its key", "add `client_key_file`"),
        (None, Some(_)) => {
            at.problem_at("client_certificate_file", "a key without its certificate", "add `client_certificate_file`")
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let local = |url: &WebUrl| url.scheme() == "http" && is_loopback(url);
    if upstream.unix_socket.is_some() && !(upstream.urls.len() == 1 && upstream.urls.iter().all(local)) {
        at.problem_at("urls", "with `unix_socket` one URL gives the path", "write `[http://localhost/fhir]`");
    }
    let plain = upstream.urls.iter().any(|url| url.scheme() == "http");
    if plain && !upstream.pins_sha256.is_empty() {
        at.problem_at("pins_sha256", "a pin protects nothing over plain http", "use https, or remove the pins");
    }
}
