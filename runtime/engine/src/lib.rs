//! Where the queues live: the [`Engine`] contract and its implementations.
//!
//! Role: one trait, one module per engine: the embedded one (`memory:` and `file:DIR`), and the same sequencer over a journal
//! that a broker keeps (`shared`), for which NATS JetStream (feature `nats`) and RabbitMQ (feature `amqp`) have a module each.
//! Decisions about redelivery and order are not made here; see `busway-dispatch`.

#[cfg(any(feature = "nats", feature = "amqp"))]
mod address;
#[cfg(feature = "amqp")]
mod amqp;
mod api;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod guarantees;
mod journal;
pub mod mesh;
#[cfg(feature = "nats")]
mod nats;
#[cfg(any(feature = "nats", feature = "amqp"))]
mod shared;

#[cfg(feature = "amqp")]
pub use amqp::{Amqp, AmqpServer, AmqpUrl, InvalidAmqpUrl, amqp_connect};
pub use api::{
    Answer, Capabilities, Engine, EngineError, EngineStatus, Epoch, Handled, Handling, Handlings, KnownSubscription,
    KvEntries, KvSelect, Partition, ReadRequest, ReadResult, Replayed, Room, Settled, Sink,
};
pub use busway_log::{Durability, Fs, RealFs};
pub use embedded::{Embedded, Storage};
pub use guarantees::{EngineKind, Guarantee, guarantees};
pub use mesh::{Mesh, To, Unsent};
#[cfg(feature = "nats")]
pub use nats::{InvalidNatsUrl, Nats, NatsUrl, nats_connect};
#[cfg(any(feature = "nats", feature = "amqp"))]
pub use shared::{Fact, SharedEngine};
