//! The listener: connections in, requests out, within bounds.
//!
//! Invariants: at most `connections` at a time, further ones wait in the system's queue; at most
//! `connections_per_client` from one client, further ones are closed at once; a connection that is upgraded keeps its place
//! until its bytes are done; every connection has a deadline at every moment at which it waits for its client.

mod activity;
mod connection;
mod io;
mod slots;

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::serve::Gateway;
use slots::Slots;

/// Connections that the system holds for us while none can be taken.
const BACKLOG: u32 = 1024;

/// How often the files of certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long to wait when the system has no room for a further connection.
const BREATHER: Duration = Duration::from_millis(100);

/// Why the gateway is not there.
#[derive(Debug, thiserror::Error)]
pub enum EdgeServeError {
    /// Something else listens there.
    #[error("the address of the gateway, {addr}, is in use; choose another with --listen or `listen` in [gateway]")]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be used.
    #[error("the address of the gateway, {addr}, cannot be used")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Takes the address, so that a taken port is known before anything else starts.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, EdgeServeError> {
    let listening = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A node that is started again gets its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    listening().map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => EdgeServeError::InUse { addr },
        _ => EdgeServeError::Bind { addr, source },
    })
}

impl Gateway {
    /// Serves until `shutdown` resolves and what is in flight has ended, at most `drain_delay` and `drain_time` later.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        // Readiness goes first, and the listener a while later.
        let mut shutdown = pin!(async {
            shutdown.await;
            self.leave();
            tokio::time::sleep(self.edge.config().limits.drain_delay).await;
        });
        let slots = Arc::new(Slots::default());
        let mut connections = JoinSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut maintaining = pin!(self.maintain());
        loop {
            let (stream, addr) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = self.accepted(&listener, &slots) => accepted,
                Some(_) = connections.join_next() => {
                    self.edge.counters.connections.store(slots.open(), Ordering::Relaxed);
                    continue;
                }
                _ = look.tick() => {
                    self.look_at_certificates();
                    // Connections that were upgraded outlive their task.
                    self.edge.counters.connections.store(slots.open(), Ordering::Relaxed);
                    continue;
                }
                () = &mut maintaining => continue,
            };
            // What has ended is let go of also while there is always a next one.
            while connections.try_join_next().is_some() {}
            let most = self.edge.config().limits.connections_per_client;
            // One client that has too many is closed, without an answer that would cost more than the connection.
            if let Some(slot) = slots.take(addr.ip(), most) {
                self.edge.counters.connections.store(slots.open(), Ordering::Relaxed);
                connections.spawn(connection::serve(Arc::clone(&self), stream, addr, slot));
            } else {
                self.edge.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%addr, "closed: the client has {most} connections");
            }
        }
        drop(listener);
        self.stop();
        let drain_time = self.edge.config().limits.drain_time;
        let ended = async {
            while connections.join_next().await.is_some() {}
            slots.empty().await;
        };
        if tokio::time::timeout(drain_time, ended).await.is_err() {
            tracing::warn!("{} connections of the gateway were still open after {drain_time:?}", slots.open());
        }
    }

    /// The next connection, when there is room for one.
    async fn accepted(&self, listener: &TcpListener, slots: &Slots) -> (TcpStream, SocketAddr) {
        loop {
            slots.room(|| self.edge.config().limits.connections).await;
            match listener.accept().await {
                Ok(accepted) => return accepted,
                // The client has gone already.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::warn!(%error, "the gateway cannot take a connection now");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }
}
