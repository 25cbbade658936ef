//! What must hold, whatever happens.
//!
//! Role: keeps what the outside knows (receipts, what a tail showed) and what the fake guests know (what ran and how it
//! ended), and refuses whatever contradicts it. Knows nothing of how the product works inside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use busway_engine::{Embedded, Engine as _, ReadRequest};
use busway_types::{
    Batch, Chunk, Event, EventId, Key, Logged, Offset, Ordering, Outcome, Report, Settlement, SubId, Verdict,
};

use crate::guests::Guest;
use crate::lanes::{COUNTED, REWRITTEN, Running, number};

/// What is known of one subscription's events.
#[derive(Debug, Default)]
struct Ran {
    /// Handled at least once.
    acked: BTreeSet<Offset>,
    /// How many attempts failed.
    failures: BTreeMap<Offset, u32>,
    /// Reported and not yet settled.
    open: BTreeSet<Offset>,
    /// Dead letters that were called back or dropped.
    revived: BTreeSet<Offset>,
    dropped: BTreeSet<Offset>,
    /// Where the cursor was seen last.
    cursor: Offset,
}

impl Ran {
    /// Forgets what a crash took.
    fn truncate(&mut self, head: Offset) {
        for set in [&mut self.acked, &mut self.open, &mut self.revived, &mut self.dropped] {
            set.split_off(&head);
        }
        self.failures.split_off(&head);
        self.open.clear();
        self.cursor = 0;
    }
}

/// The outside's view of the bus.
pub(crate) struct Model {
    pub(crate) guests: Vec<Guest>,
    /// Every event of the log, by offset.
    pub(crate) log: Vec<Arc<Event>>,
    /// What publishers were told: safe events with their places; none while they are delayed.
    acked: Vec<(EventId, Option<Offset>)>,
    /// Everything below was shown to readers outside.
    shown: Offset,
    subs: BTreeMap<SubId, Ran>,
    index: BTreeMap<SubId, usize>,
}

impl Model {
    pub(crate) fn new(guests: Vec<Guest>) -> Self {
        Self { guests, log: Vec::new(), acked: Vec::new(), shown: 0, subs: BTreeMap::new(), index: BTreeMap::new() }
    }

    fn guest(&self, sub: SubId) -> &Guest {
        &self.guests[self.index[&sub]]
    }

    fn event(&self, offset: Offset) -> &Event {
        self.log.get(offset as usize).unwrap_or_else(|| panic!("{offset} is not in the log"))
    }

    /// Subscriptions keep their numbers for ever.
    pub(crate) fn know(&mut self, subs: &BTreeMap<SubId, usize>) {
        for (sub, index) in subs {
            let before = self.index.insert(*sub, *index);
            assert!(before.is_none_or(|before| before == *index), "{sub:?} became another subscription");
            self.subs.entry(*sub).or_default();
        }
    }

    /// Offsets are dense.
    pub(crate) fn appended(&mut self, batch: &Batch) {
        assert_eq!(batch.first, self.log.len() as u64, "offsets are dense");
        self.log.extend(batch.events.iter().cloned());
    }

    /// A publisher was told that its events are safe.
    pub(crate) fn acknowledged(&mut self, receipts: impl Iterator<Item = (EventId, Option<Offset>)>) {
        self.acked.extend(receipts);
    }

    /// What is read is what was appended.
    pub(crate) fn was_read(&self, events: &[Logged]) {
        for logged in events {
            // What was appended and not yet heard of cannot be compared.
            let known = self.log.get(logged.offset as usize);
            assert!(known.is_none_or(|known| **known == *logged.event), "{} was read as another event", logged.offset);
        }
    }

