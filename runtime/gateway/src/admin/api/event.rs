//! Events on their way in and out.
//!
//! Invariant: what `tail` prints can be published again and yields the same bytes. JSON that stands on one line travels
//! verbatim in `data`, other UTF-8 in `text`, everything else in `base64`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_types::{Draft, EventId, InvalidEvent, Key, Limits, Logged, Offset, Timestamp, Topic};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ApiError, Problem, parse_rfc3339};

/// One header of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderField {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Bytes as JSON: at most one of the three is there; none means no bytes.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// The bytes are this JSON, verbatim.
    pub data: Option<Box<RawValue>>,
    /// The bytes are this text in UTF-8.
    pub text: Option<String>,
    /// The bytes, in base64 (RFC 4648 section 4, with padding).
    pub base64: Option<String>,
}

impl Payload {
    /// The form that says most about the bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Self { base64: Some(STANDARD.encode(bytes)), ..Self::default() };
        };
        if text.is_empty() {
            return Self::default();
        }
        // `RawValue` trims white space and may keep line breaks, which would tear a line of NDJSON.
        match serde_json::from_str::<Box<RawValue>>(text) {
            Ok(raw) if raw.get() == text && !text.contains(['\n', '\r']) => Self { data: Some(raw), ..Self::default() },
            _ => Self { text: Some(text.to_owned()), ..Self::default() },
        }
    }

    /// The bytes.
    pub fn into_bytes(self) -> Result<Bytes, ApiError> {
        match self {
            Self { data: None, text: None, base64: None } => Ok(Bytes::new()),
            Self { data: Some(raw), text: None, base64: None } => {
                Ok(Bytes::from(String::from(Box::<str>::from(raw)).into_bytes()))
            }
            Self { data: None, text: Some(text), base64: None } => Ok(Bytes::from(text.into_bytes())),
            Self { data: None, text: None, base64: Some(code) } => STANDARD
                .decode(code)
                .map(Bytes::from)
                .map_err(|e| ApiError::invalid(format!("`base64` is not base64 (RFC 4648 section 4): {e}"))),
            _ => Err(ApiError::invalid("more than one of `data`, `text` and `base64`; give the bytes in one form")),
        }
    }
}

/// An event to publish.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// Where to.
    pub topic: String,
    /// What orders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// An id of the publisher's choice (a UUID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Media type of the data. `application/json` when `data` is used and nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Headers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderField>,
    /// What the journey is about; the event's own id when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Deliver not before this many milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Do not deliver later than this many milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// The bytes, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// The bytes, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl PublishRequest {
    /// The draft that is asked for at `now`, checked as far as can be without publishing it.
    pub fn into_draft(self, now: Timestamp, limits: &Limits) -> Result<Draft, ApiError> {
        let topic: Topic = self.topic.parse().map_err(|e| ApiError::invalid(format!("{e}")))?;
        let key = self.key.map(|k| Key::new(&k, limits)).transpose().map_err(ApiError::from)?;
        let id: Option<EventId> =
            self.id.map(|id| id.parse()).transpose().map_err(|e| ApiError::invalid(format!("{e}")))?;
        let content_type = match (self.content_type, &self.data) {
            (None, Some(_)) => Some("application/json".into()),
            (given, _) => given.map(String::into_boxed_str),
        };
        let headers = self.headers.into_iter().map(|h| (h.name.into(), h.value.into())).collect();
        let data = Payload { data: self.data, text: self.text, base64: self.base64 }.into_bytes()?;
        let mut draft = Draft::new(topic, data);
        draft.id = id;
        draft.key = key;
        draft.content_type = content_type;
        draft.headers = headers;
        draft.not_before = self.delay_ms.map(|ms| now.after(Duration::from_millis(ms)));
        draft.expires = self.expires_ms.map(|ms| now.after(Duration::from_millis(ms)));
        draft.causality.correlation = self.correlation.map(String::into_boxed_str);
        draft.causality.traceparent = self.traceparent.map(String::into_boxed_str);
        Ok(draft)
    }
}

impl From<InvalidEvent> for ApiError {
    fn from(error: InvalidEvent) -> Self {
        let detail = error.to_string();
        match error {
            InvalidEvent::TooLarge { .. } => Self::TooLarge { detail, index: None },
            InvalidEvent::Headers { .. } | InvalidEvent::Key { .. } | InvalidEvent::Expired { .. } => {
                Self::Invalid { detail, index: None }
            }
        }
    }
}

/// What became of one published event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReply {
    /// Its id.
    pub id: EventId,
    /// Its place in the log; none while it is delayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// How many subscriptions select its topic now.
    pub subscribers: usize,
    /// With no subscribers: the nearest topic or pattern that somebody subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The answer to `POST /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishResponse {
    /// One reply per event, in the order of the request.
    pub published: Vec<PublishReply>,
}

