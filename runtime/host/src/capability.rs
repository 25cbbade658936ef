//! What guests can reach outside their sandbox, as the embedder gives it.
//!
//! Role: the one trait through which guest code touches the bus, so that everything here can be tested without a bus.
//! Implementations are called on lane threads with a guest on the stack: they must not panic, must not call back into
//! the lane, and only the functions named `_blocking` may wait.

use std::fmt::Debug;

use busway_types::{Draft, Event, EventId, KvRead, KvVersion, KvWrite, ServiceName};
use bytes::Bytes;

use crate::typed::{Answering, Request, RequestError};

/// The bus as a lane sees it.
pub trait Bus: Send + Sync {
    /// Checks a service's grants and the limits and makes an event of a draft; nothing is published yet. `id` is the id
    /// derived by the lane inside a delivery, or the one that the guest chose.
    fn admit(&self, service: &ServiceName, draft: Draft, id: Option<EventId>) -> Result<Event, Refusal>;

    /// Publishes outside of a delivery, in order and all or none, and returns when the events are durable. May wait, for
    /// a bounded time.
    fn publish_blocking(&self, service: &ServiceName, drafts: Vec<Draft>) -> Result<Vec<EventId>, Refusal>;

    /// Asks whoever answers the request. Does not wait; dropping the answer gives the request up.
    fn request(&self, service: &ServiceName, request: Request) -> Answering;

    /// A committed key-value entry of the service and its version (0 when absent). Waits for the disk at most.
    fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), Refusal>;

    /// Committed keys of the service that begin with `prefix`, after a key, ascending: `limit` of them, or all that there
    /// are. Waits for the disk at most.
    fn kv_keys(
        &self,
        service: &ServiceName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Box<str>>, Refusal>;

    /// Bytes of keys and values that the service has stored. Does not wait.
    fn kv_bytes(&self, service: &ServiceName) -> usize;

    /// Writes key-value outside of a delivery, if all of `reads` still holds, and returns when it is durable. May wait, for
    /// a bounded time.
    fn kv_write_blocking(&self, service: &ServiceName, reads: Vec<KvRead>, writes: Vec<KvWrite>)
    -> Result<(), Refusal>;

    /// Takes a line that the service logged or wrote to stdout (info) or stderr (warn). Goes to `tracing` unless the
    /// embedder wants it elsewhere.
    fn log(&self, service: &ServiceName, level: tracing::Level, message: &str, fields: &[(String, String)]) {
        log_to_tracing(service, level, message, fields);
    }

    /// Whether a line of this level would be kept.
    fn log_enabled(&self, _service: &ServiceName, level: tracing::Level) -> bool {
        level <= tracing::level_filters::LevelFilter::current()
    }
}

/// A bus that takes nothing and has nothing: for looking at a component, or measuring it, without a node.
#[derive(Clone, Copy, Debug)]
pub struct NoBus;

impl Bus for NoBus {
    fn admit(&self, _: &ServiceName, _: Draft, _: Option<EventId>) -> Result<Event, Refusal> {
        Err(Refusal::Denied("nothing can be published here".into()))
    }

    fn publish_blocking(&self, _: &ServiceName, _: Vec<Draft>) -> Result<Vec<EventId>, Refusal> {
        Err(Refusal::Denied("nothing can be published here".into()))
    }

    fn request(&self, _: &ServiceName, request: Request) -> Answering {
        Box::pin(std::future::ready(Err(RequestError::NoHandler(request.topic))))
    }

    fn kv_get(&self, _: &ServiceName, _: &str) -> Result<(Option<Bytes>, KvVersion), Refusal> {
        Ok((None, 0))
    }

    fn kv_keys(&self, _: &ServiceName, _: &str, _: Option<&str>, _: usize) -> Result<Vec<Box<str>>, Refusal> {
        Ok(Vec::new())
    }

    fn kv_bytes(&self, _: &ServiceName) -> usize {
        0
    }

    fn kv_write_blocking(&self, _: &ServiceName, _: Vec<KvRead>, _: Vec<KvWrite>) -> Result<(), Refusal> {
        Err(Refusal::Denied("nothing can be written here".into()))
    }
}

/// Why the bus did not do what a guest asked. Only `Overloaded` is worth retrying.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No room now.
    #[error("{0}")]
    Overloaded(String),
    /// No grant.
    #[error("{0}")]
    Denied(String),
    /// Larger than a limit.
    #[error("{0}")]
    TooLarge(String),
    /// Malformed.
    #[error("{0}")]
    Invalid(String),
    /// Something that was read and had to hold does not hold any more.
    #[error("{0}")]
    Conflict(String),
}

impl Refusal {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_))
    }
}

/// A field list as one text, `name=value` separated by blanks.
struct Fields<'a>(&'a [(String, String)]);

impl Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{name}={value}")?;
        }
        Ok(())
    }
}

/// Writes a guest's line to `tracing`, with the target `busway::guest`.
pub fn log_to_tracing(service: &ServiceName, level: tracing::Level, message: &str, fields: &[(String, String)]) {
    macro_rules! line {
        ($level:expr) => {
            if fields.is_empty() {
                tracing::event!(target: "busway::guest", $level, service = service.as_str(), "{message}")
            } else {
                let fields = Fields(fields);
                tracing::event!(target: "busway::guest", $level, service = service.as_str(), ?fields, "{message}")
            }
        };
    }
    match level {
        tracing::Level::ERROR => line!(tracing::Level::ERROR),
        tracing::Level::WARN => line!(tracing::Level::WARN),
        tracing::Level::INFO => line!(tracing::Level::INFO),
        tracing::Level::DEBUG => line!(tracing::Level::DEBUG),
        tracing::Level::TRACE => line!(tracing::Level::TRACE),
    }
}
