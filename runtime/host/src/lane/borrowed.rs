//! What the calls of one chunk borrow.
//!
//! Role: makes the arguments of all calls of a chunk in one pass before the first call. The events were written by another
//! core; reading them one after the other lets those reads overlap, while each would hold up a call in between.
//!
//! Invariant: nothing of an event is read between two calls of a chunk except its payload.

use busway_types::{Delivery, Topic};

use crate::bindings::{EventRef, HeaderRef, header_refs};

/// The texts that events do not have as the guest wants them.
pub(super) struct Texts<'c> {
    ids: Vec<[u8; 36]>,
    headers: Vec<Vec<HeaderRef<'c>>>,
    /// A copy of each topic that several deliveries in a row share. The count of such a topic's owners lies beside its
    /// text and changes whenever somebody publishes, which would make each call fetch the text from another core.
    topics: Vec<Box<str>>,
}

impl<'c> Texts<'c> {
    pub(super) fn new(deliveries: &'c [Delivery]) -> Self {
        let ids = deliveries.iter().map(|delivery| delivery.logged.event.id.encoded()).collect();
        let headers = deliveries.iter().map(|delivery| header_refs(&delivery.logged.event)).collect();
        let mut topics = Vec::new();
        for run in deliveries.chunk_by(|a, b| same(&a.logged.event.topic, &b.logged.event.topic)) {
            if let [first, _, ..] = run {
                topics.push(first.logged.event.topic.as_str().into());
            }
        }
        Self { ids, headers, topics }
    }

    /// The arguments, one for each delivery.
    pub(super) fn calls(&'c self, deliveries: &'c [Delivery]) -> Vec<EventRef<'c>> {
        let mut calls = Vec::with_capacity(deliveries.len());
        let mut copies = self.topics.iter();
        let mut texts = self.ids.iter().zip(&self.headers);
        for run in deliveries.chunk_by(|a, b| same(&a.logged.event.topic, &b.logged.event.topic)) {
            let copy = if run.len() > 1 { copies.next() } else { None };
            for (delivery, (id, headers)) in run.iter().zip(&mut texts) {
                let event = &*delivery.logged.event;
                let id = str::from_utf8(id).unwrap_or_default();
                let topic = copy.map_or(event.topic.as_str(), |copy| copy);
                calls.push(EventRef::new(event, id, topic, headers));
            }
        }
        calls
    }
}

/// Whether two topics are one text in memory; equal texts elsewhere count as different.
fn same(a: &Topic, b: &Topic) -> bool {
    std::ptr::eq(a.as_str(), b.as_str())
}
