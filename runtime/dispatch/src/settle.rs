//! What comes back from lanes, and what is committed.
//!
//! Role: reports become settlements; sequenced settlements release groups.
//!
//! **The rule of the cursor.** A settlement whose deliveries read nothing from key-value cannot conflict: its
//! consequences (done, parked, dead) hold here at once, and its own cursor may pass them, because settlements are
//! committed in the order of emission. If any delivery of a settlement carries reads, all its consequences wait until it
//! is sequenced: what conflicts comes back, the rest becomes final then, and until then the cursor stays in front of them.
//! Later results of the same chunk wait as well, since they may rest on what is left out.
//!
//! Invariants: each delivery's outcome is used once; a group is released only when everything of it is sequenced.

use std::sync::Arc;

use busway_types::{
    DeliveryResult, Effects, Offset, Ordering, Outcome, Settle, Settlement, Timestamp, Verdict, mutant,
};

use crate::api::Action;
use crate::chunks::InFlight;
use crate::queue::Item;
use crate::redelivery::{CROWD, Decision, decide, shorten};
use crate::subscription::{Cx, Sub};

/// The most verdicts of one settlement that did not come from one report.
const SLICE: usize = 4_096;

/// A settlement that the engine has not sequenced yet.
#[derive(Debug)]
pub(crate) struct Unsequenced {
    pub(crate) token: u64,
    /// The chunk it came from, if any.
    pub(crate) chunk: Option<u64>,
    /// Groups that it keeps busy, with the number of deliveries.
    pub(crate) groups: Vec<(u64, u32)>,
    /// What happens once it is sequenced, if it may conflict.
    pub(crate) deferred: Vec<(Item, Fate)>,
    /// Whether its deliveries may have published.
    pub(crate) publishes: bool,
}

/// What a verdict means here.
#[derive(Debug)]
pub(crate) enum Fate {
    Done,
    Park { due: Timestamp, attempts: Vec<busway_types::Attempt> },
    Dead,
}

/// What one pass over results collects.
#[derive(Default)]
struct Pass {
    settles: Vec<Settle>,
    groups: Vec<(u64, u32)>,
    deferred: Vec<(Item, Fate)>,
    /// Groups of which the first event was parked.
    parked: Vec<u64>,
    /// Groups of which deliveries came back.
    returned: Vec<u64>,
}

fn reads(effects: Option<&Effects>) -> bool {
    effects.is_some_and(Effects::may_conflict)
}

fn count(groups: &mut Vec<(u64, u32)>, group: u64) {
    match groups.last_mut() {
        Some((last, n)) if *last == group => *n += 1,
        _ => groups.push((group, 1)),
    }
}

impl Sub {
    /// A lane reported results of a chunk. What is not known here was given back before and is void.
    pub(crate) fn report(&mut self, chunk: u64, results: Vec<DeliveryResult>, finished: bool, cx: &mut Cx<'_>) {
        let Some(at) = self.chunks.iter().position(|known| known.id == chunk && !known.finished) else { return };
        self.pace.learn(&results);
        let known = &mut self.chunks[at];
        known.finished = finished;
        if known.waits_for.is_some() {
            known.kept.push_back(results);
        } else {
            self.resolve(at, results, cx);
        }
    }

    /// A lane gives the rest of a chunk back.
    pub(crate) fn lost(&mut self, chunk: u64, cx: &mut Cx<'_>) {
        self.report(chunk, Vec::new(), true, cx);
    }

