//! The driver: runs the dispatcher's state machine of one partition over an engine and the lanes.
//!
//! Role: one thread that owns the machine. It takes inputs in batches, lets the machine decide, and performs the actions:
//! chunks to lanes, settlements to the engine, reads back into the machine. It decides nothing about order or redelivery.
//!
//! ```text
//!   engine --appended, settled--> inbox --> machine.step --> actions --> lane.submit / engine.settle / engine.read
//!   lanes  --reports------------/                 ^---------- results of reads, lost chunks -------------'
//! ```
//!
//! Invariants: only this thread touches the machine; every action is performed in the order in which it was decided; the
//! thread ends only after `Stop` or after the engine failed.

pub(crate) mod executor;
mod moves;
mod pace;
mod pressure;
mod reads;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busway_dispatch::{Action, Input, Machine, SubStats, Warning};
use busway_engine::{Engine, EngineError, Epoch, Partition, ReadRequest, Room, Settled, Sink};
use busway_host::LaneSink;
use busway_types::{
    Batch, Chunk, Clock, Limits, Offset, Outcome, Pattern, Replay, Report, ServiceName, SubId, SubscriptionSpec,
    SubscriptionState, Timestamp,
};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{oneshot, watch};

use self::executor::Executor;
use self::moves::Moved;
use self::pace::Pace;
use self::reads::{Ask, Reads};
use crate::dead_log::DeadLog;
use crate::inbox::{Gate, Inbox};
use crate::metrics::Metrics;
use crate::publisher::Publisher;
use crate::spread::{Back, Ear};

/// The partition of the embedded engine.
pub(crate) const PARTITION: Partition = 0;
/// How often the engine is ticked when nothing is due.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How long a subscription rests when no instance could be made; doubled each time.
const REST_FIRST: Duration = Duration::from_millis(100);
const REST_LONGEST: Duration = Duration::from_secs(10);
/// The longest sleep of a driver that waits for nothing.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Sees every report before the machine does; for benchmarks and tests.
pub type ReportTap = Arc<dyn Fn(&Report) + Send + Sync>;

/// What happens to a partition.
pub(crate) enum Event {
    Assigned {
        epoch: Epoch,
    },
    Appended(Batch, usize),
    Delayed(Timestamp),
    Settled(Settled),
    Machine(Input),
    Report(Report),
    /// A chunk to be dropped here rather than on its lane.
    Spent(Arc<Chunk>),
    Lost {
        sub: SubId,
        chunk: u64,
        failed: bool,
    },
    Attach {
        sub: SubId,
        target: Box<Target>,
        state: SubscriptionState,
        head: Offset,
    },
    Swap {
        sub: SubId,
        target: Box<Target>,
    },
    Detach {
        sub: SubId,
        done: oneshot::Sender<()>,
    },
    /// A part of the log is to be delivered again.
    Replay {
        sub: SubId,
        replay: Replay,
        done: oneshot::Sender<Moved>,
    },
    /// Other nodes take more chunks than before, or fewer.
    Resized,
    /// Somebody wants figures.
    Stats(oneshot::Sender<FxHashMap<SubId, SubStats>>),
    /// Nothing new for anybody: the node drains.
    PauseAll,
    Failed(EngineError),
    Stop,
}

/// Where the chunks of a subscription go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) spec: SubscriptionSpec,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) metrics: Arc<Metrics>,
    /// What the service may publish to.
    pub(crate) grants: Vec<Pattern>,
}

impl Target {
    /// Its settings, with the concurrency of whoever runs it on all nodes.
    fn spec_of_all(&self) -> SubscriptionSpec {
        let mut spec = self.spec.clone();
        spec.concurrency = spec.concurrency.saturating_add(self.executor.elsewhere());
        spec
    }
}

struct Attached {
    target: Target,
    /// Paused because the node drains.
    held: bool,
    /// Paused until then because no instance could be made.
    resting: Option<Timestamp>,
    /// Paused because a subscription that it may publish to is far over its limit.
    pressed: bool,
    /// No instance could be made so many times in a row.
    failures: u32,
    full: bool,
    detaching: Option<oneshot::Sender<()>>,
}

