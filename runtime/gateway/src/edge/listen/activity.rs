//! What a connection is waiting for, and until when.
//!
//! Role: the bytes ([`super::io`]), the requests and the task of a connection tell each other here whether the client has
//! something to do. Invariants: while no request is being answered there is a deadline; on HTTP/2 there is one for every
//! answer whose client takes nothing, because the bytes of the connection may go on while one stream stands still.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::edge::limits::EdgeLimits;

/// No moment.
const NEVER: u64 = u64::MAX;

/// What a connection is doing. Moments are microseconds since it began.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// Requests that are being answered, to the end of their bodies.
    active: AtomicUsize,
    /// When the first byte of the head that is coming in arrived.
    head_since: AtomicU64,
    /// When the last answer ended.
    idle_since: AtomicU64,
    is_http2: AtomicBool,
    /// HTTP/2: since when answers wait for their client, by number; at most one for each stream.
    waiting: Mutex<Vec<(u64, u64)>>,
    /// The number of the next answer.
    next: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            active: AtomicUsize::new(0),
            // The first head has to come whether or not its first byte did.
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(NEVER),
            is_http2: AtomicBool::new(false),
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(NEVER - 1)
    }

    /// The connection is ready for its first request, which has its time from now on.
    pub(super) fn begin(&self) {
        self.head_since.store(self.now(), Ordering::Relaxed);
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        // On HTTP/2 they may be about the connection itself; on HTTP/1 between requests they are a head.
        if self.active.load(Ordering::Relaxed) == 0
            && !self.is_http2.load(Ordering::Relaxed)
            && self.head_since.load(Ordering::Relaxed) == NEVER
        {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A head is complete: its request is being answered until what is given back is dropped.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.is_http2.store(is_http2, Ordering::Relaxed);
        let number = is_http2.then(|| self.next.fetch_add(1, Ordering::Relaxed));
        Active { activity: Arc::clone(self), number, is_waiting: false }
    }

    /// When the connection has waited long enough; none while it is the gateway's turn.
    pub(super) fn deadline(&self, limits: &EdgeLimits) -> Option<Instant> {
        if self.active.load(Ordering::Relaxed) > 0 {
            let longest = self.waiting().iter().map(|(_, since)| *since).min();
            return longest.and_then(|since| at(self.began, since, limits.write_time));
        }
        let head = at(self.began, self.head_since.load(Ordering::Relaxed), limits.header_time);
        let idle = at(self.began, self.idle_since.load(Ordering::Relaxed), limits.idle_time);
        head.or(idle)
    }
}

fn at(began: Instant, micros: u64, later: Duration) -> Option<Instant> {
    (micros != NEVER).then(|| began + Duration::from_micros(micros) + later)
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Active {
    activity: Arc<Activity>,
    /// On HTTP/2, where bytes alone do not tell whether the client takes this answer.
    number: Option<u64>,
    is_waiting: bool,
}

impl Active {
    /// The client is to take something of the answer before there can be more of it.
    pub(super) fn wait(&mut self) {
        if let (Some(number), false) = (self.number, self.is_waiting) {
            self.activity.waiting().push((number, self.activity.now()));
            self.is_waiting = true;
        }
    }

    /// It did.
    pub(super) fn go_on(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.activity.waiting().retain(|(number, _)| Some(*number) != self.number);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.go_on();
        self.activity.idle_since.store(self.activity.now(), Ordering::Relaxed);
        self.activity.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_client_is_waited_for_as_long_as_what_it_is_doing_may_take() {
        let limits = EdgeLimits {
            header_time: Duration::from_secs(1),
            idle_time: Duration::from_mins(1),
            ..EdgeLimits::default()
        };
        let activity = Arc::new(Activity::new());
        let left = || activity.deadline(&limits).map(|at| at.duration_since(Instant::now()).as_secs());
        assert_eq!(left(), Some(1), "the first head has to come");
        let active = activity.request(false);
        assert_eq!(left(), None, "while it is being answered");
        tokio::time::advance(Duration::from_secs(100)).await;
        drop(active);
        assert_eq!(left(), Some(60), "kept alive");
        tokio::time::advance(Duration::from_secs(50)).await;
        activity.received();
        assert_eq!(left(), Some(1), "the next head has begun");
        let active = activity.request(true);
        drop(active);
        activity.received();
        assert_eq!(left(), Some(60), "bytes of HTTP/2 are no head");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_its_client_does_not_take_has_a_deadline_whatever_the_others_do() {
        let limits = EdgeLimits { write_time: Duration::from_secs(30), ..EdgeLimits::default() };
        let activity = Arc::new(Activity::new());
        let left = || activity.deadline(&limits).map(|at| at.duration_since(Instant::now()).as_secs());
        let (mut stalled, mut other) = (activity.request(true), activity.request(true));
        stalled.wait();
        tokio::time::advance(Duration::from_secs(10)).await;
        other.wait();
        assert_eq!(left(), Some(20));
        other.go_on();
        other.wait();
        assert_eq!(left(), Some(20), "what others take changes nothing");
        stalled.go_on();
        assert_eq!(left(), Some(30));
        drop(other);
        assert_eq!(left(), None, "nothing waits for the client");
        let mut plain = activity.request(false);
        plain.wait();
        assert_eq!(left(), None, "on HTTP/1 the bytes of the connection tell");
    }
}
