//! Behaviour of the whole log.

mod crash;
mod damage;
mod faulty;
mod folder;
mod index;
mod reading;
mod stepped;
mod verify;
mod view;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busway_types::{
    Attempt, DeadLetter, DeadReason, Entropy, Event, EventId, Fingerprint, Key, KvWrite, Offset, Origin, Parked,
    ServiceName, SplitMix, SubId, Timestamp,
};
use bytes::Bytes;

use crate::testing::MemFs;
use crate::{Durability, KvRecord, Log, LogError, LogOptions, Recovered, SettleRecord, State, SubChange, Txn, lock};

fn dir() -> PathBuf {
    PathBuf::from("/data/bus")
}

/// Segments so small that a few records fill them.
fn small(durability: Durability) -> LogOptions {
    LogOptions { segment_bytes: 16 * 1024, first_segment_bytes: 4 * 1024, durability, seed: 7, ..LogOptions::default() }
}

fn open(fs: &MemFs, options: LogOptions) -> (Log, Recovered) {
    try_open(fs, options).expect("the log opens")
}

fn try_open(fs: &MemFs, options: LogOptions) -> Result<(Log, Recovered), LogError> {
    Log::open(Arc::new(fs.clone()), &dir(), options)
}

fn event(id: u64, bytes: usize) -> Event {
    Event {
        id: EventId::from_u128(u128::from(id)),
        topic: if id.is_multiple_of(3) { "shop.orders.placed" } else { "shop.orders.cancelled" }
            .parse()
            .expect("a topic"),
        key: id.is_multiple_of(2).then(|| Key::stored(&format!("k{}", id % 7))),
        time: Timestamp(1_700_000_000_000 + id),
        content_type: Some("application/json".into()),
        headers: vec![("h".into(), "v".into())],
        data: Bytes::from(vec![id as u8; bytes]),
        not_before: None,
        expires: None,
        causality: Origin {
            hops: 1,
            chosen_id: id.is_multiple_of(5),
            correlation: Some("c".into()),
            ..Origin::default()
        }
        .into(),
    }
}

fn service() -> ServiceName {
    "stock".parse().expect("a name")
}

/// Makes transactions that use everything a transaction can hold, from a seed.
#[derive(Debug)]
struct Source {
    random: SplitMix,
    state: State,
    txns: Vec<Txn>,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self { random: SplitMix(seed), state: State::default(), txns: Vec::new() }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    /// The next transaction; from here on it counts as submitted.
    fn next(&mut self) -> Txn {
        let (seq, first_offset) = (self.state.next_seq, self.state.next_offset);
        let mut txn = Txn { seq, first_offset, ..Txn::default() };
        if self.state.subs.len() < 2 {
            let id = SubId(self.state.next_sub);
            let name = format!("sub-{}", id.0);
            txn.subs.push(SubChange::Created { id, name, service: service(), cursor: 0 });
        }
        let bytes = if self.below(20) == 0 { 3_000 } else { self.below(200) as usize };
        for i in 0..self.below(4) {
            txn.events.push(Arc::new(event(first_offset + i, bytes)));
        }
        if first_offset > 0 && self.below(2) == 0 {
            txn.settlement = Some(self.settlement(first_offset));
        }
        if self.below(3) == 0 {
            let key = format!("n{}", self.below(5)).into();
            let op = match self.below(4) {
                0 => KvWrite::Set { key, value: Bytes::from(vec![b'x'; 30]) },
                1 => KvWrite::Delete { key },
                _ => KvWrite::Increment { key, by: 1 },
            };
            txn.kv.push(KvRecord { service: service(), op });
        }
        if self.below(5) == 0 {
            let late = Event { not_before: Some(Timestamp(1 + seq * 31 % 97)), ..event(seq, 20) };
            txn.delayed.push((self.state.next_timer, Arc::new(late)));
        } else if let Some((timer, event)) = self.state.delayed.iter().next() {
            if seq.is_multiple_of(5) {
                txn.lapsed.push((*timer, event.not_before.unwrap_or_default()));
            } else {
                txn.fired.push(*timer);
                txn.events.insert(0, event.clone());
            }
        }
        if seq.is_multiple_of(3) && !txn.events.is_empty() {
            let ids = (txn.first_offset..txn.end_offset()).map(|offset| {
                (Fingerprint::of(&event(offset, 0).topic, EventId::from_u128(u128::from(offset))), Some(offset))
            });
            let limits = (Duration::from_secs(40), 100);
            txn.ids = Some(Box::new(self.state.seen.record(ids.collect(), Timestamp(seq * 1_000), limits)));
        }
        self.state.apply(&txn);
        self.txns.push(txn.clone());
        txn
    }

