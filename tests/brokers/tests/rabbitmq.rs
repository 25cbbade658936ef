//! The engine of `amqp:` keeps the contract on a real server, and loses nothing when servers and nodes fail.
//!
//! RabbitMQ takes long to start: a few tests share a server, each with a bus of its own.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use busway_brokers::Rabbit;
use busway_engine::conformance::{self, event};
use busway_engine::{Amqp, AmqpServer, AmqpUrl, Engine as _, EngineError, SharedEngine, amqp_connect};
use busway_types::Limits;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};

use common::{Buses, Fixed, Node, Server, lock, numbers, runtime, wait_for};

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
    let _ = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::INFO).with_writer(std::io::stderr).try_init();
    let server = server();
    conformance::run(&Buses::of(&server));
    common::a_second_node_waits_and_goes_on_where_the_first_one_ended(&server, "waits");
    common::large_transactions_are_whole(&server, "large");
    common::the_front_of_the_journal_goes_when_a_snapshot_has_it_and_nobody_needs_it(&server, "front");
}

#[test]
fn a_server_that_fails_loses_nothing() {
    let mut server = server();
    common::publishers_wait_for_a_server_that_is_away(&mut server, "away");
    common::a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged(&mut server, "killed");
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
