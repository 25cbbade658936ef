//! The embedded engine: one partition, one owner, everything atomic, in memory or on disk.
//!
//! Role: [`Engine`] without a server. `memory:` keeps events only as long as somebody needs them; `file:DIR` writes every
//! transaction to the segment log of `busway-log` and answers publishers once it is as safe as the durability says. Over
//! a [`Journal`] of another kind the same sequencer is the engine of a broker.
//!
//! ```text
//!   publish / settle --lock--> number, apply to State, tail --> sink (dispatcher)
//!                          \--> log thread: write, sync --> answers
//! ```
//!
//! Invariants: transactions reach the log in the order of their numbers (both happen under the lock); whatever leaves the
//! process waits for the log, the dispatcher does not.

mod core;
mod dedup;
mod journey;
mod kept;
mod kv;
mod local;
mod moves;
mod recent;
mod retention;
#[cfg(any(test, feature = "testing"))]
mod stepped;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use busway_log::{Durability, Fs, LogError, Space, State, SubChange, Txn};
use busway_types::{
    Clock, Effects, Event, EventId, KvVersion, Limits, Logged, Offset, Receipt, Replay, ServiceName, Settlement, SubId,
    SubscriptionSpec, SubscriptionState, Timestamp, mutant,
};
use bytes::Bytes;
use tokio::sync::oneshot;

use self::core::{Core, Sequenced};
use self::local::Local;
use crate::journal::Journal;
use crate::{
    Answer, Capabilities, Engine, EngineError, EngineStatus, Epoch, Handlings, KnownSubscription, KvEntries, KvSelect,
    Partition, ReadRequest, ReadResult, Replayed, Room, Settled, Sink,
};

/// Bytes that may wait for the disk before publishers wait; at twice that, handlers that publish wait too.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Where the embedded engine keeps its log.
#[derive(Clone, Debug)]
pub enum Storage {
    /// Nowhere: events live as long as the process.
    Memory,
    /// In a folder, which is created when it is missing.
    Disk {
        /// The folder.
        dir: PathBuf,
        /// When a publisher is told that its event is safe.
        durability: Durability,
    },
}

/// The engine of `memory:` and `file:DIR`.
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    core: Mutex<Core>,
    log: Option<Box<dyn Journal>>,
    sink: OnceLock<Arc<dyn Sink>>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    closed: AtomicBool,
    /// Why nothing is accepted any more, if something failed.
    failure: OnceLock<EngineError>,
    epoch: Epoch,
    tidied_at: AtomicU64,
    /// Whether it was said that the log is nearly full.
    warned: AtomicBool,
    /// The last known [`Core::kept_bytes`].
    kept_bytes: AtomicUsize,
    /// Bytes of the view on disk, as of the last look.
    view_bytes: AtomicU64,
    description: String,
}

impl Embedded {
    /// Opens the engine; recovers what is in the folder when there is one.
    pub fn open(
        storage: &Storage,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Self, EngineError> {
        let (state, log, description) = match storage {
            Storage::Memory => (State::default(), None, "memory: (events are lost when the process ends)".to_owned()),
            Storage::Disk { dir, durability } => {
                let (log, state) = Local::open(dir, *durability, fs)?;
                (state, Some(Box::new(log) as Box<dyn Journal>), format!("file:{}", dir.display()))
            }
        };
        Ok(Self::over(log, state, 1, description, clock, limits))
    }

    /// The sequencer over a journal whose last transaction led to `state`, owned under `epoch`; in memory without one.
    pub(crate) fn over(
        log: Option<Box<dyn Journal>>,
        state: State,
        epoch: Epoch,
        description: String,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Self {
        let core = Core::new(state, &limits, log.is_none());
        Self {
            shared: Arc::new(Shared {
                core: Mutex::new(core),
                log,
                sink: OnceLock::new(),
                clock,
                limits,
                closed: AtomicBool::new(false),
                failure: OnceLock::new(),
                epoch,
                tidied_at: AtomicU64::new(0),
                warned: AtomicBool::new(false),
                kept_bytes: AtomicUsize::new(0),
                view_bytes: AtomicU64::new(0),
                description,
            }),
        }
    }
}

/// An error with its causes on one line.
fn render(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn failed(error: &LogError) -> EngineError {
    EngineError::Failed(render(error))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept in memory apart from the tail; what it was a moment ago when somebody has the lock, for this is asked
    /// in each round of the dispatcher, which must not wait in line with publishers for it.
    fn kept_bytes(&self) -> usize {
        if let Ok(core) = self.core.try_lock() {
            self.kept_bytes.store(core.kept_bytes(), Ordering::Relaxed);
        }
        self.kept_bytes.load(Ordering::Relaxed)
    }

    fn check(&self, partition: Partition, epoch: Epoch) -> Result<(), EngineError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self.cause(EngineError::Closed));
        }
        if (partition != 0 || epoch != self.epoch) && !mutant("stale-epoch-accepted") {
            return Err(EngineError::Stale { partition, epoch });
        }
        Ok(())
    }

