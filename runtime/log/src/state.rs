//! Everything durable except the bodies of events in the log.
//!
//! Role: a value. [`State::apply`] is what the running node does with each transaction, what replay does with each record,
//! and what the log's own copy does for its view and its checkpoints; the three are the same function, so they agree.
//!
//! A state is either whole, which is a pure value, or it lies over a view (see the module `view`) and has in memory only
//! what the view lacks. What applying a transaction needs from there is loaded before, so that applying cannot fail.
//!
//! Invariants:
//! - transactions are applied in order and once: one whose number is below `next_seq` changes nothing;
//! - a subscription's cursor is at the lowest offset that is not known to be settled, parked, dead or not selected;
//! - a parked event or dead letter is one or the other, never both;
//! - byte totals are those of the contents.
//!
//! It decides nothing: what is parked until when, or given up, is in the transaction.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use busway_types::{
    DeadLetter, Event, KvVersion, KvWrite, Offset, Parked, Replay, ServiceName, Settings, SubId, SubscriptionState,
    Timestamp, mutant,
};
use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::error::LogError;
use crate::ranges::OffsetSet;
use crate::seen::SeenIds;
use crate::txn::{KvRecord, SettleRecord, SubChange, Txn};
use crate::view::Overlay;

/// The durable state after a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The number of the next transaction; the first is 1.
    pub next_seq: u64,
    /// The offset of the next event.
    pub next_offset: Offset,
    /// The number of the next new subscription.
    pub next_sub: u32,
    /// The number of the next timer.
    pub next_timer: u64,
    /// Subscriptions, attached or not.
    pub subs: BTreeMap<SubId, SubState>,
    /// Key-value by service; empty over a view.
    pub kv: FxHashMap<ServiceName, KvSpace>,
    /// Events that wait for their time, by timer; empty over a view.
    pub delayed: BTreeMap<u64, Arc<Event>>,
    /// What the waiting events cost in memory ([`Event::cost`]).
    pub delayed_bytes: usize,
    /// Client-supplied ids seen lately.
    pub seen: SeenIds,
    /// What there is beyond a view; none when everything is here.
    pub over: Option<Box<Overlay>>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubState {
    /// Its durable name.
    pub name: String,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Since when no service is attached to it; none while one is.
    pub detached_since: Option<Timestamp>,
    /// The oldest offset that was ever for it: where it began, or what it was moved back to.
    pub began: Offset,
    /// How often it was moved.
    pub generation: u32,
    /// What a deployment with a generation has set it to; none while none has.
    pub settings: Option<Box<Settings>>,
    /// Where it stands.
    pub progress: Progress,
}

/// Where a subscription stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every offset below is settled, parked, dead or not selected.
    pub cursor: Offset,
    /// Offsets above the cursor that are settled, parked or dead.
    pub settled: OffsetSet,
    /// Events that wait for their next attempt.
    pub parked: BTreeMap<Offset, Parked>,
    /// Events given up.
    pub dead: BTreeMap<Offset, DeadLetter>,
}

/// The key-value entries of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvSpace {
    /// The entries.
    pub entries: BTreeMap<Box<str>, KvEntry>,
    /// Bytes of all keys and values.
    pub bytes: usize,
}

/// One key-value entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// Its value.
    pub value: Bytes,
    /// The number of the transaction that wrote it.
    pub version: KvVersion,
}

impl Default for State {
    fn default() -> Self {
        Self {
            next_seq: 1,
            next_offset: 0,
            next_sub: 0,
            next_timer: 0,
            subs: BTreeMap::new(),
            kv: FxHashMap::default(),
            delayed: BTreeMap::new(),
            delayed_bytes: 0,
            seen: SeenIds::default(),
            over: None,
        }
    }
}

impl State {
    /// Reads what applying a transaction needs and only a view has. To be called before [`State::apply`].
    pub fn load(&mut self, txn: &Txn) -> Result<(), LogError> {
        self.over.as_mut().map_or(Ok(()), |over| over.load(txn))
    }

