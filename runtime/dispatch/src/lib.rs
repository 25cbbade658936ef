//! The dispatcher: which subscription gets what next.
//!
//! Role: the stages *drive* and *settle* of an event's life, as one pure state machine. The node feeds it with what
//! happened ([`Input`]) and performs what it answers ([`Action`]):
//!
//! ```text
//!            Appended, Read, Fetched                  Deliver
//!   engine ---------------------------> [ Machine ] -----------> lanes
//!     ^                                  |  ^   ^                  |
//!     +-------- Settle, Advance ---------+  |   +---- Report ------+
//!     +------------- Settled ---------------+         ChunkLost
//! ```
//!
//! It never does I/O, reads a clock, waits, spawns or locks; time comes in with every step and randomness (the jitter
//! of back-off) from a seed, so the same inputs give the same outputs.
//!
//! # The offsets of one subscription
//!
//! ```text
//!   0 ........... cursor ................................ position ................ head
//!   |  nothing to   |  outstanding: each selected event     |  not looked at yet      |
//!   |  do any more  |  is waiting, in flight, not yet       |  (empty while the sub-  |
//!   |               |  sequenced, or already done           |  scription follows the  |
//!   |               |  D D w D f w w D w                    |  tail)                  |
//!        P     P  P          P                P = parked: durable, body not in memory
//!                                             X = dead letter: durable, only the offset known here
//! ```
//!
//! - **position**: everything below was looked at. A subscription that *follows the tail* has its position at the head
//!   without anybody touching it, so 1,000 subscriptions on other topics cost an event nothing. One that *lags* reads
//!   from its position, one `Read` at a time, until it has caught up.
//! - **outstanding** (`cursor`): the selected events from the oldest one that is not done. An event is done when its
//!   verdict cannot come back any more: as soon as the settlement with it is emitted if that settlement carries no
//!   key-value reads (it cannot conflict), otherwise when it is sequenced. A settlement's cursor is the oldest
//!   outstanding offset, or the position when there is none; so it never passes an event that may have to run again.
//! - **parked** (`parked`): counts as done, because it is kept durably with its attempts and due time. Its body is
//!   fetched when it may be delivered.
//!
//! # Order
//!
//! Events of one *group* (the hash of the key; one group for all when ordering is strict) are kept in the group's own
//! queue (`keys`); the ready queue holds at most one token per group, and a group has none while deliveries of it are
//! in flight or not yet sequenced. So a group is never in two chunks, and a hot key with a long backlog costs no more
//! than any other. Events without a group are in the ready queue themselves and wait for nothing.
//!
//! A group whose first event is parked delivers nothing else; when ordering is by key its later events are parked behind
//! it, so that the cursor can move on, when strict they wait in memory. Once the first is acknowledged or dead the next
//! follow in the order of their offsets.
//!
//! # Redelivery
//!
//! `redelivery` alone decides what an outcome means: outcome, attempts so far and policy give a verdict with its due
//! time. What comes back without an attempt (skipped, chunk lost, conflict) is put where it was.
//!
//! # Expiry
//!
//! An event that has expired is settled as such and counted, never delivered. It is looked at when it is taken in, when
//! its body was fetched for a retry, and when a chunk is cut; the time is that of the step. One that can expire holds
//! later ones of its key back only while it may still be delivered.
//!
//! # Moving back
//!
//! `Seek` has a part of the log delivered again. The subscription lets end what is in flight, then asks for the move
//! (`Move`) and begins anew from the durable state that comes back (`moved`): what was settled in that part is open, what
//! is parked or dead stays so, and everything is taken in the order of its offsets, so new events wait behind the replay.
//! The generation, which goes into the ids of what handlers publish, grows with each move.
//!
//! # What the node owes the machine
//!
//! - every `Read` and every `Fetch` is answered, also for a subscription that was detached meanwhile;
//! - every `Deliver` is reported until `finished`, or given back with `ChunkLost`;
//! - settlements are handed to the engine in the order in which they were emitted, and every one is answered with
//!   `Settled`; only a settlement in which some delivery has reads may come back with conflicts;
//! - the answer to a `Read` holds the events that the subscription's patterns select, all of them up to `next`;
//! - every `Move` is answered with `Moved` or `Stays` before any other input about its subscription;
//! - `step` is called with `Tick` when [`Machine::next_due`] has come.
//!
//! # Bounds
//!
//! | what | bound | at it |
//! |---|---|---|
//! | events held for a subscription | `window_events`, `window_bytes` (replayable) | lags, reads later |
//! | the same, not replayable | `backlog_bytes` | `full` is raised; publishers have to wait |
//! | chunks in flight | the concurrency and five; one if strict | waits |
//! | events between the oldest outstanding and the newest delivered | `cursor::SPREAD` | newer ones wait |
//! | parked | `parked` | no new events start; retries go on; if not replayable and some wait, `full` is raised |
//! | dead letters | `dead_letters` | nothing starts; the same |
//! | fetched bodies | `chunk_events`, and a share of `window_bytes` | fetches later |
//! | cached routes | `routing::CACHED_TOPICS` | the cache starts over |

mod api;
mod chunks;
mod cursor;
mod feed;
mod intake;
#[cfg(any(test, feature = "invariants"))]
mod invariants;
mod keys;
mod machine;
mod moving;
mod parked;
mod queue;
mod redelivery;
mod retry;
mod routing;
mod settle;
mod subscription;
#[cfg(test)]
mod tests;

pub use api::{Action, Input, MachineOptions, PauseReason, SubStats, Warning};
pub use machine::Machine;
