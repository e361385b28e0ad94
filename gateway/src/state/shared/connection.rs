//! The connection to the shared store, replaced when it falls silent.
//!
//! The client library connects anew when a connection breaks. One that is merely silent (a path that swallows packets, a
//! server that was moved away) breaks only when the kernel gives up, a quarter of an hour later.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult};

pub(super) struct Connection {
    client: Client,
    patience: Duration,
    current: ArcSwap<ConnectionManager>,
}

impl Connection {
    /// Connects when first used.
    pub(super) fn new(client: Client, patience: Duration) -> RedisResult<Self> {
        let current = ArcSwap::from_pointee(lazy(&client, patience)?);
        Ok(Self { client, patience, current })
    }

    pub(super) fn current(&self) -> Arc<ConnectionManager> {
        self.current.load_full()
    }

    /// The next question goes over a new connection, unless another has seen to it already.
    pub(super) fn replace(&self, silent: &Arc<ConnectionManager>) {
        if let Ok(new) = lazy(&self.client, self.patience) {
            self.current.compare_and_swap(silent, Arc::new(new));
        }
    }
}

fn lazy(client: &Client, patience: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_max_delay(Duration::from_millis(100))
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