    fn settlement(&mut self, head: Offset) -> SettleRecord {
        let sub = SubId(self.below(2) as u32);
        let cursor = self.state.subs.get(&sub).map_or(0, |s| s.progress.cursor);
        let at = cursor + self.below(3).min(head.saturating_sub(cursor));
        let mut record = SettleRecord { cursor, ..SettleRecord::of(sub) };
        let attempts = vec![Attempt { time: Timestamp(seq_time(at)), error: "failed".into() }];
        match self.below(6) {
            0 => record.parked.push(Parked { offset: at, due: Some(Timestamp(at)), attempts }),
            1 => {
                record.dead.push(DeadLetter { offset: at, reason: DeadReason::Trapped, time: Timestamp(at), attempts });
            }
            2 => record.cursor = head,
            _ => record.acked.extend(at..head.min(at + 3)),
        }
        if let Some(dead) = self.state.subs.get(&sub).and_then(|s| s.progress.dead.keys().next()) {
            if self.random.next_u64().is_multiple_of(2) { &mut record.revived } else { &mut record.dropped }
                .push(*dead);
        }
        record
    }

    /// Forgets what a crash took: goes on after the first `kept` transactions.
    fn back_to(&mut self, kept: usize) {
        self.txns.truncate(kept);
        self.state = state_after(&self.txns);
    }
}

fn seq_time(offset: Offset) -> u64 {
    1_000 + offset
}

fn state_after(txns: &[Txn]) -> State {
    let mut state = State::default();
    for txn in txns {
        state.apply(txn);
    }
    state
}

/// Submits one transaction and waits for it.
fn commit(log: &Log, txn: Txn) -> Result<(), LogError> {
    let (tell, told) = sync_channel(1);
    log.submit(vec![txn], Box::new(move |result| tell.send(result).expect("somebody waits")));
    told.recv().expect("an answer")
}

/// A transaction of one event.
fn bare(seq: u64) -> Txn {
    Txn { seq, first_offset: seq - 1, events: vec![Arc::new(event(seq, 100))], ..Txn::default() }
}

/// What was acknowledged, in the order in which it was.
type Acked = Arc<Mutex<Vec<(u64, Result<(), LogError>)>>>;

/// Submits one transaction and goes on.
fn submit(log: &Log, txn: Txn, acked: &Acked) {
    let (seq, acked) = (txn.seq, acked.clone());
    log.submit(vec![txn], Box::new(move |result| lock(&acked).push((seq, result))));
}

/// All events from `from` on, read in small steps.
fn read_all(log: &Log, from: Offset) -> Vec<(Offset, Arc<Event>)> {
    let mut all = Vec::new();
    let mut at = from;
    while at < log.written_offset() {
        let (events, next) = log.read(at, &[], 7, 2_000).expect("readable");
        assert!(next > at, "a read got no further than {at}");
        all.extend(events.into_iter().map(|logged| (logged.offset, logged.event)));
        at = next;
    }
    all
}

fn events_of(txns: &[Txn]) -> Vec<(Offset, Arc<Event>)> {
    let of = |txn: &Txn| (txn.first_offset..).zip(txn.events.clone()).collect::<Vec<_>>();
    txns.iter().flat_map(of).collect()
}

fn segments(fs: &MemFs) -> Vec<PathBuf> {
    let is_segment = |path: &Path| path.extension().is_some_and(|e| e == "seg");
    fs.files().into_keys().filter(|path| is_segment(path)).collect()
}