    /// Takes a transaction in, for which [`State::load`] was called. One that was taken in before changes nothing.
    pub fn apply(&mut self, txn: &Txn) {
        if txn.seq < self.next_seq {
            return;
        }
        let Txn { seq, first_offset: _, events, settlement, kv, delayed, fired, lapsed, subs, ids } = txn;
        self.next_seq = seq + 1;
        if !events.is_empty() {
            self.next_offset = txn.end_offset();
        }
        for change in subs {
            self.change_sub(change, *seq);
        }
        if let Some(settlement) = settlement
            && let Some(sub) = self.subs.get_mut(&settlement.sub)
        {
            sub.progress.settle(settlement, &mut |offset, held| match &mut self.over {
                Some(over) if held => over.hold(offset, *seq),
                Some(over) => over.release(offset, *seq),
                None => {}
            });
        }
        if let Some(ids) = ids {
            self.seen.apply(ids);
        }
        if let Some(over) = &mut self.over {
            let next = delayed.iter().map(|(timer, _)| timer.saturating_add(1)).max();
            self.next_timer = self.next_timer.max(next.unwrap_or_default());
            over.apply(txn);
            return;
        }
        for KvRecord { service, op } in kv {
            self.write_kv(service, op, *seq);
        }
        for (timer, event) in delayed {
            self.delay(*timer, event.clone());
        }
        for timer in fired.iter().chain(lapsed.iter().map(|(timer, _)| timer)) {
            if mutant("timer-fires-twice") {
                continue;
            }
            if let Some(event) = self.delayed.remove(timer) {
                self.delayed_bytes -= event.cost();
            }
        }
    }

    fn write_kv(&mut self, service: &ServiceName, op: &KvWrite, version: KvVersion) {
        if !self.kv.contains_key(service) {
            self.kv.insert(service.clone(), KvSpace::default());
        }
        let Some(space) = self.kv.get_mut(service) else { return };
        space.write(op, version);
        // A service without entries is as good as one that never had any, so that equal contents are equal states.
        if space.entries.is_empty() {
            self.kv.remove(service);
        }
    }

    pub(crate) fn delay(&mut self, timer: u64, event: Arc<Event>) {
        self.next_timer = self.next_timer.max(timer.saturating_add(1));
        self.delayed_bytes += event.cost();
        if let Some(before) = self.delayed.insert(timer, event) {
            self.delayed_bytes -= before.cost();
        }
    }

    fn change_sub(&mut self, change: &SubChange, seq: u64) {
        match change {
            SubChange::Created { id, name, service, cursor } => {
                self.next_sub = self.next_sub.max(id.0.saturating_add(1));
                let progress = Progress { cursor: *cursor, ..Progress::default() };
                let (name, service) = (name.clone(), service.clone());
                let sub = SubState {
                    name,
                    service,
                    detached_since: None,
                    began: *cursor,
                    generation: 0,
                    settings: None,
                    progress,
                };
                self.subs.insert(*id, sub);
            }
            SubChange::Attached { id } => {
                if let Some(sub) = self.subs.get_mut(id) {
                    sub.detached_since = None;
                }
            }
            SubChange::Detached { id, at } => {
                if let Some(sub) = self.subs.get_mut(id) {
                    sub.detached_since = Some(*at);
                }
            }
            SubChange::Set { id, settings } => {
                if let Some(sub) = self.subs.get_mut(id) {
                    sub.settings = Some(settings.clone());
                }
            }
            SubChange::Moved { id, generation, replay } => {
                if let Some(sub) = self.subs.get_mut(id) {
                    sub.generation = *generation;
                    // What lies between a part that ends earlier and where it began was never for it.
                    if replay.to >= sub.began {
                        sub.began = sub.began.min(replay.from);
                    }
                    let gone = sub.progress.reopen(replay);
                    if let Some(over) = &mut self.over {
                        for offset in gone {
                            over.release(offset, seq);
                        }
                    }
                }
            }
            SubChange::Forgotten { id } => {
                if let (Some(gone), Some(over)) = (self.subs.remove(id), &mut self.over) {
                    for offset in gone.progress.parked.keys().chain(gone.progress.dead.keys()) {
                        over.release(*offset, seq);
                    }
                }
            }
        }
    }

