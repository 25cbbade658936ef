//! Space on disk: what is given back, who holds it, and what happens at the limit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use busway_log::testing::MemFs;
use busway_log::{Durability, Fs, RealFs};
use busway_types::{DeadReason, Event, Limits, Offset, Retention, Settle, StartAt, SubId, Timestamp, Verdict};
use bytes::Bytes;

use super::Fixed;
use crate::conformance::{NOW, event, spec};
use crate::embedded::{Embedded, Storage};
use crate::{Engine, Epoch, Partition, Room, Settled, Sink};

const MIB: u64 = 1024 * 1024;

struct Deaf;

impl Sink for Deaf {
    fn assigned(&self, _: Partition, _: Epoch, _: Offset) {}
    fn appended(&self, _: Partition, _: busway_types::Batch) {}
    fn delayed(&self, _: Partition, _: Timestamp) {}
    fn settled(&self, _: Partition, _: Settled) {}
    fn revoked(&self, _: Partition) {}
    fn failed(&self, error: crate::EngineError) {
        panic!("the engine failed: {error}");
    }
}

/// An engine whose time goes on with each tick.
struct Bench {
    engine: Embedded,
    now: Timestamp,
    published: u128,
}

impl Bench {
    fn new(storage: &Storage, limits: Limits) -> Self {
        Self::over(Arc::new(MemFs::new()), storage, limits)
    }

    fn over(fs: Arc<dyn Fs>, storage: &Storage, limits: Limits) -> Self {
        let engine = Embedded::open(storage, fs, Arc::new(Fixed), limits).expect("the engine opens");
        engine.start(Arc::new(Deaf)).expect("it starts");
        Self { engine, now: NOW, published: 0 }
    }

    fn on_disk(retention: Retention, disk_bytes: u64) -> Self {
        let storage = Storage::Disk { dir: PathBuf::from("/data/bus"), durability: Durability::Sync };
        Self::new(&storage, Limits { retention, disk_bytes, ..Limits::default() })
    }

