//! The sample SMART authorization server: PKCE, `private_key_jwt`, backend services, certificate-bound tokens.
//!
//! It logs in whoever is picked: it is a stand-in for a hospital's identity provider, never one. Ground: SMART App Launch
//! 2.2, RFC 6749, 7636, 7523, 8705, 9068. [`AuthorizationServer::mint`] makes tokens without the dance, good and bad.

mod endpoints;
pub(crate) mod jose;
mod page;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fhirwall_certs::server::ServerTls;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::demo::tls_server::TlsServer;
use jose::{Signature, SigningKeys};

/// What a token is to say.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    pub client_id: String,
    /// The user; the client itself for backend services.
    pub sub: String,
    /// The patient in the launch context.
    pub patient: Option<String>,
    /// `Practitioner/…` or `Patient/…`.
    pub fhir_user: Option<String>,
    /// Scopes, split by spaces.
    pub scope: String,
    /// The certificate that the token is bound to (`cnf`, `x5t#S256`).
    pub x5t_s256: Option<String>,
    /// Further claims, or other values for those above.
    pub claims: Map<String, Value>,
}

/// The ways in which a token can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    WrongAudience,
    NoAudience,
    Expired,
    NotYetValid,
    NoExpiry,
    WrongIssuer,
    AlgNone,
    Hs256WithPublicKey,
    /// One bit of the signature differs.
    BrokenSignature,
    /// The claims were changed after signing.
    ChangedClaims,
    /// An id token in the place of an access token.
    IdToken,
    /// Signed by a key that the issuer never published, under a published `kid`'s form.
    ForeignKey,
}

/// A client, as registered here.
#[derive(Clone, Debug)]
pub(crate) struct RegisteredClient {
    pub(crate) client_id: String,
    pub(crate) redirect_uris: Vec<String>,
    /// The scopes it may ask for.
    pub(crate) scope: String,
    /// The public key for `private_key_jwt`; `None` for a public client.
    pub(crate) jwk: Option<Value>,
    /// May use `client_credentials`.
    pub(crate) backend: bool,
}

/// A person who can log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) login: &'static str,
    pub(crate) name: &'static str,
    pub(crate) fhir_user: &'static str,
    /// The patient whose record opens.
    pub(crate) patient: Option<&'static str>,
}

pub(crate) const USERS: &[User] = &[
    User {
        login: "noor",
        name: "Noor Haddad, clinician",
        fhir_user: "Practitioner/noor-haddad",
        patient: Some("amara-osei"),
    },
    User { login: "amara", name: "Amara Osei, patient", fhir_user: "Patient/amara-osei", patient: Some("amara-osei") },
    User { login: "bruno", name: "Bruno Vale, patient", fhir_user: "Patient/bruno-vale", patient: Some("bruno-vale") },
];

/// The sample authorization server, running. It stops when dropped.
pub struct AuthorizationServer {
    server: TlsServer,
    issuer: Arc<Issuer>,
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer").field("address", &self.server.address()).finish_non_exhaustive()
    }
}

struct Issuer {
    clock: Arc<dyn Clock>,
    keys: SigningKeys,
    clients: Vec<RegisteredClient>,
    /// The gateway's partner files: a partner taken on while the demo runs is a client here as well.
    partners: PathBuf,
    /// The FHIR base that tokens are for.
    audience: String,
    url: std::sync::OnceLock<String>,
    state: Mutex<IssuerState>,
}

#[derive(Default)]
struct IssuerState {
    codes: HashMap<String, endpoints::Code>,
    assertions: HashSet<String>,
    /// How often each path was asked for.
    requests: HashMap<String, u64>,
    /// Answer 503 to everything.
    down: bool,
}

impl Issuer {
    fn state(&self) -> MutexGuard<'_, IssuerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }

    fn claims(&self, grant: &Grant) -> Map<String, Value> {
        let now = self.clock.now().unix_timestamp();
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        set("iss", json!(self.url()));
        set("aud", json!(self.audience));
        set("sub", json!(grant.sub));
        set("client_id", json!(grant.client_id));
        set("iat", json!(now));
        set("nbf", json!(now));
        set("exp", json!(now + 3600));
        set("jti", json!(uuid::Uuid::new_v4().to_string()));
        set("scope", json!(grant.scope));
        if let Some(patient) = &grant.patient {
            set("patient", json!(patient));
        }
        if let Some(fhir_user) = &grant.fhir_user {
            set("fhirUser", json!(fhir_user));
        }
        if let Some(thumbprint) = &grant.x5t_s256 {
            set("cnf", json!({"x5t#S256": thumbprint}));
        }
        claims.extend(grant.claims.clone());
        claims
    }
}

