//! What lies in the app's folder, and what changed since the last look.
//!
//! Role: level-triggered change detection. The folder is looked at again and again rather than watched: a missed
//! notification (network file systems, container mounts) would be a component that never starts. A file counts as changed
//! once two looks in a row saw the same new size and time, so that a copy in progress is not picked up half-way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Tells a replaced file (`mv new old`) of the same size and time from the one before.
    inode: u64,
}

impl Fingerprint {
    /// The fingerprint of a file; none when it is not there or not a file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { bytes: metadata.len(), modified: metadata.modified().ok(), inode })
    }
}

/// What to do about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// New or different, and quiet since the last look.
    Settled(PathBuf),
    /// Gone since two looks.
    Gone(PathBuf),
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// What was acted on last.
    applied: Option<Fingerprint>,
    /// What the last look saw.
    last: Option<Fingerprint>,
}

/// Remembers what the last looks saw.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    files: BTreeMap<PathBuf, Seen>,
}

impl Scanner {
    /// Notes that `path` was acted on as it is now.
    pub(crate) fn applied(&mut self, path: &Path, fingerprint: Option<Fingerprint>) {
        self.files.insert(path.to_owned(), Seen { applied: fingerprint, last: fingerprint });
    }

    /// Compares `now` with the last looks. `now` holds every file that should be considered; a known file that is not in
    /// it counts as missing.
    pub(crate) fn look(&mut self, now: &BTreeMap<PathBuf, Option<Fingerprint>>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, fingerprint) in now {
            self.files.entry(path.clone()).or_insert(Seen { applied: None, last: None }).look(
                path,
                *fingerprint,
                &mut changes,
            );
        }
        for (path, seen) in &mut self.files {
            if !now.contains_key(path) {
                seen.look(path, None, &mut changes);
            }
        }
        self.files.retain(|_, seen| seen.applied.is_some() || seen.last.is_some());
        changes
    }
}

impl Seen {
    fn look(&mut self, path: &Path, now: Option<Fingerprint>, changes: &mut Vec<Change>) {
        if now == self.last && now != self.applied {
            self.applied = now;
            let path = path.to_owned();
            changes.push(if now.is_some() { Change::Settled(path) } else { Change::Gone(path) });
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(bytes: u64) -> Fingerprint {
        Fingerprint { bytes, modified: None, inode: 1 }
    }

    fn look(scanner: &mut Scanner, seen: Fingerprint) -> Vec<Change> {
        scanner.look(&BTreeMap::from([(PathBuf::from("a.wasm"), Some(seen))]))
    }

    #[test]
    fn a_file_that_is_still_being_written_is_left_alone() {
        let mut scanner = Scanner::default();
        assert_eq!(look(&mut scanner, print(1)), vec![]);
        assert_eq!(look(&mut scanner, print(2)), vec![]);
        assert_eq!(look(&mut scanner, print(2)), vec![Change::Settled("a.wasm".into())]);
        assert_eq!(look(&mut scanner, print(2)), vec![]);
    }

    #[test]
    fn a_replaced_file_is_reported_once_and_a_missing_one_after_two_looks() {
        let mut scanner = Scanner::default();
        scanner.applied(Path::new("a.wasm"), Some(print(1)));
        assert_eq!(look(&mut scanner, print(1)), vec![]);
        assert_eq!(look(&mut scanner, print(3)), vec![]);
        assert_eq!(look(&mut scanner, print(3)), vec![Change::Settled("a.wasm".into())]);
        assert_eq!(scanner.look(&BTreeMap::new()), vec![]);
        assert_eq!(scanner.look(&BTreeMap::new()), vec![Change::Gone("a.wasm".into())]);
        assert_eq!(scanner.look(&BTreeMap::new()), vec![]);
    }

    #[test]
    fn a_file_that_blinks_is_not_taken_for_gone() {
        let mut scanner = Scanner::default();
        scanner.applied(Path::new("a.wasm"), Some(print(1)));
        assert_eq!(scanner.look(&BTreeMap::new()), vec![]);
        assert_eq!(look(&mut scanner, print(1)), vec![]);
        assert_eq!(look(&mut scanner, print(1)), vec![]);
    }
}
