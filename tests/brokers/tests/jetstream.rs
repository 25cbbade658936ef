//! The engine of `nats:` keeps the contract on a real server, and loses nothing when servers and nodes fail.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use busway_brokers::Nats as Server;
use busway_engine::conformance::{self, Fixture, NOW, ack, acked, event, set, spec};
use busway_engine::{
    Engine, EngineError, Epoch, Nats, NatsUrl, Partition, ReadRequest, Room, Settled, SharedEngine, Sink,
};
use busway_types::{
    Batch, Clock, Effects, Event, Limits, Logged, Offset, Receipt, Retention, Settlement, StartAt, Timestamp,
};
use tokio::runtime::Runtime;

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

fn server() -> Server {
    Server::start().expect("nats-server can be installed and started")
}

fn url(server: &Server, bus: &str) -> NatsUrl {
    format!("{}/{bus}", server.url()).parse().expect("an address")
}

fn open(server: &Server, bus: &str, node: &str, limits: Limits) -> SharedEngine {
    Nats::open(url(server, bus), node.to_owned(), Arc::new(Fixed), limits).expect("the engine opens")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

struct OnNats {
    server: Server,
    opened: AtomicU32,
}

impl OnNats {
    fn open(&self, limits: Limits) -> Arc<dyn Engine> {
        let bus = format!("bus-{}", self.opened.load(Ordering::Relaxed));
        Arc::new(open(&self.server, &bus, "node", limits))
    }
}

impl Fixture for OnNats {
    fn limited(&self, limits: Limits) -> Arc<dyn Engine> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.open(limits)
    }
    fn reopen(&self) -> Option<Arc<dyn Engine>> {
        Some(self.open(Limits::default()))
    }
}

#[test]
fn jetstream_keeps_the_contract() {
    conformance::run(&OnNats { server: server(), opened: AtomicU32::new(0) });
}

/// What an engine told its node.
#[derive(Default)]
struct Heard {
    epochs: Mutex<Vec<Epoch>>,
    revoked: AtomicU32,
    failed: Mutex<Vec<EngineError>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
struct Node {
    engine: SharedEngine,
    heard: Arc<Heard>,
    runtime: Runtime,
}

impl Node {
    fn start(server: &Server, bus: &str, name: &str, limits: Limits) -> Self {
        let (engine, heard) = (open(server, bus, name, limits), Arc::new(Heard::default()));
        engine.start(Arc::clone(&heard) as Arc<dyn Sink>).expect("the engine starts");
        Self { engine, heard, runtime: runtime() }
    }

    fn epoch(&self) -> Epoch {
        lock(&self.heard.epochs).last().copied().unwrap_or_default()
    }

    fn publish(&self, events: Vec<Event>) -> Result<Vec<Receipt>, EngineError> {
        self.runtime.block_on(self.engine.publish(events.into_iter().map(Arc::new).collect()))
    }

