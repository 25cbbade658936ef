//! Publishing.
//!
//! Role: build an event and hand it to the host. Never buffers: in a handler the host keeps the event until the
//! acknowledgement, in a task it is durable when `send` returns.

use std::time::Duration;

use crate::bindings::busway::bus::producer;
use crate::bindings::busway::bus::types::Header;

/// Begins an event for `topic`. The service needs a grant for the topic (`publish = ["orders.>"]` in the manifest);
/// topics under `public.` need none unless the manifest says where the service may publish.
///
/// ```no_run
/// use busway_guest::publish;
///
/// # fn main() -> Result<(), busway_guest::Refusal> {
/// let id = publish("public.orders").key("customer-7").header("source", "till").text("two loaves").send()?;
/// # Ok(()) }
/// ```
pub fn publish(topic: impl Into<String>) -> Message {
    Message {
        raw: producer::Message {
            topic: topic.into(),
            key: None,
            content_type: None,
            headers: Vec::new(),
            data: Vec::new(),
            id: None,
            delay_ms: None,
            expires_ms: None,
        },
        invalid: None,
    }
}

/// Publishes several events in order, all or none, and gives their ids.
///
/// ```no_run
/// use busway_guest::{publish, publish_many};
///
/// # fn main() -> Result<(), busway_guest::Refusal> {
/// publish_many((1..=3).map(|n| publish("public.steps").text(format!("step {n}"))))?;
/// # Ok(()) }
/// ```
pub fn publish_many(messages: impl IntoIterator<Item = Message>) -> Result<Vec<String>, Refusal> {
    let raw: Result<Vec<_>, _> = messages.into_iter().map(Message::finish).collect();
    Ok(producer::publish_many(&raw?)?)
}

/// An event to publish; [`publish`] begins one, [`send`](Message::send) publishes it.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::Refusal> {
/// let message = busway_guest::publish("public.orders").key("customer-7").data([1, 2, 3]);
/// message.send()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an event is published by `send` or `publish_many`"]
pub struct Message {
    raw: producer::Message,
    /// What was wrong with the data given to `json`; told by `send`, so that the chain needs one `?`.
    invalid: Option<String>,
}

