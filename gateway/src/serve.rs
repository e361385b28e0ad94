//! Starting and ending a gateway: the parts that outlive a generation, the listeners, the admin address, the reloads.

mod admin;
pub(crate) mod behaviour;
mod board;
mod bounds;
mod deliveries;
mod handover;
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

pub use handover::{NotOffered, NotTaken};
pub use service::ListenerService;
pub(crate) use start::chain;
pub use start::{Start, StartError, Variables, prepare, prepare_as, prepare_in};

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
    /// Turns true when another process has taken over.
    handed: channel::Sender<bool>,
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
    listeners: Vec<JoinHandle<()>>,
    ending: Ending,
}

impl Prepared {
    /// Serves the admin address and every listener on the current runtime.
    pub fn serve(self) -> std::io::Result<Running> {
        let admin = service::admin(self.admin, self.admin_tls, &self.gateway, &self.live, &self.draining)?;
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for (listener, socket) in self.listeners {
            addresses.push(socket.local_addr()?);
            let socket = tokio::net::TcpListener::from_std(socket)?;
            listeners.push(tokio::spawn(listener.serve(socket, self.stop.subscribe())));
        }
        let Self { shared, live, trigger, draining, stop, handed, deliveries, tasks, .. } = self;
        let ending = Ending { shared: Arc::clone(&shared), draining, stop, handed, admin, deliveries, tasks };
        Ok(Running { shared, live, addresses, trigger, listeners, ending })
    }

    /// Splits off what runs beside the listeners, for a caller that serves those itself.
    pub fn into_parts(self) -> std::io::Result<(Vec<ListenerService>, Ending)> {
        let admin = service::admin(self.admin, self.admin_tls, &self.gateway, &self.live, &self.draining)?;
        let services = self
            .listeners
            .into_iter()
            .map(|(listener, socket)| ListenerService::new(listener, socket, self.stop.subscribe()))
            .collect();
        let Self { shared, draining, stop, handed, deliveries, tasks, .. } = self;
        Ok((services, Ending { shared, draining, stop, handed, admin, deliveries, tasks }))
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
        self.ending.end(Duration::ZERO, drain).await;
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
    handed: channel::Sender<bool>,
    admin: JoinHandle<()>,
    deliveries: Vec<Arc<Delivery>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Ending {
    /// Turns true when another process has taken over: time to end.
    pub fn handed_over(&self) -> channel::Receiver<bool> {
        self.handed.subscribe()
    }

    /// Readiness off, keep accepting for `linger`, then drain for at most `drain`, and be done as soon as nothing is
    /// under way. Where another process serves already, nothing lingers.
    pub async fn end(self, linger: Duration, drain: Duration) {
        let handed = *self.handed.borrow();
        if handed {
            // Operators, probes and scrapers meet the new process from now on.
            self.admin.abort();
        } else {
            self.draining.store(true, std::sync::atomic::Ordering::Release);
            tokio::time::sleep(linger).await;
        }
        self.stop.send_replace(true);
        let idle = tokio::select! {
            idle = timeout(drain, self.shared.in_flight.until_idle()) => idle,
            never = watch::follow(&self.shared), if handed => match never {},
        };
        if idle.is_err() {
            tracing::warn!(requests = self.shared.in_flight.count(), "requests cut off at the end of the drain");
        }
        self.admin.abort();
        for task in &self.tasks {
            task.abort();
        }
        // The directory is let go of last: another process tells the sinks what is left in it.
        self.shared.audit.flush_refusals();
        self.shared.audit.sign_head().await;
        deliveries::finish(&self.deliveries).await;
        self.shared.audit.close().await;
    }
}
