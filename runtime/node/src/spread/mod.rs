//! What nodes that share a bus do together.
//!
//! Role: hears what other nodes send ([`Sink::heard`](busway_engine::Sink::heard)), says that this one is there, has others work for this
//! one while it owns the bus, and works for the owner while it does not. The modules: `wire` (what is said), `asking` (what a node
//! that waits has the owner do), `errands` (what guests on it need), `table` and `remote` (the owner's side of the work), `hands` (the other
//! side), `executor` (what the driver gives chunks to).
//!
//! ```text
//!   owner: driver -> executor -> own lane
//!                       |          table -> going --chunk-->    hands -> lanes   : a node that waits
//!                       |            ^----------reports---------- said <--/
//! ```
//!
//! Bounds: [`HEARD`] messages and [`HEARD_BYTES`] wait to be looked at, what comes beyond that is dropped; [`ANSWERING`] questions are
//! answered at a time, further ones are refused.

mod asking;
mod errands;
mod executor;
mod handing;
mod hands;
mod passing;
mod remote;
mod table;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use busway_engine::{EngineError, Epoch, Mesh, To};
use busway_gateway::api::{NodeInfo, NodeRole};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use self::asking::{ANSWER_FOR, Asking};
pub(crate) use self::errands::{Errand, Errands};
pub(crate) use self::executor::Shared;
pub(crate) use self::hands::Skill;
use self::hands::{Hands, Holding, Said};
use self::remote::Seen;
pub(crate) use self::table::Back;
use self::table::{Going, Table};
use self::wire::{About, Answer, Beat, Hello, Message};
use crate::admin::Admin;
use crate::inner::{Inner, Stop};
use crate::task_set::TaskSet;

/// Messages of other nodes that wait to be looked at.
const HEARD: usize = 4_096;
/// Their bytes.
const HEARD_BYTES: usize = 128 * 1024 * 1024;
/// Questions of other nodes that are being answered.
const ANSWERING: usize = 256;
/// Chunks that wait to be sent.
const GOING: usize = 1_024;
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
    /// Whether this node is about to give the bus away, or to work for nobody.
    leaves: AtomicBool,
    hands: Hands,
    table: Table,
    /// What the tasks of this node take, once.
    ends: Mutex<Option<Ends>>,
}

/// What waits to be sent.
struct Ends {
    said: mpsc::Receiver<Said>,
    going: mpsc::Receiver<Going>,
}

impl Spread {
    /// What comes back from other nodes goes to `back`.
    pub(crate) fn new(mesh: Arc<dyn Mesh>, session: u64, back: Arc<dyn Back>) -> Arc<Self> {
        let (hands, said) = Hands::new();
        let (send, going) = mpsc::channel(GOING);
        Arc::new(Self {
            mesh,
            session,
            asking: Asking::default(),
            answering: Arc::new(Semaphore::new(ANSWERING)),
            leaves: AtomicBool::new(false),
            hands,
            table: Table::new(send, back),
            ends: Mutex::new(Some(Ends { said, going })),
        })
    }

    /// Has the owner of the bus do something; `whose` says who that is.
    pub(crate) async fn ask(&self, asked: Bytes, whose: &str) -> Result<Bytes, EngineError> {
        self.asking.ask(&*self.mesh, asked, whose, ANSWER_FOR).await
    }

    /// The same with a time of its own.
    async fn ask_within(&self, within: Duration, asked: Bytes, whose: &str) -> Result<Bytes, EngineError> {
        self.asking.ask(&*self.mesh, asked, whose, within).await
    }

    /// The name of this node on the bus.
    pub(crate) fn name(&self) -> &str {
        self.mesh.node()
    }

    /// Deliveries that other nodes ran for this one.
    pub(crate) fn handled_elsewhere(&self) -> u64 {
        self.table.handled()
    }

    /// The other nodes, as this one knows them while it owns the bus.
    pub(crate) fn others(&self) -> Vec<NodeInfo> {
        let info = |seen: Seen| {
            let Seen { name, hello, since, works, in_flight, handled } = seen;
            let About { version, pid, admin } = hello.about;
            NodeInfo {
                name: name.to_string(),
                role: if works && !hello.offers.is_empty() { NodeRole::Worker } else { NodeRole::Standby },
                version,
                pid,
                admin,
                generation: hello.generation,
                services: hello.offers.into_iter().map(|offer| (offer.service, offer.version)).collect(),
                in_flight,
                handled,
                since_ms: since,
            }
        };
        self.table.nodes().into_iter().map(info).collect()
    }

    /// What this node can do for the owner of the bus from now on.
    pub(crate) fn offer(&self, skills: Vec<Skill>) {
        self.hands.set(skills);
    }

    /// This node takes nothing new of the owner.
    pub(crate) fn leave(&self, inner: &Inner) {
        self.leaves.store(true, Ordering::Relaxed);
        self.beat(inner);
    }

    /// Whether this node has nothing of the owner.
    pub(crate) fn is_free(&self) -> bool {
        self.hands.holding().holds.is_empty()
    }

    /// This node works for nobody any more.
    pub(crate) fn work_no_more(&self) {
        self.hands.stop();
    }

