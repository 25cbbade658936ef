//! The server: its settings, its listener, its life.
//!
//! Invariant: at most [`AdminConfig::connections`] at a time, further ones wait in the system's queue; when the node
//! stops, readers of events are told so and the rest gets [`GRACE`] to finish.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{AdminBackend, AdminToken, routes};

/// How long requests have to finish when the node stops.
pub const GRACE: Duration = Duration::from_secs(5);

/// Settings of the admin API.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// What clients have to send.
    pub token: AdminToken,
    /// Names, beside loopback and its own address, under which the node may be asked.
    pub hosts: Vec<String>,
    /// Bytes of one request's body. A larger one is refused (`too-large`).
    pub body_bytes: usize,
    /// Events of one publish request. A larger batch is refused (`too-large`).
    pub batch_events: usize,
    /// How long a request may take; a stream of events, until it begins. Then it ends (`timed-out`).
    pub request_time: Duration,
    /// Connections at a time. Further ones wait.
    pub connections: usize,
}

impl AdminConfig {
    /// Bytes of one request's body when nothing else is said; clients split what is larger.
    pub const BODY_BYTES: usize = 16 * 1024 * 1024;

    /// The defaults, with this token.
    pub fn new(token: AdminToken) -> Self {
        Self {
            token,
            hosts: Vec::new(),
            body_bytes: Self::BODY_BYTES,
            batch_events: 1_000,
            request_time: Duration::from_secs(30),
            connections: 256,
        }
    }
}

/// Why the admin API is not there.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Something else listens there.
    #[error(
        "the admin address {addr} is in use, perhaps by another busway node; choose another with --admin \
         (port 0 takes a free one)"
    )]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be used.
    #[error("the admin address {addr} cannot be used")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The listener failed while it was serving.
    #[error("the admin API cannot serve")]
    Serve(#[source] io::Error),
}

impl ServeError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Takes the address, so that a taken port is known before anything else starts.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { addr },
        _ => ServeError::Bind { addr, source },
    })
}

pub(crate) struct Admin {
    pub(crate) backend: Arc<dyn AdminBackend>,
    pub(crate) config: AdminConfig,
    pub(crate) local: SocketAddr,
    /// True once the node stops; readers of events watch it.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves the admin API until `shutdown` resolves and what is under way has ended, at most [`GRACE`] later.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn AdminBackend>,
    config: AdminConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let local = listener.local_addr().map_err(ServeError::Serve)?;
    let (stopping, stop) = watch::channel(false);
    let bounded = Bounded { listener, permits: Arc::new(Semaphore::new(config.connections)) };
    let router = routes::router(Arc::new(Admin { backend, config, local, stop: stop.clone() }));
    let signal = async move {
        shutdown.await;
        stopping.send_replace(true);
    };
    let serving = axum::serve(bounded, router).with_graceful_shutdown(signal).into_future();
    let overdue = async {
        let mut stop = stop;
        // A closed channel means that serving has ended, which the other branch tells.
        if stop.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served.map_err(ServeError::Serve),
        () = overdue => {
            tracing::debug!("connections of the admin API were still open at the end of the grace time");
            Ok(())
        }
    }
}

/// A listener that accepts no more than a number of connections at a time.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        // The semaphore is never closed; without a permit the connection would merely not be counted.
        let permit = self.permits.clone().acquire_owned().await.ok();
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        (Held { stream, _permit: permit }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place among the bounded ones, given back when it is dropped.
struct Held {
    stream: TcpStream,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Held {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
