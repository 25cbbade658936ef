//! The lane of one service: a bounded queue of chunks, and at most `concurrency` threads and instances that work it off.
//!
//! Role: takes chunks, runs them on the host's threads, reports. It decides nothing about redelivery and keeps no event.
//!
//! ```text
//!   submit --> [queue] --> worker (thread of the host, one per chunk in progress) --> LaneSink::report
//!                             |  ^
//!                             v  |
//!                          [idle instances]   dropped after 30 s, after a trap, or when the lane closes
//! ```
//!
//! Invariants: a chunk that was taken is reported to its end or given back through `lost`, exactly one of the two; an
//! instance that trapped or timed out is never used again; no lock of the lane is held while a guest runs or while the
//! sink is called.

mod ask;
mod borrowed;
mod chunk;
mod sink;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use busway_types::{Chunk, SubId};

pub use sink::{Binding, Handles, LaneSettings, LaneSink, LaneStats, NotTaken};

use crate::epoch::Housekeeping;
use crate::linked::{Instance, Linked, LinkedInner};
use crate::task::GuestError;
use crate::typed::{Answer, Ask};

/// How long an instance is kept that nobody uses.
const INSTANCE_IDLE: Duration = Duration::from_secs(30);

/// A running lane. Dropping it closes it; what was taken still runs to its end.
pub struct Lane(Arc<Shared>);

/// What the lane and its workers share.
pub(crate) struct Shared {
    pub(crate) linked: Arc<LinkedInner>,
    settings: LaneSettings,
    pub(crate) sink: Arc<dyn LaneSink>,
    /// Ends calls in progress.
    pub(crate) stop: Arc<AtomicBool>,
    /// The subscriptions that are handled here; few, and bound before the first chunk comes.
    bindings: RwLock<Vec<(SubId, Binding)>>,
    state: Mutex<State>,
    drained: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Chunk>,
    /// Requests that wait for a thread. They take turns with chunks.
    asks: VecDeque<(Ask, Answer)>,
    /// Whether the last thing that a thread took was a request.
    asked_last: bool,
    /// Threads that run a chunk, or are about to look for one.
    workers: usize,
    idle: Vec<Idle>,
    closed: bool,
    stats: LaneStats,
}

/// What a thread works on next.
enum Job {
    Chunk(Chunk),
    Ask(Ask, Answer),
}

impl State {
    /// The next thing to do; requests and chunks take turns while there are both.
    fn next(&mut self) -> Option<Job> {
        let ask_first = !self.asked_last || self.queue.is_empty();
        let ask = if ask_first { self.asks.pop_front() } else { None };
        self.asked_last = ask.is_some();
        match ask {
            Some((ask, answer)) => Some(Job::Ask(ask, answer)),
            None => self.queue.pop_front().map(Job::Chunk),
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.asks.is_empty()
    }

    fn gone(&mut self, instances: usize) {
        self.stats.instances = self.stats.instances.saturating_sub(instances);
    }
}

/// An instance that waits for its next chunk.
struct Idle {
    instance: Box<Instance>,
    since_ns: u64,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = &self.0.linked.service.settings.name;
        f.debug_struct("Lane").field("service", service).field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Linked {
    /// Makes a lane. Nothing runs and no instance exists until a chunk comes.
    pub fn lane(&self, settings: LaneSettings, sink: Arc<dyn LaneSink>) -> Lane {
        let settings = LaneSettings { concurrency: settings.concurrency.max(1), queue: settings.queue.max(1) };
        let shared = Arc::new(Shared {
            linked: self.0.clone(),
            settings,
            sink,
            stop: Arc::new(AtomicBool::new(false)),
            bindings: RwLock::default(),
            state: Mutex::new(State::default()),
            drained: Condvar::new(),
        });
        let ward: Weak<dyn Housekeeping> = Arc::downgrade(&(shared.clone() as Arc<dyn Housekeeping>));
        self.0.host.0.ticker.look_after(ward);
        Lane(shared)
    }
}

impl Lane {
    /// Says how the events of a subscription are handled. Without it they go to `busway:bus/handler`, in the name of the
    /// service.
    pub fn bind(&self, sub: SubId, binding: Binding) {
        let mut bindings = self.0.bindings.write().unwrap_or_else(PoisonError::into_inner);
        bindings.retain(|(known, _)| *known != sub);
        bindings.push((sub, binding));
    }

    /// Takes a chunk, or gives it back when the queue is full or the lane is closed. Never waits.
    pub fn submit(&self, chunk: Chunk) -> Result<(), NotTaken> {
        let shared = &self.0;
        {
            let mut state = shared.lock();
            if state.closed {
                return Err(NotTaken::Closed(chunk));
            }
            if state.queue.len() >= shared.settings.queue {
                return Err(NotTaken::Full(chunk));
            }
            state.queue.push_back(chunk);
            if state.workers >= shared.settings.concurrency {
                return Ok(());
            }
            state.workers += 1;
        }
        let worker = shared.clone();
        if let Err(error) = shared.linked.host.0.threads.run(Box::new(move || worker.work())) {
            shared.no_thread(&error);
        }
        Ok(())
    }

