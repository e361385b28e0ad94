//! An HTTP server over TLS on loopback, for the demo's neighbours of the gateway.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_certs::server::ServerTls;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Who sent a request: set on each by the server, from the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) Option<Arc<PeerIdentity>>);

/// A running server. It stops, with all of its connections, when dropped.
#[derive(Debug)]
pub(crate) struct TlsServer {
    address: SocketAddr,
    _stop: DropGuard,
}

impl TlsServer {
    /// Starts serving `router` on `address`; port 0 lets the system choose.
    pub(crate) async fn start(address: SocketAddr, tls: &ServerTls, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, TlsAcceptor::from(tls.config()), router, stop.clone()));
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        if let Ok((socket, _)) = socket {
            connections.spawn(connection(socket, acceptor.clone(), router.clone()));
        }
    }
}

/// One connection. What fails here is the other side's loss, as with any server.
async fn connection(socket: TcpStream, acceptor: TlsAcceptor, router: Router) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let stream = acceptor.accept(socket).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates();
    let peer = chain.and_then(|chain| PeerIdentity::from_der_chain(chain).ok()).map(Arc::new);
    let service = TowerToHyperService::new(router.layer(axum::Extension(Peer(peer))));
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.ok()
}
