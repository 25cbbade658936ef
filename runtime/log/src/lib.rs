//! The embedded log: where the queues live on one machine.
//!
//! Role: keep transactions on disk in the order in which they were given, tell when they are safe, give their events
//! back by offset, and restore the [`State`] after a stop of any kind.
//!
//! ```text
//!   submit --> queue --> committer --one write, one sync--> segment files --> completions, in order
//!                            |                                   ^
//!                            v what was written                  | slices, between groups
//!                        checkpoint thread (a copy of the state) -
//!   read, fetch --> segment files (never wait for the committer)
//! ```
//!
//! Invariants:
//! - one transaction is one record: all of it is there after a crash, or nothing;
//! - nothing is acknowledged before it is as safe as the [`Durability`] says;
//! - after a failed write or sync nothing is accepted any more;
//! - what had been safely stored and is damaged is refused, never skipped; what had not been is cut off;
//! - [`State::apply`] is the only way state changes, in the running node and in replay.
//!
//! It never decides what a transaction contains, knows no subscriptions' settings, and reaches files, time and
//! randomness only through [`Fs`] and [`LogOptions`].

mod checkpoint;
mod codec;
mod committer;
mod error;
mod folder;
mod frame;
mod fs;
mod history;
mod index;
mod log;
mod options;
pub mod passing;
pub mod portable;
mod ranges;
mod read;
mod recovery;
mod release;
mod rotate;
mod seen;
mod segment;
mod shared;
mod spare;
mod state;
#[cfg(any(test, feature = "testing"))]
mod stepped;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod txn;
mod upkeep;
mod verify;
mod view;
mod walk;
mod wire;

pub use error::{Holder, LogError, Position};
pub use fs::{Fs, FsFile, LockGuard, Locking, OpenMode, RealFs};
pub use index::LinkTo;
pub use log::{Log, Recovered, Space};
pub use options::{Durability, LogOptions};
pub use ranges::OffsetSet;
pub use read::SegmentInfo;
pub use recovery::{RecoveryReport, Truncation};
pub use release::Releases;
pub use seen::{FirstSeen, SeenIds};
pub use shared::Done;
pub use state::{KvEntry, KvSpace, Progress, State, SubState};
#[cfg(any(test, feature = "testing"))]
pub use stepped::Stage;
pub use txn::{IdRecord, KvRecord, SettleRecord, SubChange, Txn};
pub use verify::{IndexState, Problem, SegmentReport, Verified, ViewReport, verify};
pub use view::{Change, DiskViews, Each, Overlay, View, Views};
#[cfg(any(test, feature = "testing"))]
pub use view::{MemView, MemViews};

/// Locks a mutex. A panic of another holder leaves nothing half-done that later holders would not notice.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
