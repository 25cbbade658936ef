//! The log as its users see it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use busway_types::Offset;

use crate::checkpoint::Feed;
use crate::committer::Committer;
use crate::error::LogError;
use crate::folder::{self, Folder};
use crate::fs::{Fs, LockGuard};
use crate::lock;
use crate::options::LogOptions;
use crate::recovery::{RecoveryReport, recover};
use crate::shared::{Done, Job, Shared};
use crate::spare::Spares;
use crate::state::State;
use crate::txn::Txn;
use crate::upkeep;
use crate::view::{self, View};

/// Groups that wait for the checkpoint thread's copy of the state. At it the committer waits.
const FEED: usize = 256;

/// An open log. Dropping it closes it.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Threads>,
    /// What the threads would have, when there are none.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) stepped: Mutex<Option<crate::stepped::Stepped>>,
}

/// What the threads need.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) committer: Committer,
    pub(crate) state: State,
    pub(crate) fed: Receiver<Feed>,
    /// The folder's lock, between those that write: it is given back when the last of them has ended.
    pub(crate) held: Arc<dyn LockGuard>,
}

#[derive(Debug, Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    upkeep: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// How much room is left to write to. It is prepared ahead, so a full disk is known before anything has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// The disk has room.
    Enough,
    /// The disk is full; there is prepared room for what is on its way and for what frees room.
    Low,
    /// Only what is needed should still be written: acknowledgements.
    Last,
}

/// What was found when a log was opened.
#[derive(Debug)]
pub struct Recovered {
    /// The state after the last transaction.
    pub state: State,
    /// What was found and done.
    pub report: RecoveryReport,
}

/// Where a log is and how it is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogPlace<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a LogOptions,
}

