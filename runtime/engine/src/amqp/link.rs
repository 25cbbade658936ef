//! A connection to RabbitMQ that is made again when it is lost, and what is done on one.
//!
//! Role: [`Link`] gives channels; [`Stream`] reads a stream queue; every error of the client is sorted by what has to be done
//! about it. Bound: one try to connect at a time, however long the server does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, ErrorKind};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::connecting;
use super::url::AmqpServer;
use crate::EngineError;
use crate::shared::{Trouble, later};

/// How long one question to the server may take.
pub(super) const ASK_FOR: Duration = Duration::from_secs(5);
/// A try to connect that takes longer is given up.
const TRY_FOR: Duration = Duration::from_mins(1);
/// Messages of a stream that are on their way to its reader.
const PREFETCH: u16 = 32;

/// What the server says by number.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;

/// What the server says of a queue that does not exist. It says the same number of one that has no server just now.
const NO_QUEUE: &str = "no queue";

/// What has to be done about an error of the client.
pub(super) fn trouble(error: &lapin::Error) -> Trouble {
    match error.kind() {
        ErrorKind::ProtocolError(said)
            if said.get_id() == NOT_FOUND && said.get_message().as_str().contains(NO_QUEUE) =>
        {
            Trouble::Gone
        }
        ErrorKind::ProtocolError(said) if matches!(said.get_id(), RESOURCE_LOCKED | PRECONDITION_FAILED) => {
            Trouble::Conflict
        }
        ErrorKind::ProtocolError(said) if said.get_id() == ACCESS_REFUSED => {
            Trouble::Later(format!("this login lacks a permission: {error}"))
        }
        _ => later(error),
    }
}

/// The answer to a question, if it comes in time.
pub(super) async fn within<T>(question: impl Future<Output = lapin::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ASK_FOR, question).await {
        Ok(answer) => answer.map_err(|error| trouble(&error)),
        Err(_) => Err(Trouble::Later(format!("no answer within {ASK_FOR:?}"))),
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Handle::current().spawn(task))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    connecting: Option<(Instant, JoinHandle<Result<Connection, EngineError>>)>,
    /// When it was made after one that was lost.
    again: Option<Instant>,
}

/// A connection that is made again when it is lost.
pub(super) struct Link {
    server: AmqpServer,
    name: String,
    /// Whether people are told.
    told: bool,
    lost: AtomicBool,
    state: Mutex<State>,
}

impl Link {
    /// Not connected yet. Of several to one server, one is `told` about.
    pub(super) fn new(server: AmqpServer, name: String, told: bool) -> Self {
        Self { server, name, told, lost: AtomicBool::new(false), state: Mutex::default() }
    }

    /// The connection, made if it has to be.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, EngineError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.take_if(|connection| connection.status().connected()) {
            state.connection = Some(Arc::clone(&connection));
            return Ok(connection);
        }
        if state.connection.take().is_some() && !self.lost.swap(true, Ordering::Relaxed) && self.told {
            tracing::warn!(server = %self.server, "the connection is lost; trying again");
        }
        let (since, mut connecting) = match state.connecting.take().filter(|(since, _)| since.elapsed() < TRY_FOR) {
            Some(begun) => begun,
            None => (Instant::now(), Handle::current().spawn(connecting(self.server.clone(), self.name.clone()))),
        };
        match tokio::time::timeout(ASK_FOR, &mut connecting).await {
            Ok(Ok(Ok(connection))) => {
                if self.lost.swap(false, Ordering::Relaxed) {
                    state.again = Some(Instant::now());
                    if self.told {
                        tracing::info!(server = %self.server, "connected again");
                    }
                }
                let connection = Arc::new(connection);
                state.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(EngineError::Closed),
            Err(_) => {
                state.connecting = Some((since, connecting));
                Err(EngineError::Overloaded(format!("{} does not answer", self.server)))
            }
        }
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Trouble> {
        let connection = self.connection().await.map_err(|error| later(&error))?;
        within(connection.create_channel()).await
    }

    /// Whether the server takes nothing from it now.
    pub(super) fn is_blocked(&self) -> bool {
        let state = self.state.try_lock();
        state.is_ok_and(|state| state.connection.as_ref().is_some_and(|connection| connection.status().blocked()))
    }

    /// How long ago it was made again after it had been lost, if it was.
    pub(super) async fn again_since(&self) -> Option<Duration> {
        self.state.lock().await.again.map(|since| since.elapsed())
    }

    /// Ends the connection.
    pub(super) async fn close(&self) {
        let connection = self.state.lock().await.connection.take();
        if let Some(connection) = connection {
            // Whatever becomes of that, nothing more is done on it.
            let _ = within(connection.close(200, "OK".into())).await;
        }
    }

    /// Whether there is such a queue.
    pub(super) async fn exists(&self, queue: &str) -> Result<bool, Trouble> {
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match within(channel.queue_declare(queue.into(), passive, FieldTable::default())).await {
            Ok(_) => Ok(true),
            Err(Trouble::Gone) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// Reads a stream from an offset on.
    pub(super) async fn stream(&self, queue: &str, offset: u64) -> Result<Stream, Trouble> {
        Stream::open(self.channel().await?, queue, offset).await
    }
}

/// What a stream queue is made with. One segment of its file is longer than all that it will ever have, so that a policy
/// with `max-age` or `max-length-bytes`, which remove whole segments, removes nothing unless it makes segments shorter too.
fn stream_arguments(replicas: Option<u32>) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT_BYTES));
    if let Some(replicas) = replicas {
        arguments.insert("x-initial-cluster-size".into(), AMQPValue::LongLongInt(replicas.into()));
    }
    arguments
}

