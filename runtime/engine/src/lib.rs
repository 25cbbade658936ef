//! Where the queues live: the [`Engine`] contract and its implementations.
//!
//! Role: one trait, one module per engine. The embedded engine (`memory:` and `file:DIR`) is the first. Decisions about
//! redelivery and order are not made here; see `busway-dispatch`.

mod api;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;

pub use api::{
    Answer, Capabilities, Engine, EngineError, EngineStatus, Epoch, Handled, Handling, Handlings, KnownSubscription,
    KvEntries, KvSelect, Partition, ReadRequest, ReadResult, Replayed, Room, Settled, Sink,
};
pub use busway_log::{Durability, Fs, RealFs};
pub use embedded::{Embedded, Storage};
