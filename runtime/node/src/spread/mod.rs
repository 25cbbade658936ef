//! What nodes that share a bus do together.
//!
//! Role: one task that hears what other nodes send ([`Sink::heard`](busway_engine::Sink::heard)), says that this one is there,
//! and answers what it is asked while it owns the bus. The modules: `wire` (what is said), `asking` (what a node that waits has
//! the owner do).
//!
//! Bounds: [`HEARD`] messages and [`HEARD_BYTES`] wait to be looked at, what comes beyond that is dropped; [`ANSWERING`] questions are
//! answered at a time, further ones are refused.

mod asking;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use busway_engine::{EngineError, Mesh, To};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use self::asking::Asking;
use self::wire::{Answer, Beat, Hello, Message};
use crate::admin::Admin;
use crate::inner::{Inner, Stop};
use crate::task_set::TaskSet;

/// Messages of other nodes that wait to be looked at.
const HEARD: usize = 4_096;
/// Their bytes.
const HEARD_BYTES: usize = 128 * 1024 * 1024;
/// Questions of other nodes that are being answered.
const ANSWERING: usize = 256;
/// How often a node says that it is there.
const BEAT_EVERY: Duration = Duration::from_millis(500);

/// A message with its sender.
type Sent = (Arc<str>, Bytes);

/// Where what other nodes send waits to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    queue: RwLock<Option<mpsc::Sender<Sent>>>,
    bytes: AtomicUsize,
}

impl Ear {
    /// Takes a message, unless too much waits. Never waits.
    pub(crate) fn hear(&self, from: &Arc<str>, message: Bytes) {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &*queue else { return };
        let bytes = message.len();
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting > HEARD_BYTES || queue.try_send((Arc::clone(from), message)).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            tracing::warn!(%from, "a message of another node is dropped: this one does not keep up");
        }
    }

    fn listen(&self) -> mpsc::Receiver<Sent> {
        let (queue, heard) = mpsc::channel(HEARD);
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        heard
    }
}

/// This node among those that share the bus.
pub(crate) struct Spread {
    mesh: Arc<dyn Mesh>,
    session: u64,
    asking: Asking,
    answering: Arc<Semaphore>,
}

impl Spread {
    pub(crate) fn new(mesh: Arc<dyn Mesh>, session: u64) -> Arc<Self> {
        let answering = Arc::new(Semaphore::new(ANSWERING));
        Arc::new(Self { mesh, session, asking: Asking::default(), answering })
    }

    /// Has the owner of the bus do something; `whose` says who that is.
    pub(crate) async fn ask(&self, asked: Bytes, whose: &str) -> Result<Bytes, EngineError> {
        self.asking.ask(&*self.mesh, asked, whose).await
    }

    /// Says something to another node. What is not said is said again or not needed: nothing rests on a single message.
    fn say(&self, to: To, message: &Message) {
        let sent = match message.write() {
            Ok(message) => self.mesh.send(to, message).map_err(|why| why.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = sent {
            tracing::debug!("a message to another node was not sent: {why}");
        }
    }

    /// Handles what another node sent.
    fn take(self: &Arc<Self>, from: &Arc<str>, message: Bytes, admin: &Arc<Admin>, tasks: &TaskSet) {
        let inner = &admin.inner;
        match Message::read(message) {
            Ok(Message::Hello(hello)) => {
                if let Some(epoch) = inner.owns() {
                    let beat = Beat { epoch, session: hello.session };
                    self.say(To::Node(Arc::clone(from)), &Message::Beat(beat));
                }
            }
            Ok(Message::Beat(beat)) => {
                if beat.session == self.session && inner.owns().is_none() {
                    self.asking.hear(from, beat.epoch, inner.clock.monotonic_ns());
                }
            }
            Ok(Message::Ask { epoch, id, asked }) => self.answer(from, epoch, id, asked, admin, tasks),
            Ok(Message::Answer { id, answer }) => self.asking.answered(id, answer),
            Err(unreadable) => tracing::debug!(%from, "{unreadable}"),
        }
    }

    /// Answers a question, in a task of its own.
    fn answer(
        self: &Arc<Self>,
        from: &Arc<str>,
        epoch: u64,
        id: u64,
        asked: Bytes,
        admin: &Arc<Admin>,
        tasks: &TaskSet,
    ) {
        let to = To::Node(Arc::clone(from));
        let refuse = |why: &str| self.say(to.clone(), &Message::Answer { id, answer: Answer::Refused(why.into()) });
        if admin.inner.owns() != Some(epoch) {
            return refuse("the bus moved to another node meanwhile");
        }
        let Ok(place) = Arc::clone(&self.answering).try_acquire_owned() else {
            return refuse("it has too much to do for other nodes");
        };
        let (spread, admin) = (Arc::clone(self), Arc::clone(admin));
        tasks.spawn(async move {
            let answer = match admin.answer(&asked).await {
                Ok(answer) if answer.len() > busway_engine::mesh::MESSAGE_BYTES / 2 => {
                    Answer::Kept("it did what was asked, but its answer is too long to be sent here".into())
                }
                Ok(answer) => Answer::Given(answer.into()),
                Err(error) => Answer::Kept(error.to_string().into()),
            };
            spread.say(to, &Message::Answer { id, answer });
            drop(place);
        });
    }

    /// What has to be done again and again.
    fn beat(&self, inner: &Inner) {
        if inner.owns().is_some() {
            self.asking.forget();
            return;
        }
        if self.asking.fell_silent(inner.clock.monotonic_ns()) {
            tracing::warn!("the node that owns the bus says nothing any more");
        }
        let epoch = self.asking.owner().map_or(0, |owner| owner.epoch);
        self.say(To::Owner, &Message::Hello(Box::new(Hello { session: self.session, epoch })));
    }
}

/// Hears and answers other nodes until this one ends.
pub(crate) async fn attend(spread: Arc<Spread>, admin: Arc<Admin>, tasks: TaskSet) {
    let inner = Arc::clone(&admin.inner);
    let mut heard = inner.driver.ear.listen();
    let mut stop = inner.stop.subscribe();
    let mut beat = tokio::time::interval(BEAT_EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = heard.recv() => {
                let Some((from, message)) = message else { return };
                inner.driver.ear.bytes.fetch_sub(message.len(), Ordering::Relaxed);
                spread.take(&from, message, &admin, &tasks);
            }
            _ = beat.tick() => spread.beat(&inner),
            _ = stop.wait_for(|stop| *stop == Stop::Now) => return,
        }
    }
}
