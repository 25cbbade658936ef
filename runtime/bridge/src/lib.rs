//! Bridges: what is copied between the bus and queues that others have.
//!
//! Role: the broker's side of `[bridges.NAME]`: where a queue, subject or stream is ([`Place`]), how a message becomes an
//! event and an event a message (`message`), the loop that takes messages in ([`Inward`]), and the one that gives events
//! out ([`Outward`]). Of the bus it knows [`Bus`] and chunks of deliveries; the node has the rest.
//!
//! ```text
//!   broker --Source--> Inward --drafts--> Bus (durable) --> acknowledged at the broker
//!   chunk of the dispatcher --> Outward --Target--> broker (confirmed) --> outcomes to the dispatcher
//! ```
//!
//! Invariants: a message is acknowledged at its broker only after the bus has it safe; a delivery is acknowledged on the bus
//! only after the broker has confirmed it; nothing is made or changed at a broker but the consumer of a stream that a bridge
//! reads; one line is logged when a connection goes and one when it is back. Redelivery on the bus is decided by the
//! dispatcher, never here.

mod amqp;
mod inward;
mod link;
mod message;
mod nats;
mod outward;
mod place;
mod source;
mod target;

use std::future::Future;
use std::pin::Pin;

use busway_types::Draft;

pub use inward::Inward;
/// The header of a key when nothing else is said.
pub const KEY_HEADER: &str = "busway-key";

pub use link::{Figures, Link, State};
pub use outward::{Outward, Work};
pub use place::{Direction, InvalidPlace, Place};

/// An answer that comes later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the bus did not take events. Of the batch it took nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// Not now; the same may be taken later.
    Later(String),
    /// This one never, whatever the others are.
    Never {
        /// Which of the batch, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// The bus as a bridge sees it.
pub trait Bus: Send + Sync {
    /// Publishes a batch, all or nothing; the answer comes when it is as safe as the bus promises.
    fn publish(&self, drafts: Vec<Draft>) -> Answer<'_, Result<(), NotPublished>>;
}

/// How far a bridge is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It runs.
    Run,
    /// Nothing new comes in; what is on its way out goes out if that is possible at once.
    Drain,
    /// It ends at once.
    End,
}

/// The broker cannot be used just now; for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);
