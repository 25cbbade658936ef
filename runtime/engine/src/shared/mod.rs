//! The engine that nodes share: the sequencer over a journal that a broker keeps, and the seam between the two. See
//! ARCHITECTURE, "Engines".
//!
//! The modules: `record` (the format), `writer` and `reader` (the journal's ends), `position` (its index), `snapshot` (the state
//! beside it), `kept` (all that for the sequencer), `owner` and `keeper` (whose it is), `engine` (what the node sees). What a
//! broker has to give is [`Broker`].
//!
//! A journal is messages, numbered from 1 without a gap. A broker MUST
//! - append a message only behind the one that the caller says, so that two owners cannot both go on from one place;
//! - answer an append only when it is as safe as the broker keeps it;
//! - give back the bytes that it was given, under their numbers, as long as they were not released;
//! - give back from [`Broker::snapshot`] the newest snapshot that was kept, whole, or an older one, whole;
//! - give the lease to one node at a time, as far as it can know. The lease is for peace: safety is in the journal.

mod engine;
mod keeper;
mod kept;
mod owner;
mod position;
mod reader;
mod record;
mod snapshot;
mod writer;

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use busway_types::{Offset, Timestamp};
use bytes::Bytes;

pub(crate) use self::engine::Opening;
pub use self::engine::SharedEngine;
pub(crate) use self::position::Mark;
pub(crate) use self::record::Head;
pub(crate) use self::snapshot::{unreachable, unusable};
use crate::mesh::{Posted, To};
use crate::{Answer, EngineError, Sink};

/// Something that is known of an engine: what, and what it is.
pub type Fact = (&'static str, String);

/// Between two tries: the first pause, and the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_LONGEST: Duration = Duration::from_secs(5);

/// Why a broker did not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Another try may help: it is not reachable, has no room, or has no leader just now.
    Later(String),
    /// Somebody else was there first.
    Conflict,
    /// What was asked for does not exist any more.
    Gone,
}

/// Another try may help.
pub(crate) fn later(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::Later(error.to_string())
}

/// How long to wait before the next of several tries.
pub(crate) fn pause(tries: usize) -> Duration {
    AGAIN_FIRST.saturating_mul(1 << tries.min(10)).min(AGAIN_LONGEST)
}

/// How far a journal goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first message that is kept; behind `last` when there is none.
    pub(crate) first: u64,
    /// The last one, whether it is kept or not.
    pub(crate) last: u64,
    /// Bytes of what is kept.
    pub(crate) bytes: u64,
}

/// Messages that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Each with its number, in order.
    pub(crate) messages: Vec<(u64, Bytes)>,
    /// Where to go on.
    pub(crate) next: u64,
}

/// A state that was kept beside the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The last message of the journal that is in it.
    pub(crate) at: u64,
    /// The latest time of any event up to there.
    pub(crate) latest: Timestamp,
    /// The state.
    pub(crate) state: Bytes,
}

/// A future that borrows.
pub(crate) type Waits<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is known once a message was sent: the future that knows when it is in the journal.
pub(crate) type Landing = Answer<Result<(), Trouble>>;

/// The lease, or who has it, as far as that is known.
pub(crate) type Leased = Result<Box<dyn Lease>, String>;

/// A server that keeps the journal of one bus.
pub(crate) trait Broker: Send + Sync {
    /// The address of the bus, without what is secret in it.
    fn shown(&self) -> String;
    /// How an address names another bus.
    fn another(&self) -> &'static str;
    /// The longest message.
    fn most(&self) -> usize;
    /// Takes the lease if nobody has it; else says who does, as far as it knows.
    fn lease<'a>(&'a self, node: &'a str) -> Waits<'a, Result<Leased, Trouble>>;
    /// Whether a lease can be made another node's ([`Lease::give_to`]).
    fn hands_over(&self) -> bool {
        false
    }
    /// How far the journal goes, as whoever keeps it knows.
    fn extent(&self) -> Waits<'_, Result<Extent, Trouble>>;
    /// Sends messages that are to be the ones from number `at` on, all or none: nothing lands out of its place.
    fn append<'a>(&'a self, at: u64, messages: &'a [Bytes]) -> Waits<'a, Result<Landing, Trouble>>;
    /// Messages from number `from` to `last` that are still kept, as many as it takes to have `bytes`, at least one if
    /// there is one.
    fn read(&self, from: u64, last: u64, bytes: usize) -> Waits<'_, Result<Piece, Trouble>>;
    /// A message between two, the second not included, that is not behind the record that has the event at `offset`, if the
    /// broker knows one; none where reading a single message anywhere costs so little that it is looked for.
    fn near(&self, offset: Offset, between: Range<u64>) -> Option<u64>;
    /// Removes every message in front of number `at`, or a part of them.
    fn trim(&self, at: u64) -> Waits<'_, Result<(), Trouble>>;
    /// The newest snapshot.
    fn snapshot(&self) -> Waits<'_, Result<Option<Kept>, EngineError>>;
    /// Keeps a snapshot in place of the one before; a conflict when another owner has kept one meanwhile. `marks` are the
    /// places in the journal that are known, oldest first.
    fn keep<'a>(&'a self, kept: &'a Kept, marks: &'a [Mark]) -> Waits<'a, Result<(), Trouble>>;
    /// The marks that were kept with the newest snapshot, up to and with its message, if the broker keeps marks.
    fn marks(&self) -> Option<Vec<Mark>>;
    /// Sends what a node has for others.
    fn send(&self, node: &str, posted: Posted) -> Answer<()>;
    /// Tells what others have for a node, or for the owner.
    fn hear(&self, me: To, sink: Arc<dyn Sink>) -> Answer<()>;
}

/// The lease of a bus, held.
pub(crate) trait Lease: Send {
    /// Renews it; a conflict when it was lost.
    fn renew(&mut self) -> Waits<'_, Result<(), Trouble>>;
    /// Makes it another node's, which then has the usual time to take it; where that cannot be done, as [`Lease::give_back`].
    fn give_to(self: Box<Self>, node: &str) -> Answer<Result<(), Trouble>> {
        let _ = node;
        self.give_back()
    }
    /// Gives it back, so that nobody has to wait for its end.
    fn give_back(self: Box<Self>) -> Answer<Result<(), Trouble>>;
}
