//! One life of a node: engine, machine, lanes, and the glue between them that the node's driver is.
//!
//! The glue mirrors `runtime/node/src/driver.rs` and `driver/moves.rs`: actions are performed in the order in which they
//! were decided, answers of the engine go through the inbox, a move is answered to the machine at once. It decides
//! nothing. It is a mirror because the driver holds lanes of the host, and with them all of wasmtime; what the driver has
//! beyond it (its pace, metrics, held and pressed services, what it tells publishers) is shown by `tests/e2e`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busway_dispatch::{Action, Input, Machine, MachineOptions};
use busway_engine::{Embedded, Engine, EngineError, Epoch, Partition, ReadRequest, Room, Settled, Sink};
use busway_log::testing::ManualClock;
use busway_types::{Batch, Clock as _, Limits, Logged, Offset, Replay, SubId, Timestamp, Verdict};

use crate::coverage::Coverage;
use crate::guests::Guest;
use crate::lanes::Running;
use crate::model::Model;

const TICK_EVERY: Duration = Duration::from_secs(1);

/// What the engine said and the machine has not heard yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<Heard>>,
    /// Everything that was appended and the model does not know yet, heard or not.
    appended: Mutex<Vec<Batch>>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few are queued at a time, and most are taken at once")]
pub(crate) enum Heard {
    Assigned(Epoch),
    Appended(Batch),
    Delayed(Timestamp),
    Settled(Settled),
    Machine(Input),
    Failed,
}

impl Inbox {
    fn push(&self, heard: Heard) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(heard);
    }

    fn pop(&self) -> Option<Heard> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// What was appended since it was asked for the last time.
    pub(crate) fn take_appended(&self) -> Vec<Batch> {
        std::mem::take(&mut *self.appended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Sink for Inbox {
    fn assigned(&self, _partition: Partition, epoch: Epoch, _head: Offset) {
        self.push(Heard::Assigned(epoch));
    }

    fn appended(&self, _partition: Partition, batch: Batch) {
        self.appended.lock().unwrap_or_else(PoisonError::into_inner).push(batch.clone());
        self.push(Heard::Appended(batch));
    }

    fn delayed(&self, _partition: Partition, due: Timestamp) {
        self.push(Heard::Delayed(due));
    }

    fn settled(&self, _partition: Partition, settled: Settled) {
        self.push(Heard::Settled(settled));
    }

    fn revoked(&self, _partition: Partition) {
        self.push(Heard::Failed);
    }

    fn failed(&self, _error: EngineError) {
        self.push(Heard::Failed);
    }
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) engine: Arc<Embedded>,
    pub(crate) machine: Machine,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) lanes: Vec<Running>,
    /// The guests by the numbers of their subscriptions.
    pub(crate) subs: BTreeMap<SubId, usize>,
    tokens: BTreeMap<u64, SubId>,
    /// Subscriptions that somebody wishes to move, and still waits for.
    pub(crate) wishes: BTreeSet<SubId>,
    /// What was moved since it was asked for last, and the generations that began so.
    pub(crate) moved: Vec<(SubId, u32)>,
    epoch: Epoch,
    engine_due: Option<Timestamp>,
    ticked: Timestamp,
    pub(crate) room: Room,
    /// The engine failed: the node has to stop.
    pub(crate) failed: bool,
    clock: ManualClock,
    out: Vec<Action>,
}

impl Node {
    /// Starts on what the engine holds; gives up when the engine fails at once.
    pub(crate) fn start(
        engine: Embedded,
        guests: &[Guest],
        limits: &Limits,
        seed: u64,
        clock: &ManualClock,
        model: &mut Model,
    ) -> Self {
        let (engine, inbox) = (Arc::new(engine), Arc::new(Inbox::default()));
        let replayable = engine.capabilities().replay;
        let machine = Machine::new(MachineOptions { limits: limits.clone(), seed, replayable });
        let mut node = Self {
            engine,
            machine,
            inbox,
            lanes: Vec::new(),
            subs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            wishes: BTreeSet::new(),
            moved: Vec::new(),
            epoch: 0,
            engine_due: None,
            ticked: Timestamp(0),
            room: Room::Enough,
            failed: false,
            clock: clock.clone(),
            out: Vec::new(),
        };
        let sink: Arc<dyn Sink> = node.inbox.clone();
        node.failed = node.engine.start(sink).is_err();
        while !node.failed && node.hear(model, &mut Coverage::default()) {}
        for (index, guest) in guests.iter().enumerate() {
            if node.failed {
                break;
            }
            match node.engine.subscribe(0, node.epoch, &guest.spec) {
                Ok((sub, state)) => {
                    node.subs.insert(sub, index);
                    let (spec, head) = (guest.spec.clone(), node.engine.status().head);
                    node.step(Input::Attach { sub, spec, state, head }, model, &mut Coverage::default());
                }
                Err(_) => node.failed = true,
            }
        }
        node
    }

    /// Takes the next thing from the inbox; false when there is none.
    pub(crate) fn hear(&mut self, model: &mut Model, coverage: &mut Coverage) -> bool {
        let Some(heard) = self.inbox.pop() else { return false };
        match heard {
            Heard::Assigned(epoch) => self.epoch = epoch,
            Heard::Appended(batch) => self.step(Input::Appended(batch), model, coverage),
            Heard::Delayed(due) => self.engine_due = Some(self.engine_due.map_or(due, |at| at.min(due))),
            Heard::Settled(Settled { token, conflicts }) => {
                let sub = self.tokens.remove(&token).expect("a settlement is answered once");
                if !conflicts.is_empty() {
                    coverage.count("settlements", "with conflicts");
                }
                model.sequenced(sub, &conflicts);
                self.step(Input::Settled { sub, token, conflicts }, model, coverage);
            }
            Heard::Machine(input) => self.step(input, model, coverage),
            Heard::Failed => self.failed = true,
        }
        true
    }

