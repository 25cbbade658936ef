//! What the gateway asks of a node.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use busway_contract::Contract;
use busway_types::{Draft, Key, Limits, Offset, Receipt, ServiceName, Timestamp, Topic};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use crate::admin::api::TailFrom;
use crate::admin::{TailBatch, TailRead};

/// A body on its way through the gateway, streamed.
pub type BoxedBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The answer to a call of [`EdgeBackend`].
pub type EdgeReply<'a, T> = Pin<Box<dyn Future<Output = Result<T, EdgeError>> + Send + 'a>>;

/// A request to whoever answers it on the bus.
#[derive(Clone, Debug)]
pub struct EdgeRequest {
    /// The topic of the contract's function.
    pub topic: Topic,
    /// The key, when the caller names one beside the data.
    pub key: Option<Key>,
    /// The parameters, as a JSON object.
    pub data: Bytes,
    /// How long the caller waits.
    pub within: Duration,
    /// The W3C trace context of the caller.
    pub traceparent: Option<Box<str>>,
    /// What the journey is about: the id of the caller's request.
    pub correlation: Option<Box<str>>,
}

/// Why the node did not do what it was asked, split by the status it becomes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// The data is wrong; change it (400, or 422 when it breaks a contract).
    #[error("{detail}")]
    Invalid {
        /// What is wrong and what would be right.
        detail: String,
        /// Which element of a batch, from 0.
        index: Option<usize>,
        /// The place in the data, such as `order.lines[2].quantity`, when a contract is broken there.
        path: Option<String>,
        /// Whether it is well-formed and breaks the contract of its topic.
        is_contract: bool,
    },
    /// Larger than allowed (413).
    #[error("{0}")]
    TooLarge(String),
    /// There is nothing of that name, or nobody who answers (404 or 503; see the caller).
    #[error("{0}")]
    NotFound(String),
    /// No room now; the same request may succeed later (503 with `Retry-After`).
    #[error("{0}")]
    Overloaded(String),
    /// The client sends the rest of its request too slowly (408).
    #[error("{0}")]
    Slow(String),
    /// No answer in time (504).
    #[error("{0}")]
    TimedOut(String),
    /// Whoever should have answered failed (502).
    #[error("{0}")]
    BadAnswer(String),
    /// The node is shutting down (503).
    #[error("the node is shutting down")]
    Stopping,
    /// The node failed; an operator has to look (500). The text is for the log, not for the caller.
    #[error("{0}")]
    Failed(String),
}

/// A node, as the gateway sees it.
///
/// An implementation MUST answer `publish` only when the events are as safe as the node's durability promises, take a
/// batch whole or not at all, give readers only events that are safe in the same sense, and answer everything with
/// [`EdgeError::Stopping`] once it takes nothing new. A dropped answer MUST leave nothing half done.
pub trait EdgeBackend: Send + Sync + 'static {
    /// The limits of the node, for drafts.
    fn limits(&self) -> &Limits;

    /// The time of the node, from which delays and expiries count.
    fn now(&self) -> Timestamp;

    /// Whether every subscription of the app exists and the node takes work.
    fn is_ready(&self) -> bool;

    /// The contracts that run now, both sides of each once, for routes and documents.
    fn contracts(&self) -> Vec<Arc<Contract>>;

    /// Publishes events in order, all or none; one receipt per event. An event whose id the publisher chose is accepted
    /// once, and a repetition gets the first receipt.
    fn publish(&self, drafts: Vec<Draft>) -> EdgeReply<'_, Vec<Receipt>>;

    /// Asks whoever answers; the answer is the result of the function as JSON (`{"ok": ..}` or `{"err": ..}` for a
    /// `result`). Data that breaks the contract is [`EdgeError::Invalid`] and reaches nobody.
    fn request(&self, request: EdgeRequest) -> EdgeReply<'_, Bytes>;

    /// Gives a request to an instance of a service that exports `wasi:http/incoming-handler`. Both bodies are streamed.
    fn http(
        &self,
        service: &ServiceName,
        request: http::Request<BoxedBody>,
    ) -> EdgeReply<'_, http::Response<BoxedBody>>;

    /// The offset at which a reader starts.
    fn position(&self, from: TailFrom) -> EdgeReply<'_, Offset>;

    /// Reads the next safe events. With `wait` it may also answer with none after a while, never before.
    fn read(&self, read: TailRead) -> EdgeReply<'_, TailBatch>;
}