    /// The subscription of this name.
    pub fn sub_named(&self, name: &str) -> Option<(SubId, &SubState)> {
        self.subs.iter().find(|(_, sub)| sub.name == name).map(|(id, sub)| (*id, sub))
    }

    /// A key's value and version; none and 0 when it is absent.
    pub fn kv_get(&mut self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), LogError> {
        if let Some(over) = &mut self.over {
            return over.kv_get(service, key);
        }
        Ok(match self.kv.get(service).and_then(|space| space.entries.get(key)) {
            Some(entry) => (Some(entry.value.clone()), entry.version),
            None => (None, 0),
        })
    }

    /// Calls `each` with the entries of a service whose keys begin with `prefix`, after a key, ascending, until it says
    /// false.
    pub fn kv_scan(
        &self,
        service: &ServiceName,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(&str, &Bytes) -> bool,
    ) -> Result<(), LogError> {
        if let Some(over) = &self.over {
            return over.kv_scan(service, prefix, after, each);
        }
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let space = self.kv.get(service);
        let range = space.map(|space| space.entries.range::<str, _>((from, Bound::Unbounded)));
        let here = range.into_iter().flatten().take_while(|(key, _)| key.starts_with(prefix));
        for (key, entry) in here {
            if !each(key, &entry.value) {
                break;
            }
        }
        Ok(())
    }

    /// Bytes of a service's keys and values; over a view for a moment perhaps more, when some were
    /// written over.
    pub fn kv_bytes(&mut self, service: &ServiceName) -> Result<usize, LogError> {
        match &mut self.over {
            Some(over) => over.kv_bytes(service),
            None => Ok(self.kv.get(service).map_or(0, |space| space.bytes)),
        }
    }

    /// The lowest offset of the log that a subscription, attached or not, may still need: everything below can be released.
    /// A view keeps the events of parked deliveries and dead letters, once it has them.
    pub fn needed_from(&self) -> Offset {
        let cursors = self.subs.values().map(|sub| sub.progress.cursor).min().unwrap_or(u64::MAX);
        let held = match &self.over {
            Some(over) => over.pinned_from().unwrap_or(u64::MAX),
            None => self.subs.values().map(|sub| sub.progress.held_from()).min().unwrap_or(u64::MAX),
        };
        cursors.min(held).min(self.next_offset)
    }

    /// Puts a state of positions over a view; entries and delayed events of a checkpoint without a view stay as they are.
    pub(crate) fn put_over(&mut self, over: Option<Box<Overlay>>) {
        self.over = over;
        if let Some(over) = &mut self.over {
            over.recount(self.subs.values());
        }
    }

    /// About how many bytes wait for the view.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.over.as_ref().map_or(0, |over| over.waiting())
    }

    /// The same for another user: without what is only cached.
    pub(crate) fn uncached(&self) -> Self {
        Self { over: self.over.as_ref().map(|over| Box::new(over.uncached())), ..self.clone() }
    }
}

impl Progress {
    /// Tells `keep` which events are held from now on (true) and which no longer (false).
    fn settle(&mut self, record: &SettleRecord, keep: &mut dyn FnMut(Offset, bool)) {
        let SettleRecord { sub: _, cursor, acked, parked, dead, revived, dropped, time: _, expired: _ } = record;
        // The cursor first: what it passes need not be noted one by one.
        self.cursor = self.cursor.max(*cursor);
        for offset in acked {
            if self.parked.remove(offset).is_some() {
                keep(*offset, false);
            }
            self.mark(*offset);
        }
        for parked in parked {
            self.mark(parked.offset);
            let was_dead = self.dead.remove(&parked.offset).is_some();
            let was_parked = self.parked.insert(parked.offset, parked.clone()).is_some();
            if !was_dead && !was_parked {
                keep(parked.offset, true);
            }
        }
        for letter in dead {
            self.mark(letter.offset);
            let was_parked = self.parked.remove(&letter.offset).is_some();
            let was_dead = self.dead.insert(letter.offset, letter.clone()).is_some();
            if !was_dead && !was_parked {
                keep(letter.offset, true);
            }
        }
        for offset in revived {
            if self.dead.remove(offset).is_some() {
                let again = Parked { offset: *offset, due: Some(Timestamp(0)), attempts: Vec::new() };
                self.parked.insert(*offset, again);
            }
        }
        for offset in dropped {
            if self.dead.remove(offset).is_some() {
                keep(*offset, false);
            }
        }
        self.cursor = self.settled.advance(self.cursor);
    }

