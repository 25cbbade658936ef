//! What the two ends of a request know of each other: that nobody waits any more, that something moved, that it broke off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use busway_types::Clock;
use tokio::sync::Notify;

use super::{HttpError, HttpSettings};
use crate::invoke::readable;

/// How often time is looked at at most.
const SHORTEST: Duration = Duration::from_millis(1);

/// Shared by the request, its bodies and its instance.
pub(super) struct Control {
    clock: Arc<dyn Clock>,
    /// Ends a guest that computes, or waits in a call of the host, at its next look.
    pub(super) stop: Arc<AtomicBool>,
    gone: Notify,
    /// When something of the request or its answer moved last.
    moved_ns: AtomicU64,
    /// Whether the request's body has not been read to its end.
    asking: AtomicBool,
    answered: AtomicBool,
    broken: AtomicBool,
}

impl Control {
    pub(super) fn new(clock: Arc<dyn Clock>, has_body: bool) -> Self {
        Self {
            moved_ns: AtomicU64::new(clock.monotonic_ns()),
            clock,
            stop: Arc::default(),
            gone: Notify::new(),
            asking: AtomicBool::new(has_body),
            answered: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// Nobody waits for the answer, or for the rest of it.
    pub(super) fn cancel(&self) {
        self.stop.store(true, Relaxed);
        self.gone.notify_one();
    }

    /// Returns when nobody waits any more.
    pub(super) async fn cancelled(&self) {
        self.gone.notified().await;
    }

    /// Something moved.
    pub(super) fn moved(&self) {
        self.moved_ns.store(self.clock.monotonic_ns(), Relaxed);
    }

    /// The request's body was read to its end, or given up.
    pub(super) fn asked(&self) {
        self.asking.store(false, Relaxed);
    }

    /// The head of the answer left.
    pub(super) fn begin_answer(&self) {
        self.moved();
        self.answered.store(true, Relaxed);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// The instance ended before its time: the end of the answer's body is not its end. To be said before the instance is
    /// dropped, which ends the body.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Returns when nothing moved for too long, with what to say of it.
    pub(super) async fn overdue(&self, settings: &HttpSettings) -> HttpError {
        loop {
            let answered = self.is_answered();
            let limit = if answered { settings.idle } else { settings.first_byte };
            let moved = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(self.moved_ns.load(Relaxed)));
            let Some(left) = limit.checked_sub(moved).filter(|left| !left.is_zero()) else {
                let limit = readable(limit);
                return if answered {
                    HttpError::TimedOut(format!("nothing of the answer moved for {limit}"))
                } else if self.asking.load(Relaxed) {
                    HttpError::BodyStalled(format!("nothing more of the request came for {limit}"))
                } else {
                    HttpError::TimedOut(format!("no answer within {limit}"))
                };
            };
            // The answer may begin meanwhile, and have less time.
            tokio::time::sleep(left.min(settings.idle).max(SHORTEST)).await;
        }
    }
}

/// Ends the request when it is dropped before it is disarmed.
pub(super) struct Waiting(Option<Arc<Control>>);

impl Waiting {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self(Some(control))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use busway_types::SystemClock;

    #[tokio::test]
    async fn what_is_overdue_is_told_by_what_was_waited_for() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let ms = Duration::from_millis;
        let settings = HttpSettings { first_byte: ms(20), idle: ms(10), ..HttpSettings::new(ms(20)) };
        let control = Control::new(clock, true);
        assert!(matches!(control.overdue(&settings).await, HttpError::BodyStalled(_)));
        control.asked();
        assert!(matches!(control.overdue(&settings).await, HttpError::TimedOut(why) if why.contains("no answer")));
        control.begin_answer();
        assert!(matches!(control.overdue(&settings).await, HttpError::TimedOut(why) if why.contains("moved")));
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_is_cancelled_and_one_that_was_answered_is_not() {
        let control = Arc::new(Control::new(Arc::new(SystemClock::new()), false));
        Waiting::new(control.clone()).disarm();
        assert!(!control.stop.load(Relaxed));
        drop(Waiting::new(control.clone()));
        assert!(control.stop.load(Relaxed));
        control.cancelled().await;
    }
}
