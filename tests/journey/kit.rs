//! A FHIR server that is not ours, where it can be started: the kit's, on node, with its modules in `target/kit`
//! (`.ci/run` installs them).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Another's FHIR server on loopback, in memory; ends with this.
pub(crate) struct FhirServer {
    child: Child,
    port: u16,
    /// Its FHIR base.
    pub(crate) base: String,
}

impl FhirServer {
    /// Starts it; `None`, and said so, where it or its modules are not there.
    pub(crate) fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let shared = std::env::var("FHIRWALL_SHARED").map_or_else(|_| root.join("../shared"), PathBuf::from);
        let (script, kit) = (shared.join("kit/fhir-server.mjs"), root.join("target/kit"));
        if !script.is_file() || !kit.join("node_modules/@medplum").is_dir() {
            eprintln!("skipped: no FHIR server in `{}`, or no modules in `{}`", shared.display(), kit.display());
            return None;
        }
        // Node looks for modules beside the script.
        let beside = kit.join("fhir-server.mjs");
        std::fs::copy(&script, &beside).ok()?;
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let base = format!("http://127.0.0.1:{port}/fhir");
        let started = Command::new("node")
            .arg(&beside)
            .env("PORT", port.to_string())
            .env("BASE", &base)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            eprintln!("skipped: node is not there");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        assert!(line.starts_with("fhir ready"), "the FHIR server says: {line}");
        Some(Self { child, port, base })
    }

    /// GETs what is below the base, as JSON.
    pub(crate) fn search(&self, below: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET /fhir/{below} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for FhirServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
