//! The engine of `amqp:` keeps the contract on a real server, and loses nothing when servers and nodes fail.
//!
//! RabbitMQ takes long to start: a few tests share a server, each with a bus of its own.

mod common;

use std::sync::Arc;
use std::time::Duration;

use busway_brokers::Rabbit;
use busway_engine::conformance::{self, event};
use busway_engine::{Amqp, AmqpServer, AmqpUrl, Engine as _, EngineError, SharedEngine, amqp_connect};
use busway_types::Limits;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};

use common::{Buses, Fixed, Node, Server};

/// A server of RabbitMQ.
struct OnRabbit(Rabbit);

impl Server for OnRabbit {
    fn open(&self, bus: &str, node: &str, limits: Limits) -> SharedEngine {
        Amqp::open(url(&self.0, bus), node.to_owned(), Arc::new(Fixed), limits).expect("the engine opens")
    }
    fn kill(&mut self) {
        self.0.kill().expect("killed");
    }
    fn start_again(&mut self) {
        self.0.start_again().expect("started again");
    }
}

fn server() -> OnRabbit {
    OnRabbit(Rabbit::start().expect("RabbitMQ can be installed and started"))
}

fn url(server: &Rabbit, bus: &str) -> AmqpUrl {
    format!("{}?bus={bus}", server.url()).parse().expect("an address")
}

fn parse(address: &str) -> AmqpServer {
    address.parse().expect("an address")
}

#[test]
fn rabbitmq_keeps_the_contract() {
    let server = server();
    conformance::run(&Buses::of(&server));
    common::a_second_node_waits_and_goes_on_where_the_first_one_ended(&server, "waits");
    common::large_transactions_are_whole(&server, "large");
    common::the_front_of_the_journal_goes_when_a_snapshot_has_it_and_nobody_needs_it(&server, "front");
    what_is_not_busways_is_refused_and_not_touched(&server);
}

fn what_is_not_busways_is_refused_and_not_touched(server: &OnRabbit) {
    let runtime = common::runtime();
    let (queue, message) = ("busway.foreign.snapshots", b"theirs");
    let connection = runtime.block_on(amqp_connect(&parse(&server.0.url()), "theirs")).expect("connected");
    let channel: Channel = runtime.block_on(async {
        let channel = connection.create_channel().await.expect("a channel");
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), durable, FieldTable::default()).await.expect("made");
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), queue.into(), options, message, properties).await.expect("published");
        channel
    });
    let refused = Amqp::open(url(&server.0, "foreign"), "node".to_owned(), Arc::new(Fixed), Limits::default()).err();
    let refused = refused.expect("another program's queue").to_string();
    assert!(refused.contains(queue) && refused.contains("another name"), "{refused}");
    let found = runtime.block_on(channel.basic_get(queue.into(), BasicGetOptions::default())).expect("asked");
    let found = found.expect("their message is still there");
    assert_eq!((&*found.data, found.message_count), (&message[..], 0));
}

#[test]
fn a_server_that_fails_loses_nothing() {
    let mut server = server();
    let settled = Node::start(&server, "settled", "node", Limits::default());
    settled.publish(vec![event(0, b"x")]).expect("published");
    settled.engine.close().expect("the engine closes");
    // A RabbitMQ that is killed at once after the first stream of its life has no streams any more: it writes down a little later
    // that it has somebody who looks after them.
    std::thread::sleep(Duration::from_secs(2));
    common::publishers_wait_for_a_server_that_is_away(&mut server, "away");
    common::a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged(&mut server, "killed", 2);
    common::closing_ends_though_the_server_is_away_and_says_what_that_means(&mut server, "closing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_made_or_the_reason_says_what_helps() {
    let rabbit = Rabbit::start().expect("RabbitMQ can be installed and started");
    let connection = amqp_connect(&parse(&rabbit.url()), "test").await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    channel.close(200, "OK".into()).await.expect("closed");
    let address = rabbit.url();
    let stranger = address.replace("guest:guest", "me:secret");
    let elsewhere = format!("{address}/nowhere");
    for address in [&stranger, &elsewhere] {
        let refused = amqp_connect(&parse(address), "test").await.expect_err("it is refused");
        assert!(
            matches!(&refused, EngineError::Refused(why) if why.contains("***@") && !why.contains("secret")),
            "{refused}"
        );
    }
    let away = amqp_connect(&parse("amqp://me:secret@127.0.0.1:1"), "test").await.expect_err("nobody is there");
    assert!(away.is_retryable() && away.to_string().contains("127.0.0.1:1"), "{away}");
}