    /// Hands a numbered transaction to the dispatcher and to the log. Called with the lock held, which keeps the order.
    fn hand_on(self: &Arc<Self>, sequenced: Sequenced, done: Option<oneshot::Sender<Result<(), EngineError>>>) {
        let Sequenced { txn, batch } = sequenced;
        if let Some(sink) = self.sink.get() {
            if let Some(batch) = batch {
                sink.appended(0, batch);
            }
            if let Some(due) = txn.delayed.iter().filter_map(|(_, event)| event.not_before).min() {
                sink.delayed(0, due);
            }
        }
        self.submit(vec![txn], done);
    }

    /// Hands transactions to the log; `done` is told once they and all before them are safe.
    fn submit(self: &Arc<Self>, txns: Vec<Txn>, done: Option<oneshot::Sender<Result<(), EngineError>>>) {
        let Some(log) = &self.log else {
            if let Some(done) = done {
                let _ = done.send(Ok(()));
            }
            return;
        };
        let shared = Arc::clone(self);
        log.submit(
            txns,
            Box::new(move |result| {
                if let Err(error) = &result {
                    shared.fail(error);
                }
                if let Some(done) = done {
                    let _ = done.send(result);
                }
            }),
        );
    }

    /// The first failure, if there was one: what came after it is only its consequence.
    fn cause(&self, error: EngineError) -> EngineError {
        self.failure.get().cloned().unwrap_or(error)
    }

    /// What is stored cannot be read: nothing is accepted any more.
    fn broken(&self, error: &LogError) -> EngineError {
        let error = failed(error);
        self.fail(&error);
        self.cause(error)
    }

    fn fail(&self, error: &EngineError) {
        let _ = self.failure.set(error.clone());
        if !self.closed.swap(true, Ordering::AcqRel)
            && let Some(sink) = self.sink.get()
        {
            sink.failed(error.clone());
        }
    }

    /// The future of an answer that comes when the log has done its part.
    fn answer<T: Send + 'static>(
        value: T,
        done: oneshot::Receiver<Result<(), EngineError>>,
    ) -> Answer<Result<T, EngineError>> {
        Box::pin(async move {
            match done.await {
                Ok(Ok(())) => Ok(value),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(EngineError::Closed),
            }
        })
    }

    fn change_sub(self: &Arc<Self>, core: &mut Core, change: SubChange) {
        let mut txn = core.blank();
        txn.subs.push(change);
        let sequenced = core.sequence(txn);
        self.hand_on(sequenced, None);
    }
}

impl Engine for Embedded {
    fn capabilities(&self) -> Capabilities {
        let durable = self.shared.log.is_some();
        Capabilities { durable, transactional: true, key_value: true, replay: durable, delay: true, shared: false }
    }

    fn start(&self, sink: Arc<dyn Sink>) -> Result<(), EngineError> {
        let head = self.shared.lock().state.next_offset;
        if self.shared.sink.set(Arc::clone(&sink)).is_err() {
            return Err(EngineError::Refused("the engine was started twice".to_owned()));
        }
        sink.assigned(0, self.shared.epoch, head);
        Ok(())
    }

