//! What a message has beside its payload, as an event has it, and the other way round.
//!
//! | event | RabbitMQ | NATS |
//! |---|---|---|
//! | id | `message-id` | `Nats-Msg-Id` |
//! | key | header `busway-key`, or what `key-header` says | the same |
//! | content type | `content-type` | `Content-Type` |
//! | correlation | `correlation-id` | `busway-correlation` |
//! | trace context, hops | headers `traceparent`, `busway-hops` | the same |
//! | headers | headers | headers |
//! | topic, time, source; only on the way out | headers `busway-topic`, `busway-time`, `busway-source` | the same |
//!
//! Invariants: what is on the way in is never trusted to be short or well-formed: what cannot be what its name says stays an
//! ordinary header. Headers that mean something to busway or to a broker never come from a service on the way out.

use busway_types::{Draft, Event, EventId, Header, Key, Limits, Origin, ServiceName, Topic};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub(crate) const CORRELATION: &str = "busway-correlation";
const TRACEPARENT: &str = "traceparent";
const HOPS: &str = "busway-hops";
/// A longer correlation id stays a header.
const LONGEST_CORRELATION: usize = 255;
/// How headers begin that belong to busway or to a broker.
const RESERVED: [&str; 3] = ["busway-", "amqp-", "nats-"];

/// How messages are read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The bridge.
    pub(crate) bridge: String,
    /// The header with their key.
    pub(crate) key_header: String,
    /// Whether ids of messages are those of events.
    pub(crate) deduplicate: bool,
}

impl Reading {
    /// The id of the event that a message with an id is to be.
    pub(crate) fn id(&self, message: &str) -> Option<EventId> {
        self.deduplicate.then(|| id_of(&self.bridge, "message", message))
    }
}

/// A message that came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) id: Option<EventId>,
    pub(crate) key: Option<String>,
    pub(crate) content_type: Option<Box<str>>,
    pub(crate) correlation: Option<Box<str>>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) hops: u8,
    pub(crate) headers: Vec<Header>,
    pub(crate) data: Bytes,
}

impl Envelope {
    /// Takes a header for what it is.
    pub(crate) fn header(&mut self, key_header: &str, name: &str, value: String) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is(key_header) && self.key.is_none() && !value.is_empty() {
            self.key = Some(value);
        } else if is(TRACEPARENT) && self.traceparent.is_none() && is_traceparent(&value) {
            self.traceparent = Some(value.into());
        } else if is(HOPS) && !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
            self.hops = value.parse().unwrap_or(u8::MAX);
        } else if is(CORRELATION) && self.correlation.is_none() && value.len() <= LONGEST_CORRELATION {
            self.correlation = Some(value.into());
        } else {
            self.headers.push((name.into(), value.into()));
        }
    }

    /// Bytes of it that go into a batch.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// The event that this is to be. What is too long for a key stays a header.
    pub(crate) fn draft(mut self, topic: &Topic, reading: &Reading, bridge: &ServiceName, limits: &Limits) -> Draft {
        let key = self.key.as_ref().and_then(|key| Key::new(key, limits).ok());
        if let (None, Some(given)) = (&key, self.key.take()) {
            self.headers.push((reading.key_header.as_str().into(), given.into()));
        }
        let origin = Origin {
            source: Some(bridge.clone()),
            correlation: self.correlation,
            traceparent: self.traceparent,
            hops: self.hops,
            ..Origin::default()
        };
        let mut draft = Draft::new(topic.clone(), self.data);
        (draft.id, draft.key, draft.content_type, draft.headers) = (self.id, key, self.content_type, self.headers);
        draft.causality = origin.into();
        draft
    }
}

/// Whether a text looks as the W3C trace context has it.
fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    parts.len() == lengths.len() && parts.iter().zip(lengths).all(|(part, length)| part.len() == length && hex(part))
}

