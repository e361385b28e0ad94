//! The way to a neighbour, and what may happen to what passes over it.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What happens to bytes on their way. It concerns connections that are open and those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Whoever connects is hung up on.
    Refused,
    /// Every piece comes late.
    Delay(Duration),
    /// The connection ends in the middle of what the neighbour says.
    Cut,
    /// The same, by a reset.
    Reset,
    /// Nothing passes any more, and nobody hangs up.
    Stalled,
    /// The neighbour's words are cut off, and its end of the connection stays open.
    HalfClosed,
    /// So many bytes pass in a second.
    Bandwidth(u32),
    /// What the neighbour says arrives as something else.
    Garbage,
}

/// A port before a neighbour's port. It closes when dropped.
pub(super) struct Way {
    pub(super) address: SocketAddr,
    fault: watch::Sender<Fault>,
    doorman: JoinHandle<()>,
}

impl Way {
    pub(super) async fn to(neighbour: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, seen) = watch::channel(Fault::None);
        let doorman = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(between(client, neighbour, seen.clone()));
            }
        });
        Self { address, fault, doorman }
    }

    pub(super) fn now(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.doorman.abort();
    }
}

async fn between(client: TcpStream, neighbour: SocketAddr, fault: watch::Receiver<Fault>) {
    if *fault.borrow() == Fault::Refused {
        return;
    }
    let Ok(server) = TcpStream::connect(neighbour).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let words = carried(from_server, to_client, fault.clone(), true);
    let questions = carried(from_client, to_server, fault, false);
    tokio::select! {
        () = words => {}
        () = questions => {}
    }
}

/// Carries bytes one way until either end is gone, or a fault ends it. Faults spoil what the neighbour `answers`.
async fn carried(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fault: watch::Receiver<Fault>, answers: bool) {
    let mut piece = vec![0; 4096];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        let now = *fault.borrow();
        let piece = &mut piece[..length];
        match now {
            Fault::None => {}
            Fault::Refused | Fault::Cut if answers => {
                let _gone = to.write_all(&piece[..length / 2]).await;
                return;
            }
            Fault::Reset if answers => {
                let _gone = SockRef::from(to.as_ref()).set_linger(Some(Duration::ZERO));
                return;
            }
            Fault::HalfClosed if answers => {
                let _gone = to.shutdown().await;
                return std::future::pending().await;
            }
            Fault::Stalled => return std::future::pending().await,
            Fault::Delay(time) => sleep(time).await,
            Fault::Bandwidth(each_second) => {
                sleep(Duration::from_secs(1) * u32::try_from(length).unwrap() / each_second).await
            }
            Fault::Garbage if answers => piece.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(3)),
            Fault::Refused | Fault::Cut | Fault::Reset | Fault::HalfClosed | Fault::Garbage => {}
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
