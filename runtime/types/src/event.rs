//! Events, before and after they are published.
//!
//! Role: the value that busway moves. A [`Draft`] is what somebody wants to publish; [`Draft::admit`] checks it against
//! the [`Limits`] and yields an immutable [`Event`]; the engine gives it an [`Offset`] and so makes it a [`Logged`].

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHasher;

use crate::{Causality, EventId, Limits, Timestamp, Topic};

/// The position of an event in its partition's log: dense, from 0.
pub type Offset = u64;

/// What orders events: events of one key are handled in order and never at the same time. 1 to 255 bytes of text, with
/// its hash beside it so that nothing hashes it again.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    text: Arc<str>,
    hash: u64,
}

impl Key {
    /// A key; refused when empty or longer than `limits.key_bytes`.
    pub fn new(text: &str, limits: &Limits) -> Result<Self, InvalidEvent> {
        if text.is_empty() || text.len() > limits.key_bytes {
            return Err(InvalidEvent::Key { bytes: text.len(), max: limits.key_bytes });
        }
        Ok(Self::stored(text))
    }

    /// A key read back from where only checked keys are written.
    pub fn stored(text: &str) -> Self {
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        Self { text: text.into(), hash: hasher.finish() }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash of the text. Not stable between versions; never stored.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// One header: name and value, both text.
pub type Header = (Box<str>, Box<str>);

/// An event somebody wants to publish.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its id when the publisher chose one, for deduplication.
    pub id: Option<EventId>,
    /// Where to.
    pub topic: Topic,
    /// What orders it.
    pub key: Option<Key>,
    /// Media type of the data, for example `application/json`.
    pub content_type: Option<Box<str>>,
    /// Headers, in order, names may repeat.
    pub headers: Vec<Header>,
    /// The payload.
    pub data: Bytes,
    /// Deliver not before this time.
    pub not_before: Option<Timestamp>,
    /// Do not deliver at this time or later. Its topic may say an earlier one.
    pub expires: Option<Timestamp>,
    /// Where it comes from.
    pub causality: Causality,
    /// Whether the data was made from values of the topic's contract, so that nobody has to check it.
    pub is_typed: bool,
}

impl Draft {
    /// A draft with nothing but a topic and data.
    pub fn new(topic: Topic, data: Bytes) -> Self {
        Self {
            id: None,
            topic,
            key: None,
            content_type: None,
            headers: Vec::new(),
            data,
            not_before: None,
            expires: None,
            is_typed: false,
            causality: Causality::default(),
        }
    }

    /// Checks the draft and makes it an event published at `time` with `id`.
    pub fn admit(self, id: EventId, time: Timestamp, limits: &Limits) -> Result<Event, InvalidEvent> {
        let Self {
            id: chosen,
            topic,
            key,
            content_type,
            headers,
            data,
            not_before,
            expires,
            mut causality,
            is_typed: _,
        } = self;
        if chosen.is_some() {
            causality.chosen_id = true;
        }
        if headers.len() > limits.headers {
            return Err(InvalidEvent::Headers { found: headers.len(), max: limits.headers });
        }
        if let Some(key) = &key
            && key.text.len() > limits.key_bytes
        {
            return Err(InvalidEvent::Key { bytes: key.text.len(), max: limits.key_bytes });
        }
        let from = not_before.unwrap_or(time).max(time);
        if let Some(at) = expires
            && at <= from
        {
            return Err(InvalidEvent::Expired { expires: at, from });
        }
        let expires = [expires, limits.expiry(&topic, from)].into_iter().flatten().min();
        let event = Event { id, topic, key, time, content_type, headers, data, not_before, expires, causality };
        let bytes = event.payload_bytes();
        if bytes > limits.event_bytes {
            return Err(InvalidEvent::TooLarge { bytes, max: limits.event_bytes });
        }
        Ok(event)
    }
}

/// A published event. Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, for ever.
    pub id: EventId,
    /// Where it was published.
    pub topic: Topic,
    /// What orders it.
    pub key: Option<Key>,
    /// When it was published.
    pub time: Timestamp,
    /// Media type of the data.
    pub content_type: Option<Box<str>>,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// The payload.
    pub data: Bytes,
    /// Delivered not before this time.
    pub not_before: Option<Timestamp>,
    /// Not delivered at this time or later.
    pub expires: Option<Timestamp>,
    /// Where it came from.
    pub causality: Causality,
}

