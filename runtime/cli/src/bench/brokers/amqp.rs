//! A plain client of RabbitMQ: a quorum queue, confirms, a consumer that acknowledges each message.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Result, bail};
use busway_engine::AmqpUrl;
use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};

use super::{Client, WINDOW};
use crate::bench::rig::Counts;

/// The client; its consumer runs as a task that ends with the connection.
#[derive(Clone)]
pub(super) struct Amqp {
    // Ends both channels when it goes.
    _connection: Arc<Connection>,
    channel: Channel,
    queue: String,
}

impl Amqp {
    pub(super) async fn connect(url: &AmqpUrl, queue: &str, counts: &Arc<Counts>) -> Result<Self> {
        let connection = busway_engine::amqp_connect(&url.server, "busway bench").await?;
        let (channel, consuming) = (connection.create_channel().await?, connection.create_channel().await?);
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        consuming.basic_qos(u16::try_from(WINDOW)?, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut messages = consuming.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        let counts = Arc::clone(counts);
        tokio::spawn(async move {
            let _open = consuming;
            while let Some(Ok(message)) = messages.next().await {
                counts.handled();
                if message.ack(BasicAckOptions::default()).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { _connection: Arc::new(connection), channel, queue: queue.to_owned() })
    }
}

impl Client for Amqp {
    type Confirm = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    async fn send(&self, payload: Bytes) -> Result<Self::Confirm> {
        // Kept on disk, as quorum queues do anyway.
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent =
            self.channel.basic_publish("".into(), self.queue.as_str().into(), options, &payload, properties).await?;
        Ok(Box::pin(async move {
            if !sent.await?.is_ack() {
                bail!("RabbitMQ did not take a message");
            }
            Ok(())
        }))
    }

    async fn remove(self) -> Result<()> {
        self.channel.queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }
}
