//! Reading a journal: records in order, and the place of an offset.
//!
//! Role: asks for messages by their sequence, several at a time, and puts records together. Reading goes on through
//! troubles with the broker, with pauses, until [`Reader::stop`] is called: what a subscription needs is there, only later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use busway_types::Offset;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::record::{Assembler, Head, Record};
use super::remote::{Extent, Remote, Trouble, pause};
use crate::EngineError;

/// Messages that are asked for at the same time.
const AT_ONCE: usize = 8;

/// Reads a journal.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    journal: Remote,
    stopped: Arc<AtomicBool>,
}

/// What cannot be read, with its place.
pub(super) fn damaged(at: u64, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Refused(format!(
        "message {at} of the journal cannot be used: {why}; nothing was changed. Restore the streams of this bus from a copy, \
         or choose another name for the bus (nats://HOST/NAME) to start empty"
    ))
}

impl Reader {
    pub(super) fn new(journal: Remote) -> Self {
        Self { journal, stopped: Arc::default() }
    }

    /// Lets everybody who waits for the broker go.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    async fn rest(&self, tries: usize) -> Result<(), EngineError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(EngineError::Closed);
        }
        tokio::time::sleep(pause(tries)).await;
        Ok(())
    }

    /// How far the journal goes.
    pub(super) async fn extent(&self) -> Result<Extent, EngineError> {
        let mut tries = 0;
        loop {
            match self.journal.extent().await {
                Ok(extent) => return Ok(extent),
                Err(Trouble::Gone) => return Err(EngineError::Failed(gone())),
                Err(Trouble::Conflict | Trouble::Later(_)) => self.rest(tries).await?,
            }
            tries += 1;
        }
    }

    /// One message; none when it was released.
    pub(super) async fn message(&self, at: u64) -> Result<Option<Bytes>, EngineError> {
        let mut tries = 0;
        loop {
            match self.journal.get(at).await {
                Ok(message) => return Ok(Some(message)),
                Err(Trouble::Gone) => return Ok(None),
                Err(Trouble::Conflict | Trouble::Later(_)) => self.rest(tries).await?,
            }
            tries += 1;
        }
    }

    async fn head(&self, at: u64) -> Result<Option<Head>, EngineError> {
        let Some(message) = self.message(at).await? else { return Ok(None) };
        Head::take(&message).map(|(head, _)| Some(head)).map_err(|why| damaged(at, &why))
    }

    /// The records that begin in messages from `from` on, as many as it takes to have `bytes`, at least one if there is
    /// one whose end is not behind `last`. Gives also where to go on. Released messages are passed over.
    pub(super) async fn records(
        &self,
        from: u64,
        last: u64,
        bytes: usize,
    ) -> Result<(Vec<(Record, usize)>, u64), EngineError> {
        let mut assembler = Assembler::default();
        let (mut found, mut taken, mut open) = (Vec::new(), 0, 0);
        let mut next = from;
        let asked = futures_util::stream::iter(from..=last).map(|at| async move { (at, self.message(at).await) });
        let mut messages = std::pin::pin!(asked.buffered(AT_ONCE));
        while let Some((at, message)) = messages.next().await {
            let Some(message) = message? else { continue };
            open += message.len();
            if let Some(record) = assembler.take(at, &message).map_err(|why| damaged(at, &why))? {
                taken += open;
                found.push((record, std::mem::take(&mut open)));
                next = at + 1;
                if taken >= bytes {
                    return Ok((found, next));
                }
            }
        }
        // What is left is no record, or not yet.
        Ok((found, next.max(last.saturating_add(1))))
    }

    /// The first message of the last record whose offset is at most `offset`, between `from` and before `until`: the one
    /// that has the event, if one does.
    pub(super) async fn place(&self, offset: Offset, from: u64, until: u64) -> Result<u64, EngineError> {
        // All up to `low` have at most that offset, all from `high` on more.
        let (mut low, mut high) = (from, until.max(from + 1));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.head(middle).await? {
                Some(head) if head.offset > offset => high = middle,
                Some(_) | None => low = middle,
            }
        }
        let part = self.head(low).await?.map_or(0, |head| u64::from(head.part));
        Ok(low.saturating_sub(part))
    }

    /// A few heads between two messages, evenly spread; each the first part of a record.
    pub(super) async fn samples(&self, from: u64, until: u64, count: u64) -> Result<Vec<(u64, Head)>, EngineError> {
        let step = (until.saturating_sub(from) / count.max(1)).max(1);
        let mut found: Vec<(u64, Head)> = Vec::new();
        let mut at = from;
        while at < until {
            if let Some(head) = self.head(at).await? {
                let first = at.saturating_sub(u64::from(head.part));
                if found.last().is_none_or(|(last, _)| *last < first) {
                    found.push((first, head));
                }
            }
            at = at.saturating_add(step);
        }
        Ok(found)
    }
}

/// What to say when the journal does not exist any more.
pub(super) fn gone() -> String {
    "the journal's stream was removed from the server; the node cannot go on. Restore it, or start again to begin empty"
        .to_owned()
}