impl Event {
    /// Whether it may not be delivered any more at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Bytes of data, key, headers and content type: what `Limits::event_bytes` bounds.
    pub fn payload_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        self.data.len()
            + headers
            + self.key.as_ref().map_or(0, |k| k.text.len())
            + self.content_type.as_ref().map_or(0, |c| c.len())
    }

    /// About what the event costs in memory, for budgets.
    pub fn cost(&self) -> usize {
        size_of::<Self>() + 32 + self.payload_bytes()
    }
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its place.
    pub offset: Offset,
    /// The event.
    pub event: Arc<Event>,
}

/// Consecutive events of one partition's log: the unit that crosses threads.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The offset of the first event; the others follow densely.
    pub first: Offset,
    /// The events, in order.
    pub events: Arc<Vec<Arc<Event>>>,
}

impl Batch {
    /// The offset after the last event.
    pub fn end(&self) -> Offset {
        self.first + self.events.len() as u64
    }
}

/// What a publisher is told once its event is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id.
    pub id: EventId,
    /// Its place in the log; none while it is delayed.
    pub offset: Option<Offset>,
}

/// Why a draft is no event. The publisher has to change it; trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// Larger than `Limits::event_bytes`.
    #[error("the event has {bytes} bytes of data, headers and key; at most {max} are allowed (limits.event-bytes)")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More headers than `Limits::headers`.
    #[error("the event has {found} headers; at most {max} are allowed")]
    Headers {
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// It expires before it could be delivered.
    #[error("the event expires at {expires}, before it may be delivered ({from}); give it more time or less delay")]
    Expired {
        /// When it expires.
        expires: Timestamp,
        /// When it is published, or due.
        from: Timestamp,
    },
    /// An empty key, or one longer than `Limits::key_bytes`.
    #[error("the key has {bytes} bytes; 1 to {max} are allowed (leave the key out for no order)")]
    Key {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(data: usize) -> Draft {
        Draft::new("t".parse().expect("a topic"), Bytes::from(vec![0; data]))
    }

    #[test]
    fn an_event_of_exactly_the_limit_is_taken_and_one_byte_more_is_refused() {
        let limits = Limits::default();
        let id = EventId::from_u128(1);
        assert!(draft(limits.event_bytes).admit(id, Timestamp(0), &limits).is_ok());
        assert_eq!(
            draft(limits.event_bytes + 1).admit(id, Timestamp(0), &limits),
            Err(InvalidEvent::TooLarge { bytes: limits.event_bytes + 1, max: limits.event_bytes })
        );
    }

    #[test]
    fn keys_are_bounded() {
        let limits = Limits::default();
        assert!(Key::new("", &limits).is_err());
        assert!(Key::new(&"k".repeat(255), &limits).is_ok());
        assert!(Key::new(&"k".repeat(256), &limits).is_err());
    }

    #[test]
    fn the_earlier_of_an_events_own_expiry_and_its_topics_counts() {
        let rule = |topics: &str, secs| crate::TopicExpiry {
            topics: topics.parse().expect("a pattern"),
            after: std::time::Duration::from_secs(secs),
        };
        let limits = Limits { topic_expiry: vec![rule("t", 60), rule(">", 90), rule("u", 1)], ..Limits::default() };
        let expires = |own: Option<u64>, due: Option<u64>| {
            let draft = Draft { expires: own.map(Timestamp), not_before: due.map(Timestamp), ..draft(0) };
            draft.admit(EventId::from_u128(1), Timestamp(1_000), &limits).map(|event| event.expires.map(|at| at.0))
        };
        assert_eq!(expires(None, None), Ok(Some(61_000)));
        assert_eq!(expires(Some(5_000), None), Ok(Some(5_000)));
        assert_eq!(expires(Some(500_000), None), Ok(Some(61_000)));
        assert_eq!(expires(None, Some(9_000)), Ok(Some(69_000)), "from when it is due");
        let late = InvalidEvent::Expired { expires: Timestamp(8_000), from: Timestamp(9_000) };
        assert_eq!(expires(Some(8_000), Some(9_000)), Err(late));
        assert!(expires(Some(1_000), None).is_err(), "it could never be delivered");
    }

    #[test]
    fn too_many_headers_are_refused() {
        let limits = Limits::default();
        let mut with = draft(0);
        with.headers = vec![("a".into(), "b".into()); limits.headers + 1];
        assert!(matches!(
            with.admit(EventId::from_u128(1), Timestamp(0), &limits),
            Err(InvalidEvent::Headers { found: 65, max: 64 })
        ));
    }
}
