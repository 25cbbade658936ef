//! The log as one listener may see it, read at the listener's pace.
//!
//! Role: a position and what is selected. The next piece is read only when the last one was taken, so that a slow
//! listener holds one piece and nothing else. What was not kept long enough is told, never left out silently.

use std::sync::Arc;

use busway_types::{Logged, Offset, Pattern};

use crate::admin::TailRead;
use crate::admin::api::TailFrom;
use crate::edge::auth::Caller;
use crate::edge::{EdgeBackend, EdgeError};

const PIECE_EVENTS: usize = 64;
const PIECE_BYTES: usize = 256 * 1024;

/// Where a listener goes on: an opaque text for clients. It says what comes next, so it can also be given to a client
/// that has seen nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) Offset);

impl Cursor {
    /// Behind this event.
    pub(crate) fn behind(event: &Logged) -> Self {
        Self(event.offset + 1)
    }

    /// Of something that a client was given before.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('c')?.parse().ok().map(Self)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// What a listener gets next.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// What the listener did not get before these.
    pub(crate) missed: Option<Missed>,
    /// Those that are selected, ascending. None of them: nothing happened for a while.
    pub(crate) events: Vec<Logged>,
}

/// Events that a listener did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// So many, of whatever topic, were not kept.
    Events(u64),
    /// The cursor is of another log: that of a bus in memory begins anew when the node starts.
    AnotherLog,
}

pub(crate) struct Feed {
    backend: Arc<dyn EdgeBackend>,
    patterns: Arc<[Pattern]>,
    /// Asked for each event; none when the route itself is the permission.
    caller: Option<Caller>,
    next: Offset,
    /// The first read of somebody who comes back does not wait: a place that the log has not reached is of another one.
    waits: bool,
}

impl Feed {
    /// Begins at `from`; a position that only the node knows is asked for.
    pub(crate) async fn open(
        backend: Arc<dyn EdgeBackend>,
        patterns: Arc<[Pattern]>,
        caller: Option<Caller>,
        from: Start,
    ) -> Result<Self, EdgeError> {
        let (next, waits) = match from {
            Start::Behind(cursor) => (cursor.0, false),
            Start::From(from) => (backend.position(from).await?, true),
        };
        Ok(Self { backend, patterns, caller, next, waits })
    }

    /// Where it goes on.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor(self.next)
    }

    /// The next piece, of at most so many events; waits until there is something to look at. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Piece, EdgeError> {
        let read = TailRead {
            from: self.next,
            patterns: self.patterns.clone(),
            max_events: most.min(PIECE_EVENTS),
            max_bytes: PIECE_BYTES,
            wait: self.waits,
        };
        let batch = self.backend.read(read).await?;
        self.waits = true;
        if self.next > batch.head {
            self.next = batch.oldest;
            return Ok(Piece { missed: Some(Missed::AnotherLog), events: Vec::new() });
        }
        let missed = batch.oldest.checked_sub(self.next).filter(|n| *n > 0).map(Missed::Events);
        self.next = batch.next.max(batch.oldest).max(self.next);
        let mut events = batch.events;
        if let Some(caller) = &self.caller {
            events.retain(|logged| caller.may_see(&logged.event.topic));
        }
        Ok(Piece { missed, events })
    }
}

/// Where a listener begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where it was before.
    Behind(Cursor),
    /// At a place of the log.
    From(TailFrom),
}

impl Start {
    /// `now`, `start`, an offset, a time or a cursor.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(cursor) = Cursor::parse(text) {
            return Ok(Self::Behind(cursor));
        }
        match text.parse() {
            // An offset is a position already, and one that is gone has to be told as missed.
            Ok(TailFrom::Offset(offset)) => Ok(Self::Behind(Cursor(offset))),
            Ok(from) => Ok(Self::From(from)),
            Err(error) => Err(format!("{error}, or the id of an event of such a stream")),
        }
    }
}
