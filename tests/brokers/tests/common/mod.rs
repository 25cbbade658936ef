//! What the tests of every engine that nodes share do the same way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busway_engine::conformance::{Fixture, NOW, ack, acked, event, set, spec};
use busway_engine::{Engine, EngineError, Epoch, Partition, ReadRequest, Room, Settled, SharedEngine, Sink};
use busway_types::{
    Batch, Clock, Effects, Event, Limits, Logged, Offset, Receipt, Retention, Settlement, StartAt, Timestamp,
};
use tokio::runtime::Runtime;

#[derive(Debug)]
pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn monotonic_ns(&self) -> u64 {
        0
    }
}

/// A broker that runs.
pub(crate) trait Server {
    fn open(&self, bus: &str, node: &str, limits: Limits) -> SharedEngine;
    fn kill(&mut self);
    fn start_again(&mut self);
}

/// Every engine of the suite is another bus.
pub(crate) struct Buses<'a> {
    pub(crate) server: &'a dyn Server,
    opened: AtomicU32,
}

impl<'a> Buses<'a> {
    pub(crate) fn of(server: &'a dyn Server) -> Self {
        Self { server, opened: AtomicU32::new(0) }
    }

    fn open(&self, limits: Limits) -> Arc<dyn Engine> {
        let bus = format!("bus-{}", self.opened.load(Ordering::Relaxed));
        Arc::new(self.server.open(&bus, "node", limits))
    }
}

impl Fixture for Buses<'_> {
    fn limited(&self, limits: Limits) -> Arc<dyn Engine> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.open(limits)
    }
    fn reopen(&self) -> Option<Arc<dyn Engine>> {
        Some(self.open(Limits::default()))
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// What an engine told its node.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) epochs: Mutex<Vec<Epoch>>,
    pub(crate) revoked: AtomicU32,
    pub(crate) failed: Mutex<Vec<EngineError>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Heard {
    fn assigned(&self, _: Partition, epoch: Epoch, _: Offset) {
        lock(&self.epochs).push(epoch);
    }
    fn appended(&self, _: Partition, _: Batch) {}
    fn delayed(&self, _: Partition, _: Timestamp) {}
    fn settled(&self, _: Partition, _: Settled) {}
    fn revoked(&self, _: Partition) {
        self.revoked.fetch_add(1, Ordering::Relaxed);
    }
    fn failed(&self, error: EngineError) {
        lock(&self.failed).push(error);
    }
}

/// A node with an engine, started.
pub(crate) struct Node {
    pub(crate) engine: SharedEngine,
    pub(crate) heard: Arc<Heard>,
    pub(crate) runtime: Runtime,
}

impl Node {
    pub(crate) fn start(server: &dyn Server, bus: &str, name: &str, limits: Limits) -> Self {
        let (engine, heard) = (server.open(bus, name, limits), Arc::new(Heard::default()));
        engine.start(Arc::clone(&heard) as Arc<dyn Sink>).expect("the engine starts");
        Self { engine, heard, runtime: runtime() }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        lock(&self.heard.epochs).last().copied().unwrap_or_default()
    }

    pub(crate) fn publish(&self, events: Vec<Event>) -> Result<Vec<Receipt>, EngineError> {
        self.runtime.block_on(self.engine.publish(events.into_iter().map(Arc::new).collect()))
    }

    /// Everything that is kept.
    pub(crate) fn events(&self) -> Vec<Logged> {
        let mut found = Vec::new();
        let mut from = self.engine.status().oldest;
        while from < self.engine.safe_head() {
            let request = ReadRequest { from, patterns: Arc::from([]), max_events: 1_000, max_bytes: usize::MAX };
            let read = self.engine.read(0, &request).expect("read");
            found.extend(read.events);
            from = read.next;
        }
        found
    }
}

pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited for 30 s: {what}");
}

pub(crate) fn numbers(events: &[Logged]) -> Vec<u128> {
    events.iter().map(|logged| logged.event.id.as_u128()).collect()
}