    /// Uses results of the chunk at `at`, all of whose earlier results are final or cannot conflict.
    fn resolve(&mut self, at: usize, results: Vec<DeliveryResult>, cx: &mut Cx<'_>) {
        let mut chunk = self.chunks.swap_remove(at);
        let uncertain = results.iter().any(|result| reads(result.effects.as_deref()));
        let mut pass = Pass::default();
        if uncertain {
            self.flush(cx);
        } else {
            pass.settles = std::mem::take(&mut self.pending);
        }
        pass.settles.reserve(results.len());
        for result in results {
            let Some(item) = chunk.items.pop_front() else { break };
            if item.offset == result.offset {
                self.settle_one(item, result, &chunk.void, uncertain, &mut pass, cx);
            } else {
                debug_assert!(false, "a lane reported {} instead of {}", result.offset, item.offset);
                chunk.items.push_front(item);
            }
        }
        let finished = chunk.finished && chunk.kept.is_empty();
        if finished {
            while let Some(item) = chunk.items.pop_front() {
                self.give_back(item, &mut pass);
            }
        }
        let Pass { settles, groups, deferred, parked, returned } = pass;
        self.pending = settles;
        if uncertain {
            // On its own: what is parked behind now must not be left out with a conflict.
            let token = self.emit(Some(&chunk), groups, deferred, cx);
            chunk.waits_for = token.filter(|_| self.ordering != Ordering::None);
            self.park_all_followers(&parked, cx);
        } else {
            self.park_all_followers(&parked, cx);
            self.emit(Some(&chunk), groups, deferred, cx);
        }
        for key in returned {
            self.poke(key, cx.bus.now);
        }
        if finished {
            cx.bus.transactions -= usize::from(chunk.publishes);
            self.recycle(chunk.items);
        } else {
            self.chunks.push(chunk);
        }
    }

    fn park_all_followers(&mut self, groups: &[u64], cx: &Cx<'_>) {
        for &key in groups {
            self.park_followers(key, &cx.bus.options.limits);
        }
    }

    fn settle_one(
        &mut self,
        item: Item,
        result: DeliveryResult,
        void: &[u64],
        uncertain: bool,
        pass: &mut Pass,
        cx: &mut Cx<'_>,
    ) {
        let DeliveryResult { offset, outcome, effects, busy_ns: _ } = result;
        let is_void = item.group.is_some_and(|group| void.contains(&group));
        let outcome = if is_void { Outcome::Skipped } else { outcome };
        let before = if item.is_fresh() { None } else { self.parked.get(offset) };
        let before = before.map_or(&[][..], |entry| &entry.attempts);
        let now = cx.bus.now;
        let mut decision = decide(outcome, before, &self.spec.retry, now, &mut cx.bus.random);
        if let Decision::Park { attempts, .. } | Decision::Dead { attempts, .. } = &mut decision
            && self.parked.len() + self.dead.len() >= CROWD
        {
            shorten(attempts);
        }
        let (verdict, fate) = match decision {
            Decision::Return => return self.give_back(item, pass),
            Decision::Acked => (Verdict::Acked(effects), Fate::Done),
            Decision::Park { due, attempts } => {
                let parked = busway_types::Parked { offset, due: Some(due), attempts: attempts.clone() };
                (Verdict::Parked(parked), Fate::Park { due, attempts })
            }
            Decision::Dead { reason, attempts } => (Verdict::Dead { reason, time: now, attempts }, Fate::Dead),
        };
        self.in_flight -= 1;
        let event = (!matches!(fate, Fate::Done)).then(|| Arc::clone(&item.event));
        pass.settles.push(Settle { offset, group: item.group, event, verdict });
        if let Some(group) = item.group {
            count(&mut pass.groups, group);
        }
        if uncertain {
            pass.deferred.push((item, fate));
        } else if let Some(group) = self.apply(item, fate) {
            pass.parked.push(group);
        }
    }

    /// A delivery comes back, at no charge.
    fn give_back(&mut self, item: Item, pass: &mut Pass) {
        self.in_flight -= 1;
        if let Some(key) = item.group {
            let group = self.groups.entry(key);
            group.busy = group.busy.saturating_sub(1);
            pass.returned.push(key);
            // If the first of the group was parked, this one is parked behind it.
            if group.head().is_some() && item.is_fresh() {
                pass.parked.push(key);
            }
        }
        self.put_back(item);
    }

    /// An event that was not delivered is done with because it expired. Its group, if any, has to be poked afterwards.
    pub(crate) fn expire(&mut self, item: Item) {
        self.note_expired(item.offset);
        self.apply(item, Fate::Done);
    }

    /// Makes a verdict final. Gives the group whose first event was parked by it.
    fn apply(&mut self, item: Item, fate: Fate) -> Option<u64> {
        let offset = item.offset;
        if item.is_fresh() {
            self.forget(&item);
        }
        match fate {
            Fate::Done => self.unpark(&item),
            Fate::Dead => {
                self.unpark(&item);
                self.dead.insert(offset);
            }
            Fate::Park { due, attempts } => {
                self.parked.put(offset, Some(due), attempts, item.group);
                if let Some(key) = item.group.filter(|_| !mutant("key-order-dropped-on-failure")) {
                    self.groups.entry(key).park(offset);
                    return Some(key);
                }
            }
        }
        None
    }

