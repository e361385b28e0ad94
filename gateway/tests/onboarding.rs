//! `docs/onboarding.md`, run as it is printed: from nothing to a partner's first read.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The shell blocks of the page, in order.
fn blocks() -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/onboarding.md");
    let page = std::fs::read_to_string(page).unwrap();
    page.split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().lines().map(str::to_owned).collect())
        .collect()
}

/// A shell in `dir` that finds the built program by its name.
fn shell(command: &str, dir: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_fhirwall")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    // `exec`: what is killed at the end is the program, not the shell before it.
    shell.arg("-c").arg(format!("exec {command}")).current_dir(dir).env("PATH", path).env("NO_COLOR", "1");
    shell
}

/// Ends the demo whatever happens.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn at_most_five_commands_lead_to_the_first_read() {
    let blocks = blocks();
    let [first, second] = blocks.as_slice() else { panic!("the page has {} blocks of commands", blocks.len()) };
    assert!(first.len() + second.len() <= 5);
    let dir = tempfile::tempdir().unwrap();
    let demo = shell(first.first().unwrap(), dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut demo = Serving(demo);
    let begun = Instant::now();
    // Written last, when everything answers (product.md section 2).
    while !dir.path().join("site/demo.json").exists() {
        assert!(demo.0.try_wait().unwrap().is_none(), "the demo ended");
        assert!(begun.elapsed() < Duration::from_secs(120), "the demo did not begin to serve");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut told = String::new();
    for command in second {
        let output = shell(command, dir.path()).output().unwrap();
        told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}\n{told}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(told.contains("✓ token") && told.contains(": 200 Bundle of "), "{told}");
}
