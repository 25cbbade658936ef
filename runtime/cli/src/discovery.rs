//! How the commands find a running node.
//!
//! Role: a node writes `node-PID.json` (address, token) into the user's runtime folder; the commands read what is there.
//! Invariants: folder and files are the user's own and closed to others, or they are neither written nor believed; files
//! appear whole (written aside, then renamed); a file whose process is gone is removed by whoever notices.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use busway_types::Timestamp;
use serde::{Deserialize, Serialize};

/// What a node tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    /// Its process.
    pub(crate) pid: u32,
    /// Where its admin API listens.
    pub(crate) address: SocketAddr,
    /// The token of its admin API.
    pub(crate) token: String,
    /// Its data folder; none when it keeps everything in memory.
    pub(crate) data: Option<PathBuf>,
    /// When it started.
    pub(crate) started_ms: Timestamp,
}

/// Why the runtime folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// Nowhere to put it.
    #[error("no home folder is known; set BUSWAY_RUNTIME_DIR to a folder of your own")]
    NoHome,
    /// Others could read or replace what is in it.
    #[error(
        "the runtime folder {path} {problem}; make it your own (`chmod 700`), or set BUSWAY_RUNTIME_DIR to another",
        path = path.display()
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It cannot be read or written.
    #[error("the runtime folder {path} cannot be used", path = path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The user's runtime folder: `$BUSWAY_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/busway`, else `~/.local/state/busway`.
pub(crate) fn folder() -> Result<PathBuf, DiscoveryError> {
    if let Some(given) = std::env::var_os("BUSWAY_RUNTIME_DIR").filter(|v| !v.is_empty()) {
        return Ok(given.into());
    }
    let dirs = directories::BaseDirs::new().ok_or(DiscoveryError::NoHome)?;
    let runtime = dirs.runtime_dir().filter(|dir| dir.is_dir());
    Ok(runtime.or(dirs.state_dir()).unwrap_or(dirs.data_local_dir()).join("busway"))
}

fn is_running(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // Whatever the answer but "there is none", a process of that number is there.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn checked(path: &Path) -> Result<(), DiscoveryError> {
    let found = fs::metadata(path).map_err(|source| DiscoveryError::Io { path: path.to_owned(), source })?;
    let open = |problem| DiscoveryError::Open { path: path.to_owned(), problem };
    if !found.is_dir() {
        return Err(open("is not a folder"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(open("belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(open("can be written by others"));
    }
    Ok(())
}

/// The announcement of this process; taken back when dropped.
#[derive(Debug)]
pub(crate) struct Announcement {
    path: PathBuf,
}

impl Announcement {
    /// Announces a node in `folder`.
    pub(crate) fn write(folder: &Path, node: &NodeFile) -> Result<Self, DiscoveryError> {
        let failed = |source: io::Error| DiscoveryError::Io { path: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        checked(folder)?;
        let path = folder.join(format!("node-{}.json", node.pid));
        let aside = folder.join(format!(".node-{}.tmp", node.pid));
        let text = serde_json::to_vec(node).map_err(|e| failed(e.into()))?;
        // A leftover of a process that had our number must not lend its rights to the new file.
        drop(fs::remove_file(&aside));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        drop(file);
        fs::rename(&aside, &path).map_err(failed)?;
        Ok(Self { path })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

/// The running nodes that are announced in `folder`, the oldest first.
pub(crate) fn running(folder: &Path) -> Result<Vec<NodeFile>, DiscoveryError> {
    let failed = |source: io::Error| DiscoveryError::Io { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    checked(folder)?;
    let mut nodes = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        if !stem.starts_with("node-") || path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        // A file that goes away or makes no sense meanwhile is no node.
        let Ok(text) = fs::read(&path) else { continue };
        let Ok(node) = serde_json::from_slice::<NodeFile>(&text) else { continue };
        if is_running(node.pid) {
            nodes.push(node);
        } else {
            drop(fs::remove_file(&path));
        }
    }
    nodes.sort_by_key(|node| (node.started_ms, node.pid));
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn node(pid: u32) -> NodeFile {
        NodeFile {
            pid,
            address: "127.0.0.1:7878".parse().expect("an address"),
            token: "t".into(),
            data: None,
            started_ms: Timestamp(u64::from(pid)),
        }
    }

    #[test]
    fn a_node_is_found_while_it_runs_and_not_afterwards() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("busway");
        assert_eq!(running(&folder).expect("nothing yet"), []);
        let me = node(std::process::id());
        let announced = Announcement::write(&folder, &me).expect("announced");
        assert_eq!(running(&folder).expect("one"), [me]);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&announced.path)), (0o700, 0o600));
        drop(announced);
        assert_eq!(running(&folder).expect("none"), []);
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        // Above the largest process number that Linux gives.
        let gone = node(i32::MAX as u32);
        let announced = Announcement::write(dir.path(), &gone).expect("announced");
        assert_eq!(running(dir.path()).expect("none"), []);
        assert!(!announced.path.exists());
    }

    #[test]
    fn a_folder_that_others_can_write_is_neither_used_nor_believed() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("opened");
        assert!(matches!(Announcement::write(dir.path(), &node(1)), Err(DiscoveryError::Open { .. })));
        let error = running(dir.path()).expect_err("not believed");
        assert!(error.to_string().contains("can be written by others"), "{error}");
    }
}
