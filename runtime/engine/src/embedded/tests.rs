//! The embedded engine keeps the contract, in memory and on disk.

mod dedup;
mod interval;
mod retention;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use busway_log::testing::MemFs;
use busway_log::{Durability, RealFs};
use busway_types::{Clock, Draft, Event, EventId, Limits, Timestamp};
use bytes::Bytes;

use super::{Embedded, Storage};
use crate::conformance::{self, Fixture, NOW};
use crate::{Engine, EngineError, ReadRequest, Room};

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn monotonic_ns(&self) -> u64 {
        0
    }
}

fn open(storage: &Storage, limits: Limits) -> Arc<dyn Engine> {
    let engine = Embedded::open(storage, Arc::new(RealFs), Arc::new(Fixed), limits);
    Arc::new(engine.expect("the engine opens"))
}

struct Memory;

impl Fixture for Memory {
    fn limited(&self, limits: Limits) -> Arc<dyn Engine> {
        open(&Storage::Memory, limits)
    }
    fn reopen(&self) -> Option<Arc<dyn Engine>> {
        None
    }
}

struct Disk {
    root: PathBuf,
    durability: Durability,
    opened: AtomicU32,
}

impl Disk {
    fn storage(&self) -> Storage {
        let dir = self.root.join(self.opened.load(Ordering::Relaxed).to_string());
        Storage::Disk { dir, durability: self.durability }
    }
}

impl Fixture for Disk {
    fn limited(&self, limits: Limits) -> Arc<dyn Engine> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        open(&self.storage(), limits)
    }
    fn reopen(&self) -> Option<Arc<dyn Engine>> {
        Some(open(&self.storage(), Limits::default()))
    }
}

#[test]
fn memory_keeps_the_contract() {
    conformance::run(&Memory);
}

#[test]
fn disk_keeps_the_contract_whatever_its_durability() {
    for durability in [Durability::Sync, Durability::Interval(Duration::from_millis(20)), Durability::Memory] {
        let root = tempfile::tempdir().expect("a folder");
        conformance::run(&Disk { root: root.path().to_owned(), durability, opened: AtomicU32::new(0) });
    }
}

/// On a disk in memory.
fn on(fs: &MemFs, limits: Limits) -> Embedded {
    let storage = Storage::Disk { dir: "/data".into(), durability: Durability::Sync };
    Embedded::open(&storage, Arc::new(fs.clone()), Arc::new(Fixed), limits).expect("the engine opens")
}