pub(crate) fn a_second_node_waits_and_goes_on_where_the_first_one_ended(server: &dyn Server, bus: &str) {
    let first = Node::start(server, bus, "first", Limits::default());
    let (sub, _) = first.engine.subscribe(0, first.epoch(), &spec("s", StartAt::Now)).expect("subscribed");
    first.publish((0..3).map(|n| event(n, b"x")).collect()).expect("published");
    let effects = Effects { writes: vec![set("k", "v")], ..Effects::default() };
    let settlement = Settlement { token: 1, sub, cursor: 1, settles: vec![ack(0, effects)] };
    first.engine.settle(0, first.epoch(), settlement).expect("settled");
    let second = Node::start(server, bus, "second", Limits::default());
    assert_eq!((second.epoch(), second.engine.room()), (0, Room::NoPublishers));
    let refused = second.publish(vec![event(9, b"x")]).expect_err("the bus is not its own");
    assert!(matches!(&refused, EngineError::Overloaded(why) if why.contains("node first")), "{refused}");
    let early = second.engine.subscribe(0, 1, &spec("s", StartAt::Now));
    assert!(matches!(early, Err(EngineError::Stale { .. })), "{early:?}");
    let before = first.engine.subscriptions();
    first.engine.close().expect("the engine closes");
    wait_for("the second node owns the bus", || second.epoch() > 0);
    assert!(second.epoch() > first.epoch(), "epochs grow");
    assert_eq!(second.engine.subscriptions(), before);
    assert_eq!(second.engine.kv_get(&"s".parse().expect("a name"), "k").expect("read").0.as_deref(), Some(&b"v"[..]));
    let receipts = second.publish(vec![event(3, b"x")]).expect("published");
    assert_eq!((receipts[0].offset, numbers(&second.events())), (Some(3), vec![0, 1, 2, 3]));
    second.engine.close().expect("the engine closes");
}

pub(crate) fn a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged(
    server: &mut dyn Server,
    bus: &str,
    kills: usize,
) {
    let node = Node::start(server, bus, "node", Limits::default());
    let acknowledged: Mutex<Vec<u128>> = Mutex::default();
    let stop = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for publisher in 0..4_u128 {
            let (node, acknowledged, stop) = (&node, &acknowledged, &stop);
            scope.spawn(move || {
                let mut number = publisher * 1_000_000;
                while stop.load(Ordering::Relaxed) == 0 {
                    node.publish(vec![event(number, b"x")]).expect("published, however long it takes");
                    lock(acknowledged).push(number);
                    number += 1;
                }
            });
        }
        for kill in 1..=kills {
            let enough = kill * 200;
            wait_for("publishers go on", || lock(&acknowledged).len() >= enough);
            server.kill();
            std::thread::sleep(Duration::from_millis(300));
            server.start_again();
        }
        let before = lock(&acknowledged).len();
        wait_for("publishers go on", || lock(&acknowledged).len() >= before + 100);
        stop.store(1, Ordering::Relaxed);
    });
    let check = |node: &Node| {
        let mut found = numbers(&node.events());
        let mut sent = lock(&acknowledged).clone();
        for publisher in 0..4 {
            let own = found.iter().filter(|n| **n / 1_000_000 == publisher);
            assert!(own.is_sorted(), "what a publisher sent is in order, each once");
        }
        found.sort_unstable();
        sent.sort_unstable();
        assert!(found == sent, "{} were acknowledged and {} are there", sent.len(), found.len());
    };
    check(&node);
    assert!(lock(&node.heard.failed).is_empty());
    node.engine.close().expect("the engine closes");
    let again = Node::start(server, bus, "node", Limits::default());
    check(&again);
    again.engine.close().expect("the engine closes");
}

pub(crate) fn publishers_wait_for_a_server_that_is_away(server: &mut dyn Server, bus: &str) {
    let node = Node::start(server, bus, "node", Limits::default());
    server.kill();
    let waiting = node.runtime.spawn(node.engine.publish(vec![Arc::new(event(0, b"x"))]));
    wait_for("external publishers are told to wait", || node.engine.room() == Room::NoPublishers);
    assert!(!waiting.is_finished());
    server.start_again();
    let receipts = node.runtime.block_on(waiting).expect("no panic").expect("published");
    assert_eq!(receipts[0].offset, Some(0));
    wait_for("there is room again", || node.engine.room() == Room::Enough);
    node.engine.close().expect("the engine closes");
}

