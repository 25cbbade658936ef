//! The journey of an event: its causes, its effects, and what every subscription did with each.

use busway_types::{Attempt, DeadReason, EventId, Offset, ServiceName, Timestamp, Topic};
use serde::{Deserialize, Serialize};

/// Query of `GET /v1/trace/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceQuery {
    /// At most this many events, at most 1,000; 1,000 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl TraceQuery {
    /// The most events of a journey.
    pub const LIMIT: usize = 1_000;
}

/// The answer to `GET /v1/trace/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The event that was asked for.
    pub id: EventId,
    /// The events of the journey, by offset ascending: the first cause that is kept, then everything that came of it.
    pub events: Vec<TraceEvent>,
    /// Whether the first event has a cause that is no longer kept.
    pub cause_gone: bool,
    /// Whether there may be more events: there were too many, or looking for them took too long.
    pub more: bool,
    /// Whether it is known what was settled when: a bus in memory keeps no record of what is over.
    pub recorded: bool,
    /// Whether all of that record was read; not when it took too long.
    pub complete: bool,
}

/// One event of a journey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Its place in the log.
    pub offset: Offset,
    /// Its id.
    pub id: EventId,
    /// Where it was published.
    pub topic: Topic,
    /// What orders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it was published.
    pub time_ms: Timestamp,
    /// The service that published it; none when it came from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ServiceName>,
    /// The event whose handling published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EventId>,
    /// What every subscription that selects it did with it.
    pub deliveries: Vec<TraceDelivery>,
}

/// What became of an event in a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceOutcome {
    /// It was handled.
    Acked,
    /// It expired before it could be.
    Expired,
    /// It waits for another attempt, or behind an earlier event of its key.
    Parked,
    /// It was given up.
    Dead,
    /// It was given up, and the dead letter was dropped.
    Dropped,
    /// It was not handled yet, or is to be handled again.
    Pending,
    /// It is over; how is not recorded, or the record was not read so far.
    Settled,
}

impl TraceOutcome {
    /// The word used in JSON and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Expired => "expired",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
            Self::Pending => "pending",
            Self::Settled => "settled",
        }
    }
}

/// One event in one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceDelivery {
    /// The subscription.
    pub subscription: String,
    /// Its service; none when the subscription was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// What became of it.
    pub outcome: TraceOutcome,
    /// When; none when that is not recorded or did not happen yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<Timestamp>,
    /// Attempts that are known of, the last one included; none when that is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<usize>,
    /// The failed ones, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Attempt>,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<Timestamp>,
    /// How often it was handled; more than once after a replay.
    pub handled: usize,
}
