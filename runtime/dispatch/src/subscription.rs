//! One subscription.
//!
//! Role: its state, its life (attach, new settings, detach) and the order in which a step drives it. What it takes in is
//! in `intake` and `feed`, what it delivers in `chunks`, what comes back in `settle`, what is tried again in `retry`.
//! It never touches another subscription: what they share is [`Bus`].

use std::collections::{BTreeMap, VecDeque};

use busway_types::{
    Offset, Ordering, Parked, Settle, SplitMix, SubId, SubscriptionSpec, SubscriptionState, Timestamp, mutant,
};
use rustc_hash::FxHashSet;

use crate::api::{Action, MachineOptions, PauseReason, SubStats, Warning};
use crate::chunks::{InFlight, Pace};
use crate::cursor::Outstanding;
use crate::feed::Feed;
use crate::keys::Groups;
use crate::moving::Moving;
use crate::parked::{Body, ParkedSet};
use crate::queue::{Item, Ready, STRICT_GROUP, group_of};
use crate::settle::Unsequenced;

/// What all subscriptions of a machine share.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) options: MachineOptions,
    pub(crate) now: Timestamp,
    /// The end of the log as far as the tail was seen.
    pub(crate) head: Offset,
    pub(crate) random: SplitMix,
    pub(crate) next_token: u64,
    pub(crate) next_chunk: u64,
    /// Whether deliveries that may publish may start.
    pub(crate) room: bool,
    /// Chunks in flight and settlements not yet sequenced whose deliveries may publish.
    pub(crate) transactions: usize,
    /// Subscriptions that have something to deliver as soon as there is room.
    pub(crate) starved: VecDeque<SubId>,
    /// The one of them that may start one delivery though there is none.
    pub(crate) turn: Option<SubId>,
    /// See [`crate::cursor::SPREAD`]; tests make it small.
    pub(crate) spread: u64,
    /// Changes of subscriptions' `full` that nobody asked for yet.
    pub(crate) full_changed: Vec<(SubId, bool)>,
}

/// What a step hands to whatever it calls.
pub(crate) struct Cx<'a> {
    pub(crate) bus: &'a mut Bus,
    pub(crate) out: &'a mut Vec<Action>,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) id: SubId,
    pub(crate) spec: SubscriptionSpec,
    /// The ordering in force; `spec.ordering` differs while a change waits.
    pub(crate) ordering: Ordering,
    pub(crate) detached: bool,
    pub(crate) paused: bool,
    /// Whether it is being moved to another place in the log.
    pub(crate) moving: Option<Moving>,
    /// How often it was moved.
    pub(crate) generation: u32,
    pub(crate) feed: Feed,
    /// Runs of offsets at or above the attached cursor that are settled already, ascending.
    pub(crate) skip: VecDeque<(Offset, Offset)>,
    pub(crate) outstanding: Outstanding,
    /// What could start: events that never failed.
    pub(crate) ready: VecDeque<Ready>,
    /// What could start if it were not too far from the oldest outstanding event.
    pub(crate) stalled: Vec<Ready>,
    /// The lowest sequence number in `stalled`.
    pub(crate) stalled_from: u64,
    /// What could start: parked events whose bodies are in hand.
    pub(crate) retries: VecDeque<Ready>,
    /// Whether the next chunk of one event is a retry, when there are others too.
    pub(crate) retry_turn: bool,
    pub(crate) groups: Groups,
    pub(crate) parked: ParkedSet,
    /// Parked events of a part of the log that is delivered again: they wait until it has come to them.
    pub(crate) later: BTreeMap<Offset, Parked>,
    pub(crate) dead: FxHashSet<Offset>,
    pub(crate) chunks: Vec<InFlight>,
    /// Emptied buffers of chunks.
    pub(crate) spare: Vec<VecDeque<Item>>,
    pub(crate) unsequenced: VecDeque<Unsequenced>,
    /// Verdicts of this step that cannot conflict.
    pub(crate) pending: Vec<Settle>,
    pub(crate) pace: Pace,
    /// Fresh events in memory, and what they cost.
    pub(crate) held: usize,
    pub(crate) held_bytes: usize,
    /// How many of the fresh events in memory can expire.
    pub(crate) expiring: usize,
    /// Events that expired before they were handled.
    pub(crate) expired: u64,
    /// Fresh events in memory that are not in flight and were not.
    pub(crate) waiting: usize,
    /// Deliveries in flight.
    pub(crate) in_flight: usize,
    /// The cursor that was emitted last.
    pub(crate) cursor_sent: Offset,
    pub(crate) full: bool,
    pub(crate) parked_full: bool,
    pub(crate) dead_full: bool,
    /// The last step that touched it; so a batch drives it once.
    pub(crate) touched: u64,
    /// Whether it is in the machine's queue of those that wait for room.
    pub(crate) starved: bool,
    /// The time for which the machine's timer has an entry.
    pub(crate) armed: Option<Timestamp>,
}

