//! Stage 1: accept TLS 1.3, verify the client chain and revocation, and name the peer once per connection.
//!
//! Our own accept loop in front of pingora's HTTP sessions: pingora's listener cannot refuse TLS 1.2, has no cap on
//! connections, and waits a minute for a handshake. `docs/adr/0001-own-listener.md` has the reasons.

mod connection;
mod ending;
pub mod front;
mod proxy_protocol;
pub mod trusted;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_certs::server::SwappableTls;
use http::{HeaderMap, Method, StatusCode};
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, Ssl, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info};

use connection::ConnectionApp;
pub use ending::InFlight;
use ending::{Course, Open};
use proxy_protocol::Proxied;
use trusted::TrustedProxies;

/// What a listener allows a connection to cost before it has proved anything.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// For a request's whole header, from its first byte; also from the handshake to the first request.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For a request's whole body.
    pub body: Duration,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub request_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(6),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            request_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Who is at the other end of a connection, found out once.
#[derive(Debug)]
pub struct Connection {
    /// The verified client certificate, where one was presented.
    pub peer: Option<Arc<PeerIdentity>>,
    pub address: SocketAddr,
    /// The server name of the TLS handshake.
    pub server_name: Option<String>,
    /// Which listener accepted it: its place in the configuration.
    pub listener: usize,
}

impl Connection {
    /// The digest of the client certificate, where one was presented.
    pub fn certificate(&self) -> Option<&[u8; 32]> {
        self.peer.as_ref().map(|peer| &peer.leaf_sha256)
    }
}

/// One request, read within bounds and free of what HTTP parsers disagree on.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// `Host`, or `:authority` on HTTP/2.
    pub authority: Option<String>,
    /// The raw path, starting with `/`.
    pub path: String,
    /// The raw query, without `?`.
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What goes back. The body is whole before its first byte is sent, unless the rest of it is made while it is sent.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What follows the body.
    pub rest: Option<Box<dyn Pieces>>,
    /// To be told how the sending ended.
    pub ending: Option<Box<dyn Ending>>,
}

/// The rest of a long answer, piece by piece.
#[async_trait]
pub trait Pieces: Send + fmt::Debug {
    /// The next piece, ready to be sent; `None` at the end. When it breaks, so does the answer: nobody may take what was
    /// sent for the whole.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>>;
}

/// A long answer cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Is told once how the sending of an answer ended.
pub trait Ending: Send + fmt::Debug {
    fn ended(self: Box<Self>, bytes_sent: usize, complete: bool);
}

/// What a listener serves.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Answers one request. Never fails: what goes wrong is an answer too.
    async fn answer(&self, connection: &Connection, request: Request) -> Answer;
    /// Answers what the front filter, or the reading of the request, refused.
    async fn refuse(&self, connection: &Connection, refusal: front::FrontRefusal) -> Answer;
}

/// A TLS listener. Its whole TLS configuration (certificates, client CA, CRLs) is swapped through `tls`.
pub struct Listener {
    pub tls: Arc<SwappableTls>,
    pub application: Arc<dyn Application>,
    pub bounds: Bounds,
    pub in_flight: Arc<InFlight>,
    /// Its place in the configuration.
    place: usize,
    /// Who may speak for clients, in the generation that serves.
    proxies: Arc<ArcSwap<TrustedProxies>>,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Listener {
    pub fn new(
        tls: Arc<SwappableTls>,
        application: Arc<dyn Application>,
        bounds: Bounds,
        in_flight: Arc<InFlight>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(bounds.connections));
        Self { tls, application, bounds, in_flight, place: 0, proxies: Arc::default(), slots }
    }

    /// It stands at this place among the listeners of the configuration.
    #[must_use]
    pub fn at(self, place: usize) -> Self {
        Self { place, ..self }
    }

    /// These neighbours may announce clients by the PROXY protocol; exchanged with the generations.
    #[must_use]
    pub fn behind(self, proxies: Arc<ArcSwap<TrustedProxies>>) -> Self {
        Self { proxies, ..self }
    }

