//! Whether the files of certificates changed.
//!
//! Level-triggered like the watching of components: files are looked at again and again, and a change counts once two looks
//! saw the same, so that a certificate that is being replaced is not met half-way.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells one version of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

fn print(path: &Path) -> Option<Print> {
    // Through links, which is how certificates are often replaced.
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Print { bytes: metadata.len(), modified: metadata.modified().ok(), inode })
}

/// Files, and what was seen of them.
#[derive(Debug, Default)]
pub(in crate::edge) struct Watched {
    files: Vec<PathBuf>,
    acted: Vec<Option<Print>>,
    last: Vec<Option<Print>>,
}

impl Watched {
    /// Watches these from now on.
    pub(in crate::edge) fn new(files: Vec<PathBuf>) -> Self {
        let now: Vec<_> = files.iter().map(|file| print(file)).collect();
        Self { files, acted: now.clone(), last: now }
    }

    /// Looks once; true when there is a change to act on.
    pub(in crate::edge) fn look(&mut self) -> bool {
        let now: Vec<_> = self.files.iter().map(|file| print(file)).collect();
        let is_settled = now == self.last && now != self.acted && now.iter().all(Option::is_some);
        if is_settled {
            self.acted.clone_from(&now);
        }
        self.last = now;
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_and_when_it_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.pem");
        std::fs::write(&file, "1").expect("written");
        let mut watched = Watched::new(vec![file.clone()]);
        assert!(!watched.look());
        std::fs::write(&file, "22").expect("written");
        assert!(!watched.look(), "it may still be written");
        assert!(watched.look());
        assert!(!watched.look());
        std::fs::remove_file(&file).expect("removed");
        assert!(!watched.look() && !watched.look(), "there is nothing to read");
    }
}
