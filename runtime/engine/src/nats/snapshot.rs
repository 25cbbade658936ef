//! Snapshots of a bus on JetStream: parts first, in a slot that nobody reads, then one message that names them: a snapshot is
//! there as a whole or not at all.

use std::sync::{Mutex, PoisonError};

use busway_types::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::remote::Remote;
use crate::EngineError;
use crate::shared::{Kept, Trouble, unreachable, unusable};

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

/// The snapshots of a bus.
#[derive(Debug)]
pub(super) struct Snapshots {
    remote: Remote,
    another: &'static str,
    /// The newest one, with the sequence of its name.
    newest: Mutex<Option<(u64, Named)>>,
}

impl Snapshots {
    pub(super) fn new(remote: Remote, another: &'static str) -> Self {
        Self { remote, another, newest: Mutex::default() }
    }

    fn set_newest(&self, newest: Option<(u64, Named)>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = newest;
    }

    /// Reads the newest snapshot, if there is one.
    pub(super) async fn load(&self) -> Result<Option<Kept>, EngineError> {
        let refused = |why: String| unusable(&why, self.another);
        let Some((sequence, name)) = self.remote.newest("snapshot").await.map_err(|t| unreachable(&t))? else {
            self.set_newest(None);
            return Ok(None);
        };
        let named: Named = serde_json::from_slice(&name).map_err(|error| refused(error.to_string()))?;
        if named.format != FORMAT {
            return Err(refused(format!("its format is {}, and this version of busway reads {FORMAT}", named.format)));
        }
        let mut bytes = Vec::new();
        for part in 0..named.parts {
            match self.remote.newest(&format!("part.{}.{part}", named.slot)).await.map_err(|t| unreachable(&t))? {
                Some((_, content)) => bytes.extend_from_slice(&content),
                None => return Err(refused(format!("its part {part} of {} is missing", named.parts))),
            }
        }
        if bytes.len() as u64 != named.bytes {
            return Err(refused(format!("it has {} bytes instead of {}", bytes.len(), named.bytes)));
        }
        self.set_newest(Some((sequence, named)));
        Ok(Some(Kept { at: named.at, latest: named.latest, state: bytes.into() }))
    }

    /// Writes a snapshot; a conflict when another owner has written one meanwhile.
    pub(super) async fn store(&self, kept: &Kept) -> Result<(), Trouble> {
        let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.remote.most();
        let slot = newest.map_or(0, |(_, named)| 1 - named.slot.min(1));
        let (parts, bytes) = (kept.state.len().div_ceil(most) as u64, kept.state.len() as u64);
        let named = Named { format: FORMAT, at: kept.at, latest: kept.latest, slot, parts, bytes };
        let before = newest.map_or(0, |(sequence, _)| sequence);
        let sequence = self.put(&kept.state, most, named, before).await?;
        self.set_newest(Some((sequence, named)));
        Ok(())
    }

    async fn put(&self, bytes: &Bytes, most: usize, named: Named, before: u64) -> Result<u64, Trouble> {
        self.remote.clear(&format!("part.{}.>", named.slot)).await?;
        for (part, start) in (0..bytes.len()).step_by(most).enumerate() {
            let content = bytes.slice(start..(start + most).min(bytes.len()));
            self.remote.put(&format!("part.{}.{part}", named.slot), content, None, None).await?;
        }
        let name = serde_json::to_vec(&named).map_err(|error| Trouble::Later(error.to_string()))?;
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
