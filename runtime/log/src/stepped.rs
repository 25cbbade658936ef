//! The work of the log's threads, done by the caller, one step at a time.
//!
//! Role: let a simulation decide when the committer, the checkpoints and the files ahead go on, so that a seed decides
//! everything. The steps are those of the threads; only who calls them differs. Nothing here is part of a release build.
//!
//! Invariant: no step waits; what a thread would wait for is done at once, here.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::checkpoint::{Feed, slices};
use crate::committer::{Committer, Step};
use crate::error::LogError;
use crate::fs::{Fs, LockGuard};
use crate::lock;
use crate::log::{Log, Parts, Recovered};
use crate::options::LogOptions;
use crate::shared::Shared;
use crate::state::State;

/// Groups that may wait for the checkpoints' copy of the state before the committer's step applies them itself.
const PENDING: usize = 64;

/// Whose work to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The committer's: one group, what is due, or the end.
    Commit,
    /// The checkpoint thread's: one group, or a checkpoint.
    Checkpoint,
    /// The preparing thread's: one file.
    Prepare,
    /// The upkeep thread's: segments given back, footers written.
    Upkeep,
}

/// What the threads would hold.
#[derive(Debug)]
pub(crate) struct Stepped {
    committer: Option<Committer>,
    state: State,
    fed: Receiver<Feed>,
    pending: VecDeque<Feed>,
    _held: Arc<dyn LockGuard>,
}

impl Stepped {
    fn new(parts: Parts) -> Self {
        let Parts { committer, state, fed, held } = parts;
        Self { committer: Some(committer), state, fed, pending: VecDeque::new(), _held: held }
    }

    pub(crate) fn step(&mut self, stage: Stage, shared: &Arc<Shared>) -> bool {
        self.pending.extend(self.fed.try_iter());
        match stage {
            Stage::Commit => {
                while self.pending.len() > PENDING {
                    self.feed(shared);
                }
                match self.committer.as_mut().map(Committer::step) {
                    Some(Step::Worked) => true,
                    Some(Step::Ended) => {
                        self.committer = None;
                        shared.refuse_queued();
                        true
                    }
                    Some(Step::Waits) | None => false,
                }
            }
            Stage::Checkpoint => self.feed(shared),
            Stage::Prepare => shared.spares.step(),
            Stage::Upkeep => shared.upkeep.step(shared),
        }
    }

    fn feed(&mut self, shared: &Arc<Shared>) -> bool {
        let Some(what) = self.pending.pop_front() else { return false };
        match what {
            Feed::Written(txns) => txns.iter().for_each(|txn| self.state.apply(txn)),
            Feed::Checkpoint => shared.offer_slices(slices(&self.state)),
        }
        true
    }
}

impl Log {
    /// Opens the log without threads: what they would do is done by [`Log::step`], and nothing happens otherwise.
    ///
    /// There is no view, which would have threads of its own.
    pub fn open_stepped(fs: Arc<dyn Fs>, dir: &Path, mut options: LogOptions) -> Result<(Self, Recovered), LogError> {
        options.views = None;
        let (log, recovered, parts) = Self::prepare(fs, dir, options)?;
        log.shared().spares.by_hand();
        log.shared().upkeep.wake();
        *lock(&log.stepped) = Some(Stepped::new(parts));
        Ok((log, recovered))
    }

    /// Does one step of the work of a thread; false when there was nothing to do. Not to be called from a completion.
    pub fn step(&self, stage: Stage) -> bool {
        let mut stepped = lock(&self.stepped);
        stepped.as_mut().is_some_and(|stepped| stepped.step(stage, &self.shared))
    }

    /// Does what the committer has to do until nothing is left.
    pub(crate) fn step_out(&self) {
        while self.step(Stage::Commit) {}
    }
}
