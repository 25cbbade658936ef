//! Messages of a subject or of a stream.
//!
//! Invariants: of a stream at most `prefetch` messages are asked for; each is acknowledged, refused (`term`), or given back
//! (`nak`, or left to `ack_wait`).

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::{AckKind, message};
use busway_engine::NatsUrl;
use futures_util::{FutureExt as _, StreamExt as _};

use super::{Connection, broken, envelope};
use crate::Broken;
use crate::inward::Inward;
use crate::link::Link;
use crate::message::{Reading, id_of};
use crate::place::Nats;
use crate::source::{BATCH_BYTES, Handle, Received};

/// How long one question to the server may take.
const ASK_FOR: Duration = Duration::from_secs(5);
/// When the server delivers a message again that nobody said anything about.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How often a server with nothing to deliver says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Those of them that may wait while the bus takes nothing; more are dropped.
const SIGNS_OF_LIFE: usize = 1_024;
/// Messages of a subject that may wait, for each that is held; more are dropped, as core NATS does.
const HELD_OF_SUBJECT: usize = 16;

/// An open subject or stream.
pub(crate) struct NatsSource {
    /// Held, so that it lives as long as this.
    connection: Connection,
    messages: Messages,
    reading: Reading,
    most: usize,
}

enum Messages {
    Subject(Subscriber),
    /// What stands for the stream in the ids of its messages.
    Stream(Box<Stream>, String),
}

impl NatsSource {
    pub(crate) async fn open(bridge: &Inward, url: &NatsUrl, at: &Nats, link: &Arc<Link>) -> Result<Self, Broken> {
        // Core NATS gives what it has; of a stream no more than twice `prefetch` is asked for, and signs of life come in between.
        let held = match at {
            Nats::Subject { .. } => bridge.prefetch * HELD_OF_SUBJECT,
            _ => bridge.prefetch * 2 + SIGNS_OF_LIFE,
        };
        let connection = Connection::open(url, &bridge.name, held, link).await?;
        let messages = match at {
            Nats::Subject { subject, group } => {
                let client = &connection.client;
                let subscribed = match group {
                    Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
                    None => client.subscribe(subject.clone()).await,
                };
                let subscriber = subscribed.map_err(|error| broken("the subject cannot be subscribed to", &error))?;
                client.flush().await.map_err(|error| broken("NATS does not answer", &error))?;
                Messages::Subject(subscriber)
            }
            Nats::Source { stream, consumer, filter, only_new } => {
                let durable = consumer.clone().unwrap_or_else(|| format!("busway-{}", bridge.name.replace('.', "_")));
                let config = Config {
                    durable_name: Some(durable),
                    description: Some(format!("the bridge `{}` of busway", bridge.name)),
                    deliver_policy: if *only_new { DeliverPolicy::New } else { DeliverPolicy::All },
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: ACK_WAIT,
                    max_ack_pending: i64::try_from(bridge.prefetch * 2).unwrap_or(i64::MAX),
                    filter_subject: filter.clone().unwrap_or_default(),
                    ..Config::default()
                };
                consume(&connection, stream, config, bridge.prefetch).await?
            }
            Nats::Target { .. } => return Err(Broken("nothing can be read there".to_owned())),
        };
        connection.used();
        Ok(Self { connection, messages, reading: bridge.reading(), most: bridge.prefetch })
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
        match &mut self.messages {
            Messages::Subject(subscriber) => {
                let message = subscriber.next().await.ok_or_else(|| Broken("the subscription ended".to_owned()))?;
                let shown = format!("of subject {}", message.subject);
                let envelope = envelope(message, &self.reading);
                Ok(Received { envelope, handle: Handle::Nothing, shown })
            }
            Messages::Stream(stream, kind) => {
                let message = stream.next().await.ok_or_else(|| Broken("the consumer ended".to_owned()))?;
                let message = message.map_err(|error| broken("the consumer cannot be read", &error))?;
                let sequence = message.info().map(|info| info.stream_sequence);
                let sequence = sequence.map_err(|error| broken("a message of the stream is malformed", &error))?;
                let (mut message, acker) = message.split();
                message.reply = None;
                let mut envelope = envelope(message, &self.reading);
                envelope.id.get_or_insert_with(|| id_of(&self.reading.bridge, kind, &sequence.to_string()));
                Ok(Received {
                    envelope,
                    handle: Handle::Stream(Box::new(acker)),
                    shown: format!("{sequence} of the stream"),
                })
            }
        }
    }

    pub(crate) async fn close(mut self) {
        self.connection.in_use.store(false, std::sync::atomic::Ordering::Release);
        if let Messages::Stream(stream, _) = &mut self.messages {
            // What came and was not looked at goes to whoever asks next, at once.
            while let Some(Some(Ok(message))) = stream.next().now_or_never() {
                let _ = message.ack_with(AckKind::Nak(None)).await;
            }
        }
        let _ = self.connection.client.flush().await;
    }
}

async fn consume(connection: &Connection, name: &str, config: Config, most: usize) -> Result<Messages, Broken> {
    let context = ContextBuilder::new().timeout(ASK_FOR).build(connection.client.clone());
    let stream = context.get_stream(name).await;
    let stream = stream.map_err(|error| broken(&format!("the stream {name} cannot be looked at"), &error))?;
    // Of another stream that was made under this name, the same number is another message.
    let kind = format!("stream {name} of {}", stream.cached_info().created.unix_timestamp_nanos());
    let durable = config.durable_name.clone().unwrap_or_default();
    let wanted_filter = config.filter_subject.clone();
    // One that is there is somebody's: it is used as it is, or not at all.
    let consumer = if let Ok(found) = stream.get_consumer::<Config>(&durable).await {
        found
    } else {
        let made = stream.create_consumer_strict(config).await;
        made.map_err(|error| broken(&format!("no consumer `{durable}` of the stream {name}"), &error))?
    };
    let found = &consumer.cached_info().config;
    if found.ack_policy != AckPolicy::Explicit || found.filter_subject != wanted_filter {
        return Err(Broken(format!(
            "the consumer `{durable}` of the stream {name} is there with another `filter`, or without explicit \
             acknowledgements; remove it, or name another one with ?consumer=NAME"
        )));
    }
    let messages = consumer.stream().max_messages_per_batch(most).heartbeat(HEARTBEAT).messages().await;
    let messages = messages.map_err(|error| broken(&format!("the stream {name} cannot be read"), &error))?;
    Ok(Messages::Stream(Box::new(messages), kind))
}

async fn say(acker: &message::Acker, kind: AckKind) -> Result<(), Broken> {
    acker.ack_with(kind).await.map_err(|error| broken("a message could not be acknowledged", &error))
}

pub(crate) async fn acknowledge(handles: Vec<Handle>) -> Result<(), Broken> {
    for handle in &handles {
        if let Handle::Stream(acker) = handle {
            say(acker, AckKind::Ack).await?;
        }
    }
    Ok(())
}

pub(crate) async fn refuse(acker: &message::Acker) -> Result<&'static str, Broken> {
    say(acker, AckKind::Term).await.map(|()| "and not delivered again (term); the stream keeps it as its limits say")
}

pub(crate) async fn hold(handles: impl Iterator<Item = &Handle>) -> Result<(), Broken> {
    for handle in handles {
        if let Handle::Stream(acker) = handle {
            say(acker, AckKind::Progress).await?;
        }
    }
    Ok(())
}