    /// What is settled in this part of the log is open again, what is parked stays so. Nothing else changes. Gives the dead
    /// letters that are no more.
    fn reopen(&mut self, replay: &Replay) -> Vec<Offset> {
        let Replay { from, to, dead } = *replay;
        let mut gone = Vec::new();
        if dead {
            gone.extend(self.dead.range(from..to.max(from)).map(|(offset, _)| *offset));
            self.dead.retain(|offset, _| !(from..to).contains(offset));
        }
        let mut settled = OffsetSet::default();
        for (start, end) in self.settled.runs().chain([(from.min(self.cursor), self.cursor)]) {
            settled.insert_run(start, end.min(from));
            settled.insert_run(start.max(to), end);
        }
        let kept = self.parked.range(from..to.max(from)).map(|(offset, _)| *offset);
        for offset in kept.chain(self.dead.range(from..to.max(from)).map(|(offset, _)| *offset)) {
            if !mutant("replay-doubles-parked") {
                settled.insert(offset);
            }
        }
        self.settled = settled;
        self.cursor = self.settled.advance(self.cursor.min(from));
        gone
    }

    fn mark(&mut self, offset: Offset) {
        if offset >= self.cursor {
            self.settled.insert(offset);
        }
    }

    /// The lowest offset that it may still need, without what a view keeps for it if `viewed`.
    pub fn needed_from(&self, viewed: bool) -> Offset {
        if viewed { self.cursor } else { self.cursor.min(self.held_from()) }
    }

    fn held_from(&self) -> Offset {
        let first = |kept: Option<&Offset>| kept.copied().unwrap_or(u64::MAX);
        first(self.parked.keys().next()).min(first(self.dead.keys().next()))
    }
}

impl SubState {
    /// The same as the plain value that engines hand out.
    pub fn snapshot(&self) -> SubscriptionState {
        let Progress { cursor, settled, parked, dead } = &self.progress;
        SubscriptionState {
            cursor: *cursor,
            settled: settled.runs().collect(),
            parked: parked.values().cloned().collect(),
            dead: dead.values().cloned().collect(),
            generation: self.generation,
        }
    }
}