    /// Everything that is kept.
    fn events(&self) -> Vec<Logged> {
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

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited for 30 s: {what}");
}

fn numbers(events: &[Logged]) -> Vec<u128> {
    events.iter().map(|logged| logged.event.id.as_u128()).collect()
}

#[test]
fn a_second_node_waits_and_goes_on_where_the_first_one_ended() {
    let server = server();
    let first = Node::start(&server, "shop", "first", Limits::default());
    let (sub, _) = first.engine.subscribe(0, first.epoch(), &spec("s", StartAt::Now)).expect("subscribed");
    first.publish((0..3).map(|n| event(n, b"x")).collect()).expect("published");
    let effects = Effects { writes: vec![set("k", "v")], ..Effects::default() };
    let settlement = Settlement { token: 1, sub, cursor: 1, settles: vec![ack(0, effects)] };
    first.engine.settle(0, first.epoch(), settlement).expect("settled");
    let second = Node::start(&server, "shop", "second", Limits::default());
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

/// The first owner does not know that its lease is gone: the journal refuses what it still appends.
#[test]
fn an_owner_that_was_replaced_changes_nothing_any_more() {
    let server = server();
    let first = Node::start(&server, "shop", "first", Limits::default());
    first.publish(vec![event(0, b"x")]).expect("published");
    let state = first.runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.expect("connected");
        jetstream::new(client).get_stream("BUSWAY-shop-state").await.expect("the stream of the state")
    });
    let second = Node::start(&server, "shop", "second", Limits::default());
    wait_for("the second node owns the bus", || {
        // The first one takes its lease again when it is the first to notice.
        first.runtime.block_on(async {
            let lease = state.get_last_raw_message_by_subject("busway.shop.state.owner").await;
            if let Some(lease) = lease.ok().filter(|lease| lease.payload == "first") {
                let _ = state.delete_message(lease.sequence).await;
            }
        });
        std::thread::sleep(Duration::from_millis(700));
        second.epoch() > 0
    });
    second.publish(vec![event(1, b"x")]).expect("published");
    let refused = first.publish(vec![event(2, b"x")]).expect_err("it is no owner any more");
    assert!(refused.is_retryable(), "{refused}");
    wait_for("the first node is told", || first.heard.revoked.load(Ordering::Relaxed) == 1);
    assert!(lock(&first.heard.failed).is_empty(), "to lose a bus is no failure");
    second.publish(vec![event(3, b"x")]).expect("published");
    assert_eq!(numbers(&second.events()), [0, 1, 3]);
    second.engine.close().expect("the engine closes");
    wait_for("the first node owns the bus again", || lock(&first.heard.epochs).len() == 2);
    first.publish(vec![event(4, b"x")]).expect("published");
    assert_eq!(numbers(&first.events()), [0, 1, 3, 4]);
    first.engine.close().expect("the engine closes");
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged() {
    let mut server = server();
    let node = Node::start(&server, "shop", "node", Limits::default());
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
        for kill in 1..=3 {
            let enough = kill * 200;
            wait_for("publishers go on", || lock(&acknowledged).len() >= enough);
            server.kill().expect("killed");
            std::thread::sleep(Duration::from_millis(300));
            server.start_again().expect("started again");
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
    let again = Node::start(&server, "shop", "node", Limits::default());
    check(&again);
    again.engine.close().expect("the engine closes");
}

#[test]
fn publishers_wait_for_a_server_that_is_away() {
    let mut server = server();
    let node = Node::start(&server, "shop", "node", Limits::default());
    server.kill().expect("killed");
    let waiting = node.runtime.spawn(node.engine.publish(vec![Arc::new(event(0, b"x"))]));
    wait_for("external publishers are told to wait", || node.engine.room() == Room::NoPublishers);
    assert!(!waiting.is_finished());
    server.start_again().expect("started again");
    let receipts = node.runtime.block_on(waiting).expect("no panic").expect("published");
    assert_eq!(receipts[0].offset, Some(0));
    wait_for("there is room again", || node.engine.room() == Room::Enough);
    node.engine.close().expect("the engine closes");
}

#[test]
fn closing_ends_though_the_server_is_away_and_says_what_that_means() {
    let mut server = server();
    let node = Node::start(&server, "shop", "node", Limits::default());
    node.publish(vec![event(0, b"x")]).expect("published");
    server.kill().expect("killed");
    let waiting = node.runtime.spawn(node.engine.publish(vec![Arc::new(event(1, b"x"))]));
    let closed = node.engine.close().expect_err("not everything is written").to_string();
    assert!(closed.contains("did not take"), "{closed}");
    let answer = node.runtime.block_on(waiting).expect("no panic");
    assert!(answer.is_err(), "nobody is told that it was published: {answer:?}");
    drop(node);
    server.start_again().expect("started again");
    let again = Node::start(&server, "shop", "node", Limits::default());
    wait_for("the lease of the one before has ended", || again.epoch() > 0);
    assert_eq!(numbers(&again.events())[0], 0);
    again.engine.close().expect("the engine closes");
}

/// A settlement that is larger than a message of the server.
#[test]
fn large_transactions_are_whole() {
    let server = server();
    let node = Node::start(&server, "shop", "node", Limits::default());
    let (sub, _) = node.engine.subscribe(0, node.epoch(), &spec("s", StartAt::Now)).expect("subscribed");
    node.publish(vec![event(0, b"x")]).expect("published");
    let large = |number| Arc::new(event(number, &vec![number as u8; 1024 * 1024 - 300]));
    let effects = Effects { publishes: (1..=4).map(large).collect(), ..Effects::default() };
    let settlement = Settlement { token: 1, sub, cursor: 1, settles: vec![ack(0, effects)] };
    node.engine.settle(0, node.epoch(), settlement).expect("settled");
    node.runtime.block_on(node.engine.flush()).expect("flushed");
    node.engine.close().expect("the engine closes");
    let node = Node::start(&server, "shop", "node", Limits::default());
    let events = node.events();
    assert_eq!(numbers(&events), [0, 1, 2, 3, 4]);
    assert!((1..=4).all(|number| *events[number as usize].event == *large(number)));
    let fetched = node.engine.fetch(0, &[4, 1, 99]).expect("fetched");
    assert_eq!(numbers(&fetched), [1, 4]);
    node.engine.close().expect("the engine closes");
}

#[test]
fn the_front_of_the_journal_goes_when_a_snapshot_has_it_and_nobody_needs_it() {
    let server = server();
    let limits =
        || Limits { recent_bytes: 4_096, retention: Retention { bytes: Some(0), time: None }, ..Limits::default() };
    let node = Node::start(&server, "shop", "node", limits());
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
    let node = Node::start(&server, "shop", "node", limits());
    assert_eq!(node.engine.subscriptions(), before);
    let events = node.events();
    assert_eq!(numbers(&events), (u128::from(first)..48).collect::<Vec<_>>());
    assert_eq!(node.publish(vec![event(48, b"x")]).expect("published")[0].offset, Some(48));
    node.engine.close().expect("the engine closes");
}

#[test]
fn what_is_not_busways_is_refused_and_not_touched() {
    let server = server();
    let runtime = runtime();
    let url = url(&server, "shop");
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.expect("connected");
        let config = stream::Config {
            name: "BUSWAY-shop-journal".to_owned(),
            subjects: vec!["busway.shop.journal".to_owned()],
            max_messages: 10,
            ..Default::default()
        };
        jetstream::new(client).create_stream(config).await.expect("made");
    });
    let refused = Nats::open(url.clone(), "node".to_owned(), Arc::new(Fixed), Limits::default()).err();
    let refused = refused.expect("another program's stream").to_string();
    assert!(refused.contains("BUSWAY-shop-journal") && refused.contains("another name"), "{refused}");
    let nowhere: NatsUrl = "nats://me:secret@127.0.0.1:1/shop".parse().expect("an address");
    let refused = Nats::open(nowhere, "node".to_owned(), Arc::new(Fixed), Limits::default()).err();
    let refused = refused.expect("nobody is there").to_string();
    assert!(refused.contains("127.0.0.1:1") && !refused.contains("secret"), "{refused}");
}