impl Sub {
    pub(crate) fn new(id: SubId, spec: SubscriptionSpec, state: SubscriptionState, bus: &Bus) -> Self {
        let SubscriptionState { cursor, settled, parked, dead, generation } = state;
        let feed = if cursor >= bus.head { Feed::Tail { from: cursor } } else { Feed::behind(cursor) };
        let mut sub = Self {
            id,
            ordering: spec.ordering,
            spec,
            detached: false,
            paused: false,
            moving: None,
            generation,
            feed,
            skip: settled.into(),
            outstanding: Outstanding::default(),
            ready: VecDeque::new(),
            stalled: Vec::new(),
            stalled_from: u64::MAX,
            retries: VecDeque::new(),
            retry_turn: false,
            groups: Groups::default(),
            parked: ParkedSet::default(),
            later: BTreeMap::new(),
            dead: dead.iter().map(|letter| letter.offset).collect(),
            chunks: Vec::new(),
            spare: Vec::new(),
            unsequenced: VecDeque::new(),
            pending: Vec::new(),
            pace: Pace::new(bus.options.limits.chunk_events),
            held: 0,
            held_bytes: 0,
            expiring: 0,
            expired: 0,
            waiting: 0,
            in_flight: 0,
            cursor_sent: cursor,
            full: false,
            parked_full: false,
            dead_full: false,
            touched: 0,
            starved: false,
            armed: None,
        };
        // What is parked further on must not overtake what a move opened before it and what is still to be read, also
        // when the node was started again meanwhile. Without replay nothing is read again.
        let waits = generation > 0 && sub.ordering != Ordering::None && bus.options.replayable;
        for entry in parked {
            if waits && entry.offset >= cursor && !mutant("parked-overtakes-replay") {
                sub.later.insert(entry.offset, entry);
            } else {
                sub.index_parked(entry.offset, entry.due, entry.attempts, bus.now);
            }
        }
        sub
    }

    /// Enters a parked event of which only the durable part is known.
    pub(crate) fn index_parked(
        &mut self,
        offset: Offset,
        due: Option<Timestamp>,
        attempts: Vec<busway_types::Attempt>,
        now: Timestamp,
    ) {
        match self.ordering {
            Ordering::None => self.parked.put(offset, Some(due.unwrap_or(now)), attempts, None),
            Ordering::Key => self.parked.put_unknown(offset, due, attempts),
            Ordering::Strict => {
                self.parked.put(offset, due, attempts, Some(STRICT_GROUP));
                self.groups.entry(STRICT_GROUP).park(offset);
                self.poke(STRICT_GROUP, now);
            }
        }
    }

    /// Takes new settings.
    pub(crate) fn reconfigure(&mut self, spec: SubscriptionSpec) {
        self.spec = spec;
        self.detached = false;
    }

    /// Stops; what is in flight goes on.
    pub(crate) fn detach(&mut self, head: Offset) {
        self.detached = true;
        if !self.is_asked_to_move() {
            self.moving = None;
        }
        if let Feed::Tail { .. } = self.feed {
            self.feed = Feed::behind(self.position(head));
        }
    }