    /// Says something to another node. What is not said is said again or not needed: nothing rests on a single message.
    fn say(&self, to: To, message: &Message) -> bool {
        let sent = match message.write() {
            Ok(message) => self.mesh.send(to, message).map_err(|why| why.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = &sent {
            tracing::debug!("a message to another node was not sent: {why}");
        }
        sent.is_ok()
    }

    /// Handles what another node sent.
    fn take(self: &Arc<Self>, from: &Arc<str>, message: Bytes, admin: &Arc<Admin>, tasks: &TaskSet) {
        let inner = &admin.inner;
        match Message::read(message) {
            Ok(Message::Hello(hello)) => {
                if let Some(epoch) = inner.owns() {
                    self.welcome(from, *hello, epoch, inner, tasks);
                }
            }
            Ok(Message::Beat(beat)) => {
                if beat.session == self.session && inner.owns().is_none() {
                    self.asking.hear(from, beat.epoch, inner.clock.monotonic_ns());
                    self.hands.follow(self.asking.owner());
                }
            }
            Ok(Message::Ask { epoch, id, asked }) => self.answer(from, epoch, id, asked, admin, tasks),
            Ok(Message::Answer { id, answer }) => self.asking.answered(id, answer),
            Ok(Message::Chunk { epoch, number, subscription, chunk }) => {
                let id = chunk.id;
                if !self.hands.take(from, epoch, number, &subscription, chunk) {
                    let back = Message::GaveBack { epoch, chunks: vec![id] };
                    self.say(To::Owner, &back);
                }
            }
            Ok(Message::Reports { epoch, reports }) if inner.owns() == Some(epoch) => {
                let void = self.table.reported(from, reports);
                if void > 0 {
                    tracing::debug!(%from, void, "reports came too late and are void");
                }
            }
            Ok(Message::GaveBack { epoch, chunks }) if inner.owns() == Some(epoch) => {
                self.table.gave_back(from, &chunks, inner.clock.monotonic_ns());
            }
            // Of, or for, an owner that is none any more.
            Ok(Message::Reports { .. } | Message::GaveBack { .. }) => {}
            Err(unreadable) => tracing::debug!(%from, "{unreadable}"),
        }
    }

    /// A node that waits says hello to this one, which owns the bus.
    fn welcome(&self, from: &Arc<str>, hello: Hello, epoch: Epoch, inner: &Arc<Inner>, tasks: &TaskSet) {
        let beat = Beat { epoch, session: hello.session };
        self.say(To::Node(Arc::clone(from)), &Message::Beat(beat));
        let listens = hello.epoch == epoch;
        // Only to one that has its services ready.
        let is_next = listens && hello.ready && hello.generation > inner.generation && inner.engine.hands_over();
        if is_next && *inner.ready.borrow() && !inner.is_stopping() && !self.leaves.swap(true, Ordering::Relaxed) {
            tasks.spawn(handing::hand_over(Arc::clone(inner), Arc::clone(from), hello.generation));
        }
        if self.table.hello(from, hello, listens, inner.clock.monotonic_ns(), inner.clock.now()) {
            tracing::info!(node = %from, "another node works for this one");
        }
    }

    /// Answers a question, in a task of its own.
    fn answer(
        self: &Arc<Self>,
        from: &Arc<str>,
        epoch: Epoch,
        id: u64,
        asked: Bytes,
        admin: &Arc<Admin>,
        tasks: &TaskSet,
    ) {
        let to = To::Node(Arc::clone(from));
        let refuse = |why: &str| {
            self.say(to.clone(), &Message::Answer { id, answer: Answer::Refused(why.into()) });
        };
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
        let now_ns = inner.clock.monotonic_ns();
        if inner.owns().is_some() {
            self.asking.forget();
            for gone in self.table.sweep(now_ns) {
                tracing::warn!(node = %gone, "a node that worked for this one says nothing any more; what it had goes to others");
            }
            return;
        }
        if self.asking.fell_silent(now_ns) {
            tracing::warn!("the node that owns the bus says nothing any more");
        }
        if self.asking.is_quiet(now_ns) {
            // Before the owner gives it to somebody else.
            self.hands.follow(None);
        }
        let Holding { epoch, seen, holds, mut offers, ready } = self.hands.holding();
        if self.leaves.load(Ordering::Relaxed) {
            offers.clear();
        }
        let about =
            About { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id(), admin: inner.admin };
        let hello =
            Hello { session: self.session, epoch, seen, holds, ready, offers, generation: inner.generation, about };
        self.say(To::Owner, &Message::Hello(Box::new(hello)));
    }
}

/// Hears and answers other nodes, and works with them, until this one ends.
pub(crate) async fn attend(spread: Arc<Spread>, admin: Arc<Admin>, tasks: TaskSet) {
    let inner = Arc::clone(&admin.inner);
    let ends = spread.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Ends { said, going }) = ends {
        tasks.spawn(passing::send_chunks(Arc::clone(&spread), Arc::clone(&inner), going));
        tasks.spawn(passing::send_reports(Arc::clone(&spread), Arc::clone(&inner), said));
    }
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
            _ = stop.wait_for(|stop| *stop == Stop::Now) => break,
        }
    }
    if inner.owns().is_none() {
        // The owner gives what this node has to others without waiting.
        spread.hands.follow(None);
        spread.leave(&inner);
    }
    spread.hands.stop();
}