    /// A chunk goes to a lane: the bounds hold, and no key is in two chunks.
    pub(crate) fn delivered(&mut self, chunk: &Chunk, lanes: &[Running]) {
        let Some(index) = self.index.get(&chunk.sub) else { return };
        let guest = &self.guests[*index];
        let others: Vec<&Running> = lanes.iter().filter(|running| running.chunk.sub == chunk.sub).collect();
        let most = match guest.spec.ordering {
            Ordering::Strict => 1,
            Ordering::Key | Ordering::None => guest.spec.concurrency + Chunk::AHEAD,
        };
        assert!(others.len() < most, "{} has {} chunks in flight", guest.spec.name, others.len() + 1);
        let keys: BTreeSet<&str> =
            chunk.deliveries.iter().filter_map(|d| d.logged.event.key.as_ref().map(Key::as_str)).collect();
        for other in others.iter().flat_map(|running| running.left()) {
            assert_ne!(
                other.logged.offset, chunk.deliveries[0].logged.offset,
                "{} is in flight twice in {}",
                other.logged.offset, guest.spec.name
            );
            let shared = other.logged.event.key.as_ref().is_some_and(|key| keys.contains(key.as_str()));
            assert!(!shared || guest.spec.ordering == Ordering::None, "a key is in two chunks of {}", guest.spec.name);
        }
        let ran = &self.subs[&chunk.sub];
        for delivery in &chunk.deliveries {
            let offset = delivery.logged.offset;
            assert!(guest.selects(&delivery.logged.event), "{} gets {offset}, which is not for it", guest.spec.name);
            let failed = ran.failures.get(&offset).copied().unwrap_or(0);
            assert!(
                delivery.attempt <= failed + 1,
                "attempt {} of {offset} in {} after {failed} that failed",
                delivery.attempt,
                guest.spec.name
            );
        }
    }

    /// A lane ran deliveries: an event is handled only once all before it of its key have come to an end, or ran before it
    /// in its own chunk: if one of those turns out to be in conflict, this one is void.
    pub(crate) fn ran(&mut self, report: &Report, chunk: &BTreeSet<Offset>, engine: &Embedded) {
        let state = engine.subscriptions().into_iter().find(|known| known.id == report.sub).expect("it is known").state;
        let guest = self.guest(report.sub).clone();
        let ran = &self.subs[&report.sub];
        for result in &report.results {
            let offset = result.offset;
            if result.outcome == Outcome::Skipped {
                continue;
            }
            let event = self.event(offset);
            if !ran.revived.contains(&offset) {
                for before in (0..offset).filter(|before| !chunk.contains(before) && !ran.open.contains(before)) {
                    let earlier = self.event(before);
                    let waits = match guest.spec.ordering {
                        Ordering::Strict => true,
                        Ordering::Key => event.key.is_some() && earlier.key == event.key,
                        Ordering::None => false,
                    };
                    if !waits || !guest.selects(earlier) || ran.revived.contains(&before) {
                        continue;
                    }
                    let parked = state.parked.iter().any(|parked| parked.offset == before);
                    let over = state.is_over(before);
                    assert!(over && !parked, "{} ran {offset} before {before} of its key", guest.spec.name);
                }
            }
        }
        let ran = self.subs.get_mut(&report.sub).expect("it is known");
        for result in report.results.iter().filter(|result| result.outcome != Outcome::Skipped) {
            assert!(ran.open.insert(result.offset), "{} ran again before it was settled", result.offset);
            if result.outcome == Outcome::Acked {
                ran.acked.insert(result.offset);
            } else {
                *ran.failures.entry(result.offset).or_default() += 1;
            }
        }
    }

