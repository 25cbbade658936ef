//! Segments ahead: files filled with zeros before they are needed, and files given back for another use.
//!
//! Role: keep one file ready for the committer, so that it never allocates blocks while somebody waits, and a small one as
//! a reserve for when the disk is full. A thread fills the files, in small synced steps so that the committer's own syncs
//! do not queue behind a large one. Bounded: at most [`KEPT`] files and the reserve are kept.
//!
//! A full disk is not a failure: what cannot be made is tried again until there is room. Until then [`Spares::is_short`]
//! says so, early enough that what is already prepared holds what has to be written meanwhile; the reserve is used last,
//! and behind it the committer waits. What waits was never acknowledged.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::LogError;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::lock;

/// The most spare files.
const KEPT: usize = 2;

/// Bytes written between two syncs.
const STEP: usize = 1024 * 1024;

/// How long after the disk was full it is tried again.
const AGAIN: Duration = Duration::from_millis(250);

const PREFIX: &str = "spare-";
const SUFFIX: &str = ".tmp";

/// Whether a file of this name is a spare, and its number.
pub(crate) fn spare_number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// A file that a segment can be made from.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) capacity: u64,
}

#[derive(Debug, Default)]
struct Inner {
    ready: Vec<Spare>,
    /// Used when the disk is full.
    reserve: Option<Spare>,
    /// A file of this size is to be made.
    wanted: Option<u64>,
    /// Why the last one could not be made.
    failed: Option<LogError>,
    /// It was told that the reserve cannot be made.
    told: bool,
    /// A full disk is an error now, because nobody can wait any more.
    in_haste: bool,
    stopped: bool,
    /// There is no thread: whoever needs a file makes it.
    by_hand: bool,
    next_number: u64,
}

/// The spare files of a folder.
#[derive(Debug)]
pub(crate) struct Spares {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// Bytes of the reserve.
    reserve: u64,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The disk was full when something was made last.
    short: AtomicBool,
    /// The committer waits for room.
    stalled: AtomicBool,
}