    /// Publishes that many events of nearly a mebibyte; gives the head.
    fn publish(&mut self, count: u64) -> Offset {
        for _ in 0..count {
            self.published += 1;
            let data = Bytes::from(vec![7; 1024 * 1024 - 300]);
            let event = Event { data, time: self.now, ..event(self.published, b"") };
            let answer = self.engine.publish(vec![Arc::new(event)]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(answer).expect("published");
        }
        self.engine.status().head
    }

    fn tick(&mut self) {
        self.now = self.now.after(Duration::from_secs(2));
        self.engine.tick(self.now).expect("ticked");
    }

    /// Makes a dead letter of each of these events.
    fn give_up(&self, sub: SubId, offsets: std::ops::Range<Offset>) {
        let dead = || Verdict::Dead { reason: DeadReason::Rejected, time: NOW, attempts: Vec::new() };
        let settle = |offset| Settle { offset, group: None, event: None, verdict: dead() };
        let cursor = offsets.end;
        let settlement = busway_types::Settlement { token: 1, sub, cursor, settles: offsets.map(settle).collect() };
        self.engine.settle(0, 1, settlement).expect("settled");
    }

    fn subscribe(&self, name: &str) -> SubId {
        self.engine.subscribe(0, 1, &spec(name, StartAt::Start)).expect("subscribed").0
    }

    /// Ticks until the log has at most that many bytes; checkpoints are made in the background.
    fn shrinks_to(&mut self, bytes: u64) {
        self.until(|bench| bench.engine.status().bytes <= bytes, "it shrinks");
    }

    fn until(&mut self, condition: impl Fn(&Self) -> bool, what: &str) {
        for _ in 0..3_000 {
            self.tick();
            if condition(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}: {:?}, {:?}", self.engine.status(), self.names());
    }

    fn names(&self) -> Vec<String> {
        self.engine.subscriptions().into_iter().map(|sub| sub.name).collect()
    }
}

#[test]
fn what_everybody_has_is_given_back_by_size() {
    let mut bench = Bench::on_disk(Retention { bytes: Some(0), time: None }, 1_000 * MIB);
    let sub = bench.subscribe("s");
    let head = bench.publish(30);
    bench.tick();
    assert!(bench.engine.status().bytes > 25 * MIB, "it is needed");
    assert_eq!(bench.engine.status().oldest, 0);
    bench.engine.advance(0, 1, sub, head);
    bench.shrinks_to(16 * MIB);
    assert!(bench.engine.status().oldest > 0);
}

#[test]
fn what_everybody_has_is_given_back_by_age() {
    let day = Duration::from_hours(24);
    let mut bench = Bench::on_disk(Retention { bytes: None, time: Some(day) }, 1_000 * MIB);
    bench.publish(30);
    bench.tick();
    bench.tick();
    assert_eq!(bench.engine.status().oldest, 0, "it is history, and young");
    bench.now = bench.now.after(day);
    bench.shrinks_to(16 * MIB);
}

#[test]
fn a_slow_subscription_keeps_its_events_and_is_named_at_the_limit() {
    let mut bench = Bench::on_disk(Retention::default(), 40 * MIB);
    let slow = bench.subscribe("slow");
    bench.publish(30);
    bench.tick();
    assert_eq!((bench.engine.status().warning, bench.engine.room()), (None, Room::Enough));
    let head = bench.publish(4);
    bench.tick();
    let warning = bench.engine.status().warning.expect("at 80 % it is said");
    assert!(warning.contains("`slow`") && warning.contains("limits.disk-bytes"), "{warning}");
    assert_eq!(bench.engine.room(), Room::NoPublishers);
    assert_eq!((bench.engine.status().oldest, bench.names()), (0, vec!["slow".to_owned()]), "nothing is given up");
    bench.engine.advance(0, 1, slow, head);
    bench.shrinks_to(20 * MIB);
    assert_eq!((bench.engine.status().warning, bench.engine.room()), (None, Room::Enough));
}

#[test]
fn a_dead_letter_of_a_service_that_is_there_holds_the_log_and_is_named() {
    let mut bench = Bench::on_disk(Retention::default(), 40 * MIB);
    let sub = bench.subscribe("picky");
    bench.publish(1);
    bench.give_up(sub, 0..1);
    let head = bench.publish(34);
    bench.engine.advance(0, 1, sub, head);
    for _ in 0..5 {
        bench.tick();
    }
    assert_eq!(bench.engine.status().oldest, 0);
    assert!(bench.engine.status().warning.is_some_and(|warning| warning.contains("`picky`")));
}

#[test]
fn detached_subscriptions_are_released_when_they_fill_the_disk_and_others_are_not() {
    let mut bench = Bench::on_disk(Retention::default(), 40 * MIB);
    let (gone, idle, live) = (bench.subscribe("gone"), bench.subscribe("idle"), bench.subscribe("live"));
    bench.engine.detach(0, 1, gone, bench.now).expect("detached");
    let middle = bench.publish(30);
    bench.engine.advance(0, 1, idle, middle);
    bench.engine.detach(0, 1, idle, bench.now).expect("detached");
    bench.tick();
    assert_eq!(bench.names(), ["gone", "idle", "live"], "there is room");
    let head = bench.publish(4);
    bench.engine.advance(0, 1, live, head);
    bench.tick();
    assert_eq!(bench.names(), ["idle", "live"], "only what fills the disk goes");
    bench.shrinks_to(20 * MIB);
    assert_eq!(bench.engine.room(), Room::Enough);
}

#[test]
fn an_attached_subscription_is_never_released_for_a_detached_one() {
    let mut bench = Bench::on_disk(Retention::default(), 40 * MIB);
    bench.subscribe("slow");
    bench.publish(2);
    let gone = bench.subscribe("gone");
    bench.engine.advance(0, 1, gone, 2);
    bench.engine.detach(0, 1, gone, bench.now).expect("detached");
    bench.publish(34);
    bench.tick();
    assert_eq!(bench.names(), ["slow", "gone"], "releasing it would give nothing back");
    assert_eq!(bench.engine.status().oldest, 0);
}

#[test]
fn a_detached_subscription_that_is_no_further_behind_than_others_is_kept() {
    let mut bench = Bench::on_disk(Retention::default(), 40 * MIB);
    let gone = bench.subscribe("gone");
    let slow = bench.subscribe("slow");
    bench.publish(2);
    bench.engine.detach(0, 1, gone, bench.now).expect("detached");
    bench.publish(34);
    bench.engine.advance(0, 1, slow, 1);
    bench.tick();
    assert_eq!(bench.names(), ["gone", "slow"], "both need the first segment");
}

#[test]
fn in_memory_detached_subscriptions_are_released_when_what_they_keep_fills_the_memory() {
    let mut bench = Bench::new(&Storage::Memory, Limits { memory_bytes: 20 * 1024 * 1024, ..Limits::default() });
    let (first, second) = (bench.subscribe("first"), bench.subscribe("second"));
    for (sub, count) in [(first, 10), (second, 7)] {
        let from = bench.engine.status().head;
        let head = bench.publish(count);
        let dead = |offset| {
            let verdict = Verdict::Dead { reason: DeadReason::Rejected, time: NOW, attempts: Vec::new() };
            let data = Bytes::from(vec![7; 1024 * 1024 - 300]);
            let event = Some(Arc::new(Event { data, ..event(u128::from(offset), b"") }));
            Settle { offset, group: None, event, verdict }
        };
        let settles = (from..head).map(dead).collect();
        let settlement = busway_types::Settlement { token: u64::from(sub.0), sub, cursor: head, settles };
        bench.engine.settle(0, 1, settlement).expect("settled");
        bench.now = bench.now.after(Duration::from_secs(1));
        bench.engine.detach(0, 1, sub, bench.now).expect("detached");
    }
    assert_eq!(bench.engine.room(), Room::NoPublishers);
    bench.tick();
    assert_eq!(bench.names(), ["second"], "the one that was detached first");
    assert_eq!(bench.engine.room(), Room::Enough);
}

#[test]
fn dead_letters_in_the_view_hold_no_segment_and_those_of_a_removed_service_go_at_the_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Storage::Disk { dir: folder.path().join("data"), durability: Durability::Sync };
    let limits = Limits { disk_bytes: 200 * MIB, ..Limits::default() };
    let mut bench = Bench::over(Arc::new(RealFs), &storage, limits);
    let (there, gone) = (bench.subscribe("there"), bench.subscribe("gone"));
    let first = bench.publish(20);
    bench.give_up(there, 0..first);
    let head = bench.publish(125);
    bench.engine.advance(0, 1, there, head);
    bench.give_up(gone, first..head);
    bench.engine.detach(0, 1, gone, bench.now).expect("detached");
    bench.until(|bench| bench.engine.status().oldest > first, "the log is given back all the same");
    bench.until(|bench| bench.names() == ["there"], "what a removed service left goes");
    bench.until(|bench| bench.engine.room() == Room::Enough, "publishers may go on");
    assert_eq!(bench.engine.fetch(0, &[3]).expect("read").len(), 1, "the others are there");
    bench.until(|bench| bench.engine.status().bytes < 130 * MIB, "its space is given back");
    bench.engine.close().expect("closes");
}
