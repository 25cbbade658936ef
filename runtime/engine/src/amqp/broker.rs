//! RabbitMQ as the keeper of a journal: in stream queues, one after the other.
//!
//! Role: [`Broker`] on three connections: one that writes and has the lease ([`Session`]), one that reads and by which nodes send
//! one another messages, so that a server that takes nothing for a while still answers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use busway_types::Offset;
use bytes::Bytes;
use lapin::options::QueueDeleteOptions;
use tokio::sync::Mutex;

use super::between::{Mailbox, Owner, hear_node, send_all, who};
use super::envelope::{ENVELOPE_BYTES, Envelope, Step, begins_record};
use super::index::Place;
use super::link::{Link, make_stream, within};
use super::names::Names;
use super::session::{Bus, Session};
use super::snapshot::Snapshots;
use super::url::AmqpUrl;
use crate::mesh::{Posted, To};
use crate::shared::{Broker, Extent, Kept, Landing, Lease, Leased, Mark, Piece, Trouble, Waits, later, pause};
use crate::{Answer, EngineError, Sink};

/// How an address names another bus.
pub(super) const ANOTHER: &str = "amqp://HOST/VHOST?bus=NAME";
/// The longest message.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Tries to find the queues of a bus on a server that answers: about 10 s.
const OPEN_TRIES: usize = 7;
/// How long a node that waits lets the owner go first after the server was away for both.
const AFTER_YOU: Duration = Duration::from_secs(4);

/// The bus of an address.
#[derive(Clone)]
pub(super) struct RabbitMq(Arc<Inner>);

struct Inner {
    url: AmqpUrl,
    bus: Bus,
    /// For reading, and for messages between nodes.
    link: Arc<Link>,
    mailbox: Mailbox,
    /// While this node has the lease: its name, and the connection when there is one.
    held: Mutex<Option<(String, Option<Arc<Session>>)>>,
    snapshots: Snapshots,
}