impl KvSpace {
    fn write(&mut self, op: &KvWrite, version: KvVersion) {
        match op {
            KvWrite::Set { key, value } => self.set(key, value.clone(), version),
            KvWrite::Delete { key } => {
                if let Some(entry) = self.entries.remove(key) {
                    self.bytes -= key.len() + entry.value.len();
                }
            }
            KvWrite::Increment { key, by } => {
                let now = self.entries.get(key).and_then(|entry| decimal(&entry.value)).unwrap_or(0);
                self.set(key, now.saturating_add(*by).to_string().into(), version);
            }
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: Bytes, version: KvVersion) {
        self.bytes += value.len();
        if let Some(entry) = self.entries.get_mut(key) {
            self.bytes -= entry.value.len();
            *entry = KvEntry { value, version };
        } else {
            self.bytes += key.len();
            self.entries.insert(key.into(), KvEntry { value, version });
        }
    }
}

/// The integer that an increment counts from; none when the value is not one (then it counts from 0).
pub(crate) fn decimal(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use busway_types::{Attempt, DeadReason};

    const SUB: SubId = SubId(0);

    fn service() -> ServiceName {
        "s".parse().expect("a name")
    }

    fn kv(state: &mut State, key: &str) -> (Option<Bytes>, KvVersion) {
        state.kv_get(&service(), key).expect("in memory")
    }

    fn with_sub() -> State {
        let mut state = State::default();
        let created = SubChange::Created { id: SUB, name: "s".into(), service: service(), cursor: 0 };
        state.apply(&Txn { seq: 1, subs: vec![created], ..Txn::default() });
        state.next_offset = 100;
        state
    }

    fn settle(state: &mut State, record: SettleRecord) {
        let seq = state.next_seq;
        state.apply(&Txn { seq, first_offset: 100, settlement: Some(record), ..Txn::default() });
    }

    fn progress(state: &State) -> SubscriptionState {
        state.subs[&SUB].snapshot()
    }

    fn parked(offset: Offset) -> Parked {
        Parked { offset, due: Some(Timestamp(5)), attempts: vec![Attempt { time: Timestamp(4), error: "no".into() }] }
    }

    fn dead(offset: Offset) -> DeadLetter {
        DeadLetter { offset, reason: DeadReason::Rejected, time: Timestamp(6), attempts: Vec::new() }
    }

    #[test]
    fn the_cursor_passes_what_was_settled_out_of_order() {
        let mut state = with_sub();
        settle(&mut state, SettleRecord { acked: vec![1, 2, 5], ..SettleRecord::of(SUB) });
        assert_eq!(
            progress(&state),
            SubscriptionState { settled: vec![(1, 3), (5, 6)], ..SubscriptionState::default() }
        );
        settle(&mut state, SettleRecord { acked: vec![0], ..SettleRecord::of(SUB) });
        assert_eq!(
            progress(&state),
            SubscriptionState { cursor: 3, settled: vec![(5, 6)], ..SubscriptionState::default() }
        );
        settle(&mut state, SettleRecord { cursor: 5, ..SettleRecord::of(SUB) });
        assert_eq!(progress(&state), SubscriptionState { cursor: 6, ..SubscriptionState::default() });
        settle(&mut state, SettleRecord { cursor: 2, ..SettleRecord::of(SUB) });
        assert_eq!(progress(&state).cursor, 6, "a cursor never moves back");
    }

    #[test]
    fn an_event_is_parked_then_dead_then_parked_again_then_gone() {
        let mut state = with_sub();
        settle(&mut state, SettleRecord { cursor: 4, parked: vec![parked(3)], ..SettleRecord::of(SUB) });
        assert_eq!(progress(&state).parked, vec![parked(3)]);
        assert_eq!(state.needed_from(), 3);
        settle(&mut state, SettleRecord { dead: vec![dead(3)], ..SettleRecord::of(SUB) });
        assert_eq!((progress(&state).parked, progress(&state).dead), (vec![], vec![dead(3)]));
        settle(&mut state, SettleRecord { revived: vec![3], ..SettleRecord::of(SUB) });
        let again = Parked { offset: 3, due: Some(Timestamp(0)), attempts: vec![] };
        assert_eq!((progress(&state).parked, progress(&state).dead), (vec![again], vec![]));
        settle(&mut state, SettleRecord { acked: vec![3], ..SettleRecord::of(SUB) });
        assert_eq!(progress(&state), SubscriptionState { cursor: 4, ..SubscriptionState::default() });
        assert_eq!(state.needed_from(), 4);
    }

    fn replay(state: &mut State, from: Offset, to: Offset, dead: bool) {
        let generation = state.subs[&SUB].generation + 1;
        let moved = SubChange::Moved { id: SUB, generation, replay: Replay { from, to, dead } };
        let seq = state.next_seq;
        state.apply(&Txn { seq, first_offset: 100, subs: vec![moved], ..Txn::default() });
    }

    #[test]
    fn a_replay_opens_what_was_settled_in_its_part_and_nothing_else() {
        let mut state = with_sub();
        let record = SettleRecord { cursor: 20, parked: vec![parked(7), parked(30)], ..SettleRecord::of(SUB) };
        settle(&mut state, SettleRecord { dead: vec![dead(9)], acked: vec![25, 28], ..record });
        replay(&mut state, 5, 10, false);
        let after = progress(&state);
        assert_eq!((after.cursor, after.generation), (5, 1));
        assert_eq!(after.settled, [(7, 8), (9, 20), (25, 26), (28, 29), (30, 31)], "20 to 25 was open before");
        assert_eq!((after.parked, after.dead), (vec![parked(7), parked(30)], vec![dead(9)]));
        assert_eq!(state.needed_from(), 5, "what it is to get again is kept for it");
        replay(&mut state, 9, 26, true);
        let after = progress(&state);
        assert_eq!((after.cursor, &after.settled[..]), (5, &[(7, 8), (28, 29), (30, 31)][..]));
        assert_eq!((after.dead, after.generation), (vec![], 2));
        settle(&mut state, SettleRecord { cursor: 27, ..SettleRecord::of(SUB) });
        replay(&mut state, 50, 60, false);
        assert_eq!(progress(&state).cursor, 27, "nothing is skipped");
    }

    #[test]
    fn only_what_is_dead_is_revived_or_dropped() {
        let mut state = with_sub();
        settle(&mut state, SettleRecord { cursor: 9, dead: vec![dead(7), dead(8)], ..SettleRecord::of(SUB) });
        settle(&mut state, SettleRecord { revived: vec![1], dropped: vec![7, 2], ..SettleRecord::of(SUB) });
        assert_eq!((progress(&state).parked, progress(&state).dead), (vec![], vec![dead(8)]));
    }

    #[test]
    fn key_value_keeps_versions_and_totals() {
        let mut state = State::default();
        let write = |state: &mut State, op| {
            let seq = state.next_seq;
            state.apply(&Txn { seq, kv: vec![KvRecord { service: service(), op }], ..Txn::default() });
        };
        write(&mut state, KvWrite::Set { key: "k".into(), value: Bytes::from_static(b"41") });
        assert_eq!(kv(&mut state, "k"), (Some(Bytes::from_static(b"41")), 1));
        write(&mut state, KvWrite::Increment { key: "k".into(), by: 59 });
        assert_eq!(kv(&mut state, "k"), (Some(Bytes::from_static(b"100")), 2));
        assert_eq!(state.kv_bytes(&service()).expect("in memory"), 4);
        write(&mut state, KvWrite::Increment { key: "n".into(), by: i64::MIN });
        write(&mut state, KvWrite::Increment { key: "n".into(), by: -1 });
        assert_eq!(kv(&mut state, "n").0, Some(Bytes::from(i64::MIN.to_string())));
        write(&mut state, KvWrite::Delete { key: "n".into() });
        write(&mut state, KvWrite::Delete { key: "k".into() });
        assert_eq!((kv(&mut state, "k"), state.kv_bytes(&service()).expect("in memory")), ((None, 0), 0));
    }

    #[test]
    fn a_transaction_counts_once() {
        let mut state = State::default();
        let op = KvWrite::Increment { key: "n".into(), by: 1 };
        let txn = Txn { seq: 1, kv: vec![KvRecord { service: service(), op }], ..Txn::default() };
        state.apply(&txn);
        let once = state.clone();
        state.apply(&txn);
        assert_eq!(state, once);
    }

    #[test]
    fn a_detached_subscription_still_holds_the_log_and_a_forgotten_one_does_not() {
        let mut state = with_sub();
        let apply = |state: &mut State, change| {
            let seq = state.next_seq;
            state.apply(&Txn { seq, first_offset: 100, subs: vec![change], ..Txn::default() });
        };
        apply(&mut state, SubChange::Detached { id: SUB, at: Timestamp(9) });
        assert_eq!((state.needed_from(), state.subs[&SUB].detached_since), (0, Some(Timestamp(9))));
        apply(&mut state, SubChange::Attached { id: SUB });
        assert_eq!(state.subs[&SUB].detached_since, None);
        apply(&mut state, SubChange::Forgotten { id: SUB });
        assert_eq!((state.needed_from(), state.next_sub), (100, 1));
    }
}
