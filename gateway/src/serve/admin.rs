//! The admin address: plain on loopback, mutual TLS elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use fhirwall_certs::peer::PeerIdentity;
use fhirwall_certs::server::SwappableTls;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::admin::AdminConnection;

/// Operators, probes and scrapers at once.
const CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEADER: Duration = Duration::from_secs(10);

/// Serves `router` on this socket until the task is ended. Whose connection a request came on is among its extensions.
pub(super) fn serve(
    socket: std::net::TcpListener,
    tls: Option<Arc<SwappableTls>>,
    router: Router,
) -> io::Result<JoinHandle<()>> {
    let socket = TcpListener::from_std(socket)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(tokio::spawn(async move {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match socket.accept().await {
                Ok((tcp, _)) => {
                    let (tls, router) = (tls.clone(), router.clone());
                    tokio::spawn(async move {
                        connection(tcp, tls.as_deref(), router).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::info!(%error, "accept failed on the admin address");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }))
}

/// One connection. What fails in its handshake is the other side's loss.
async fn connection(tcp: TcpStream, tls: Option<&SwappableTls>, router: Router) -> Option<()> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER);
    let Some(tls) = tls else {
        let service = TowerToHyperService::new(router.layer(Extension(AdminConnection::Loopback)));
        return http.serve_connection(TokioIo::new(tcp), service).await.ok();
    };
    let acceptor = TlsAcceptor::from(tls.current().config());
    let stream = timeout(HANDSHAKE, acceptor.accept(tcp)).await.ok()?.ok()?;
    let peer = PeerIdentity::from_der_chain(stream.get_ref().1.peer_certificates()?).ok()?;
    let service = TowerToHyperService::new(router.layer(Extension(AdminConnection::Tls(Arc::new(peer)))));
    http.serve_connection(TokioIo::new(stream), service).await.ok()
}
