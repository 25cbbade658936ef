//! Where a subscription's events come from: the tail, or reading.
//!
//! Role: the position, and when to read. Invariants: at most one `Read` is unanswered; every offset is looked at exactly
//! once, by whichever of the two comes to it first.

use std::time::Duration;

use busway_types::{Limits, Logged, Offset, Parked, Timestamp};

use crate::api::Action;
use crate::subscription::{Cx, Sub};

/// The wait after a read that gave nothing below the head.
const READ_AGAIN: Duration = Duration::from_millis(10);

/// Where the next event comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Feed {
    /// From the tail; what is below `from` was looked at already.
    Tail { from: Offset },
    /// From reading, starting at `position`.
    Behind {
        position: Offset,
        /// Whether a `Read` is unanswered.
        reading: bool,
        /// The last read gave nothing though there must be something: not again before this time.
        retry_at: Option<Timestamp>,
    },
}

impl Feed {
    pub(crate) fn behind(position: Offset) -> Self {
        Self::Behind { position, reading: false, retry_at: None }
    }

    /// When to read again.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::Behind { retry_at, .. } => *retry_at,
            Self::Tail { .. } => None,
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        matches!(self, Self::Behind { reading: true, .. })
    }
}

impl Sub {
    /// Everything below was looked at.
    pub(crate) fn position(&self, head: Offset) -> Offset {
        match self.feed {
            Feed::Tail { from } => from.max(head),
            Feed::Behind { position, .. } => position,
        }
    }

    /// Whether no more may be held in memory.
    pub(crate) fn window_is_full(&self, limits: &Limits) -> bool {
        self.held >= limits.window_events || self.held_bytes >= limits.window_bytes
    }

    /// Reads on, or follows the tail again, if it lags.
    pub(crate) fn follow(&mut self, cx: &mut Cx<'_>) {
        let Feed::Behind { position, reading: false, retry_at } = self.feed else { return };
        if self.moving.is_some() {
            return;
        }
        let position = self.pass(position, cx.bus.now);
        if retry_at.is_some_and(|at| at > cx.bus.now) {
            return;
        }
        self.feed = Feed::behind(position);
        if position >= cx.bus.head {
            self.feed = Feed::Tail { from: position };
            return;
        }
        let limits = &cx.bus.options.limits;
        // Without replay, what is not read soon may be dropped by the engine: it is held here, whatever the window says.
        let wide = !cx.bus.options.replayable;
        let half_empty = self.held * 2 <= limits.window_events && self.held_bytes * 2 <= limits.window_bytes;
        if !(wide || (half_empty && !self.window_is_full(limits))) {
            return;
        }
        self.feed = Feed::Behind { position, reading: true, retry_at: None };
        let (events, bytes) = if wide { (0, 0) } else { (self.held, self.held_bytes) };
        cx.out.push(Action::Read {
            sub: self.id,
            from: position,
            max_events: (limits.window_events - events).max(1),
            max_bytes: (limits.window_bytes - bytes).max(1),
        });
    }

    /// A `Read` was answered.
    pub(crate) fn read(&mut self, events: &[Logged], next: Offset, cx: &mut Cx<'_>) {
        let Feed::Behind { position, reading: true, .. } = self.feed else { return };
        if self.detached {
            self.feed = Feed::behind(position);
            return;
        }
        let passed = self.pass(next.max(position), cx.bus.now);
        for logged in events.iter().filter(|logged| (position..next).contains(&logged.offset)) {
            self.take(logged.offset, &logged.event, cx.bus);
        }
        let retry_at = (next <= position).then(|| cx.bus.now.after(READ_AGAIN));
        self.feed = Feed::Behind { position: passed, reading: false, retry_at };
    }

    /// Everything below `position` is or will be taken in this step: parked events from there on keep their place among
    /// what is taken, and a run that is settled already need not be read. Gives where to read on.
    fn pass(&mut self, position: Offset, now: Timestamp) -> Offset {
        let run = self.skip.iter().find(|run| run.1 > position);
        let position = run.filter(|run| run.0 <= position).map_or(position, |run| run.1);
        while let Some(first) = self.later.first_entry()
            && *first.key() < position
        {
            let Parked { offset, due, attempts } = first.remove();
            self.index_parked(offset, due, attempts, now);
        }
        position
    }
}
