//! What live push allows, with defaults that are safe on the open internet.

use std::collections::BTreeMap;
use std::time::Duration;

use busway_types::{Pattern, Topic};

/// Bounds of everybody who listens: Server-Sent Events, WebSocket and Socket.IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// Listeners at a time. Further ones are refused (503 with `Retry-After`).
    pub listeners: usize,
    /// Listeners at a time of one caller, or of one address without authentication. Further ones are refused (429).
    pub listeners_per_caller: usize,
    /// Patterns of one listener, or of one subscription of a WebSocket. More are refused (400).
    pub patterns: usize,
    /// With nothing to send: how often a sign of life is sent. A WebSocket that leaves two unanswered is closed.
    pub heartbeat: Duration,
    /// How long one stream lasts. Then it is ended and the client comes back behind the last event, authenticated anew.
    pub stream_time: Duration,
    /// How long a client may take for what is sent to it. Then it is disconnected.
    pub stall: Duration,
    /// Bytes of one message from a WebSocket or a Socket.IO client. A larger one ends the connection.
    pub message_bytes: usize,
    /// Messages a second from one WebSocket or Socket.IO client, on average; twice as many at once.
    pub messages_per_second: u32,
    /// Subscriptions of one WebSocket at a time. Further ones are refused.
    pub subscriptions: usize,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            listeners: 4_096,
            listeners_per_caller: 64,
            patterns: 16,
            heartbeat: Duration::from_secs(15),
            stream_time: Duration::from_hours(1),
            stall: Duration::from_secs(30),
            message_bytes: 256 * 1024,
            messages_per_second: 50,
            subscriptions: 16,
        }
    }
}

/// A route that speaks Socket.IO (protocol 5): what its namespaces carry to the bus and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketIoConfig {
    /// By name; `/` is the one that clients use when they name none.
    pub namespaces: BTreeMap<String, SocketIoNamespace>,
}

/// One namespace of Socket.IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketIoNamespace {
    /// What clients emit is published below this: `my event` to `chat.in.my-event`.
    pub incoming: Topic,
    /// The topics whose events are emitted to clients: `chat.out` for everything below it.
    pub outgoing: Topic,
    /// Names of events as clients write them, where they differ from tokens of topics: `my response` for the topic
    /// `chat.out.my-response`. Not needed for events that carry the header `socketio-event`.
    pub names: Vec<String>,
    /// Where the data of an event, coming or going, has its room: a field, or a path of fields with dots.
    pub room: String,
    /// What a client emits to enter a room.
    pub join: String,
    /// What a client emits to leave one.
    pub leave: String,
    /// Where a caller needs the scope `subscribe:` to join: `chat.rooms` asks for `subscribe:chat.rooms.NAME`. Without
    /// it whoever may use the route may join any room.
    pub rooms: Option<Topic>,
    /// Whether an event without a room goes to everybody in the namespace, instead of to nobody.
    pub broadcast: bool,
    /// Whether clients get a second argument with each event, `{"cursor": ..}`, from which they can go on when they come
    /// back. Handlers of some clients take no argument that they do not expect.
    pub cursors: bool,
    /// Rooms of one client at a time. Further ones are refused.
    pub rooms_per_client: usize,
}

impl SocketIoNamespace {
    /// Between these topics, everything else as is usual.
    pub fn new(incoming: Topic, outgoing: Topic) -> Self {
        Self {
            incoming,
            outgoing,
            names: Vec::new(),
            room: "room".to_owned(),
            join: "join".to_owned(),
            leave: "leave".to_owned(),
            rooms: None,
            broadcast: false,
            cursors: false,
            rooms_per_client: 64,
        }
    }

    /// The pattern of what is emitted; none when the topic is too long to have anything below it.
    pub fn pattern(&self) -> Option<Pattern> {
        format!("{}.>", self.outgoing).parse().ok()
    }
}
