//! The engine on a log without threads: the caller decides when the log goes on.

use std::path::Path;
use std::sync::Arc;

use busway_log::{Fs, Log, LogOptions, Stage};
use busway_types::{Clock, Limits};

use super::local::Local;
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
        let durability = options.durability;
        let opened = Log::open_stepped(fs, dir, options).map_err(|e| EngineError::Refused(render(&e)))?;
        let (log, recovered) = opened;
        let local = Box::new(Local::new(log, durability));
        Ok(Self::over(Some(local), recovered.state, 1, "file:stepped".to_owned(), clock, limits))
    }

    /// Does one step of the work of one of the log's threads; false when there was nothing to do.
    pub fn step(&self, stage: Stage) -> bool {
        self.shared.log.as_ref().is_some_and(|log| log.step(stage))
    }
}
