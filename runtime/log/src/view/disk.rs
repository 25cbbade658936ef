//! The view on disk: one keyspace of a fjall database.
//!
//! Role: [`View`] over fjall. All in one keyspace, so that whatever a power cut leaves is the state after some batch: a
//! memtable is written out whole, and the journal is cut at a batch. fjall checks a checksum of each block that it reads
//! and of each batch in its journal; a batch that is gone shows in the number of the last transaction.
//!
//! It does its own file access, in a folder that only the holder of the data folder's lock opens.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{APPLIED, Change, Each, View, Views};
use crate::error::LogError;
use crate::lock;

/// fjall's smallest bound on its journals.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// What must be free for a disk to have room: some memtables.
const ROOM_BYTES: u64 = 32 * 1024 * 1024;

/// Threads that write and merge tables.
const WORKERS: usize = 1;

/// Opens views on disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskViews {
    /// Bytes of blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes that are collected in memory before a table is written.
    pub memtable_bytes: u64,
}

impl Default for DiskViews {
    fn default() -> Self {
        Self { cache_bytes: 32 * 1024 * 1024, memtable_bytes: 16 * 1024 * 1024 }
    }
}

impl Views for DiskViews {
    fn open(&self, dir: &Path) -> Result<Arc<dyn View>, LogError> {
        Ok(Arc::new(DiskView::open(dir, *self)?))
    }

    fn exists(&self, dir: &Path) -> bool {
        dir.exists()
    }

    fn wipe(&self, dir: &Path) -> Result<(), LogError> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(LogError::io("removing", dir, error)),
            _ => Ok(()),
        }
    }
}

struct DiskView {
    dir: PathBuf,
    set: DiskViews,
    /// None once it is closed.
    opened: RwLock<Option<Opened>>,
    applied: AtomicU64,
    persisted: AtomicU64,
    compacting: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone)]
struct Opened {
    database: Database,
    entries: Keyspace,
}

impl fmt::Debug for DiskView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskView").field("dir", &self.dir).field("applied", &self.applied).finish_non_exhaustive()
    }
}

/// fjall may panic over a file that somebody changed; that ends nothing but the access.
fn guarded<T>(dir: &Path, run: impl FnOnce() -> fjall::Result<T>) -> Result<T, LogError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(dir, error)),
        Err(_) => Err(LogError::View { dir: dir.to_owned(), what: "its files are not what they were".to_owned() }),
    }
}

fn failed(dir: &Path, error: fjall::Error) -> LogError {
    match error {
        fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => match cause.kind() {
            // Files that do not fit each other or end too early: the disk does what it is told.
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput => {
                let what = format!("its files do not fit each other: {cause}");
                LogError::View { dir: dir.to_owned(), what }
            }
            _ => LogError::io("using the view in", dir, cause),
        },
        fjall::Error::Poisoned => {
            let what = "an earlier write failed; see the log lines before this one".to_owned();
            LogError::View { dir: dir.to_owned(), what }
        }
        other => LogError::View { dir: dir.to_owned(), what: format!("{other:?}") },
    }
}

fn open(dir: &Path, set: DiskViews) -> Result<Opened, LogError> {
    guarded(dir, || {
        let database = Database::builder(dir)
            .cache_size(set.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKERS)
            .max_cached_files(Some(200))
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(set.memtable_bytes);
        let entries = database.keyspace("view", options)?;
        Ok(Opened { database, entries })
    })
}

/// Whether there is room for what fjall may have to write at once.
fn find_room(dir: &Path) -> Result<(), LogError> {
    let path = dir.with_extension("probe");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&path)?;
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..ROOM_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()
    };
    let written = write().map_err(|error| LogError::io("looking for room with", &path, error));
    let removed = std::fs::remove_file(&path).map_err(|error| LogError::io("removing", &path, error));
    written.and(removed)
}

impl DiskView {
    fn open(dir: &Path, set: DiskViews) -> Result<Self, LogError> {
        let opened = open(dir, set)?;
        let view = Self {
            dir: dir.to_owned(),
            set,
            opened: RwLock::new(Some(opened)),
            applied: AtomicU64::new(0),
            persisted: AtomicU64::new(0),
            compacting: Mutex::default(),
        };
        let number = view.stored()?;
        view.applied.store(number, Ordering::Release);
        // Opening syncs the journal.
        view.persisted.store(number, Ordering::Release);
        Ok(view)
    }

