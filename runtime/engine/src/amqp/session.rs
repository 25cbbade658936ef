//! The connection of the node that has the lease: what it writes to the journal, and the end of the journal as it reads it.
//!
//! Role: [`Session`] holds the exclusive queue that is the lease, so both go together. A task reads the journal on from where it is
//! known ([`Index`]) and says how far it counts; what is written is answered when it was read back there. See [`Rule`].
//!
//! When a session ends, with its connection or because something was not answered, the next one goes on where this one read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, PublisherConfirm};
use tokio::sync::watch;

use super::between::Mailbox;
use super::envelope::{ENVELOPE_BYTES, Envelope, Kind, Rule, Step, begins_record};
use super::index::{Index, Place};
use super::link::{ASK_FOR, Link, Stream, Task, confirmed, make_stream, put, send, within};
use super::names::Names;
use super::recent::Recent;
use crate::shared::{Landing, Trouble, later};

/// Tries to take the pen before the server counts as troubled.
const TRIES: usize = 20;
/// A queue of the journal is followed by the next one when it has this part of the whole, between these.
const QUEUES: u64 = 16;
const QUEUE_LEAST: u64 = 8 * 1024 * 1024;
const QUEUE_MOST: u64 = 128 * 1024 * 1024;
/// What may wait to be heard by the owner: messages, and bytes.
const MAILBOX: (i64, i64) = (4_096, 64 * 1024 * 1024);

/// How far the journal was read.
#[derive(Clone, Debug, Default)]
struct Seen {
    end: Place,
    /// The pen that somebody last wanted to take, whether it counted or not.
    wanted: u64,
    broken: Option<Trouble>,
}

/// The task that reads the end of the journal.
struct Tail {
    seen: watch::Receiver<Seen>,
    _task: Task,
}

/// What was written.
#[derive(Default)]
struct Writing {
    tail: Option<Tail>,
    /// None: it has to be taken.
    pen: Option<u64>,
    /// The number of the next message.
    next: u64,
    queue: u64,
    /// Bytes of that queue.
    bytes: u64,
}

/// What a session needs to know of its bus.
#[derive(Clone)]
pub(super) struct Bus {
    pub(super) names: Names,
    pub(super) replicas: Option<u32>,
    index: Arc<Mutex<Index>>,
    recent: Arc<Mutex<Recent>>,
}

impl Bus {
    pub(super) fn new(names: Names, replicas: Option<u32>) -> Self {
        Self { names, replicas, index: Arc::default(), recent: Arc::default() }
    }

