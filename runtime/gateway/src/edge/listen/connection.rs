//! One connection, from its first byte to its last.
//!
//! HTTP/1.1 and HTTP/2 by hyper; what hyper does not bound by itself (the first byte, the time between requests, a client
//! that does not read) is bounded here.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Active, Activity};
use super::io::Guarded;
use super::slots::Slot;
use crate::edge::context::Peer;
use crate::edge::limits::EdgeLimits;
use crate::edge::serve::Gateway;
use crate::edge::tls;

/// How long an idle connection has to go away once it was told to.
const FAREWELL: Duration = Duration::from_secs(1);

/// HTTP/2: how often a silent client is asked whether it is there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// HTTP/2: bytes that a client may send ahead on one stream, and on all of them.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// HTTP/2: bytes of an answer that are held for one stream whose client does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// HTTP/2: streams that a client opened and reset at once and that are not cleared away yet; more close the connection.
const RESETS: usize = 20;

/// Why a connection ended early.
type Broken = Box<dyn Error + Send + Sync>;

/// Serves one connection to its end.
pub(super) async fn serve(gateway: Arc<Gateway>, stream: TcpStream, addr: SocketAddr, slot: Slot) {
    // Small answers are not held back for the sake of larger packets.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%addr, %error, "the connection is gone");
        return;
    }
    let limits = gateway.edge.config().limits.clone();
    let activity = Arc::new(Activity::new());
    let io = Guarded::new(stream, Arc::clone(&activity), limits.write_time, slot);
    // Each kind in a box of its own, so that a connection takes no more memory than its kind needs.
    let ended = match gateway.tls.load_full() {
        None => {
            let peer = Peer { addr, is_tls: false, certificate: None };
            Box::pin(converse(gateway, io, peer, activity, &limits)).await
        }
        Some(tls) => match Box::pin(handshake(tls, io, &gateway, limits.handshake_time)).await {
            Ok(stream) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let certificate = certificate.map(|der| tls::peer_certificate(der));
                activity.begin();
                let peer = Peer { addr, is_tls: true, certificate };
                Box::pin(converse(gateway, stream, peer, activity, &limits)).await
            }
            Err(error) => Err(error),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, error = &*error, "the connection ended early");
    }
}

/// The handshake, unless it takes too long or the gateway ends meanwhile.
async fn handshake(
    tls: Arc<rustls::ServerConfig>,
    io: Guarded<TcpStream>,
    gateway: &Gateway,
    within: Duration,
) -> Result<TlsStream<Guarded<TcpStream>>, Broken> {
    let mut stopping = gateway.edge.stopping();
    tokio::select! {
        accepted = tokio::time::timeout(within, TlsAcceptor::from(tls).accept(io)) => Ok(accepted??),
        _ = stopping.wait_for(|stopping| *stopping) => Err("the gateway ends".into()),
    }
}

async fn converse<S>(
    gateway: Arc<Gateway>,
    io: S,
    peer: Peer,
    activity: Arc<Activity>,
    limits: &EdgeLimits,
) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stopping = gateway.edge.stopping();
    let peer = Arc::new(peer);
    let noted = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let active = noted.request(request.version() == Version::HTTP_2);
        let (gateway, peer) = (Arc::clone(&gateway), Arc::clone(&peer));
        async move {
            // In a box, or hyper would keep room for a request while there is none.
            let response = Box::pin(gateway.handle(request, &peer)).await;
            Ok::<Response<Tracked>, Infallible>(response.map(|body| Tracked::new(body, active)))
        }
    });
    let builder = builder(limits);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut told = pin!(async move { while !*stopping.borrow_and_update() && stopping.changed().await.is_ok() {} });
    let mut is_told = false;
    let mut alarm: Option<(Instant, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if !is_told && told.as_mut().poll(cx).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
        }
        let Some(deadline) = activity.deadline(limits) else {
            alarm = None;
            return Poll::Pending;
        };
        if is_over(&mut alarm, deadline, cx) {
            if !is_told {
                // A kept-alive connection ends in order, HTTP/2 with its GOAWAY.
                is_told = true;
                connection.as_mut().graceful_shutdown();
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
            }
            if is_over(&mut alarm, deadline + FAREWELL, cx) {
                return Poll::Ready(Err("the client kept the connection waiting".into()));
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether a deadline has passed; if not, the task is woken when it has.
fn is_over(alarm: &mut Option<(Instant, Pin<Box<Sleep>>)>, deadline: Instant, cx: &mut Context<'_>) -> bool {
    let (set, sleep) = alarm.get_or_insert_with(|| (deadline, Box::pin(tokio::time::sleep_until(deadline))));
    if *set != deadline {
        *set = deadline;
        sleep.as_mut().reset(deadline);
    }
    sleep.as_mut().poll(cx).is_ready()
}

fn builder(limits: &EdgeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The activity of the connection has the deadlines.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        .max_headers(limits.headers)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    builder
}

/// The body of an answer; while it is being sent, its request is being answered.
struct Tracked {
    body: Body,
    active: Active,
}

impl Tracked {
    fn new(body: Body, mut active: Active) -> Self {
        // HTTP/2 asks for the first part once the client has room for it, which may be never.
        active.wait();
        Self { body, active }
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.active.go_on();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) {
            this.active.wait();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