impl RabbitMq {
    /// Connects, and makes or checks what a bus has in any case.
    pub(super) async fn open(url: AmqpUrl) -> Result<Self, EngineError> {
        let link = Link::new(url.server.clone(), format!("busway {}", url.name), true);
        let names = Names::new(&url.name);
        let list = names.snapshots();
        let refused = |why: &dyn std::fmt::Display| {
            EngineError::Refused(format!(
                "the queue {list} at {url} cannot be made or read: {why}; RabbitMQ 3.9 or newer is needed with stream queues \
                 enabled (feature flag `stream_queue`), this login needs the right to make, write and read busway.*, and if \
                 another program made that queue choose another name ({ANOTHER})"
            ))
        };
        link.connection().await.map_err(|error| EngineError::Refused(error.to_string()))?;
        let mut tries = 0;
        while let Err(trouble) = list_is_there(&link, &list, url.replicas).await {
            // A server that has just been started takes connections before it has its queues.
            if tries == OPEN_TRIES || !matches!(trouble, Trouble::Later(_)) {
                return Err(refused(&words(&trouble)));
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
        let bus = Bus::new(names, url.replicas);
        let (link, mailbox) = (Arc::new(link), Mailbox::new());
        let snapshots = Snapshots::default();
        Ok(Self(Arc::new(Inner { url, bus, link, mailbox, held: Mutex::default(), snapshots })))
    }

    /// Takes the lease if nobody has it.
    async fn take(&self, node: &str) -> Result<Leased, Trouble> {
        let mut held = self.0.held.lock().await;
        if held.is_none() {
            if let Owner::Somebody(name) = who(&self.0.link, &self.0.bus.names).await? {
                return Ok(Err(name));
            }
            if self.0.link.again_since().await.is_some_and(|since| since < AFTER_YOU) {
                return Ok(Err(String::new()));
            }
            match self.0.session(node).await {
                Ok(session) => *held = Some((node.to_owned(), Some(Arc::new(session)))),
                Err(Trouble::Conflict) => return Ok(Err(String::new())),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(Ok(Box::new(Held(self.clone()))))
    }

    /// The connection that has the lease, made again if it was lost; a conflict when the lease is another node's.
    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut held = self.0.held.lock().await;
        let Some((node, session)) = &mut *held else { return Err(Trouble::Conflict) };
        if let Some(before) = session.take() {
            if before.holds().await {
                *session = Some(Arc::clone(&before));
                return Ok(before);
            }
            before.close().await;
        }
        match self.0.session(node).await {
            Ok(opened) => {
                let opened = Arc::new(opened);
                *session = Some(Arc::clone(&opened));
                Ok(opened)
            }
            Err(Trouble::Conflict) => match who(&self.0.link, &self.0.bus.names).await? {
                Owner::Somebody(name) if !name.is_empty() && name != *node => Err(Trouble::Conflict),
                // The server may not have noticed yet that the connection before is gone.
                _ => Err(later(&"the lease is still the one of the connection before")),
            },
            Err(trouble) => Err(trouble),
        }
    }

    async fn give_back(&self) {
        let held = self.0.held.lock().await.take();
        if let Some((_, Some(session))) = held {
            session.close().await;
        }
    }

    async fn piece(&self, from: u64, last: u64, bytes: usize) -> Result<Piece, Trouble> {
        let here = self.0.bus.recent().read(from, last, bytes);
        if let Some(piece) = here {
            return Ok(piece);
        }
        let mut piece = Piece { messages: Vec::new(), next: from };
        let mut taken = 0;
        let mut place = self.0.bus.index().before(from);
        while piece.next <= last && (taken < bytes || piece.messages.is_empty()) {
            let queue = place.queue;
            match self.read(&mut place, &mut piece, &mut taken, (last, bytes)).await {
                Ok(()) => {}
                // The queue was removed with all that was in it.
                Err(Trouble::Gone) => match self.0.bus.index().behind(queue) {
                    Some(next) => place = next,
                    None => return Err(Trouble::Gone),
                },
                Err(trouble) => return Err(trouble),
            }
            piece.next = piece.next.max(place.rule.last + 1);
        }
        Ok(piece)
    }

    /// Reads on in one queue.
    async fn read(
        &self,
        place: &mut Place,
        piece: &mut Piece,
        taken: &mut usize,
        (last, bytes): (u64, usize),
    ) -> Result<(), Trouble> {
        let queue = place.queue;
        let mut stream = self.0.link.stream(&self.0.bus.names.journal(queue), place.offset).await?;
        while place.queue == queue && place.rule.last < last && (*taken < bytes || piece.messages.is_empty()) {
            let (offset, mut message) = stream.soon().await?;
            let length = message.len() as u64;
            let before = *place;
            let step = Envelope::take(&message).map_or(Step::Void, |envelope| place.rule.step(&envelope));
            if step == Step::Landed
                && let Some(offset) = begins_record(&message)
            {
                self.0.bus.index().passed(before, offset);
            }
            *place = Place { offset: offset + 1, bytes: place.bytes + length, ..*place };
            match step {
                Step::Landed if place.rule.last >= piece.next => {
                    message.drain(..ENVELOPE_BYTES.min(message.len()));
                    *taken += message.len();
                    piece.messages.push((place.rule.last, message.into()));
                }
                Step::Ended => *place = Place { queue: queue + 1, offset: 0, bytes: 0, rule: place.rule },
                Step::Landed | Step::Void | Step::Taken => {}
            }
        }
        Ok(())
    }

    async fn trim(&self, at: u64) -> Result<(), Trouble> {
        loop {
            let Some(queue) = self.0.bus.index().releasable(at) else { return Ok(()) };
            let channel = self.0.link.channel().await?;
            let name = self.0.bus.names.journal(queue);
            within(channel.queue_delete(name.into(), QueueDeleteOptions::default())).await?;
            self.0.bus.index().release(queue);
        }
    }

    async fn extent(&self) -> Result<Extent, Trouble> {
        let session = self.session().await?;
        let rule = session.take_pen().await?;
        let (first, bytes) = {
            let index = self.0.bus.index();
            (index.first(), index.bytes())
        };
        Ok(Extent { first, last: rule.last, bytes })
    }

    /// Reads the newest snapshot, and looks which queues of the journal are still there.
    async fn load(&self) -> Result<Option<Kept>, EngineError> {
        let unreachable = |trouble: Trouble| crate::shared::unreachable(&trouble);
        let session = self.session().await.map_err(unreachable)?;
        let kept = self.0.snapshots.load(&session, &self.0.bus).await?;
        loop {
            let (first, more) = {
                let index = self.0.bus.index();
                let first = index.first_queue();
                (first, index.behind(first).is_some())
            };
            let name = self.0.bus.names.journal(first);
            if !more || self.0.link.exists(&name).await.map_err(unreachable)? {
                break;
            }
            self.0.bus.index().release(first);
        }
        let full = self.0.bus.index().full();
        for queue in full {
            let name = self.0.bus.names.journal(queue);
            let stream = self.0.link.stream(&name, 0).await;
            let begins = match stream {
                Ok(mut stream) => stream.soon().await.map(|(offset, _)| offset),
                Err(trouble) => Err(trouble),
            };
            if begins.map_err(unreachable)? > 0 {
                return Err(EngineError::Refused(format!(
                    "the queue {name} at {} lacks its beginning: a policy of the server (max-age or max-length-bytes, with \
                     stream-max-segment-size-bytes) removed it; take busway.* out of that policy. Nothing was changed; restore the \
                     queue, or choose another name for the bus ({ANOTHER}) to start empty",
                    self.0.url
                )));
            }
        }
        Ok(kept)
    }
}

/// Makes the list of snapshots, or finds that it is what it has to be.
async fn list_is_there(link: &Link, list: &str, replicas: Option<u32>) -> Result<(), Trouble> {
    make_stream(&link.channel().await?, list, replicas).await?;
    link.stream(list, 0).await.map(drop)
}

impl Inner {
    async fn session(&self, node: &str) -> Result<Session, Trouble> {
        let link = Link::new(self.url.server.clone(), format!("busway {} of {node}", self.url.name), false);
        Session::open(self.bus.clone(), link, self.mailbox.of(node)).await
    }
}

/// A trouble in words.
pub(super) fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Later(why) => why.clone(),
        Trouble::Conflict => {
            "another program made it or uses it, or it was made with another number of replicas".to_owned()
        }
        Trouble::Gone => "it is not there".to_owned(),
    }
}

/// The lease of a bus, held.
struct Held(RabbitMq);

impl Lease for Held {
    fn renew(&mut self) -> Waits<'_, Result<(), Trouble>> {
        Box::pin(async move { self.0.session().await.map(drop) })
    }

