//! Segments ahead: files filled with zeros before they are needed, and files given back for another use.
//!
//! Role: keep one file ready for the committer, so that it never allocates blocks while somebody waits. A thread fills
//! the files, in small synced steps so that the committer's own syncs do not queue behind a large one. Bounded: at most
//! [`KEPT`] files are kept.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::LogError;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::lock;

/// The most spare files.
const KEPT: usize = 2;

/// Bytes written between two syncs.
const STEP: usize = 1024 * 1024;

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
    /// A file of this size is to be made.
    wanted: Option<u64>,
    /// Why the last one could not be made.
    failed: Option<LogError>,
    stopped: bool,
    next_number: u64,
}

/// The spare files of a folder.
#[derive(Debug)]
pub(crate) struct Spares {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Spares {
    /// Takes over the spare files that an earlier run left, and removes those it cannot use.
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, left: &[u64], capacity: u64) -> Result<Self, LogError> {
        let mut inner = Inner { next_number: left.iter().max().map_or(0, |n| n + 1), ..Inner::default() };
        for number in left {
            let path = dir.join(format!("{PREFIX}{number}{SUFFIX}"));
            let file = fs.open(&path, OpenMode::Write).map_err(|e| LogError::io("opening", &path, e))?;
            let size = file.size().map_err(|e| LogError::io("looking at", &path, e))?;
            if inner.ready.len() < KEPT && size >= capacity {
                inner.ready.push(Spare { path, file, capacity: size });
            } else {
                fs.remove(&path).map_err(|e| LogError::io("removing", &path, e))?;
            }
        }
        Ok(Self { fs, dir, inner: Mutex::new(inner), changed: Condvar::new() })
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

    /// A file, waiting until one of this size is made if none is ready.
    pub(crate) fn take(&self, capacity: u64) -> Result<Spare, LogError> {
        let mut inner = lock(&self.inner);
        // An earlier failure may be over; only one that happens from now on counts.
        inner.failed = None;
        loop {
            if let Some(spare) = inner.ready.pop() {
                return Ok(spare);
            }
            if let Some(error) = inner.failed.take() {
                return Err(error);
            }
            if inner.stopped {
                return Err(LogError::Stopped { thread: "prepare" });
            }
            if inner.wanted.is_none() {
                inner.wanted = Some(capacity);
                self.changed.notify_all();
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
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
                self.changed.notify_all();
                Ok(())
            }
            _ => self.fs.remove(path).map_err(|e| LogError::io("removing", path, e)),
        }
    }

    /// The thread: makes files as they are wanted, until [`Self::stop`].
    pub(crate) fn run(&self) {
        let mut inner = lock(&self.inner);
        loop {
            if inner.stopped {
                return;
            }
            let Some(capacity) = inner.wanted else {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let path = self.path(&mut inner);
            drop(inner);
            let made = self.make(path, capacity);
            inner = lock(&self.inner);
            inner.wanted = None;
            match made {
                Ok(spare) => inner.ready.push(spare),
                Err(error) => inner.failed = Some(error),
            }
            self.changed.notify_all();
        }
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
