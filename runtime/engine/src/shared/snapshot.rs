//! Snapshots: the whole state, kept beside the journal.
//!
//! Role: a copy of the state takes in what is in the journal for good, and is handed to the broker from time to time, so
//! that opening a bus reads little and the front of the journal may go.
//!
//! Invariant: a snapshot has nothing in it that is not in the journal.

use std::sync::Arc;

use busway_log::State;
use busway_log::portable::{put_state, take_state};
use busway_types::Timestamp;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::kept::Shared;
use super::writer::Written;
use super::{Broker, Kept, Trouble, pause};
use crate::EngineError;

/// A snapshot is made after this many bytes of journal, or after as many as the one before had.
const EVERY: u64 = 16 * 1024 * 1024;

/// A state that was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) state: State,
    /// The last message of the journal that is in it; 0 for none.
    pub(super) at: u64,
    pub(super) latest: Timestamp,
    /// Its bytes when it was kept.
    pub(super) bytes: u64,
}

/// What cannot be used of a snapshot.
pub(crate) fn unusable(what: &str, another: &str) -> EngineError {
    EngineError::Refused(format!(
        "the snapshot of this bus cannot be used: {what}; nothing was changed. Restore what the broker keeps of this bus from a \
         copy, or choose another name for the bus ({another}) to start empty"
    ))
}

/// What to say when a snapshot cannot be read now.
pub(crate) fn unreachable(trouble: &Trouble) -> EngineError {
    EngineError::Overloaded(match trouble {
        Trouble::Later(why) => format!("the broker does not answer: {why}"),
        Trouble::Conflict | Trouble::Gone => "a snapshot was replaced while it was read".to_owned(),
    })
}

/// Reads the newest snapshot; an empty state when there is none.
pub(super) async fn load(broker: &dyn Broker) -> Result<Found, EngineError> {
    let Some(Kept { at, latest, state }) = broker.snapshot().await? else { return Ok(Found::default()) };
    let bytes = state.len() as u64;
    let state = take_state(&state).map_err(|why| unusable(&why.to_string(), broker.another()))?;
    Ok(Found { state, at, latest, bytes })
}

/// The copy of the state, and what was written since the newest snapshot.
pub(super) struct Copied {
    pub(super) found: Found,
    pub(super) since: u64,
}

/// Follows the journal until the writer ends, and makes snapshots.
pub(super) async fn follow(
    copied: Copied,
    broker: Arc<dyn Broker>,
    mut written: mpsc::Receiver<Written>,
    shared: Arc<Shared>,
) {
    let Copied { found: Found { mut state, mut at, mut latest, bytes: mut before }, mut since } = copied;
    loop {
        let mut wanted = false;
        tokio::select! {
            next = written.recv() => {
                let Some(Written { txns, at: to, bytes }) = next else { return };
                for txn in &txns {
                    latest = txn.events.iter().map(|event| event.time).fold(latest, Timestamp::max);
                    state.apply(txn);
                }
                at = to;
                since += bytes;
            }
            () = shared.wanted.notified() => wanted = since > 0,
        }
        if !wanted && since < before.max(EVERY) {
            continue;
        }
        let mut bytes = Vec::new();
        put_state(&mut bytes, &state);
        before = bytes.len() as u64;
        if !store(&*broker, Kept { at, latest, state: Bytes::from(bytes) }, &shared).await {
            // A newer owner is there: what this one still writes does not land.
            written.close();
            return;
        }
        since = 0;
        shared.cover(at);
    }
}

/// Has a snapshot kept, however long it takes; false when another owner has kept one meanwhile.
async fn store(broker: &dyn Broker, kept: Kept, shared: &Shared) -> bool {
    let marks = shared.marks_up_to(kept.at);
    let mut tries = 0;
    loop {
        match broker.keep(&kept, &marks).await {
            Ok(()) => return true,
            Err(Trouble::Conflict | Trouble::Gone) => return false,
            Err(Trouble::Later(why)) => tracing::debug!(why, "a snapshot could not be written"),
        }
        if shared.failure().is_some() {
            return false;
        }
        tokio::time::sleep(pause(tries)).await;
        tries += 1;
    }
}
