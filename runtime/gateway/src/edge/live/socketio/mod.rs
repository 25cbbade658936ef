//! Socket.IO, protocol 5: what clients emit becomes events, events are emitted to rooms.
//!
//! ```text
//!   emit("my event", {room, ..}) --> chat.in.my-event --> a handler --> chat.out.my-response --> whoever is in the room
//! ```
//!
//! The protocol is socketioxide's; what is here is who may come in, and the way to the bus and back. Invariants: one
//! session of a transport holds one [`Place`], given back when the session ends; a session answers to its own caller only.

mod client;
mod hub;
mod names;
mod namespace;
mod provenance;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::Method;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::{ParserConfig, SocketIo};
use tokio::sync::watch;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use self::client::{Client, Hello, Taker};
use self::namespace::Namespace;
use super::config::{LiveConfig, SocketIoConfig};
use super::listen::Listening;
use super::places::{Place, Places};
use crate::edge::auth::Client as Who;
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{EdgeError, Target};

pub(crate) use provenance::may_say;

/// Packets that wait in a transport; what does not fit waits before it.
const TRANSPORT_PACKETS: usize = 32;

/// How long a transport may be open without joining a namespace.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// The Socket.IO server of one route.
pub(crate) struct Server {
    service: BoxCloneSyncService<Request, Response, Infallible>,
    io: SocketIo,
    places: Arc<Places>,
    owners: Arc<Owners>,
    /// Ends the tasks that read for the namespaces; dropping it does so too.
    stop: watch::Sender<bool>,
}

/// Whose the sessions of authenticated callers are, by their ids in the transport.
#[derive(Debug, Default)]
struct Owners(Mutex<HashMap<String, Who>>);

/// A session of a transport, kept by it in the extensions of its first request.
#[derive(Clone, Debug)]
struct Session(Arc<Held>);

#[derive(Debug)]
struct Held {
    who: Who,
    sid: OnceLock<String>,
    owners: Arc<Owners>,
    place: Mutex<Place>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(sid) = self.sid.get() {
            self.owners.0.lock().unwrap_or_else(PoisonError::into_inner).remove(sid);
        }
    }
}

impl Server {
    /// Starts the server of a route; its namespaces begin with the next event.
    pub(crate) async fn start(
        config: &SocketIoConfig,
        listening: Listening,
        message_bytes: usize,
    ) -> Result<Self, EdgeError> {
        let Listening { backend, places, edge, stop: stopping, .. } = listening;
        let (stop, stopped) = watch::channel(false);
        let owners = Arc::new(Owners::default());
        let parser = ParserConfig::common()
            .max_incoming_binaries(16)
            .max_incoming_binary_buf_size(message_bytes)
            .packet_completion_timeout(CONNECT_TIME);
        let (service, io) = SocketIo::builder()
            // Which paths lead here is the business of routes.
            .req_path("/")
            .max_buffer_size(TRANSPORT_PACKETS)
            .max_payload(message_bytes as u64)
            .ws_max_message_size(message_bytes)
            .ws_max_frame_size(message_bytes)
            .connect_timeout(CONNECT_TIME)
            .with_parser(parser)
            .build_svc();
        for (name, config) in &config.namespaces {
            let opened = Namespace::open(name, config.clone(), message_bytes, backend.clone(), edge.clone()).await?;
            add(&io, opened.0.clone());
            spawn(opened.0.read(opened.1, stopped.clone()));
        }
        spawn(close_with(stopping, stopped, io.clone()));
        Ok(Self { service: boxed(service), io, places, owners, stop })
    }

