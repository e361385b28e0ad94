//! Who may issue tokens, and how the gateway takes part in SMART App Launch.

use std::time::Duration;

use crate::config::address::WebUrl;
use crate::config::read::{At, Setting as _};
use crate::config::section::{section, words, words_of};
use crate::config::value::FilePath;
use crate::identify::issuer::SignatureAlgorithm;

section! {
    /// An authorization server whose access tokens are accepted.
    pub struct Issuer {
        /// Its issuer identifier: compared with `iss` exactly.
        issuer: String,
        /// The authorities that may vouch for its endpoints, PEM; without it, the system's roots.
        ca_file: Option<FilePath>,
        /// What `aud` must contain one of; without it, the endpoints' base URLs.
        audience: Option<Vec<String>>,
        /// The signature algorithms accepted. There is no way to accept `none` or a shared secret (RFC 8725 section 3.1).
        algorithms: Vec<SignatureAlgorithm> = ALGORITHMS.to_vec(),
        /// The `typ` of access tokens. `JWT` is for issuers that do not mark them (RFC 9068): id_tokens are then told apart
        /// and refused.
        access_token_typ: Vec<String> = vec!["at+jwt".to_owned()],
        /// Where facts stand in this issuer's tokens.
        claims: Claims,
        /// Its keys; without it, found by discovery.
        jwks_uri: Option<WebUrl>,
        /// For opaque tokens (RFC 7662).
        introspection: Option<Introspection>,
        /// How old its keys may grow before they are fetched again.
        jwks_refresh: Duration = Duration::from_secs(300),
        /// How old its keys may grow while fetching them fails: a key that it withdrew is trusted no longer than this.
        jwks_stale_limit: Duration = Duration::from_secs(3600),
        /// How far its clock may differ from ours: tokens count this much longer, and this much sooner. At most 2m.
        clock_skew: Duration = Duration::from_secs(30),
    }
    check check_issuer;
}

words_of!(SignatureAlgorithm {
    Rs256 = "RS256", "RSA PKCS#1 with SHA-256.";
    Rs384 = "RS384", "RSA PKCS#1 with SHA-384.";
    Rs512 = "RS512", "RSA PKCS#1 with SHA-512.";
    Ps256 = "PS256", "RSA-PSS with SHA-256.";
    Ps384 = "PS384", "RSA-PSS with SHA-384.";
    Ps512 = "PS512", "RSA-PSS with SHA-512.";
    Es256 = "ES256", "ECDSA P-256 with SHA-256.";
    Es384 = "ES384", "ECDSA P-384 with SHA-384.";
    EdDsa = "EdDSA", "Ed25519.";
});

/// What is accepted when a configuration says nothing (product.md section 3).
const ALGORITHMS: &[SignatureAlgorithm] = &[
    SignatureAlgorithm::Rs256,
    SignatureAlgorithm::Rs384,
    SignatureAlgorithm::Es256,
    SignatureAlgorithm::Es384,
    SignatureAlgorithm::Ps256,
    SignatureAlgorithm::EdDsa,
];

section! {
    /// Where facts stand in this issuer's tokens: a claim's name, or a JSON pointer when it starts with a slash.
    pub struct Claims {
        /// The client: `client_id` (RFC 9068) or `azp`.
        client_id: String = "client_id".to_owned(),
        /// The patient in context.
        patient: String = "patient".to_owned(),
        /// The user, as a FHIR reference.
        fhir_user: String = "fhirUser".to_owned(),
        /// The scopes.
        scope: String = "scope".to_owned(),
        /// The purpose of use.
        purpose_of_use: String = "purpose_of_use".to_owned(),
        /// A claimed emergency.
        emergency: String = "emergency".to_owned(),
    }
}

section! {
    /// Token introspection (RFC 7662), for issuers whose tokens are opaque.
    pub struct Introspection {
        /// The endpoint.
        endpoint: WebUrl,
        /// The gateway's client id there.
        client_id: String,
        /// The file that holds its secret.
        client_secret_file: FilePath,
        /// How long an answer may be used again; without it, the issuer is asked every time.
        cache: Option<Duration>,
    }
}

section! {
    /// The gateway's part in SMART App Launch.
    pub struct Smart {
        /// Its part.
        mode: SmartMode = SmartMode::Resource,
        /// broker: the OpenID provider that authenticates people.
        provider: Option<Provider>,
        /// broker: how long an access token lives.
        access_token_lifetime: Duration = Duration::from_secs(300),
        /// Whether DPoP proofs must carry a nonce of ours (RFC 9449 section 8), at the FHIR bases and at the token endpoint:
        /// a proof made ahead by somebody who borrows a key is then of no use.
        dpop_nonce: DpopNonce = DpopNonce::Required,
    }
    check check_smart;
}

words! {
    /// The gateway's part in SMART App Launch.
    pub enum SmartMode {
        /// Accept tokens only.
        Resource = "resource",
        /// Stand before the issuer's authorize and token endpoints and guard them.
        Front = "front",
        /// Be the SMART authorization server before a plain OpenID provider.
        Broker = "broker",
    }
}

words! {
    /// Whether DPoP proofs must carry a nonce.
    pub enum DpopNonce {
        /// They must; the first proof of a client is answered with the nonce to use.
        Required = "required",
        /// They need not: for clients that know no nonces.
        Optional = "optional",
    }
}

section! {
    /// The OpenID provider behind the broker.
    pub struct Provider {
        /// Its issuer identifier.
        issuer: WebUrl,
        /// The gateway's client id there.
        client_id: String,
        /// The file that holds its secret.
        client_secret_file: FilePath,
        /// The authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// The scopes asked for beside `openid`, where the provider needs them to state who the user is in FHIR.
        scopes: Vec<String> = Vec::new(),
        /// The claim of its id_tokens that holds the user's FHIR resource, as `Practitioner/123`.
        fhir_user_claim: String = "fhirUser".to_owned(),
        /// The claim that holds the id of the user's own patient record.
        patient_claim: String = "patient".to_owned(),
    }
}

fn check_issuer(issuer: &Issuer, at: &At<'_>) {
    let none = |key: &str, empty: bool, what: &str| {
        if empty {
            at.problem_at(key, what.to_owned(), "name at least one, or leave the key out for its default");
        }
    };
    none("algorithms", issuer.algorithms.is_empty(), "no algorithm is accepted, so no token ever is");
    none("access_token_typ", issuer.access_token_typ.is_empty(), "no token type is accepted, so no token ever is");
    none(
        "audience",
        issuer.audience.as_ref().is_some_and(Vec::is_empty),
        "no audience is accepted, so no token ever is",
    );
    if issuer.clock_skew > Duration::from_secs(120) {
        at.problem_at(
            "clock_skew",
            "expired tokens would count for minutes",
            "set the clocks by NTP, and write at most 2m",
        );
    }
    // The identifier is compared as text, and must be a URL that may be asked (RFC 8414 section 2).
    let _told = at.key("issuer").and_then(|at| WebUrl::read(&at));
}

fn check_smart(smart: &Smart, at: &At<'_>) {
    if smart.mode == SmartMode::Broker && smart.provider.is_none() {
        at.problem_at(
            "provider",
            "`mode: broker` needs a provider to authenticate people",
            "add `provider: {issuer: …, client_id: …, client_secret_file: …}`",
        );
    }
    if smart.mode != SmartMode::Broker && smart.provider.is_some() {
        at.problem_at("provider", "a provider is used in broker mode alone", "remove it, or set `mode: broker`");
    }
}
