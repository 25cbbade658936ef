//! The machine: all subscriptions of one partition.
//!
//! Role: gives each input to the subscriptions it concerns and drives them. Invariants: a step touches only those, and
//! those whose time has come; a subscription is driven after anything that changed it, so nothing startable is left over.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use busway_types::{Batch, Offset, Report, SplitMix, SubId, SubscriptionSpec, SubscriptionState, Timestamp, Topic};
use rustc_hash::FxHashMap;

use crate::api::{Action, Input, MachineOptions, SubStats, Warning};
use crate::cursor::SPREAD;
use crate::feed::Feed;
use crate::routing::Routes;
use crate::subscription::{Bus, Cx, Sub};

/// How far the durable cursor of a subscription that has nothing to settle may stay behind.
const ADVANCE: u64 = 4_096;

/// The dispatcher of one partition. See the crate's documentation for what it does and what it is owed.
#[derive(Debug)]
pub struct Machine {
    bus: Bus,
    /// By slot; a free slot is taken again.
    subs: Vec<Option<Box<Sub>>>,
    slots: FxHashMap<SubId, u32>,
    free: Vec<u32>,
    routes: Routes,
    /// When subscriptions have to be driven though nothing happens. Entries that a subscription does not name as
    /// `armed` are void.
    timers: BinaryHeap<Reverse<(Timestamp, SubId)>>,
    /// Whether `bus.head` means anything yet.
    started: bool,
    step: u64,
    touched: Vec<u32>,
    /// Where the search for cursors that stayed behind goes on, and how much of it is owed.
    sweep_at: usize,
    sweep_owed: u64,
}

impl Machine {
    /// A machine without subscriptions.
    pub fn new(options: MachineOptions) -> Self {
        let mut options = options;
        let limits = &mut options.limits;
        for bound in [
            &mut limits.parked,
            &mut limits.dead_letters,
            &mut limits.window_events,
            &mut limits.window_bytes,
            &mut limits.backlog_bytes,
            &mut limits.chunk_events,
        ] {
            *bound = (*bound).max(1);
        }
        let bus = Bus {
            random: SplitMix(options.seed),
            options,
            now: Timestamp(0),
            head: 0,
            next_token: 1,
            next_chunk: 1,
            room: true,
            transactions: 0,
            starved: VecDeque::new(),
            turn: None,
            spread: SPREAD,
            full_changed: Vec::new(),
        };
        Self {
            bus,
            subs: Vec::new(),
            slots: FxHashMap::default(),
            free: Vec::new(),
            routes: Routes::default(),
            timers: BinaryHeap::new(),
            started: false,
            step: 0,
            touched: Vec::new(),
            sweep_at: 0,
            sweep_owed: 0,
        }
    }

    /// Takes one input and appends what has to be done to `out`. Inputs about subscriptions that do not exist (any more)
    /// are void. Time that goes back is taken as standing still.
    pub fn step(&mut self, now: Timestamp, input: Input, out: &mut Vec<Action>) {
        self.bus.now = self.bus.now.max(now);
        self.step += 1;
        match input {
            Input::Attach { sub, spec, state, head } => self.attach(sub, spec, state, head, out),
            Input::Reconfigure { sub, spec } => self.reconfigure(sub, spec, out),
            Input::Detach { sub } => self.detach(sub, out),
            Input::Appended(batch) => self.appended(&batch, out),
            Input::Read { sub, result, next } => self.with(sub, out, |sub, cx| sub.read(&result, next, cx)),
            Input::Fetched { sub, events, asked } => self.with(sub, out, |sub, cx| sub.fetched(events, &asked, cx)),
            Input::Report(Report { chunk, sub, results, finished }) => {
                self.with(sub, out, |sub, cx| sub.report(chunk, results, finished, cx));
            }
            Input::ChunkLost { sub, chunk } => self.with(sub, out, |sub, cx| sub.lost(chunk, cx)),
            Input::Settled { sub, token, conflicts } => {
                self.with(sub, out, |sub, cx| sub.settled(token, conflicts, cx));
            }
            Input::Room(room) => {
                self.bus.room = room;
            }
            Input::Paused { sub, paused } => self.with(sub, out, |sub, _| sub.paused = paused),
            Input::Revive { sub, offsets } => self.with(sub, out, |sub, cx| sub.revive(&offsets, cx.bus.now)),
            Input::Drop { sub, offsets } => self.with(sub, out, |sub, _| sub.drop_dead(&offsets)),
            Input::Seek { sub, replay } => self.with(sub, out, |sub, _| sub.seek(replay)),
            Input::Moved { sub, state, events } => self.with(sub, out, |sub, cx| sub.moved(state, events, cx)),
            Input::Stays { sub } => self.with(sub, out, |sub, _| sub.stays()),
            Input::Tick => {}
        }
        self.run_timers(out);
        self.serve_starved(out);
    }