impl AuthorizationServer {
    /// Starts on loopback. Clients are those given, and backend services with a file in `partners`. Tokens are for
    /// `audience`, the gateway's FHIR base.
    pub(crate) async fn start(
        tls: &ServerTls,
        clock: Arc<dyn Clock>,
        clients: Vec<RegisteredClient>,
        partners: PathBuf,
        audience: String,
    ) -> anyhow::Result<Self> {
        let issuer = Arc::new(Issuer {
            clock,
            keys: SigningKeys::generate()?,
            clients,
            partners,
            audience,
            url: std::sync::OnceLock::new(),
            state: Mutex::default(),
        });
        let router = endpoints::router(Arc::clone(&issuer));
        let server = TlsServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), tls, router).await?;
        issuer.url.get_or_init(|| format!("https://{}", server.address()));
        Ok(Self { server, issuer })
    }

    /// The issuer identifier: `https://127.0.0.1:port`.
    pub fn issuer(&self) -> String {
        self.issuer.url().to_owned()
    }

    /// A good access token (RFC 9068, ES256), valid for an hour.
    pub fn mint(&self, grant: &Grant) -> anyhow::Result<String> {
        self.issuer.keys.sign("at+jwt", &Value::Object(self.issuer.claims(grant)), Signature::Es256)
    }

    /// As [`AuthorizationServer::mint`], signed with RS256.
    pub fn mint_rs256(&self, grant: &Grant) -> anyhow::Result<String> {
        self.issuer.keys.sign("at+jwt", &Value::Object(self.issuer.claims(grant)), Signature::Rs256)
    }

    /// A token that is good but for one thing.
    pub fn mint_flawed(&self, grant: &Grant, flaw: Flaw) -> anyhow::Result<String> {
        let now = self.issuer.clock.now().unix_timestamp();
        let mut claims = self.issuer.claims(grant);
        let mut set = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        let (mut typ, mut signature) = ("at+jwt", Signature::Es256);
        match flaw {
            Flaw::WrongAudience => set("aud", json!("https://elsewhere.example/fhir")),
            Flaw::NoAudience => drop(claims.remove("aud")),
            Flaw::Expired => set("exp", json!(now - 600)),
            Flaw::NotYetValid => set("nbf", json!(now + 600)),
            Flaw::NoExpiry => drop(claims.remove("exp")),
            Flaw::WrongIssuer => set("iss", json!(format!("{}/", self.issuer.url()))),
            Flaw::AlgNone => signature = Signature::None,
            Flaw::Hs256WithPublicKey => signature = Signature::Hs256WithPublicKey,
            Flaw::IdToken => {
                typ = "JWT";
                set("nonce", json!("n-0S6_WzA2Mj"));
                set("aud", json!(grant.client_id));
            }
            Flaw::ForeignKey => return SigningKeys::generate()?.sign(typ, &Value::Object(claims), signature),
            Flaw::BrokenSignature | Flaw::ChangedClaims => {}
        }
        let token = self.issuer.keys.sign(typ, &Value::Object(claims.clone()), signature)?;
        Ok(match flaw {
            Flaw::BrokenSignature => flip_a_bit(&token),
            Flaw::ChangedClaims => {
                claims.insert("sub".to_owned(), json!("somebody-else"));
                let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
                if let Some(payload) = parts.get_mut(1) {
                    *payload = jose::encode(Value::Object(claims).to_string().as_bytes());
                }
                parts.join(".")
            }
            Flaw::WrongAudience
            | Flaw::NoAudience
            | Flaw::Expired
            | Flaw::NotYetValid
            | Flaw::NoExpiry
            | Flaw::WrongIssuer
            | Flaw::AlgNone
            | Flaw::Hs256WithPublicKey
            | Flaw::IdToken
            | Flaw::ForeignKey => token,
        })
    }

    /// How often `path` (such as `/jwks`) was asked for.
    pub fn requests(&self, path: &str) -> u64 {
        self.issuer.state().requests.get(path).copied().unwrap_or_default()
    }

    /// Whether every request is answered 503.
    pub fn set_down(&self, down: bool) {
        self.issuer.state().down = down;
    }
}

/// Changes the first character of the signature.
fn flip_a_bit(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{input}.{first}{}", signature.get(1..).unwrap_or_default())
}
