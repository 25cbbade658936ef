//! Chunks: what goes to a lane at one time.
//!
//! Role: how large a chunk is, what is in it, and whether one may start. Invariants: at most the concurrency and
//! [`Chunk::AHEAD`] are in flight, so that a lane finds the next chunk when it ends one (one if strict); no group is in two chunks.

use std::collections::VecDeque;

use busway_types::{Chunk, Delivery, DeliveryResult, Ordering, Outcome, Timestamp, mutant};

use crate::api::{Action, PauseReason};
use crate::keys::Group;
use crate::queue::{Item, Ready};
use crate::subscription::{Cx, Sub};

/// Events of a chunk before anything is known of how long they take.
const FIRST_CHUNK: usize = 32;

/// How long a chunk should take, in nanoseconds.
const CHUNK_NS: u64 = 2_000_000;

/// Emptied buffers that are kept.
const SPARE: usize = 16;

/// How many events a chunk should have.
#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    /// Moving average of nanoseconds per event.
    mean_ns: Option<u64>,
}

impl Pace {
    pub(crate) fn new(chunk_events: usize) -> Self {
        Self { most: chunk_events.max(1), mean_ns: None }
    }

    /// The most events of a chunk.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    fn size(&self) -> usize {
        let size = self.mean_ns.map_or(FIRST_CHUNK as u64, |mean| CHUNK_NS / mean.max(1));
        usize::try_from(size).unwrap_or(usize::MAX).clamp(1, self.most)
    }

    /// Learns from what a lane reported.
    pub(crate) fn learn(&mut self, results: &[DeliveryResult]) {
        let (mut ran, mut busy) = (0_u64, 0_u64);
        for result in results.iter().filter(|result| result.outcome != Outcome::Skipped) {
            ran += 1;
            busy = busy.saturating_add(result.busy_ns);
        }
        let Some(mean) = busy.checked_div(ran) else { return };
        self.mean_ns = Some(self.mean_ns.map_or(mean, |before| before.saturating_mul(7).saturating_add(mean) / 8));
    }
}

/// A chunk that a lane has.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) id: u64,
    /// What was not reported yet, in order.
    pub(crate) items: VecDeque<Item>,
    /// Whether the lane is done with it.
    pub(crate) finished: bool,
    /// Whether its deliveries may publish.
    pub(crate) publishes: bool,
    /// A settlement with earlier results of this chunk that may conflict. Later results are kept until it is sequenced.
    pub(crate) waits_for: Option<u64>,
    /// Those later results, by report: one settlement never mixes two.
    pub(crate) kept: VecDeque<Vec<DeliveryResult>>,
    /// Groups of which a result was left out for a conflict: their later results are void.
    pub(crate) void: Vec<u64>,
}

impl Sub {
    /// Hands out what may start.
    pub(crate) fn start_chunks(&mut self, cx: &mut Cx<'_>) {
        self.unstall(cx.bus.spread);
        while !(self.retries.is_empty() && self.ready.is_empty()) {
            let (most, stop) = match self.pause_reason(cx.bus) {
                None | Some(PauseReason::ParkedFull) => (self.pace.size(), false),
                Some(PauseReason::NoRoom) => {
                    self.starve(cx);
                    if cx.bus.transactions > 0 || cx.bus.turn != Some(self.id) {
                        return;
                    }
                    (1, true)
                }
                Some(_) => return,
            };
            let lanes = self.spec.concurrency.max(1);
            let slots = if self.ordering == Ordering::Strict { 1 } else { lanes.saturating_add(Chunk::AHEAD) };
            if self.chunks.len() >= slots {
                return;
            }
            let idle = lanes.saturating_sub(self.chunks.len()).max(1);
            let before = (self.ready.len(), self.retries.len());
            let expired = self.expired;
            let mut items = self.spare.pop().unwrap_or_default();
            self.collect(most, idle, &mut items, cx);
            if items.is_empty() {
                // Tokens whose group has nothing to deliver after all were taken out: look at the rest.
                self.spare.push(items);
                if self.ready.len() >= before.0 && self.retries.len() >= before.1 && self.expired == expired {
                    return;
                }
                continue;
            }
            self.start(items, cx);
            if stop {
                return;
            }
        }
    }

    /// Queues for the next transaction that may start though there is no room.
    fn starve(&mut self, cx: &mut Cx<'_>) {
        if !self.starved {
            self.starved = true;
            cx.bus.starved.push_back(self.id);
        }
    }

    fn start(&mut self, items: VecDeque<Item>, cx: &mut Cx<'_>) {
        debug_assert!(self.chunks.len() < self.spec.concurrency.max(1) + Chunk::AHEAD, "a lane has few chunks");
        let id = cx.bus.next_chunk;
        cx.bus.next_chunk += 1;
        let publishes = self.spec.may_publish;
        cx.bus.transactions += usize::from(publishes);
        self.in_flight += items.len();
        let mut deliveries = Vec::with_capacity(items.len());
        for item in &items {
            let failed =
                if item.is_fresh() { 0 } else { self.parked.get(item.offset).map_or(0, |entry| entry.attempts.len()) };
            let attempt = u32::try_from(failed).unwrap_or(u32::MAX).saturating_add(1);
            deliveries.push(Delivery { logged: item.logged(), attempt });
        }
        let (ordering, generation) = (self.ordering, self.generation);
        cx.out.push(Action::Deliver(Chunk { id, sub: self.id, ordering, generation, deliveries }));
        let (kept, void) = (VecDeque::new(), Vec::new());
        self.chunks.push(InFlight { id, items, finished: false, publishes, waits_for: None, kept, void });
    }

