//! Where events come from.
//!
//! Role: what makes a journey out of events. Most events come from outside and have none of it, so it takes one word in an
//! event and is read as if it were always there.

use std::ops::{Deref, DerefMut};

use crate::{EventId, ServiceName};

/// Where an event comes from. Reads and writes like an [`Origin`]; takes memory of its own only once something is set.
#[derive(Clone, Debug, Default)]
pub struct Causality(Option<Box<Origin>>);

/// What is known of where an event comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The service that published it; none when it came from outside.
    pub source: Option<ServiceName>,
    /// The event whose handling published it.
    pub cause: Option<EventId>,
    /// What the whole journey is about: given by the first publisher, or the id of the first event.
    pub correlation: Option<Box<str>>,
    /// W3C trace context of the publisher.
    pub traceparent: Option<Box<str>>,
    /// Handlers between the first event and this one.
    pub hops: u8,
    /// Whether the publisher chose the event's id. Only then publishing it again is recognised.
    pub chosen_id: bool,
}

static OUTSIDE: Origin =
    Origin { source: None, cause: None, correlation: None, traceparent: None, hops: 0, chosen_id: false };

impl From<Origin> for Causality {
    fn from(origin: Origin) -> Self {
        Self((origin != OUTSIDE).then(|| Box::new(origin)))
    }
}

impl Deref for Causality {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        self.0.as_deref().unwrap_or(&OUTSIDE)
    }
}

impl DerefMut for Causality {
    fn deref_mut(&mut self) -> &mut Origin {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Causality {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Causality {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_nothing_kept_and_equals_what_was_set_back() {
        let mut causality = Causality::default();
        assert_eq!((causality.hops, size_of::<Causality>()), (0, size_of::<usize>()));
        causality.hops = 3;
        assert_eq!(causality, Origin { hops: 3, ..Origin::default() }.into());
        causality.hops = 0;
        assert_eq!(causality, Causality::default());
    }
}
