//! The gateway as SMART authorization server before the kit's provider.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use fhirwall::demo::world::{Neighbours, World};
use fhirwall::pki::write_key;
use fhirwall::smart::signing::SigningKey;
use serde_json::json;
use tempfile::TempDir;

use crate::processes::{Packages, Peer};

pub(crate) const CLIENT: &str = "smart-public";
/// The gateway's own, at the provider.
pub(crate) const SECRET: &str = "a secret of thirty-two characters";
/// Where the Python client is sent back to; nobody listens there.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9/cb";

/// Where pages of the app come from.
pub(crate) const ORIGIN: &str = "https://inferno.example";
/// A backend service, and its key at the site.
pub(crate) const SERVICE: &str = "nightly-sync";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Front,
    Broker,
}

/// The neighbours and their files, the gateway not yet between them.
pub(crate) struct Ground {
    dir: TempDir,
    neighbours: Neighbours,
}

pub(crate) struct Site {
    pub(crate) base: String,
    pub(crate) world: World,
    _provider: Option<Peer>,
    _dir: TempDir,
}

impl Ground {
    pub(crate) async fn lay() -> Self {
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.expect("the neighbours start");
        Self { dir, neighbours }
    }

    /// Who is there, and the files of the gateway to be.
    pub(crate) fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The site's authority, for the processes that are to trust it.
    pub(crate) fn ca_file(&self) -> std::path::PathBuf {
        self.neighbours.dir().join("tls/site/ca.pem")
    }

    /// Registers a backend service with a key by value, which it gets.
    pub(crate) fn registers_a_service(&self) -> SigningKey {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let key = SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
        let partners = self.neighbours.dir().join("partners");
        let set = json!({"keys": [key.public_jwk()]});
        fs::write(partners.join(format!("{SERVICE}.jwks.json")), set.to_string()).unwrap();
        let text = format!(
            "apiVersion: fhirwall/v1\nkind: Partner\nclient_id: {SERVICE}\nname: Nightly Sync\ntype: backend-service\n\
             jwks_file: {SERVICE}.jwks.json\nmtls: none\njurisdiction: US\n\
             scopes: [\"system/Patient.rs\", \"system/Observation.rs\"]\npurposes_of_use: [TREAT]\n\
             part2: {{basis: none, redaction: silent}}\n\
             limits: {{requests_per_second: 50, distinct_patients_per_hour: 200}}\n\
             evidence:\n  baa: {{signed: 2026-01-15, expires: 2098-01-15}}\n  \
             security_assessment: {{framework: HITRUST, expires: 2098-06-30}}\n\
             waivers:\n  - {{control: partner-mtls, reason: \"as Inferno tests it\", owner: \"tests\", until: 2098-01-01}}\n\
             contacts: {{security: security@service.example}}\n"
        );
        fs::write(partners.join(format!("{SERVICE}.yaml")), text).unwrap();
        key
    }

    /// Makes this clinician the general practitioner of these patients of the sample EHR.
    pub(crate) fn links_patients_to(&self, practitioner: &str, patients: &[&str]) {
        for id in patients {
            let mut patient = self.neighbours.ehr.resource("Patient", id).expect("a sample patient");
            patient["generalPractitioner"] = json!([{"reference": practitioner}]);
            self.neighbours.ehr.put(patient);
        }
    }

    /// As [`Ground::open`], with a provider of another make that is up already and knows the gateway.
    pub(crate) fn open_before(self, issuer: &str, redirect_uri: &str, lifetime: &str) -> Site {
        let Self { dir, neighbours } = self;
        let base = neighbours.smart_url();
        let sample = neighbours.issuer.issuer();
        configure(neighbours.dir(), Mode::Broker, issuer, &base, &sample, &neighbours.base_url());
        let file = neighbours.dir().join("fhirwall.yaml");
        let text = fs::read_to_string(&file).unwrap().replace("    scopes: [fhirUser]\n", "");
        fs::write(file, text + &format!("  access_token_lifetime: {lifetime}\n")).unwrap();
        register(neighbours.dir(), redirect_uri);
        let world = World::between(neighbours).expect("the gateway starts");
        Site { base, world, _provider: None, _dir: dir }
    }

    /// Where the gateway will be.
    pub(crate) fn base(&self) -> String {
        self.neighbours.smart_url()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.neighbours.dir()
    }

