//! The services of the simulation: what they subscribe to and what their handlers do.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{
    Draft, Event, EventId, Limits, Ordering, Origin, RetryPolicy, StartAt, SubscriptionSpec, Timestamp,
};
use bytes::Bytes;

/// Data that begins so is never handled.
pub(crate) const POISON: u8 = b'P';

/// One service with one subscription.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) spec: SubscriptionSpec,
    /// How many events it publishes for an event: one, or two for every other.
    pub(crate) publishes: bool,
    /// Whether it also reads a value and writes it back, so that deliveries at the same time conflict.
    pub(crate) rewrites: bool,
}

impl Guest {
    fn new(name: &str, patterns: &str, ordering: Ordering, concurrency: usize) -> Self {
        let retry = RetryPolicy {
            attempts: 3,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            jitter_percent: 20,
        };
        let spec = SubscriptionSpec {
            name: name.to_owned(),
            service: name.parse().expect("a name"),
            patterns: vec![patterns.parse().expect("a pattern")],
            ordering,
            retry,
            concurrency,
            start: StartAt::Start,
            own_events: false,
            may_publish: true,
        };
        Self { spec, publishes: true, rewrites: false }
    }

    /// Whether its subscription selects an event.
    pub(crate) fn selects(&self, event: &Event) -> bool {
        self.spec.patterns.iter().any(|pattern| pattern.matches(&event.topic))
            && (self.spec.own_events || event.causality.source.as_ref() != Some(&self.spec.service))
    }

    /// What handling `input` publishes.
    pub(crate) fn outputs(&self, input: &Event, generation: u32, now: Timestamp, limits: &Limits) -> Vec<Arc<Event>> {
        (0..self.outputs_of(input)).map(|index| Arc::new(self.output(input, generation, index, now, limits))).collect()
    }

    /// How many events handling `input` publishes.
    pub(crate) fn outputs_of(&self, input: &Event) -> u32 {
        if self.publishes { 1 + (input.id.as_u128() % 2) as u32 } else { 0 }
    }

    /// The id of an output.
    pub(crate) fn output_id(&self, input: EventId, generation: u32, index: u32) -> EventId {
        EventId::derived(input, &self.spec.name, generation, index)
    }

    fn output(&self, input: &Event, generation: u32, index: u32, now: Timestamp, limits: &Limits) -> Event {
        let topic = format!("out.{}", self.spec.name).parse().expect("a topic");
        let mut draft = Draft::new(topic, Bytes::from(generation.to_string()));
        draft.key.clone_from(&input.key);
        let (source, cause) = (Some(self.spec.service.clone()), Some(input.id));
        draft.causality = Origin { source, cause, hops: input.causality.hops + 1, ..Origin::default() }.into();
        draft.admit(self.output_id(input.id, generation, index), now, limits).expect("a valid event")
    }
}

/// The services; some orders, some concurrency, one that handles what another publishes.
pub(crate) fn all() -> Vec<Guest> {
    vec![
        Guest::new("keyed", "in.>", Ordering::Key, 2),
        Guest { rewrites: true, ..Guest::new("rewriter", "in.a", Ordering::Key, 3) },
        Guest::new("strict", "in.a", Ordering::Strict, 1),
        Guest::new("loose", "in.*", Ordering::None, 2),
        Guest { publishes: false, ..Guest::new("quiet", "in.b", Ordering::Key, 1) },
        Guest::new("second", "out.keyed", Ordering::Key, 2),
        Guest::new("rare", "rare.>", Ordering::Key, 1),
    ]
}
