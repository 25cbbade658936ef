//! The epoch ticker.
//!
//! Role: an OS thread that moves the epoch of every engine each millisecond while a guest runs, and sleeps while none
//! does, so that an idle node costs nothing. Beside that it does the housekeeping: at most once a second it lets lanes
//! drop instances that nobody used for a while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use busway_types::Clock;
use wasmtime::Engine;

/// The time between two epochs.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// The time between two rounds of housekeeping.
const ROUND: Duration = Duration::from_secs(1);

/// Something that wants to be looked after now and then.
pub(crate) trait Housekeeping: Send + Sync {
    /// Drops what was idle for too long. Returns whether there is anything left to look after.
    fn tidy(&self, now_ns: u64) -> bool;
}

/// The ticker and its thread; dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    handle: Thread,
}

struct Shared {
    running: AtomicUsize,
    /// Whether a lane may hold idle instances, so that rounds are worth making.
    untidy: AtomicBool,
    stop: AtomicBool,
    wards: Mutex<Vec<Weak<dyn Housekeeping>>>,
    /// One or two.
    engines: Mutex<Vec<Engine>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("running", &self.running).finish_non_exhaustive()
    }
}

/// While this exists epochs move.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticker {
    pub(crate) fn start(engine: Engine, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            untidy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wards: Mutex::new(Vec::new()),
            engines: Mutex::new(vec![engine]),
        });
        let for_thread = shared.clone();
        let thread =
            std::thread::Builder::new().name("busway-epoch".into()).spawn(move || tick(&for_thread, clock.as_ref()))?;
        let handle = thread.thread().clone();
        Ok(Self { shared, thread: Some(thread), handle })
    }

    /// Moves the epoch of another engine too.
    pub(crate) fn add(&self, engine: Engine) {
        self.shared.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
    }

    /// Makes epochs move until the returned value is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        // Sequentially consistent like the ticker's look before it parks: one of the two sees the other.
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.handle.unpark();
        }
        Running(&self.shared)
    }

    /// Looks after `ward` from now on, until it is gone.
    pub(crate) fn look_after(&self, ward: Weak<dyn Housekeeping>) {
        self.shared.wards.lock().unwrap_or_else(PoisonError::into_inner).push(ward);
    }

    /// An instance became idle somewhere.
    pub(crate) fn untidy(&self) {
        if !self.shared.untidy.load(Ordering::Relaxed) && !self.shared.untidy.swap(true, Ordering::SeqCst) {
            self.handle.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handle.unpark();
        // The last host may go on the ticker itself, when a round drops the last instance.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn tick(shared: &Shared, clock: &dyn Clock) {
    let round = u64::try_from(ROUND.as_nanos()).unwrap_or(u64::MAX);
    let mut next_round = clock.monotonic_ns().saturating_add(round);
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(TICK);
            for engine in &*shared.engines.lock().unwrap_or_else(PoisonError::into_inner) {
                engine.increment_epoch();
            }
        } else if shared.untidy.load(Ordering::Relaxed) {
            std::thread::park_timeout(ROUND);
        } else {
            std::thread::park();
        }
        let now = clock.monotonic_ns();
        if now >= next_round {
            next_round = now.saturating_add(round);
            if shared.untidy.swap(false, Ordering::Relaxed) && tidy(shared, now) {
                shared.untidy.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// One round. Wards are kept alive and called outside the lock, for they may register others or be dropped here.
fn tidy(shared: &Shared, now: u64) -> bool {
    let mut alive = Vec::new();
    {
        let mut wards = shared.wards.lock().unwrap_or_else(PoisonError::into_inner);
        wards.retain(|ward| match ward.upgrade() {
            Some(strong) => {
                alive.push(strong);
                true
            }
            None => false,
        });
    }
    let mut left = false;
    for ward in alive {
        left |= ward.tidy(now);
    }
    left
}
