//! What must hold, whatever happens.
//!
//! Role: keeps what the outside knows (receipts, what a tail showed) and what the fake guests know (what ran and how it
//! ended), and refuses whatever contradicts it. Knows nothing of how the product works inside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use busway_engine::{Embedded, Engine as _, KnownSubscription, ReadRequest, Replayed};
use busway_types::{
    Batch, Chunk, Event, EventId, Key, Logged, Offset, Ordering, Outcome, Receipt, Replay, Report, Settlement, SubId,
    SubscriptionState, Timestamp, Verdict,
};

use crate::guests::Guest;
use crate::lanes::{COUNTED, REWRITTEN, Running, number};
use crate::ran::{End, Ran, is_kept};

/// A receipt.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Its place; none while it is delayed.
    offset: Option<Offset>,
    /// When its publisher was told first.
    at: Timestamp,
}

/// The outside's view of the bus.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) guests: Vec<Guest>,
    /// Every event of the log, by offset.
    pub(crate) log: Vec<Arc<Event>>,
    /// What publishers were told.
    acked: BTreeMap<EventId, Told>,
    /// Until when what was published may be delivered, if not for ever.
    expires: BTreeMap<EventId, Timestamp>,
    /// Everything below was shown to readers outside.
    shown: Offset,
    subs: BTreeMap<SubId, Ran>,
    index: BTreeMap<SubId, usize>,
}