    /// Answers one request of a transport. `who` is whose place is taken, `live` says how many there are now.
    pub(crate) async fn call(&self, mut request: Request, who: Who, live: &LiveConfig) -> Response {
        match sid(request.uri().query()) {
            None => {
                let (all, each) = (live.listeners, live.listeners_per_caller);
                let place = match self.places.take(&who, all, each) {
                    Ok(place) => place,
                    Err(none) => return super::no_place(none).into_response(),
                };
                let held = Held { who, sid: OnceLock::new(), owners: self.owners.clone(), place: Mutex::new(place) };
                request.extensions_mut().insert(Session(Arc::new(held)));
            }
            Some(sid) => {
                let owner = self.owners.0.lock().unwrap_or_else(PoisonError::into_inner).get(sid).cloned();
                if owner.is_some_and(|owner| owner != who) {
                    return Problem::new(Refusal::Forbidden, "the session belongs to another caller").into_response();
                }
            }
        }
        match self.service.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Ends all connections; clients come back, to whoever serves then.
    pub(crate) async fn close(&self) {
        self.stop.send_replace(true);
        self.io.close().await;
    }
}

/// The protocol's own body, whose type has no name, becomes everybody's.
fn boxed<S, B>(service: S) -> BoxCloneSyncService<Request, Response, Infallible>
where
    S: tower::Service<Request, Response = http::Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service.map_response(|response: http::Response<B>| response.map(Body::new)))
}

fn add(io: &SocketIo, namespace: Arc<Namespace>) {
    let name = namespace.name.to_string();
    let enter = async move |socket: SocketRef, TryData(hello): TryData<Hello>| {
        // No future may borrow the socket, so that it can go meanwhile.
        enter(namespace, socket, hello.ok()).await
    };
    let run = async |socket: SocketRef| {
        if let Some(client) = socket.extensions.get::<Arc<Client>>() {
            client.run(socket).await;
        }
    };
    io.ns(name, run.with(enter));
}

/// Before a client is told that it is connected: everything that it may use at once has to be there.
async fn enter(namespace: Arc<Namespace>, socket: SocketRef, hello: Option<Hello>) -> Result<(), String> {
    let hello = hello.ok_or("`auth` has `token`, a key or a token, `rooms`, a list of texts, and `from`, a cursor")?;
    let permit = namespace.admit(&socket, hello.token.as_deref()).await.map_err(|no| no.detail().to_owned())?;
    let live = namespace.live().ok_or("the node is shutting down")?;
    let session = socket.req_parts().extensions.get::<Session>().cloned();
    if let (Some(Session(held)), Some(name)) = (&session, &permit.caller.name) {
        let who = Who::Caller(permit.caller.kind, Arc::clone(name));
        let mut place = held.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.pass_to(&who, live.listeners_per_caller).map_err(|none| super::no_place(none).detail().to_owned())?;
    }
    let client = Client::enter(namespace, &socket, &hello, permit, live.messages_per_second)?;
    // Who opened the transport unknown may ask from another address next time.
    if let Some(Session(held)) = session
        && matches!(held.who, Who::Caller(..))
    {
        let sid = held.sid.get_or_init(|| socket.id.to_string());
        held.owners.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sid.clone(), held.who.clone());
    }
    let leaving = client.clone();
    socket.on_fallback(Taker(client.clone()));
    socket.on_disconnect(async move || leaving.leave());
    socket.extensions.insert(client);
    Ok(())
}

/// Whether a request waits until something happens.
pub(crate) fn is_long_poll(target: &Target, request: &Request) -> bool {
    matches!(target, Target::SocketIo(_)) && *request.method() == Method::GET && sid(request.uri().query()).is_some()
}

/// The session that a request of a transport belongs to.
fn sid(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("sid="))
}

/// Ends the connections when the gateway ends, unless the server is gone before.
async fn close_with(mut stopping: watch::Receiver<bool>, mut stopped: watch::Receiver<bool>, io: SocketIo) {
    let ends = tokio::select! {
        biased;
        _ = stopped.wait_for(|stopped| *stopped) => false,
        _ = stopping.wait_for(|stopping| *stopping) => true,
    };
    if ends {
        io.close().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a few for each server, ended by `Server::close` and its drop")]
pub(crate) fn spawn(reader: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(reader);
}
