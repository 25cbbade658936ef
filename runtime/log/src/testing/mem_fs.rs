//! A file system in memory that behaves as badly as a real one may.
//!
//! Role: stand in for [`RealFs`](crate::RealFs) in tests. [`MemFs::crash`] gives the disk as it may look after the power
//! went: what was synced is there, of what was not any sectors may be. [`MemFs::killed`] gives it as after the process
//! was killed. Writes and syncs can be made to fail; after a failed sync what was written before it is lost although
//! reads still show it, as Linux may do it. Every change can be counted and watched, so that a test can stop the machine
//! before any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busway_types::Entropy;

use crate::fs::{Fs, FsFile, LockGuard, Locking, OpenMode};
use crate::lock;

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What reads show.
    current: Vec<u8>,
    /// What is on the disk for sure.
    durable: Vec<u8>,
    /// Places written since the last sync.
    pending: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameOp>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeMap<PathBuf, String>,
    /// Writes that still succeed, and how the next one fails.
    write_fault: Option<(u64, io::ErrorKind)>,
    /// A write that fails leaves the first half of its bytes behind.
    tears: bool,
    /// Syncs that still succeed before one fails with an I/O error.
    sync_fault: Option<u64>,
    capacity: Option<u64>,
    read_only: bool,
    sync_takes: Duration,
    /// Bytes that reads gave.
    read: u64,
    /// Writes, syncs and changes of names so far.
    changes: u64,
}

/// Called before a change with its number.
type Watch = Arc<dyn Fn(u64, &MemFs) + Send + Sync>;

/// What is called before each change; apart from the disk, because it looks at it.
#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<Option<Watch>>>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// A file system in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
    watcher: Watcher,
}

impl MemFs {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), watcher: Watcher::default() }
    }

    /// Has `watch` called before each write, sync and change of names, with the number of that change and with the disk
    /// as it is then. It may crash or copy it, and must not change it.
    pub fn watch(&self, watch: impl Fn(u64, &Self) + Send + Sync + 'static) {
        *lock(&self.watcher.0) = Some(Arc::new(watch));
    }

    /// Counts a change and tells whoever watches.
    fn changing(&self) {
        let number = {
            let mut disk = lock(&self.disk);
            disk.changes += 1;
            disk.changes
        };
        let watch = lock(&self.watcher.0).clone();
        if let Some(watch) = watch {
            watch(number, self);
        }
    }

    /// Writes, syncs and changes of names so far.
    pub fn changes(&self) -> u64 {
        lock(&self.disk).changes
    }

    /// What the disk may look like when the power goes now. The original goes on unharmed.
    #[must_use]
    pub fn crash(&self, entropy: &mut dyn Entropy) -> Self {
        let mut disk = lock(&self.disk).clone();
        let kept = (entropy.next_u64() as usize) % (disk.pending_names.len() + 1);
        disk.names = std::mem::take(&mut disk.durable_names);
        let pending = std::mem::take(&mut disk.pending_names);
        pending.into_iter().take(kept).for_each(|op| apply_name(&mut disk.names, op));
        for inode in &mut disk.inodes {
            inode.lose(entropy);
        }
        Self::of(Disk {
            durable_names: disk.names.clone(),
            inodes: disk.inodes,
            names: disk.names,
            dirs: disk.dirs,
            ..Disk::default()
        })
    }

    /// What the disk looks like when the process is killed now: everything written is there, locks are gone.
    #[must_use]
    pub fn killed(&self) -> Self {
        let disk = lock(&self.disk).clone();
        let Disk { inodes, names, durable_names, pending_names, dirs, .. } = disk;
        Self::of(Disk { inodes, names, durable_names, pending_names, dirs, ..Disk::default() })
    }

    /// The next `n` writes succeed, and those after them fail.
    pub fn fail_writes_after(&self, n: u64, kind: io::ErrorKind) {
        lock(&self.disk).write_fault = Some((n, kind));
    }

    /// The next `n` writes succeed; those after them write the first half of their bytes and then fail.
    pub fn tear_writes_after(&self, n: u64) {
        let mut disk = lock(&self.disk);
        disk.write_fault = Some((n, io::ErrorKind::Other));
        disk.tears = true;
    }

    /// The next `n` syncs of files succeed, and those after them fail.
    pub fn fail_syncs_after(&self, n: u64) {
        lock(&self.disk).sync_fault = Some(n);
    }

    /// Files take at most this many bytes together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.disk).capacity = bytes;
    }

    /// Nothing can be created or changed.
    pub fn set_read_only(&self, read_only: bool) {
        lock(&self.disk).read_only = read_only;
    }

    /// How long a sync takes.
    pub fn set_sync_time(&self, takes: Duration) {
        lock(&self.disk).sync_takes = takes;
    }

    /// Bytes that reads of files gave since it was asked last.
    pub fn bytes_read(&self) -> u64 {
        std::mem::take(&mut lock(&self.disk).read)
    }

    /// The files and their sizes.
    pub fn files(&self) -> BTreeMap<PathBuf, usize> {
        let disk = lock(&self.disk);
        disk.names.iter().map(|(path, inode)| (path.clone(), disk.inodes[*inode].current.len())).collect()
    }

    /// Changes a file behind everybody's back, on the disk as well. Ok is whether there is such a file.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut disk = lock(&self.disk);
        let Some(inode) = disk.names.get(path).copied() else { return false };
        let inode = &mut disk.inodes[inode];
        change(&mut inode.current);
        inode.durable = inode.current.clone();
        inode.pending.clear();
        true
    }
}

