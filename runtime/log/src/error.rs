//! What can go wrong with the log, split by what has to be done about it.
//!
//! Every message says what happened, where, and what to do next. Errors are cheap to clone because one failure is told
//! to everybody who waits for the committer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the log cannot do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has the folder open. Worth retrying once that one has ended.
    #[error("the data folder {} is in use by {holder}; stop it, or choose another folder with --data", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// The folder cannot be written to. Not worth retrying before the folder's rights are changed.
    #[error("the data folder {} cannot be written to ({cause}); give this user write access, or choose another folder \
             with --data", dir.display())]
    ReadOnly {
        /// The folder.
        dir: PathBuf,
        /// What the operating system said.
        cause: Arc<io::Error>,
    },
    /// The folder holds something else. Not worth retrying.
    #[error("{} is not a data folder of busway: it has no FORMAT file but contains `{found}`; choose an empty or a new \
             folder with --data", dir.display())]
    NotADataFolder {
        /// The folder.
        dir: PathBuf,
        /// Something found in it.
        found: String,
    },
    /// Written by another version of busway. Not worth retrying with this one.
    #[error("{} is of format {found}, and this version of busway reads format {supported}; use the version that wrote \
             it, or choose another folder with --data", file.display())]
    Version {
        /// Which file says so.
        file: PathBuf,
        /// The format found.
        found: String,
        /// The format that this version reads and writes.
        supported: u32,
    },
    /// A record contains something that this version does not know. Not worth retrying with this one.
    #[error("{} has {what} at byte {at} that this version of busway does not know; use the version that wrote it",
            file.display())]
    Unknown {
        /// Which file.
        file: PathBuf,
        /// Where.
        at: u64,
        /// What.
        what: String,
    },
    /// Something that had been safely stored is gone or changed. Not worth retrying; nothing was altered.
    #[error("{} is damaged at byte {at}: {what}; nothing was changed. Restore the folder from a copy, or move it away \
             to start empty", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// The part of the state that is kept beside the log cannot be used. Not worth retrying; the log was not altered.
    #[error("the view in {} cannot be used: {what}; if the log still has everything since its beginning (`busway log verify` \
             tells), remove that folder and it is made again; else restore the data folder from a copy", dir.display())]
    View {
        /// The view's folder.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk or the quota is full. The log accepts nothing more until it is opened again.
    #[error("no space left while {action} {}; free some space on that disk and start again", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
    },
    /// The operating system failed. The log accepts nothing more until it is opened again.
    #[error("{action} {} failed: {cause}; check the disk and start again", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        cause: Arc<io::Error>,
    },
    /// A transaction does not follow the one before it: a fault of the caller, after which nothing can be accepted.
    #[error("transaction {found} was submitted where {expected} was due; restart the node and report this")]
    OutOfOrder {
        /// What was due.
        expected: Position,
        /// What came.
        found: Position,
    },
    /// One transaction is larger than a record may be. Nothing can be accepted after it, because its number is taken.
    #[error("transaction {seq} is {bytes} bytes long and a record holds at most {max}; lower limits.inflight-bytes")]
    TooLarge {
        /// Which transaction.
        seq: u64,
        /// Its encoded size.
        bytes: usize,
        /// The largest.
        max: usize,
    },
    /// One of the log's threads could not be started or has ended.
    #[error("the log's {thread} thread is not running; restart the node")]
    Stopped {
        /// Which thread.
        thread: &'static str,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Who holds a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "another busway node (process {pid})"),
            None => f.write_str("another busway node"),
        }
    }
}

/// A place in the sequence of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The transaction's number.
    pub seq: u64,
    /// The offset of its first event.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (offset {})", self.seq, self.offset)
    }
}

impl LogError {
    /// Whether the same call may succeed later without anybody repairing something.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { action, path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), cause: Arc::new(cause) },
        }
    }

    /// As [`Self::io`], for the first accesses to a folder: lacking rights are the folder's fault.
    pub(crate) fn at_open(action: &'static str, dir: &Path, path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { dir: dir.to_owned(), cause: Arc::new(cause) }
            }
            _ => Self::io(action, path, cause),
        }
    }

    pub(crate) fn damaged(file: &Path, at: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), at, what: what.into() }
    }
}