impl Attached {
    fn is_paused(&self) -> bool {
        self.held || self.pressed || self.resting.is_some()
    }
}

/// What others may know of the driver.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox<Event>,
    pub(crate) gate: Arc<Gate>,
    /// Whether nothing is queued, in flight or delayed.
    pub(crate) idle: watch::Sender<bool>,
    /// Set once, when the engine failed.
    pub(crate) failure: watch::Sender<Option<String>>,
    /// Set once, when another node owns the partition.
    pub(crate) revoked: watch::Sender<bool>,
    /// The epoch under which the partition is owned; 0 before it is.
    pub(crate) epoch: watch::Sender<Epoch>,
    /// The offset after the newest event that the driver has seen.
    pub(crate) head: watch::Sender<Offset>,
    /// What other nodes that share the bus send.
    pub(crate) ear: Ear,
    /// Services of which no instance can be made, and why.
    failing: Mutex<FxHashMap<ServiceName, String>>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("driver event")
    }
}

impl Shared {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            inbox: Inbox::new(),
            gate: Arc::new(Gate::new(limits.inflight_bytes)),
            idle: watch::Sender::new(false),
            failure: watch::Sender::new(None),
            revoked: watch::Sender::new(false),
            epoch: watch::Sender::new(0),
            head: watch::Sender::new(0),
            ear: Ear::default(),
            failing: Mutex::new(FxHashMap::default()),
        })
    }

    /// Services of which no instance can be made, and why.
    pub(crate) fn failing(&self) -> MutexGuard<'_, FxHashMap<ServiceName, String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Figures of every attached subscription, once everything that was pushed before has been handled and `idle` is set
    /// accordingly.
    pub(crate) async fn stats(&self) -> FxHashMap<SubId, SubStats> {
        let (ask, answer) = oneshot::channel();
        self.inbox.push(Event::Stats(ask));
        match tokio::time::timeout(Duration::from_secs(10), answer).await {
            Ok(Ok(stats)) => stats,
            // The driver ended.
            Ok(Err(_)) | Err(_) => FxHashMap::default(),
        }
    }
}

impl Sink for Shared {
    fn assigned(&self, _partition: Partition, epoch: Epoch, head: Offset) {
        self.head.send_replace(head);
        self.epoch.send_replace(epoch);
        self.inbox.push(Event::Assigned { epoch });
    }

    fn appended(&self, _partition: Partition, batch: Batch) {
        let bytes = batch.events.iter().map(|event| event.cost()).sum();
        self.gate.add(bytes);
        self.inbox.push(Event::Appended(batch, bytes));
    }

    fn delayed(&self, _partition: Partition, due: Timestamp) {
        self.inbox.push(Event::Delayed(due));
    }

    fn settled(&self, _partition: Partition, settled: Settled) {
        self.inbox.push_ahead(Event::Settled(settled));
    }

    fn revoked(&self, _partition: Partition) {
        // First: what fails from now on fails because of that.
        self.revoked.send_replace(true);
        self.inbox.push(Event::Stop);
    }

    fn failed(&self, error: EngineError) {
        self.inbox.push(Event::Failed(error));
    }

    fn heard(&self, from: &Arc<str>, message: Bytes) {
        self.ear.hear(from, message);
    }
}

impl LaneSink for Shared {
    fn report(&self, report: Report) {
        self.inbox.push_ahead(Event::Report(report));
    }

    fn spent(&self, chunk: Arc<Chunk>) {
        self.inbox.push(Event::Spent(chunk));
    }

    fn lost(&self, sub: SubId, chunk: u64) {
        self.inbox.push_ahead(Event::Lost { sub, chunk, failed: true });
    }

