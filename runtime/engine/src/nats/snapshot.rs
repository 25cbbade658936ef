//! Snapshots: the whole state, kept beside the journal.
//!
//! Role: a copy of the state takes in what is in the journal for good, and is written to the state stream from time to time, so
//! that opening a bus reads little and the front of the journal may go. Parts first, in a slot that nobody reads, then one
//! message that names them: a snapshot is there as a whole or not at all.
//!
//! Invariant: a snapshot has nothing in it that is not in the journal.

use std::sync::Arc;

use busway_log::State;
use busway_log::portable::{put_state, take_state};
use busway_types::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::journal::Shared;
use super::remote::{Remote, Trouble, pause};
use super::writer::Written;
use crate::EngineError;

/// A snapshot is made after this many bytes of journal, or after as many as the one before had.
const EVERY: u64 = 16 * 1024 * 1024;
const FORMAT: u32 = 1;

/// What names a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    format: u32,
    /// The last message of the journal that is in it.
    at: u64,
    latest: Timestamp,
    slot: u8,
    parts: u64,
    bytes: u64,
}

/// A state that was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) state: State,
    /// The last message of the journal that is in it; 0 for none.
    pub(super) at: u64,
    pub(super) latest: Timestamp,
}

/// The snapshots of a bus.
#[derive(Debug)]
pub(super) struct Snapshots {
    remote: Remote,
    /// The newest one, with the sequence of its name.
    newest: Option<(u64, Named)>,
}

fn refused(what: &str) -> EngineError {
    EngineError::Refused(format!(
        "the snapshot of this bus cannot be used: {what}; nothing was changed. Restore the streams of this bus from a copy, or \
         choose another name for the bus (nats://HOST/NAME) to start empty"
    ))
}

fn unreachable(trouble: &Trouble) -> EngineError {
    EngineError::Overloaded(match trouble {
        Trouble::Later(why) => format!("the broker does not answer: {why}"),
        Trouble::Conflict | Trouble::Gone => "a snapshot was replaced while it was read".to_owned(),
    })
}

impl Snapshots {
    /// Reads the newest snapshot; an empty state when there is none.
    pub(super) async fn load(remote: Remote) -> Result<(Self, Found), EngineError> {
        let Some((sequence, name)) = remote.newest("snapshot").await.map_err(|t| unreachable(&t))? else {
            return Ok((Self { remote, newest: None }, Found::default()));
        };
        let named: Named = serde_json::from_slice(&name).map_err(|error| refused(&error.to_string()))?;
        if named.format != FORMAT {
            return Err(refused(&format!("its format is {}, and this version of busway reads {FORMAT}", named.format)));
        }
        let mut bytes = Vec::new();
        for part in 0..named.parts {
            match remote.newest(&format!("part.{}.{part}", named.slot)).await.map_err(|t| unreachable(&t))? {
                Some((_, content)) => bytes.extend_from_slice(&content),
                None => return Err(refused(&format!("its part {part} of {} is missing", named.parts))),
            }
        }
        if bytes.len() as u64 != named.bytes {
            return Err(refused(&format!("it has {} bytes instead of {}", bytes.len(), named.bytes)));
        }
        let state = take_state(&bytes).map_err(|why| refused(&why.to_string()))?;
        let found = Found { state, at: named.at, latest: named.latest };
        Ok((Self { remote, newest: Some((sequence, named)) }, found))
    }

    /// Writes a snapshot; says false when another owner has written one meanwhile.
    async fn store(&mut self, state: &State, at: u64, latest: Timestamp) -> bool {
        let mut bytes = Vec::new();
        put_state(&mut bytes, state);
        let bytes = Bytes::from(bytes);
        let most = self.remote.most();
        let slot = self.newest.map_or(0, |(_, named)| 1 - named.slot.min(1));
        let parts = bytes.len().div_ceil(most) as u64;
        let named = Named { format: FORMAT, at, latest, slot, parts, bytes: bytes.len() as u64 };
        let mut tries = 0;
        loop {
            match self.try_to_store(&bytes, most, named).await {
                Ok(sequence) => {
                    self.newest = Some((sequence, named));
                    return true;
                }
                Err(Trouble::Conflict | Trouble::Gone) => return false,
                Err(Trouble::Later(why)) => tracing::debug!(why, "a snapshot could not be written"),
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
    }

    async fn try_to_store(&self, bytes: &Bytes, most: usize, named: Named) -> Result<u64, Trouble> {
        self.remote.clear(&format!("part.{}.>", named.slot)).await?;
        for (part, start) in (0..bytes.len()).step_by(most).enumerate() {
            let content = bytes.slice(start..(start + most).min(bytes.len()));
            self.remote.put(&format!("part.{}.{part}", named.slot), content, None, None).await?;
        }
        let name = serde_json::to_vec(&named).map_err(|error| Trouble::Later(error.to_string()))?;
        let before = self.newest.map_or(0, |(sequence, _)| sequence);
        let sent = self.remote.put("snapshot", Bytes::from(name), Some(before), None).await;
        if sent != Err(Trouble::Conflict) {
            return sent;
        }
        // The answer to an earlier try may have been lost.
        match self.remote.newest("snapshot").await? {
            Some((sequence, name)) if serde_json::from_slice(&name).is_ok_and(|found: Named| found == named) => {
                Ok(sequence)
            }
            _ => Err(Trouble::Conflict),
        }
    }
}

/// The copy of the state, and what was written since the newest snapshot.
pub(super) struct Copied {
    pub(super) found: Found,
    pub(super) since: u64,
}

/// Follows the journal until the writer ends, and makes snapshots.
pub(super) async fn follow(
    copied: Copied,
    mut snapshots: Snapshots,
    mut written: mpsc::Receiver<Written>,
    shared: Arc<Shared>,
) {
    let Copied { found: Found { mut state, mut at, mut latest }, mut since } = copied;
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
        let before = snapshots.newest.map_or(0, |(_, named)| named.bytes);
        if !wanted && since < before.max(EVERY) {
            continue;
        }
        if !snapshots.store(&state, at, latest).await {
            // A newer owner is there: what this one still writes does not land.
            written.close();
            return;
        }
        since = 0;
        shared.cover(at);
    }
}