    /// Whether a detached subscription can be forgotten.
    pub(crate) fn is_gone(&self) -> bool {
        self.detached
            && self.chunks.is_empty()
            && self.unsequenced.is_empty()
            && !self.parked.is_asking()
            && !self.feed.is_reading()
            && self.moving.is_none()
    }

    /// Does what can be done now.
    pub(crate) fn drive(&mut self, cx: &mut Cx<'_>) {
        if self.is_asked_to_move() {
            return;
        }
        if self.ordering != self.spec.ordering && self.chunks.is_empty() && self.unsequenced.is_empty() {
            self.flush(cx);
            if self.unsequenced.is_empty() {
                self.reorder(cx.bus.now);
            }
        }
        if !self.detached {
            self.run_due(cx.bus.now);
            self.start_chunks(cx);
            if !self.paused
                && self.moving.is_none()
                && let Some(offsets) = self.parked.ask(&cx.bus.options.limits)
            {
                // What was parked in this very step is among them: an engine that keeps such events apart has to have them.
                if !mutant("fetched-before-kept") {
                    self.flush(cx);
                }
                cx.out.push(Action::Fetch { sub: self.id, offsets });
            }
            self.follow(cx);
        }
        self.flush(cx);
        self.move_on(cx);
        self.watch(cx);
    }

    /// Puts a change of ordering into force. Only with nothing in flight and everything sequenced.
    fn reorder(&mut self, now: Timestamp) {
        self.ordering = self.spec.ordering;
        let mut items: Vec<Item> = self.groups.dissolve().collect();
        for ready in self.ready.drain(..).chain(self.stalled.drain(..)) {
            if let Ready::One(item) = ready {
                items.push(item);
            }
        }
        self.stalled_from = u64::MAX;
        self.retries.clear();
        for (offset, entry) in self.parked.dissolve() {
            self.index_parked(offset, entry.due, entry.attempts, now);
        }
        items.sort_unstable_by_key(|item| item.offset);
        for mut item in items {
            item.group = group_of(self.ordering, &item.event);
            self.queue(item);
        }
    }

    /// Why nothing new starts, if that is so.
    pub(crate) fn pause_reason(&self, bus: &Bus) -> Option<PauseReason> {
        let limits = &bus.options.limits;
        if self.detached {
            Some(PauseReason::Detached)
        } else if self.paused {
            Some(PauseReason::Service)
        } else if self.moving.is_some() {
            Some(PauseReason::Moving)
        } else if self.dead.len() >= limits.dead_letters {
            Some(PauseReason::DeadFull)
        } else if self.parked.is_learning() {
            Some(PauseReason::Learning)
        } else if self.ordering != self.spec.ordering {
            Some(PauseReason::Reordering)
        } else if self.spec.may_publish && !bus.room {
            Some(PauseReason::NoRoom)
        } else if self.parked.len() >= limits.parked {
            Some(PauseReason::ParkedFull)
        } else {
            None
        }
    }

    /// Raises and lowers `full`, and warns at the bounds.
    fn watch(&mut self, cx: &mut Cx<'_>) {
        let limits = &cx.bus.options.limits;
        let over = |was: bool, value: usize, bound: usize| {
            if was { value >= bound - bound / 10 } else { value >= bound }
        };
        let parked_full = over(self.parked_full, self.parked.len(), limits.parked);
        let dead_full = over(self.dead_full, self.dead.len(), limits.dead_letters);
        if parked_full && !self.parked_full {
            cx.out.push(Action::Warn(Warning::ParkedFull { sub: self.id }));
        }
        if dead_full && !self.dead_full {
            cx.out.push(Action::Warn(Warning::DeadFull { sub: self.id }));
        }
        (self.parked_full, self.dead_full) = (parked_full, dead_full);
        // Where the log keeps what it does not take, it lags, and others who want the same topics are not cut off from them.
        let backlog = !cx.bus.options.replayable && (self.waiting > 0 || matches!(self.feed, Feed::Behind { .. }));
        let full = !self.detached
            && (over(self.full, self.held_bytes, limits.backlog_bytes) || ((parked_full || dead_full) && backlog));
        if full != self.full {
            self.full = full;
            cx.bus.full_changed.push((self.id, full));
        }
    }

