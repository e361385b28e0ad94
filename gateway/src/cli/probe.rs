//! `fhirwall probe`: asks the admin address whether the gateway lives, is ready, or has started. For images without a shell,
//! where the admin address stays on loopback and an orchestrator's own probes cannot reach it.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::eprintln;
use clap::ValueEnum;

use crate::cli::exit;
use crate::config::is_loopback;
use crate::identify::fetch::{Fetch as _, HttpsFetch, Outgoing};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// What is asked.
    #[arg(value_enum, default_value = "readyz")]
    question: Question,
    /// The admin address.
    #[arg(long, default_value = "http://127.0.0.1:9901")]
    url: url::Url,
    /// The authority of the admin address's certificate, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The certificate to show, PEM.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Question {
    Livez,
    Readyz,
    Startupz,
}

impl Question {
    const fn path(self) -> &'static str {
        match self {
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
            Self::Startupz => "/startupz",
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the verb: 0 when the answer is yes, 1 when it is no, 3 when there is none.
pub fn run(args: &Args) -> ExitCode {
    let status = match args.url.scheme() {
        "http" if is_loopback(&args.url) => plain(args),
        "http" => Err("plain http is for loopback; use https".to_owned()),
        _ => secured(args),
    };
    match status {
        Ok(200) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{} says no: {status}", args.question.path());
            ExitCode::from(exit::FINDINGS)
        }
        Err(what) => {
            eprintln!("no answer: {what}");
            ExitCode::from(exit::OUT_OF_REACH)
        }
    }
}

fn plain(args: &Args) -> Result<u16, String> {
    let authority = args.url.authority();
    let addresses = args.url.socket_addrs(|| Some(80)).map_err(|error| error.to_string())?;
    let ask = || {
        let addresses = addresses.as_slice().to_socket_addrs()?.collect::<Vec<_>>();
        let mut stream = TcpStream::connect(addresses.as_slice())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // Whole, in one write: a server that is stopping may read no more than once.
        let path = args.question.path();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok::<_, std::io::Error>(head)
    };
    let head = ask().map_err(|error| error.to_string())?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|status| status.parse().ok());
    status.ok_or_else(|| "that was no HTTP answer".to_owned())
}

fn secured(args: &Args) -> Result<u16, String> {
    let read = |file: &Option<PathBuf>| {
        let text = file.as_ref().map(std::fs::read).transpose();
        text.map_err(|error| format!("a file cannot be read: {error}"))
    };
    let (ca, certificate, key) = (read(&args.ca)?, read(&args.certificate)?, read(&args.key)?);
    let client_pem = certificate.as_deref().zip(key.as_deref());
    let outgoing = Outgoing { ca_pem: ca.as_deref(), client_pem, dangerous_allow_loopback_http: false };
    let chain = |error: anyhow::Error| format!("{error:#}");
    let fetch = HttpsFetch::new(&outgoing).map_err(|error| chain(error.into()))?;
    let url = args.url.join(args.question.path()).map_err(|error| error.to_string())?;
    let request = http::Request::get(url.as_str()).body(Vec::new()).map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let answer = runtime.block_on(fetch.fetch(request)).map_err(|error| chain(error.into()))?;
    Ok(answer.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str) -> String {
        let url = url.parse().unwrap();
        let args = Args { question: Question::Readyz, url, ca: None, certificate: None, key: None };
        format!("{:?}", run(&args))
    }

    fn code(code: u8) -> String {
        format!("{:?}", ExitCode::from(code))
    }

    /// An admin address that gives one answer.
    fn answering(answer: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        format!("http://{address}")
    }

    #[test]
    fn yes_no_and_silence_are_told_apart() {
        assert_eq!(ask(&answering("HTTP/1.1 200 OK\r\n\r\n")), code(0));
        assert_eq!(ask(&answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")), code(1));
        assert_eq!(ask(&answering("SSH-2.0-something\r\n")), code(3));
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask(&format!("http://{closed}")), code(3));
    }

    #[test]
    fn plain_http_leaves_no_machine() {
        assert_eq!(ask("http://192.0.2.1:9901"), code(3));
    }
}
