//! What the log's threads and its callers share.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::checkpoint::Slices;
use crate::error::LogError;
use crate::fs::Fs;
use crate::index::Indexes;
use crate::lock;
use crate::options::{Durability, LogOptions};
use crate::release::Releases;
use crate::segment::Segment;
use crate::spare::Spares;
use crate::txn::Txn;
use crate::upkeep::Upkeep;
use crate::view::View;

/// Called once with what became of a submission.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// One submission.
pub(crate) struct Job {
    pub(crate) txns: Vec<Txn>,
    pub(crate) bytes: usize,
    /// Wants a sync even where the durability would wait.
    pub(crate) sync: bool,
    pub(crate) done: Done,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("txns", &self.txns.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What waits for the committer. Bounded by its callers' byte permits; see [`Log::queued_bytes`](crate::Log).
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) jobs: VecDeque<Job>,
    /// A finished checkpoint to be written.
    pub(crate) slices: Option<Slices>,
    /// A checkpoint is wanted although no segment was begun.
    pub(crate) checkpoint: bool,
    /// Nothing is accepted any more.
    pub(crate) closed: bool,
    /// The committer sleeps and has to be woken.
    pub(crate) waiting: bool,
    /// The last transaction that ever was in it.
    pub(crate) submitted: u64,
}

/// The newest complete checkpoint in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The number of the last transaction that it covers.
    pub(crate) covers: u64,
    /// The epoch of the segment in which it begins.
    pub(crate) epoch: u32,
}

/// What the log's threads and its callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    /// Oldest first; never empty.
    segments: RwLock<Vec<Arc<Segment>>>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Condvar,
    pub(crate) written_offset: AtomicU64,
    pub(crate) synced_offset: AtomicU64,
    /// All up to this transaction is synced.
    synced_seq: AtomicU64,
    pub(crate) queued_bytes: AtomicUsize,
    /// The view, if there is one.
    pub(crate) view: Option<Arc<dyn View>>,
    /// The view waits for room on the disk.
    view_full: AtomicBool,
    /// Why nothing can be written any more.
    failed: OnceLock<LogError>,
    pub(crate) checkpoint: Mutex<Option<Mark>>,
    pub(crate) releases: Mutex<Releases>,
    pub(crate) spares: Spares,
    pub(crate) upkeep: Upkeep,
    pub(crate) indexes: Indexes,
    /// Writes of groups and syncs done, for figures and tests.
    pub(crate) groups: AtomicU64,
    pub(crate) syncs: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        options: LogOptions,
        segments: Vec<Arc<Segment>>,
        spares: Spares,
        checkpoint: Option<Mark>,
        view: Option<Arc<dyn View>>,
    ) -> Self {
        let head = segments.last().map_or(0, |s| s.next_offset());
        // Recovery synced what it kept.
        let synced_seq = segments.last().map_or(0, |s| s.next_seq() - 1);
        Self {
            fs,
            dir,
            options,
            segments: RwLock::new(segments),
            queue: Mutex::new(Queue { submitted: synced_seq, ..Queue::default() }),
            wake: Condvar::new(),
            written_offset: AtomicU64::new(head),
            synced_offset: AtomicU64::new(head),
            synced_seq: AtomicU64::new(synced_seq),
            queued_bytes: AtomicUsize::new(0),
            view,
            view_full: AtomicBool::new(false),
            failed: OnceLock::new(),
            checkpoint: Mutex::new(checkpoint),
            releases: Mutex::default(),
            spares,
            upkeep: Upkeep::default(),
            indexes: Indexes::default(),
            groups: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        }
    }

    pub(crate) fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segments_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All up to this transaction is synced.
    pub(crate) fn synced_seq(&self) -> u64 {
        self.synced_seq.load(Ordering::Acquire)
    }

    /// All up to this transaction is synced now.
    pub(crate) fn note_synced(&self, seq: u64) {
        self.synced_seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// All up to this transaction survives what the durability names, or can be made to before a file is removed.
    pub(crate) fn safe_seq(&self) -> u64 {
        match self.options.durability {
            Durability::Sync | Durability::Interval(_) => self.synced_seq(),
            // What is written is synced before a segment is given back.
            Durability::Memory => self.segments().last().map_or(0, |segment| segment.next_seq() - 1),
        }
    }

    /// Whether the view waits for room on the disk.
    pub(crate) fn is_view_full(&self) -> bool {
        self.view_full.load(Ordering::Relaxed)
    }

    /// Notes whether the view waits for room on the disk.
    pub(crate) fn note_view_full(&self, full: bool) {
        if self.view_full.swap(full, Ordering::Relaxed) == full {
            return;
        }
        if full {
            tracing::warn!(folder = %self.dir.display(), "the disk is full for the view: publishers wait until there is room again");
        } else {
            tracing::info!(folder = %self.dir.display(), "the disk has room for the view again");
        }
    }

    /// Notes the first failure; everything that waits or comes gets it.
    pub(crate) fn fail(&self, error: &LogError) {
        if self.failed.set(error.clone()).is_ok() {
            tracing::error!(%error, "the log accepts nothing more");
        }
    }

    pub(crate) fn failure(&self) -> Option<&LogError> {
        self.failed.get()
    }

    /// Puts a job into the queue; gives it back when the log is closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(job);
        }
        self.queued_bytes.fetch_add(job.bytes, Ordering::Relaxed);
        queue.submitted = job.txns.last().map_or(queue.submitted, |txn| txn.seq);
        queue.jobs.push_back(job);
        self.wake_committer(&mut queue);
        Ok(())
    }

    /// Puts a finished checkpoint into the queue.
    pub(crate) fn offer_slices(&self, slices: Slices) {
        let mut queue = lock(&self.queue);
        queue.slices = Some(slices);
        self.wake_committer(&mut queue);
    }

    /// Asks for a checkpoint, after the one that is being written if there is one.
    pub(crate) fn want_checkpoint(&self) {
        let mut queue = lock(&self.queue);
        queue.checkpoint = true;
        self.wake_committer(&mut queue);
    }

    pub(crate) fn close_queue(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        self.wake_committer(&mut queue);
    }

    /// Closes the queue and answers what is left in it, when nobody will take it any more.
    pub(crate) fn refuse_queued(&self) {
        self.close_queue();
        let jobs = std::mem::take(&mut lock(&self.queue).jobs);
        let error = self.failure().cloned().unwrap_or(LogError::Closed);
        for job in jobs {
            (job.done)(Err(error.clone()));
        }
    }

    fn wake_committer(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.waiting) {
            self.wake.notify_one();
        }
    }
}
