//! The lane of this node and those of others as one.
//!
//! Role: what the driver of a bus that several nodes share gives the chunks of a subscription to. Without other nodes it is the own
//! lane.

use std::sync::Arc;

use busway_host::{Lane, NotTaken};
use busway_types::{Chunk, Clock};

use super::Spread;
use crate::driver::executor::Executor;

/// Runs the chunks of a subscription here or on another node.
pub(crate) struct Shared {
    spread: Arc<Spread>,
    clock: Arc<dyn Clock>,
    lane: Arc<Lane>,
    subscription: Arc<str>,
    concurrency: usize,
}

impl Shared {
    pub(crate) fn new(
        spread: &Arc<Spread>,
        clock: &Arc<dyn Clock>,
        lane: &Arc<Lane>,
        subscription: &str,
        concurrency: usize,
    ) -> Self {
        let (spread, clock, lane) = (Arc::clone(spread), Arc::clone(clock), Arc::clone(lane));
        Self { spread, clock, lane, subscription: subscription.into(), concurrency }
    }
}

impl Executor for Shared {
    fn submit(&self, chunk: Chunk) -> Result<(), NotTaken> {
        let table = &self.spread.table;
        if !table.has_any() {
            return self.lane.submit(chunk);
        }
        let now_ns = self.clock.monotonic_ns();
        match table.offer(&self.subscription, chunk, self.lane.load(), self.concurrency, now_ns) {
            Some(chunk) => self.lane.submit(chunk),
            None => Ok(()),
        }
    }

    fn elsewhere(&self) -> usize {
        self.spread.table.concurrency(&self.subscription)
    }
}