    pub(crate) fn step(&mut self, input: Input, model: &mut Model, coverage: &mut Coverage) {
        let mut out = std::mem::take(&mut self.out);
        self.machine.step(self.clock.now(), input, &mut out);
        self.machine.check_invariants();
        for action in out.drain(..) {
            if self.perform(action, model, coverage).is_err() {
                self.failed = true;
                break;
            }
        }
        out.clear();
        self.out = out;
    }

    fn perform(&mut self, action: Action, model: &mut Model, coverage: &mut Coverage) -> Result<(), EngineError> {
        match action {
            Action::Deliver(chunk) => {
                model.delivered(&chunk, &self.lanes, self.clock.now());
                self.lanes.push(Running::new(chunk));
            }
            Action::Settle(settlement) => {
                self.tokens.insert(settlement.token, settlement.sub);
                model.settling(&settlement, self.clock.now());
                for settle in &settlement.settles {
                    if settle.verdict == Verdict::Expired {
                        coverage.count("settlements", "expired");
                    }
                }
                self.engine.settle(0, self.epoch, settlement)?;
            }
            Action::Read { sub, from, max_events, max_bytes } => {
                coverage.count("reads", "lagging");
                let patterns = self.subs.get(&sub).map(|index| model.guests[*index].spec.patterns.clone());
                let request =
                    ReadRequest { from, patterns: patterns.unwrap_or_default().into(), max_events, max_bytes };
                let read = self.engine.read(0, &request)?;
                model.was_read(&read.events);
                self.inbox.push(Heard::Machine(Input::Read { sub, result: read.events, next: read.next }));
            }
            Action::Fetch { sub, offsets } => {
                coverage.count("reads", "fetch");
                let events = self.engine.fetch(0, &offsets)?;
                model.was_read(&events);
                assert!(
                    events.len() == offsets.len() || !self.engine.capabilities().durable,
                    "parked events are gone: asked for {offsets:?}, got {:?}",
                    events.iter().map(|logged| logged.offset).collect::<Vec<_>>()
                );
                self.inbox.push(Heard::Machine(Input::Fetched { sub, events, asked: offsets }));
            }
            Action::Move { sub, replay } => {
                let input =
                    if self.wishes.remove(&sub) { self.move_now(sub, &replay, model)? } else { Input::Stays { sub } };
                let stays = matches!(input, Input::Stays { .. });
                coverage.count("moves", if stays { "stayed" } else { "moved" });
                self.step(input, model, coverage);
            }
            Action::Advance { sub, cursor } => self.engine.advance(0, self.epoch, sub, cursor),
            Action::Warn(_) => coverage.count("machine", "warnings"),
        }
        Ok(())
    }

    /// Somebody wishes a part of the log to be delivered again; nothing happens while an earlier wish is open.
    pub(crate) fn wish_to_move(&mut self, sub: SubId, replay: Replay, model: &mut Model, coverage: &mut Coverage) {
        if self.wishes.insert(sub) {
            self.step(Input::Seek { sub, replay }, model, coverage);
        } else {
            coverage.count("moves", "busy");
        }
    }

    fn move_now(&mut self, sub: SubId, replay: &Replay, model: &mut Model) -> Result<Input, EngineError> {
        let before = self.engine.subscriptions().into_iter().find(|known| known.id == sub).expect("it is known");
        let status = self.engine.status();
        assert!(self.lanes.iter().all(|running| running.chunk.sub != sub), "{} is moved while it runs", before.name);
        match self.engine.replay(0, self.epoch, sub, replay) {
            Ok(moved) => {
                model.moved(&before, replay, &moved, (status.oldest, status.head));
                let replayable = self.engine.capabilities().replay;
                let events = if replayable { Vec::new() } else { self.part(sub, &moved.replay, model)? };
                self.moved.push((sub, moved.state.generation));
                Ok(Input::Moved { sub, state: moved.state, events })
            }
            Err(EngineError::Refused(why)) => {
                assert!(replay.from < status.oldest && !self.engine.capabilities().replay, "not moved: {why}");
                Ok(Input::Stays { sub })
            }
            Err(error) => Err(error),
        }
    }

    /// The events of a part that the subscription selects.
    fn part(&self, sub: SubId, replay: &Replay, model: &Model) -> Result<Vec<Logged>, EngineError> {
        let patterns = model.guests[self.subs[&sub]].spec.patterns.clone().into();
        let request = ReadRequest { from: replay.from, patterns, max_events: usize::MAX, max_bytes: usize::MAX };
        let read = self.engine.read(0, &request)?;
        model.was_read(&read.events);
        Ok(read.events.into_iter().filter(|logged| logged.offset < replay.to).collect())
    }

    /// What the driver does after each round: time and room.
    pub(crate) fn after(&mut self, model: &mut Model, coverage: &mut Coverage) {
        let now = self.clock.now();
        if self.machine.next_due().is_some_and(|at| at <= now) {
            self.step(Input::Tick, model, coverage);
        }
        if self.engine_due.is_some_and(|at| at <= now) || now.since(self.ticked) >= TICK_EVERY {
            self.ticked = now;
            match self.engine.tick(now) {
                Ok(due) => self.engine_due = due,
                Err(_) => self.failed = true,
            }
        }
        let room = self.engine.room();
        if room != self.room {
            self.room = room;
            coverage.count("room", if room == Room::Enough { "enough again" } else { "short" });
            self.step(Input::Room(room < Room::NoTransactions), model, coverage);
        }
    }

    /// When something will be due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        [self.machine.next_due(), self.engine_due].into_iter().flatten().min()
    }
}
