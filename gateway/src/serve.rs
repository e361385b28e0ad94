//! Starting and ending a gateway: the parts that outlive a generation, the listeners, the admin address, the reloads.

mod admin;
pub(crate) mod behaviour;
mod board;
mod deliveries;
mod operations;
mod service;
mod start;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fhirwall_certs::server::SwappableTls;
use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use service::ListenerService;
pub(crate) use start::chain;
pub use start::{StartError, prepare};

use crate::audit::delivery::Delivery;
use crate::generation::Generation;
use crate::listen::Listener;
use crate::proxy::Gateway;
use crate::reload::{Live, Trigger};
use crate::shared::Shared;

/// A gateway that is ready to serve: bound, but not accepting yet.
#[derive(Debug)]
pub struct Prepared {
    pub shared: Arc<Shared>,
    pub live: Arc<Live<Generation>>,
    pub gateway: Arc<Gateway>,
    /// Each with its bound socket.
    pub listeners: Vec<(Arc<Listener>, std::net::TcpListener)>,
    pub admin: std::net::TcpListener,
    /// Where the admin address speaks TLS.
    pub admin_tls: Option<Arc<SwappableTls>>,
    pub trigger: Trigger,
    pub draining: Arc<AtomicBool>,
    /// Turns true when listeners shall stop to accept.
    pub stop: channel::Sender<bool>,
    deliveries: Vec<Arc<Delivery>>,
    tasks: Vec<JoinHandle<()>>,
}

/// A gateway that serves on the current runtime: for the demo and for tests. `fhirwall run` serves on pingora's.
#[derive(Debug)]
pub struct Running {
    pub shared: Arc<Shared>,
    pub live: Arc<Live<Generation>>,
    pub addresses: Vec<SocketAddr>,
    trigger: Trigger,
    draining: Arc<AtomicBool>,
    stop: channel::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    deliveries: Vec<Arc<Delivery>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Prepared {
    /// Serves the admin address and every listener on the current runtime.
    pub fn serve(self) -> std::io::Result<Running> {
        let mut tasks = self.tasks;
        tasks.push(service::admin(self.admin, self.admin_tls, &self.gateway, &self.live, &self.draining)?);
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for (listener, socket) in self.listeners {
            addresses.push(socket.local_addr()?);
            let socket = tokio::net::TcpListener::from_std(socket)?;
            listeners.push(tokio::spawn(listener.serve(socket, self.stop.subscribe())));
        }
        Ok(Running {
            shared: self.shared,
            live: self.live,
            addresses,
            trigger: self.trigger,
            draining: self.draining,
            stop: self.stop,
            listeners,
            deliveries: self.deliveries,
            tasks,
        })
    }

    /// Splits off what runs beside the listeners, for a caller that serves those itself.
    pub fn into_parts(self) -> std::io::Result<(Vec<ListenerService>, Ending)> {
        let mut tasks = self.tasks;
        tasks.push(service::admin(self.admin, self.admin_tls, &self.gateway, &self.live, &self.draining)?);
        let services = self
            .listeners
            .into_iter()
            .map(|(listener, socket)| ListenerService::new(listener, socket, self.stop.subscribe()))
            .collect();
        let Self { shared, draining, stop, deliveries, .. } = self;
        Ok((services, Ending { shared, draining, stop, deliveries, tasks }))
    }
}

impl Running {
    /// Looks at the files again now.
    pub fn reload(&self) {
        self.trigger.reload();
    }

    /// Looks after the audit chain and the certificates now, as it does every five minutes.
    pub async fn look(&self) {
        watch::look(&self.live, &self.shared).await;
    }

    /// Ends: stops to accept, waits for requests under way, closes the audit log.
    pub async fn shutdown(self, drain: Duration) {
        let Self { shared, draining, stop, deliveries, tasks, .. } = self;
        let ending = Ending { shared, draining, stop, deliveries, tasks };
        ending.end(Duration::ZERO, drain).await;
        for listener in self.listeners {
            listener.abort();
        }
    }
}

/// What it takes to end a gateway.
#[derive(Debug)]
pub struct Ending {
    pub shared: Arc<Shared>,
    draining: Arc<AtomicBool>,
    stop: channel::Sender<bool>,
    deliveries: Vec<Arc<Delivery>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Ending {
    /// Readiness off, keep accepting for `linger`, then drain for at most `drain`, and be done as soon as nothing is
    /// under way.
    pub async fn end(self, linger: Duration, drain: Duration) {
        self.draining.store(true, std::sync::atomic::Ordering::Release);
        tokio::time::sleep(linger).await;
        self.stop.send_replace(true);
        if timeout(drain, self.shared.in_flight.until_idle()).await.is_err() {
            tracing::warn!(requests = self.shared.in_flight.count(), "requests cut off at the end of the drain");
        }
        for task in &self.tasks {
            task.abort();
        }
        self.shared.audit.flush_refusals();
        self.shared.audit.close().await;
        deliveries::finish(&self.deliveries).await;
    }
}
