//! Requests: calls that come back with a value.
//!
//! Role: both ends of a request as the guest code sees it. The caller's thread waits here, for as long as the call that it is in
//! may take; who answers is the bus's business ([`crate::Bus::request`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use busway_types::{Causality, Effects, Event, EventId, Key, ServiceName, Topic};
use bytes::Bytes;

use crate::capability::Refusal;

/// A request on its way from a service to whoever answers it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id, the same at each attempt of the delivery that asks; none to have one made.
    pub id: Option<EventId>,
    /// The topic of the function.
    pub topic: Topic,
    /// The parameter `key`, if the function has one.
    pub key: Option<Key>,
    /// The parameters, as JSON.
    pub data: Bytes,
    /// Where it comes from.
    pub causality: Causality,
    /// How long the caller waits.
    pub within: Duration,
    /// The services that wait for this answer, the first caller first.
    pub chain: Arc<[ServiceName]>,
}

/// The answer to a request: the result of the function as JSON.
pub type Answering = Pin<Box<dyn Future<Output = Result<Bytes, RequestError>> + Send>>;

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No service that runs answers it.
    #[error("no service answers `{0}`")]
    NoHandler(Topic),
    /// Those who could have no room.
    #[error("{0}")]
    Overloaded(String),
    /// Everybody who could answer waits, directly or through others, for this answer.
    #[error("deadlock: {0}")]
    Deadlock(String),
    /// There was no answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The handler failed, or its answer did not fit.
    #[error("{0}")]
    Failed(String),
}

impl RequestError {
    /// Whether the same request may be answered later. A deadlock of the moment may be over then: other calls were in it.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// How a caller sees it whose contract can tell a refusal.
    pub(super) fn as_refusal(&self) -> Refusal {
        if self.is_retryable() { Refusal::Overloaded(self.to_string()) } else { Refusal::Denied(self.to_string()) }
    }
}

/// What a handler gave for a request.
#[derive(Debug)]
pub struct Answered {
    /// The result as JSON.
    pub data: Bytes,
    /// What it published and wrote: becomes visible if the caller is still there, and before it hears the answer.
    pub effects: Option<Box<Effects>>,
}

/// A request for one lane.
#[derive(Debug)]
pub struct Ask {
    /// The request as an event of its topic.
    pub event: Arc<Event>,
    /// Which of the handled contracts, in the order of [`Inspection::handled`](crate::Inspection::handled).
    pub contract: usize,
    /// The time that is left; the handler's own timeout applies as well.
    pub within: Duration,
    /// The services that wait for the answer.
    pub chain: Arc<[ServiceName]>,
    /// Set when nobody waits any more.
    pub cancelled: Arc<AtomicBool>,
}

/// Where the answer to a request goes. Called once, on a lane thread; must return at once. Dropped without being called when
/// the lane stops first.
pub type Answer = Box<dyn FnOnce(Result<Answered, RequestError>) + Send>;

impl Ask {
    /// Whether anybody still waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.cancelled.load(Ordering::Relaxed)
    }
}

/// Why a lane did not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Too many requests wait already.
    #[error("too many requests wait for it")]
    Full,
    /// Every instance waits for others, and one of them for this answer.
    #[error("all of its instances wait, and it waits for this answer itself")]
    Deadlock,
    /// The lane was closed.
    #[error("it stops")]
    Closed,
}
