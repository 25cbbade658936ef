//! Subscriptions: what they are set to, and what of them is durable.
//!
//! Role: the values that the dispatcher decides on and that the log keeps. No behaviour beyond defaults.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Offset, Pattern, ServiceName, Timestamp};

/// The durable number of a subscription in its log; given once, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubId(pub u32);

/// Which events of a subscription wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordering {
    /// Every event waits for the one before it.
    Strict,
    /// Events of one key wait for each other; events without a key for none.
    #[default]
    Key,
    /// No event waits for another.
    None,
}

/// Where a new subscription starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartAt {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is kept.
    Start,
    /// With the first kept event that was published at or after this time.
    Time(Timestamp),
}

/// How often and when a failed event is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; after the last one the event becomes a dead letter. At least 1.
    pub attempts: u32,
    /// The wait before the second attempt; doubled for each further one.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// The share of each wait that is random, 0 to 100 percent: a wait of `w` becomes `w * (1 - jitter/100 * r)`.
    pub jitter_percent: u8,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_mins(1),
            jitter_percent: 25,
        }
    }
}

/// What a subscription is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSpec {
    /// Its durable name, unique on the bus: the service's name for the raw handler, `service/interface` for a contract.
    pub name: String,
    /// The service that handles its events.
    pub service: ServiceName,
    /// What it selects; any one pattern suffices.
    pub patterns: Vec<Pattern>,
    /// Which events wait for each other.
    pub ordering: Ordering,
    /// Redelivery.
    pub retry: RetryPolicy,
    /// Deliveries at the same time, at least 1.
    pub concurrency: usize,
    /// Where it starts when it is new.
    pub start: StartAt,
    /// Whether it receives what its own service publishes.
    pub own_events: bool,
    /// Whether handling may publish, so that room for it is reserved before a delivery starts.
    pub may_publish: bool,
}

impl SubscriptionSpec {
    /// What of it the newest deployment decides, as that of a deployment.
    pub fn settings(&self, generation: u32) -> Settings {
        Settings {
            generation,
            patterns: self.patterns.clone(),
            ordering: self.ordering,
            retry: self.retry.clone(),
            own_events: self.own_events,
        }
    }

    /// The same with settings that a newer deployment has left.
    #[must_use]
    pub fn with(self, settings: Settings) -> Self {
        let Settings { generation: _, patterns, ordering, retry, own_events } = settings;
        Self { patterns, ordering, retry, own_events, ..self }
    }
}

/// What of a subscription's settings the newest deployment decides, and which one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The generation of the deployment.
    pub generation: u32,
    /// What it selects.
    pub patterns: Vec<Pattern>,
    /// Which events wait for each other.
    pub ordering: Ordering,
    /// Redelivery.
    pub retry: RetryPolicy,
    /// Whether it receives what its own service publishes.
    pub own_events: bool,
}

/// One failed attempt, as dead letters keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub time: Timestamp,
    /// What happened, for people. At most 4 KiB; the end is cut off.
    pub error: String,
}

/// An event that waits for its next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Which event.
    pub offset: Offset,
    /// Not before; none when it only waits behind an earlier event of its key.
    pub due: Option<Timestamp>,
    /// The failed attempts so far, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Why an event became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// The handler rejected it.
    Rejected,
    /// The last attempt failed with a retry or an error.
    Exhausted,
    /// The last attempt trapped.
    Trapped,
    /// The last attempt took too long.
    TimedOut,
    /// More hops than allowed.
    Loop,
}

/// An event that a subscription gave up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which event.
    pub offset: Offset,
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub time: Timestamp,
    /// Every failed attempt, oldest first; the last one carries the reason's text.
    pub attempts: Vec<Attempt>,
}

/// What is durable of a subscription's position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionState {
    /// Every offset below is settled, parked, dead or not selected.
    pub cursor: Offset,
    /// Offsets at or above the cursor that are settled, parked or dead, as ascending runs that neither touch nor overlap:
    /// the first offset of each and the one after its last.
    pub settled: Vec<(Offset, Offset)>,
    /// Waiting events, by offset ascending.
    pub parked: Vec<Parked>,
    /// Dead letters, by offset ascending.
    pub dead: Vec<DeadLetter>,
    /// How often it was moved. Goes into the ids of what its handlers publish, so that a replay publishes new events.
    pub generation: u32,
}

impl SubscriptionState {
    /// Whether an offset is settled, parked, dead or not selected.
    pub fn is_over(&self, offset: Offset) -> bool {
        let at = self.settled.partition_point(|run| run.1 <= offset);
        offset < self.cursor || self.settled.get(at).is_some_and(|run| run.0 <= offset)
    }
}

/// A part of the log that a subscription is to get again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The first offset.
    pub from: Offset,
    /// The offset after the last one.
    pub to: Offset,
    /// Whether its dead letters of that part are delivered again as well.
    pub dead: bool,
}

/// The version of one key-value entry: 0 for absent, then the log sequence of the transaction that wrote it.
pub type KvVersion = u64;

/// A key that a delivery read, and what must hold for the value to have been right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRead {
    /// The key, within the service's namespace.
    pub key: Box<str>,
    /// The committed version that the value rests on: none when it rests only on what an earlier delivery set.
    pub version: Option<KvVersion>,
    /// Whether an earlier delivery in the same report wrote it, which then must have taken effect. A lane forgets what its
    /// chunk wrote whenever it sends a part of the report.
    pub own: bool,
}

/// A listing of keys that a delivery rests on: which keys there were in a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvScan {
    /// Keys that begin with this.
    pub prefix: Box<str>,
    /// Only keys after this one.
    pub after: Option<Box<str>>,
    /// Only keys up to and with this one.
    pub until: Option<Box<str>>,
    /// How many committed keys there were in the range.
    pub count: usize,
    /// [`KvScan::digest_of`] the committed keys in the range.
    pub digest: u64,
    /// Keys in the range that earlier deliveries in the same report wrote, ascending: these, and no others, must have taken
    /// effect.
    pub own: Vec<Box<str>>,
}

impl KvScan {
    /// Whether a key is in the range.
    pub fn covers(&self, key: &str) -> bool {
        key.starts_with(&*self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && self.until.as_deref().is_none_or(|until| key <= until)
    }

    /// What stands for a list of keys. Lists that differ have the same only by an accident that harms nobody else.
    pub fn digest_of<'a>(keys: impl IntoIterator<Item = &'a str>) -> u64 {
        let mut hasher = DefaultHasher::new();
        for key in keys {
            key.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// One change to key-value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvWrite {
    /// Set a key to a value.
    Set {
        /// The key.
        key: Box<str>,
        /// The value.
        value: Bytes,
    },
    /// Remove a key.
    Delete {
        /// The key.
        key: Box<str>,
    },
    /// Add to a decimal integer; absent counts as 0. Commutes with other increments and so never conflicts.
    Increment {
        /// The key.
        key: Box<str>,
        /// What to add; the sum saturates.
        by: i64,
    },
}

impl KvWrite {
    /// The key that is changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Delete { key } | Self::Increment { key, .. } => key,
        }
    }
}