    fn unpark(&mut self, item: &Item) {
        if !item.is_fresh() {
            self.parked.remove(item.offset);
            if let Some(group) = item.group.and_then(|key| self.groups.get_mut(key)) {
                group.unpark(item.offset);
            }
        }
    }

    /// Emits verdicts of this step that did not come from a report.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_>) {
        while self.pending.len() > SLICE {
            let rest = self.pending.split_off(SLICE);
            let settles = std::mem::replace(&mut self.pending, rest);
            // The rest is not committed with it, so the cursor stays where it was.
            self.send(settles, self.cursor_sent, None, Vec::new(), Vec::new(), cx);
        }
        self.emit(None, Vec::new(), Vec::new(), cx);
    }

    fn emit(
        &mut self,
        chunk: Option<&InFlight>,
        groups: Vec<(u64, u32)>,
        deferred: Vec<(Item, Fate)>,
        cx: &mut Cx<'_>,
    ) -> Option<u64> {
        if self.pending.is_empty() {
            return None;
        }
        let settles = std::mem::take(&mut self.pending);
        let cursor = self.cursor(cx.bus.head);
        Some(self.send(settles, cursor, chunk, groups, deferred, cx))
    }

    fn send(
        &mut self,
        settles: Vec<Settle>,
        cursor: Offset,
        chunk: Option<&InFlight>,
        groups: Vec<(u64, u32)>,
        deferred: Vec<(Item, Fate)>,
        cx: &mut Cx<'_>,
    ) -> u64 {
        let token = cx.bus.next_token;
        cx.bus.next_token += 1;
        let publishes = chunk.is_some_and(|chunk| chunk.publishes);
        cx.bus.transactions += usize::from(publishes);
        self.cursor_sent = cursor;
        let chunk = chunk.map(|chunk| chunk.id);
        self.unsequenced.push_back(Unsequenced { token, chunk, groups, deferred, publishes });
        cx.out.push(Action::Settle(Settlement { token, sub: self.id, cursor, settles }));
        token
    }

    /// The engine sequenced a settlement.
    pub(crate) fn settled(&mut self, token: u64, mut conflicts: Vec<Offset>, cx: &mut Cx<'_>) {
        let Some(at) = self.unsequenced.iter().position(|settlement| settlement.token == token) else { return };
        let Some(settlement) = self.unsequenced.remove(at) else { return };
        let Unsequenced { token: _, chunk, groups, deferred, publishes } = settlement;
        cx.bus.transactions -= usize::from(publishes);
        debug_assert!(conflicts.is_empty() || !deferred.is_empty(), "what read nothing cannot conflict");
        conflicts.sort_unstable();
        let (mut void, mut parked) = (Vec::new(), Vec::new());
        for (item, fate) in deferred {
            if conflicts.binary_search(&item.offset).is_ok() {
                void.extend(item.group);
                self.put_back(item);
            } else {
                parked.extend(self.apply(item, fate));
            }
        }
        self.park_all_followers(&parked, cx);
        for &(key, n) in &groups {
            if let Some(group) = self.groups.get_mut(key) {
                group.busy = group.busy.saturating_sub(n);
            }
        }
        for &(key, _) in &groups {
            self.poke(key, cx.bus.now);
        }
        if let Some(chunk) = chunk {
            self.release_kept(chunk, token, void, cx);
        }
    }

    /// A settlement on which later results of its chunk waited is sequenced.
    fn release_kept(&mut self, chunk: u64, token: u64, void: Vec<u64>, cx: &mut Cx<'_>) {
        let find = |sub: &Self| sub.chunks.iter().position(|known| known.id == chunk);
        let Some(at) = find(self).filter(|at| self.chunks[*at].waits_for == Some(token)) else { return };
        let known = &mut self.chunks[at];
        known.waits_for = None;
        known.void.extend(void);
        while let Some(at) = find(self)
            && self.chunks[at].waits_for.is_none()
        {
            let known = &mut self.chunks[at];
            match known.kept.pop_front() {
                Some(results) => self.resolve(at, results, cx),
                None if known.finished => self.resolve(at, Vec::new(), cx),
                None => return,
            }
        }
    }
}