    /// Asks the component which topics it wants, in an instance of its own, within the service's timeout. Blocks.
    pub fn subscriptions(&self) -> Result<Vec<String>, GuestError> {
        Linked(self.0.linked.clone()).subscriptions()
    }

    /// Takes nothing any more. What was taken runs to its end.
    pub fn close(&self) {
        let idle = {
            let mut state = self.0.lock();
            state.closed = true;
            let idle = std::mem::take(&mut state.idle);
            state.gone(idle.len());
            idle
        };
        drop(idle);
    }

    /// Closes the lane and ends what runs: the delivery in progress and the rest of its chunk come back skipped, chunks
    /// that wait are lost.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.close();
        let (waiting, asks) = {
            let mut state = self.0.lock();
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.asks))
        };
        // Whoever asked learns that there is no answer when its request is dropped.
        drop(asks);
        for chunk in waiting {
            self.0.sink.lost(chunk.sub, chunk.id);
        }
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_drained(&self) -> bool {
        let state = self.0.lock();
        state.workers == 0 && state.is_empty()
    }

    /// Waits until nothing runs and nothing waits, at most this long. Blocks the thread.
    pub fn wait_drained(&self, at_most: Duration) -> bool {
        let state = self.0.lock();
        let busy = |state: &mut State| state.workers > 0 || !state.is_empty();
        let waited = self.0.drained.wait_timeout_while(state, at_most, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The lane's figures.
    pub fn stats(&self) -> LaneStats {
        let state = self.0.lock();
        LaneStats {
            instances: state.stats.instances,
            busy_threads: state.workers,
            queued_chunks: state.queue.len(),
            ..state.stats
        }
    }

    /// The component and settings that run here.
    pub fn linked(&self) -> Linked {
        Linked(self.0.linked.clone())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn binding(&self, sub: SubId) -> Binding {
        let bindings = self.bindings.read().unwrap_or_else(PoisonError::into_inner);
        let bound = bindings.iter().find(|(known, _)| *known == sub).map(|(_, binding)| binding.clone());
        bound.unwrap_or_else(|| Binding {
            subscription: self.linked.service.settings.name.as_str().into(),
            handles: Handles::Raw,
        })
    }

    /// Works the queue off on a thread of the host.
    fn work(&self) {
        loop {
            let (job, idle) = {
                let mut state = self.lock();
                let Some(job) = state.next() else {
                    state.workers -= 1;
                    if state.workers == 0 {
                        self.drained.notify_all();
                    }
                    return;
                };
                (job, state.idle.pop())
            };
            let chunk = match job {
                Job::Chunk(chunk) => chunk,
                Job::Ask(ask, answer) => {
                    self.answer(idle.map(|idle| idle.instance), ask, answer);
                    continue;
                }
            };
            let chunk = Arc::new(chunk);
            let reported = Arc::new(AtomicUsize::new(0));
            let run = AssertUnwindSafe(|| chunk::run(self, idle.map(|idle| idle.instance), &chunk, &reported));
            if catch_unwind(run).is_err() {
                tracing::error!(service = %self.linked.service.settings.name, "a lane panicked; this is a bug of busway");
                self.lock().stats.instances = 0;
                self.sink.report(chunk::panicked(&chunk, reported.load(Ordering::Relaxed)));
            }
            self.sink.spent(chunk);
        }
    }

    /// Keeps an instance for the next chunk.
    fn keep(&self, instance: Box<Instance>) {
        let since_ns = self.linked.service.clock.monotonic_ns();
        let dropped = {
            let mut state = self.lock();
            if state.closed {
                state.gone(1);
                Some(instance)
            } else {
                state.idle.push(Idle { instance, since_ns });
                None
            }
        };
        drop(dropped);
        self.linked.host.0.ticker.untidy();
    }

    /// The system gave no thread: what waits goes back unless another worker is there to take it.
    fn no_thread(&self, error: &std::io::Error) {
        let stranded = {
            let mut state = self.lock();
            state.workers -= 1;
            if state.workers == 0 {
                state.asks.clear();
                std::mem::take(&mut state.queue)
            } else {
                VecDeque::new()
            }
        };
        let reason = format!("no thread can be started: {error}; look at the limits of this user (`ulimit -u`)");
        if !stranded.is_empty() {
            self.sink.instance_failed(&self.linked.service.settings.name, &reason);
        }
        for chunk in stranded {
            self.sink.lost(chunk.sub, chunk.id);
        }
        self.drained.notify_all();
    }
}

impl Housekeeping for Shared {
    fn tidy(&self, now_ns: u64) -> bool {
        let idle_ns = u64::try_from(INSTANCE_IDLE.as_nanos()).unwrap_or(u64::MAX);
        let (old, left) = {
            let mut state = self.lock();
            let (old, kept): (Vec<_>, Vec<_>) =
                state.idle.drain(..).partition(|idle| now_ns.saturating_sub(idle.since_ns) >= idle_ns);
            state.idle = kept;
            state.gone(old.len());
            (old, !state.idle.is_empty())
        };
        drop(old);
        left
    }
}
