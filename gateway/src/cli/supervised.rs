//! A process among others: what the service manager is told, and how a successor is started.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

/// Tells the service manager, where there is one, that this process serves now and is the main one (sd_notify(3)).
pub(super) fn ready() -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.to_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    let said = format!("READY=1\nMAINPID={}\n", std::process::id());
    UnixDatagram::unbound()?.send_to_addr(said.as_bytes(), &address)?;
    Ok(())
}

/// Starts the program as it was started, to take over. When it cannot, this process serves on.
pub(super) fn start_successor() {
    let mut words = std::env::args_os();
    let Some(program) = words.next() else { return tracing::error!("the program does not know its own name") };
    match Command::new(&program).args(successor(words)).stdin(Stdio::null()).spawn() {
        Ok(mut started) => {
            tracing::info!(process = started.id(), "a new process is started to take over");
            // Who is not waited for stays in the process table.
            std::thread::spawn(move || match started.wait() {
                Ok(status) => tracing::error!(%status, "the new process has ended; this one serves on"),
                Err(error) => tracing::error!(%error, "what became of the new process is unknown"),
            });
        }
        Err(error) => tracing::error!(%error, "no new process can be started; this one serves on"),
    }
}

/// The words of a successor's command line.
fn successor(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const UPGRADE: &str = "--upgrade";
    let mut words: Vec<OsString> = words.collect();
    if !words.iter().any(|word| word == UPGRADE) {
        words.push(UPGRADE.into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_started_with_the_same_words_and_takes_over() {
        let of = |words: &[&str]| successor(words.iter().map(OsString::from));
        let expected: Vec<OsString> = ["run", "--config", "f.yaml", "--upgrade"].map(OsString::from).into();
        assert_eq!(of(&["run", "--config", "f.yaml"]), expected);
        assert_eq!(of(&["run", "--config", "f.yaml", "--upgrade"]), expected);
    }
}
