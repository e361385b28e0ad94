//! The files of the demo's site: what an operator would write by hand, here written by a program.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhirwall_policy::cedar::PolicySet;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::audit::SigningKey;
use crate::demo::apps::{App, AppProfile};
use crate::pki::write_key;

/// What this program writes into its directory, and may clear away at its next start.
const OURS: &[&str] =
    &["tls", "keys", "partners", "policies", "audit", "state", "curl", "fhirwall.yaml", "demo.json", NEW];
const NEW: &str = "demo.json.new";

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    /// Certificates required.
    pub(crate) listen: SocketAddr,
    /// Certificates optional; SMART endpoints too.
    pub(crate) listen_smart: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ehr_base: String,
    pub(crate) issuer: String,
}

impl Site {
    pub(crate) fn base_url(&self) -> String {
        format!("https://{}/fhir", self.listen)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.join("fhirwall.yaml")
    }

    pub(crate) fn audit_dir(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// Writes `fhirwall.yaml`, keys, policies and one file a partner.
    pub(crate) fn write(&self, apps: &[AppProfile], now: OffsetDateTime) -> anyhow::Result<()> {
        for name in ["keys", "policies", "partners", "audit"] {
            let dir = self.dir.join(name);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        }
        let mut seal = [0u8; 32];
        aws_lc_rs::rand::fill(&mut seal).map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
        write_key(&self.dir.join("keys/seal.key"), &STANDARD.encode(seal))?;
        let (_, audit_key) = SigningKey::generate()?;
        write_key(&self.dir.join("keys/audit.pem"), &audit_key)?;
        for (name, text) in PolicySet::shipped_files() {
            write(&self.dir.join("policies").join(name), text)?;
        }
        for app in apps {
            let jwks_uri = format!("{}/clients/{}/jwks", self.issuer, app.client_id);
            let file = self.dir.join("partners").join(format!("{}.yaml", app.client_id));
            write(&file, &app.partner_file(&jwks_uri, now.year()))?;
        }
        write(&self.config_file(), &self.gateway_file())
    }

    fn gateway_file(&self) -> String {
        let Self { listen, listen_smart, admin, ehr_base, issuer, .. } = self;
        let base_url = self.base_url();
        format!(
            "# Written by `fhirwall demo`; the gateway of the demo runs on it. Everything here is for one machine alone.\n\
             apiVersion: fhirwall/v1\n\
             kind: Gateway\n\
             listeners:\n  \
               - address: {listen}\n    \
                 serves: [fhir]\n    \
                 tls:\n      \
                   certificate_file: tls/site/gateway.pem\n      \
                   key_file: tls/site/gateway.key\n      \
                   client_auth: required\n      \
                   client_ca_file: tls/partners/ca.pem\n      \
                   crl_files: [tls/partners/ca.crl]\n  \
               - address: {listen_smart}\n    \
                 serves: [fhir, smart]\n    \
                 tls:\n      \
                   certificate_file: tls/site/gateway.pem\n      \
                   key_file: tls/site/gateway.key\n      \
                   client_auth: optional\n      \
                   client_ca_file: tls/partners/ca.pem\n      \
                   crl_files: [tls/partners/ca.crl]\n\
             admin:\n  \
               address: {admin}\n\
             keys:\n  \
               seal_files: [keys/seal.key]\n  \
               audit_signing_file: keys/audit.pem\n\
             endpoints:\n  \
               - name: main\n    \
                 base_url: {base_url}\n    \
                 version: R4\n    \
                 upstream:\n      \
                   urls: [{ehr_base}]\n      \
                   ca_file: tls/site/ca.pem\n      \
                   client_certificate_file: tls/site/gateway-client.pem\n      \
                   client_key_file: tls/site/gateway-client.key\n      \
                   auth: {{kind: none}}\n      \
                   timeout: 10s\n    \
                 part2: {{role: program}}\n\
             issuers:\n  \
               - issuer: {issuer}\n    \
                 ca_file: tls/site/ca.pem\n    \
                 audience: [{base_url}]\n    \
                 algorithms: [ES256, RS256]\n    \
                 access_token_typ: [at+jwt]\n\
             policies: {{dir: policies}}\n\
             partners: {{dir: partners}}\n\
             mode: enforce\n\
             labels: {{sources: [meta, inline, codes], unknown: restricted}}\n\
             # A revocation written straight into the EHR is seen at the next request, at the price of a look-up each.\n\
             consent: {{source: upstream, cache: 1ms, unreadable: deny}}\n\
             audit: {{dir: audit, durability: before-response}}\n\
             # Who tries the demo is refused often, and is not slowed down for it.\n\
             risk: {{denied_requests: {{threshold: 5000, window: 5m, answer: throttle}}}}\n\
             state: {{dir: state}}\n\
             shutdown: {{linger: 1ms, drain: 5s}}\n"
        )
    }

    /// The file of curl's options for an app.
    pub(crate) fn curl_file(&self, client_id: &str) -> PathBuf {
        self.dir.join("curl").join(client_id)
    }

    /// One file a partner app with curl's options: `curl -K FILE URL`.
    pub(crate) fn write_curl_files(&self, apps: &[&App]) -> anyhow::Result<()> {
        let dir = self.dir.join("curl");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        for app in apps {
            let text = format!(
                "# {}: curl -K this-file URL\ncacert = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n\
                 header = \"Authorization: Bearer {}\"\nsilent\nshow-error\n",
                app.profile.name,
                self.dir.join("tls/site/ca.pem").display(),
                app.certificate.display(),
                app.key.display(),
                app.token,
            );
            write_key(&self.curl_file(app.profile.client_id), &text)?;
        }
        Ok(())
    }

    /// `demo.json`: what an app, a script or a test needs to call the gateway. Written last: then everything answers.
    pub(crate) fn write_demo_json(&self, apps: &[&App]) -> anyhow::Result<()> {
        let path = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
        let apps: Vec<Value> = apps
            .iter()
            .map(|app| {
                json!({
                    "client_id": app.profile.client_id,
                    "name": app.profile.name,
                    "client_certificate": path(&app.certificate),
                    "key": path(&app.key),
                    "token": app.token,
                    "sees": app.profile.sees(),
                })
            })
            .collect();
        let document = json!({
            "base_url": self.base_url(),
            "ca": path(&self.dir.join("tls/site/ca.pem")),
            "audit_dir": path(&self.audit_dir()),
            "admin_url": format!("http://{}", self.admin),
            "config": path(&self.config_file()),
            "smart_url": format!("https://{}/fhir", self.listen_smart),
            "issuer": self.issuer,
            "ehr_url": self.ehr_base,
            "apps": apps,
        });
        // Tokens are in it. Who waits for it finds it whole.
        let (new, file) = (self.dir.join(NEW), self.dir.join("demo.json"));
        write_key(&new, &format!("{document:#}\n")).context("cannot write demo.json")?;
        fs::rename(&new, &file).context("cannot write demo.json")
    }
}

/// Makes `dir`, or clears what an earlier demo left in it. A directory with anything else in it is left alone.
pub(crate) fn prepare_directory(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    let names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    if let Some(foreign) = names.iter().find(|name| !OURS.contains(&name.as_str())) {
        bail!("`{}` holds `{foreign}`, which no demo wrote: give an empty directory with --dir", dir.display());
    }
    let marked = fs::read_to_string(dir.join("fhirwall.yaml"))
        .is_ok_and(|text| text.starts_with("# Written by `fhirwall demo`"));
    if !names.is_empty() && !marked {
        bail!("`{}` was not written by the demo: give an empty directory with --dir", dir.display());
    }
    for name in names {
        let path = dir.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot clear `{}`", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}