    /// When `Tick` is needed.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Figures of a subscription.
    pub fn stats(&self, sub: SubId) -> Option<SubStats> {
        let slot = *self.slots.get(&sub)?;
        self.subs.get(slot as usize)?.as_ref().map(|sub| sub.stats(&self.bus))
    }

    /// The changes of subscriptions' `full` since the last call, in order: whether publishers to their topics wait.
    pub fn full_changed(&mut self) -> Vec<(SubId, bool)> {
        std::mem::take(&mut self.bus.full_changed)
    }

    /// Whether nothing is ready, in flight, waiting, not sequenced, parked or not yet read.
    pub fn is_idle(&self) -> bool {
        self.subs.iter().flatten().all(|sub| sub.is_idle())
    }

    /// The end of the log as far as the machine has seen it.
    pub fn head(&self) -> Offset {
        self.bus.head
    }

    fn attach(
        &mut self,
        id: SubId,
        spec: SubscriptionSpec,
        state: SubscriptionState,
        head: Offset,
        out: &mut Vec<Action>,
    ) {
        if !self.started {
            self.started = true;
            self.bus.head = head;
        }
        self.routes.invalidate();
        if self.slots.contains_key(&id) {
            return self.with(id, out, |sub, _| {
                sub.paused = false;
                sub.reconfigure(spec);
            });
        }
        let sub = Box::new(Sub::new(id, spec, state, &self.bus));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.subs.push(None);
            self.subs.len() as u32 - 1
        });
        self.subs[slot as usize] = Some(sub);
        self.slots.insert(id, slot);
        self.drive(slot, out);
    }

    fn reconfigure(&mut self, sub: SubId, spec: SubscriptionSpec, out: &mut Vec<Action>) {
        self.routes.invalidate();
        self.with(sub, out, |sub, _| {
            if !sub.detached {
                sub.reconfigure(spec);
            }
        });
    }

    fn detach(&mut self, sub: SubId, out: &mut Vec<Action>) {
        self.routes.invalidate();
        self.with(sub, out, |sub, cx| sub.detach(cx.bus.head));
    }

    /// Does something to a subscription and drives it.
    fn with(&mut self, sub: SubId, out: &mut Vec<Action>, act: impl FnOnce(&mut Sub, &mut Cx<'_>)) {
        let Some(&slot) = self.slots.get(&sub) else { return };
        let Some(Some(sub)) = self.subs.get_mut(slot as usize) else { return };
        act(sub, &mut Cx { bus: &mut self.bus, out });
        self.drive(slot, out);
    }

    fn drive(&mut self, slot: u32, out: &mut Vec<Action>) {
        let Some(Some(sub)) = self.subs.get_mut(slot as usize) else { return };
        sub.drive(&mut Cx { bus: &mut self.bus, out });
        if let Some(due) = sub.next_due()
            && sub.armed.is_none_or(|armed| due < armed)
        {
            sub.armed = Some(due);
            self.timers.push(Reverse((due, sub.id)));
        }
        if sub.is_gone() {
            self.slots.remove(&sub.id);
            self.subs[slot as usize] = None;
            self.free.push(slot);
            self.routes.invalidate();
        }
    }

    fn appended(&mut self, batch: &Batch, out: &mut Vec<Action>) {
        if self.started && batch.first > self.bus.head {
            self.bridge_gap(batch.first, out);
        }
        self.routes.refresh(self.subs.iter().zip(0..).filter_map(|(sub, slot)| {
            sub.as_ref().filter(|sub| !sub.detached).map(|sub| (slot, &sub.spec.patterns[..]))
        }));
        let known = if self.started { self.bus.head.saturating_sub(batch.first) } else { 0 };
        self.started = true;
        let mut route: Option<(&Topic, usize)> = None;
        for (event, offset) in batch.events.iter().zip(batch.first..).skip(known as usize) {
            let list = match route {
                Some((topic, list)) if *topic == event.topic => list,
                _ => self.routes.find(&event.topic),
            };
            route = Some((&event.topic, list));
            for &slot in self.routes.list(list) {
                if let Some(Some(sub)) = self.subs.get_mut(slot as usize)
                    && sub.take_from_tail(offset, event, &self.bus)
                    && sub.touched != self.step
                {
                    sub.touched = self.step;
                    self.touched.push(slot);
                }
            }
        }
        self.bus.head = self.bus.head.max(batch.end());
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.drive(slot, out);
        }
        self.touched = touched;
        self.sweep(batch.events.len() as u64, out);
    }

    /// The tail went on behind a gap: everybody reads what is between.
    fn bridge_gap(&mut self, found: Offset, out: &mut Vec<Action>) {
        let expected = self.bus.head;
        out.push(Action::Warn(Warning::Gap { expected, found }));
        self.bus.head = found;
        for slot in 0..self.subs.len() {
            if let Some(sub) = &mut self.subs[slot]
                && let Feed::Tail { from } = sub.feed
                && from < found
            {
                sub.feed = Feed::behind(from.max(expected));
                self.touched.push(slot as u32);
            }
        }
    }

    /// Looks at a few subscriptions, in turn, whose cursor may have stayed behind: each once in `ADVANCE` events.
    fn sweep(&mut self, events: u64, out: &mut Vec<Action>) {
        let slots = self.subs.len();
        self.sweep_owed = (self.sweep_owed + events * slots as u64).min(ADVANCE * slots as u64);
        while self.sweep_owed >= ADVANCE {
            self.sweep_owed -= ADVANCE;
            self.sweep_at = (self.sweep_at + 1) % slots.max(1);
            let Some(Some(sub)) = self.subs.get_mut(self.sweep_at) else { continue };
            // What is not sequenced may be committed after the note of the new cursor, which would lose it.
            if sub.detached || !sub.unsequenced.is_empty() {
                continue;
            }
            let cursor = sub.cursor(self.bus.head);
            if cursor > sub.cursor_sent + ADVANCE {
                sub.cursor_sent = cursor;
                out.push(Action::Advance { sub: sub.id, cursor });
            }
        }
    }

    /// Drives those whose time has come.
    fn run_timers(&mut self, out: &mut Vec<Action>) {
        while let Some(&Reverse((due, id))) = self.timers.peek() {
            let slot = self.slots.get(&id).copied();
            let sub = slot.and_then(|slot| self.subs.get_mut(slot as usize)).and_then(Option::as_mut);
            match (slot, sub) {
                (Some(slot), Some(sub)) if sub.armed == Some(due) => {
                    if due > self.bus.now {
                        return;
                    }
                    self.timers.pop();
                    sub.armed = None;
                    self.drive(slot, out);
                }
                _ => {
                    self.timers.pop();
                }
            }
        }
    }

    /// Lets those start that waited for room: all when there is, otherwise one delivery at a time bus-wide.
    fn serve_starved(&mut self, out: &mut Vec<Action>) {
        for _ in 0..self.bus.starved.len() {
            if !self.bus.room && self.bus.transactions > 0 {
                return;
            }
            let Some(id) = self.bus.starved.pop_front() else { return };
            let Some(&slot) = self.slots.get(&id) else { continue };
            if let Some(Some(sub)) = self.subs.get_mut(slot as usize) {
                sub.starved = false;
            }
            self.bus.turn = Some(id);
            self.drive(slot, out);
            self.bus.turn = None;
        }
    }

    /// Makes the bound of [`SPREAD`] small enough to be met.
    #[cfg(test)]
    pub(crate) fn set_spread(&mut self, spread: u64) {
        self.bus.spread = spread;
    }

    /// Panics when something that must always hold does not. For tests: it walks everything.
    #[cfg(any(test, feature = "invariants"))]
    pub fn check_invariants(&self) {
        for sub in self.subs.iter().flatten() {
            crate::invariants::check(sub, &self.bus);
        }
        let transactions: usize = self.subs.iter().flatten().map(|sub| crate::invariants::transactions(sub)).sum();
        assert_eq!(transactions, self.bus.transactions, "transactions are counted");
    }
}
