//! `partner try`: the first read, as the partner's own system would make it: discovery, token, certificate, answer.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::println;
use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION};
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::{Refused, file};
use crate::cli::exit;
use crate::config::{Config, environment};
use crate::identify::fetch::{Fetch, HttpsFetch, Outgoing};
use crate::identify::partners::ClientType;
use crate::smart::remote::{Asked, OwnProof, TokenEndpoint};
use crate::smart::signing::SigningKey;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The partner: a backend service, since anybody else needs a person who logs in.
    client_id: String,
    /// What to read, below the FHIR base.
    #[arg(default_value = "Patient?_count=1")]
    read: String,
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    /// The directory with the partner's `<client_id>.pem`, `.key` and `-signing.key`, as `partner new --make-keys` left them.
    #[arg(long)]
    pki: PathBuf,
    /// The authority of the gateway's certificate, PEM; without it, that of the first issuer, else the system's roots.
    #[arg(long)]
    ca: Option<PathBuf>,
}

pub(super) fn run(args: &Args, now: OffsetDateTime) -> Result<ExitCode, Refused> {
    let config = Config::load(&args.config, &environment)?;
    let attempt = Attempt::prepare(args, &config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refused::Usage(error.to_string()))?;
    match runtime.block_on(attempt.make(now)) {
        Ok(answered) if answered => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::from(exit::FINDINGS)),
        Err(step) => {
            println!("  ✗ {step}");
            Ok(ExitCode::from(exit::OUT_OF_REACH))
        }
    }
}

/// How long a running gateway may take to read a new file.
const PATIENCE_SECONDS: u32 = 15;

/// What the partner's system has and wants.
struct Attempt {
    base: String,
    client_id: String,
    scopes: Vec<String>,
    read: String,
    fetch: Arc<dyn Fetch>,
    signing: Arc<SigningKey>,
}

impl Attempt {
    fn prepare(args: &Args, config: &Config) -> Result<Self, Refused> {
        let unknown = || Refused::Unknown(args.client_id.clone());
        let partner = &config.partners.get(&args.client_id).ok_or_else(unknown)?.file;
        if partner.client_type != ClientType::BackendService {
            return Err(Refused::Usage("only a backend-service can be tried without a person who logs in".to_owned()));
        }
        let endpoint = config.gateway.endpoints.first().map(|endpoint| endpoint.base_url.base().to_owned());
        let base = endpoint.ok_or_else(|| Refused::Usage("no endpoint is configured".to_owned()))?;
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| file("read", path, source));
        let own = |ending: &str| read(&args.pki.join(format!("{}{ending}", args.client_id)));
        let (certificate, key) = (own(".pem")?, own(".key")?);
        let issuer_ca = config.gateway.issuers.first().and_then(|issuer| issuer.ca_file.as_ref());
        let ca = args.ca.clone().or_else(|| issuer_ca.map(|ca| ca.to_path_buf()));
        let ca = ca.as_ref().map(read).transpose()?;
        let outgoing = Outgoing {
            ca_pem: ca.as_deref(),
            client_pem: Some((&certificate, &key)),
            dangerous_allow_loopback_http: false,
        };
        let usage = |error: String| Refused::Usage(error);
        let fetch = HttpsFetch::new(&outgoing).map_err(|error| usage(error.to_string()))?;
        let signing = SigningKey::from_pem(&own("-signing.key")?).map_err(|error| usage(error.to_string()))?;
        Ok(Self {
            base,
            client_id: args.client_id.clone(),
            scopes: partner.scopes.clone(),
            read: args.read.trim_start_matches('/').to_owned(),
            fetch: Arc::new(fetch),
            signing: Arc::new(signing),
        })
    }

    /// Makes the read and tells each step; `Ok(false)` when the gateway answered with a refusal.
    async fn make(&self, now: OffsetDateTime) -> Result<bool, String> {
        let discovery = format!("{}/.well-known/smart-configuration", self.base);
        let document = self.json(&discovery).await.map_err(|why| format!("{discovery}: {why}"))?;
        let endpoint = document.get("token_endpoint").and_then(Value::as_str);
        let endpoint = endpoint.and_then(|text| Url::parse(text).ok()).ok_or("discovery names no token endpoint")?;
        println!("  ✓ discovery: tokens are got at {endpoint}");
        let endpoint = TokenEndpoint {
            url: endpoint,
            proof: OwnProof::PrivateKeyJwt(Arc::clone(&self.signing)),
            fetch: Arc::clone(&self.fetch),
        };
        let asked = Asked::ClientCredentials { scopes: &self.scopes };
        let fields = endpoint.ask(&self.client_id, asked, now).await.map_err(|error| format!("no token: {error:?}"))?;
        let token = fields.get("access_token").and_then(Value::as_str).ok_or("the answer holds no token")?;
        println!("  ✓ token: for {}", fields.get("scope").and_then(Value::as_str).unwrap_or("the scopes asked for"));
        let url = format!("{}/{}", self.base, self.read);
        let (mut status, mut body, mut decision) = self.read(&url, token).await?;
        // A running gateway takes a moment to read a new partner's file.
        for _ in 0..PATIENCE_SECONDS {
            if reason(&body) != Some("partner-unknown") {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            (status, body, decision) = self.read(&url, token).await?;
        }
        let kind = body.get("resourceType").and_then(Value::as_str).unwrap_or("no resource");
        let entries = body.get("entry").and_then(Value::as_array).map(Vec::len);
        let rows = entries.map_or_else(String::new, |rows| format!(" of {rows} entries"));
        let why = reason(&body).map_or_else(String::new, |reason| format!(" ({reason})"));
        let mark = if status.is_success() { '✓' } else { '✗' };
        println!("  {mark} GET {url}: {} {kind}{rows}{why}, decision {decision}", status.as_u16());
        Ok(status.is_success())
    }

    async fn read(&self, url: &str, token: &str) -> Result<(StatusCode, Value, String), String> {
        let request = http::Request::get(url)
            .header(ACCEPT, "application/fhir+json")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let answer = self.fetch.fetch(request).await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        let decision =
            answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("none").to_owned();
        Ok((answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default(), decision))
    }

    async fn json(&self, url: &str) -> Result<Value, String> {
        let request = http::Request::get(url).body(Vec::new()).map_err(|error| error.to_string())?;
        let answer = self.fetch.fetch(request).await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status().as_u16()));
        }
        serde_json::from_slice(answer.body()).map_err(|_| "its answer is no JSON".to_owned())
    }
}

/// The gateway's reason code in a refusal.
fn reason(body: &Value) -> Option<&str> {
    body.pointer("/issue/0/details/coding/0/code")?.as_str()
}
