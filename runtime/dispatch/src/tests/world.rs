//! A fake engine and fake lanes for the simulation.
//!
//! Role: the engine keeps what is durable by applying settlements, and refuses what the machine may never do; the lanes
//! run chunks by the lane's rule. Nothing here decides about delivery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use busway_types::{
    Chunk, DeadLetter, DeliveryResult, Effects, Entropy, Event, KvRead, Logged, Offset, Ordering, Outcome, Parked,
    Replay, Report, Settle, Settlement, SplitMix, SubId, SubscriptionSpec, SubscriptionState, Timestamp, Verdict,
};

/// What is durable of one subscription, and what the checks need to know.
pub(crate) struct Durable {
    pub(crate) spec: SubscriptionSpec,
    pub(crate) cursor: Offset,
    /// Acked or dead or parked, all offsets ever.
    pub(crate) settled: BTreeSet<Offset>,
    pub(crate) parked: BTreeMap<Offset, Parked>,
    pub(crate) dead: BTreeMap<Offset, DeadLetter>,
    pub(crate) acked: BTreeSet<Offset>,
    /// No order is promised for these: called back, or bodies that were gone.
    pub(crate) loose: BTreeSet<Offset>,
    pub(crate) dropped: BTreeSet<Offset>,
    pub(crate) expired: BTreeSet<Offset>,
    pub(crate) generation: u32,
    /// Whether order is checked: the ordering was never changed.
    pub(crate) ordered: bool,
    last_acked: BTreeMap<u64, Offset>,
    /// Which attempt was the last one handed out; never more than the policy's.
    pub(crate) queue: VecDeque<Settlement>,
}