impl Spares {
    /// Takes over the spare files that an earlier run left, and removes those it cannot use.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        left: &[u64],
        capacity: u64,
        reserve: u64,
    ) -> Result<Self, LogError> {
        let mut inner = Inner { next_number: left.iter().max().map_or(0, |n| n + 1), ..Inner::default() };
        for number in left {
            let path = dir.join(format!("{PREFIX}{number}{SUFFIX}"));
            let file = fs.open(&path, OpenMode::Write).map_err(|e| LogError::io("opening", &path, e))?;
            let size = file.size().map_err(|e| LogError::io("looking at", &path, e))?;
            let spare = Spare { path, file, capacity: size };
            if inner.ready.len() < KEPT && size >= capacity {
                inner.ready.push(spare);
            } else if inner.reserve.is_none() && size >= reserve && size < capacity {
                inner.reserve = Some(spare);
            } else {
                fs.remove(&spare.path).map_err(|e| LogError::io("removing", &spare.path, e))?;
            }
        }
        let (short, stalled) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { fs, dir, reserve, inner: Mutex::new(inner), changed: Condvar::new(), short, stalled })
    }

    /// Whether the disk has no room for what should be prepared.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) || self.is_stalled()
    }

    /// Whether the committer waits for room.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    fn note_short(&self, short: bool) {
        if self.short.swap(short, Ordering::Relaxed) == short {
            return;
        }
        if short {
            tracing::warn!(folder = %self.dir.display(), "the disk is full: publishers wait until there is room again");
        } else {
            tracing::info!(folder = %self.dir.display(), "the disk has room again");
        }
    }

    /// Waits a moment because a write found the disk full; false when nobody can wait any more.
    pub(crate) fn wait_for_room(&self) -> bool {
        if !self.stalled.swap(true, Ordering::Relaxed) {
            tracing::warn!(folder = %self.dir.display(), "the disk is full: everything that writes waits until there is room");
        }
        let inner = lock(&self.inner);
        if inner.in_haste || inner.stopped {
            return false;
        }
        let inner = self.changed.wait_timeout(inner, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        !inner.in_haste && !inner.stopped
    }

    /// The write that waited went through.
    pub(crate) fn found_room(&self) {
        self.stalled.store(false, Ordering::Relaxed);
    }

    /// From now on a full disk is an error for whoever waits.
    pub(crate) fn hurry(&self) {
        lock(&self.inner).in_haste = true;
        self.changed.notify_all();
    }

    fn path(&self, inner: &mut Inner) -> PathBuf {
        let number = inner.next_number;
        inner.next_number += 1;
        self.dir.join(format!("{PREFIX}{number}{SUFFIX}"))
    }

    /// Has a file of this size made in the background unless one is ready.
    pub(crate) fn want(&self, capacity: u64) {
        let mut inner = lock(&self.inner);
        if inner.ready.is_empty() && inner.wanted.is_none() {
            inner.wanted = Some(capacity);
            self.changed.notify_all();
        }
    }

    /// A file, waiting until one of this size is made if none is ready. When the disk is full it is the reserve, and then
    /// this waits until there is room.
    pub(crate) fn take(&self, capacity: u64) -> Result<Spare, LogError> {
        let mut inner = lock(&self.inner);
        // An earlier failure may be over; only one that happens from now on counts.
        inner.failed = None;
        let taken = loop {
            if let Some(spare) = inner.ready.pop() {
                break Ok(spare);
            }
            match inner.failed.take() {
                Some(LogError::Full { .. }) if inner.reserve.is_some() => {
                    if let Some(spare) = inner.reserve.take() {
                        break Ok(spare);
                    }
                }
                Some(LogError::Full { .. }) if !inner.in_haste => self.stalled.store(true, Ordering::Relaxed),
                Some(error) => break Err(error),
                None => {}
            }
            if inner.stopped {
                break Err(LogError::Stopped { thread: "prepare" });
            }
            if inner.by_hand {
                let (held, failed) = self.make_next(inner, (false, capacity));
                inner = held;
                inner.failed = failed;
                continue;
            }
            if inner.wanted.is_none() {
                inner.wanted = Some(capacity);
                self.changed.notify_all();
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        };
        self.stalled.store(false, Ordering::Relaxed);
        taken
    }

    /// Makes a file now, of the given size, without waiting for the thread.
    pub(crate) fn make_now(&self, capacity: u64) -> Result<Spare, LogError> {
        let path = self.path(&mut lock(&self.inner));
        self.make(path, capacity)
    }

    /// Keeps a file of the list of segments for another use, or removes it when enough are kept.
    pub(crate) fn give_back(&self, path: &Path, file: Option<Arc<dyn FsFile>>, capacity: u64) -> Result<(), LogError> {
        let mut inner = lock(&self.inner);
        match file {
            Some(file) if inner.ready.len() < KEPT && !inner.stopped => {
                let spare = self.path(&mut inner);
                self.fs.rename(path, &spare).map_err(|e| LogError::io("renaming", path, e))?;
                inner.ready.push(Spare { path: spare, file, capacity });
                inner.wanted = None;
                self.changed.notify_all();
                Ok(())
            }
            _ => self.fs.remove(path).map_err(|e| LogError::io("removing", path, e)),
        }
    }

    /// The thread: makes files as they are wanted, and the reserve when there is time, until [`Self::stop`].
    pub(crate) fn run(&self) {
        let mut inner = lock(&self.inner);
        loop {
            if inner.stopped {
                return;
            }
            let Some(next) = self.next(&inner) else {
                self.note_short(false);
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (held, failed) = self.make_next(inner, next);
            inner = held;
            if let Some(error) = failed {
                inner = self.not_made(inner, error, next.0);
            }
            self.changed.notify_all();
        }
    }

    /// What is to be made: whether it is for the reserve, and its size.
    fn next(&self, inner: &Inner) -> Option<(bool, u64)> {
        let reserve = || inner.reserve.is_none().then_some((true, self.reserve));
        inner.wanted.map(|capacity| (false, capacity)).or_else(reserve)
    }

    fn make_next<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        (for_reserve, capacity): (bool, u64),
    ) -> (MutexGuard<'a, Inner>, Option<LogError>) {
        let path = self.path(&mut inner);
        drop(inner);
        let made = self.make(path, capacity);
        let mut inner = lock(&self.inner);
        match made {
            Ok(spare) if for_reserve => {
                inner.reserve = Some(spare);
                inner.told = false;
            }
            Ok(spare) => {
                inner.wanted = None;
                inner.ready.push(spare);
            }
            Err(error) => return (inner, Some(error)),
        }
        (inner, None)
    }

    /// The thread's work, one file and without waiting; false when there was nothing to do or it failed.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step(&self) -> bool {
        let inner = lock(&self.inner);
        let Some(next) = self.next(&inner) else { return false };
        let (mut inner, failed) = self.make_next(inner, next);
        if failed.is_some() && !next.0 {
            inner.wanted = None;
            inner.failed.clone_from(&failed);
        }
        failed.is_none()
    }

    /// There will be no thread, and nobody to wait for room: whoever needs a file makes it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn by_hand(&self) {
        let mut inner = lock(&self.inner);
        (inner.by_hand, inner.in_haste) = (true, true);
    }

    /// Tells whoever waits why there is no file, and lets some time pass before the next try.
    fn not_made<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        error: LogError,
        for_reserve: bool,
    ) -> MutexGuard<'a, Inner> {
        let full = matches!(error, LogError::Full { .. });
        if full {
            self.note_short(true);
        } else if for_reserve {
            if !std::mem::replace(&mut inner.told, true) {
                tracing::warn!(%error, "the reserve for a full disk cannot be made; it is tried again");
            }
        } else {
            inner.wanted = None;
        }
        if !for_reserve {
            inner.failed = Some(error);
            self.changed.notify_all();
        }
        if !full && !for_reserve {
            return inner;
        }
        // Whoever wants a file or the end meanwhile does not wait for this.
        let (wanted, hasty) = (inner.wanted, inner.in_haste);
        let unchanged = |inner: &mut Inner| inner.wanted == wanted && inner.in_haste == hasty && !inner.stopped;
        self.changed.wait_timeout_while(inner, AGAIN, unchanged).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends the thread; whoever waits for a file gets an error.
    pub(crate) fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.changed.notify_all();
    }

    fn make(&self, path: PathBuf, capacity: u64) -> Result<Spare, LogError> {
        let file = self.fs.open(&path, OpenMode::Create).map_err(|e| LogError::io("creating", &path, e))?;
        match self.fill(&*file, capacity) {
            Ok(()) => Ok(Spare { path, file, capacity }),
            Err(error) => {
                // Half a file only takes room from what may still fit; that it stays is no second failure.
                let _ = self.fs.remove(&path);
                Err(LogError::io("filling", &path, error))
            }
        }
    }

    fn fill(&self, file: &dyn FsFile, capacity: u64) -> std::io::Result<()> {
        let zeros = vec![0; STEP.min(capacity as usize)];
        let mut at = 0;
        while at < capacity {
            let step = (capacity - at).min(STEP as u64);
            file.write_all_at(&zeros[..step as usize], at)?;
            file.sync_data()?;
            at += step;
            if lock(&self.inner).stopped {
                break;
            }
        }
        Ok(())
    }
}