    /// Accepts until `shutdown` turns true. Connections then finish the requests they have and close.
    pub async fn serve(self: Arc<Self>, sockets: TcpListener, mut shutdown: watch::Receiver<bool>) {
        // Whoever waits for idleness waits for the end of accepting too.
        let _accepting = self.in_flight.open();
        let told = shutdown.clone();
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                accepted = sockets.accept() => accepted,
            };
            self.take(accepted, slot, &told).await;
        }
        if self.in_flight.accepts_elsewhere(&sockets) {
            return;
        }
        // The kernel has connected some already: closing the socket now would reset them.
        ending::refuse_new(&sockets);
        let settled = tokio::time::sleep(ending::SETTLE);
        tokio::pin!(settled);
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                biased;
                accepted = sockets.accept() => accepted,
                () = &mut settled => return,
            };
            self.take(accepted, slot, &told).await;
        }
    }

    async fn take(
        self: &Arc<Self>,
        accepted: std::io::Result<(TcpStream, SocketAddr)>,
        slot: OwnedSemaphorePermit,
        shutdown: &watch::Receiver<bool>,
    ) {
        match accepted {
            Ok((tcp, address)) => {
                let (listener, shutdown) = (Arc::clone(self), shutdown.clone());
                let open = self.in_flight.open();
                tokio::spawn(async move {
                    listener.connection(tcp, address, shutdown, open).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, or a connection that died in the queue: neither ends the listener.
                info!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        mut tcp: TcpStream,
        address: SocketAddr,
        shutdown: watch::Receiver<bool>,
        _open: Open,
    ) {
        let accepted = Instant::now();
        let Some(address) = self.announced(&mut tcp, address).await else {
            debug!("no PROXY header from a neighbour that announces its clients");
            return;
        };
        if tcp.set_nodelay(true).is_err() {
            return;
        }
        let mut l4: L4Stream = tcp.into();
        let digest = pingora::protocols::SocketDigest::from_raw_fd(l4.as_raw_fd());
        if digest.peer_addr.set(Some(address.into())).is_err() {
            return;
        }
        l4.set_socket_digest(digest);
        let acceptor = Acceptor::from_server_config(self.tls.current().config());
        let shaken = tokio::select! {
            shaken = timeout(self.bounds.handshake, acceptor.tls_handshake(l4)) => shaken,
            () = ending::out_of_patience(shutdown.clone(), accepted) => return,
        };
        let Ok(Ok(tls)) = shaken else {
            debug!("handshake refused");
            return;
        };
        let Some(connection) = identify_peer(&tls, address, self.place) else {
            debug!("client certificate not understood");
            return;
        };
        let course = Course::new(accepted);
        let app = Arc::new(ConnectionApp::new(Arc::clone(&self), connection, Arc::clone(&course), shutdown.clone()));
        let watchdog = app.first_request_watchdog();
        let stream: Stream = Box::new(tls);
        let (tell, told) = watch::channel(false);
        tokio::select! {
            _ = app.process_new(stream, &told) => {}
            () = watchdog => debug!("no request within the header deadline"),
            () = course.over(shutdown, tell) => debug!("let go at the end of the process"),
        }
    }
}

impl Listener {
    /// The client that a trusted neighbour announces by the PROXY protocol, else whoever connected. From nobody else is a
    /// header read: to TLS its bytes are no handshake.
    async fn announced(&self, tcp: &mut TcpStream, address: SocketAddr) -> Option<SocketAddr> {
        if !self.proxies.load().announces(address.ip()) {
            return Some(address);
        }
        match timeout(self.bounds.handshake, proxy_protocol::read(tcp)).await {
            Ok(Ok(Proxied::Client(client))) => Some(client),
            Ok(Ok(Proxied::Own)) => Some(address),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

fn identify_peer(tls: &impl Ssl, address: SocketAddr, listener: usize) -> Option<Connection> {
    let ssl = tls.get_ssl()?;
    let peer = match ssl.peer_cert_chain_der() {
        Some(chain) if !chain.is_empty() => Some(Arc::new(PeerIdentity::from_der_chain(chain).ok()?)),
        Some(_) | None => None,
    };
    Some(Connection { peer, address, server_name: ssl.server_name().map(str::to_owned), listener })
}
