//! Where the chunks of a subscription are run.
//!
//! Role: what the driver knows of whoever works: a lane of this node, or something else that takes chunks and reports like
//! one.
//!
//! Invariants: a chunk that was taken is reported to its end or lost through the [`LaneSink`](busway_host::LaneSink) of
//! the driver, exactly one of the two.

use busway_host::{Lane, NotTaken};
use busway_types::Chunk;

/// Runs chunks.
pub(crate) trait Executor: Send + Sync {
    /// Takes a chunk, or gives it back. Never waits.
    fn submit(&self, chunk: Chunk) -> Result<(), NotTaken>;

    /// How many deliveries it runs at a time beyond those that the subscription's own lane does.
    fn elsewhere(&self) -> usize {
        0
    }
}

impl Executor for Lane {
    fn submit(&self, chunk: Chunk) -> Result<(), NotTaken> {
        Self::submit(self, chunk)
    }
}