pub(crate) fn closing_ends_though_the_server_is_away_and_says_what_that_means(server: &mut dyn Server, bus: &str) {
    let node = Node::start(server, bus, "node", Limits::default());
    node.publish(vec![event(0, b"x")]).expect("published");
    server.kill();
    let waiting = node.runtime.spawn(node.engine.publish(vec![Arc::new(event(1, b"x"))]));
    let closed = node.engine.close().expect_err("not everything is written").to_string();
    assert!(closed.contains("did not take"), "{closed}");
    let answer = node.runtime.block_on(waiting).expect("no panic");
    assert!(answer.is_err(), "nobody is told that it was published: {answer:?}");
    drop(node);
    server.start_again();
    let again = Node::start(server, bus, "node", Limits::default());
    wait_for("the lease of the one before has ended", || again.epoch() > 0);
    assert_eq!(numbers(&again.events())[0], 0);
    again.engine.close().expect("the engine closes");
}

/// A settlement that is larger than a message of the server.
pub(crate) fn large_transactions_are_whole(server: &dyn Server, bus: &str) {
    let node = Node::start(server, bus, "node", Limits::default());
    let (sub, _) = node.engine.subscribe(0, node.epoch(), &spec("s", StartAt::Now)).expect("subscribed");
    node.publish(vec![event(0, b"x")]).expect("published");
    let large = |number| Arc::new(event(number, &vec![number as u8; 1024 * 1024 - 300]));
    let effects = Effects { publishes: (1..=4).map(large).collect(), ..Effects::default() };
    let settlement = Settlement { token: 1, sub, cursor: 1, settles: vec![ack(0, effects)] };
    node.engine.settle(0, node.epoch(), settlement).expect("settled");
    node.runtime.block_on(node.engine.flush()).expect("flushed");
    node.engine.close().expect("the engine closes");
    let node = Node::start(server, bus, "node", Limits::default());
    let events = node.events();
    assert_eq!(numbers(&events), [0, 1, 2, 3, 4]);
    assert!((1..=4).all(|number| *events[number as usize].event == *large(number)));
    let fetched = node.engine.fetch(0, &[4, 1, 99]).expect("fetched");
    assert_eq!(numbers(&fetched), [1, 4]);
    node.engine.close().expect("the engine closes");
}

pub(crate) fn the_front_of_the_journal_goes_when_a_snapshot_has_it_and_nobody_needs_it(server: &dyn Server, bus: &str) {
    let limits =
        || Limits { recent_bytes: 4_096, retention: Retention { bytes: Some(0), time: None }, ..Limits::default() };
    let node = Node::start(server, bus, "node", limits());
    let (sub, _) = node.engine.subscribe(0, node.epoch(), &spec("s", StartAt::Now)).expect("subscribed");
    let data = vec![7; 512 * 1024];
    for number in 0..48_u64 {
        node.publish(vec![event(u128::from(number), &data)]).expect("published");
        let settlement = Settlement { token: number + 1, sub, cursor: number + 1, settles: vec![acked(number)] };
        node.engine.settle(0, node.epoch(), settlement).expect("settled");
    }
    let mut now = NOW;
    wait_for("the front of the journal is released", || {
        now = now.after(Duration::from_secs(1));
        node.engine.tick(now).expect("ticked");
        node.engine.status().oldest > 0
    });
    let (before, kept) = (node.engine.subscriptions(), node.engine.status());
    assert!(kept.bytes < 40 * 512 * 1024, "{} bytes are kept", kept.bytes);
    let first = kept.oldest;
    assert!(node.engine.fetch(0, &[0]).expect("asked").is_empty(), "what is released is not there any more");
    node.engine.close().expect("the engine closes");
    let node = Node::start(server, bus, "node", limits());
    assert_eq!(node.engine.subscriptions(), before);
    let found = numbers(&node.events());
    // What goes with its queue may be there a little longer.
    let from = found.first().copied().expect("events");
    assert!(from > 0 && from <= u128::from(first), "{from} of {first}");
    assert_eq!(found, (from..48).collect::<Vec<_>>());
    assert_eq!(node.publish(vec![event(48, b"x")]).expect("published")[0].offset, Some(48));
    node.engine.close().expect("the engine closes");
}
