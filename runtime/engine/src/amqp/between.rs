//! What nodes send one another through the server.
//!
//! Role: [`Mesh`](crate::Mesh) on queues that go with the connection: one for each node, and that of the owner, which is its
//! lease too. Who owns the bus is asked there.
//!
//! Bounds: those of [`mesh`](crate::mesh), and of the queues; what they do not take is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Consumer};

use super::link::{Link, Task, confirmed, trouble, within};
use super::names::Names;
use crate::Sink;
use crate::mesh::{Joiner, Posted, To, split};
use crate::shared::{Trouble, pause};

/// Where the server answers whoever asks without a queue of its own.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// Marks a message that asks who owns the bus.
const WHO: &str = "who";
/// How long the owner may take to say who it is.
const WHO_FOR: Duration = Duration::from_secs(1);
/// Bytes of a message that is sent as one.
const PART_BYTES: usize = 512 * 1024;
/// What may wait to be heard by a node: messages, and bytes.
const MAILBOX: (i64, i64) = (4_096, 64 * 1024 * 1024);

/// What is published on a queue that does not last.
async fn post(channel: &Channel, queue: &str, body: &[u8], properties: BasicProperties) -> Result<(), Trouble> {
    let options = BasicPublishOptions::default();
    within(channel.basic_publish("".into(), queue.into(), options, body, properties)).await.map(drop)
}

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer, Trouble> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    within(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await
}

/// What the owner of a bus is told.
#[derive(Clone)]
pub(super) struct Mailbox {
    node: String,
    /// Who hears it; nobody before the node knows that it owns the bus.
    sink: Arc<Mutex<Option<Arc<dyn Sink>>>>,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self { node: String::new(), sink: Arc::default() }
    }

    /// The same of a node.
    pub(super) fn of(&self, node: &str) -> Self {
        Self { node: node.to_owned(), sink: Arc::clone(&self.sink) }
    }

    fn set(&self, sink: Option<Arc<dyn Sink>>) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Has somebody hear what comes, for as long as this is not dropped.
    pub(super) async fn heard_by(self, sink: Arc<dyn Sink>) {
        struct Nobody(Mailbox);
        impl Drop for Nobody {
            fn drop(&mut self) {
                self.0.set(None);
            }
        }
        self.set(Some(sink));
        let _until_dropped = Nobody(self);
        std::future::pending::<()>().await;
    }

    /// Hears what comes to the owner's queue until the channel ends.
    pub(super) async fn hear(self, channel: Channel, queue: String) -> Result<Task, Trouble> {
        let mut arriving = consume(&channel, &queue).await?;
        Ok(Task::spawn(async move {
            let mut joiner = Joiner::default();
            while let Some(Ok(delivery)) = arriving.next().await {
                if let Some(asker) = asks_who(&delivery) {
                    // Whoever asked does without when this does not arrive.
                    let _ = post(&channel, &asker, self.node.as_bytes(), BasicProperties::default()).await;
                } else if let Some((from, message)) = joiner.take(Bytes::from(delivery.data)) {
                    let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(sink) = sink {
                        sink.heard(&from, message);
                    }
                }
            }
        }))
    }
}

/// Whom to tell who owns the bus, if a message asks that.
fn asks_who(delivery: &Delivery) -> Option<String> {
    let properties = &delivery.properties;
    let asks = properties.kind().as_ref().is_some_and(|kind| kind.as_str() == WHO);
    properties.reply_to().as_ref().filter(|_| asks).map(ToString::to_string)
}

/// Who owns a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody.
    Nobody,
    /// Somebody; no name when it did not say.
    Somebody(String),
}

/// Asks who owns the bus.
pub(super) async fn who(link: &Link, names: &Names) -> Result<Owner, Trouble> {
    let channel = link.channel().await?;
    within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let mut answers = consume(&channel, REPLY_TO).await?;
    let properties = BasicProperties::default()
        .with_type(WHO.into())
        .with_reply_to(REPLY_TO.into())
        .with_expiration(WHO_FOR.as_millis().to_string().into());
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let owner = names.owner();
    let sent = within(channel.basic_publish("".into(), owner.into(), mandatory, b"", properties)).await?;
    match within(sent).await? {
        Confirmation::Ack(Some(_)) => return Ok(Owner::Nobody),
        taken => confirmed(taken)?,
    }
    match tokio::time::timeout(WHO_FOR, answers.next()).await {
        Ok(Some(Ok(answer))) => Ok(Owner::Somebody(String::from_utf8_lossy(&answer.data).into_owned())),
        Ok(Some(Err(error))) => Err(trouble(&error)),
        Ok(None) | Err(_) => Ok(Owner::Somebody(String::new())),
    }
}

/// Sends what a node wants to have sent, until it can want nothing any more.
pub(super) async fn send_all(link: Arc<Link>, names: Names, node: String, mut posted: Posted) {
    let mut number = 0;
    let mut channel: Option<Channel> = None;
    while let Some((to, message)) = posted.next().await {
        let queue = match &to {
            To::Owner => Some(names.owner()),
            To::Node(node) => names.node(node),
        };
        let Some(queue) = queue else { continue };
        if channel.as_ref().is_none_or(|channel| !channel.status().connected()) {
            channel = link.channel().await.ok();
        }
        let Some(through) = &channel else { continue };
        number += 1;
        for part in split(&node, number, &message, PART_BYTES) {
            if let Err(trouble) = post(through, &queue, &part, BasicProperties::default()).await {
                tracing::debug!(?trouble, "a message to another node was not sent");
                channel = None;
                break;
            }
        }
    }
}

/// Tells what arrives for a node, over every connection.
pub(super) async fn hear_node(link: Arc<Link>, queue: String, sink: Arc<dyn Sink>) {
    let mut tries = 0;
    loop {
        match arriving(&link, &queue).await {
            Ok(mut arriving) => {
                tries = 0;
                let mut joiner = Joiner::default();
                while let Some(Ok(delivery)) = arriving.next().await {
                    if let Some((from, message)) = joiner.take(Bytes::from(delivery.data)) {
                        sink.heard(&from, message);
                    }
                }
            }
            Err(trouble) => tracing::debug!(?trouble, "what other nodes send cannot be heard"),
        }
        tokio::time::sleep(pause(tries)).await;
        tries += 1;
    }
}

async fn arriving(link: &Link, queue: &str) -> Result<Consumer, Trouble> {
    let channel = link.channel().await?;
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAILBOX.0));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAILBOX.1));
    within(channel.queue_declare(queue.into(), own, arguments)).await?;
    consume(&channel, queue).await
}
