//! The event in hand.
//!
//! Role: read access to an event without copying it. Never changes or acknowledges anything.

use crate::__private::RawEvent;
use crate::Failure;

/// An event that the service received.
///
/// The rest of its envelope (time, attempt, cause) is in [`context::current`](crate::context::current).
///
/// ```no_run
/// busway_guest::service!(subscribe = ["public.notes"], |event| {
///     println!("{} {:?}: {}", event.topic(), event.key(), event.text()?);
///     Ok(())
/// });
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Event(RawEvent);

impl Event {
    pub(crate) fn new(raw: RawEvent) -> Self {
        Self(raw)
    }

    /// Its id, a UUID; the same on every redelivery.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// if busway_guest::kv::get(&format!("seen.{}", event.id()))?.is_some() {
    ///     return Ok(());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Where it was published.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// let what = event.topic().rsplit('.').next();
    /// # Ok(()) }
    /// ```
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// What orders it: events of one key are handled in order and never at the same time.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// let customer = event.key().unwrap_or("anonymous");
    /// # Ok(()) }
    /// ```
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The media type of the data, if the publisher gave one.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// let is_json = event.content_type() == Some("application/json");
    /// # Ok(()) }
    /// ```
    pub fn content_type(&self) -> Option<&str> {
        self.0.content_type.as_deref()
    }

    /// The first header of that name.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// let language = event.header("language").unwrap_or("en");
    /// # Ok(()) }
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// All headers, in order; names may repeat.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// for (name, value) in event.headers() {
    ///     println!("{name}: {value}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()))
    }

    /// The payload.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// println!("{} bytes", event.data().len());
    /// # Ok(()) }
    /// ```
    pub fn data(&self) -> &[u8] {
        &self.0.data
    }

    /// The payload, taken out without a copy.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// busway_guest::kv::set("last", &event.into_data())?;
    /// # Ok(()) }
    /// ```
    pub fn into_data(self) -> Vec<u8> {
        self.0.data
    }

    /// The payload as text. Other bytes than UTF-8 are a [`Failure::Reject`]: trying again would not change them.
    ///
    /// ```no_run
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// println!("{}", event.text()?);
    /// # Ok(()) }
    /// ```
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(self.data())
            .map_err(|error| Failure::reject(format_args!("the data is not UTF-8: {error}")))
    }

    /// The payload read as JSON. What does not parse as `T` is a [`Failure::Reject`]: trying again would not change it.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// struct Order { id: String }
    ///
    /// # fn handle(event: busway_guest::Event) -> busway_guest::Result {
    /// let order: Order = event.json()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "json")]
    pub fn json<'de, T: serde::Deserialize<'de>>(&'de self) -> Result<T, Failure> {
        serde_json::from_slice(self.data())
            .map_err(|error| Failure::reject(format_args!("the data is not as expected: {error}")))
    }
}
