//! What state that outgrows memory costs: `cargo run --release -p busway-engine --example view [keys|delayed] [COUNT]`.
//!
//! Writes that many keys of 200 bytes (2 million unless told) or delayed events (1 million), and prints how long it took
//! and how much memory the process has.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use busway_engine::{
    Durability, Embedded, Engine, EngineError, Epoch, KvSelect, Partition, RealFs, Settled, Sink, Storage,
};
use busway_types::{Batch, Clock, Draft, EventId, KvWrite, Limits, Offset, SystemClock, Timestamp};
use bytes::Bytes;

#[derive(Default)]
struct Count(Mutex<usize>);

impl Sink for Count {
    fn assigned(&self, _: Partition, _: Epoch, _: Offset) {}
    fn appended(&self, _: Partition, batch: Batch) {
        *self.0.lock().expect("no panic") += batch.events.len();
    }
    fn delayed(&self, _: Partition, _: Timestamp) {}
    fn settled(&self, _: Partition, _: Settled) {}
    fn revoked(&self, _: Partition) {}
    fn failed(&self, error: EngineError) {
        panic!("{error}");
    }
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn tell(what: &str, count: usize, since: Duration) {
    let rate = count as f64 / since.as_secs_f64();
    println!("{what}: {count} in {:.1} s ({rate:.0}/s), {} MiB resident", since.as_secs_f64(), memory_mib());
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "keys".into());
    let count = args.next().and_then(|n| n.parse().ok()).unwrap_or(if what == "keys" { 2_000_000 } else { 1_000_000 });
    let dir = tempfile::tempdir().expect("a folder");
    let storage = Storage::Disk { dir: dir.path().join("data"), durability: Durability::Sync };
    let limits = Limits { kv_bytes: usize::MAX, ..Limits::default() };
    let open = || {
        let engine = Embedded::open(&storage, Arc::new(RealFs), Arc::new(SystemClock::new()), limits.clone());
        let (engine, sink) = (engine.expect("it opens"), Arc::new(Count::default()));
        engine.start(sink.clone()).expect("it starts");
        (engine, sink)
    };
    let (engine, _) = open();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let began = Instant::now();
    let mut answers = Vec::new();
    let clock = SystemClock::new();
    let due = clock.now().after(Duration::from_hours(1));
    for from in (0..count).step_by(500) {
        let numbers = from..(from + 500).min(count);
        if what == "keys" {
            let set = |n: usize| KvWrite::Set { key: key(n), value: Bytes::from(vec![n as u8; 200]) };
            let writes = numbers.map(set).collect();
            answers.push(runtime.spawn(engine.kv_write(&"s".parse().expect("a name"), Vec::new(), writes)));
        } else {
            let event = |n: usize| {
                let mut draft = Draft::new("t".parse().expect("a topic"), Bytes::from(vec![n as u8; 100]));
                draft.not_before = Some(Timestamp(due.0 + (n as u64 * 7_919) % 1_000_000));
                Arc::new(draft.admit(EventId::from_u128(n as u128), clock.now(), &limits).expect("valid"))
            };
            let published = engine.publish(numbers.map(event).collect());
            answers.push(runtime.spawn(async move { published.await.map(drop) }));
        }
        if answers.len() == 16 {
            for answer in answers.drain(..) {
                runtime.block_on(answer).expect("no panic").expect("written");
            }
        }
        engine.tick(clock.now()).expect("ticked");
    }
    for answer in answers {
        runtime.block_on(answer).expect("no panic").expect("written");
    }
    tell("written", count, began.elapsed());
    engine.close().expect("it closes");
    drop(engine);
    let began = Instant::now();
    let (engine, sink) = open();
    tell("opened again", count, began.elapsed());
    let began = Instant::now();
    if what == "keys" {
        let service = "s".parse().expect("a name");
        for n in 0..100_000 {
            let (value, _) = engine.kv_get(&service, &key(n * 7_919 % count)).expect("read");
            assert!(value.is_some_and(|value| value.len() == 200));
        }
        tell("read at random", 100_000, began.elapsed());
        let select = KvSelect { prefix: "", after: None, limit: 1_000 };
        engine.kv_keys(&service, &select).expect("listed");
        tell("and a page listed", 1_000, began.elapsed());
    } else {
        let end = due.after(Duration::from_secs(10_000));
        while engine.tick(end).expect("ticked").is_some() {}
        runtime.block_on(engine.flush()).expect("safe");
        assert_eq!(*sink.0.lock().expect("no panic"), count);
        tell("fired", count, began.elapsed());
    }
    engine.close().expect("it closes");
}

fn key(n: usize) -> Box<str> {
    format!("key-{:010}", n.wrapping_mul(2_654_435_761) % 10_000_000_000).into()
}
