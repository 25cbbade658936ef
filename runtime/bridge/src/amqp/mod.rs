//! Queues and exchanges of RabbitMQ.
//!
//! Role: [`AmqpSource`] and [`AmqpTarget`], and how messages and events become each other.
//!
//! Invariant: no text of an event or of a message is made a short string, which has 255 bytes at most, without a look.

mod source;
mod target;

use busway_engine::{AmqpServer, amqp_connect};
use busway_types::{Event, Timestamp};
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection};

pub(crate) use source::{AmqpSource, acknowledge, refuse};
pub(crate) use target::AmqpTarget;

use crate::Broken;
use crate::message::{Envelope, Reading, headers_out};

/// The properties and headers of a message are in one frame, of which a server takes 128 KiB.
const MOST_HEADER_BYTES: usize = 64 * 1024;
/// Kept on disk by a queue that keeps anything.
const PERSISTENT: u8 = 2;

fn broken(what: &str, error: &dyn std::fmt::Display) -> Broken {
    Broken(format!("{what}: {error}"))
}

async fn connect(server: &AmqpServer, bridge: &str) -> Result<(Connection, Channel), Broken> {
    let connection = amqp_connect(server, &format!("busway bridge {bridge}")).await;
    let connection = connection.map_err(|error| Broken(error.to_string()))?;
    let channel = connection.create_channel().await.map_err(|error| broken("RabbitMQ gives no channel", &error))?;
    Ok((connection, channel))
}

/// A value of a header as text; none for what has no place in one.
fn text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::ShortString(value) => value.as_str().to_owned(),
        AMQPValue::LongString(value) => std::str::from_utf8(value.as_bytes()).ok()?.to_owned(),
        _ => return None,
    })
}

/// The event that a message is to be. Headers that are tables or bytes are left out.
fn envelope(delivery: Delivery, reading: &Reading) -> Envelope {
    let Delivery { exchange, routing_key, properties, data, .. } = delivery;
    let mut envelope = Envelope { data: data.into(), ..Envelope::default() };
    let own = |value: &Option<ShortString>| value.as_ref().map(|value| Box::from(value.as_str()));
    envelope.content_type = own(properties.content_type());
    envelope.correlation = own(properties.correlation_id());
    let id = properties.message_id().as_ref().map(ShortString::as_str).filter(|id| !id.is_empty());
    envelope.id = id.and_then(|id| reading.id(id));
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let values = match value {
            AMQPValue::FieldArray(array) => array.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values.iter().filter_map(text) {
            envelope.header(&reading.key_header, name.as_str(), value);
        }
    }
    let envelope_id = envelope.id;
    let mut add = |name: &str, value: Option<String>| {
        envelope.headers.extend(value.filter(|value| !value.is_empty()).map(|v| (name.into(), v.into())));
    };
    let string = |value: &Option<ShortString>| value.as_ref().map(|value| value.as_str().to_owned());
    if envelope_id.is_none() {
        add("amqp-message-id", string(properties.message_id()));
    }
    add("amqp-exchange", Some(exchange.as_str().to_owned()));
    add("amqp-routing-key", Some(routing_key.as_str().to_owned()));
    add("amqp-type", string(properties.kind()));
    add("amqp-app-id", string(properties.app_id()));
    add("amqp-reply-to", string(properties.reply_to()));
    add("amqp-content-encoding", string(properties.content_encoding()));
    add("amqp-timestamp", properties.timestamp().map(|seconds| seconds.to_string()));
    envelope
}

fn short(what: &str, value: &str) -> Result<ShortString, String> {
    ShortString::try_new(value).map_err(|_| {
        let shown: String = value.chars().take(40).collect();
        format!("the {what} `{shown}…` has {} bytes, and RabbitMQ takes 255", value.len())
    })
}