impl Message {
    /// What orders it, 1 to 255 bytes: events of one key are handled in order and never at the same time.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// let message = publish("public.orders").key("customer-7");
    /// ```
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.raw.key = Some(key.into());
        self
    }

    /// Adds a header; at most 64.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// let message = publish("public.orders").header("language", "en").header("source", "till");
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.raw.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// The media type of the data. [`text`](Message::text) and [`json`](Message::json) set it themselves.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// let message = publish("public.pictures").content_type("image/png").data(*b"\x89PNG");
    /// ```
    pub fn content_type(mut self, media_type: impl Into<String>) -> Self {
        self.raw.content_type = Some(media_type.into());
        self
    }

    /// The payload; by default at most 1 MiB together with key and headers.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// let message = publish("public.samples").data(vec![0; 512]);
    /// ```
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.raw.data = data.into();
        self
    }

    /// A text as the payload, `text/plain`.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// let message = publish("public.notes").text("buy bread");
    /// ```
    pub fn text(self, text: impl Into<String>) -> Self {
        self.content_type("text/plain").data(text.into())
    }

    /// A value as JSON, `application/json`. A value that cannot be written as JSON is an [`Refusal::Invalid`] of `send`.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// #[derive(serde::Serialize)]
    /// struct Order { id: u32 }
    ///
    /// let message = publish("public.orders").json(&Order { id: 7 });
    /// ```
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(data) => self.raw.data = data,
            Err(error) => self.invalid = Some(format!("the data cannot be written as JSON: {error}")),
        }
        self.content_type("application/json")
    }

    /// An id of your choice, a UUID: publishing it to the same topic again, within 2 minutes unless the bus is set to
    /// another window, publishes nothing.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// let message = publish("public.orders").id("0191f0a2-7c4e-7c3b-9a51-2d7d7f3a9c10");
    /// ```
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.raw.id = Some(id.into());
        self
    }

    /// Deliver not before this time has passed; rounded down to milliseconds.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// # use std::time::Duration;
    /// let message = publish("public.reminders").text("still there?").delay(Duration::from_secs(3600));
    /// ```
    pub fn delay(mut self, delay: Duration) -> Self {
        self.raw.delay_ms = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Do not deliver once this time has passed, counted from now and rounded down to milliseconds.
    ///
    /// ```
    /// # use busway_guest::publish;
    /// # use std::time::Duration;
    /// let message = publish("public.prices").text("17.20").expires(Duration::from_secs(30));
    /// ```
    pub fn expires(mut self, after: Duration) -> Self {
        self.raw.expires_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Publishes it and gives its id. In a handler it becomes visible together with the acknowledgement; in a task it is
    /// durable when this returns, which may wait for room.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), busway_guest::Refusal> {
    /// let id = busway_guest::publish("public.notes").text("buy bread").send()?;
    /// # Ok(()) }
    /// ```
    pub fn send(self) -> Result<String, Refusal> {
        Ok(producer::publish(&self.finish()?)?)
    }

    fn finish(self) -> Result<producer::Message, Refusal> {
        match self.invalid {
            None => Ok(self.raw),
            Some(reason) => Err(Refusal::Invalid(reason)),
        }
    }
}

/// Why an event was not accepted; the text says what to change.
///
/// In a handler `?` makes it a retry when there was no room and a rejection otherwise.
///
/// ```
/// use busway_guest::Refusal;
///
/// assert!(Refusal::Overloaded("`shipping` is 64 MiB behind".into()).is_retryable());
/// assert!(!Refusal::Denied("no grant for `orders`".into()).is_retryable());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room: a subscription of that topic is full. Trying again later may help.
    Overloaded(String),
    /// The service has no grant for the topic.
    Denied(String),
    /// The event, or all that this delivery published, is larger than allowed.
    TooLarge(String),
    /// The topic, key, id or a header is malformed.
    Invalid(String),
}

impl Refusal {
    /// Whether the same event may be accepted later.
    ///
    /// ```
    /// # use busway_guest::Refusal;
    /// assert!(!Refusal::Invalid("a topic has no spaces".into()).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, reason) = match self {
            Self::Overloaded(reason) => ("overloaded", reason),
            Self::Denied(reason) => ("denied", reason),
            Self::TooLarge(reason) => ("too large", reason),
            Self::Invalid(reason) => ("invalid", reason),
        };
        write!(f, "not published, {what}: {reason}")
    }
}

impl std::error::Error for Refusal {}

impl From<producer::Refusal> for Refusal {
    fn from(raw: producer::Refusal) -> Self {
        match raw {
            producer::Refusal::Overloaded(reason) => Self::Overloaded(reason),
            producer::Refusal::Denied(reason) => Self::Denied(reason),
            producer::Refusal::TooLarge(reason) => Self::TooLarge(reason),
            producer::Refusal::Invalid(reason) => Self::Invalid(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_json_is_refused_by_send() {
        let no_json = std::collections::BTreeMap::from([(vec![1], 1)]);
        assert!(matches!(publish("t").json(&no_json).send(), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn the_parts_arrive_where_they_belong() {
        let message = publish("a.b").key("k").header("n", "v").text("x").delay(Duration::from_millis(1500));
        let raw = message.finish().expect("it is valid");
        assert_eq!((raw.topic.as_str(), raw.key.as_deref(), raw.delay_ms), ("a.b", Some("k"), Some(1500)));
        assert_eq!((raw.content_type.as_deref(), raw.data.as_slice()), (Some("text/plain"), b"x".as_slice()));
        assert_eq!(raw.headers.len(), 1);
    }
}