    fn instance_failed(&self, service: &ServiceName, reason: &str) {
        tracing::error!(service = %service, reason, "no instance could be made; its events wait");
        self.failing().insert(service.clone(), reason.to_owned());
    }
}

impl Back for Shared {
    fn report(&self, report: Report) {
        LaneSink::report(self, report);
    }

    fn lost(&self, sub: SubId, chunk: u64) {
        self.inbox.push_ahead(Event::Lost { sub, chunk, failed: false });
    }

    fn resized(&self) {
        self.inbox.push(Event::Resized);
    }
}

/// Ends the node when the driver panics: without it nothing would be handled and nobody would know.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failure.send_replace(Some("the driver panicked; this is a bug of busway".to_owned()));
        }
    }
}

pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) machine: Machine,
    pub(crate) limits: Limits,
    pub(crate) tap: Option<ReportTap>,
    attached: FxHashMap<SubId, Attached>,
    /// Subscriptions by settlement token, for the figures of conflicts.
    tokens: FxHashMap<u64, SubId>,
    /// Who waits for a subscription to be moved.
    moves: FxHashMap<SubId, oneshot::Sender<Moved>>,
    /// Who wants figures at the end of this round.
    asked: Vec<oneshot::Sender<FxHashMap<SubId, SubStats>>>,
    epoch: Epoch,
    pace: Pace,
    room: Room,
    engine_due: Option<Timestamp>,
    ticked: Timestamp,
    /// How many of the attached are full, pressed and on their way out.
    full: usize,
    pressed: usize,
    detaching: usize,
    /// Whether some subscription rests.
    resting: bool,
    dead_log: DeadLog,
    /// Where reading is done that may take long; none when it never does.
    reads: Option<Reads>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        publisher: Arc<Publisher>,
        machine: Machine,
        limits: Limits,
        tap: Option<ReportTap>,
    ) -> Self {
        let reads = engine.capabilities().shared.then(|| Reads::new(&shared, &engine));
        Self {
            reads,
            shared,
            engine,
            clock,
            publisher,
            machine,
            limits,
            tap,
            attached: FxHashMap::default(),
            tokens: FxHashMap::default(),
            moves: FxHashMap::default(),
            asked: Vec::new(),
            epoch: 0,
            pace: Pace::new(),
            room: Room::Enough,
            engine_due: None,
            ticked: Timestamp(0),
            full: 0,
            pressed: 0,
            detaching: 0,
            resting: false,
            dead_log: DeadLog::default(),
        }
    }

    /// Runs until told to stop or until the engine fails.
    pub(crate) fn run(mut self) {
        let _guard = PanicGuard(Arc::clone(&self.shared));
        let (mut ahead, mut events) = (Vec::new(), Vec::new());
        let mut actions = Vec::new();
        loop {
            self.shared.inbox.take(&mut ahead, &mut events, self.sleep(), self.pace.nap());
            self.pace.took(self.clock.monotonic_ns());
            match self.round(&mut ahead, &mut events, &mut actions) {
                Ok(true) => {}
                Ok(false) => return self.tell_dead(self.clock.now(), true),
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// Handles what was taken; says whether to go on.
    fn round(
        &mut self,
        ahead: &mut Vec<Event>,
        events: &mut Vec<Event>,
        actions: &mut Vec<Action>,
    ) -> Result<bool, EngineError> {
        let now = self.clock.now();
        for event in ahead.drain(..) {
            self.handle(now, event, actions)?;
        }
        for event in events.drain(..) {
            if self.pace.refills_early() {
                self.shared.inbox.take_ahead(ahead);
                for event in ahead.drain(..) {
                    self.handle(now, event, actions)?;
                }
            }
            if !self.handle(now, event, actions)? {
                return Ok(false);
            }
        }
        self.after(now, actions)?;
        Ok(true)
    }

    fn fail(&mut self, error: &EngineError) {
        if matches!(error, EngineError::Stale { .. }) || *self.shared.revoked.borrow() {
            // Another node goes on with what was in flight here: no failure of this one.
            self.shared.revoked.send_replace(true);
            return;
        }
        tracing::error!(%error, "the engine failed; the node stops");
        self.shared.failure.send_replace(Some(error.to_string()));
    }

    /// How long there is nothing to do unless something arrives.
    fn sleep(&self) -> Duration {
        let longest = if self.resting || self.room > Room::Enough { REST_FIRST } else { LONGEST_SLEEP };
        let due = [self.machine.next_due(), self.engine_due].into_iter().flatten().min();
        let now = self.clock.now();
        due.map_or(longest, |at| at.since(now).max(Duration::from_millis(1)).min(longest))
    }

    fn handle(&mut self, now: Timestamp, event: Event, actions: &mut Vec<Action>) -> Result<bool, EngineError> {
        match event {
            Event::Assigned { epoch } => self.epoch = epoch,
            Event::Appended(batch, bytes) => {
                self.shared.gate.remove(bytes);
                self.pace.handled(batch.events.len());
                self.shared.head.send_replace(batch.end());
                self.machine.step(now, Input::Appended(batch), actions);
            }
            Event::Delayed(due) => self.engine_due = Some(self.engine_due.map_or(due, |at| at.min(due))),
            Event::Settled(settled) => self.settled(now, settled, actions),
            Event::Machine(input) => self.machine.step(now, input, actions),
            Event::Report(report) => {
                self.pace.reported(report.results.len());
                if let Some(tap) = &self.tap {
                    tap(&report);
                }
                if let Some(attached) = self.attached.get_mut(&report.sub) {
                    attached.target.metrics.record(&report.results);
                    let ran = report.results.iter().any(|result| result.outcome != Outcome::Skipped);
                    if ran && std::mem::take(&mut attached.failures) > 0 {
                        self.shared.failing().remove(&attached.target.spec.service);
                    }
                }
                self.machine.step(now, Input::Report(report), actions);
            }
            Event::Spent(chunk) => drop(chunk),
            Event::Lost { sub, chunk, failed } => {
                if failed {
                    self.rest(now, sub, actions);
                }
                self.machine.step(now, Input::ChunkLost { sub, chunk }, actions);
            }
            Event::Attach { sub, target, state, head } => self.attach(now, sub, *target, state, head, actions),
            Event::Swap { sub, target } => self.swap(now, sub, *target, actions),
            Event::Detach { sub, done } => {
                self.moves.remove(&sub);
                self.machine.step(now, Input::Detach { sub }, actions);
                match self.attached.get_mut(&sub) {
                    Some(attached) => {
                        self.detaching += usize::from(attached.detaching.is_none());
                        attached.detaching = Some(done);
                    }
                    None => drop(done.send(())),
                }
            }
            Event::Replay { sub, replay, done } => self.wish_to_move(now, sub, replay, done, actions)?,
            Event::Resized => self.resize(now, actions),
            Event::Stats(ask) => self.asked.push(ask),
            Event::PauseAll => {
                for (sub, attached) in &mut self.attached {
                    attached.held = true;
                    self.machine.step(now, Input::Paused { sub: *sub, paused: true }, actions);
                }
            }
            Event::Failed(error) => return Err(error),
            Event::Stop => return Ok(false),
        }
        self.perform(actions)?;
        Ok(true)
    }

    fn attach(
        &mut self,
        now: Timestamp,
        sub: SubId,
        target: Target,
        state: SubscriptionState,
        head: Offset,
        actions: &mut Vec<Action>,
    ) {
        let spec = target.spec_of_all();
        self.shared.failing().remove(&spec.service);
        if let Some(old) = self.attached.remove(&sub) {
            // It comes back before it had gone: whoever waits for its end learns that there is none.
            self.detaching -= usize::from(old.detaching.is_some());
            self.pressed -= usize::from(old.pressed);
            self.full -= usize::from(old.full);
        }
        let attached =
            Attached { target, held: false, resting: None, pressed: false, failures: 0, full: false, detaching: None };
        self.attached.insert(sub, attached);
        self.machine.step(now, Input::Attach { sub, spec, state, head }, actions);
    }

    /// The next chunk goes to another lane; what is in flight is still reported by the old one.
    fn swap(&mut self, now: Timestamp, sub: SubId, target: Target, actions: &mut Vec<Action>) {
        if let Some(attached) = self.attached.get_mut(&sub) {
            let spec = target.spec_of_all();
            self.shared.failing().remove(&spec.service);
            attached.target = target;
            self.machine.step(now, Input::Reconfigure { sub, spec }, actions);
        }
    }

    /// Each subscription gets as many chunks at a time as all nodes take together.
    fn resize(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for (sub, attached) in self.attached.iter().filter(|(_, attached)| attached.detaching.is_none()) {
            let spec = attached.target.spec_of_all();
            self.machine.step(now, Input::Reconfigure { sub: *sub, spec }, actions);
        }
    }

    /// No instance could be made: nothing more for this subscription for a while, longer each time.
    fn rest(&mut self, now: Timestamp, sub: SubId, actions: &mut Vec<Action>) {
        if let Some(attached) = self.attached.get_mut(&sub)
            && attached.resting.is_none()
        {
            let wait = REST_FIRST.saturating_mul(1 << attached.failures.min(16)).min(REST_LONGEST);
            attached.failures = attached.failures.saturating_add(1);
            attached.resting = Some(now.after(wait));
            self.resting = true;
            self.machine.step(now, Input::Paused { sub, paused: true }, actions);
        }
    }

    /// Lets those that rested long enough try again.
    fn wake_rested(&mut self, now: Timestamp, actions: &mut Vec<Action>) -> Result<(), EngineError> {
        self.resting = false;
        for (sub, attached) in &mut self.attached {
            match attached.resting {
                Some(until) if until <= now => {
                    attached.resting = None;
                    let paused = attached.is_paused();
                    self.machine.step(now, Input::Paused { sub: *sub, paused }, actions);
                }
                Some(_) => self.resting = true,
                None => {}
            }
        }
        self.perform(actions)
    }

    fn settled(&mut self, now: Timestamp, settled: Settled, actions: &mut Vec<Action>) {
        let Settled { token, conflicts } = settled;
        let Some(sub) = self.tokens.remove(&token) else { return };
        if !conflicts.is_empty()
            && let Some(attached) = self.attached.get(&sub)
        {
            attached.target.metrics.conflicts(conflicts.len() as u64);
        }
        self.machine.step(now, Input::Settled { sub, token, conflicts }, actions);
    }

    fn perform(&mut self, actions: &mut Vec<Action>) -> Result<(), EngineError> {
        for action in actions.drain(..) {
            match action {
                Action::Deliver(chunk) => {
                    let (sub, id) = (chunk.sub, chunk.id);
                    let taken = self.attached.get(&sub).is_some_and(|a| a.target.executor.submit(chunk).is_ok());
                    if !taken {
                        self.shared.inbox.push_ahead(Event::Lost { sub, chunk: id, failed: false });
                    }
                }
                Action::Settle(settlement) => {
                    if let Some(Attached { target, .. }) = self.attached.get(&settlement.sub)
                        && let Some(died) = target.metrics.settled(&settlement)
                    {
                        self.dead_log.note(&target.spec.service, &died);
                    }
                    self.tokens.insert(settlement.token, settlement.sub);
                    self.engine.settle(PARTITION, self.epoch, settlement)?;
                }
                Action::Read { sub, from, max_events, max_bytes } => {
                    let patterns = self.attached.get(&sub).map(|a| a.target.spec.patterns.clone()).unwrap_or_default();
                    let request = ReadRequest { from, patterns: patterns.into(), max_events, max_bytes };
                    self.ask(Ask::Read { sub, request })?;
                    self.warn_of_loss(sub, from);
                }
                Action::Fetch { sub, offsets } => self.ask(Ask::Fetch { sub, offsets })?,
                Action::Advance { sub, cursor } => self.engine.advance(PARTITION, self.epoch, sub, cursor),
                Action::Move { sub, replay } => self.perform_move(sub, &replay)?,
                Action::Warn(warning) => self.warn(&warning),
            }
        }
        Ok(())
    }

    /// Reads what the machine wants to know, here or, where that may take long, elsewhere.
    fn ask(&self, ask: Ask) -> Result<(), EngineError> {
        if let Some(reads) = &self.reads {
            reads.ask(ask);
        } else {
            self.shared.inbox.push(Event::Machine(ask.answer(&*self.engine)?));
        }
        Ok(())
    }

    /// A bus in memory keeps old events only up to a limit: say so when a late reader comes too late.
    fn warn_of_loss(&self, sub: SubId, from: Offset) {
        let oldest = self.engine.status().oldest;
        if from < oldest {
            let name = self.attached.get(&sub).map_or("?", |a| a.target.spec.name.as_str());
            tracing::warn!(subscription = name, from, oldest, "events that it had not read yet are no longer kept");
        }
    }

    fn warn(&self, warning: &Warning) {
        let attached = warning.sub().and_then(|sub| self.attached.get(&sub));
        let name = attached.map_or("-", |a| a.target.spec.name.as_str());
        tracing::warn!(subscription = name, "{warning}");
    }

    /// What follows each round: time, room, who is full, who is gone, whether anything is left to do.
    fn after(&mut self, now: Timestamp, actions: &mut Vec<Action>) -> Result<(), EngineError> {
        if self.machine.next_due().is_some_and(|at| at <= now) {
            self.machine.step(now, Input::Tick, actions);
            self.perform(actions)?;
        }
        if self.engine_due.is_some_and(|at| at <= now) || now.since(self.ticked) >= TICK_EVERY {
            self.ticked = now;
            self.engine_due = self.engine.tick(now)?;
        }
        let room = self.engine.room();
        if room != self.room {
            self.room = room;
            self.publisher.set_room(room);
            self.machine.step(now, Input::Room(room < Room::NoTransactions), actions);
            self.perform(actions)?;
        }
        if self.resting {
            self.wake_rested(now, actions)?;
        }
        self.note_full();
        if self.full > 0 || self.pressed > 0 {
            self.press(now, actions)?;
        }
        if self.detaching > 0 {
            self.finish_detached();
        }
        if !self.dead_log.is_empty() {
            self.tell_dead(now, false);
        }
        let idle = self.engine_due.is_none() && self.machine.is_idle() && self.shared.inbox.is_empty();
        self.shared.idle.send_if_modified(|was| std::mem::replace(was, idle) != idle);
        // Last: whoever asked for figures then also sees everything else as it was when they were taken.
        self.answer_stats();
        Ok(())
    }

    fn finish_detached(&mut self) {
        let gone = |machine: &Machine, sub: SubId| machine.stats(sub).is_none();
        let finished: Vec<SubId> = self
            .attached
            .iter()
            .filter(|(sub, a)| a.detaching.is_some() && gone(&self.machine, **sub))
            .map(|(sub, _)| *sub)
            .collect();
        for sub in finished {
            if let Some(attached) = self.attached.remove(&sub) {
                self.detaching -= 1;
                self.pressed -= usize::from(attached.pressed);
                if attached.full {
                    self.full = self.full.saturating_sub(1);
                    self.publisher.set_full(sub, "", &[], false);
                }
                if let Some(done) = attached.detaching {
                    let _ = done.send(());
                }
            }
        }
    }

    fn tell_dead(&mut self, now: Timestamp, all: bool) {
        for line in self.dead_log.due(now, all) {
            tracing::warn!("{line}");
        }
    }

    fn answer_stats(&mut self) {
        for ask in std::mem::take(&mut self.asked) {
            let stats = self.attached.keys().filter_map(|sub| Some((*sub, self.machine.stats(*sub)?))).collect();
            let _ = ask.send(stats);
        }
    }
}
