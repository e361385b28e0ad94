//! Handing the listening sockets to a new process, so that nobody is refused while the binary is exchanged.
//!
//! The process that serves listens on a Unix socket. A process started with `--upgrade` connects there and is given the
//! listening sockets (`SCM_RIGHTS`, unix(7)); it makes itself ready, and says which of them it serves. Only then does the
//! old one stop to accept, and drains as at SIGTERM. A new process that fails before that changes nothing.
//! `docs/adr/0083-sockets-are-handed-over.md` has the reasons.

use std::fs::{self, Permissions};
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::geteuid;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::shared::Shared;

/// More sockets than any configuration has listeners; the kernel's own bound is 253.
const SOCKETS: usize = 64;
const MESSAGE_BYTES: usize = 8192;
/// How long one side waits for the other's word. A new process may have much to read before it is ready.
const WORD: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(120);
/// What the old process says when it stops to accept.
const YOURS: &str = "yours\n";

/// The sockets were not taken over.
#[derive(Debug, thiserror::Error)]
#[error("it was asked at {path}", path = .path.display())]
pub struct NotTaken {
    path: PathBuf,
    source: io::Error,
}

/// The sockets cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the socket {path}", path = .path.display())]
pub struct NotOffered {
    path: PathBuf,
    source: io::Error,
}

/// The sockets of the process that serves, as a new one was given them.
#[derive(Debug)]
pub(super) struct Taken {
    path: PathBuf,
    old: UnixStream,
    sockets: Vec<(SocketAddr, TcpListener)>,
    kept: Vec<SocketAddr>,
}

impl Taken {
    /// Asks for them. `None`: nobody is there to give any.
    ///
    /// # Errors
    /// When somebody is there who is not of this process's own user, or does not give them.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, NotTaken> {
        Self::ask(path).map_err(|source| NotTaken { path: path.to_owned(), source })
    }

    fn ask(path: &Path) -> io::Result<Option<Self>> {
        let old = match UnixStream::connect(path) {
            Ok(old) => old,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        own_user(&old)?;
        old.set_read_timeout(Some(WORD))?;
        old.set_write_timeout(Some(WORD))?;
        let sockets = receive(&old)?;
        Ok(Some(Self { path: path.to_owned(), old, sockets, kept: Vec::new() }))
    }

    /// The socket that listens on this address, if it was given.
    pub(super) fn socket(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.sockets.iter().position(|(given, _)| *given == address)?;
        self.kept.push(address);
        Some(self.sockets.swap_remove(at).1)
    }

    /// This process is ready to serve: the old one stops to accept. Gives what stays open for as long as that one lives.
    ///
    /// # Errors
    /// When the old process does not answer: it may serve on, and this one must not.
    pub(super) fn ready(self) -> Result<UnixStream, NotTaken> {
        let path = self.path.clone();
        self.say_ready().map_err(|source| NotTaken { path, source })
    }

    fn say_ready(self) -> io::Result<UnixStream> {
        let Self { mut old, sockets, kept, .. } = self;
        // What is not served any more is closed by the old process, which knows how without resetting anybody.
        drop(sockets);
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        old.write_all(format!("{}\n", kept.join(" ")).as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&old).read_line(&mut answer)?;
        if answer == YOURS { Ok(old) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// What a process offers to the one that follows it.
#[derive(Debug)]
pub(super) struct Offer {
    listener: UnixListener,
    /// Where it was made, and where it is to be found.
    made: PathBuf,
    path: PathBuf,
    sockets: Vec<(SocketAddr, TcpListener)>,
}

impl Offer {
    /// Makes the socket, beside the one of the process before.
    pub(super) fn bind<'a>(path: &Path, sockets: impl Iterator<Item = &'a TcpListener>) -> Result<Self, NotOffered> {
        Self::make(path, sockets).map_err(|source| NotOffered { path: path.to_owned(), source })
    }

    fn make<'a>(path: &Path, sockets: impl Iterator<Item = &'a TcpListener>) -> io::Result<Self> {
        let mut made = path.as_os_str().to_owned();
        made.push(".new");
        let made = PathBuf::from(made);
        match fs::remove_file(&made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&made)?;
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        let sockets = sockets.map(|socket| Ok((socket.local_addr()?, socket.try_clone()?)));
        Ok(Self { listener, made, path: path.to_owned(), sockets: sockets.collect::<io::Result<_>>()? })
    }

    /// From now on the next process finds this one.
    pub(super) fn publish(&self) -> Result<(), NotOffered> {
        fs::rename(&self.made, &self.path).map_err(|source| NotOffered { path: self.path.clone(), source })
    }

    /// Offers until another process has taken over, then says so; or until this one ends.
    pub(super) async fn keep(self, shared: Arc<Shared>, mut stop: watch::Receiver<bool>, handed: watch::Sender<bool>) {
        let sockets = Arc::new(self.sockets);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = self.listener.accept() => accepted,
            };
            let given = match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    let sockets = Arc::clone(&sockets);
                    tokio::task::spawn_blocking(move || give(stream, &sockets)).await
                }
                Err(error) => Ok(Err(error)),
            };
            let (mut new, served) = match given {
                Ok(Ok(given)) => given,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a process that asked for the sockets did not take over: this one serves on");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the sockets could not be given");
                    continue;
                }
            };
            shared.in_flight.hand_over(served);
            if let Err(error) = new.write_all(YOURS.as_bytes()) {
                // It said that it serves: were it to end now, a supervisor starts another. Two would be worse.
                tracing::error!(%error, "the new process does not hear that the sockets are its own");
            }
            handed.send_replace(true);
            drop(sockets);
            // Open until this process ends: the new one follows its changes of state as long.
            let _until_the_end = new;
            return std::future::pending().await;
        }
    }
}

