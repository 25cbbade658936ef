//! How long a guest may run, and on which cores.
//!
//! Role: the bookkeeping of the call in progress: when it began, how long it only waited for a slot, whether it was told
//! to stop. [`on_epoch`] is what wasmtime calls whenever a guest meets a new epoch.
//!
//! Invariant: time spent waiting for an overrun slot never counts towards the timeout; time spent in host calls does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use busway_types::Clock;
use wasmtime::{StoreContextMut, UpdateDeadline};

use super::GuestState;
use crate::epoch::TICK;
use crate::slots::Slots;

/// How long a call keeps its slot when others wait for one.
const QUANTUM: Duration = Duration::from_millis(6);

/// How often a host call that waits looks whether it was told to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Why a call was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It used up its time.
    TimedOut,
    /// The lane or task was stopped.
    Stopped,
}

/// A call was ended from outside; see `Meter::ended` for why.
#[derive(Debug, thiserror::Error)]
#[error("the call was ended by the host")]
struct Interrupted;

/// The time of the call in progress.
///
/// Everything is atomic only because the store and the code that waits for it share this; both are on one thread.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    slots: Arc<Slots>,
    stop: Arc<AtomicBool>,
    /// `u64::MAX`: as long as it likes.
    timeout_ns: AtomicU64,
    started_ns: AtomicU64,
    waited_ns: AtomicU64,
    /// When the slot that this call holds was granted; 0 when it holds none.
    slot_since_ns: AtomicU64,
    /// What a call that runs in parts has computed before the part in progress.
    computed_ns: AtomicU64,
    /// When the part in progress began; 0 for calls that run in one.
    part_since_ns: AtomicU64,
    /// 0 not ended, 1 timed out, 2 stopped.
    ended: AtomicU8,
}

impl Meter {
    pub(crate) fn new(clock: Arc<dyn Clock>, slots: Arc<Slots>, stop: Arc<AtomicBool>) -> Self {
        Self {
            started_ns: AtomicU64::new(clock.monotonic_ns()),
            clock,
            slots,
            stop,
            timeout_ns: AtomicU64::new(u64::MAX),
            waited_ns: AtomicU64::new(0),
            slot_since_ns: AtomicU64::new(0),
            computed_ns: AtomicU64::new(0),
            part_since_ns: AtomicU64::new(0),
            ended: AtomicU8::new(0),
        }
    }

    /// A call begins at `now_ns`.
    pub(crate) fn begin(&self, now_ns: u64, timeout: Option<Duration>) {
        self.timeout_ns.store(timeout.map_or(u64::MAX, nanos), Relaxed);
        self.started_ns.store(now_ns, Relaxed);
        self.waited_ns.store(0, Relaxed);
        self.ended.store(0, Relaxed);
    }

    /// The call is over at `now_ns`. Gives the nanoseconds that it ran.
    pub(crate) fn end(&self, now_ns: u64) -> u64 {
        self.give_slot_back();
        self.spent(now_ns)
    }

    /// A part of a call that shares its thread with others begins. Only parts count towards the time of such a call.
    pub(crate) fn resume(&self) {
        let now_ns = self.now();
        self.started_ns.store(now_ns.saturating_sub(self.computed_ns.load(Relaxed)), Relaxed);
        self.waited_ns.store(0, Relaxed);
        self.part_since_ns.store(now_ns.max(1), Relaxed);
    }

    /// The part is over: the call waits for something, or lets others go first.
    pub(crate) fn pause(&self) {
        self.computed_ns.store(self.spent(self.now()), Relaxed);
        self.give_slot_back();
    }

    /// The nanoseconds that all parts took.
    pub(crate) fn computed(&self) -> u64 {
        self.computed_ns.load(Relaxed)
    }