fn event(number: u128, data: &Bytes) -> Arc<Event> {
    let draft = Draft::new("t".parse().expect("a topic"), data.clone());
    Arc::new(draft.admit(EventId::from_u128(number), NOW, &Limits::default()).expect("a valid event"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// It left the tail in memory before the log has written it: it is not gone.
#[test]
fn an_event_that_is_not_written_yet_can_be_fetched() {
    let fs = MemFs::new();
    let engine = on(&fs, Limits { recent_bytes: 1_024, ..Limits::default() });
    fs.set_sync_time(Duration::from_millis(200));
    let data = Bytes::from(vec![b'x'; 2_048]);
    let answers: Vec<_> = (0..5).map(|number| engine.publish(vec![event(number, &data)])).collect();
    let found = engine.fetch(0, &[1, 2]).expect("fetched");
    assert_eq!(found.iter().map(|logged| logged.offset).collect::<Vec<_>>(), [1, 2]);
    for answer in answers {
        assert!(runtime().block_on(answer).is_ok());
    }
    engine.close().expect("closed");
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded() {
    let fs = MemFs::new();
    let engine = on(&fs, Limits::default());
    fs.set_sync_time(Duration::from_millis(500));
    let data = Bytes::from(vec![b'x'; 1024 * 1024 - 100]);
    let mut answers = Vec::new();
    // More than the bound, and what the committer may have taken already.
    let mut room = engine.room();
    while room == Room::Enough && answers.len() < 256 {
        answers.push(engine.publish(vec![event(answers.len() as u128, &data)]));
        room = engine.room();
    }
    assert_eq!(room, Room::NoPublishers, "{} MiB were taken", answers.len());
    fs.set_sync_time(Duration::ZERO);
    assert!(answers.len() > 60, "{} MiB were taken", answers.len());
    assert!(answers.into_iter().all(|answer| runtime().block_on(answer).is_ok()), "what was taken is kept");
    assert_eq!(engine.room(), Room::Enough);
    engine.close().expect("closed");
}

#[test]
fn after_a_failure_everybody_is_told_its_cause() {
    let fs = MemFs::new();
    let engine = on(&fs, Limits::default());
    let publish = || runtime().block_on(engine.publish(vec![event(1, &Bytes::from_static(b"x"))]));
    publish().expect("the disk is sound");
    fs.fail_writes_after(0, std::io::ErrorKind::Other);
    let told = publish().expect_err("the disk fails").to_string();
    let check = |text: &str| text.contains("check the disk");
    assert!(check(&told), "{told}");
    for error in [publish().map(drop), engine.tick(NOW).map(drop), engine.fetch(0, &[0]).map(drop), engine.close()] {
        let error = error.expect_err("nothing is taken after a failure");
        assert!(matches!(&error, EngineError::Failed(why) if check(why)), "{error}");
    }
}

#[test]
fn a_full_disk_stops_publishers_then_transactions_and_ends_when_there_is_room() {
    let fs = MemFs::new();
    let engine = on(&fs, Limits::default());
    let publish = |kib: usize| {
        let data = Bytes::from(vec![7; kib * 1024]);
        runtime().block_on(engine.publish(vec![event(1, &data)])).expect("published");
    };
    let wait_for = |room: Room| {
        let found = (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            engine.room() == room
        });
        assert!(found, "{room:?} was expected, not {:?}", engine.room());
    };
    // The first segment and the reserve are there, and there is no room for more.
    let prepared = |fs: &MemFs| fs.files().values().filter(|size| **size >= 4 << 20).count();
    assert!((0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        prepared(&fs) == 2
    }));
    fs.set_capacity(Some(9 << 20));
    assert_eq!(engine.room(), Room::Enough);
    for _ in 0..3 {
        publish(900);
    }
    wait_for(Room::NoPublishers);
    publish(900);
    wait_for(Room::NoTransactions);
    // What is still written then goes on into the reserve.
    for _ in 0..200 {
        publish(1);
    }
    publish(900);
    fs.set_capacity(None);
    wait_for(Room::Enough);
    publish(900);
    engine.close().expect("closes");
    assert_eq!(on(&fs, Limits::default()).status().head, 206);
}

#[test]
fn damage_in_an_old_segment_is_refused_when_it_is_read_with_its_file_and_byte() {
    let fs = MemFs::new();
    let limits = || Limits { recent_bytes: 1_024, ..Limits::default() };
    let engine = on(&fs, limits());
    let data = Bytes::from(vec![b'x'; 900 * 1024]);
    // Two segments, the first of them full and covered by a checkpoint.
    for number in 0..8 {
        runtime().block_on(engine.publish(vec![event(number, &data)])).expect("published");
    }
    let footer = |fs: &MemFs| fs.files().keys().any(|path| path.extension().is_some_and(|e| e == "idx"));
    assert!((0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        footer(&fs)
    }));
    engine.close().expect("closed");
    let first = fs.files().into_keys().find(|path| path.extension().is_some_and(|e| e == "seg")).expect("a segment");
    assert!(fs.edit(&first, |bytes| bytes[500_000] ^= 1));
    let engine = on(&fs, limits());
    let request = |from| ReadRequest { from, patterns: Arc::new([]), max_events: 10, max_bytes: usize::MAX };
    let error = engine.read(0, &request(0)).expect_err("damaged").to_string();
    assert!(error.starts_with(&format!("{} is damaged at byte 64", first.display())), "{error}");
    assert_eq!(engine.read(0, &request(6)).expect("intact").events.len(), 2);
}
