//! Reading a journal: records in order, and the place of an offset.
//!
//! Role: puts records together from messages. Reading goes on through troubles with the broker, with pauses, until
//! [`Reader::stop`] is called: what a subscription needs is there, only later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use busway_types::Offset;

use super::position::Mark;
use super::record::{Assembler, Head, Record};
use super::{Broker, Extent, Piece, Trouble, pause};
use crate::EngineError;

/// Places that are looked at in what lies in front of a snapshot.
const SAMPLES: u64 = 64;

/// Reads a journal.
#[derive(Clone)]
pub(crate) struct Reader {
    broker: Arc<dyn Broker>,
    stopped: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, stopped: Arc::default() }
    }

    /// Lets everybody who waits for the broker go.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// What cannot be read, with its place.
    pub(super) fn damaged(&self, at: u64, why: &dyn std::fmt::Display) -> EngineError {
        EngineError::Refused(format!(
            "message {at} of the journal cannot be used: {why}; nothing was changed. Restore what the broker keeps of this bus \
             from a copy, or choose another name for the bus ({}) to start empty",
            self.broker.another()
        ))
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
            match self.broker.extent().await {
                Ok(extent) => return Ok(extent),
                Err(Trouble::Gone) => return Err(EngineError::Failed(gone())),
                Err(Trouble::Conflict) => {
                    return Err(EngineError::Overloaded("another node has the bus now".to_owned()));
                }
                Err(Trouble::Later(_)) => self.rest(tries).await?,
            }
            tries += 1;
        }
    }

    async fn read(&self, from: u64, last: u64, bytes: usize) -> Result<Piece, EngineError> {
        let mut tries = 0;
        loop {
            match self.broker.read(from, last, bytes).await {
                Ok(piece) => return Ok(piece),
                Err(Trouble::Gone) => return Ok(Piece { messages: Vec::new(), next: last + 1 }),
                Err(Trouble::Conflict | Trouble::Later(_)) => self.rest(tries).await?,
            }
            tries += 1;
        }
    }

    async fn head(&self, at: u64) -> Result<Option<Head>, EngineError> {
        let piece = self.read(at, at, 1).await?;
        let Some((_, message)) = piece.messages.first() else { return Ok(None) };
        Head::take(message).map(|(head, _)| Some(head)).map_err(|why| self.damaged(at, &why))
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
        let (mut at, mut next) = (from, from);
        while at <= last {
            let piece = self.read(at, last, bytes.saturating_sub(taken)).await?;
            at = piece.next.max(at + 1);
            for (number, message) in piece.messages {
                open += message.len();
                if let Some(record) = assembler.take(number, &message).map_err(|why| self.damaged(number, &why))? {
                    taken += open;
                    found.push((record, std::mem::take(&mut open)));
                    next = number + 1;
                    if taken >= bytes {
                        return Ok((found, next));
                    }
                }
            }
        }
        // What is left is no record, or not yet.
        Ok((found, next.max(last.saturating_add(1))))
    }

    /// A message at or in front of the record that has the event at `offset`, if one does, between `from` and before `until`:
    /// that record's first one where looking for it costs little.
    pub(super) async fn place(&self, offset: Offset, from: u64, until: u64) -> Result<u64, EngineError> {
        if let Some(near) = self.broker.near(offset, from..until) {
            return Ok(near);
        }
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

    /// Marks of what lies in front of a snapshot, whose last event is from `latest`: those that were kept with it, else a few
    /// places that are looked at.
    pub(super) async fn ahead(&self, extent: Extent, covered: Mark) -> Result<Vec<Mark>, EngineError> {
        if let Some(marks) = self.broker.marks() {
            return Ok(marks);
        }
        let until = covered.at + 1;
        let samples = if covered.at == 0 { Vec::new() } else { self.samples(extent.first, until).await? };
        let each = extent.bytes / (extent.last.saturating_sub(extent.first) + 1).max(1);
        let ends = samples.iter().skip(1).map(|(at, head)| (*at, head.latest)).chain([(until, covered.latest)]);
        let mark = |((at, head), (end, latest)): (&(u64, Head), (u64, _))| Mark {
            at: *at,
            offset: head.offset,
            bytes: each * (end - at),
            latest,
        };
        Ok(samples.iter().zip(ends).map(mark).collect())
    }

    /// A few heads between two messages, evenly spread; each the first part of a record.
    async fn samples(&self, from: u64, until: u64) -> Result<Vec<(u64, Head)>, EngineError> {
        let step = (until.saturating_sub(from) / SAMPLES).max(1);
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
    "the journal was removed from the broker; the node cannot go on. Restore it, or start again to begin empty"
        .to_owned()
}
