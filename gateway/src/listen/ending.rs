//! The end of a process: what is under way, how a listening socket is closed, and how a connection is.
//!
//! Nothing is dropped that was accepted: `docs/adr/0057-how-a-process-ends.md` has the order of events.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pingora::protocols::http::ServerSession;
use socket2::{SockFilter, SockRef};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// How long a new connection may take to ask its first question.
const FIRST: Duration = Duration::from_secs(2);
/// How long an open connection may take to ask once more, to be told in the answer that it was the last one.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// How long a connection that has been told may stay without a request, before it is let go.
const QUIET: Duration = Duration::from_millis(700);
/// How long connections that the kernel is about to make are waited for.
pub(super) const SETTLE: Duration = Duration::from_millis(100);
/// How long, and for how many bytes, a client is heard out that has got its last answer.
const HEAR_OUT: Duration = Duration::from_millis(500);
const HEAR_OUT_BYTES: usize = 1024 * 1024;

/// Counts the requests under way and what is open, and says when there is nothing any more.
#[derive(Debug, Default)]
pub struct InFlight {
    requests: AtomicUsize,
    /// Listeners that accept, and connections.
    open: AtomicUsize,
    nothing: Notify,
    handed_over: OnceLock<Vec<SocketAddr>>,
}

impl InFlight {
    pub(super) fn request(self: &Arc<Self>) -> RequestUnderWay {
        self.requests.fetch_add(1, Ordering::AcqRel);
        RequestUnderWay(Arc::clone(self))
    }

    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(self))
    }

    /// The requests under way.
    pub fn count(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Resolves when no request is under way, no connection is open, and no listener accepts.
    pub async fn until_idle(&self) {
        loop {
            let nothing = self.nothing.notified();
            if self.count() == 0 && self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            nothing.await;
        }
    }

    /// These listening sockets belong to another process now: it hears whoever waits in their queues. Only the first call
    /// holds.
    pub fn hand_over(&self, sockets: Vec<SocketAddr>) {
        if self.handed_over.set(sockets).is_err() {
            tracing::error!("the listening sockets were handed over twice");
        }
    }

    /// Does another process serve now?
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.get().is_some()
    }

    /// Does it accept from this socket?
    pub(super) fn accepts_elsewhere(&self, socket: &TcpListener) -> bool {
        let sockets = self.handed_over.get().map(Vec::as_slice).unwrap_or_default();
        socket.local_addr().is_ok_and(|address| sockets.contains(&address))
    }
}

/// Counts as one request under way until it is dropped.
#[derive(Debug)]
pub(super) struct RequestUnderWay(Arc<InFlight>);

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.nothing.notify_waiters();
        }
    }
}

/// Counts as one open connection, or listener, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<InFlight>);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.nothing.notify_waiters();
        }
    }
}

/// From now on the kernel makes no new connection of this socket; those it has made are accepted as ever. A SYN is dropped
/// and not refused, so that a client asks once more, and is refused when the socket is closed: closing with connections
/// in the queue would reset them.
pub(super) fn refuse_new(socket: &TcpListener) {
    const FLAGS: u32 = 13; // RFC 9293 3.1: the octet of the control bits
    const SYN: u32 = 0x02;
    const SYN_ACK: u32 = 0x12;
    let program = [
        SockFilter::new(0x30, 0, 0, FLAGS),    // load the octet
        SockFilter::new(0x54, 0, 0, SYN_ACK),  // keep SYN and ACK of it
        SockFilter::new(0x15, 0, 1, SYN),      // SYN alone?
        SockFilter::new(0x06, 0, 0, 0),        // drop the segment
        SockFilter::new(0x06, 0, 0, u32::MAX), // take it whole
    ];
    if let Err(error) = SockRef::from(socket).attach_filter(&program) {
        tracing::debug!(%error, "a connection that is made at the very end may be reset");
    }
}

/// How much longer a connection is waited for that was accepted at `since` and has asked nothing yet.
pub(super) fn patience(since: Instant) -> Duration {
    FIRST.saturating_sub(since.elapsed()).max(AGAIN)
}

/// Resolves when a process that ends waits no longer for a connection that was accepted at `since`.
pub(super) async fn out_of_patience(mut stop: watch::Receiver<bool>, since: Instant) {
    drop(stop.wait_for(|stop| *stop).await);
    sleep(patience(since)).await;
}

/// How far one connection has come.
#[derive(Debug)]
pub(super) struct Course {
    since: Instant,
    asked: AtomicU64,
    under_way: AtomicUsize,
    first: Notify,
}

impl Course {
    /// Of a connection that was accepted at `since`.
    pub(super) fn new(since: Instant) -> Arc<Self> {
        Arc::new(Self { since, asked: AtomicU64::new(0), under_way: AtomicUsize::new(0), first: Notify::new() })
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// A request has begun.
    pub(super) fn ask(self: &Arc<Self>) -> Asking {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        if self.asked.fetch_add(1, Ordering::AcqRel) == 0 {
            self.first.notify_waiters();
        }
        Asking(Arc::clone(self))
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) > 0
    }

    /// Resolves with the first request, and at once when there was one.
    pub(super) async fn asked(&self) {
        let first = self.first.notified();
        if !self.has_asked() {
            first.await;
        }
    }

    /// Resolves when the process ends and nothing has been asked here for a while. `told` turns true when the client is
    /// to be told to go: on HTTP/2 by GOAWAY, whose first frame names no stream yet (RFC 9113 6.8).
    pub(super) async fn over(&self, mut stop: watch::Receiver<bool>, told: watch::Sender<bool>) {
        if stop.wait_for(|stop| *stop).await.is_err() {
            return std::future::pending().await;
        }
        // Who has just connected is about to ask, and is heard before it is told.
        drop(timeout(patience(self.since), self.asked()).await);
        told.send_replace(true);
        loop {
            let asked = self.asked.load(Ordering::Acquire);
            sleep(QUIET).await;
            if self.under_way.load(Ordering::Acquire) == 0 && self.asked.load(Ordering::Acquire) == asked {
                return;
            }
        }
    }
}

/// Counts as one request of its connection until it is dropped.
#[derive(Debug)]
pub(super) struct Asking(Arc<Course>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Says goodbye (close_notify, then FIN), and hears the client out: with bytes unread, closing would send a reset, and the
/// client could lose its last answer to it (RFC 9112 9.6).
pub(super) async fn close(mut session: ServerSession) {
    if session.is_http2() {
        return;
    }
    session.shutdown().await;
    let ServerSession::H1(session) = session else { return };
    let mut stream = session.into_inner();
    let heard = async {
        let (mut piece, mut left) = ([0u8; 4096], HEAR_OUT_BYTES);
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    drop(timeout(HEAR_OUT, heard).await);
}