    /// Puts provider and gateway up; the app is registered with this return address beside [`NOWHERE`].
    pub(crate) async fn open(self, packages: &Packages, mode: Mode, redirect_uri: &str) -> Site {
        let Self { dir, neighbours } = self;
        // Browsers come without a certificate: everything happens on the listener that asks for none.
        let base = neighbours.smart_url();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let issuer = format!("https://localhost:{port}");
        let provider = provider(packages, neighbours.dir(), &issuer, port, &base).await;
        configure(neighbours.dir(), mode, &issuer, &base, &neighbours.issuer.issuer(), &neighbours.base_url());
        register(neighbours.dir(), redirect_uri);
        let world = World::between(neighbours).expect("the gateway starts");
        Site { base, world, _provider: Some(provider), _dir: dir }
    }
}

/// The kit's provider, with the clients that an operator would register there: in front mode the app itself, with the
/// gateway's callback; in broker mode the gateway.
async fn provider(packages: &Packages, dir: &Path, issuer: &str, port: u16, base: &str) -> Peer {
    let state = dir.join("provider");
    fs::create_dir_all(&state).unwrap();
    for (from, to) in [("issuer.pem", "server.crt"), ("issuer.key", "server.key"), ("ca.pem", "ca.crt")] {
        fs::copy(dir.join("tls/site").join(from), state.join(to)).unwrap();
    }
    let callback = format!("{base}/auth/callback");
    let clients = json!([
        {"client_id": CLIENT, "application_type": "web", "redirect_uris": [callback]},
        {"client_id": "gateway", "client_secret": SECRET, "redirect_uris": [callback],
            "grant_types": ["authorization_code", "refresh_token"]},
    ]);
    let mut command = packages.provider();
    command
        .env("PORT", port.to_string())
        .env("ISSUER", issuer)
        .env("IDP_DIR", &state)
        .env("FHIR_AUD", base)
        .env("FHIRWALL_CLIENTS", clients.to_string());
    let mut provider = Peer::start(command);
    while !provider.line().await.starts_with("idp ") {}
    provider
}

fn configure(dir: &Path, mode: Mode, issuer: &str, base: &str, sample_issuer: &str, strict_base: &str) {
    let file = dir.join("fhirwall.yaml");
    let text = fs::read_to_string(&file).unwrap().replace(strict_base, base);
    let text = match mode {
        Mode::Front => text.replace(sample_issuer, issuer) + "smart: {mode: front}\n",
        Mode::Broker => {
            write_key(&dir.join("keys/provider.secret"), &format!("{SECRET}\n")).unwrap();
            for (name, algorithm) in [("es", &rcgen::PKCS_ECDSA_P256_SHA256), ("rs", &rcgen::PKCS_RSA_SHA256)] {
                let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
                write_key(&dir.join(format!("keys/{name}.pem")), &key.serialize_pem()).unwrap();
            }
            let keys = "  token_signing_files: [keys/es.pem, keys/rs.pem]\n  audit_signing_file";
            text.replacen("  audit_signing_file", keys, 1)
                + &format!(
                    "smart:\n  mode: broker\n  provider:\n    issuer: {issuer}\n    client_id: gateway\n    \
                     client_secret_file: keys/provider.secret\n    ca_file: tls/site/ca.pem\n    scopes: [fhirUser]\n"
                )
        }
    };
    fs::write(file, text).unwrap();
}

/// A public app: known by its name and held by PKCE, by waiver without a bound token.
fn register(dir: &Path, redirect_uri: &str) {
    let text = format!(
        "apiVersion: fhirwall/v1\nkind: Partner\nclient_id: {CLIENT}\nname: Pocket Chart\ntype: public\n\
         redirect_uris: [\"{redirect_uri}\", \"{NOWHERE}\"]\norigins: [\"{ORIGIN}\"]\nmtls: none\njurisdiction: US\n\
         scopes: [\"patient/*.rs\"]\npurposes_of_use: [PATRQT]\npart2: {{basis: patient, redaction: marked}}\n\
         limits: {{requests_per_second: 50, distinct_patients_per_hour: 200}}\n\
         evidence:\n  baa: {{signed: 2026-01-15, expires: 2098-01-15}}\n  \
         security_assessment: {{framework: HITRUST, expires: 2098-06-30}}\n\
         waivers:\n  - {{control: partner-mtls, reason: \"public clients cannot keep a certificate\", owner: \"tests\", \
         until: 2098-01-01}}\ncontacts: {{security: security@app.example}}\n"
    );
    fs::write(dir.join("partners").join(format!("{CLIENT}.yaml")), text).unwrap();
}
