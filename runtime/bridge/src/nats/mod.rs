//! Subjects and streams of NATS.
//!
//! Role: [`NatsSource`] and [`NatsTarget`], and how messages and events become each other. A subject of core NATS is at most
//! once: what is published while a bridge is away is gone, as for every subscriber. A stream is at least once.

mod source;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_nats::{Client, Event, HeaderMap, HeaderName, HeaderValue};
use busway_engine::{NatsUrl, nats_connect};
use busway_types::Event as BusEvent;

pub(crate) use async_nats::jetstream::message::Acker;
pub(crate) use source::{NatsSource, acknowledge, hold, refuse};
pub(crate) use target::NatsTarget;

use crate::Broken;
use crate::link::Link;
use crate::message::{CORRELATION, Envelope, Reading, headers_out};

const MESSAGE_ID: &str = "Nats-Msg-Id";
const CONTENT_TYPE: &str = "Content-Type";

fn broken(what: &str, error: &dyn std::fmt::Display) -> Broken {
    Broken(format!("{what}: {error}"))
}

/// A connection whose state the link shows from when it is in use.
struct Connection {
    client: Client,
    in_use: Arc<AtomicBool>,
    /// How often the server complained, or the connection was lost.
    troubles: Arc<AtomicU64>,
}

impl Connection {
    /// `held` messages wait for whoever reads them.
    async fn open(url: &NatsUrl, bridge: &str, held: usize, link: &Arc<Link>) -> Result<Self, Broken> {
        let in_use = Arc::new(AtomicBool::new(false));
        let troubles = Arc::new(AtomicU64::new(0));
        let (flag, link, seen_troubles) = (Arc::clone(&in_use), Arc::clone(link), Arc::clone(&troubles));
        let seen = move |event| {
            if matches!(event, Event::Disconnected | Event::ServerError(_)) {
                seen_troubles.fetch_add(1, Ordering::AcqRel);
            }
            if flag.load(Ordering::Acquire) {
                note(&link, &event);
            }
        };
        let client = nats_connect(url, &format!("busway bridge {bridge}"), held, seen).await;
        Ok(Self { client: client.map_err(|error| Broken(error.to_string()))?, in_use, troubles })
    }

    /// How often the server complained, or the connection was lost, so far.
    fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::Acquire)
    }

    /// From now on the link follows what happens to the connection.
    fn used(&self) {
        self.in_use.store(true, Ordering::Release);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.in_use.store(false, Ordering::Release);
    }
}

fn note(link: &Link, event: &Event) {
    match event {
        Event::Connected => link.connected(),
        Event::Disconnected => link.waiting("the connection to NATS is lost"),
        Event::ServerError(error) => link.waiting(&format!("NATS says: {error}")),
        Event::SlowConsumer(_) => {
            link.refused("-", "more messages came than the bus takes, and core NATS keeps none", "dropped");
        }
        _ => {}
    }
}

/// The event that a message is to be.
fn envelope(message: async_nats::Message, reading: &Reading) -> Envelope {
    let async_nats::Message { subject, reply, payload, headers, .. } = message;
    let mut envelope = Envelope { data: payload, ..Envelope::default() };
    for (name, values) in headers.iter().flat_map(HeaderMap::iter) {
        for value in values {
            let name: &str = name.as_ref();
            let value = value.as_str();
            let is_id = name.eq_ignore_ascii_case(MESSAGE_ID) && envelope.id.is_none() && !value.is_empty();
            if let Some(id) = reading.id(value).filter(|_| is_id) {
                envelope.id = Some(id);
            } else if name.eq_ignore_ascii_case(CONTENT_TYPE) && envelope.content_type.is_none() {
                envelope.content_type = Some(value.into());
            } else {
                envelope.header(&reading.key_header, name, value.to_owned());
            }
        }
    }
    // The client has the headers in no order; events are the same whenever they are read.
    envelope.headers.sort();
    envelope.headers.push(("nats-subject".into(), subject.as_str().into()));
    envelope.headers.extend(reply.map(|reply| ("nats-reply".into(), reply.as_str().into())));
    envelope
}

/// The headers of the message that an event is to be; else which of them cannot be one.
fn headers(event: &BusEvent, key_header: &str) -> Result<HeaderMap, String> {
    let mut all = headers_out(event, key_header);
    all.push((MESSAGE_ID.to_owned(), event.id.to_string()));
    let also = [(CONTENT_TYPE, &event.content_type), (CORRELATION, &event.causality.correlation)];
    all.extend(also.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.as_ref()?.to_string()))));
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        let sound = |()| Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?));
        let Some((name, value)) = sound(()).filter(|_| !name.is_empty()) else {
            let name: String = name.escape_debug().take(80).collect();
            return Err(format!("the header `{name}`, or its value, cannot be one of NATS"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KEY_HEADER;
    use crate::message::tests::event;
    use busway_types::{EventId, Key, Limits};
    use bytes::Bytes;

    #[test]
    fn an_event_that_went_out_comes_in_as_it_was() {
        let sent = event(|draft| {
            draft.key = Some(Key::new("k", &Limits::default()).expect("a key"));
            draft.content_type = Some("text/plain".into());
            draft.causality.correlation = Some("c".into());
            draft.headers = vec![("x".into(), "1".into()), ("x".into(), "ü".into())];
        });
        let headers = headers(&sent, KEY_HEADER).expect("headers");
        let message = async_nats::Message {
            subject: "a.b".into(),
            reply: Some("r".into()),
            payload: Bytes::from_static(b"x"),
            headers: Some(headers),
            status: None,
            description: None,
            length: 1,
        };
        let came = envelope(message, &Reading::of("a", true));
        assert_eq!(came.id, Some(EventId::from_u128(7)), "the id of an event is one");
        assert_eq!((came.key.as_deref(), came.content_type.as_deref()), (Some("k"), Some("text/plain")));
        assert_eq!((came.correlation.as_deref(), came.hops, &*came.data), (Some("c"), 1, &b"x"[..]));
        let headers: Vec<(&str, &str)> = came.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let wanted = [
            ("busway-time", "1970-01-01T00:00:00.000Z"),
            ("busway-topic", "orders.new"),
            ("x", "1"),
            ("x", "ü"),
            ("nats-subject", "a.b"),
            ("nats-reply", "r"),
        ];
        assert_eq!(headers, wanted);
    }

    #[test]
    fn a_header_that_nats_cannot_carry_is_named() {
        for (name, value) in [("a b", "1"), ("a:b", "1"), ("", "1"), ("a", "1\r\nNats-Rollup: all")] {
            let bad = event(|draft| draft.headers.push((name.into(), value.into())));
            assert!(headers(&bad, KEY_HEADER).expect_err("it is none").contains(&format!("`{name}`")), "{name:?}");
        }
    }
}