    /// Where messages are.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest messages.
    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lease, and the right to write.
pub(super) struct Session {
    bus: Bus,
    link: Link,
    channel: Channel,
    writing: tokio::sync::Mutex<Writing>,
    _hearing: Task,
}

impl Session {
    /// Takes the lease over a connection of its own; a conflict when somebody has it.
    pub(super) async fn open(bus: Bus, link: Link, mailbox: Mailbox) -> Result<Self, Trouble> {
        let channel = link.channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAILBOX.0));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAILBOX.1));
        let owner = bus.names.owner();
        within(channel.queue_declare(owner.as_str().into(), exclusive, arguments)).await?;
        let hearing = mailbox.hear(link.channel().await?, owner).await?;
        Ok(Self { bus, link, channel, writing: tokio::sync::Mutex::default(), _hearing: hearing })
    }

    /// Whether it still holds.
    pub(super) async fn holds(&self) -> bool {
        let broken = {
            let writing = self.writing.lock().await;
            writing.tail.as_ref().is_some_and(|tail| tail.seen.borrow().broken.is_some())
        };
        !broken && self.channel.status().connected()
    }

    /// Gives the lease back.
    pub(super) async fn close(&self) {
        self.link.close().await;
    }

    /// Makes the first queue of the journal.
    pub(super) async fn make_journal(&self) -> Result<(), Trouble> {
        make_stream(&self.channel, &self.bus.names.journal(0), self.bus.replicas).await
    }

    /// A channel of this connection.
    pub(super) async fn another_channel(&self) -> Result<Channel, Trouble> {
        self.link.channel().await
    }

    /// Reads a stream from an offset on.
    pub(super) async fn stream(&self, queue: &str, offset: u64) -> Result<Stream, Trouble> {
        self.link.stream(queue, offset).await
    }

    /// Reads the journal to its end, and takes the pen there.
    pub(super) async fn take_pen(&self) -> Result<Rule, Trouble> {
        let mut writing = self.writing.lock().await;
        writing.pen = None;
        if writing.tail.is_none() {
            let (tell, seen) = watch::channel(Seen { end: self.bus.index().end(), ..Seen::default() });
            let reading = read(self.bus.clone(), self.link.channel().await?, tell);
            writing.tail = Some(Tail { seen, _task: Task::spawn(reading) });
        }
        let Some(tail) = &writing.tail else { return Err(later(&"the journal is not read")) };
        let mut seen = tail.seen.clone();
        for _ in 0..TRIES {
            let end = seen.borrow().end;
            let pen = getrandom::u64().map_err(|error| later(&error))?;
            let take = Envelope { kind: Kind::Take, number: end.rule.last + 1, pen };
            self.blocked()?;
            put(&self.channel, &self.bus.names.journal(end.queue), &take.put(b"")).await?;
            let known = |seen: &Seen| seen.wanted == pen || seen.end.queue > end.queue;
            let now = match until(&mut seen, known).await {
                Ok(now) => now,
                Err(trouble) => {
                    if seen.borrow().broken.is_none() {
                        // The server may have lost what was read there.
                        self.bus.index().doubt();
                    }
                    writing.tail = None;
                    return Err(trouble);
                }
            };
            if now.wanted == pen && now.end.rule.pen == pen {
                let Place { queue, bytes, rule, .. } = now.end;
                (writing.pen, writing.next, writing.queue, writing.bytes) = (Some(pen), rule.last + 1, queue, bytes);
                return Ok(rule);
            }
        }
        Err(later(&"somebody else writes to the journal"))
    }

    /// Sends messages that are to be the ones from number `at` on.
    pub(super) async fn append(&self, at: u64, messages: &[Bytes]) -> Result<Landing, Trouble> {
        let mut writing = self.writing.lock().await;
        let Writing { tail: Some(tail), pen: Some(pen), .. } = &*writing else {
            return Err(later(&"the journal has to be read first"));
        };
        let (pen, mut seen) = (*pen, tail.seen.clone());
        if at != writing.next {
            return Err(Trouble::Conflict);
        }
        // Until all is sent nobody knows what is.
        writing.pen = None;
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            self.blocked()?;
            let bytes = (ENVELOPE_BYTES + message.len()) as u64;
            if writing.bytes > 0 && writing.bytes + bytes > self.longest() {
                self.go_on(&mut writing, pen, &mut seen).await?;
            }
            let envelope = Envelope { kind: Kind::Message, number: writing.next, pen };
            let queue = self.bus.names.journal(writing.queue);
            confirms.push(within(send(&self.channel, &queue, &envelope.put(message))).await?);
            writing.next += 1;
            writing.bytes += bytes;
        }
        writing.pen = Some(pen);
        let last = writing.next - 1;
        Ok(Box::pin(async move { landed(confirms, seen, pen, last).await }))
    }

    /// How long a queue of the journal may be.
    fn longest(&self) -> u64 {
        (self.bus.index().bytes() / QUEUES).clamp(QUEUE_LEAST, QUEUE_MOST)
    }

    /// Goes on in the next queue.
    async fn go_on(&self, writing: &mut Writing, pen: u64, seen: &mut watch::Receiver<Seen>) -> Result<(), Trouble> {
        let (full, next) = (writing.queue, writing.queue + 1);
        // On a channel of its own: the server ends the one on which it says that there is one with other settings.
        let channel = self.link.channel().await?;
        match make_stream(&channel, &self.bus.names.journal(next), self.bus.replicas).await {
            Ok(()) | Err(Trouble::Conflict) => {}
            Err(trouble) => return Err(trouble),
        }
        let end = Envelope { kind: Kind::End, number: writing.next, pen };
        put(&self.channel, &self.bus.names.journal(full), &end.put(b"")).await?;
        let now = until(seen, |seen| seen.end.queue > full || seen.end.rule.pen != pen).await?;
        if now.end.queue <= full {
            return Err(Trouble::Conflict);
        }
        (writing.queue, writing.bytes) = (next, 0);
        Ok(())
    }

    /// A server that is short of memory or of disk takes nothing, and what is sent all the same would stay on the way.
    fn blocked(&self) -> Result<(), Trouble> {
        if self.link.is_blocked() {
            return Err(later(&"the server takes nothing: it is short of memory or of disk"));
        }
        Ok(())
    }
}

