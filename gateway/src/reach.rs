//! Does what the gateway needs answer? Each neighbour is asked once, harmlessly, as the gateway would ask it.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, FilePath, Gateway, Issuer, Origin, PartnerFile, RedirectUri, Upstream};
use crate::identify::fetch::{Fetch as _, HttpsFetch, Outgoing};

/// A neighbour, and why it did not answer, if it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Who, and what was asked.
    pub what: String,
    /// Why there was no good answer.
    pub failure: Option<String>,
}

/// How far a neighbour's clock may be off before tokens are misjudged.
const CLOCK: Duration = Duration::from_secs(30);

/// Asks every neighbour: the EHR, the issuers, the state store, the audit directory; and compares clocks.
pub async fn reach(config: &Config) -> Vec<Reached> {
    let gateway = &config.gateway;
    let mut reached = vec![of("audit directory", audit(&gateway.audit.dir))];
    for endpoint in &gateway.endpoints {
        for url in &endpoint.upstream.urls {
            let what = format!("EHR of endpoint {} at {url}", endpoint.name);
            reached.push(of(what, upstream(&endpoint.upstream, &format!("{}/metadata", url.base())).await));
        }
    }
    for one in &gateway.issuers {
        reached.push(of(format!("keys of issuer {}", one.issuer), issuer(one).await));
    }
    if gateway.state.redis_url.is_some() {
        reached.push(of("state store", state(gateway).await));
    }
    reached
}

/// Asks a partner's addresses: its published keys, and whether its redirects and origins answer over TLS.
pub async fn reach_partner(partner: &PartnerFile) -> Vec<Reached> {
    let mut reached = Vec::new();
    if let Some(uri) = &partner.jwks_uri {
        reached.push(of(format!("its keys at {uri}"), published_keys(uri.url().as_str()).await));
    }
    let web = |text: &&str| text.starts_with("https://");
    let redirects = partner.redirect_uris.iter().map(RedirectUri::as_str);
    let mut addresses: Vec<&str> = redirects.chain(partner.origins.iter().map(Origin::as_str)).filter(web).collect();
    addresses.dedup();
    for address in addresses {
        let answer = async { get(&client(None, None)?, address).await.map(drop) };
        reached.push(of(address, answer.await));
    }
    reached
}

async fn published_keys(uri: &str) -> Result<(), String> {
    let document = json(&get(&client(None, None)?, uri).await?)?;
    let keys = document.get("keys").and_then(serde_json::Value::as_array).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or("it holds no key")?;
    if keys.iter().any(|key| key.get("d").is_some() || key.get("k").is_some()) {
        return Err("it publishes a private or shared key: the partner must replace it".to_owned());
    }
    Ok(())
}

fn of(what: impl Into<String>, result: Result<(), String>) -> Reached {
    Reached { what: what.into(), failure: result.err() }
}

/// A record must be writable and durable here; what is written is removed again.
fn audit(dir: &Path) -> Result<(), String> {
    let probe = dir.join(format!(".probe-{}", uuid::Uuid::new_v4()));
    let write = || {
        let mut file = std::fs::File::create_new(&probe)?;
        file.write_all(b"fhirwall check\n")?;
        file.sync_all()
    };
    let written = write();
    let _nothing_to_remove = std::fs::remove_file(&probe);
    written.map_err(|error| format!("{}: {error}", dir.display()))
}

async fn upstream(upstream: &Upstream, url: &str) -> Result<(), String> {
    if let Some(socket) = &upstream.unix_socket {
        let connected = tokio::net::UnixStream::connect(socket).await;
        return connected.map(drop).map_err(|error| format!("{}: {error}", socket.display()));
    }
    let certificate = read(upstream.client_certificate_file.as_ref())?;
    let key = read(upstream.client_key_file.as_ref())?;
    let fetch = client(upstream.ca_file.as_ref(), certificate.as_deref().zip(key.as_deref()))?;
    let answer = get(&fetch, url).await?;
    // Whether the EHR wants a token for its CapabilityStatement is its own affair: it answered.
    match answer.status().as_u16() {
        200 | 401 | 403 => clock(&answer),
        status => Err(format!("it answered {status}")),
    }
}

