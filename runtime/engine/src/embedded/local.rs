//! The journal on the local disk: the segment log of `busway-log`.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use busway_log::{Durability, Fs, LinkTo, Log, LogError, LogOptions, SegmentInfo, Space, State, Txn, View};
use busway_types::{EventId, Logged, Offset, Timestamp};

use super::{failed, render};
use crate::journal::{Done, Journal, Visit};
use crate::{EngineError, ReadRequest, ReadResult};

/// A segment log as a journal.
pub(super) struct Local {
    log: Log,
    /// Whether safe means synced to disk, not only written.
    synced: bool,
}

impl Local {
    pub(super) fn new(log: Log, durability: Durability) -> Self {
        Self { log, synced: durability == Durability::Sync }
    }

    /// Opens the log in a folder and recovers its state.
    pub(super) fn open(dir: &Path, durability: Durability, fs: Arc<dyn Fs>) -> Result<(Self, State), EngineError> {
        let options = LogOptions { durability, views: fs.views(), ..LogOptions::default() };
        let (log, recovered) = Log::open(fs, dir, options).map_err(|e| EngineError::Refused(render(&e)))?;
        let busway_log::RecoveryReport { segments, transactions, truncated, took, .. } = &recovered.report;
        tracing::info!(folder = %dir.display(), segments, transactions, ?took, "opened the log");
        if let Some(cut) = truncated {
            tracing::warn!(file = %cut.file.display(), at = cut.at, bytes = cut.bytes, "cut off writes that a crash interrupted");
        }
        Ok((Self::new(log, durability), recovered.state))
    }
}

fn refused(error: &LogError) -> EngineError {
    EngineError::Refused(render(error))
}

impl Journal for Local {
    fn submit(&self, txns: Vec<Txn>, done: Done) {
        self.log.submit(txns, Box::new(move |result| done(result.map_err(|error| failed(&error)))));
    }

    fn queued_bytes(&self) -> usize {
        self.log.queued_bytes()
    }

    fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    fn space(&self) -> Space {
        self.log.space()
    }

    fn oldest(&self) -> Offset {
        self.log.oldest()
    }

    fn written_offset(&self) -> Offset {
        self.log.written_offset()
    }

    fn safe_offset(&self) -> Offset {
        if self.synced { self.log.synced_offset() } else { self.log.written_offset() }
    }

    fn failure(&self) -> Option<EngineError> {
        self.log.failure().map(|error| failed(&error))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.log.flush().map_err(|error| failed(&error))
    }

    fn read(&self, request: &ReadRequest) -> Result<ReadResult, EngineError> {
        let ReadRequest { from, patterns, max_events, max_bytes } = request;
        let read = self.log.read(*from, patterns, *max_events, *max_bytes).map_err(|error| refused(&error))?;
        Ok(ReadResult { events: read.0, next: read.1 })
    }

    fn fetch(&self, offsets: &[Offset]) -> Result<Vec<Logged>, EngineError> {
        self.log.fetch(offsets).map_err(|error| refused(&error))
    }

    fn find(&self, id: EventId) -> Result<Option<Logged>, EngineError> {
        self.log.find(id).map_err(|error| refused(&error))
    }

    fn caused(&self, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError> {
        let links: Vec<LinkTo<'_>> = causes.iter().map(|id| LinkTo::Cause(*id)).collect();
        self.log.find_linked(&links, from).map_err(|error| refused(&error))
    }

    fn offset_at(&self, time: Timestamp) -> Result<Offset, EngineError> {
        self.log.offset_at(time).map_err(|error| refused(&error))
    }

    fn settlements(&self, from: Offset, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, EngineError> {
        self.log.settlements(from, visit).map_err(|error| refused(&error))
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        self.log.segments()
    }

    fn release_before(&self, offset: Offset, short: bool) -> Result<(), EngineError> {
        let released = if short { self.log.make_room_before(offset) } else { self.log.release_before(offset) };
        released.map_err(|error| failed(&error))
    }

    fn view(&self) -> Option<&Arc<dyn View>> {
        self.log.view()
    }

    fn close(&self) -> Result<(), EngineError> {
        self.log.close().map_err(|error| failed(&error))
    }

    #[cfg(any(test, feature = "testing"))]
    fn step(&self, stage: busway_log::Stage) -> bool {
        self.log.step(stage)
    }
}