    /// A settlement goes to the engine: what ran is settled once, and what did not run is not settled as handled.
    pub(crate) fn settling(&mut self, settlement: &Settlement) {
        let (attempts, name) = {
            let guest = self.guest(settlement.sub);
            (guest.spec.retry.attempts as usize, guest.spec.name.clone())
        };
        let ran = self.subs.get_mut(&settlement.sub).expect("it is known");
        for settle in &settlement.settles {
            let offset = settle.offset;
            let failed = ran.failures.get(&offset).copied().unwrap_or(0) as usize;
            match &settle.verdict {
                Verdict::Acked(_) => assert!(ran.open.remove(&offset), "{offset} is settled in {name} and did not run"),
                Verdict::Parked(parked) => {
                    ran.open.remove(&offset);
                    assert!(parked.attempts.len() <= failed, "{offset} has more attempts in {name} than it ran");
                    assert!(parked.attempts.len() < attempts, "{offset} had all its attempts in {name}");
                }
                Verdict::Dead { attempts: kept, .. } => {
                    ran.open.remove(&offset);
                    assert!(kept.len() <= failed.max(1), "{offset} has more attempts in {name} than it ran");
                }
                Verdict::Expired => panic!("{offset} expired in {name}, and nothing here can"),
                Verdict::Revived => drop(ran.revived.insert(offset)),
                Verdict::Dropped => drop(ran.dropped.insert(offset)),
            }
        }
    }

    /// The engine gave a settlement its place; what it left out runs again, and so does what ran after it in its group.
    pub(crate) fn sequenced(&mut self, sub: SubId, conflicts: &[Offset]) {
        let strict = self.guest(sub).spec.ordering == Ordering::Strict;
        for conflict in conflicts {
            let key = self.event(*conflict).key.clone();
            let ran = &self.subs[&sub];
            let later = ran.open.range(conflict + 1..).copied();
            let void: Vec<Offset> =
                later.filter(|offset| strict || key.is_some() && self.event(*offset).key == key).collect();
            let ran = self.subs.get_mut(&sub).expect("it is known");
            for offset in void {
                ran.open.remove(&offset);
            }
        }
    }

    /// After every step: a cursor passes only what has come to an end, and nothing outside sees what is not safe.
    pub(crate) fn check(&mut self, engine: &Embedded) {
        let head = engine.status().head;
        assert!(engine.safe_head() <= head);
        self.shown = self.shown.max(engine.safe_head());
        for known in engine.subscriptions() {
            let (Some(ran), Some(index)) = (self.subs.get_mut(&known.id), self.index.get(&known.id)) else { continue };
            let guest = &self.guests[*index];
            let state = &known.state;
            assert!(state.cursor <= head, "the cursor of {} is behind the head", known.name);
            assert!(state.cursor >= ran.cursor, "the cursor of {} went back", known.name);
            let passed = (ran.cursor..state.cursor).chain(state.settled.iter().flat_map(|run| run.0..run.1));
            for offset in passed {
                let Some(event) = self.log.get(offset as usize) else { continue };
                let over = !guest.selects(event)
                    || ran.acked.contains(&offset)
                    || ran.dropped.contains(&offset)
                    || state.parked.iter().any(|parked| parked.offset == offset)
                    || state.dead.iter().any(|dead| dead.offset == offset);
                assert!(over, "{} is done with {offset}, which nobody handled, parked or gave up", known.name);
            }
            ran.cursor = state.cursor;
        }
    }

    /// After a restart: what was acknowledged or shown is there, and what is there is what was.
    pub(crate) fn restarted(&mut self, engine: &Embedded) {
        let status = engine.status();
        let head = status.head;
        assert!(head >= self.shown, "{} events were shown and {head} are left", self.shown);
        assert!(head <= self.log.len() as u64, "{head} events are there and {} were appended", self.log.len());
        self.log.truncate(head as usize);
        for (id, offset) in self.acked.iter().filter_map(|(id, offset)| Some((id, (*offset)?))) {
            assert!(offset < head, "{offset} was acknowledged and is gone: the log ends at {head}");
            assert_eq!(self.event(offset).id, *id, "{offset} was acknowledged as another event");
        }
        let mut from = status.oldest;
        while from < head {
            let request = ReadRequest { from, patterns: Arc::from([]), max_events: 100, max_bytes: 1 << 20 };
            let read = engine.read(0, &request).expect("what is kept can be read");
            let offsets: Vec<Offset> = read.events.iter().map(|logged| logged.offset).collect();
            assert_eq!(offsets, (from..read.next).collect::<Vec<_>>(), "every kept event is read");
            self.was_read(&read.events);
            assert!(read.next > from);
            from = read.next;
        }
        for ran in self.subs.values_mut() {
            ran.truncate(head);
        }
        self.effects_are_whole(engine);
    }

