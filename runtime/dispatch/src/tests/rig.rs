//! Short ways to say things in tests.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{
    Batch, Chunk, DeliveryResult, Draft, Effects, Event, EventId, Key, KvRead, Limits, Logged, Offset, Ordering,
    Outcome, Report, RetryPolicy, Settlement, StartAt, SubId, SubscriptionSpec, SubscriptionState, Timestamp,
};
use bytes::Bytes;

use crate::{Action, Input, Machine, MachineOptions};

pub(crate) const SUB: SubId = SubId(1);

pub(crate) fn event(n: u64, topic: &str, key: Option<&str>) -> Event {
    let mut draft = Draft::new(topic.parse().expect("a topic"), Bytes::from_static(b"data"));
    draft.key = key.map(Key::stored);
    draft.admit(EventId::from_u128(u128::from(n)), Timestamp(0), &Limits::default()).expect("a valid event")
}

pub(crate) fn spec(name: &str, patterns: &str, ordering: Ordering) -> SubscriptionSpec {
    SubscriptionSpec {
        name: name.to_owned(),
        service: name.parse().expect("a name"),
        patterns: patterns.split(' ').map(|pattern| pattern.parse().expect("a pattern")).collect(),
        ordering,
        retry: RetryPolicy {
            attempts: 3,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            jitter_percent: 0,
        },
        concurrency: 1,
        start: StartAt::Now,
        own_events: false,
        may_publish: false,
    }
}

/// A machine, the log it sees, and what it said.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) log: Vec<Arc<Event>>,
    pub(crate) now: u64,
    pub(crate) out: Vec<Action>,
}

impl Rig {
    pub(crate) fn with(limits: Limits, replayable: bool) -> Self {
        let machine = Machine::new(MachineOptions { limits, seed: 1, replayable });
        Self { machine, log: Vec::new(), now: 1_000, out: Vec::new() }
    }

    /// One subscription of `t` in an otherwise empty replayable bus.
    pub(crate) fn one(ordering: Ordering) -> Self {
        let mut rig = Self::with(Limits::default(), true);
        rig.attach(SUB, spec("s", "t", ordering));
        rig
    }

    pub(crate) fn attach(&mut self, sub: SubId, spec: SubscriptionSpec) {
        let head = self.log.len() as u64;
        self.step(Input::Attach { sub, spec, state: SubscriptionState { cursor: head, ..Default::default() }, head });
    }

    /// A step without looking at the invariants, for tests with very much in the machine.
    pub(crate) fn step_unchecked(&mut self, input: Input) {
        self.machine.step(Timestamp(self.now), input, &mut self.out);
    }

    pub(crate) fn step(&mut self, input: Input) {
        self.machine.step(Timestamp(self.now), input, &mut self.out);
        self.machine.check_invariants();
    }

    /// Appends events of topic `t` with these keys (`-` for none).
    pub(crate) fn publish(&mut self, keys: &[&str]) {
        let first = self.log.len() as u64;
        let events = keys
            .iter()
            .zip(first..)
            .map(|(key, n)| Arc::new(event(n, "t", Some(*key).filter(|key| *key != "-"))))
            .collect();
        self.append(events);
    }

    pub(crate) fn append(&mut self, events: Vec<Arc<Event>>) {
        let first = self.log.len() as u64;
        self.log.extend(events.iter().cloned());
        self.step(Input::Appended(Batch { first, events: Arc::new(events) }));
    }

    pub(crate) fn tick(&mut self, ms: u64) {
        self.now += ms;
        self.step(Input::Tick);
    }

    /// The chunks that were delivered since the last call of this kind.
    pub(crate) fn chunks(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        self.out.retain(|action| match action {
            Action::Deliver(chunk) => {
                chunks.push(chunk.clone());
                false
            }
            _ => true,
        });
        chunks
    }

