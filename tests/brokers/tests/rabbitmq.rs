//! Connections to a real RabbitMQ.

use busway_brokers::Rabbit;
use busway_engine::{AmqpServer, EngineError, amqp_connect};

fn parse(address: &str) -> AmqpServer {
    address.parse().expect("an address")
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