/// Waits until messages were confirmed and read back.
async fn landed(
    confirms: Vec<PublisherConfirm>,
    mut seen: watch::Receiver<Seen>,
    pen: u64,
    last: u64,
) -> Result<(), Trouble> {
    for confirm in confirms {
        confirmed(within(confirm).await?)?;
    }
    let now = until(&mut seen, |seen| seen.end.rule.last >= last || seen.end.rule.pen != pen).await?;
    // Under another pen the same number may be another message.
    if now.end.rule.pen == pen { Ok(()) } else { Err(Trouble::Conflict) }
}

/// Waits until the journal was read as far as that.
async fn until(seen: &mut watch::Receiver<Seen>, known: impl Fn(&Seen) -> bool) -> Result<Seen, Trouble> {
    let waiting = seen.wait_for(|seen| seen.broken.is_some() || known(seen));
    let now = match tokio::time::timeout(ASK_FOR, waiting).await {
        Ok(Ok(seen)) => seen.clone(),
        Ok(Err(_)) => return Err(later(&"the journal is not read any more")),
        Err(_) => return Err(Trouble::Later(format!("what was written did not arrive within {ASK_FOR:?}"))),
    };
    match (&now.broken, known(&now)) {
        (Some(trouble), false) => Err(trouble.clone()),
        _ => Ok(now),
    }
}

/// Reads the journal on until the connection is lost.
async fn read(bus: Bus, channel: Channel, tell: watch::Sender<Seen>) {
    let Err(trouble) = try_to_read(&bus, &channel, &tell).await;
    tell.send_modify(|seen| seen.broken = Some(trouble));
}

async fn try_to_read(
    bus: &Bus,
    channel: &Channel,
    tell: &watch::Sender<Seen>,
) -> Result<std::convert::Infallible, Trouble> {
    let mut end = bus.index().end();
    loop {
        let mut stream = Stream::open(channel.clone(), &bus.names.journal(end.queue), end.offset).await?;
        let queue = end.queue;
        while end.queue == queue {
            let (offset, message) = stream.next().await?;
            let envelope = Envelope::take(&message);
            let step = envelope.map_or(Step::Void, |envelope| end.rule.step(&envelope));
            if step == Step::Landed
                && let Some(offset) = begins_record(&message)
            {
                bus.index().record(offset);
            }
            end = match step {
                Step::Ended => Place { queue: queue + 1, offset: 0, bytes: 0, rule: end.rule },
                _ => Place { offset: offset + 1, bytes: end.bytes + message.len() as u64, ..end },
            };
            bus.index().read_to(end);
            if step == Step::Landed {
                bus.recent().push(end.rule.last, Bytes::from(message).slice(ENVELOPE_BYTES..));
            }
            let wanted = envelope.filter(|envelope| envelope.kind == Kind::Take).map(|envelope| envelope.pen);
            tell.send_modify(|seen| {
                seen.end = end;
                seen.wanted = wanted.unwrap_or(seen.wanted);
            });
        }
    }
}