async fn issuer(issuer: &Issuer) -> Result<(), String> {
    let fetch = client(issuer.ca_file.as_ref(), None)?;
    let jwks = match &issuer.jwks_uri {
        Some(uri) => uri.url().to_string(),
        None => {
            let discovery = format!("{}/.well-known/openid-configuration", issuer.issuer.trim_end_matches('/'));
            let document = json(&get(&fetch, &discovery).await?)?;
            if document.get("issuer").and_then(serde_json::Value::as_str) != Some(&issuer.issuer) {
                return Err("its discovery document names another issuer".to_owned());
            }
            let uri = document.get("jwks_uri").and_then(serde_json::Value::as_str);
            uri.ok_or("its discovery document names no jwks_uri")?.to_owned()
        }
    };
    let answer = get(&fetch, &jwks).await?;
    match json(&answer)?.get("keys").and_then(serde_json::Value::as_array) {
        Some(keys) if !keys.is_empty() => clock(&answer),
        Some(_) | None => Err("its key set holds no key".to_owned()),
    }
}

async fn state(gateway: &Gateway) -> Result<(), String> {
    let Some(secret) = &gateway.state.redis_url else { return Ok(()) };
    let url = url::Url::parse(secret.reveal()).map_err(|_| "the URL cannot be read".to_owned())?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let address = (host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(6379));
    let connect = tokio::net::TcpStream::connect(address);
    match tokio::time::timeout(Duration::from_secs(5), connect).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn read(file: Option<&FilePath>) -> Result<Option<Vec<u8>>, String> {
    file.map(|file| std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))).transpose()
}

fn client(ca: Option<&FilePath>, client_pem: Option<(&[u8], &[u8])>) -> Result<HttpsFetch, String> {
    let ca = read(ca)?;
    // The configuration takes plain http to loopback only.
    let outgoing = Outgoing { ca_pem: ca.as_deref(), client_pem, dangerous_allow_loopback_http: true };
    HttpsFetch::new(&outgoing).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

async fn get(fetch: &HttpsFetch, url: &str) -> Result<http::Response<Vec<u8>>, String> {
    let request = http::Request::get(url).header(http::header::ACCEPT, "application/fhir+json, application/json");
    let request = request.body(Vec::new()).map_err(|error| error.to_string())?;
    fetch.fetch(request).await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

fn json(answer: &http::Response<Vec<u8>>) -> Result<serde_json::Value, String> {
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status().as_u16()));
    }
    serde_json::from_slice(answer.body()).map_err(|_| "its answer is no JSON".to_owned())
}

/// Compares the neighbour's `Date` with the clock here.
fn clock(answer: &http::Response<Vec<u8>>) -> Result<(), String> {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let Some(date) = date.and_then(|date| time::PrimitiveDateTime::parse(date, format).ok()) else { return Ok(()) };
    apart(date.assume_utc(), SystemClock.now())
}

fn apart(there: OffsetDateTime, here: OffsetDateTime) -> Result<(), String> {
    let apart = (there - here).unsigned_abs();
    if apart > CLOCK {
        return Err(format!("its clock and this one are {} s apart: set both by NTP", apart.as_secs()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_directory_is_writable_or_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(audit(dir.path()), Ok(()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the probe is removed");
        assert!(audit(&dir.path().join("absent")).unwrap_err().contains("absent"));
    }

    #[test]
    fn clocks_apart_are_told() {
        assert_eq!(apart(datetime!(2026-11-22 12:00:00 UTC), datetime!(2026-11-22 12:00:30 UTC)), Ok(()));
        assert!(
            apart(datetime!(2026-11-22 12:00:31 UTC), datetime!(2026-11-22 12:00 UTC)).unwrap_err().contains("31 s")
        );
    }

    fn answer(date: &str) -> http::Response<Vec<u8>> {
        http::Response::builder().header("date", date).body(br#"{"keys": []}"#.to_vec()).unwrap()
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert!(clock(&answer("Sun, 06 Nov 1994 08:49:37 GMT")).is_err());
        assert_eq!(clock(&answer("yesterday")), Ok(()));
    }

    #[tokio::test]
    async fn a_closed_door_is_told() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ca = authority_pem();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, ca).unwrap();
        let fetch = client(Some(&FilePath(file)), None).unwrap();
        assert!(get(&fetch, &format!("http://{closed}/metadata")).await.unwrap_err().contains("cannot reach"));
    }

    fn authority_pem() -> String {
        use fhirwall_certs::authority::{Authority, Validity};
        let validity = Validity::days(datetime!(2026-01-01 0:00 UTC), 3650).unwrap();
        Authority::create("tests", validity).unwrap().certificate_pem().to_owned()
    }
}
