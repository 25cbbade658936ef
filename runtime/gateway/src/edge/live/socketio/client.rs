//! One client of a namespace: what it emits goes to the bus, what is for it comes back.
//!
//! Invariants: what a client emits is handled in its order, and answered only when it is safe; a client that emits more
//! than is handled is refused, one that takes nothing is waited for while its transport answers pings, and reads what it
//! missed from the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busway_types::{Draft, Key, Offset, Topic};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::handler::{FromMessageParts, MessageHandler};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use socketioxide_core::Value as Packet;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::super::feed::{Cursor, Feed, Start};
use super::super::pace::Pace;
use super::super::permit::Permit;
use super::super::render;
use super::hub::{Behind, CaughtUp, Emit, Handed, NotJoined};
use super::names;
use super::namespace::Namespace;
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{EdgeError, RequestContext};

/// What one client emitted and is not handled yet. Further ones are refused.
const WAITING: usize = 32;

/// How often it is tried again to hand something to a transport that is busy.
const AGAIN: Duration = Duration::from_millis(5);

/// What a client may say when it connects, in `auth`.
#[derive(Default, Deserialize)]
pub(super) struct Hello {
    /// A key or a token. It has no `Debug`, as whatever may be one.
    #[serde(default)]
    pub(super) token: Option<String>,
    /// Rooms that it joins before anything else.
    #[serde(default)]
    pub(super) rooms: Vec<String>,
    /// Behind which event it goes on.
    #[serde(default)]
    pub(super) from: Option<String>,
}

/// A client, from before it is connected until it has gone.
pub(super) struct Client {
    pub(super) id: Arc<str>,
    pub(super) namespace: Arc<Namespace>,
    permit: Permit,
    traceparent: Option<Box<str>>,
    incoming: mpsc::Sender<Said>,
    queues: Mutex<Option<Queues>>,
    pace: Mutex<Pace>,
    messages_per_second: u32,
    left: Notify,
}

struct Queues {
    said: mpsc::Receiver<Said>,
    emits: mpsc::Receiver<Handed>,
}

/// What a client emitted.
struct Said {
    /// The name, then the arguments.
    parts: Vec<Box<RawValue>>,
    answer: Answer,
}

/// How a client is answered: by its acknowledgement when it asked for one; mistakes also by an event `problem`.
struct Answer {
    ack: Option<AckSender>,
    socket: SocketRef,
}

impl Answer {
    fn ok(self, value: &Value) {
        if let Some(ack) = self.ack
            && let Err(error) = ack.send(value)
        {
            tracing::debug!(%error, "an acknowledgement did not reach a Socket.IO client");
        }
    }

    fn refuse(self, problem: &Problem) {
        let document = problem.document();
        let sent = match self.ack {
            Some(ack) => ack.send(&json!({ "error": document })),
            None => self.socket.emit("problem", &document),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a refusal did not reach a Socket.IO client");
        }
    }
}

/// Takes what a client emits into its queue, in the order in which it comes in.
pub(super) struct Taker(pub(super) Arc<Client>);

impl MessageHandler<LocalAdapter, ()> for Taker {
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, mut packet: Packet, ack_id: Option<i64>) {
        let ack = ack_id.and_then(|_| AckSender::from_message_parts(&socket, &mut packet, &ack_id).ok());
        let answer = Answer { ack, socket: SocketRef::from(socket) };
        self.0.take(packet, answer);
    }
}

impl Client {
    /// Prepares a client; refused with a text for it.
    pub(super) fn enter(
        namespace: Arc<Namespace>,
        socket: &SocketRef,
        hello: &Hello,
        permit: Permit,
        messages_per_second: u32,
    ) -> Result<Arc<Self>, String> {
        let extensions = &socket.req_parts().extensions;
        let from = match hello.from.as_deref() {
            None => None,
            Some(text) => {
                Some(Cursor::parse(text).ok_or_else(|| format!("`{text}` is not a cursor that was given out"))?.0)
            }
        };
        let id: Arc<str> = random_id().map_err(|error| format!("no random number for an id: {error}"))?.into();
        let (incoming, said) = mpsc::channel(WAITING);
        let emits = namespace.hub.add(id.clone(), from);
        let pace = Mutex::new(Pace::new(messages_per_second, Instant::now()));
        let traceparent = extensions.get::<RequestContext>().and_then(|context| context.traceparent.clone());
        let queues = Mutex::new(Some(Queues { said, emits }));
        let left = Notify::new();
        let client = Self { id, namespace, permit, traceparent, incoming, queues, pace, messages_per_second, left };
        let client = Arc::new(client);
        for room in &hello.rooms {
            // Leaving the hub again is the client's drop.
            client.join(room).map_err(|problem| problem.detail().to_owned())?;
        }
        Ok(client)
    }

