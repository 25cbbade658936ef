//! Every limit that a publisher, a guest or an operator can meet, with its default.

use std::time::Duration;

use crate::{Pattern, Timestamp, Topic};

/// The limits of one node. A field's doc says what it bounds and what happens there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event's data, key, headers and content type together. A larger one is refused (`too-large`).
    pub event_bytes: usize,
    /// Bytes of an event's key. A longer one is refused (`invalid`).
    pub key_bytes: usize,
    /// Headers of one event. More are refused (`invalid`).
    pub headers: usize,
    /// Events that wait in one `publish` call's batch. A larger batch is refused (`invalid`).
    pub batch_events: usize,
    /// Events that one delivery may publish. The next `publish` in it is refused (`too-large`).
    pub outbox_events: usize,
    /// Bytes that one delivery may publish. The next `publish` in it is refused (`too-large`).
    pub outbox_bytes: usize,
    /// How many handlers may follow one another by cause. An event beyond it becomes a dead letter (`loop`).
    pub hops: u8,
    /// Bytes of published events not yet handed to the dispatcher. Publishers wait at it, then get `overloaded`.
    pub inflight_bytes: usize,
    /// How long an external publisher waits for room before it is told `overloaded`.
    pub publish_wait: Duration,
    /// Bytes of events that wait for one subscription in memory. Publishers to its topics wait at it, then get
    /// `overloaded`.
    pub backlog_bytes: usize,
    /// Events of one subscription held in memory and not yet settled, when they can be read again from disk.
    pub window_events: usize,
    /// Bytes of the same.
    pub window_bytes: usize,
    /// Events parked for one subscription. At it the subscription pauses until some are settled.
    pub parked: usize,
    /// Dead letters kept for one subscription. At it the subscription pauses until some are retried or dropped.
    pub dead_letters: usize,
    /// Delayed events waiting for their time. Publishing another delayed event is refused (`overloaded`).
    pub delayed_events: usize,
    /// Bytes of delayed events waiting for their time. Publishing another delayed event is refused (`overloaded`).
    pub delayed_bytes: usize,
    /// Events handed to an instance at one time.
    pub chunk_events: usize,
    /// Bytes of the recent events that are kept for `tail` and late subscribers when the bus is in memory.
    pub recent_bytes: usize,
    /// Bytes of parked events, dead letters and delayed events that a bus in memory keeps. At 80 % external publishers
    /// get `overloaded`, at 90 % deliveries that may publish pause.
    pub memory_bytes: usize,
    /// How long a client-supplied id is remembered, so that publishing it again gives the first receipt. Zero remembers
    /// none.
    pub dedup_window: Duration,
    /// Client-supplied ids that are remembered. Beyond it the oldest eighth is forgotten early.
    pub dedup_ids: usize,
    /// How long events of some topics may be delivered. Where several select a topic the shortest counts.
    pub topic_expiry: Vec<TopicExpiry>,
    /// How much of what every subscription has is kept on disk.
    pub retention: Retention,
    /// Bytes of the log on disk. At 80 % external publishers get `overloaded`, at 90 % deliveries that may publish
    /// pause; acknowledgements always fit.
    pub disk_bytes: u64,
    /// Bytes of one key in key-value.
    pub kv_key_bytes: usize,
    /// Bytes of one value in key-value.
    pub kv_value_bytes: usize,
    /// Bytes of all keys and values of one service. A write beyond it is refused (`too-large`).
    pub kv_bytes: usize,
}

/// How much history a bus on disk keeps: events that every subscription has. What one still needs is kept in any case.
/// Each bound that is given holds; with none it is a quarter of `Limits::disk_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// History goes when the log is larger than this.
    pub bytes: Option<u64>,
    /// History goes when it is older than this.
    pub time: Option<Duration>,
}

/// How long events of some topics may be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicExpiry {
    /// Which topics.
    pub topics: Pattern,
    /// From when an event is published, or due if it is delayed.
    pub after: Duration,
}

impl Limits {
    /// The most rules in `topic_expiry`; each is looked at for every event that is published.
    pub const TOPIC_RULES: usize = 64;

    /// When an event of `topic` that is published or due at `from` expires, as far as its topic says.
    pub(crate) fn expiry(&self, topic: &Topic, from: Timestamp) -> Option<Timestamp> {
        let selecting = self.topic_expiry.iter().filter(|rule| rule.topics.matches(topic));
        selecting.map(|rule| from.after(rule.after)).min()
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            event_bytes: MIB,
            key_bytes: 255,
            headers: 64,
            batch_events: 1_000,
            outbox_events: 1_000,
            outbox_bytes: 4 * MIB,
            hops: 64,
            inflight_bytes: 32 * MIB,
            publish_wait: Duration::from_secs(2),
            backlog_bytes: 64 * MIB,
            window_events: 4_096,
            window_bytes: 8 * MIB,
            parked: 100_000,
            dead_letters: 100_000,
            delayed_events: 100_000,
            delayed_bytes: 64 * MIB,
            chunk_events: 256,
            recent_bytes: 16 * MIB,
            memory_bytes: 256 * MIB,
            dedup_window: Duration::from_mins(2),
            dedup_ids: 1_000_000,
            topic_expiry: Vec::new(),
            retention: Retention::default(),
            disk_bytes: 10 * 1024 * MIB as u64,
            kv_key_bytes: 512,
            kv_value_bytes: MIB,
            kv_bytes: 64 * MIB,
        }
    }
}
