//! Components that answer HTTP: `wasi:http/incoming-handler` of WASI 0.2.
//!
//! Role: takes requests, gives each to an instance of its own, and streams both bodies. Knows no connection, no route and
//! no authentication: that is the gateway's.
//!
//! ```text
//!   HttpPool::admit --> [queue] --> Admitted::handle --> task on the host's HTTP runtime --> instance
//!        (any thread)    bounded         (any thread)      (threads of its own, as many as cores)
//! ```
//!
//! Guests run as fibers on a runtime of their own, never on the caller's: one that computes lets others go first after
//! each tick and shares the slots of overrunning calls with event lanes; one that waits holds no thread.
//!
//! Invariants: an instance answers one request and is gone (its memory is never seen by another); a request that nobody
//! waits for any more ends; whatever the guest does, its request ends within the pool's limits; an answer that broke off
//! never looks whole.

mod body;
mod control;
mod pool;
mod serve;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub use pool::{Admitted, HttpPool};
pub(crate) use serve::HttpPre;

/// A body on its way to or from a component, streamed.
pub type HttpBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What a pool is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Requests, and so instances, at the same time; at least 1.
    pub concurrency: usize,
    /// Requests that wait for an instance at most; a further one is refused.
    pub queue: usize,
    /// How long a request waits for an instance at most.
    pub queue_time: Duration,
    /// How long after the last byte of the request the head of the answer may take.
    pub first_byte: Duration,
    /// How long nothing may move in either body once the answer has begun.
    pub idle: Duration,
    /// How long one request may compute in all.
    pub computing: Duration,
}

impl HttpSettings {
    /// Requests at the same time when nothing is said.
    pub const CONCURRENCY: usize = 128;
    /// How long nothing may move in a body when nothing is said.
    pub const IDLE: Duration = Duration::from_secs(30);
    /// How long a request may compute when nothing is said.
    pub const COMPUTING: Duration = Duration::from_secs(30);

    /// The defaults beside the time that a handler has for one event.
    pub fn new(timeout: Duration) -> Self {
        Self {
            concurrency: Self::CONCURRENCY,
            queue: 4 * Self::CONCURRENCY,
            queue_time: Duration::from_secs(1),
            first_byte: timeout,
            idle: Self::IDLE,
            computing: Self::COMPUTING,
        }
    }
}

/// Why a request was not answered by the component. The texts of `Failed` are for operators, not for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Too many requests run and wait already.
    #[error("too many requests wait for `{0}`; try again later")]
    Overloaded(String),
    /// The pool takes nothing any more; another version of the service may.
    #[error("this version of the service stops")]
    Closed,
    /// The request is not one that a component can be given.
    #[error("{0}")]
    Invalid(String),
    /// No answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// Nothing more came of the request's body.
    #[error("{0}")]
    BodyStalled(String),
    /// The component trapped, gave an error instead of an answer, or none.
    #[error("{0}")]
    Failed(String),
}

impl HttpError {
    /// Whether the same request may be answered later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_) | Self::Closed | Self::TimedOut(_))
    }
}

/// Figures of a pool, since it was made unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpStats {
    /// Requests in an instance now.
    pub running: usize,
    /// Requests that wait for an instance now.
    pub waiting: usize,
    /// Requests that were given to an instance.
    pub taken: u64,
    /// Requests that began to be answered.
    pub answered: u64,
    /// Requests that trapped, gave an error or no answer, or broke off in the middle of it.
    pub failed: u64,
    /// Requests that took too long.
    pub timed_out: u64,
    /// Requests that nobody waited for any more.
    pub cancelled: u64,
    /// Requests refused because too many waited.
    pub overloaded: u64,
    /// The most bytes of memories and tables that one instance had.
    pub memory_bytes: usize,
    /// Nanoseconds that guests computed.
    pub busy_ns: u64,
}
