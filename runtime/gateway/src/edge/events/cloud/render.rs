//! Events of the bus as `CloudEvents` in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_types::Event;
use serde_json::{Map, Value};

use super::PREFIX;
use crate::edge::events::media::is_json;

/// The event as a `CloudEvent` in JSON. One that came as a `CloudEvent` has the attributes it came with; another one gets its
/// own id, `/NAME` of the service that published it (or `/`) as its source, its topic as its type, and its headers as far
/// as they can be extensions.
pub fn cloudevent(event: &Event) -> String {
    let mut members = Map::new();
    let headers = event.headers.iter();
    let given = headers.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
    members.extend(given.map(|(name, value)| (name.to_owned(), Value::from(&**value))));
    if !["specversion", "id", "source", "type"].iter().all(|name| members.contains_key(*name)) {
        members.clear();
        native(event, &mut members);
    }
    if members.get("type").and_then(Value::as_str) != Some(event.topic.as_str()) {
        members.insert("topic".to_owned(), event.topic.as_str().into());
    }
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value.into());
        }
    };
    set("partitionkey", event.key.as_ref().map(|key| key.as_str().to_owned()));
    set("expirytime", event.expires.map(|time| time.to_string()));
    set("traceparent", event.causality.traceparent.as_deref().map(str::to_owned));
    set("correlationid", event.causality.correlation.as_deref().map(str::to_owned));
    set("causationid", event.causality.cause.map(|cause| cause.to_string()));
    set("datacontenttype", event.content_type.as_deref().map(str::to_owned));
    with_data(&members, event)
}

fn native(event: &Event, members: &mut Map<String, Value>) {
    let extensions = event.headers.iter().filter(|(name, value)| {
        let sound = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        sound && !name.is_empty() && name.len() <= 20 && !value.is_empty() && !name.starts_with("data")
    });
    members.extend(extensions.map(|(name, value)| (name.to_string(), Value::from(&**value))));
    let source = event.causality.source.as_ref().map_or_else(|| "/".to_owned(), |source| format!("/{source}"));
    for (name, value) in [
        ("specversion", "1.0".to_owned()),
        ("id", event.id.to_string()),
        ("source", source),
        ("type", event.topic.to_string()),
        ("time", event.time.to_string()),
    ] {
        members.insert(name.to_owned(), value.into());
    }
}

/// JSON as it is, other text as a string, the rest in base64.
fn with_data(members: &Map<String, Value>, event: &Event) -> String {
    let data = &event.data;
    let mut text = Value::Object(members.clone()).to_string();
    if data.is_empty() {
        return text;
    }
    let says_json = event.content_type.as_deref().is_none_or(is_json);
    let utf8 = std::str::from_utf8(data).ok();
    let json = utf8.filter(|_| says_json).filter(|text| is_value(text));
    let member = match (json, utf8) {
        (Some(json), _) => format!("\"data\":{json}"),
        // A string under a type that is JSON, or none, would be read as JSON.
        (None, Some(utf8)) if !says_json => format!("\"data\":{}", Value::from(utf8)),
        _ => format!("\"data_base64\":\"{}\"", STANDARD.encode(data)),
    };
    text.pop();
    text + "," + &member + "}"
}

/// Whether a text is JSON that can stand in a line.
fn is_value(text: &str) -> bool {
    !text.contains(['\n', '\r']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}
