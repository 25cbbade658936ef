//! What a node that waits has the owner of the bus do.
//!
//! Role: remembers who owns the bus, as far as that is heard, and who waits for an answer. Each question is asked at most once:
//! when the owner goes or falls silent, whoever waits is told at once that nobody knows what became of it.
//!
//! Bounds: [`WAITING`] questions at a time; an owner that said nothing for [`SILENT`] is none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busway_engine::{EngineError, Epoch, Mesh, To, Unsent};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{oneshot, watch};

use super::wire::{Answer, Message};

/// Questions that wait for their answer.
const WAITING: usize = 1_024;
/// A node that said nothing for so long is as good as gone.
pub(super) const SILENT: Duration = Duration::from_secs(3);
/// A node that heard nothing of the owner for so long does nothing for it any more, so that it has ended before the owner,
/// which waits for [`SILENT`], gives its work to another one.
const QUIET: Duration = Duration::from_secs(2);
/// The longest time that something may take which the owner was asked to do, unless whoever asked has another one.
pub(super) const ANSWER_FOR: Duration = Duration::from_secs(40);

/// The owner of the bus, as it was heard last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: Arc<str>,
    pub(super) epoch: Epoch,
}

struct Heard {
    owner: Owner,
    at_ns: u64,
}

type Waiter = oneshot::Sender<Answer>;

/// Questions to the owner.
pub(super) struct Asking {
    heard: watch::Sender<Option<Heard>>,
    waiting: Mutex<FxHashMap<u64, Waiter>>,
    next: AtomicU64,
}

impl Default for Asking {
    fn default() -> Self {
        Self { heard: watch::Sender::new(None), waiting: Mutex::default(), next: AtomicU64::new(1) }
    }
}