    /// The number of the last transaction that is in it.
    fn stored(&self) -> Result<u64, LogError> {
        let Some(value) = self.get(APPLIED)? else { return Ok(0) };
        let number =
            (&*value).try_into().map_err(|_| self.damaged("its number of the last transaction is too short"))?;
        Ok(u64::from_le_bytes(number))
    }

    /// What an error of a write means: after a full disk fjall only says that it takes nothing more.
    fn refused<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        match result {
            Err(error @ LogError::View { .. }) => find_room(&self.dir).and(Err(error)),
            other => other,
        }
    }

    fn opened(&self) -> Result<Opened, LogError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or(LogError::Closed)
    }
}

impl View for DiskView {
    fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    fn persisted(&self) -> u64 {
        self.persisted.load(Ordering::Acquire)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        let Opened { entries, .. } = self.opened()?;
        let value = guarded(&self.dir, || entries.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], until: &[u8], each: &mut Each<'_>) -> Result<(), LogError> {
        if from >= until {
            return Ok(());
        }
        let Opened { entries, .. } = self.opened()?;
        let mut range = guarded(&self.dir, || Ok(entries.range(from..until)))?;
        loop {
            let next = guarded(&self.dir, || range.next().map(fjall::Guard::into_inner).transpose())?;
            let Some((key, value)) = next else { return Ok(()) };
            if !each(&key, Bytes::copy_from_slice(&value))? {
                return Ok(());
            }
        }
    }

    fn apply(&self, changes: Vec<Change>, applied: u64) -> Result<(), LogError> {
        let applied = applied.max(self.applied());
        let Opened { database, entries } = self.opened()?;
        let done = guarded(&self.dir, || {
            let mut batch = database.batch().durability(Some(PersistMode::Buffer));
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(&entries, key, value),
                    None => batch.remove(&entries, key),
                }
            }
            batch.insert(&entries, APPLIED, applied.to_le_bytes());
            batch.commit()
        });
        self.refused(done)?;
        self.applied.store(applied, Ordering::Release);
        Ok(())
    }

    fn revive(&self) -> Result<(), LogError> {
        find_room(&self.dir)?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.take().is_none() {
            return Err(LogError::Closed);
        }
        // Nobody reads now; but a compaction may be about to notice that there was no room.
        for _ in 0..100 {
            if !self.is_compacting() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let again = open(&self.dir, self.set);
        *opened = Some(again.map_err(|error| self.damaged(&format!("after the disk was full: {error}")))?);
        drop(opened);
        let (stored, applied) = (self.stored()?, self.applied());
        if stored < applied {
            return Err(self.damaged(&format!("after the disk was full it ends with {stored} and not {applied}")));
        }
        self.applied.store(stored, Ordering::Release);
        Ok(())
    }

    fn persist(&self) -> Result<(), LogError> {
        let applied = self.applied();
        let Opened { database, .. } = self.opened()?;
        self.refused(guarded(&self.dir, || database.persist(PersistMode::SyncAll)))?;
        self.persisted.store(applied, Ordering::Release);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        // The journals are bounded, and made as large as they may become before anything is in them: they say nothing.
        self.opened().map_or(0, |opened| opened.entries.disk_space())
    }

    fn compact(&self) {
        let mut compacting = lock(&self.compacting);
        if compacting.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let (Ok(opened), dir) = (self.opened(), self.dir.clone()) else { return };
        let run = move || {
            // What is only in memory and in the journal cannot supersede anything in the tables.
            let done = guarded(&dir, || {
                opened.entries.rotate_memtable_and_wait()?;
                opened.entries.major_compact()
            });
            if let Err(error) = done {
                tracing::warn!(%error, "the space of what is gone from the view is not given back");
            }
        };
        *compacting = std::thread::Builder::new().name("busway-compact".to_owned()).spawn(run).ok();
    }

    fn is_compacting(&self) -> bool {
        lock(&self.compacting).as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn close(&self) {
        // What is interrupted by the end of the process leaves everything as it was.
        for _ in 0..500 {
            if !self.is_compacting() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let opened = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(opened);
    }

    fn damaged(&self, what: &str) -> LogError {
        LogError::View { dir: self.dir.clone(), what: what.to_owned() }
    }
}
