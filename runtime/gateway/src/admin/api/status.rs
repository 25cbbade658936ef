//! What a node says about itself, its bus and its services.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use busway_types::{Offset, Ordering, Pattern, ServiceName, Timestamp, Topic};
use serde::{Deserialize, Serialize};

use super::Payload;

/// The answer to `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`; a node that cannot answer does not.
    pub status: String,
}

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The process.
    pub node: NodeStatus,
    /// The queues.
    pub bus: BusStatus,
    /// Every service, by name.
    pub services: Vec<ServiceStatus>,
    /// Every bridge, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<BridgeStatus>,
    /// Files that were refused, by path.
    pub refused: Vec<RefusedFile>,
    /// Subscriptions whose service is gone.
    pub detached: Vec<DetachedSubscription>,
    /// The nodes of a bus that several share, the owner first; none where none do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeInfo>,
}

/// What a node does for the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// It owns the bus.
    Owner,
    /// It handles events for the owner.
    Worker,
    /// It waits and handles nothing.
    Standby,
}

impl NodeRole {
    /// The word used in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Worker => "worker",
            Self::Standby => "standby",
        }
    }
}

/// One of the nodes that share a bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name on the bus.
    pub name: String,
    /// What it does.
    pub role: NodeRole,
    /// Its version of busway.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where its admin API listens.
    pub admin: SocketAddr,
    /// The generation of its deployment.
    pub generation: u32,
    /// The services that it has, by name, with the beginning of the hash of their component.
    pub services: BTreeMap<ServiceName, String>,
    /// Deliveries that it has.
    pub in_flight: usize,
    /// Deliveries that it ran under this owner.
    pub handled: u64,
    /// Since when the owner knows it.
    pub since_ms: Timestamp,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The version of busway.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// Where the queues live, for people.
    pub engine: String,
    /// When an event counts as safe: `sync`, `interval(50ms)` or `memory`.
    pub durability: String,
    /// What a power cut loses, in words.
    #[serde(default)]
    pub power_cut: String,
    /// Why it does nothing now, when it waits for its turn to own a bus that several nodes share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<String>,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// The gateway; none when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayStatus>,
    /// Whether it is shutting down.
    pub draining: bool,
}

/// The gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Where it listens.
    pub url: String,
    /// The file with its self-made certificate, for whoever is to trust it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_made: Option<String>,
    /// Connections that are open.
    pub connections: usize,
    /// Requests that are being answered.
    pub in_flight: usize,
    /// Requests that were answered since the start of the node.
    pub requests: u64,
    /// Those of them that the gateway refused, by the kind of their problem document.
    pub refused: BTreeMap<String, u64>,
    /// Connections that were closed at once because their client had too many.
    pub turned_away: u64,
}

/// The queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusStatus {
    /// The oldest offset that is kept.
    pub oldest: Offset,
    /// The offset after the newest event.
    pub head: Offset,
    /// Bytes on disk, or of kept events in memory.
    pub bytes: u64,
    /// Delayed events that wait.
    pub delayed: usize,
    /// Events that were not accepted again because their id was known, since the start of the node.
    #[serde(default)]
    pub duplicates: u64,
    /// Delayed events that had expired when their time came, since the start of the node.
    #[serde(default)]
    pub expired: u64,
    /// Which subscription fills the disk; none while there is enough room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// How much room there is: `enough`, `no-publishers` or `no-transactions`.
    pub room: String,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// It is being compiled or checked.
    Starting,
    /// It handles events, or its task runs.
    Running,
    /// It does nothing by itself: its task is set not to run.
    Idle,
    /// Its task ended and is not to run again.
    Finished,
    /// Its task waits for its schedule or its next restart.
    Waiting,
    /// It failed to start, or its task failed; it is tried again later.
    Parked,
    /// It finishes what is in flight and takes nothing new.
    Draining,
    /// It cannot run as it is; the reason says why.
    Refused,
}

impl ServiceState {
    /// The word used in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Finished => "finished",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Draining => "draining",
            Self::Refused => "refused",
        }
    }
}

/// One service. Counts begin at the start of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// The file of its component.
    pub component: String,
    /// What it is doing.
    pub state: ServiceState,
    /// Why it is parked, waiting or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first digits of the SHA-256 of the component that runs; none while none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Instances alive now.
    pub instances: usize,
    /// Deliveries that were run.
    pub handled: u64,
    /// Deliveries that were acknowledged.
    pub acked: u64,
    /// Events it published that became visible.
    pub published: u64,
    /// Deliveries that are tried again.
    pub retried: u64,
    /// Events it gave up on.
    pub dead_lettered: u64,
    /// Deliveries that trapped or broke a limit.
    pub trapped: u64,
    /// Deliveries that took longer than the timeout.
    pub timed_out: u64,
    /// Deliveries that were not run, or void, because an earlier one of their key failed.
    pub skipped: u64,
    /// The requests of contracts that it answers, by topic.
    #[serde(default)]
    pub answers: Vec<Topic>,
    /// Requests it answered, also with an error of their contract.
    #[serde(default)]
    pub answered: u64,
    /// Requests it was asked that got no answer: it failed, or took too long.
    #[serde(default)]
    pub unanswered: u64,
    /// Median time of a delivery in the guest, in microseconds; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// 99th percentile of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Bytes of memory that its instances hold.
    pub memory_bytes: u64,
    /// How it answers HTTP; none when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
    /// Its subscriptions, by name.
    pub subscriptions: Vec<SubscriptionStatus>,
}