impl Log {
    /// Opens the log in `dir`, which is created when it is not there.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, options: LogOptions) -> Result<(Self, Recovered), LogError> {
        let clock = options.clock.clone();
        let began = clock.monotonic_ns();
        let (log, mut recovered, parts) = Self::prepare(fs, dir, options)?;
        log.start(parts)?;
        recovered.report.took = Duration::from_nanos(clock.monotonic_ns() - began);
        Ok((log, recovered))
    }

    /// Everything but the threads.
    pub(crate) fn prepare(
        fs: Arc<dyn Fs>,
        dir: &Path,
        mut options: LogOptions,
    ) -> Result<(Self, Recovered, Parts), LogError> {
        options.segment_bytes = options.segment_bytes.max(LogOptions::MIN_SEGMENT_BYTES);
        options.first_segment_bytes = options.first_segment_bytes.max(LogOptions::MIN_SEGMENT_BYTES);
        let folder = folder::enter(&*fs, dir)?;
        let reserve = options.first_segment_bytes.min(options.segment_bytes);
        let spares = Spares::new(fs.clone(), dir.to_owned(), &folder.spares, options.segment_bytes, reserve)?;
        let place = LogPlace { dir, options: &options };
        let view = view::open(&*fs, &place, &folder)?;
        let recovery = recover(&*fs, &place, &folder, &spares, view.as_ref())?;
        let Folder { lock, segments: _, spares: _, stray: _ } = folder;
        let recovered = Recovered { state: recovery.state, report: recovery.report };
        let last = recovery.segments.last().cloned().ok_or(LogError::Closed)?;
        let shared =
            Arc::new(Shared::new(fs, dir.to_owned(), options.clone(), recovery.segments, spares, recovery.mark, view));
        let (feed, fed) = sync_channel(FEED);
        let committer = Committer::new(shared.clone(), feed, last, &recovery.end);
        let parts = Parts { committer, state: recovered.state.uncached(), fed, held: lock.into() };
        let log = Self {
            shared,
            threads: Mutex::default(),
            #[cfg(any(test, feature = "testing"))]
            stepped: Mutex::default(),
        };
        Ok((log, recovered, parts))
    }

    /// Starts the threads. Those that write hold the folder's lock between them, so that it is given back when the last
    /// of them has ended, whoever waits for that.
    fn start(&self, parts: Parts) -> Result<(), LogError> {
        let Parts { committer, state, fed, held } = parts;
        let mut threads = lock(&self.threads);
        let (shared, also_held) = (self.shared.clone(), held.clone());
        threads.others.push(spawn("prepare", move || {
            shared.spares.run();
            drop(also_held);
        })?);
        let (shared, also_held) = (self.shared.clone(), held.clone());
        threads.upkeep = Some(spawn("upkeep", move || {
            shared.upkeep.run(&shared);
            drop(also_held);
        })?);
        let shared = self.shared.clone();
        threads.others.push(spawn("checkpoint", move || view::run(state, &fed, &shared))?);
        let shared = self.shared.clone();
        threads.committer = Some(spawn("committer", move || {
            // Whatever ends the thread, nobody is left waiting.
            let guard = Ending(shared);
            committer.run();
            drop(guard);
            drop(held);
        })?);
        Ok(())
    }

    /// The view, if there is one.
    pub fn view(&self) -> Option<&Arc<dyn View>> {
        self.shared.view.as_ref()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Queues transactions, in the order of their numbers, for the committer. `done` is called once they are as safe as
    /// the durability promises, or with the error after which nothing can be written any more: on the committer's
    /// thread, which it must not hold up, and in the order of the submissions. Only after [`Log::close`] it is called
    /// at once and here.
    ///
    /// Never waits: what is queued is bounded by the byte permits of the callers; see [`Log::queued_bytes`].
    pub fn submit(&self, txns: Vec<Txn>, done: Done) {
        let bytes = txns.iter().map(Txn::cost).sum();
        self.push(Job { txns, bytes, sync: false, done });
    }

    /// Calls `done` once everything submitted so far is synced (with [`Durability::Memory`](crate::Durability): written).
    pub fn flush_then(&self, done: Done) {
        self.push(Job { txns: Vec::new(), bytes: 0, sync: true, done });
    }

    /// Waits until everything submitted so far is synced. Not to be called from a completion.
    pub fn flush(&self) -> Result<(), LogError> {
        let (tell, told) = sync_channel(1);
        self.flush_then(Box::new(move |result| {
            // Nobody listens any more only when the caller's thread is gone.
            let _ = tell.send(result);
        }));
        #[cfg(any(test, feature = "testing"))]
        self.step_out();
        told.recv().unwrap_or(Err(LogError::Closed))
    }

    fn push(&self, job: Job) {
        if let Err(job) = self.shared.push(job) {
            let error = self.shared.failure().cloned().unwrap_or(LogError::Closed);
            (job.done)(Err(error));
        }
    }

    /// About how many bytes of submissions wait for the committer.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    /// Why nothing can be written any more, if so.
    pub fn failure(&self) -> Option<LogError> {
        self.shared.failure().cloned()
    }

    /// How much of the room that is prepared ahead is left, when the disk has none for more.
    pub fn space(&self) -> Space {
        let shared = &self.shared;
        if !shared.spares.is_short() {
            return if shared.is_view_full() { Space::Low } else { Space::Enough };
        }
        let segments = shared.segments();
        let left = segments.last().map_or((0, 1), |s| (s.header.capacity.saturating_sub(s.end()), s.header.capacity));
        if shared.spares.is_stalled() || left.0 < left.1 / 4 { Space::Last } else { Space::Low }
    }

    /// How many writes of groups and how many syncs there have been since the log was opened.
    pub fn groups_and_syncs(&self) -> (u64, u64) {
        (self.shared.groups.load(Ordering::Relaxed), self.shared.syncs.load(Ordering::Relaxed))
    }

    /// Gives the segments back whose events are all below `offset`, as far as a checkpoint makes them needless and once
    /// all that was submitted so far is as safe as the durability promises: a wish that comes too early is granted by a
    /// later call. Cheap: the files are given back a moment later, on a thread of the log.
    pub fn release_before(&self, offset: Offset) -> Result<(), LogError> {
        if let Some(error) = self.shared.failure() {
            return Err(error.clone());
        }
        upkeep::release_before(&self.shared, offset);
        Ok(())
    }

    /// The same where space is short: if only a newer checkpoint is missing for segments to be given back, one is made,
    /// without waiting for the next segment, which may never come. They are given back by the next call.
    pub fn make_room_before(&self, offset: Offset) -> Result<(), LogError> {
        self.release_before(offset)?;
        if !lock(&self.shared.releases).is_waiting() && upkeep::waits_for_checkpoint(&self.shared, offset) {
            self.shared.want_checkpoint();
        }
        Ok(())
    }

    /// Waits until released segments are given back and full ones have their footers.
    #[cfg(any(test, feature = "testing"))]
    pub fn settle_upkeep(&self) {
        self.shared.upkeep.settle();
    }

    /// Waits until a checkpoint is in the log, at most 10 s: it is made behind the committer, which does not wait for it.
    #[cfg(test)]
    pub(crate) fn settle_checkpoint(&self) {
        for _ in 0..1_000 {
            if lock(&self.shared.checkpoint).is_some() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Writes and syncs everything queued, and gives the folder back. Nothing is accepted afterwards.
    pub fn close(&self) -> Result<(), LogError> {
        self.shared.close_queue();
        self.shared.spares.hurry();
        #[cfg(any(test, feature = "testing"))]
        self.step_out();
        let mut threads = lock(&self.threads);
        if let Some(committer) = threads.committer.take_if(|t| t.thread().id() != std::thread::current().id()) {
            let ended = committer.join();
            self.shared.upkeep.stop();
            let mut well = threads.upkeep.take().is_none_or(|thread| thread.join().is_ok());
            self.shared.spares.stop();
            for thread in threads.others.drain(..) {
                well &= thread.join().is_ok();
            }
            if !well {
                self.shared.fail(&LogError::Stopped { thread: "background" });
            }
            if ended.is_err() {
                self.shared.fail(&LogError::Stopped { thread: "committer" });
            }
        }
        if let Some(view) = &self.shared.view {
            view.close();
        }
        self.shared.failure().cloned().map_or(Ok(()), Err)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // A failure was told to everybody who waited for something.
        let _ = self.close();
        self.shared.upkeep.stop();
        self.shared.spares.stop();
    }
}

/// Answers what is left in the queue when the committer ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&LogError::Stopped { thread: "committer" });
        }
        self.0.refuse_queued();
    }
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    let builder = std::thread::Builder::new().name(format!("busway-{name}"));
    builder.spawn(run).map_err(|_| LogError::Stopped { thread: name })
}