    /// What a delivery publishes and what it writes are there together or not at all.
    fn effects_are_whole(&self, engine: &Embedded) {
        let mut by_guest: BTreeMap<&str, BTreeSet<EventId>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for event in &self.log {
            assert!(ids.insert(event.id), "{} is there twice", event.id);
            if let (Some(source), Some(cause)) = (&event.causality.source, event.causality.cause) {
                by_guest.entry(source.as_str()).or_default().insert(cause);
            }
        }
        for guest in self.guests.iter().filter(|guest| guest.publishes) {
            let service = &guest.spec.service;
            let handled = by_guest.get(service.as_str()).map_or(0, |causes| causes.len() as u64);
            let counted = number(engine.kv_get(service, COUNTED).expect("readable").0.as_ref());
            assert_eq!(counted, handled, "{service} counted {counted} events and published for {handled}");
            if guest.rewrites {
                let rewritten = number(engine.kv_get(service, REWRITTEN).expect("readable").0.as_ref());
                assert_eq!(rewritten, handled, "{service} rewrote its count to {rewritten} for {handled} events");
            }
        }
    }

    /// Once all has come to rest: every event ended once in every subscription, in order, with all its effects.
    pub(crate) fn at_rest(&self, engine: &Embedded) {
        self.effects_are_whole(engine);
        let places: BTreeMap<EventId, Offset> = self.log.iter().map(|event| event.id).zip(0..).collect();
        for (id, _) in &self.acked {
            assert!(places.contains_key(id), "{id} was acknowledged and is not there");
        }
        for known in engine.subscriptions() {
            let Some(index) = self.index.get(&known.id) else { continue };
            let (guest, ran) = (&self.guests[*index], &self.subs[&known.id]);
            assert!(known.state.parked.is_empty(), "{} still has parked events", known.name);
            let dead: BTreeSet<Offset> = known.state.dead.iter().map(|dead| dead.offset).collect();
            let mut last: BTreeMap<Option<&str>, Offset> = BTreeMap::new();
            for (event, offset) in self.log.iter().zip(0..).filter(|(event, _)| guest.selects(event)) {
                let outputs: Vec<Option<&Offset>> =
                    (0..guest.outputs_of(event)).map(|i| places.get(&guest.output_id(event.id, i))).collect();
                let handled =
                    if guest.publishes { outputs.iter().all(Option::is_some) } else { ran.acked.contains(&offset) };
                let partly = outputs.iter().any(Option::is_some) && !handled;
                assert!(!partly, "{} published a part for {offset}", known.name);
                let given_up = dead.contains(&offset) || ran.dropped.contains(&offset) && !handled;
                assert!(
                    handled != given_up || !guest.publishes,
                    "{offset} ended in {} as {handled} and {given_up}",
                    known.name
                );
                assert!(handled || given_up, "{offset} never ended in {}", known.name);
                let ordered = match guest.spec.ordering {
                    Ordering::Strict => true,
                    Ordering::Key => event.key.is_some(),
                    Ordering::None => false,
                };
                if let (Some(Some(place)), true) = (outputs.first(), ordered && !ran.revived.contains(&offset)) {
                    let key = event.key.as_ref().map(Key::as_str).filter(|_| guest.spec.ordering == Ordering::Key);
                    let before = last.insert(key, **place);
                    assert!(before.is_none_or(|b| b < **place), "{} handled {offset} out of order", known.name);
                }
            }
        }
    }

    /// Dead letters of a subscription that may be called back or dropped.
    pub(crate) fn sub_of(&self, index: usize) -> Option<SubId> {
        self.index.iter().find(|(_, known)| **known == index).map(|(sub, _)| *sub)
    }
}