impl Durable {
    pub(crate) fn new(spec: SubscriptionSpec, ordered: bool) -> Self {
        Self {
            spec,
            cursor: 0,
            settled: BTreeSet::new(),
            parked: BTreeMap::new(),
            dead: BTreeMap::new(),
            acked: BTreeSet::new(),
            loose: BTreeSet::new(),
            dropped: BTreeSet::new(),
            expired: BTreeSet::new(),
            generation: 0,
            ordered,
            last_acked: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn selects(&self, event: &Event) -> bool {
        self.spec.patterns.iter().any(|pattern| pattern.matches(&event.topic))
            && (self.spec.own_events || event.causality.source.as_ref() != Some(&self.spec.service))
    }

    pub(crate) fn state(&self) -> SubscriptionState {
        SubscriptionState {
            cursor: self.cursor,
            settled: self.settled.range(self.cursor..).map(|offset| (*offset, *offset + 1)).collect(),
            parked: self.parked.values().cloned().collect(),
            dead: self.dead.values().cloned().collect(),
            generation: self.generation,
        }
    }

    fn group(&self, event: &Event) -> Option<u64> {
        crate::queue::group_of(self.spec.ordering, event)
    }

    /// Sequences the oldest settlement, leaving out what conflicts.
    pub(crate) fn sequence(&mut self, log: &[Arc<Event>], random: Option<&mut SplitMix>) -> Option<(u64, Vec<Offset>)> {
        let Settlement { token, sub: _, cursor, settles } = self.queue.pop_front()?;
        let mut conflicts = Vec::new();
        let mut groups = BTreeSet::new();
        let mut random = random;
        for settle in settles {
            let reads = matches!(&settle.verdict, Verdict::Acked(Some(effects)) if effects.may_conflict());
            let void = settle.group.is_some_and(|group| groups.contains(&group));
            let conflict = reads && random.as_mut().is_some_and(|random| random.next_u64().is_multiple_of(3));
            if void || conflict {
                groups.extend(settle.group);
                conflicts.push(settle.offset);
            } else {
                self.apply(settle, log);
            }
        }
        let kept = |offset: &Offset| *offset >= cursor || self.parked.contains_key(offset);
        assert!(conflicts.iter().all(kept), "the cursor passed a conflict");
        self.advance(cursor, log);
        Some((token, conflicts))
    }

    pub(crate) fn advance(&mut self, cursor: Offset, log: &[Arc<Event>]) {
        assert!(cursor <= log.len() as u64, "the cursor passed the head");
        for offset in self.cursor..cursor {
            let lost = self.selects(&log[offset as usize]) && !self.settled.contains(&offset);
            assert!(!lost, "the cursor {cursor} of {} passed {offset}", self.spec.name);
        }
        self.cursor = self.cursor.max(cursor);
    }

    /// Whether a settlement that is not sequenced yet parks or revives it.
    pub(crate) fn is_being_parked(&self, offset: Offset) -> bool {
        let parks = |verdict: &Verdict| matches!(verdict, Verdict::Parked(_) | Verdict::Revived);
        self.queue.iter().flat_map(|s| &s.settles).any(|s| s.offset == offset && parks(&s.verdict))
    }

    /// Opens a part of the log again.
    pub(crate) fn reopen(&mut self, replay: &Replay) {
        assert!(self.queue.is_empty(), "moved with a settlement on its way");
        self.generation += 1;
        for offset in replay.from..replay.to {
            if replay.dead && self.dead.remove(&offset).is_some() {
                self.settled.remove(&offset);
            }
            if !self.parked.contains_key(&offset) && !self.dead.contains_key(&offset) {
                self.settled.remove(&offset);
                self.acked.remove(&offset);
                self.dropped.remove(&offset);
                self.expired.remove(&offset);
            }
        }
        self.cursor = self.cursor.min(replay.from);
        // Order begins anew.
        self.last_acked.clear();
    }

    fn apply(&mut self, settle: Settle, log: &[Arc<Event>]) {
        let Settle { offset, group: _, event, verdict } = settle;
        let is_new = !self.settled.contains(&offset) || self.parked.contains_key(&offset);
        let carries = matches!(verdict, Verdict::Parked(_) | Verdict::Dead { .. });
        assert_eq!(event.is_some(), carries, "parked and dead events are carried, others are not");
        self.settled.insert(offset);
        match verdict {
            Verdict::Acked(_) => {
                assert!(is_new, "{offset} took effect twice");
                self.parked.remove(&offset);
                assert!(self.acked.insert(offset), "{offset} took effect twice");
                self.check_order(offset, &log[offset as usize]);
            }
            Verdict::Expired => {
                assert!(is_new, "{offset} expired after it was settled");
                assert!(log[offset as usize].expires.is_some(), "{offset} cannot expire");
                self.parked.remove(&offset);
                self.expired.insert(offset);
            }
            Verdict::Parked(parked) => {
                assert!(is_new, "{offset} was parked after it was settled");
                assert!(parked.attempts.len() < self.spec.retry.attempts as usize, "too many attempts");
                self.parked.insert(offset, parked);
            }
            Verdict::Dead { reason, time, attempts } => {
                assert!(is_new, "{offset} died twice");
                assert!(attempts.len() <= self.spec.retry.attempts as usize, "too many attempts");
                self.parked.remove(&offset);
                self.dead.insert(offset, DeadLetter { offset, reason, time, attempts });
            }
            Verdict::Revived => {
                assert!(self.dead.remove(&offset).is_some(), "{offset} is no dead letter");
                self.loose.insert(offset);
                self.parked.insert(offset, Parked { offset, due: Some(Timestamp(0)), attempts: Vec::new() });
            }
            Verdict::Dropped => {
                assert!(self.dead.remove(&offset).is_some(), "{offset} is no dead letter");
                self.dropped.insert(offset);
            }
        }
    }

    fn check_order(&mut self, offset: Offset, event: &Event) {
        if !self.ordered || self.loose.contains(&offset) {
            return;
        }
        if let Some(group) = self.group(event) {
            let last = self.last_acked.insert(group, offset);
            assert!(last.is_none_or(|last| last < offset), "{offset} was handled after {last:?} in {}", self.spec.name);
        }
    }

    /// After everything drained: each selected event was handled or given up, exactly one of it.
    pub(crate) fn check_complete(&self, log: &[Arc<Event>]) {
        assert!(self.parked.is_empty(), "parked events are left: {:?}", self.parked);
        for (offset, event) in (0..).zip(log) {
            let ends = usize::from(self.acked.contains(&offset))
                + usize::from(self.dead.contains_key(&offset))
                + usize::from(self.expired.contains(&offset))
                + usize::from(self.dropped.contains(&offset));
            assert_eq!(ends, usize::from(self.selects(event)), "{offset} in {} ended {ends} times", self.spec.name);
        }
    }
}

/// A chunk on a lane.
pub(crate) struct Running {
    pub(crate) chunk: Chunk,
    done: usize,
    failed: BTreeSet<u64>,
    all_failed: bool,
    stopped: bool,
}

impl Running {
    pub(crate) fn new(chunk: Chunk) -> Self {
        Self { chunk, done: 0, failed: BTreeSet::new(), all_failed: false, stopped: false }
    }

    /// The groups of the deliveries that are not reported yet.
    pub(crate) fn groups(&self) -> BTreeSet<u64> {
        let rest = &self.chunk.deliveries[self.done..];
        rest.iter().filter_map(|delivery| crate::queue::group_of(self.chunk.ordering, &delivery.logged.event)).collect()
    }

    /// Runs up to `most` deliveries; everything is acknowledged when `kind`.
    pub(crate) fn run(&mut self, most: usize, kind: bool, random: &mut SplitMix) -> Report {
        let mut results = Vec::new();
        while results.len() < most && self.done < self.chunk.deliveries.len() {
            let logged = self.chunk.deliveries[self.done].logged.clone();
            self.done += 1;
            results.push(self.run_one(&logged, kind, random));
        }
        let finished = self.done == self.chunk.deliveries.len();
        Report { chunk: self.chunk.id, sub: self.chunk.sub, results, finished }
    }

    fn run_one(&mut self, logged: &Logged, kind: bool, random: &mut SplitMix) -> DeliveryResult {
        let group = crate::queue::group_of(self.chunk.ordering, &logged.event);
        let void = self.stopped || self.all_failed || group.is_some_and(|group| self.failed.contains(&group));
        let outcome = if void { Outcome::Skipped } else { pick(kind, random) };
        if outcome != Outcome::Acked && !void {
            self.failed.extend(group);
            self.all_failed |= self.chunk.ordering == Ordering::Strict;
            self.stopped |= matches!(outcome, Outcome::Trapped { .. } | Outcome::TimedOut { .. });
        }
        let effects = (outcome == Outcome::Acked && random.next_u64().is_multiple_of(4)).then(|| {
            let read = KvRead { key: "k".into(), version: Some(1), own: false };
            Box::new(Effects { reads: vec![read], ..Effects::default() })
        });
        DeliveryResult { offset: logged.offset, outcome, effects, busy_ns: 1 + random.next_u64() % 2_000_000 }
    }
}

fn pick(kind: bool, random: &mut SplitMix) -> Outcome {
    let reason = || "why".to_owned();
    match random.next_u64() % 16 {
        _ if kind => Outcome::Acked,
        0 => Outcome::Retry { reason: reason(), after: None },
        1 => Outcome::Retry { reason: reason(), after: Some(Duration::from_millis(random.next_u64() % 100)) },
        2 => Outcome::Rejected { reason: reason() },
        3 => Outcome::Trapped { reason: reason() },
        4 => Outcome::TimedOut { reason: reason() },
        5 => Outcome::Skipped,
        _ => Outcome::Acked,
    }
}

/// A read that the machine asked for.
pub(crate) struct Asked {
    pub(crate) sub: SubId,
    pub(crate) from: Offset,
    pub(crate) max_events: usize,
}

impl Asked {
    /// What an engine answers.
    pub(crate) fn answer(&self, durable: &Durable, log: &[Arc<Event>]) -> (Vec<Logged>, Offset) {
        let mut events = Vec::new();
        let mut next = self.from;
        while next < log.len() as u64 && events.len() < self.max_events {
            let event = &log[next as usize];
            if durable.spec.patterns.iter().any(|pattern| pattern.matches(&event.topic)) {
                events.push(Logged { offset: next, event: Arc::clone(event) });
            }
            next += 1;
        }
        (events, next)
    }
}
