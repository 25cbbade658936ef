//! Dead letters.

use busway_types::{Attempt, DeadReason, EventId, Offset, ServiceName, Timestamp, Topic};
use serde::{Deserialize, Serialize};

use super::Envelope;

/// Which dead letters are meant: those that fit everything that is given. Query of `GET /v1/dead`, body of
/// `POST /v1/dead/retry` and `/drop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadFilter {
    /// Of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Given up for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Given up at or after this time, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<Timestamp>,
    /// Of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// At most this many, oldest first. A list stops at 1,000 when nothing is said; a retry or drop takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl DeadFilter {
    /// How many a list gives when nothing is said.
    pub const LIST_LIMIT: usize = 1_000;

    /// Whether nothing is given, so that everything is meant.
    pub fn is_everything(&self) -> bool {
        let Self { service, reason, since_ms, id, limit } = self;
        service.is_none() && reason.is_none() && since_ms.is_none() && id.is_none() && limit.is_none()
    }

    /// Whether a letter is meant; `limit` is for the caller to count.
    pub fn selects(&self, service: &ServiceName, reason: DeadReason, time: Timestamp, id: Option<EventId>) -> bool {
        self.service.as_ref().is_none_or(|s| s == service)
            && self.reason.is_none_or(|r| r == reason)
            && self.since_ms.is_none_or(|t| time >= t)
            && self.id.is_none_or(|wanted| id == Some(wanted))
    }
}

/// One dead letter of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEntry {
    /// The event's id.
    pub id: EventId,
    /// The event's place in the log.
    pub offset: Offset,
    /// The event's topic.
    pub topic: Topic,
    /// The event's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The subscription that gave up.
    pub subscription: String,
    /// Its service.
    pub service: ServiceName,
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub time_ms: Timestamp,
    /// How many attempts failed.
    pub attempts: usize,
    /// What the last one said.
    pub error: String,
}

/// The answer to `GET /v1/dead`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadPage {
    /// Dead letters, by time ascending.
    pub letters: Vec<DeadEntry>,
    /// How many the filter selects in all.
    pub total: usize,
}

/// One dead letter in full; an element of the answer to `GET /v1/dead/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadDetail {
    /// The subscription that gave up.
    pub subscription: String,
    /// Its service.
    pub service: ServiceName,
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub time_ms: Timestamp,
    /// Every failed attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// The event.
    pub event: Envelope,
}

/// The answer to a retry or drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadChanged {
    /// How many dead letters were retried or dropped.
    pub changed: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_what_fits_all_that_is_given() {
        let stock: ServiceName = "stock".parse().expect("a name");
        let id = EventId::from_u128(7);
        let given = DeadFilter { service: Some(stock.clone()), since_ms: Some(Timestamp(10)), ..DeadFilter::default() };
        assert!(given.selects(&stock, DeadReason::Trapped, Timestamp(10), Some(id)));
        assert!(!given.selects(&stock, DeadReason::Trapped, Timestamp(9), Some(id)));
        let by_id = DeadFilter { id: Some(id), ..DeadFilter::default() };
        assert!(!by_id.selects(&stock, DeadReason::Trapped, Timestamp(10), None));
        assert!(DeadFilter::default().is_everything() && !by_id.is_everything());
    }
}
