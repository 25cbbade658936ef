//! Moving a subscription back, and letting go of one.

use busway_types::{Offset, ServiceName};
use serde::{Deserialize, Serialize};

use super::TailFrom;

/// The body of `POST /v1/forget`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The detached subscription; with `key_value` also a service that has none.
    pub subscription: String,
    /// Whether the key-value of its service goes too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_value: bool,
}

/// The answer to `POST /v1/forget`: what was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The subscription.
    pub subscription: String,
    /// Events that waited for another attempt.
    pub parked: usize,
    /// Dead letters.
    pub dead: usize,
    /// Offsets between its cursor and the head of the log.
    pub lag: u64,
    /// Keys of key-value.
    #[serde(default)]
    pub keys: u64,
}

/// The body of `POST /v1/replay`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The subscription, or a service that has only one.
    pub service: String,
    /// Where the part begins.
    pub from: TailFrom,
    /// Where it ends; at the head of the log when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<TailFrom>,
    /// Whether dead letters of the part are delivered again as well.
    #[serde(default)]
    pub dead: bool,
    /// Only say what would be delivered again.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to `POST /v1/replay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReply {
    /// The subscription.
    pub subscription: String,
    /// Its service.
    pub service: ServiceName,
    /// The first offset of the part, no older than the oldest that is kept.
    pub from: Offset,
    /// The offset after its last one.
    pub to: Offset,
    /// How many events of it are delivered again, as far as they were counted; none while no service says what it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// How far was counted: `to`, unless that would have taken too long.
    pub counted_to: Offset,
    /// Events of the part that wait for another attempt: they stay parked.
    pub parked: usize,
    /// Dead letters in the part.
    pub dead: usize,
    /// The oldest offset that is kept.
    pub oldest: Offset,
    /// Whether it was moved; not in a dry run.
    pub moved: bool,
    /// How often it was moved so far.
    pub generation: u32,
}