impl Model {
    pub(crate) fn new(guests: Vec<Guest>) -> Self {
        Self { guests, ..Self::default() }
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

    /// A publisher sends events.
    pub(crate) fn offered(&mut self, events: &[Arc<Event>]) {
        self.expires.extend(events.iter().filter_map(|event| Some((event.id, event.expires?))));
    }

    /// A publisher was told that its events are safe; the same as before if it sent one again.
    pub(crate) fn acknowledged(&mut self, receipts: &[Receipt], now: Timestamp) {
        for Receipt { id, offset } in receipts {
            let first = self.acked.entry(*id).or_insert(Told { offset: *offset, at: now });
            // What was delayed has its place by now, perhaps.
            let same = first.offset == *offset || first.offset.is_none() || offset.is_none();
            assert!(same, "{id} was told to be at {:?}, and is told to be at {offset:?}", first.offset);
            first.offset = first.offset.or(*offset);
        }
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
    pub(crate) fn delivered(&mut self, chunk: &Chunk, lanes: &[Running], now: Timestamp) {
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
        assert_eq!(chunk.generation, ran.generation, "a chunk of {} is of another generation", guest.spec.name);
        for delivery in &chunk.deliveries {
            let offset = delivery.logged.offset;
            assert!(!delivery.logged.event.is_expired(now), "{} gets {offset}, which has expired", guest.spec.name);
            assert!(!ran.is_over(offset), "{} gets {offset} again, which nobody asked for", guest.spec.name);
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
    pub(crate) fn ran(&mut self, report: &Report, chunk: &BTreeSet<Offset>, engine: &Embedded, now: Timestamp) {
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
                    // Nobody waits for what has expired, whether or not that is settled yet.
                    let void = earlier.is_expired(now) || ran.revived.contains(&before);
                    if !waits || void || !guest.selects(earlier) {
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
                ran.end(result.offset, End::Acked);
            } else {
                *ran.failures.entry(result.offset).or_default() += 1;
            }
        }
    }

    /// A settlement goes to the engine: what ran is settled once, and what did not run is not settled as handled.
    pub(crate) fn settling(&mut self, settlement: &Settlement, now: Timestamp) {
        let (attempts, name) = {
            let guest = self.guest(settlement.sub);
            (guest.spec.retry.attempts as usize, guest.spec.name.clone())
        };
        let expired = |offset: Offset| self.log.get(offset as usize).is_none_or(|event| event.is_expired(now));
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
                Verdict::Expired => {
                    assert!(expired(offset), "{offset} is settled as expired in {name}, and has not");
                    assert!(!ran.open.contains(&offset), "{offset} expired in {name} after it ran");
                    ran.end(offset, End::Expired);
                }
                Verdict::Revived => drop(ran.revived.insert(offset)),
                Verdict::Dropped => ran.end(offset, End::Dropped),
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
            for offset in void.into_iter().chain([*conflict]) {
                ran.void(offset);
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
            for offset in ran.passed(state) {
                let Some(event) = self.log.get(offset as usize) else { continue };
                let over = !guest.selects(event) || ran.is_over(offset) || is_kept(state, offset);
                assert!(over, "{} is done with {offset}, which nobody handled, parked or gave up", known.name);
            }
        }
    }

    /// A subscription was moved: from what is kept of the part that was asked for.
    pub(crate) fn moved(
        &mut self,
        before: &KnownSubscription,
        asked: &Replay,
        moved: &Replayed,
        kept: (Offset, Offset),
    ) {
        let from = asked.from.clamp(kept.0.min(kept.1), kept.1);
        let part = Replay { from, to: asked.to.clamp(from, kept.1), dead: asked.dead };
        assert_eq!(moved.replay, part, "{} was asked to move to {asked:?} with {kept:?} kept", before.name);
        let ran = self.subs.get_mut(&before.id).expect("it is known");
        ran.moved(&before.name, &before.state, moved, kept.1);
    }

    /// An operator was told that a subscription was moved.
    pub(crate) fn told_move(&mut self, sub: SubId, generation: u32, now: Timestamp) {
        self.subs.get_mut(&sub).expect("it is known").told(generation, now);
    }

    /// After a restart: what was acknowledged or shown is there, and what is there is what was. `since`: the power went,
    /// and the durability does not promise what was said at or after this time.
    pub(crate) fn restarted(&mut self, engine: &Embedded, since: Option<Timestamp>) {
        let status = engine.status();
        let head = status.head;
        if let Some(since) = since {
            self.acked.retain(|_, told| told.at < since || told.offset.is_some_and(|offset| offset < head));
            self.shown = self.shown.min(head);
        }
        assert!(head >= self.shown, "{} events were shown and {head} are left", self.shown);
        assert!(head <= self.log.len() as u64, "{head} events are there and {} were appended", self.log.len());
        self.log.truncate(head as usize);
        for (id, offset) in self.acked.iter().filter_map(|(id, told)| Some((id, told.offset?))) {
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
        let known = engine.subscriptions();
        for (sub, ran) in &mut self.subs {
            // One that is not known was never safe, and begins anew.
            let state = known.iter().find(|known| known.id == *sub).map(|known| known.state.clone());
            ran.truncate(*sub, head, &state.unwrap_or_default(), since);
        }
        self.effects_are_whole(engine);
    }

    /// What was published for each event in each generation: the places, in order.
    fn outputs(&self, guest: &Guest) -> BTreeMap<EventId, BTreeMap<u32, Vec<Offset>>> {
        let mut outputs: BTreeMap<EventId, BTreeMap<u32, Vec<Offset>>> = BTreeMap::new();
        for (event, offset) in self.log.iter().zip(0..) {
            if let (Some(source), Some(cause)) = (&event.causality.source, event.causality.cause)
                && *source == guest.spec.service
            {
                let generation = number(Some(&event.data)) as u32;
                let generations = outputs.entry(cause).or_default();
                let places = generations.entry(generation).or_default();
                let id = guest.output_id(cause, generation, places.len() as u32);
                assert_eq!(event.id, id, "what {source} published for {cause} has its own ids in each generation");
                places.push(offset);
            }
        }
        outputs
    }

    /// What a delivery publishes and what it writes are there together or not at all.
    fn effects_are_whole(&self, engine: &Embedded) {
        let mut ids = BTreeSet::new();
        for event in &self.log {
            assert!(ids.insert(event.id), "{} is there twice", event.id);
        }
        for guest in self.guests.iter().filter(|guest| guest.publishes) {
            let service = &guest.spec.service;
            let handled: u64 = self.outputs(guest).values().map(|generations| generations.len() as u64).sum();
            let counted = number(engine.kv_get(service, COUNTED).expect("readable").0.as_ref());
            assert_eq!(counted, handled, "{service} counted {counted} events and published for {handled}");
            if guest.rewrites {
                let rewritten = number(engine.kv_get(service, REWRITTEN).expect("readable").0.as_ref());
                assert_eq!(rewritten, handled, "{service} rewrote its count to {rewritten} for {handled} events");
            }
        }
    }

    /// Once all has come to rest: every event ended in every subscription once for each time that it was to be delivered,
    /// in order, with all its effects.
    pub(crate) fn at_rest(&self, engine: &Embedded, now: Timestamp) {
        self.effects_are_whole(engine);
        let ids: BTreeSet<EventId> = self.log.iter().map(|event| event.id).collect();
        for id in self.acked.keys() {
            let expired = self.expires.get(id).is_some_and(|at| *at <= now);
            assert!(expired || ids.contains(id), "{id} was acknowledged and is not there");
        }
        for known in engine.subscriptions() {
            let Some(index) = self.index.get(&known.id) else { continue };
            assert!(known.state.parked.is_empty(), "{} still has parked events", known.name);
            let (guest, ran) = (&self.guests[*index], &self.subs[&known.id]);
            self.all_ended(&known.state, guest, ran);
            self.in_order(guest, ran);
        }
    }

    fn all_ended(&self, state: &SubscriptionState, guest: &Guest, ran: &Ran) {
        let (outputs, name, none) = (self.outputs(guest), &guest.spec.name, BTreeMap::new());
        for (event, offset) in self.log.iter().zip(0..).filter(|(event, _)| guest.selects(event)) {
            let generations = outputs.get(&event.id).unwrap_or(&none);
            let mut before = None;
            for (generation, places) in generations {
                let whole = places.len() == guest.outputs_of(event) as usize;
                assert!(whole, "{name} published a part for {offset} in generation {generation}");
                let asked = before.is_none_or(|before| ran.again(offset, before, *generation));
                assert!(asked, "{name} handled {offset} in {before:?} and again in {generation} unasked");
                before = Some(*generation);
            }
            let since = ran.since(offset);
            let handled =
                if guest.publishes { before.is_some_and(|last| last >= since) } else { ran.ended(offset, End::Acked) };
            let expired = ran.ended(offset, End::Expired);
            let dead = state.dead.iter().any(|dead| dead.offset == offset);
            let given_up = dead || ran.ended(offset, End::Dropped);
            let ends = [handled, expired, given_up].into_iter().filter(|end| *end).count();
            assert_eq!(
                ends, 1,
                "{offset} ended in {name}, since generation {since}, as handled {handled}, expired {expired}, given up \
                 {given_up}"
            );
        }
    }

    /// In each generation what was published is in the order of its causes, as far as that is promised, and all of one is
    /// before all of the next.
    fn in_order(&self, guest: &Guest, ran: &Ran) {
        let (outputs, name) = (self.outputs(guest), &guest.spec.name);
        let mut last: BTreeMap<(u32, Option<&str>), Offset> = BTreeMap::new();
        let mut spans: BTreeMap<u32, (Offset, Offset)> = BTreeMap::new();
        for (event, offset) in self.log.iter().zip(0..).filter(|(event, _)| guest.selects(event)) {
            let ordered = match guest.spec.ordering {
                Ordering::Strict => true,
                Ordering::Key => event.key.is_some(),
                Ordering::None => false,
            };
            let key = event.key.as_ref().map(Key::as_str).filter(|_| guest.spec.ordering == Ordering::Key);
            for (generation, places) in outputs.get(&event.id).into_iter().flatten() {
                let span = spans.entry(*generation).or_insert((places[0], places[0]));
                *span = (span.0.min(places[0]), span.1.max(places[0]));
                if ordered && !ran.revived.contains(&offset) {
                    let before = last.insert((*generation, key), places[0]);
                    assert!(before.is_none_or(|b| b < places[0]), "{name} handled {offset} out of order");
                }
            }
        }
        let ends = spans.values().zip(spans.values().skip(1));
        for (before, after) in ends {
            assert!(before.1 < after.0, "{name} handled something of an earlier generation after its move");
        }
    }

    /// Dead letters of a subscription that may be called back or dropped.
    pub(crate) fn sub_of(&self, index: usize) -> Option<SubId> {
        self.index.iter().find(|(_, known)| **known == index).map(|(sub, _)| *sub)
    }
}
