//! The listeners as services of pingora's server, and the admin address.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use fhirwall_certs::server::SwappableTls;
use pingora::server::ListenFds;
use pingora::services::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::operations::Operated;
use crate::admin::{Admin, router};
use crate::generation::Generation;
use crate::listen::Listener;
use crate::proxy::Gateway;
use crate::reload::Live;

/// One listener, run by pingora's server on a runtime of its own.
#[derive(Debug)]
pub struct ListenerService {
    name: String,
    listener: Arc<Listener>,
    socket: Option<std::net::TcpListener>,
    stop: watch::Receiver<bool>,
}

impl ListenerService {
    pub(super) fn new(listener: Arc<Listener>, socket: std::net::TcpListener, stop: watch::Receiver<bool>) -> Self {
        let name = socket.local_addr().map_or_else(|_| "fhirwall".to_owned(), |address| address.to_string());
        Self { name, listener, socket: Some(socket), stop }
    }
}

#[async_trait]
impl Service for ListenerService {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: watch::Receiver<bool>, _per_fd: usize) {
        let Some(socket) = self.socket.take() else { return };
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => Arc::clone(&self.listener).serve(socket, self.stop.clone()).await,
            Err(error) => tracing::error!(%error, listener = self.name, "the listener cannot be served"),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Serves the admin address on the current runtime.
pub(super) fn admin(
    socket: std::net::TcpListener,
    tls: Option<Arc<SwappableTls>>,
    gateway: &Arc<Gateway>,
    live: &Arc<Live<Generation>>,
    draining: &Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    let address = socket.local_addr()?;
    let operations =
        Operated { gateway: Arc::clone(gateway), live: Arc::clone(live), draining: Arc::clone(draining), address };
    let admin = Admin { operations: Arc::new(operations), metrics: Arc::clone(&gateway.shared.metrics) };
    super::admin::serve(socket, tls, router(admin))
}