/// Bytes of a segment of a stream.
const SEGMENT_BYTES: i64 = 1_000_000_000;

/// Makes a stream queue, or finds that there is one; a conflict when it is another kind of queue.
pub(super) async fn make_stream(channel: &Channel, queue: &str, replicas: Option<u32>) -> Result<(), Trouble> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    within(channel.queue_declare(queue.into(), durable, stream_arguments(replicas))).await.map(drop)
}

/// Publishes to a queue and waits until the server has taken it.
pub(super) async fn put(channel: &Channel, queue: &str, body: &[u8]) -> Result<(), Trouble> {
    let sent = within(send(channel, queue, body)).await?;
    confirmed(within(sent).await?)
}

/// Publishes to a queue; must not be refused silently.
pub(super) async fn send(channel: &Channel, queue: &str, body: &[u8]) -> lapin::Result<lapin::PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    channel.basic_publish("".into(), queue.into(), options, body, properties).await
}

/// Whether the server has taken a message.
pub(super) fn confirmed(confirmation: Confirmation) -> Result<(), Trouble> {
    match confirmation {
        Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
        // A server that has just been started takes connections before it has its queues.
        Confirmation::Ack(Some(_)) => Err(Trouble::Later("the server does not have the queue now".to_owned())),
        Confirmation::Nack(_) => Err(Trouble::Later("the server did not keep a message".to_owned())),
    }
}

/// A stream queue that is read.
pub(super) struct Stream {
    /// The channel ends with it.
    _channel: Channel,
    consumer: Consumer,
    from: u64,
    unacknowledged: u16,
}

impl Stream {
    /// Reads from an offset on.
    pub(super) async fn open(channel: Channel, queue: &str, offset: u64) -> Result<Self, Trouble> {
        within(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let mut arguments = FieldTable::default();
        let from = i64::try_from(offset).unwrap_or(i64::MAX);
        arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(from));
        let consuming = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments);
        let consumer = within(consuming).await?;
        Ok(Self { _channel: channel, consumer, from: offset, unacknowledged: 0 })
    }

    /// The next message with its offset, however long it takes to come.
    pub(super) async fn next(&mut self) -> Result<(u64, Vec<u8>), Trouble> {
        loop {
            let delivery = match self.consumer.next().await {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(trouble(&error)),
                // The server cancels the consumers of a queue that was removed.
                None => return Err(Trouble::Gone),
            };
            let headers = delivery.properties.headers().as_ref();
            let offset = headers.and_then(|headers| headers.inner().get("x-stream-offset"));
            let offset = match offset {
                Some(AMQPValue::LongLongInt(offset)) => u64::try_from(*offset).unwrap_or_default(),
                _ => {
                    return Err(Trouble::Later("a queue of this bus is no stream; another program made it".to_owned()));
                }
            };
            self.unacknowledged += 1;
            if self.unacknowledged * 2 >= PREFETCH {
                self.unacknowledged = 0;
                let acknowledged = delivery.acker.ack(BasicAckOptions { multiple: true }).await;
                acknowledged.map_err(|error| trouble(&error))?;
            }
            // A reader begins at the beginning of a chunk of messages.
            if offset >= self.from {
                return Ok((offset, delivery.data));
            }
        }
    }

    /// The next message, if it comes in time.
    pub(super) async fn soon(&mut self) -> Result<(u64, Vec<u8>), Trouble> {
        match tokio::time::timeout(ASK_FOR, self.next()).await {
            Ok(next) => next,
            Err(_) => Err(Trouble::Later(format!("no message within {ASK_FOR:?}"))),
        }
    }
}
