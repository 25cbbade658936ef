//! The engine of `nats:` keeps the contract on a real server, and loses nothing when servers and nodes fail.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use busway_brokers::Nats;
use busway_engine::conformance::{self, event};
use busway_engine::{self as engine, Engine as _, NatsUrl, SharedEngine};
use busway_types::Limits;

use common::{Buses, Fixed, Node, Server, lock, numbers, runtime, wait_for};

fn server() -> OnNats {
    OnNats(Nats::start().expect("nats-server can be installed and started"))
}

fn url(server: &Nats, bus: &str) -> NatsUrl {
    format!("{}/{bus}", server.url()).parse().expect("an address")
}

/// A server with JetStream.
struct OnNats(Nats);

impl Server for OnNats {
    fn open(&self, bus: &str, node: &str, limits: Limits) -> SharedEngine {
        engine::Nats::open(url(&self.0, bus), node.to_owned(), Arc::new(Fixed), limits).expect("the engine opens")
    }
    fn kill(&mut self) {
        self.0.kill().expect("killed");
    }
    fn start_again(&mut self) {
        self.0.start_again().expect("started again");
    }
}

#[test]
fn jetstream_keeps_the_contract() {
    conformance::run(&Buses::of(&server()));
}

#[test]
fn a_second_node_waits_and_goes_on_where_the_first_one_ended() {
    common::a_second_node_waits_and_goes_on_where_the_first_one_ended(&server(), "shop");
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged() {
    common::a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged(&mut server(), "shop", 3);
}

#[test]
fn publishers_wait_for_a_server_that_is_away() {
    common::publishers_wait_for_a_server_that_is_away(&mut server(), "shop");
}

#[test]
fn closing_ends_though_the_server_is_away_and_says_what_that_means() {
    common::closing_ends_though_the_server_is_away_and_says_what_that_means(&mut server(), "shop");
}

#[test]
fn large_transactions_are_whole() {
    common::large_transactions_are_whole(&server(), "shop");
}

#[test]
fn the_front_of_the_journal_goes_when_a_snapshot_has_it_and_nobody_needs_it() {
    common::the_front_of_the_journal_goes_when_a_snapshot_has_it_and_nobody_needs_it(&server(), "shop");
}

/// The first owner does not know that its lease is gone: the journal refuses what it still appends.
#[test]
fn an_owner_that_was_replaced_changes_nothing_any_more() {
    let server = server();
    let first = Node::start(&server, "shop", "first", Limits::default());
    first.publish(vec![event(0, b"x")]).expect("published");
    let state = first.runtime.block_on(async {
        let client = async_nats::connect(server.0.url()).await.expect("connected");
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
fn what_is_not_busways_is_refused_and_not_touched() {
    let server = server();
    let runtime = runtime();
    let url = url(&server.0, "shop");
    runtime.block_on(async {
        let client = async_nats::connect(server.0.url()).await.expect("connected");
        let config = stream::Config {
            name: "BUSWAY-shop-journal".to_owned(),
            subjects: vec!["busway.shop.journal".to_owned()],
            max_messages: 10,
            ..Default::default()
        };
        jetstream::new(client).create_stream(config).await.expect("made");
    });
    let refused = engine::Nats::open(url.clone(), "node".to_owned(), Arc::new(Fixed), Limits::default()).err();
    let refused = refused.expect("another program's stream").to_string();
    assert!(refused.contains("BUSWAY-shop-journal") && refused.contains("another name"), "{refused}");
    let nowhere: NatsUrl = "nats://me:secret@127.0.0.1:1/shop".parse().expect("an address");
    let refused = engine::Nats::open(nowhere, "node".to_owned(), Arc::new(Fixed), Limits::default()).err();
    let refused = refused.expect("nobody is there").to_string();
    assert!(refused.contains("127.0.0.1:1") && !refused.contains("secret"), "{refused}");
}