/// Forgets a question when nobody waits for its answer any more.
struct Waits<'a>(&'a Asking, u64);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Asking {
    fn lock(&self) -> MutexGuard<'_, FxHashMap<u64, Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom this node takes for the owner.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.heard.borrow().as_ref().map(|heard| heard.owner.clone())
    }

    /// The owner said something; true when it is another one than before. One of an epoch that is over is none.
    pub(super) fn hear(&self, name: &Arc<str>, epoch: Epoch, now_ns: u64) -> bool {
        let before = self.owner();
        if before.as_ref().is_some_and(|known| known.epoch > epoch) {
            return false;
        }
        let owner = Owner { name: Arc::clone(name), epoch };
        let is_new = before.as_ref() != Some(&owner);
        self.heard.send_replace(Some(Heard { owner, at_ns: now_ns }));
        if is_new && before.is_some() {
            self.give_up();
        }
        is_new
    }

    /// Whether the owner has said nothing for so long that its work must not go on.
    pub(super) fn is_quiet(&self, now_ns: u64) -> bool {
        let quiet = u64::try_from(QUIET.as_nanos()).unwrap_or(u64::MAX);
        self.heard.borrow().as_ref().is_none_or(|heard| now_ns.saturating_sub(heard.at_ns) >= quiet)
    }

    /// True when the owner has fallen silent, once.
    pub(super) fn fell_silent(&self, now_ns: u64) -> bool {
        let silent = u64::try_from(SILENT.as_nanos()).unwrap_or(u64::MAX);
        let is_gone = |heard: &Heard| now_ns.saturating_sub(heard.at_ns) >= silent;
        if !self.heard.borrow().as_ref().is_some_and(is_gone) {
            return false;
        }
        self.forget();
        true
    }

    /// There is no owner any more whom anybody could wait for.
    pub(super) fn forget(&self) {
        self.heard.send_replace(None);
        self.give_up();
    }

    /// Whoever waits learns that no answer will come.
    fn give_up(&self) {
        self.lock().clear();
    }

    /// The owner answered.
    pub(super) fn answered(&self, id: u64, answer: Answer) {
        if let Some(waiter) = self.lock().remove(&id) {
            // Whoever asked may have gone.
            let _ = waiter.send(answer);
        }
    }

    /// Has the owner do something within a time; `whose` says who that is.
    pub(super) async fn ask(
        &self,
        mesh: &dyn Mesh,
        asked: Bytes,
        whose: &str,
        within: Duration,
    ) -> Result<Bytes, EngineError> {
        let nobody = || EngineError::Overloaded(format!("{whose}, and it does not answer now"));
        let mut heard = self.heard.subscribe();
        let epoch = match tokio::time::timeout(SILENT, heard.wait_for(Option::is_some)).await {
            Ok(Ok(heard)) => heard.as_ref().map(|heard| heard.owner.epoch).ok_or_else(nobody)?,
            Ok(Err(_)) | Err(_) => return Err(nobody()),
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.len() >= WAITING {
                return Err(EngineError::Overloaded(format!("{whose}, and too much waits for its answer")));
            }
            waiting.insert(id, tell);
        }
        let _waits = Waits(self, id);
        let message =
            Message::Ask { epoch, id, asked }.write().map_err(|error| EngineError::Refused(error.to_string()))?;
        mesh.send(To::Owner, message).map_err(|why| match why {
            Unsent::TooLarge { .. } | Unsent::Full => EngineError::Overloaded(format!("{whose}, and {why}")),
            Unsent::Closed => EngineError::Closed,
        })?;
        match tokio::time::timeout(within, told).await {
            Ok(Ok(Answer::Given(answer))) => Ok(answer),
            Ok(Ok(Answer::Refused(why))) => Err(EngineError::Overloaded(format!("{whose}, and {why}"))),
            Ok(Ok(Answer::Kept(why))) => Err(EngineError::Unanswered(format!("{whose}, and {why}"))),
            Ok(Err(_)) => {
                Err(EngineError::Unanswered(format!("{whose}, and it ended or fell silent before it answered")))
            }
            Err(_) => Err(EngineError::Unanswered(format!("{whose}, and its answer did not come"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Quiet;

    impl Mesh for Quiet {
        fn node(&self) -> &'static str {
            "me"
        }
        fn send(&self, _: To, _: Bytes) -> Result<(), Unsent> {
            Ok(())
        }
    }

    const SECOND: u64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_when_the_owner_goes_and_not_after_the_longest_time() {
        let asking = Arc::new(Asking::default());
        let ask = || {
            let asking = Arc::clone(&asking);
            tokio::runtime::Handle::current()
                .spawn(async move { asking.ask(&Quiet, Bytes::new(), "node me waits", ANSWER_FOR).await })
        };
        // Nobody is there: nothing was done.
        assert!(matches!(ask().await.expect("no panic"), Err(EngineError::Overloaded(_))));
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        assert!(asking.hear(&a, 5, 0));
        assert!(!asking.hear(&a, 5, 2 * SECOND));
        let first = ask();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!asking.fell_silent(4 * SECOND) && asking.fell_silent(5 * SECOND), "three seconds after its last word");
        assert!(matches!(first.await.expect("no panic"), Err(EngineError::Unanswered(_))));
        assert!(!asking.fell_silent(9 * SECOND), "once");
        // It comes back, and another one takes over.
        asking.hear(&a, 5, 10 * SECOND);
        let second = ask();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(asking.hear(&b, 6, 10 * SECOND));
        assert!(matches!(second.await.expect("no panic"), Err(EngineError::Unanswered(_))));
        assert!(!asking.hear(&a, 5, 11 * SECOND), "its time is over");
        assert_eq!(asking.owner().map(|owner| owner.name), Some(b));
        let third = ask();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let id = *asking.lock().keys().next().expect("it waits");
        asking.answered(id, Answer::Given(Bytes::from_static(b"yes")));
        assert_eq!(third.await.expect("no panic").expect("answered"), Bytes::from_static(b"yes"));
        assert!(asking.lock().is_empty());
    }
}