    /// All below is settled, parked, dead or not selected, once everything that was emitted is sequenced.
    pub(crate) fn cursor(&self, head: Offset) -> Offset {
        let oldest = self.outstanding.oldest().filter(|_| !mutant("cursor-passes-what-is-open"));
        oldest.unwrap_or_else(|| self.position(head)).max(self.cursor_sent)
    }

    /// Puts a fresh event that was already counted where it waits. Does not decide about parking.
    pub(crate) fn queue(&mut self, item: Item) {
        match item.group {
            None => self.ready.push_back(Ready::One(item)),
            Some(key) => {
                let group = self.groups.entry(key);
                group.fresh.push_back(item);
                if !group.queued && group.busy == 0 && group.fresh_is_next() {
                    group.queued = true;
                    let queue = if group.parked.is_some() { &mut self.retries } else { &mut self.ready };
                    queue.push_back(Ready::Group(key));
                }
            }
        }
    }

    /// Something about a group changed: queues its token, or asks for the body of its first parked event, or forgets it.
    pub(crate) fn poke(&mut self, key: u64, now: Timestamp) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.busy > 0 || group.queued {
            return;
        }
        let has_parked = group.parked.is_some();
        if group.fresh_is_next() || group.body_is_next() {
            group.queued = true;
            // A group with parked events goes on even when the bound of parked events is reached: it makes room.
            let queue = if has_parked { &mut self.retries } else { &mut self.ready };
            queue.push_back(Ready::Group(key));
        } else if let Some(parked) = &mut group.parked {
            for body in parked.bodies.drain(..) {
                self.parked.set_body(body.offset, Body::Away);
            }
            // The first must be due; the others ride along as long as they need not wait for a time of their own.
            for &offset in parked.offsets.iter().take(self.pace.most()) {
                if self.parked.is_coming(offset) || !self.parked.is_due(offset, now) {
                    break;
                }
                self.parked.want(offset);
            }
        } else {
            self.groups.tidy(key);
        }
    }

    /// When it has to be driven though nothing happens. Never for what driving does not do now, or its timer would go off
    /// again at once: nothing before a move is answered, and no reading while one is wanted.
    pub(crate) fn next_due(&mut self) -> Option<Timestamp> {
        if self.detached || self.is_asked_to_move() {
            return None;
        }
        let due = self.parked.next_due();
        let read = self.feed.retry_at().filter(|_| self.moving.is_none());
        due.into_iter().chain(read).min()
    }

    /// Whether nothing is to be done now or later.
    pub(crate) fn is_idle(&self) -> bool {
        let quiet = self.chunks.is_empty() && self.unsequenced.is_empty() && self.moving.is_none();
        let behind = matches!(self.feed, Feed::Behind { .. });
        quiet && (self.detached || (self.held == 0 && self.parked.is_empty() && self.later.is_empty() && !behind))
    }

    pub(crate) fn stats(&self, bus: &Bus) -> SubStats {
        let position = self.position(bus.head);
        SubStats {
            ready: self.ready.len() + self.retries.len(),
            in_flight: self.in_flight,
            waiting: self.waiting,
            parked: self.parked.len() + self.later.len(),
            dead: self.dead.len(),
            expired: self.expired,
            backlog_events: self.held,
            backlog_bytes: self.held_bytes,
            cursor: self.cursor(bus.head),
            lagging: matches!(self.feed, Feed::Behind { .. }),
            behind: bus.head.saturating_sub(position),
            paused: self.pause_reason(bus),
            full: self.full,
        }
    }
}