    /// Tells that the transport has ended.
    pub(super) fn leave(&self) {
        self.left.notify_one();
    }

    fn take(&self, packet: Packet, answer: Answer) {
        if !self.pace.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            let most = self.messages_per_second;
            return answer.refuse(&Problem::new(
                Refusal::TooMany,
                format!("more than {most} messages a second; send them more slowly"),
            ));
        }
        let text = match &packet {
            Packet::Str(text, None) => text,
            Packet::Str(_, Some(_)) | Packet::Bytes(_) => {
                return answer.refuse(&Problem::invalid("binary arguments are not taken; send base64 in JSON"));
            }
        };
        let parts = match serde_json::from_str::<Vec<Box<RawValue>>>(text) {
            Ok(parts) => parts,
            Err(error) => return answer.refuse(&Problem::invalid(format!("the arguments are not JSON: {error}"))),
        };
        if let Err(refused) = self.incoming.try_send(Said { parts, answer }) {
            let said = refused.into_inner();
            said.answer.refuse(&Problem::new(
                Refusal::Overloaded,
                format!("{WAITING} messages of this client are not handled yet; wait for their acknowledgements"),
            ));
        }
    }

    /// Serves the client until it has gone.
    pub(super) async fn run(self: Arc<Self>, socket: SocketRef) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Queues { mut said, mut emits }) = queues else { return };
        let talk = async {
            while let Some(Said { parts, answer }) = said.recv().await {
                match self.handle(&parts).await {
                    Ok(value) => answer.ok(&value),
                    Err(problem) => answer.refuse(&problem),
                }
            }
        };
        let listen = async {
            loop {
                self.catch_up(&socket, &mut emits).await?;
                let Some(handed) = emits.recv().await else { return Err::<(), Gone>(Gone) };
                self.give(&socket, &handed).await?;
            }
        };
        tokio::select! {
            () = talk => {}
            _ = listen => {}
            () = self.left.notified() => {}
            over = self.permit.clone().over() => {
                // Nothing goes in or out from here on, also while the transport is too full to be told.
                self.namespace.hub.remove(&self.id);
                tracing::debug!(reason = over.reason(), "a Socket.IO client may not go on");
                while let Err(SocketError::InternalChannelFull) = socket.clone().disconnect() {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        self.namespace.hub.remove(&self.id);
    }

    async fn handle(&self, parts: &[Box<RawValue>]) -> Result<Value, Problem> {
        let (name, arguments) = parts.split_first().ok_or_else(|| Problem::invalid("the event has no name"))?;
        let name: String = serde_json::from_str(name.get())
            .map_err(|_| Problem::invalid("the first element of an event is its name, a text"))?;
        let config = &self.namespace.config;
        if name == config.join {
            let cursor = self.join(&room_of(arguments)?)?;
            return Ok(json!({ "cursor": cursor.to_string() }));
        }
        if name == config.leave {
            self.namespace.hub.leave(&self.id, &room_of(arguments)?);
            return Ok(json!({}));
        }
        let draft = self.draft(&name, arguments)?;
        let receipts = self.namespace.backend.publish(vec![draft]).await?;
        let receipt = receipts.first().ok_or_else(|| Problem::from(EdgeError::Failed("no receipt".to_owned())))?;
        Ok(json!({ "id": receipt.id }))
    }

    fn draft(&self, name: &str, arguments: &[Box<RawValue>]) -> Result<Draft, Problem> {
        let config = &self.namespace.config;
        let topic: Topic = names::topic(&config.incoming, name).map_err(Problem::invalid)?;
        let data = match arguments {
            [] => "null".to_owned(),
            [one] => one.get().to_owned(),
            more => {
                let texts: Vec<_> = more.iter().map(|raw| raw.get()).collect();
                format!("[{}]", texts.join(","))
            }
        };
        let limits = self.namespace.backend.limits();
        let value: Value = serde_json::from_str(&data).unwrap_or(Value::Null);
        let key = names::field(&value, &config.room).unwrap_or(&self.id);
        let mut draft = Draft::new(topic, Bytes::from(data));
        draft.key = Some(Key::new(key, limits).map_err(|error| Problem::invalid(error.to_string()))?);
        draft.content_type = Some("application/json".into());
        let mut header = |name: &str, value: &str| draft.headers.push((name.into(), value.into()));
        header(names::EVENT, name);
        header(names::CLIENT, &self.id);
        header(names::NAMESPACE, &self.namespace.name);
        if let Some(caller) = self.permit.caller.identity() {
            header(names::CALLER, &caller);
        }
        if arguments.len() != 1 {
            header(names::ARGUMENTS, &arguments.len().to_string());
        }
        draft.causality.traceparent.clone_from(&self.traceparent);
        Ok(draft)
    }

    fn join(&self, room: &str) -> Result<Cursor, Problem> {
        let config = &self.namespace.config;
        if room.is_empty() || room.len() > names::NAME_BYTES {
            return Err(Problem::invalid(format!("a room has a name of 1 to {} bytes", names::NAME_BYTES)));
        }
        if let Some(rooms) = &config.rooms {
            let topic: Result<Topic, _> = format!("{rooms}.{room}").parse();
            if !topic.is_ok_and(|topic| self.permit.caller.may_see(&topic)) {
                let detail = format!("joining `{room}` needs the scope subscribe:{rooms}.{room}");
                return Err(Problem::new(Refusal::Forbidden, detail));
            }
        }
        self.namespace.hub.join(&self.id, room, config.rooms_per_client).map_err(|refused| match refused {
            NotJoined::Full => {
                let most = config.rooms_per_client;
                Problem::new(Refusal::TooMany, format!("the client is in {most} rooms; leave one first"))
            }
            NotJoined::Gone => Problem::new(Refusal::NotFound, "the client has gone"),
        })
    }

    /// With an empty queue: reads from the log what did not fit into it, until the hub goes on.
    async fn catch_up(&self, socket: &SocketRef, emits: &mut mpsc::Receiver<Handed>) -> Result<(), Gone> {
        while let Some(Behind { from, missed }) = self.namespace.hub.behind(&self.id) {
            while let Ok(handed) = emits.try_recv() {
                self.give(socket, &handed).await?;
            }
            if let Some(missed) = missed {
                self.give(socket, &Handed::Missed(missed)).await?;
            }
            if let Err(error) = self.read_behind(socket, from).await? {
                tracing::debug!(%error, "a Socket.IO client that was behind could not read the log; it is tried again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }

    async fn read_behind(&self, socket: &SocketRef, from: Offset) -> Result<Result<(), EdgeError>, Gone> {
        let namespace = &self.namespace;
        let start = Start::Behind(Cursor(from));
        let mut feed = match Feed::open(namespace.backend.clone(), namespace.patterns.clone(), None, start).await {
            Ok(feed) => feed,
            Err(error) => return Ok(Err(error)),
        };
        // Even with nothing new to read the hub may be where this client is already.
        while namespace.hub.caught_up(&self.id, feed.cursor().0) == CaughtUp::NotYet {
            let piece = match feed.next(usize::MAX).await {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(error)),
            };
            if let Some(missed) = piece.missed {
                self.give(socket, &Handed::Missed(missed)).await?;
            }
            for logged in &piece.events {
                let emit = Emit::of(logged, &namespace.config, namespace.message_bytes);
                if let Some(emit) = emit.filter(|emit| namespace.hub.is_for(&self.id, emit)) {
                    self.emit(socket, &emit).await?;
                }
            }
        }
        Ok(Ok(()))
    }

    async fn give(&self, socket: &SocketRef, handed: &Handed) -> Result<(), Gone> {
        match handed {
            Handed::Emit(emit) => self.emit(socket, emit).await,
            Handed::Missed(missed) => self.send(socket, "missed", &render::missed(*missed)).await,
        }
    }

    async fn emit(&self, socket: &SocketRef, emit: &Emit) -> Result<(), Gone> {
        let name = &emit.name;
        if self.namespace.config.cursors {
            return self.send(socket, name, &(&emit.data, json!({ "cursor": emit.cursor.to_string() }))).await;
        }
        self.send(socket, name, &emit.data).await
    }

    /// Hands something to the transport, waiting while it is full. A transport whose client does not take anything ends
    /// by its own pings.
    async fn send<T: serde::Serialize>(&self, socket: &SocketRef, name: &str, data: &T) -> Result<(), Gone> {
        loop {
            match socket.emit(name, data) {
                Ok(()) => return Ok(()),
                Err(SendError::Socket(SocketError::InternalChannelFull)) => tokio::time::sleep(AGAIN).await,
                Err(SendError::Socket(SocketError::Closed)) => return Err(Gone),
                Err(SendError::Serialize(error)) => {
                    tracing::warn!(%error, name, "an event cannot be written for Socket.IO and is left out");
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.namespace.hub.remove(&self.id);
    }
}

/// The transport has ended.
struct Gone;

/// The room that `join` and `leave` name: a text, or an object with a field `room`.
fn room_of(arguments: &[Box<RawValue>]) -> Result<String, Problem> {
    let wrong = || Problem::invalid("give the room: a text, or an object with a field `room`");
    let value: Value = arguments.first().and_then(|raw| serde_json::from_str(raw.get()).ok()).ok_or_else(wrong)?;
    value.as_str().or_else(|| value.get("room")?.as_str()).map(str::to_owned).ok_or_else(wrong)
}

/// An id that says nothing and cannot be guessed. It is not the id of the transport's session: whoever knows that one can
/// speak for the client, and events are seen by others.
fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(24), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
