//! How a log is set.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use busway_types::{Clock, SystemClock};

use crate::view::Views;

/// When a transaction counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it is synced to the disk: it survives a crash of the machine.
    #[default]
    Sync,
    /// Once it is written; synced at most this long after: it survives a crash of the process, and a crash of the
    /// machine takes at most the last interval.
    Interval(Duration),
    /// Once it is written: it survives a crash of the process. Synced only in the background, segment by segment, once one
    /// is full, and before old segments are released.
    Memory,
}

/// How a log is set.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of a segment. Segments are released whole, and about each one begins with a checkpoint.
    pub segment_bytes: u64,
    /// Bytes of the first segment of a new log; the next ones are four times larger each, up to `segment_bytes`. Keeps
    /// small logs small and the first start quick.
    pub first_segment_bytes: u64,
    /// When a transaction counts as safe.
    pub durability: Durability,
    /// Where the part of the state that need not be in memory is kept; none keeps all in memory and in checkpoints.
    pub views: Option<Arc<dyn Views>>,
    /// Bytes of entries of key-value that are in the view and kept in memory all the same.
    pub cache_bytes: usize,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What the salts of segments are made from; must not be guessable by publishers.
    pub seed: u64,
}

impl LogOptions {
    /// The smallest segment.
    pub const MIN_SEGMENT_BYTES: u64 = 4 * 1024;
}

impl Default for LogOptions {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            segment_bytes: 64 * MIB,
            first_segment_bytes: 4 * MIB,
            durability: Durability::default(),
            views: None,
            cache_bytes: 64 * 1024 * 1024,
            clock: Arc::new(SystemClock::new()),
            // The standard library's hash keys come from the operating system's randomness.
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}
