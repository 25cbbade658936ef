//! Between names of Socket.IO and topics of the bus.

use busway_types::{Event, Topic};
use serde_json::Value;

/// What the names of all of them begin with.
pub(super) const PREFIX: &str = "socketio-";
/// The header with the name of a Socket.IO event, where the topic alone does not say it.
pub(super) const EVENT: &str = "socketio-event";
/// The header of an incoming event with the client that emitted it; of an outgoing one, the only client that gets it.
pub(super) const CLIENT: &str = "socketio-client";
/// The header of an outgoing event with the room that gets it; goes before the field of the data.
pub(super) const ROOM: &str = "socketio-room";
/// The header of an outgoing event with a client that does not get it.
pub(super) const EXCEPT: &str = "socketio-except";
/// The header of an incoming event with its namespace.
pub(super) const NAMESPACE: &str = "socketio-namespace";
/// The header of an incoming event with who the caller is (`key:shop`), when that is known.
pub(super) const CALLER: &str = "socketio-caller";
/// The header of an incoming event with the number of its arguments, unless it is one.
pub(super) const ARGUMENTS: &str = "socketio-arguments";

/// Bytes of the name of an event or a room.
pub(super) const NAME_BYTES: usize = 128;

/// A name of an event as a token of a topic: what a token cannot have becomes `-`.
pub(super) fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.' { c } else { '-' }).collect()
}

/// Where what a client emits under this name is published.
pub(super) fn topic(below: &Topic, name: &str) -> Result<Topic, String> {
    if name.len() > NAME_BYTES {
        return Err(format!("the name of the event is longer than {NAME_BYTES} bytes"));
    }
    format!("{below}.{}", token(name)).parse().map_err(|error| format!("`{name}` makes no topic: {error}"))
}

/// The name under which an event is emitted.
pub(super) fn name(event: &Event, below: &Topic, names: &[String]) -> String {
    if let Some(said) = header(event, EVENT) {
        return said.to_owned();
    }
    let topic = event.topic.as_str();
    let rest = topic.strip_prefix(below.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(topic);
    names.iter().find(|name| token(name) == rest).map_or_else(|| rest.to_owned(), Clone::clone)
}

/// A header of an event; the first, when there are several.
pub(super) fn header<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
}

/// The text at a path of fields such as `event.room`.
pub(super) fn field<'a>(data: &'a Value, path: &str) -> Option<&'a str> {
    path.split('.').try_fold(data, |value, field| value.get(field))?.as_str()
}

#[cfg(test)]
mod tests {
    use busway_types::{Draft, EventId, Limits, Timestamp};
    use serde_json::json;

    use super::*;

    fn event(topic: &str, headers: &[(&str, &str)]) -> Event {
        let mut draft = Draft::new(topic.parse().expect("a topic"), bytes::Bytes::new());
        draft.headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        draft.admit(EventId::from_u128(1), Timestamp(1), &Limits::default()).expect("an event")
    }

    #[test]
    fn names_become_topics_and_topics_names() {
        let (below_in, below_out): (Topic, Topic) =
            ("chat.in".parse().expect("a topic"), "chat.out".parse().expect("a topic"));
        assert_eq!(topic(&below_in, "my event").expect("a topic").as_str(), "chat.in.my-event");
        assert_eq!(topic(&below_in, "orders.new").expect("a topic").as_str(), "chat.in.orders.new");
        for bad in ["", "a..b", ".", &"x".repeat(129)] {
            assert!(topic(&below_in, bad).is_err(), "{bad:?}");
        }
        let names = ["my response".to_owned()];
        assert_eq!(name(&event("chat.out.my-response", &[]), &below_out, &names), "my response");
        assert_eq!(name(&event("chat.out.other.thing", &[]), &below_out, &names), "other.thing");
        let said = event("chat.out.my-response", &[("socketio-event", "привет")]);
        assert_eq!(name(&said, &below_out, &names), "привет");
    }

    #[test]
    fn a_room_is_found_by_its_path() {
        let data = json!({ "room": "a", "event": { "room": "b", "n": 1 } });
        assert_eq!(field(&data, "room"), Some("a"));
        assert_eq!(field(&data, "event.room"), Some("b"));
        assert_eq!((field(&data, "event.n"), field(&data, "x.y")), (None, None));
    }
}