    pub(crate) fn chunk(&mut self) -> Chunk {
        let mut chunks = self.chunks();
        assert_eq!(chunks.len(), 1, "one chunk was expected: {chunks:?}");
        chunks.remove(0)
    }

    pub(crate) fn settlements(&mut self) -> Vec<Settlement> {
        let mut settlements = Vec::new();
        self.out.retain(|action| match action {
            Action::Settle(settlement) => {
                settlements.push(settlement.clone());
                false
            }
            _ => true,
        });
        settlements
    }

    pub(crate) fn settlement(&mut self) -> Settlement {
        let mut settlements = self.settlements();
        assert_eq!(settlements.len(), 1, "one settlement was expected: {settlements:?}");
        settlements.remove(0)
    }

    /// Reports the whole chunk with these outcomes.
    pub(crate) fn report(&mut self, chunk: &Chunk, outcomes: Vec<Outcome>) {
        let results = chunk
            .deliveries
            .iter()
            .zip(outcomes)
            .map(|(delivery, outcome)| result(delivery.logged.offset, outcome))
            .collect();
        self.step(Input::Report(Report { chunk: chunk.id, sub: chunk.sub, results, finished: true }));
    }

    pub(crate) fn ack(&mut self, chunk: &Chunk) {
        self.report(chunk, vec![Outcome::Acked; chunk.deliveries.len()]);
    }

    pub(crate) fn settled(&mut self, settlement: &Settlement, conflicts: &[Offset]) {
        let (sub, token) = (settlement.sub, settlement.token);
        self.step(Input::Settled { sub, token, conflicts: conflicts.to_vec() });
    }

    /// Answers the one `Fetch` that was asked.
    pub(crate) fn fetch(&mut self) -> Vec<Offset> {
        let at = self.out.iter().position(|action| matches!(action, Action::Fetch { .. })).expect("a fetch");
        let Action::Fetch { sub, offsets } = self.out.remove(at) else { unreachable!("just found") };
        let events =
            offsets.iter().map(|&offset| Logged { offset, event: Arc::clone(&self.log[offset as usize]) }).collect();
        self.step(Input::Fetched { sub, events, asked: offsets.clone() });
        offsets
    }

    /// The one `Read` that was asked: from, most events.
    pub(crate) fn read(&mut self) -> Option<(Offset, usize)> {
        let at = self.out.iter().position(|action| matches!(action, Action::Read { .. }))?;
        let Action::Read { from, max_events, .. } = self.out.remove(at) else { unreachable!("just found") };
        Some((from, max_events))
    }

    /// Answers a read with everything of `from..next`.
    pub(crate) fn answer_read(&mut self, from: Offset, next: Offset) {
        let result =
            (from..next).map(|offset| Logged { offset, event: Arc::clone(&self.log[offset as usize]) }).collect();
        self.step(Input::Read { sub: SUB, result, next });
    }

    pub(crate) fn stats(&self) -> crate::SubStats {
        self.machine.stats(SUB).expect("it is attached")
    }
}

pub(crate) fn result(offset: Offset, outcome: Outcome) -> DeliveryResult {
    DeliveryResult { offset, outcome, effects: None, busy_ns: 1_000 }
}

pub(crate) fn read_result(offset: Offset) -> DeliveryResult {
    let reads = vec![KvRead { key: "k".into(), version: Some(1), own: false }];
    let effects = Some(Box::new(Effects { reads, ..Effects::default() }));
    DeliveryResult { effects, ..result(offset, Outcome::Acked) }
}

pub(crate) fn retry() -> Outcome {
    Outcome::Retry { reason: "busy".into(), after: None }
}

pub(crate) fn offsets(chunk: &Chunk) -> Vec<Offset> {
    chunk.deliveries.iter().map(|delivery| delivery.logged.offset).collect()
}

pub(crate) fn settled_offsets(settlement: &Settlement) -> Vec<Offset> {
    settlement.settles.iter().map(|settle| settle.offset).collect()
}
