//! How a bridge is doing.
//!
//! Role: the state and the figures that `status` shows, and the few lines that are logged. Shared by the tasks of a bridge
//! and whoever looks at it.
//!
//! Invariant: a line is logged when a bridge begins to wait, at most every thirty seconds, and when that is over, not when a
//! broker that is away stays away; refusals are told at most every ten seconds, with their number.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often refused messages are told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often it is told, at most, that a bridge waits.
const WAITS_EVERY: Duration = Duration::from_secs(30);

/// Whether a bridge works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not connected yet.
    Starting,
    /// It is connected and works.
    Connected,
    /// It waits for the broker or for the bus; the reason says for what.
    Waiting,
}

impl State {
    /// The word used in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
        }
    }
}

/// What a bridge did since it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Whether it works.
    pub state: State,
    /// Why it waits.
    pub reason: Option<String>,
    /// Messages that were copied: published on the bus and acknowledged, or confirmed by the broker.
    pub copied: u64,
    /// Messages that were refused for good: by the bus, or by the broker.
    pub refused: u64,
    /// Messages that the broker did not take and that are tried again.
    pub retried: u64,
}

struct Now {
    figures: Figures,
    /// When it was last told that it waits, and whether that is still to be taken back.
    told_waiting: Option<Instant>,
    owes_connected: bool,
    /// When refusals were told last, and how many were not yet.
    told: Option<Instant>,
    untold: u64,
}

/// How a bridge is doing.
pub struct Link {
    name: String,
    now: Mutex<Now>,
}

impl Link {
    /// A bridge that is about to start.
    pub fn new(name: &str) -> Self {
        let figures = Figures { state: State::Starting, reason: None, copied: 0, refused: 0, retried: 0 };
        Self {
            name: name.to_owned(),
            now: Mutex::new(Now { figures, told_waiting: None, owes_connected: true, told: None, untold: 0 }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it did, and how it is.
    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    pub(crate) fn connected(&self) {
        let tells = {
            let mut now = self.lock();
            now.figures.reason = None;
            now.figures.state = State::Connected;
            std::mem::take(&mut now.owes_connected)
        };
        if tells {
            tracing::info!(bridge = self.name, "connected");
        }
    }

    /// It waits for something; one line is logged when it did not wait before.
    pub fn waiting(&self, reason: &str) {
        let tells = {
            let mut now = self.lock();
            now.figures.reason = Some(reason.to_owned());
            now.figures.state = State::Waiting;
            // One that connects and fails again and again says so now and then.
            let tells = now.told_waiting.is_none_or(|told| !now.owes_connected && told.elapsed() >= WAITS_EVERY);
            if tells {
                now.told_waiting = Some(Instant::now());
                now.owes_connected = true;
            }
            tells
        };
        if tells {
            tracing::warn!(bridge = self.name, "waiting, trying again by itself: {reason}");
        } else {
            tracing::debug!(bridge = self.name, reason, "still waiting");
        }
    }

    pub(crate) fn copied(&self, count: usize) {
        self.lock().figures.copied += count as u64;
    }

    pub(crate) fn retried(&self, count: usize) {
        self.lock().figures.retried += count as u64;
    }

    /// A message was refused for good; `then` says what becomes of it.
    pub(crate) fn refused(&self, message: &str, reason: &str, then: &str) {
        let count = {
            let mut now = self.lock();
            now.figures.refused += 1;
            now.untold += 1;
            if now.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
                return;
            }
            now.told = Some(Instant::now());
            std::mem::take(&mut now.untold)
        };
        tracing::warn!(bridge = self.name, message, refused = count, "refused for good, {then}: {reason}");
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("name", &self.name).field("figures", &self.figures()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_knows_its_state_and_counts_what_it_does_not_tell() {
        let link = Link::new("a");
        assert_eq!(link.figures().state, State::Starting);
        link.waiting("nobody there");
        assert_eq!(link.figures().reason.as_deref(), Some("nobody there"));
        link.connected();
        link.copied(3);
        link.refused("7", "too large", "rejected");
        link.refused("8", "too large", "rejected");
        let Figures { state, reason, copied, refused, retried } = link.figures();
        assert_eq!((state, reason, copied, refused, retried), (State::Connected, None, 3, 2, 0));
        assert_eq!(link.lock().untold, 1, "told with the next one, ten seconds later");
    }
}