    fn give_back(self: Box<Self>) -> Answer<Result<(), Trouble>> {
        Box::pin(async move {
            self.0.give_back().await;
            Ok(())
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever lost the lease has no use for the connection either.
        if let Ok(mut held) = self.0.0.held.try_lock() {
            *held = None;
        }
    }
}

impl Broker for RabbitMq {
    fn shown(&self) -> String {
        self.0.url.to_string()
    }

    fn another(&self) -> &'static str {
        ANOTHER
    }

    fn most(&self) -> usize {
        MESSAGE_BYTES
    }

    fn lease<'a>(&'a self, node: &'a str) -> Waits<'a, Result<Leased, Trouble>> {
        Box::pin(self.take(node))
    }

    fn extent(&self) -> Waits<'_, Result<Extent, Trouble>> {
        Box::pin(self.extent())
    }

    fn append<'a>(&'a self, at: u64, messages: &'a [Bytes]) -> Waits<'a, Result<Landing, Trouble>> {
        Box::pin(async move { self.session().await?.append(at, messages).await })
    }

    fn read(&self, from: u64, last: u64, bytes: usize) -> Waits<'_, Result<Piece, Trouble>> {
        Box::pin(self.piece(from, last, bytes))
    }

    fn near(&self, offset: Offset, between: Range<u64>) -> Option<u64> {
        Some(self.0.bus.index().near(offset).map_or(between.start, |known| known.max(between.start)))
    }

    fn trim(&self, at: u64) -> Waits<'_, Result<(), Trouble>> {
        Box::pin(self.trim(at))
    }

    fn snapshot(&self) -> Waits<'_, Result<Option<Kept>, EngineError>> {
        Box::pin(self.load())
    }

    fn keep<'a>(&'a self, kept: &'a Kept, marks: &'a [Mark]) -> Waits<'a, Result<(), Trouble>> {
        Box::pin(async move { self.0.snapshots.keep(&*self.session().await?, &self.0.bus, kept, marks).await })
    }

    fn marks(&self) -> Option<Vec<Mark>> {
        Some(self.0.snapshots.marks())
    }

    fn send(&self, node: &str, posted: Posted) -> Answer<()> {
        Box::pin(send_all(Arc::clone(&self.0.link), self.0.bus.names.clone(), node.to_owned(), posted))
    }

    fn hear(&self, me: To, sink: Arc<dyn Sink>) -> Answer<()> {
        match me {
            To::Owner => Box::pin(self.0.mailbox.clone().heard_by(sink)),
            To::Node(node) => match self.0.bus.names.node(&node) {
                Some(queue) => Box::pin(hear_node(Arc::clone(&self.0.link), queue, sink)),
                None => Box::pin(std::future::ready(())),
            },
        }
    }
}
