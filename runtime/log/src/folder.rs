//! The data folder: whose it is, of which format, and what lies in it.
//!
//! `LOCK` is held while the log is open and names the process. `FORMAT` names the format, and is written before
//! anything else. A folder that holds other things and no `FORMAT` is left alone.

use std::io;
use std::path::Path;

use crate::error::{Holder, LogError};
use crate::fs::{Fs, LockGuard, Locking, OpenMode};
use crate::index::footer_stem;
use crate::segment::FORMAT;
use crate::spare::spare_number;

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.tmp";
const FORMAT_WORD: &str = "busway-log";

/// What lies in a folder that is now ours.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Held until the log is closed.
    pub(crate) lock: Box<dyn LockGuard>,
    /// Names of segments, oldest first.
    pub(crate) segments: Vec<String>,
    /// Numbers of spare files.
    pub(crate) spares: Vec<u64>,
    /// Names of footers that belong to no segment, and of some that were not finished.
    pub(crate) stray: Vec<String>,
}

fn is_segment(name: &str) -> bool {
    name.strip_suffix(".seg").is_some_and(|stem| stem.len() == 20 && stem.bytes().all(|b| b.is_ascii_digit()))
}

/// What lies in a folder that is only looked at. The lock is taken where that changes nothing but the lock's own file.
#[derive(Debug)]
pub(crate) struct LookedAt {
    /// Held until the look is over; none when the folder cannot be written to, so that nobody else can either.
    pub(crate) _lock: Option<Box<dyn LockGuard>>,
    /// Names of segments, oldest first.
    pub(crate) segments: Vec<String>,
}

/// Checks that the folder is one of ours and that no node uses it, and lists it.
pub(crate) fn look(fs: &dyn Fs, dir: &Path) -> Result<LookedAt, LogError> {
    let names = fs.list(dir).map_err(|e| LogError::io("listing", dir, e))?;
    if !names.iter().any(|n| n == FORMAT_FILE) {
        let found = names.first().cloned().unwrap_or_default();
        return Err(LogError::NotADataFolder { dir: dir.to_owned(), found });
    }
    let lock = if names.iter().any(|n| n == LOCK_FILE) {
        match fs.lock(&dir.join(LOCK_FILE), &std::process::id().to_string()) {
            Ok(Locking::Held(lock)) => Some(lock),
            Ok(Locking::Busy { holder }) => {
                return Err(LogError::Locked { dir: dir.to_owned(), holder: Holder(holder.trim().parse().ok()) });
            }
            // Whoever cannot write to it cannot write while this looks at it.
            Err(_) => None,
        }
    } else {
        None
    };
    check_format(fs, &dir.join(FORMAT_FILE))?;
    let mut segments: Vec<String> = names.into_iter().filter(|n| is_segment(n)).collect();
    segments.sort_unstable();
    Ok(LookedAt { _lock: lock, segments })
}

/// Creates the folder if needed, locks it and checks its format.
pub(crate) fn enter(fs: &dyn Fs, dir: &Path) -> Result<Folder, LogError> {
    let at_open = |action, path: &Path, cause| LogError::at_open(action, dir, path, cause);
    fs.create_dir(dir).map_err(|e| at_open("creating", dir, e))?;
    let names = fs.list(dir).map_err(|e| at_open("listing", dir, e))?;
    let foreign = names.iter().find(|n| *n != LOCK_FILE && *n != FORMAT_NEW);
    if let Some(found) = foreign.filter(|_| !names.iter().any(|n| n == FORMAT_FILE)) {
        return Err(LogError::NotADataFolder { dir: dir.to_owned(), found: found.clone() });
    }
    let lock_path = dir.join(LOCK_FILE);
    let pid = std::process::id().to_string();
    let lock = match fs.lock(&lock_path, &pid).map_err(|e| at_open("locking", &lock_path, e))? {
        Locking::Held(lock) => lock,
        Locking::Busy { holder } => {
            return Err(LogError::Locked { dir: dir.to_owned(), holder: Holder(holder.trim().parse().ok()) });
        }
    };
    // Only now nobody else changes it.
    let names = fs.list(dir).map_err(|e| at_open("listing", dir, e))?;
    if names.iter().any(|n| n == FORMAT_FILE) {
        check_format(fs, &dir.join(FORMAT_FILE))?;
    } else {
        write_format(fs, dir).map_err(|e| at_open("preparing", dir, e))?;
    }
    let mut segments: Vec<String> = names.iter().filter(|n| is_segment(n)).cloned().collect();
    segments.sort_unstable();
    let spares = names.iter().filter_map(|n| spare_number(n)).collect();
    let is_stray = |name: &&String| match footer_stem(name) {
        Some((stem, true)) => !segments.contains(&format!("{stem}.seg")),
        Some((_, false)) => true,
        None => false,
    };
    let stray = names.iter().filter(is_stray).cloned().collect();
    Ok(Folder { lock, segments, spares, stray })
}

fn check_format(fs: &dyn Fs, path: &Path) -> Result<(), LogError> {
    let file = fs.open(path, OpenMode::Read).map_err(|e| LogError::io("opening", path, e))?;
    let mut bytes = [0; 64];
    let read = file.read_at(&mut bytes, 0).map_err(|e| LogError::io("reading", path, e))?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(FORMAT_WORD), Some(version)) if version.parse() == Ok(FORMAT) => Ok(()),
        (Some(FORMAT_WORD), Some(version)) => {
            Err(LogError::Version { file: path.to_owned(), found: version.to_owned(), supported: FORMAT })
        }
        _ => Err(LogError::damaged(path, 0, "it does not say which format the folder has")),
    }
}

fn write_format(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    let new = dir.join(FORMAT_NEW);
    let file = fs.open(&new, OpenMode::Create)?;
    file.write_all_at(format!("{FORMAT_WORD} {FORMAT}\n").as_bytes(), 0)?;
    file.sync_data()?;
    fs.rename(&new, &dir.join(FORMAT_FILE))?;
    fs.sync_dir(dir)
}
