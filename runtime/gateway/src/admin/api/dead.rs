//! Dead letters.

use busway_types::{Attempt, DeadLetter, DeadReason, Event, EventId, Offset, Pattern, ServiceName, Timestamp, Topic};
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
    /// Given up before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Timestamp>,
    /// Of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// Of an event whose topic this pattern selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Pattern>,
    /// At most this many, oldest first. A list stops at 1,000 when nothing is said; a retry or drop takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl DeadFilter {
    /// How many a list gives when nothing is said.
    pub const LIST_LIMIT: usize = 1_000;

    /// Whether nothing is given, so that everything is meant.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter is meant; `limit` is for the caller to count.
    pub fn selects(&self, service: &ServiceName, letter: &DeadLetter, event: Option<&Event>) -> bool {
        self.service.as_ref().is_none_or(|s| s == service)
            && self.reason.is_none_or(|reason| letter.reason == reason)
            && self.since_ms.is_none_or(|time| letter.time >= time)
            && self.until_ms.is_none_or(|time| letter.time < time)
            && self.id.is_none_or(|id| event.is_some_and(|event| event.id == id))
            && self.topic.as_ref().is_none_or(|topic| event.is_some_and(|event| topic.matches(&event.topic)))
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
    use busway_types::{Draft, Limits};

    fn letter(time: u64) -> DeadLetter {
        DeadLetter { offset: 0, reason: DeadReason::Trapped, time: Timestamp(time), attempts: Vec::new() }
    }

    #[test]
    fn a_filter_selects_what_fits_all_that_is_given() {
        let stock: ServiceName = "stock".parse().expect("a name");
        let draft = Draft::new("shop.orders".parse().expect("a topic"), bytes::Bytes::new());
        let event = draft.admit(EventId::from_u128(7), Timestamp(0), &Limits::default()).expect("an event");
        let given = DeadFilter {
            service: Some(stock.clone()),
            since_ms: Some(Timestamp(10)),
            until_ms: Some(Timestamp(20)),
            topic: Some("shop.*".parse().expect("a pattern")),
            ..DeadFilter::default()
        };
        assert!(given.selects(&stock, &letter(10), Some(&event)));
        assert!(!given.selects(&stock, &letter(9), Some(&event)));
        assert!(!given.selects(&stock, &letter(20), Some(&event)));
        assert!(!given.selects(&stock, &letter(10), None), "of an event that is gone the topic is not known");
        let other = DeadFilter { topic: Some("mail".parse().expect("a pattern")), ..DeadFilter::default() };
        assert!(!other.selects(&stock, &letter(10), Some(&event)));
        let by_id = DeadFilter { id: Some(EventId::from_u128(8)), ..DeadFilter::default() };
        assert!(!by_id.selects(&stock, &letter(10), Some(&event)));
        assert!(DeadFilter::default().is_everything() && !by_id.is_everything());
    }
}
