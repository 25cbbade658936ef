//! The embedded engine keeps the contract, in memory and on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use busway_log::{Durability, RealFs};
use busway_types::{Clock, Limits, Timestamp};

use super::{Embedded, Storage};
use crate::Engine;
use crate::conformance::{self, Fixture, NOW};

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn monotonic_ns(&self) -> u64 {
        0
    }
}

fn open(storage: &Storage) -> Arc<dyn Engine> {
    let engine = Embedded::open(storage, Arc::new(RealFs), Arc::new(Fixed), Limits::default());
    Arc::new(engine.expect("the engine opens"))
}

struct Memory;

impl Fixture for Memory {
    fn fresh(&self) -> Arc<dyn Engine> {
        open(&Storage::Memory)
    }
    fn reopen(&self) -> Option<Arc<dyn Engine>> {
        None
    }
}

struct Disk {
    root: PathBuf,
    durability: Durability,
    opened: AtomicU32,
}

impl Disk {
    fn storage(&self) -> Storage {
        let dir = self.root.join(self.opened.load(Ordering::Relaxed).to_string());
        Storage::Disk { dir, durability: self.durability }
    }
}

impl Fixture for Disk {
    fn fresh(&self) -> Arc<dyn Engine> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        open(&self.storage())
    }
    fn reopen(&self) -> Option<Arc<dyn Engine>> {
        Some(open(&self.storage()))
    }
}

#[test]
fn memory_keeps_the_contract() {
    conformance::run(&Memory);
}

#[test]
fn disk_keeps_the_contract_whatever_its_durability() {
    for durability in [Durability::Sync, Durability::Interval(std::time::Duration::from_millis(20)), Durability::Memory]
    {
        let root = tempfile::tempdir().expect("a folder");
        conformance::run(&Disk { root: root.path().to_owned(), durability, opened: AtomicU32::new(0) });
    }
}
