//! The seam to the file system.
//!
//! Role: every file access of the log goes through [`Fs`] and [`FsFile`], so that tests can put an implementation there
//! that forgets what was not synced, tears writes and fails. [`RealFs`] is the operating system's.
//!
//! What an implementation MUST keep: data written to a file survives a crash of the machine only after
//! [`FsFile::sync_data`] returned ok, a created, renamed or removed name only after [`Fs::sync_dir`]. After a failed
//! sync nothing is known about what was written before it; the log never tries again.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::view::{DiskViews, Views};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new and empty file in place of whatever was there, readable by its owner only.
    Create,
}

/// A file system.
pub trait Fs: fmt::Debug + Send + Sync {
    /// Creates a folder and its parents, accessible to the owner only; ok when it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names created, renamed and removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Where a view can be kept beside the files; none keeps all state in memory and in checkpoints. What is there has its
    /// own access to the disk.
    fn views(&self) -> Option<Arc<dyn Views>> {
        None
    }
    /// Tries to lock a file, creating it if needed, and notes `holder` in it.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locking>;
}

/// An open file.
pub trait FsFile: fmt::Debug + Send + Sync {
    /// Reads into `buffer` from `at`; less than asked only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `data` at `at`, in one call to the operating system where it can.
    fn write_all_at(&self, data: &[u8], at: u64) -> io::Result<()>;
    /// Makes the data durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length.
    fn size(&self) -> io::Result<u64>;
}

/// Keeps a lock until it is dropped.
pub trait LockGuard: fmt::Debug + Send + Sync {}

/// Whether a lock was had.
#[derive(Debug)]
pub enum Locking {
    /// It is ours until the guard is dropped.
    Held(Box<dyn LockGuard>),
    /// Another has it.
    Busy {
        /// What that one noted.
        holder: String,
    },
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    /// Closing the file is what gives the lock back.
    _file: File,
}

impl LockGuard for RealLock {}

impl Fs for RealFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        match dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Write => options.read(true).write(true),
            OpenMode::Create => options.read(true).write(true).create(true).truncate(true).mode(0o600),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn views(&self) -> Option<Arc<dyn Views>> {
        Some(Arc::new(DiskViews::default()))
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locking> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(holder.as_bytes())?;
                Ok(Locking::Held(Box::new(RealLock { _file: file })))
            }
            Err(TryLockError::WouldBlock) => {
                let mut noted = String::new();
                // What the holder noted only makes the message better; anything may be in the file.
                let _ = file.take(64).read_to_string(&mut noted);
                Ok(Locking::Busy { holder: noted })
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl FsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, data: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(data, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
