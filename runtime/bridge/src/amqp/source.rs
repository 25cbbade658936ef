//! Messages of a queue.
//!
//! Invariants: the queue is used as it is, never declared; at most `prefetch` messages are held, and each is acknowledged,
//! rejected, or delivered again by the server when the channel ends.

use busway_engine::AmqpServer;
use futures_util::{FutureExt as _, StreamExt as _};

use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Connection, Consumer};

use super::{broken, connect, envelope};
use crate::Broken;
use crate::inward::Inward;
use crate::message::Reading;
use crate::place::Amqp;
use crate::source::{BATCH_BYTES, Handle, Received};

/// An open queue.
pub(crate) struct AmqpSource {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    reading: Reading,
    most: usize,
}

impl AmqpSource {
    pub(crate) async fn open(bridge: &Inward, server: &AmqpServer, at: &Amqp) -> Result<Self, Broken> {
        let Amqp::Queue(name) = at else { return Err(Broken("nothing can be read there".to_owned())) };
        let (connection, channel) = connect(server, &bridge.name).await?;
        let queue = ShortString::try_new(name.as_str()).map_err(|error| broken("the queue has no name", &error))?;
        let prefetch = u16::try_from(bridge.prefetch).unwrap_or(u16::MAX);
        let limited = channel.basic_qos(prefetch, BasicQosOptions::default()).await;
        limited.map_err(|error| broken("RabbitMQ takes no prefetch", &error))?;
        let consumer = channel
            .basic_consume(queue, ShortString::default(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .map_err(|error| broken(&format!("the queue `{name}` cannot be read"), &error))?;
        Ok(Self { connection, channel, consumer, reading: bridge.reading(), most: bridge.prefetch })
    }

    pub(crate) async fn gather(&mut self) -> Result<Vec<Received>, Broken> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        let mut next = Some(self.next().await?);
        while let Some(received) = next {
            bytes += received.envelope.bytes();
            batch.push(received);
            next = if batch.len() < self.most && bytes < BATCH_BYTES {
                // What is wrong is found again by the next call.
                self.next().now_or_never().and_then(Result::ok)
            } else {
                None
            };
        }
        Ok(batch)
    }

    async fn next(&mut self) -> Result<Received, Broken> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => {
                let acker = delivery.acker.clone();
                let shown = format!("{} of this connection", delivery.delivery_tag);
                let envelope = envelope(delivery, &self.reading);
                Ok(Received { envelope, handle: Handle::Amqp(Box::new(acker)), shown })
            }
            Some(Err(error)) => Err(broken("the connection to RabbitMQ is lost", &error)),
            None => Err(Broken("RabbitMQ ended the reading: the queue was deleted, or moved".to_owned())),
        }
    }

    pub(crate) async fn close(self) {
        // Behind the acknowledgements; the server delivers again what has none.
        let _ = self.channel.close(200, ShortString::default()).await;
        let _ = self.connection.close(200, ShortString::default()).await;
    }
}

/// Acknowledges all up to the last one: whatever came before it on this channel is dealt with.
pub(crate) async fn acknowledge(handles: Vec<Handle>) -> Result<(), Broken> {
    let Some(Handle::Amqp(last)) = handles.last() else { return Ok(()) };
    done(last.ack(BasicAckOptions { multiple: true }).await)
}

pub(crate) async fn refuse(acker: &Acker) -> Result<&'static str, Broken> {
    let rejected = acker.reject(BasicRejectOptions { requeue: false }).await;
    done(rejected).map(|()| "rejected, so that it goes where its queue sends dead letters, if anywhere")
}

fn done(said: lapin::Result<bool>) -> Result<(), Broken> {
    match said {
        Ok(true) => Ok(()),
        Ok(false) => Err(Broken("the connection to RabbitMQ ended before messages were acknowledged".to_owned())),
        Err(error) => Err(broken("messages could not be acknowledged", &error)),
    }
}