impl Inode {
    fn write(&mut self, data: &[u8], at: usize) {
        let end = at + data.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[at..end].copy_from_slice(data);
        self.pending.push((at, end));
    }

    fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (start, end) in pending {
            self.keep(start, end);
        }
    }

    /// Copies a written place to the disk.
    fn keep(&mut self, start: usize, end: usize) {
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.current[start..end]);
    }

    /// Keeps any sectors of what was not synced.
    fn lose(&mut self, entropy: &mut dyn Entropy) {
        let pending = std::mem::take(&mut self.pending);
        // Three disks: one loses everything, one writes in order up to some point, one in any order.
        let how = entropy.next_u64() % 3;
        let sectors: Vec<(usize, usize)> = pending.iter().flat_map(|(start, end)| sectors(*start, *end)).collect();
        let ordered = (entropy.next_u64() as usize) % (sectors.len() + 1);
        for (i, (start, end)) in sectors.into_iter().enumerate() {
            let kept = match how {
                0 => false,
                1 => i < ordered,
                _ => entropy.next_u64().is_multiple_of(2),
            };
            if kept {
                self.keep(start, end);
            }
        }
        self.current = self.durable.clone();
    }
}

fn sectors(start: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    (start / SECTOR..end.div_ceil(SECTOR)).map(move |s| ((s * SECTOR).max(start), ((s + 1) * SECTOR).min(end)))
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, op: NameOp) {
    match op {
        NameOp::Link(path, inode) => {
            names.insert(path, inode);
        }
        NameOp::Unlink(path) => {
            names.remove(&path);
        }
        NameOp::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}

impl Disk {
    fn change_names(&mut self, op: NameOp) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        apply_name(&mut self.names, op.clone());
        self.pending_names.push(op);
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].current.len() as u64).sum()
    }
}

#[derive(Debug)]
struct MemFile {
    fs: MemFs,
    inode: usize,
}

#[derive(Debug)]
struct MemLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

impl LockGuard for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        lock(&self.disk).locks.remove(&self.path);
    }
}

impl Fs for MemFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        if disk.read_only && !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        disk.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = lock(&self.disk);
        let here = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        if mode == OpenMode::Create {
            self.changing();
        }
        let mut disk = lock(&self.disk);
        let inode = if mode == OpenMode::Create {
            let inode = disk.inodes.len();
            disk.inodes.push(Inode::default());
            disk.change_names(NameOp::Link(path.to_owned(), inode))?;
            inode
        } else {
            disk.names.get(path).copied().ok_or(io::ErrorKind::NotFound)?
        };
        Ok(Arc::new(MemFile { fs: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.changing();
        lock(&self.disk).change_names(NameOp::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.changing();
        lock(&self.disk).change_names(NameOp::Unlink(path.to_owned()))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.changing();
        let mut disk = lock(&self.disk);
        disk.pending_names.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Locking> {
        let mut disk = lock(&self.disk);
        if let Some(holder) = disk.locks.get(path) {
            return Ok(Locking::Busy { holder: holder.clone() });
        }
        if !disk.names.contains_key(path) {
            let inode = disk.inodes.len();
            disk.inodes.push(Inode::default());
            disk.change_names(NameOp::Link(path.to_owned(), inode))?;
        }
        disk.locks.insert(path.to_owned(), holder.to_owned());
        Ok(Locking::Held(Box::new(MemLock { disk: self.disk.clone(), path: path.to_owned() })))
    }
}

impl FsFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut disk = lock(&self.fs.disk);
        let content = disk.inodes[self.inode].current.get(at as usize..).unwrap_or_default();
        let read = content.len().min(buffer.len());
        buffer[..read].copy_from_slice(&content[..read]);
        disk.read += read as u64;
        Ok(read)
    }

    fn write_all_at(&self, data: &[u8], at: u64) -> io::Result<()> {
        self.fs.changing();
        let mut disk = lock(&self.fs.disk);
        match &mut disk.write_fault {
            Some((0, kind)) => {
                let error = (*kind).into();
                if disk.tears {
                    disk.inodes[self.inode].write(&data[..data.len() / 2], at as usize);
                }
                return Err(error);
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        let grows = (at + data.len() as u64).saturating_sub(disk.inodes[self.inode].current.len() as u64);
        if disk.capacity.is_some_and(|capacity| grows > 0 && disk.used() + grows > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.inodes[self.inode].write(data, at as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.changing();
        let takes = lock(&self.fs.disk).sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        let mut disk = lock(&self.fs.disk);
        match &mut disk.sync_fault {
            Some(0) => {
                // What a failed sync leaves behind counts as clean and never reaches the disk.
                disk.inodes[self.inode].pending.clear();
                return Err(io::Error::from_raw_os_error(5));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        disk.inodes[self.inode].sync();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.fs.disk).inodes[self.inode].current.len() as u64)
    }
}