    /// Takes up to `most` events of what is ready, leaving a fair share to `idle` lanes.
    fn collect(&mut self, most: usize, idle: usize, items: &mut VecDeque<Item>, cx: &Cx<'_>) {
        let fresh = !self.ready.is_empty() && self.parked.len() < cx.bus.options.limits.parked;
        let retries = !self.retries.is_empty();
        let for_retries = match (retries, fresh) {
            (false, _) => 0,
            (true, false) => most,
            (true, true) if most == 1 => {
                self.retry_turn = !self.retry_turn;
                usize::from(self.retry_turn)
            }
            (true, true) => most / 2,
        };
        let mut share = self.retries.len().div_ceil(idle);
        while share > 0
            && items.len() < for_retries
            && let Some(ready) = self.retries.pop_front()
        {
            share -= 1;
            self.collect_retry(ready, for_retries, items, cx);
        }
        if !fresh {
            return;
        }
        let mut share = self.ready.len().div_ceil(idle);
        while share > 0
            && items.len() < most
            && let Some(ready) = self.ready.pop_front()
        {
            share -= 1;
            self.collect_fresh(ready, most, items, cx);
        }
    }

    fn collect_fresh(&mut self, ready: Ready, most: usize, items: &mut VecDeque<Item>, cx: &Cx<'_>) {
        let horizon = self.outstanding.horizon(cx.bus.spread);
        match ready {
            Ready::One(item) if item.seq >= horizon => {
                self.stalled_from = self.stalled_from.min(item.seq);
                self.stalled.push(Ready::One(item));
            }
            Ready::One(item) => {
                self.waiting -= 1;
                self.collect_one(item, items, cx);
            }
            Ready::Group(key) => self.collect_group(key, most, items, cx),
        }
    }

    fn collect_retry(&mut self, ready: Ready, most: usize, items: &mut VecDeque<Item>, cx: &Cx<'_>) {
        match ready {
            Ready::One(item) => self.collect_one(item, items, cx),
            Ready::Group(key) => self.collect_group(key, most, items, cx),
        }
    }

    /// Takes an event without a group, unless it has expired.
    fn collect_one(&mut self, item: Item, items: &mut VecDeque<Item>, cx: &Cx<'_>) {
        let can_expire = self.expiring > 0 || !item.is_fresh();
        if can_expire && item.event.is_expired(cx.bus.now) && !mutant("expired-event-delivered") {
            self.expire(item);
        } else {
            items.push_back(item);
        }
    }

    /// Takes what a group has next, without a gap.
    fn collect_group(&mut self, key: u64, most: usize, items: &mut VecDeque<Item>, cx: &Cx<'_>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if !group.queued {
            return;
        }
        // What stands in front of a parked event goes on in any case: the subscription may be waiting for just that.
        let horizon = if group.parked.is_some() { u64::MAX } else { self.outstanding.horizon(cx.bus.spread) };
        if group.fresh_is_next()
            && let Some(first) = group.fresh.front()
            && first.seq >= horizon
        {
            self.stalled_from = self.stalled_from.min(first.seq);
            self.stalled.push(Ready::Group(key));
            return;
        }
        group.queued = false;
        let before = items.len();
        let mut gone = Vec::new();
        while items.len() < most
            && group.fresh_is_next()
            && group.fresh.front().is_some_and(|item| item.seq < horizon)
            && let Some(item) = group.fresh.pop_front()
        {
            self.waiting -= 1;
            if self.expiring > 0 && item.event.is_expired(cx.bus.now) {
                gone.push(item);
            } else {
                items.push_back(item);
            }
        }
        if items.len() == before {
            take_bodies(group, most, cx.bus.now, items, &mut gone);
        }
        group.busy += (items.len() - before) as u32;
        let idle = group.busy == 0;
        for item in gone {
            self.expire(item);
        }
        if idle {
            self.poke(key, cx.bus.now);
        }
    }

    /// Brings back what is no longer too far from the oldest outstanding event.
    fn unstall(&mut self, spread: u64) {
        if self.stalled_from < self.outstanding.horizon(spread) {
            self.stalled_from = u64::MAX;
            for ready in self.stalled.drain(..).rev() {
                self.ready.push_front(ready);
            }
        }
    }

    /// An event comes back as if it had not been delivered. Its group, if any, has to be poked afterwards.
    pub(crate) fn put_back(&mut self, item: Item) {
        let fresh = item.is_fresh();
        self.waiting += usize::from(fresh);
        match item.group {
            None if fresh => self.ready.push_front(Ready::One(item)),
            None => self.retries.push_front(Ready::One(item)),
            Some(key) if fresh => crate::keys::put_back(&mut self.groups.entry(key).fresh, item),
            Some(key) => {
                crate::keys::put_back(&mut self.groups.entry(key).parked.get_or_insert_default().bodies, item);
            }
        }
    }

    /// Keeps an emptied buffer.
    pub(crate) fn recycle(&mut self, items: VecDeque<Item>) {
        if self.spare.len() < SPARE {
            self.spare.push(items);
        }
    }
}

/// Takes bodies as long as they are the group's next parked events without a gap, and no event in hand is before them.
/// Those that have expired go into `gone`.
fn take_bodies(group: &mut Group, most: usize, now: Timestamp, items: &mut VecDeque<Item>, gone: &mut Vec<Item>) {
    let Some(parked) = &mut group.parked else { return };
    let end = group.fresh.front().map_or(u64::MAX, |item| item.offset);
    let mut at = 0;
    while items.len() < most
        && parked.bodies.front().is_some_and(|item| item.offset < end && parked.offsets.get(at) == Some(&item.offset))
        && let Some(item) = parked.bodies.pop_front()
    {
        if item.event.is_expired(now) {
            gone.push(item);
        } else {
            items.push_back(item);
        }
        at += 1;
    }
}