/// The id of an event that a message names: that id if it is one, else the first 122 bits of a SHA-256 over what stands for
/// the message, each part with its length before it. The same message always gives the same.
pub(crate) fn id_of(bridge: &str, kind: &str, name: &str) -> EventId {
    if let (Ok(id), "message") = (name.parse(), kind) {
        return id;
    }
    let mut hash = Sha256::new();
    for part in ["bridge", bridge, kind, name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut first = [0_u8; 16];
    first.copy_from_slice(&digest[..16]);
    let kept = u128::from_be_bytes(first) & 0xffff_ffff_ffff_0fff_3fff_ffff_ffff_ffff;
    EventId::from_u128(kept | (0x8 << 76) | (0b10 << 62))
}

/// The headers of an event on its way out, without those that a broker has another place for.
pub(crate) fn headers_out(event: &Event, key_header: &str) -> Vec<(String, String)> {
    let mut headers = vec![
        ("busway-topic".to_owned(), event.topic.to_string()),
        ("busway-time".to_owned(), event.time.to_string()),
        (HOPS.to_owned(), event.causality.hops.saturating_add(1).to_string()),
    ];
    let mut set = |name: &str, value: Option<&str>| headers.extend(value.map(|v| (name.to_owned(), v.to_owned())));
    set("busway-source", event.causality.source.as_ref().map(ServiceName::as_str));
    set(TRACEPARENT, event.causality.traceparent.as_deref());
    set(key_header, event.key.as_ref().map(Key::as_str));
    for (name, value) in &event.headers {
        let begins = |start: &&str| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
        let is_taken = name.eq_ignore_ascii_case(key_header)
            || (name.eq_ignore_ascii_case(TRACEPARENT) && event.causality.traceparent.is_some());
        if !RESERVED.iter().any(begins) && !is_taken {
            headers.push((name.to_string(), value.to_string()));
        }
    }
    headers
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::KEY_HEADER;
    use busway_types::Timestamp;

    impl Reading {
        pub(crate) fn of(bridge: &str, deduplicate: bool) -> Self {
            Self { bridge: bridge.to_owned(), key_header: KEY_HEADER.to_owned(), deduplicate }
        }
    }

    pub(crate) fn event(change: impl FnOnce(&mut Draft)) -> Event {
        let mut draft = Draft::new("orders.new".parse().expect("a topic"), Bytes::from_static(b"x"));
        change(&mut draft);
        draft.admit(EventId::from_u128(7), Timestamp(0), &Limits::default()).expect("an event")
    }

    #[test]
    fn a_header_becomes_what_its_name_says_unless_it_cannot() {
        let mut envelope = Envelope::default();
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (name, value) in [
            ("busway-key", ""),
            ("Busway-Key", "k"),
            ("busway-key", "second"),
            ("traceparent", "00-xx"),
            ("traceparent", trace),
            ("busway-hops", "many"),
            ("busway-hops", ""),
            ("busway-hops", "999"),
            ("busway-correlation", "c"),
            ("x", "1"),
        ] {
            envelope.header(KEY_HEADER, name, value.to_owned());
        }
        let headers: Vec<(&str, &str)> = envelope.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            headers,
            [
                ("busway-key", ""),
                ("busway-key", "second"),
                ("traceparent", "00-xx"),
                ("busway-hops", "many"),
                ("busway-hops", ""),
                ("x", "1")
            ]
        );
        assert_eq!((envelope.key.as_deref(), envelope.traceparent.as_deref()), (Some("k"), Some(trace)));
        assert_eq!((envelope.hops, envelope.correlation.as_deref()), (255, Some("c")));
        let topic: Topic = "t".parse().expect("a topic");
        let bridge: ServiceName = "bridge.a".parse().expect("a name");
        let reading = Reading::of("a", true);
        let draft = envelope.clone().draft(&topic, &reading, &bridge, &Limits::default());
        assert_eq!((draft.causality.hops, draft.causality.source.clone()), (255, Some(bridge.clone())));
        envelope.key = Some("k".repeat(256));
        let draft = envelope.draft(&topic, &reading, &bridge, &Limits::default());
        let last = draft.headers.last().expect("a header");
        assert!(draft.key.is_none() && *last.0 == *KEY_HEADER && last.1.len() == 256, "{last:?}");
    }

    #[test]
    fn ids_are_kept_or_derived_and_the_same_again() {
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(id_of("a", "message", uuid).to_string(), uuid);
        let ids = [
            id_of("a", "message", "1"),
            id_of("b", "message", "1"),
            id_of("a", "message", "2"),
            id_of("a", "stream S", "1"),
            id_of("a", "stream S", uuid),
        ];
        for (place, id) in ids.iter().enumerate() {
            assert!(!ids[..place].contains(id), "{place}");
        }
        assert_eq!(ids[0].to_string(), "bee29f28-6c15-8eb9-af2e-08b332d9e0e1", "the same for ever");
    }

    #[test]
    fn what_belongs_to_a_broker_never_comes_from_a_service() {
        let event = event(|draft| {
            draft.key = Some(Key::new("k", &Limits::default()).expect("a key"));
            draft.causality.hops = 2;
            for name in ["Nats-Rollup", "BUSWAY-HOPS", "amqp-type", "Busway-Key", "nät", "x"] {
                draft.headers.push((name.into(), "v".into()));
            }
        });
        let headers = headers_out(&event, KEY_HEADER);
        let shown: Vec<String> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let time = "busway-time=1970-01-01T00:00:00.000Z";
        assert_eq!(shown, ["busway-topic=orders.new", time, "busway-hops=3", "busway-key=k", "nät=v", "x=v"]);
    }
}