    /// Runs something that waits in the middle of a part; its time does not count.
    pub(crate) fn wait<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.give_slot_back();
        let before = self.now();
        let waited = wait();
        let after = self.now();
        self.waited_ns.fetch_add(after.saturating_sub(before), Relaxed);
        self.part_since_ns.store(after.max(1), Relaxed);
        waited
    }

    /// How long the part in progress has taken at `now_ns`; none for a call that runs in one.
    fn part(&self, now_ns: u64) -> Option<u64> {
        let since = self.part_since_ns.load(Relaxed);
        (since != 0).then(|| now_ns.saturating_sub(since))
    }

    /// Takes a slot for the next part of the call, behind whoever waits already.
    fn next_turn(self: &Arc<Self>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let meter = self.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            meter.slots.acquire_async().await;
            meter.slot_since_ns.store(meter.now().max(1), Relaxed);
        })
    }

    /// What is left of the time of the call; none when there is no limit.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        match self.timeout_ns.load(Relaxed) {
            u64::MAX => None,
            timeout => Some(Duration::from_nanos(timeout.saturating_sub(self.spent(self.now())))),
        }
    }

    /// How long the call may take in all; the longest time there is when there is no limit.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout_ns.load(Relaxed))
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    fn spent(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.started_ns.load(Relaxed)).saturating_sub(self.waited_ns.load(Relaxed))
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Why the call was ended from outside, if it was.
    pub(crate) fn ended(&self) -> Option<Ended> {
        match self.ended.load(Relaxed) {
            0 => None,
            1 => Some(Ended::TimedOut),
            _ => Some(Ended::Stopped),
        }
    }

    /// How long a host call may wait before it has to ask again; none when the call has to end.
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.stopped() {
            self.ended.store(2, Relaxed);
            return None;
        }
        match self.remaining() {
            Some(Duration::ZERO) => {
                self.ended.store(1, Relaxed);
                None
            }
            Some(remaining) => Some(remaining.min(LOOK)),
            None => Some(LOOK),
        }
    }

    /// The error with which a host call or an epoch ends the call.
    pub(crate) fn interrupted() -> wasmtime::Error {
        wasmtime::Error::new(Interrupted)
    }

    /// A call that sleeps needs no core.
    pub(crate) fn give_slot_back(&self) {
        if self.slot_since_ns.load(Relaxed) != 0 {
            self.slot_since_ns.store(0, Relaxed);
            self.slots.release();
        }
    }

    /// Makes a call that overran go on only with a slot, and give it up after a quantum when others wait.
    fn share_cores(&self, now_ns: u64) -> wasmtime::Result<()> {
        match self.slot_since_ns.load(Relaxed) {
            0 => self.take_slot(),
            since if now_ns.saturating_sub(since) >= nanos(QUANTUM) && self.slots.contended() => {
                self.give_slot_back();
                self.take_slot()
            }
            _ => Ok(()),
        }
    }

    fn take_slot(&self) -> wasmtime::Result<()> {
        let before = self.now();
        let granted = self.slots.acquire(&|| self.stopped());
        let now = self.now();
        self.waited_ns.fetch_add(now.saturating_sub(before), Relaxed);
        if granted {
            self.slot_since_ns.store(now.max(1), Relaxed);
            Ok(())
        } else {
            self.ended.store(2, Relaxed);
            Err(Self::interrupted())
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.give_slot_back();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A guest met a new epoch: ends it if its time is up, and makes it share slots if it overruns.
pub(crate) fn on_epoch(mut store: StoreContextMut<'_, GuestState>) -> wasmtime::Result<UpdateDeadline> {
    let state = store.data_mut();
    if state.meter.patience().is_none() {
        return Err(Meter::interrupted());
    }
    let now = state.meter.now();
    if let Some(part) = state.meter.part(now) {
        return Ok(if part >= nanos(TICK) {
            UpdateDeadline::YieldCustom(1, state.meter.next_turn())
        } else {
            UpdateDeadline::Continue(1)
        });
    }
    if state.meter.spent(now) >= nanos(TICK) {
        if let Some(chunk) = &mut state.chunk {
            chunk.report_if_long(now);
        }
        state.meter.share_cores(now)?;
    }
    Ok(UpdateDeadline::Continue(1))
}