/// Gives the sockets, and waits until the other process is ready. Which it serves.
fn give(stream: UnixStream, sockets: &[(SocketAddr, TcpListener)]) -> io::Result<(UnixStream, Vec<SocketAddr>)> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WORD))?;
    stream.set_read_timeout(Some(READY))?;
    own_user(&stream)?;
    send(&stream, sockets)?;
    let mut served = String::new();
    BufReader::new(&stream).read_line(&mut served)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let served = served.strip_suffix('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    let served = served.split_ascii_whitespace().map(|address| address.parse().map_err(|_| invalid()));
    Ok((stream, served.collect::<io::Result<_>>()?))
}

/// Who holds a listening socket answers in the gateway's name: only its own user may ask for one, or give one.
fn own_user(stream: &UnixStream) -> io::Result<()> {
    let own = socket_peercred(stream)?.uid == geteuid();
    if own { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn send(stream: &UnixStream, sockets: &[(SocketAddr, TcpListener)]) -> io::Result<()> {
    let addresses: Vec<String> = sockets.iter().map(|(address, _)| address.to_string()).collect();
    let message = format!("{}\n", addresses.join(" "));
    let descriptors: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if message.len() > MESSAGE_BYTES || !rights.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(stream, &[IoSlice::new(message.as_bytes())], &mut rights, SendFlags::NOSIGNAL)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn receive(stream: &UnixStream) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut message = vec![0_u8; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut message)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    message.truncate(received.bytes);
    let mut sockets = Vec::new();
    for right in rights.drain() {
        match right {
            RecvAncillaryMessage::ScmRights(descriptors) => sockets.extend(descriptors.map(TcpListener::from)),
            RecvAncillaryMessage::ScmCredentials(_) | _ => return Err(invalid()),
        }
    }
    let message = String::from_utf8(message).map_err(|_| invalid())?;
    let addresses = message.strip_suffix('\n').ok_or_else(invalid)?.split_ascii_whitespace();
    let addresses = addresses.map(|address| address.parse().map_err(|_| invalid()));
    let addresses: Vec<SocketAddr> = addresses.collect::<io::Result<_>>()?;
    // Each socket listens where it is said to.
    let fit = |(address, socket): (&SocketAddr, &TcpListener)| socket.local_addr().is_ok_and(|own| own == *address);
    if addresses.len() != sockets.len() || !addresses.iter().zip(&sockets).all(fit) {
        return Err(invalid());
    }
    Ok(addresses.into_iter().zip(sockets).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_with_their_addresses_and_what_waits_in_their_queues() {
        let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [one.local_addr().unwrap(), other.local_addr().unwrap()];
        let waiting = std::net::TcpStream::connect(addresses[1]).unwrap();
        let (giving, taking) = UnixStream::pair().unwrap();
        send(&giving, &[(addresses[0], one), (addresses[1], other)]).unwrap();
        let received = receive(&taking).unwrap();
        assert_eq!(received.iter().map(|(address, _)| *address).collect::<Vec<_>>(), addresses);
        let (_, from) = received[1].1.accept().unwrap();
        assert_eq!(from, waiting.local_addr().unwrap());
    }

    #[test]
    fn a_message_that_does_not_fit_its_sockets_is_refused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let (giving, taking) = UnixStream::pair().unwrap();
        send(&giving, &[(elsewhere, socket)]).unwrap();
        assert_eq!(receive(&taking).unwrap_err().kind(), io::ErrorKind::InvalidData);
        for message in ["127.0.0.1:1\n", "no address\n", "cut off"] {
            (&giving).write_all(message.as_bytes()).unwrap();
            assert_eq!(receive(&taking).unwrap_err().kind(), io::ErrorKind::InvalidData, "{message}");
        }
        assert!(own_user(&taking).is_ok());
    }

    const KNOCK_AT: &str = "FHIRWALL_TEST_KNOCK_AT";

    #[test]
    #[ignore = "the other user of the test below: connects where it is told to"]
    fn knocks_where_it_is_told_to() {
        UnixStream::connect(std::env::var_os(KNOCK_AT).unwrap()).unwrap();
    }

    #[test]
    fn another_user_is_given_nothing_and_believed_nothing() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can be two users");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // As wide open as nobody should leave it.
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        // The other user may not be able to read what the tests were built to.
        let program = dir.path().join("knock");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let mut knock = std::process::Command::new(&program);
        knock.args(["--ignored", "--exact", "serve::handover::tests::knocks_where_it_is_told_to"]).env(KNOCK_AT, &path);
        for (user, given) in [(65_534, false), (0, true)] {
            let knocked = std::os::unix::process::CommandExt::uid(&mut knock, user).current_dir("/").output().unwrap();
            assert!(knocked.status.success(), "{}", String::from_utf8_lossy(&knocked.stdout));
            let (stream, _) = listener.accept().unwrap();
            let asked = give(stream, &[]).map_err(|error| error.kind());
            // Its own user gets as far as being heard out; it hung up without a word.
            let ended = if given { io::ErrorKind::BrokenPipe } else { io::ErrorKind::PermissionDenied };
            assert_eq!(asked.err(), Some(ended), "user {user}");
        }
    }
}
