//! `fhirwall lockdown`: withhold all Part 2 data, or stop an app, a user or an endpoint, on every replica.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::{eprintln, println};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use crate::admin::ACT_HEADER;
use crate::cli::exit;
use crate::clock::{Clock as _, SystemClock};
use crate::identify::fetch::{Fetch as _, HttpsFetch, Outgoing};
use crate::lockdown::{Lifting, Order};
use crate::state::{Lockdown, LockdownScope};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Begin one. It holds from the next request, on other replicas within a second.
    Set(Set),
    /// End one before its time.
    Lift(Lift),
    /// Those in force.
    List(List),
}

#[derive(clap::Args, Debug)]
struct Gateway {
    /// The admin address of a running gateway; with shared state, of any replica.
    #[arg(long, default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// The authority of the admin address, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Your certificate, PEM.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
#[group(id = "scope", required = true, multiple = false, args = ["part2", "partner", "user", "endpoint"])]
struct Set {
    #[command(flatten)]
    gateway: Gateway,
    /// Withhold all Part 2 data.
    #[arg(long)]
    part2: bool,
    /// Stop an app, by its client id.
    #[arg(long, value_name = "CLIENT_ID")]
    partner: Option<String>,
    /// Stop a user, as the issuer names it (`sub`).
    #[arg(long, value_name = "SUB", requires = "issuer")]
    user: Option<String>,
    /// The user's issuer.
    #[arg(long)]
    issuer: Option<String>,
    /// Stop a FHIR endpoint, by its name.
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// How long it holds: `90m`, `12h`, `7d`.
    #[arg(long = "for", value_name = "DURATION")]
    lasting: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Who orders it.
    #[arg(long)]
    by: String,
}

#[derive(clap::Args, Debug)]
struct Lift {
    #[command(flatten)]
    gateway: Gateway,
    /// The lockdown's id, as `list` prints it.
    id: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Who lifts it.
    #[arg(long)]
    by: String,
}

#[derive(clap::Args, Debug)]
struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

type Failure = (u8, String);

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| (exit::OUT_OF_REACH, error.to_string())).and_then(|runtime| {
        runtime.block_on(async {
            match args.verb {
                Verb::Set(args) => set(args).await,
                Verb::Lift(args) => lift(args).await,
                Verb::List(args) => list(&args).await,
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => {
            eprintln!("{problem}");
            ExitCode::from(code)
        }
    }
}

async fn set(args: Set) -> Result<(), Failure> {
    let lasting = lasting(&args.lasting)
        .ok_or_else(|| (exit::USAGE, format!("`{}` is no duration; write `90m`, `12h` or `7d`", args.lasting)))?;
    let scope = match (args.partner, args.user.zip(args.issuer), args.endpoint) {
        (Some(client_id), _, _) => LockdownScope::Partner { client_id },
        (_, Some((sub, issuer)), _) => LockdownScope::User { issuer, sub },
        (_, _, Some(name)) => LockdownScope::Endpoint { name },
        (None, None, None) => LockdownScope::Part2,
    };
    let order = Order { scope, until: SystemClock.now() + lasting, reason: args.reason, by: args.by };
    let body = serde_json::to_string(&order).unwrap_or_default();
    let answer = ask(&args.gateway, http::Method::POST, "/lockdowns", body).await?;
    let lockdown: Lockdown = serde_json::from_str(&answer).map_err(|_| odd())?;
    println!("{}", line(&lockdown));
    Ok(())
}

async fn lift(args: Lift) -> Result<(), Failure> {
    let body = serde_json::to_string(&Lifting { reason: args.reason, by: args.by }).unwrap_or_default();
    ask(&args.gateway, http::Method::POST, &format!("/lockdowns/{}/lift", args.id), body).await?;
    println!("lifted {}", args.id);
    Ok(())
}

async fn list(args: &List) -> Result<(), Failure> {
    let answer = ask(&args.gateway, http::Method::GET, "/lockdowns", String::new()).await?;
    let mut answer: Value = serde_json::from_str(&answer).map_err(|_| odd())?;
    if args.output == Output::Json {
        println!("{answer:#}");
        return Ok(());
    }
    let lockdowns = answer.get_mut("lockdowns").map(Value::take).unwrap_or_default();
    let lockdowns: Vec<Lockdown> = serde_json::from_value(lockdowns).map_err(|_| odd())?;
    for lockdown in &lockdowns {
        println!("{}", line(lockdown));
    }
    if lockdowns.is_empty() {
        println!("none");
    }
    Ok(())
}

fn line(Lockdown { id, scope, until, reason, by, .. }: &Lockdown) -> String {
    let scope = match scope {
        LockdownScope::Part2 => "all Part 2 data".to_owned(),
        LockdownScope::Partner { client_id } => format!("app {client_id}"),
        LockdownScope::User { issuer, sub } => format!("user {sub} of {issuer}"),
        LockdownScope::Endpoint { name } => format!("endpoint {name}"),
    };
    format!("{id}  {scope}  until {}  by {by}: {reason}", until.format(&Rfc3339).unwrap_or_default())
}

fn lasting(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

fn odd() -> Failure {
    (exit::OUT_OF_REACH, "the admin address answers in a form that is not understood".to_owned())
}

async fn ask(gateway: &Gateway, method: http::Method, below: &str, body: String) -> Result<String, Failure> {
    let read = |file: &Option<PathBuf>| {
        let read = |file| {
            std::fs::read(file).map_err(|error| (exit::USAGE, format!("{}: {error}", PathBuf::from(file).display())))
        };
        file.as_ref().map(read).transpose()
    };
    let (ca, certificate, key) = (read(&gateway.ca)?, read(&gateway.certificate)?, read(&gateway.key)?);
    let outgoing = Outgoing {
        ca_pem: ca.as_deref(),
        client_pem: certificate.as_deref().zip(key.as_deref()),
        dangerous_allow_loopback_http: true,
    };
    let away = |error: &dyn std::error::Error| {
        (exit::OUT_OF_REACH, format!("{}: {}", gateway.admin, crate::serve::chain(error)))
    };
    let client = HttpsFetch::new(&outgoing).map_err(|error| away(&error))?;
    let url = format!("{}{below}", gateway.admin.trim_end_matches('/'));
    let request = http::Request::builder().method(method).uri(url).header(ACT_HEADER, "1");
    let request = request.header("content-type", "application/json").body(body.into_bytes());
    let request = request.map_err(|error| (exit::USAGE, error.to_string()))?;
    let response = client.fetch(request).await.map_err(|error| away(&error))?;
    let text = String::from_utf8_lossy(response.body()).trim().to_owned();
    match response.status().as_u16() {
        200..=299 => Ok(text),
        503 => Err((exit::OUT_OF_REACH, text)),
        _ => Err((exit::FINDINGS, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        assert_eq!(lasting("90m"), Some(Duration::from_secs(5400)));
        assert_eq!(lasting("7d"), Some(Duration::from_secs(7 * 86_400)));
        for bad in ["", "m", "0h", "-1h", "12", "1w", "1.5h", "99999999999999999999d", "é"] {
            assert_eq!(lasting(bad), None, "{bad}");
        }
    }
}