    fn publish(&self, events: Vec<Arc<Event>>) -> Answer<Result<Vec<Receipt>, EngineError>> {
        let shared = &self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Err(shared.cause(EngineError::Closed))));
        }
        let now = shared.clock.now();
        let mut core = shared.lock();
        let (sequenced, receipts) = match core.publish(events, now, &shared.limits) {
            Ok(done) => done,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let evicted = core.take_evicted();
        if shared.log.is_none() {
            if let Some(sequenced) = sequenced {
                shared.hand_on(sequenced, None);
            }
            drop(core);
            drop(evicted);
            return Box::pin(std::future::ready(Ok(receipts)));
        }
        let (done, safe) = oneshot::channel();
        match sequenced {
            Some(sequenced) => shared.hand_on(sequenced, Some(done)),
            // What the receipts stand for may still be on its way to the disk.
            None => shared.submit(Vec::new(), Some(done)),
        }
        drop(core);
        drop(evicted);
        Shared::answer(receipts, safe)
    }

    fn room(&self) -> Room {
        let (used, allowed) = match &self.shared.log {
            Some(log) if log.queued_bytes() > QUEUED_BYTES * 2 => return Room::NoTransactions,
            Some(log) if log.queued_bytes() > QUEUED_BYTES => return Room::NoPublishers,
            Some(log) => (log.bytes() + self.shared.view_bytes.load(Ordering::Relaxed), self.shared.limits.disk_bytes),
            None => (self.shared.kept_bytes() as u64, self.shared.limits.memory_bytes as u64),
        };
        let of_limit = if used >= allowed / 10 * retention::TRANSACTIONS_TENTHS {
            Room::NoTransactions
        } else if used >= allowed / 10 * retention::PUBLISHERS_TENTHS {
            Room::NoPublishers
        } else {
            Room::Enough
        };
        let of_disk = match self.shared.log.as_ref().map_or(Space::Enough, |log| log.space()) {
            Space::Enough => Room::Enough,
            Space::Low => Room::NoPublishers,
            Space::Last => Room::NoTransactions,
        };
        of_limit.max(of_disk)
    }

    fn subscribe(
        &self,
        partition: Partition,
        epoch: Epoch,
        spec: &SubscriptionSpec,
    ) -> Result<(SubId, SubscriptionState), EngineError> {
        self.shared.check(partition, epoch)?;
        let beginning = self.beginning(spec)?;
        let mut core = self.shared.lock();
        let known = core.state.sub_named(&spec.name).map(|(id, sub)| (id, sub.detached_since));
        let id = match known {
            Some((id, None)) => id,
            Some((id, Some(_))) => {
                core.used.remove(&id);
                self.shared.change_sub(&mut core, SubChange::Attached { id });
                id
            }
            None => {
                let id = SubId(core.state.next_sub);
                let head = core.state.next_offset;
                let cursor = beginning.map_or(head, |offset| offset.max(self.oldest(&core)).min(head));
                let (name, service) = (spec.name.clone(), spec.service.clone());
                self.shared.change_sub(&mut core, SubChange::Created { id, name, service, cursor });
                id
            }
        };
        let state = core.state.subs.get(&id).map(busway_log::SubState::snapshot).unwrap_or_default();
        Ok((id, state))
    }

    fn settings(
        &self,
        partition: Partition,
        epoch: Epoch,
        sub: SubId,
        spec: SubscriptionSpec,
        generation: u32,
    ) -> Result<SubscriptionSpec, EngineError> {
        self.shared.check(partition, epoch)?;
        let mut core = self.shared.lock();
        let kept = core.state.subs.get(&sub).and_then(|sub| sub.settings.as_deref()).cloned();
        if let Some(kept) = kept.clone().filter(|kept| kept.generation > generation) {
            return Ok(spec.with(kept));
        }
        let settings = spec.settings(generation);
        // Where nobody counts generations there is nothing to be kept.
        if (generation > 0 || kept.is_some()) && kept.as_ref() != Some(&settings) {
            self.shared.change_sub(&mut core, SubChange::Set { id: sub, settings: Box::new(settings) });
        }
        Ok(spec)
    }

    fn offset_at(&self, partition: Partition, time: Timestamp) -> Result<Offset, EngineError> {
        self.shared.check(partition, self.shared.epoch)?;
        self.find_time(time)
    }

    fn replay(&self, partition: Partition, epoch: Epoch, sub: SubId, replay: &Replay) -> Result<Replayed, EngineError> {
        self.shared.check(partition, epoch)?;
        self.reopen(&mut self.shared.lock(), sub, replay)
    }

    fn detach(&self, partition: Partition, epoch: Epoch, sub: SubId, now: Timestamp) -> Result<(), EngineError> {
        self.shared.check(partition, epoch)?;
        let mut core = self.shared.lock();
        self.shared.change_sub(&mut core, SubChange::Detached { id: sub, at: now });
        Ok(())
    }

    fn forget(&self, name: &str) -> Result<bool, EngineError> {
        self.shared.check(0, self.shared.epoch)?;
        let mut core = self.shared.lock();
        let found = core.state.subs.iter().find(|(_, sub)| sub.name == name && sub.detached_since.is_some());
        let Some(id) = found.map(|(id, _)| *id) else { return Ok(false) };
        self.shared.forget_locked(&mut core, id);
        Ok(true)
    }

    fn settle(&self, partition: Partition, epoch: Epoch, settlement: Settlement) -> Result<(), EngineError> {
        self.shared.check(partition, epoch)?;
        let now = self.shared.clock.now();
        let token = settlement.token;
        let (conflicts, evicted) = {
            let mut core = self.shared.lock();
            match core.user(settlement.sub, now) {
                Some(service) => {
                    let settled = core.settle(settlement, &service, now, &self.shared.limits);
                    let (sequenced, conflicts) = settled.map_err(|error| self.shared.broken(&error))?;
                    self.shared.hand_on(sequenced, None);
                    self.shared.kept_bytes.store(core.kept_bytes(), Ordering::Relaxed);
                    (conflicts, core.take_evicted())
                }
                // It was forgotten meanwhile: there is nothing left to note, and nothing that others would suffer from.
                None => (Vec::new(), Vec::new()),
            }
        };
        drop(evicted);
        if let Some(sink) = self.shared.sink.get() {
            sink.settled(partition, Settled { token, conflicts });
        }
        Ok(())
    }

    fn advance(&self, partition: Partition, epoch: Epoch, sub: SubId, cursor: Offset) {
        if self.shared.check(partition, epoch).is_err() {
            return;
        }
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        if core.user(sub, now).is_none() {
            return;
        }
        let mut txn = core.blank();
        txn.settlement = Some(busway_log::SettleRecord { cursor, ..busway_log::SettleRecord::of(sub) });
        let sequenced = core.sequence(txn);
        self.shared.hand_on(sequenced, None);
    }

    fn read(&self, partition: Partition, request: &ReadRequest) -> Result<ReadResult, EngineError> {
        self.shared.check(partition, self.shared.epoch)?;
        {
            let core = self.shared.lock();
            let end = core.state.next_offset;
            let oldest = core.recent.oldest().unwrap_or(end);
            if request.from >= oldest || self.shared.log.is_none() {
                return Ok(core.recent.read(request, end));
            }
        }
        let Some(log) = &self.shared.log else { return Ok(ReadResult::default()) };
        log.read(request)
    }

    fn fetch(&self, partition: Partition, offsets: &[Offset]) -> Result<Vec<Logged>, EngineError> {
        self.shared.check(partition, self.shared.epoch)?;
        let mut found = Vec::with_capacity(offsets.len());
        let mut missing = Vec::new();
        {
            let core = self.shared.lock();
            for &offset in offsets {
                let kept = core.kept.as_ref().and_then(|kept| kept.get(offset));
                match kept.or_else(|| core.recent.get(offset)) {
                    Some(event) => found.push(event),
                    None => missing.push(offset),
                }
            }
        }
        if let (Some(log), false) = (&self.shared.log, missing.is_empty()) {
            // An event may leave the tail before the log has written it: nothing may be taken for gone that is not.
            if missing.iter().any(|offset| *offset >= log.written_offset()) {
                log.flush().map_err(|error| self.shared.cause(error))?;
            }
            let refused = |error: LogError| EngineError::Refused(render(&error));
            let logged = log.fetch(&missing)?;
            if let Some(view) = log.view() {
                // What was parked or given up is kept when the log has let go of it.
                for offset in missing.into_iter().filter(|offset| logged.iter().all(|found| found.offset != *offset)) {
                    let held = view.held_event(offset).map_err(refused)?;
                    found.extend(held.map(|event| Logged { offset, event }));
                }
            }
            found.extend(logged);
            found.sort_by_key(|event| event.offset);
        }
        Ok(found)
    }

    fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, EngineError> {
        self.shared.check(0, self.shared.epoch)?;
        // What is synced by the clock fails while nobody publishes or settles, and so while nobody is told.
        if let Some(error) = self.shared.log.as_ref().and_then(|log| log.failure()) {
            self.shared.fail(&error);
            return Err(self.shared.cause(error));
        }
        let mut core = self.shared.lock();
        let broken = |error: LogError| self.shared.broken(&error);
        if let Some(fired) = core.fire(now).map_err(broken)? {
            self.shared.hand_on(fired, None);
        }
        self.shared.tidy(&mut core, now)?;
        core.next_due().map_err(broken)
    }

    fn subscriptions(&self) -> Vec<KnownSubscription> {
        let core = self.shared.lock();
        let known = core.state.subs.iter().map(|(id, sub)| KnownSubscription {
            id: *id,
            name: sub.name.clone(),
            service: sub.service.clone(),
            detached_since: sub.detached_since,
            began: sub.began,
            state: sub.snapshot(),
        });
        known.collect()
    }

    fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), EngineError> {
        self.shared.lock().state.kv_get(service, key).map_err(|error| self.shared.broken(&error))
    }

    fn kv_keys(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<Vec<Box<str>>, EngineError> {
        kv::keys(&self.shared.lock().state, service, select).map_err(|error| self.shared.broken(&error))
    }

    fn kv_entries(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<KvEntries, EngineError> {
        kv::entries(&self.shared.lock().state, service, select).map_err(|error| self.shared.broken(&error))
    }

    fn kv_bytes(&self, service: &ServiceName) -> usize {
        // Without an answer nothing may be added; whoever comes next is told why.
        let bytes = self.shared.lock().state.kv_bytes(service);
        bytes.map_err(|error| self.shared.broken(&error)).unwrap_or(usize::MAX)
    }

    fn commit(&self, service: &ServiceName, effects: Effects) -> Answer<Result<(), EngineError>> {
        if let Err(error) = self.shared.check(0, self.shared.epoch) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let now = self.shared.clock.now();
        let (done, safe) = oneshot::channel();
        let evicted = {
            let mut core = self.shared.lock();
            let sequenced = match core.commit(service, effects, now, &self.shared.limits) {
                Ok(Some(sequenced)) => sequenced,
                Ok(None) => {
                    let why = "key-value is not any more what was read of it; read it again".to_owned();
                    return Box::pin(std::future::ready(Err(EngineError::Conflict(why))));
                }
                Err(error) => return Box::pin(std::future::ready(Err(self.shared.broken(&error)))),
            };
            self.shared.hand_on(sequenced, Some(done));
            core.take_evicted()
        };
        drop(evicted);
        Shared::answer((), safe)
    }

    fn safe_head(&self) -> Offset {
        match &self.shared.log {
            Some(log) => log.safe_offset(),
            None => self.shared.lock().state.next_offset,
        }
    }

    fn flush(&self) -> Answer<Result<(), EngineError>> {
        if mutant("move-answered-before-sync") {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (done, safe) = oneshot::channel();
        let mut core = self.shared.lock();
        let blank = core.blank();
        let sequenced = core.sequence(blank);
        self.shared.hand_on(sequenced, Some(done));
        drop(core);
        Shared::answer((), safe)
    }

    fn find(&self, id: EventId) -> Result<Option<Logged>, EngineError> {
        {
            let core = self.shared.lock();
            let kept = core.kept.iter().flat_map(kept::Kept::iter).find(|logged| logged.event.id == id);
            if let Some(found) = kept.or_else(|| core.recent.find(id)) {
                return Ok(Some(found));
            }
        }
        match &self.shared.log {
            Some(log) => {
                let refused = |error: LogError| EngineError::Refused(render(&error));
                match (log.find(id)?, log.view()) {
                    (None, Some(view)) => view.find_held(id).map_err(refused),
                    (found, _) => Ok(found),
                }
            }
            None => Ok(None),
        }
    }

    fn caused(&self, partition: Partition, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError> {
        self.shared.check(partition, self.shared.epoch)?;
        self.find_caused(causes, from)
    }

    fn handled(
        &self,
        partition: Partition,
        offsets: &BTreeSet<Offset>,
        within: Duration,
    ) -> Result<Option<Handlings>, EngineError> {
        self.shared.check(partition, self.shared.epoch)?;
        self.find_handled(offsets, within)
    }

    fn status(&self) -> EngineStatus {
        let core = self.shared.lock();
        EngineStatus {
            description: self.shared.description.clone(),
            oldest: self.oldest(&core),
            head: core.state.next_offset,
            bytes: match &self.shared.log {
                Some(log) => log.bytes() + log.view().map_or(0, |view| view.bytes()),
                None => (core.recent.bytes() + core.kept_bytes()) as u64,
            },
            delayed: core.delayed(),
            duplicates: core.duplicates,
            warning: self.shared.log.as_ref().and_then(|log| {
                let in_view = self.shared.view_bytes.load(Ordering::Relaxed);
                let holder = retention::holder(&core.state);
                retention::warning(&log.segments(), in_view, holder.as_ref(), &self.shared.limits)
            }),
            expired: core.expired,
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return self.shared.failure.get().cloned().map_or(Ok(()), Err);
        }
        match &self.shared.log {
            Some(log) => log.close(),
            None => Ok(()),
        }
    }
}

impl Embedded {
    fn oldest(&self, core: &Core) -> Offset {
        match &self.shared.log {
            Some(log) => log.oldest(),
            None => core.recent.oldest().unwrap_or(core.state.next_offset),
        }
    }
}
