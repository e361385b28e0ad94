//! The processes that a test starts, and where their packages are. They end with the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What real peers need.
pub(crate) struct Packages {
    dir: PathBuf,
    kit: PathBuf,
}

impl Packages {
    /// `None`, and a word on the way, where something is missing.
    pub(crate) fn found() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let shared = std::env::var_os("FHIRWALL_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
        let dir = std::env::var_os("FHIRWALL_PEERS").map_or_else(|| root.join("target/peers"), PathBuf::from);
        let kit = shared.join("kit");
        for needed in [kit.join("idp.mjs"), dir.join("node_modules/oidc-provider"), dir.join("node_modules/fhirclient")]
        {
            if !needed.exists() {
                println!("skipped: no {}; run .ci/peers", needed.display());
                return None;
            }
        }
        Some(Self { dir: dir.canonicalize().ok()?, kit })
    }

    pub(crate) fn python(&self) -> Option<PathBuf> {
        let python = self.dir.join("py/bin/python");
        if !python.exists() {
            println!("skipped: no {}; run .ci/peers", python.display());
            return None;
        }
        Some(python)
    }

    /// The browser, where its driver and itself are installed.
    pub(crate) fn chromium(&self) -> Option<PathBuf> {
        let browser = PathBuf::from("/usr/bin/chromium");
        for needed in [self.dir.join("node_modules/playwright-core"), browser.clone()] {
            if !needed.exists() {
                println!("skipped: no {}; run .ci/peers", needed.display());
                return None;
            }
        }
        Some(browser)
    }

    /// What a look at our own pages needs: the browser, its driver and axe-core, and nothing of the kit.
    pub(crate) fn for_pages() -> Option<(Self, PathBuf)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let dir = std::env::var_os("FHIRWALL_PEERS").map_or_else(|| root.join("target/peers"), PathBuf::from);
        let axe = dir.join("node_modules/axe-core/axe.min.js");
        if !axe.exists() {
            println!("skipped: no {}; run .ci/peers", axe.display());
            return None;
        }
        let packages = Self { dir: dir.canonicalize().ok()?, kit: PathBuf::new() };
        let browser = packages.chromium()?;
        Some((packages, browser))
    }

    /// The kit's provider.
    pub(crate) fn provider(&self) -> Command {
        let mut command = self.node("--import");
        command.arg(script("register.mjs")).arg(self.kit.join("idp.mjs"));
        command
    }

    /// A script of ours in node.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = self.node("--import");
        command.arg(script("register.mjs")).arg(script(name));
        command
    }

    fn node(&self, first: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("node");
        command.arg(first).env("FHIRWALL_PEERS", &self.dir);
        command
    }
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/scripts").join(name)
}

/// A running process that is read line by line.
pub(crate) struct Peer {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Peer {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the process starts");
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take().unwrap(), output, _child: child }
    }

    pub(crate) async fn line(&mut self) -> String {
        self.line_within(Duration::from_secs(60)).await
    }

    pub(crate) async fn line_within(&mut self, bound: Duration) -> String {
        let line = tokio::time::timeout(bound, self.output.next_line()).await;
        line.expect("a line in time").unwrap().expect("the process speaks")
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }
}
