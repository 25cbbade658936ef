//! What travels over a WebSocket: one JSON object in each text message, described for users in `LIVE.md`.

use busway_types::{Draft, Key, Limits, Topic};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admin::api::{HeaderField, Payload};
use crate::edge::auth::Caller;
use crate::edge::events;

/// What a client says. Exactly one of `subscribe`, `unsubscribe`, `ack` and `publish` is there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// Show me events of these patterns.
    #[serde(default)]
    pub(super) subscribe: Option<Vec<String>>,
    /// No more of the subscription of this name.
    #[serde(default)]
    pub(super) unsubscribe: Option<String>,
    /// I have dealt with everything up to this `id`.
    #[serde(default)]
    pub(super) ack: Option<String>,
    /// Publish this.
    #[serde(default)]
    pub(super) publish: Option<ToPublish>,
    /// With `subscribe`: from where, as in `?from=`; or behind the event of this `id`.
    #[serde(default)]
    pub(super) from: Option<String>,
    /// The name of the subscription that is meant; empty when nothing is said.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// With `subscribe`: at most this many events that are not acknowledged.
    #[serde(default)]
    pub(super) window: Option<usize>,
    /// Comes back in the answer.
    #[serde(default, rename = "ref")]
    pub(super) reference: Option<Box<RawValue>>,
}

/// An event to publish.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToPublish {
    topic: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    headers: Vec<HeaderField>,
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    base64: Option<String>,
}

impl ToPublish {
    /// The draft that is meant, or what is wrong. Its id is a name that this caller gives, as everybody else's.
    pub(super) fn into_draft(self, caller: &Caller, limits: &Limits) -> Result<Draft, String> {
        let topic: Topic = self.topic.parse().map_err(|e| format!("{e}"))?;
        let key = self.key.map(|k| Key::new(&k, limits)).transpose().map_err(|e| e.to_string())?;
        let id = self.id.map(|name| events::named(caller, &topic, &name, None));
        let content_type = match (self.content_type, &self.data) {
            (None, Some(_)) => Some("application/json".into()),
            (given, _) => given.map(String::into_boxed_str),
        };
        let payload = Payload { data: self.data, text: self.text, base64: self.base64 };
        let mut draft = Draft::new(topic, payload.into_bytes().map_err(|e| e.to_string())?);
        draft.id = id;
        draft.key = key;
        draft.content_type = content_type;
        draft.headers = self.headers.into_iter().map(|h| (h.name.into(), h.value.into())).collect();
        draft.causality.traceparent = self.traceparent.map(String::into_boxed_str);
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_may_publish_is_read_and_the_rest_is_told() {
        let limits = Limits::default();
        let said: Said = serde_json::from_str(r#"{"publish":{"topic":"a.b","key":"k","data":{"x":1.10}},"ref":7}"#)
            .expect("a message");
        let draft = said.publish.expect("an event").into_draft(&Caller::UNRESTRICTED, &limits).expect("a draft");
        assert_eq!((draft.topic.as_str(), &*draft.data), ("a.b", &br#"{"x":1.10}"#[..]));
        assert_eq!(draft.content_type.as_deref(), Some("application/json"));
        let wrong: Said = serde_json::from_str(r#"{"publish":{"topic":"a b"}}"#).expect("a message");
        let wrong = wrong.publish.expect("an event").into_draft(&Caller::UNRESTRICTED, &limits);
        let error = wrong.expect_err("a bad topic");
        assert!(error.contains("`a b`"), "{error}");
        assert!(serde_json::from_str::<Said>(r#"{"subscibe":["a"]}"#).is_err(), "a typing error is told");
    }
}