/// A published event with everything that is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Its place in the log.
    pub offset: Offset,
    /// Its id.
    pub id: EventId,
    /// Where it was published.
    pub topic: Topic,
    /// What orders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it was published.
    pub time_ms: Timestamp,
    /// Media type of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Headers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderField>,
    /// The service that published it; none when it came from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The event whose handling published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EventId>,
    /// What the journey is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Handlers between the first event of the journey and this one.
    pub hops: u8,
    /// The bytes, when they are JSON on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// The bytes, when they are other text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, when they are no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl From<&Logged> for Envelope {
    fn from(logged: &Logged) -> Self {
        let Logged { offset, event } = logged;
        let payload = Payload::of(&event.data);
        let headers = event.headers.iter();
        Self {
            offset: *offset,
            id: event.id,
            topic: event.topic.clone(),
            key: event.key.as_ref().map(|k| k.as_str().to_owned()),
            time_ms: event.time,
            content_type: event.content_type.as_deref().map(str::to_owned),
            headers: headers.map(|(n, v)| HeaderField { name: n.to_string(), value: v.to_string() }).collect(),
            source: event.causality.source.as_ref().map(ToString::to_string),
            cause: event.causality.cause,
            correlation: event.causality.correlation.as_deref().map(str::to_owned),
            traceparent: event.causality.traceparent.as_deref().map(str::to_owned),
            hops: event.causality.hops,
            data: payload.data,
            text: payload.text,
            base64: payload.base64,
        }
    }
}

/// One line of the answer to `GET /v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailLine {
    /// An event.
    Event(Box<Envelope>),
    /// This many events, of whatever topic, were not kept long enough for this reader and are left out here.
    Missed(u64),
    /// The stream ends here because of this.
    Problem(Problem),
}

/// Where a reader starts. As text: `start`, `now`, an offset or an RFC 3339 time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TailFrom {
    /// With the oldest event that is kept.
    Start,
    /// With the next event.
    #[default]
    Now,
    /// With the event at this place.
    Offset(Offset),
    /// With the first event published at or after this time.
    Time(Timestamp),
}

impl fmt::Display for TailFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Now => f.write_str("now"),
            Self::Offset(offset) => fmt::Display::fmt(offset, f),
            Self::Time(time) => fmt::Display::fmt(time, f),
        }
    }
}

impl From<TailFrom> for String {
    fn from(from: TailFrom) -> Self {
        from.to_string()
    }
}

impl TryFrom<String> for TailFrom {
    type Error = ApiError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for TailFrom {
    type Err = ApiError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "start" => return Ok(Self::Start),
            "now" => return Ok(Self::Now),
            _ => {}
        }
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        parse_rfc3339(text).map(Self::Time).ok_or_else(|| {
            ApiError::invalid(format!(
                "`{text}` is no place to start from; give `start`, `now`, an offset such as 1200, or a time such as \
                 2026-01-31T09:05:00Z"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(bytes: &[u8]) -> Payload {
        let payload = Payload::of(bytes);
        assert_eq!(payload.clone().into_bytes().expect("bytes"), bytes);
        payload
    }

    #[test]
    fn bytes_survive_json_and_take_the_form_that_says_most() {
        assert!(round(br#"{"a": 1.10}"#).data.is_some());
        assert!(round(b"12345678901234567890123").data.is_some());
        assert!(round(b"{\n}").text.is_some(), "a line break must not tear NDJSON");
        assert!(round(b" 1").text.is_some(), "white space around JSON must survive");
        assert!(round(b"hello").text.is_some());
        assert!(round(&[0xff, 0]).base64.is_some());
        let none = round(b"");
        assert!(none.data.is_none() && none.text.is_none() && none.base64.is_none());
    }

    #[test]
    fn two_forms_at_once_are_refused() {
        let both = Payload { text: Some("a".into()), base64: Some("YQ==".into()), ..Payload::default() };
        assert!(both.into_bytes().is_err());
    }

    #[test]
    fn a_json_payload_gets_its_media_type_and_a_bad_topic_its_reason() {
        let request: PublishRequest = serde_json::from_str(r#"{"topic":"a.b","data":{"x":1}}"#).expect("a request");
        let draft = request.into_draft(Timestamp(5), &Limits::default()).expect("a draft");
        assert_eq!(draft.content_type.as_deref(), Some("application/json"));
        assert_eq!(draft.data, r#"{"x":1}"#);
        let bad = PublishRequest { topic: "a b".into(), ..PublishRequest::default() };
        let error = bad.into_draft(Timestamp(5), &Limits::default()).expect_err("a bad topic");
        assert!(error.to_string().contains("`a b`"), "{error}");
    }

    #[test]
    fn starting_places_read_back_as_printed() {
        for from in [TailFrom::Start, TailFrom::Now, TailFrom::Offset(7), TailFrom::Time(Timestamp(951_782_400_000))] {
            assert_eq!(from.to_string().parse(), Ok(from));
        }
        assert!("yesterday".parse::<TailFrom>().is_err());
    }
}
