//! The threads on which guests run.
//!
//! Role: a process-wide pool that starts a thread when a job finds none idle and lets threads go after ten idle seconds.
//! It has no bound of its own: every lane and task bounds what it hands in. Threads are plain ones that entered the
//! host's runtime (for WASI's timers and sockets) without being its workers, so that blocking on them is allowed.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Enough for the guest's stack (`max_wasm_stack`) and the host's below and above it.
const STACK_BYTES: usize = 4 * 1024 * 1024;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The pool.
#[derive(Debug)]
pub(crate) struct Threads {
    /// Idle threads; the last one in is the first one out, for its warm cache.
    idle: Mutex<Vec<Arc<Slot>>>,
    runtime: Handle,
}

/// Where one idle thread waits for its next job.
#[derive(Default)]
struct Slot {
    job: Mutex<Option<Job>>,
    signal: Condvar,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Threads {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::new(Vec::new()), runtime })
    }

    /// Runs `job` on an idle thread or a new one. An error means that the system gives no more threads.
    pub(crate) fn run(self: &Arc<Self>, job: Job) -> std::io::Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(slot) = idle {
            *slot.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
            slot.signal.notify_one();
            return Ok(());
        }
        let (pool, runtime) = (Arc::downgrade(self), self.runtime.clone());
        std::thread::Builder::new().name("busway-lane".into()).stack_size(STACK_BYTES).spawn(move || {
            let _entered = runtime.enter();
            serve(&pool, job);
        })?;
        Ok(())
    }
}

fn serve(pool: &Weak<Threads>, first: Job) {
    let slot = Arc::new(Slot::default());
    let mut job = first;
    loop {
        job();
        let Some(strong) = pool.upgrade() else { return };
        strong.idle.lock().unwrap_or_else(PoisonError::into_inner).push(slot.clone());
        drop(strong);
        let waiting = slot.job.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = slot.signal.wait_timeout_while(waiting, IDLE, |job| job.is_none());
        let next = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        job = match next.or_else(|| retire(pool, &slot)) {
            Some(next) => next,
            None => return,
        };
    }
}

/// Leaves the pool. A job may have been handed over between the time-out and here; it is returned and still runs.
fn retire(pool: &Weak<Threads>, slot: &Arc<Slot>) -> Option<Job> {
    let strong = pool.upgrade()?;
    let mut idle = strong.idle.lock().unwrap_or_else(PoisonError::into_inner);
    let before = idle.len();
    idle.retain(|other| !Arc::ptr_eq(other, slot));
    if idle.len() < before {
        return None;
    }
    // Somebody popped this slot and is about to fill it, or has.
    drop(idle);
    let waiting = slot.job.lock().unwrap_or_else(PoisonError::into_inner);
    slot.signal.wait_while(waiting, |job| job.is_none()).unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn an_idle_thread_is_used_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let threads = Threads::new(runtime.handle().clone());
        let (sender, receiver) = sync_channel(1);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let sender = sender.clone();
            threads.run(Box::new(move || sender.send(std::thread::current().id()).unwrap())).unwrap();
            seen.push(receiver.recv().unwrap());
            while threads.idle.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
        }
        assert!(seen.iter().all(|id| *id == seen[0]), "{seen:?}");
    }
}
