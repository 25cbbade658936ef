//! Requests on a lane: taking them, and answering them.
//!
//! Role: a request runs like the only delivery of a chunk, but nothing of it is reported: its answer, and what it published
//! and wrote, go to whoever asked.
//!
//! Bounds: [`WAITING`] requests wait for each thread of a lane; a further one is refused. One that nobody waits for any
//! more is not begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use busway_types::{Chunk, Delivery, Logged, Ordering as Order, SubId};
use bytes::Bytes;

use super::{Lane, Shared};
use crate::invoke::{Fault, fault};
use crate::linked::Instance;
use crate::settings::Instancing;
use crate::state::ChunkContext;
use crate::typed::{Answer, Answered, Ask, NotAsked, RequestError};

/// Requests that wait for one thread at most.
const WAITING: usize = 64;

impl Lane {
    /// Takes a request and, with it, the answer's way back, or says why not and leaves that. Never waits.
    pub fn ask(&self, ask: Ask, answer: &mut Option<Answer>) -> Result<(), NotAsked> {
        let shared = &self.0;
        {
            let mut state = shared.lock();
            if state.closed {
                return Err(NotAsked::Closed);
            }
            let busy = state.workers >= shared.settings.concurrency;
            let service = &shared.linked.service;
            let all_wait = || service.asking.load(Ordering::SeqCst) >= shared.settings.concurrency;
            if busy && ask.chain.contains(&service.settings.name) && all_wait() {
                return Err(NotAsked::Deadlock);
            }
            if state.asks.len() >= WAITING.saturating_mul(shared.settings.concurrency) {
                return Err(NotAsked::Full);
            }
            let Some(answer) = answer.take() else { return Ok(()) };
            state.asks.push_back((ask, answer));
            if busy {
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

    /// How much there is to do for each thread: what runs and what waits, divided by the threads.
    pub fn load(&self) -> f64 {
        let state = self.0.lock();
        (state.workers + state.queue.len() + state.asks.len()) as f64 / self.0.settings.concurrency as f64
    }
}

impl Shared {
    /// Answers a request on this thread.
    pub(super) fn answer(&self, idle: Option<Box<Instance>>, ask: Ask, tell: Answer) {
        if !ask.is_wanted() {
            if let Some(instance) = idle {
                self.keep(instance);
            }
            return;
        }
        let run = AssertUnwindSafe(|| self.run_ask(idle, &ask));
        let answer = catch_unwind(run).unwrap_or_else(|_| {
            tracing::error!(service = %self.linked.service.settings.name, "a lane panicked; this is a bug of busway");
            Err(RequestError::Failed("the host panicked while it ran the handler; this is a bug of busway".into()))
        });
        tell(answer);
    }

    fn run_ask(&self, idle: Option<Box<Instance>>, ask: &Ask) -> Result<Answered, RequestError> {
        let linked = &self.linked;
        let _running = linked.host.0.ticker.run();
        let mut instance = match idle {
            Some(instance) => instance,
            None => match linked.instantiate(&self.stop, None) {
                Ok(made) => {
                    let mut state = self.lock();
                    state.stats.instances += 1;
                    state.stats.instances_made += 1;
                    Box::new(made)
                }
                Err(why) => return Err(RequestError::Failed(why.reason())),
            },
        };
        let delivery = Delivery { logged: Logged { offset: 0, event: ask.event.clone() }, attempt: 1 };
        let chunk =
            Chunk { id: 0, sub: SubId(u32::MAX), ordering: Order::None, generation: 0, deliveries: vec![delivery] };
        let now = linked.service.clock.monotonic_ns();
        let name = linked.service.settings.name.as_str();
        let context =
            ChunkContext::new(Arc::new(chunk), name.into(), self.sink.clone(), now, Arc::new(AtomicUsize::new(0)));
        let Instance { store, exports, warm, .. } = &mut *instance;
        let state = store.data_mut();
        state.chunk = Some(context);
        state.begin_delivery(0, 1, now);
        state.meter.begin(now, Some(linked.service.settings.timeout.min(ask.within)));
        state.chain = ask.chain.clone();
        store.set_epoch_deadline(1);
        let called = match linked.handled.get(ask.contract).zip(warm.get_mut(ask.contract)) {
            Some((handled, warm)) => handled.answer(*exports, store, warm, linked.waits, &ask.event),
            None => Err(wasmtime::Error::msg("the component does not handle that contract")),
        };
        let state = store.data_mut();
        let busy_ns = state.meter.end(state.meter.now());
        let (answer, alive) = match called {
            Ok(Ok((data, fine))) => {
                state.output.end();
                let effects = if fine { state.acknowledge() } else { None };
                (Ok(Answered { data: Bytes::from(data), effects }), true)
            }
            Ok(Err(reason)) => (Err(RequestError::Failed(reason)), true),
            Err(error) => {
                let why = fault(&error, state);
                let error = match why {
                    Fault::TimedOut(reason) => RequestError::TimedOut(reason),
                    other => RequestError::Failed(other.reason()),
                };
                (Err(error), false)
            }
        };
        state.void_delivery();
        state.chunk = None;
        state.chain = Arc::default();
        let peak = state.limiter.peak;
        {
            let stats = &mut self.lock().stats;
            stats.busy_ns += busy_ns;
            stats.memory_bytes = stats.memory_bytes.max(peak);
        }
        if alive && linked.service.settings.instances == Instancing::Reused {
            self.keep(instance);
        } else {
            self.lock().gone(1);
        }
        answer
    }
}