/// How the version of a service that runs answers HTTP. Counts begin with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpStatus {
    /// Requests in an instance now.
    pub running: usize,
    /// Requests that may be in instances at the same time.
    pub concurrency: usize,
    /// Requests that wait for an instance now.
    pub waiting: usize,
    /// Requests that were given to an instance.
    pub requests: u64,
    /// Requests that it began to answer.
    pub answered: u64,
    /// Requests that trapped, gave an error or no answer, or broke off in the middle of it.
    pub failed: u64,
    /// Requests that took too long.
    pub timed_out: u64,
    /// Requests whose client went away.
    pub cancelled: u64,
    /// Requests refused because too many waited.
    pub overloaded: u64,
}

/// One subscription of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionStatus {
    /// Its name.
    pub name: String,
    /// What it selects.
    pub patterns: Vec<Pattern>,
    /// Events in memory that can be delivered now or wait for their turn.
    pub ready: usize,
    /// Events handed to an instance.
    pub in_flight: usize,
    /// Events that wait for their next attempt.
    pub parked: usize,
    /// Dead letters.
    pub dead: usize,
    /// Events that expired before they were handled, since the service was attached.
    #[serde(default)]
    pub expired: u64,
    /// Events in memory that are not yet settled.
    pub backlog_events: usize,
    /// Offsets between its cursor and the head of the log, of whatever topic.
    pub lag: u64,
    /// Why it delivers nothing now, if something holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
}

/// Which way a bridge copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeDirection {
    /// From a broker onto the bus.
    In,
    /// From the bus to a broker.
    Out,
}

/// A bridge. Counts begin at the start of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// Its name.
    pub name: String,
    /// Which way it copies.
    pub direction: BridgeDirection,
    /// Where from; no password is shown.
    pub from: String,
    /// Where to.
    pub to: String,
    /// `starting`, `connected` or `waiting`.
    pub state: String,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages that were copied: safe on the bus and acknowledged, or confirmed by the broker.
    pub copied: u64,
    /// Messages that the broker did not take and that are tried again.
    pub retried: u64,
    /// Messages that were refused for good: by the bus, or by the broker.
    pub refused: u64,
}

/// A file that cannot run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFile {
    /// The file.
    pub path: String,
    /// Why, and what to do.
    pub reason: String,
    /// Since when.
    pub since_ms: Timestamp,
}

/// A subscription whose service is gone; its position is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachedSubscription {
    /// Its name.
    pub name: String,
    /// The service it belonged to.
    pub service: ServiceName,
    /// Since when.
    pub since_ms: Timestamp,
    /// Offsets between its cursor and the head of the log.
    pub lag: u64,
    /// Dead letters that are kept.
    pub dead: usize,
}

/// The answer to `GET /v1/services/{name}`: what a service is and what it may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// How it is doing.
    pub status: ServiceStatus,
    /// Interfaces that its component exports.
    pub exports: Vec<String>,
    /// Interfaces that its component imports.
    pub imports: Vec<String>,
    /// Topics it may publish to.
    pub publish: Vec<Pattern>,
    /// Topics it receives.
    pub subscribe: Vec<Pattern>,
    /// Which of its events wait for each other.
    pub ordering: Ordering,
    /// Deliveries at the same time.
    pub concurrency: usize,
    /// How long it may take for one event.
    pub timeout_ms: u64,
    /// How much memory one instance may have.
    pub memory_limit_bytes: u64,
    /// Whether it may use key-value.
    pub key_value: bool,
    /// Names of the environment variables it sees; never their values.
    pub env: Vec<String>,
    /// Guest paths of the folders it sees.
    pub files: Vec<String>,
    /// Hosts it may connect to.
    pub network: Vec<String>,
}

/// Which entries of a service's key-value are meant; query of `GET /v1/kv/{service}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvQuery {
    /// Keys that begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Keys after this one, to go on where a page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many; 1,000 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl KvQuery {
    /// How many entries a page has when nothing is said.
    pub const LIMIT: usize = 1_000;
}

/// One entry of key-value; its value is one of `data`, `text` and `base64`, or empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// The value, when it is JSON on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<serde_json::value::RawValue>>,
    /// The value, when it is other text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value, when it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl KvEntry {
    /// An entry.
    pub fn new(key: String, value: &[u8]) -> Self {
        let Payload { data, text, base64 } = Payload::of(value);
        Self { key, data, text, base64 }
    }
}

/// The answer to `GET /v1/kv/{service}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KvPage {
    /// Entries, by key ascending.
    pub entries: Vec<KvEntry>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// The body of `POST /v1/shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// Stop at once instead of finishing what is in flight.
    #[serde(default)]
    pub now: bool,
}
