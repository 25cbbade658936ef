//! The engine on a log without threads: the caller decides when the log goes on.

use std::path::Path;
use std::sync::Arc;

use busway_log::{Durability, Fs, Log, LogOptions, Stage};
use busway_types::{Clock, Limits};

use super::{Embedded, render};
use crate::EngineError;

impl Embedded {
    /// Opens the engine in a folder without starting threads; see [`Log::open_stepped`].
    pub fn open_stepped(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: LogOptions,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Self, EngineError> {
        let synced = options.durability == Durability::Sync;
        let opened = Log::open_stepped(fs, dir, options).map_err(|e| EngineError::Refused(render(&e)))?;
        let (log, recovered) = opened;
        Ok(Self::with(recovered.state, Some(log), "file:stepped".to_owned(), synced, clock, limits))
    }

    /// Does one step of the work of one of the log's threads; false when there was nothing to do.
    pub fn step(&self, stage: Stage) -> bool {
        self.shared.log.as_ref().is_some_and(|log| log.step(stage))
    }
}