/// The properties of the message that an event is to be; else what of them cannot be one.
fn properties(event: &Event, key_header: &str, now: Timestamp) -> Result<BasicProperties, String> {
    let headers = headers_out(event, key_header);
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MOST_HEADER_BYTES {
        return Err(format!("it has {bytes} bytes of headers, and RabbitMQ takes {MOST_HEADER_BYTES}"));
    }
    let mut table = FieldTable::default();
    let mut groups: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for (name, value) in headers {
        groups.entry(name).or_default().push(value);
    }
    for (name, mut values) in groups {
        let name = short("header", &name)?;
        let value = if values.len() == 1 {
            AMQPValue::LongString(LongString::from(values.remove(0)))
        } else {
            let values = values.into_iter().map(|value| AMQPValue::LongString(LongString::from(value)));
            AMQPValue::FieldArray(FieldArray::from(values.collect::<Vec<_>>()))
        };
        table.insert(name, value);
    }
    let mut properties = BasicProperties::default()
        .with_message_id(short("id", &event.id.to_string())?)
        .with_timestamp(event.time.0 / 1_000)
        .with_delivery_mode(PERSISTENT)
        .with_headers(table);
    if let Some(content_type) = &event.content_type {
        properties = properties.with_content_type(short("content type", content_type)?);
    }
    if let Some(correlation) = &event.causality.correlation {
        properties = properties.with_correlation_id(short("correlation", correlation)?);
    }
    if let Some(expires) = event.expires {
        let left = expires.since(now).as_millis().min(u128::from(u32::MAX));
        properties = properties.with_expiration(short("expiration", &left.to_string())?);
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KEY_HEADER;
    use crate::message::id_of;
    use crate::message::tests::event;
    use busway_types::{EventId, Key, Limits};

    fn delivery(properties: BasicProperties) -> Delivery {
        let (exchange, key) = (ShortString::from("logs"), ShortString::from("a.b"));
        Delivery { properties, ..Delivery::mock(1, exchange, key, false, b"x".to_vec()) }
    }

    #[test]
    fn an_event_that_went_out_comes_in_as_it_was() {
        let sent = event(|draft| {
            draft.key = Some(Key::new("k", &Limits::default()).expect("a key"));
            draft.content_type = Some("text/plain".into());
            draft.causality.correlation = Some("c".into());
            draft.expires = Some(Timestamp(60_000));
            draft.headers = vec![("x".into(), "1".into()), ("x".into(), "ü".into())];
        });
        let properties = properties(&sent, KEY_HEADER, Timestamp(20_000)).expect("properties");
        assert_eq!(properties.expiration().as_ref().map(ShortString::as_str), Some("40000"), "what is left");
        assert_eq!(*properties.delivery_mode(), Some(PERSISTENT));
        let came = envelope(delivery(properties), &Reading::of("a", true));
        assert_eq!(came.id, Some(EventId::from_u128(7)), "the id of an event is one");
        assert_eq!((came.key.as_deref(), came.content_type.as_deref()), (Some("k"), Some("text/plain")));
        assert_eq!((came.correlation.as_deref(), came.hops, &*came.data), (Some("c"), 1, &b"x"[..]));
        let headers: Vec<(&str, &str)> = came.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let wanted = [
            ("busway-time", "1970-01-01T00:00:00.000Z"),
            ("busway-topic", "orders.new"),
            ("x", "1"),
            ("x", "ü"),
            ("amqp-exchange", "logs"),
            ("amqp-routing-key", "a.b"),
            ("amqp-timestamp", "0"),
        ];
        assert_eq!(headers, wanted);
    }

    #[test]
    fn headers_of_every_kind_become_text_or_are_left_out() {
        let mut table = FieldTable::default();
        for (name, value) in [
            ("b", AMQPValue::Boolean(true)),
            ("i", AMQPValue::LongLongInt(-7)),
            ("d", AMQPValue::Double(0.5)),
            ("t", AMQPValue::FieldTable(FieldTable::default())),
            ("bad", AMQPValue::LongString(LongString::from(vec![0xff_u8]))),
            ("busway-key", AMQPValue::LongInt(5)),
        ] {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_headers(table).with_message_id("m-1".into());
        let came = envelope(delivery(properties.clone()), &Reading::of("a", true));
        let headers: Vec<String> = came.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(headers, ["b=true", "d=0.5", "i=-7", "amqp-exchange=logs", "amqp-routing-key=a.b"]);
        assert_eq!((came.key.as_deref(), came.id), (Some("5"), Some(id_of("a", "message", "m-1"))));
        let other = envelope(delivery(properties), &Reading::of("a", false));
        assert!(other.id.is_none() && other.headers.contains(&("amqp-message-id".into(), "m-1".into())), "{other:?}");
    }

    #[test]
    fn what_rabbitmq_cannot_carry_is_named() {
        let long = "x".repeat(256);
        let header = event(|draft| draft.headers.push((long.clone().into(), "1".into())));
        let kind = event(|draft| draft.content_type = Some(long.clone().into()));
        let large = event(|draft| draft.headers.push(("x".into(), "1".repeat(MOST_HEADER_BYTES).into())));
        for (event, part) in [(header, "the header `xxx"), (kind, "the content type `xxx"), (large, "bytes of headers")]
        {
            let told = properties(&event, KEY_HEADER, Timestamp(0)).expect_err(part);
            assert!(told.contains(part), "{told}");
        }
    }
}
