//! Waiting for a future on a plain thread, for a bounded time.
//!
//! Role: everything a guest can wait for goes through [`block_on`], which asks again and again whether to give up. It
//! parks the thread itself instead of using a runtime's `block_on`, so that host calls made from inside the future may
//! block as they like.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Park tokens may be eaten by other code on this thread, hence the flag beside them.
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// Runs `future` on this thread. Before each wait `patience` says how long to wait at most before it is asked again, or
/// none to give up, which drops the future.
pub(crate) fn block_on<F: Future>(future: F, mut patience: impl FnMut() -> Option<Duration>) -> Option<F::Output> {
    let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(unpark.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        while !unpark.woken.swap(false, Ordering::Acquire) {
            std::thread::park_timeout(patience()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_when_told() {
        let mut asked = 0;
        let ended = block_on(std::future::pending::<()>(), || {
            asked += 1;
            (asked < 3).then_some(Duration::from_millis(1))
        });
        assert_eq!((ended, asked), (None, 3));
    }

    #[test]
    fn gives_what_another_thread_sends() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            sender.send(7)
        });
        assert_eq!(block_on(receiver, || Some(Duration::from_mins(1))), Some(Ok(7)));
        assert_eq!(thread.join().unwrap(), Ok(()));
    }
}
