//! A view in memory, for tests: it can forget what was not persisted, as a power cut makes a disk do.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Change, Each, View, Views};
use crate::error::LogError;
use crate::lock;

#[derive(Clone, Debug, Default)]
struct Content {
    map: BTreeMap<Vec<u8>, Bytes>,
    applied: u64,
}

/// A view in memory.
#[derive(Debug, Default)]
pub struct MemView {
    now: Mutex<Content>,
    /// What a power cut leaves.
    safe: Mutex<Content>,
    /// Nothing can be done any more, as on a broken disk.
    broken: Mutex<bool>,
    /// Nothing can be added, as on a full disk.
    full: Mutex<bool>,
}

impl MemView {
    /// Everything that was not persisted is gone.
    pub fn power_cut(&self) {
        *lock(&self.now) = lock(&self.safe).clone();
    }

    /// From now on everything fails, or works again.
    pub fn set_broken(&self, broken: bool) {
        *lock(&self.broken) = broken;
    }

    /// From now on nothing can be added, or can be again.
    pub fn set_full(&self, full: bool) {
        *lock(&self.full) = full;
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        lock(&self.now).map.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn room(&self) -> Result<(), LogError> {
        let full = LogError::Full { action: "writing", path: PathBuf::from("memory") };
        if *lock(&self.full) { Err(full) } else { Ok(()) }
    }

    fn check(&self) -> Result<(), LogError> {
        if *lock(&self.broken) { Err(self.damaged("it was broken on purpose")) } else { Ok(()) }
    }
}

impl View for MemView {
    fn applied(&self) -> u64 {
        lock(&self.now).applied
    }

    fn persisted(&self) -> u64 {
        lock(&self.safe).applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        self.check()?;
        Ok(lock(&self.now).map.get(key).cloned())
    }

    fn scan(&self, from: &[u8], until: &[u8], each: &mut Each<'_>) -> Result<(), LogError> {
        self.check()?;
        if from >= until {
            return Ok(());
        }
        let now = lock(&self.now);
        for (key, value) in now.map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until))) {
            if !each(key, value.clone())? {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>, applied: u64) -> Result<(), LogError> {
        self.check()?;
        self.room()?;
        let mut now = lock(&self.now);
        for (key, value) in changes {
            match value {
                Some(value) => now.map.insert(key, value.into()),
                None => now.map.remove(&key),
            };
        }
        now.applied = now.applied.max(applied);
        Ok(())
    }

    fn revive(&self) -> Result<(), LogError> {
        self.room()
    }

    fn persist(&self) -> Result<(), LogError> {
        self.check()?;
        self.room()?;
        let now = lock(&self.now).clone();
        *lock(&self.safe) = now;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        lock(&self.now).map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn damaged(&self, what: &str) -> LogError {
        LogError::View { dir: PathBuf::from("memory"), what: what.to_owned() }
    }
}

/// Gives the same view in memory to whoever opens it.
#[derive(Debug, Default)]
pub struct MemViews {
    /// The view.
    pub view: Arc<MemView>,
}

impl Views for MemViews {
    fn open(&self, _: &Path) -> Result<Arc<dyn View>, LogError> {
        self.view.check()?;
        Ok(Arc::clone(&self.view) as Arc<dyn View>)
    }

    fn exists(&self, _: &Path) -> bool {
        true
    }

    fn wipe(&self, _: &Path) -> Result<(), LogError> {
        *lock(&self.view.now) = Content::default();
        *lock(&self.view.safe) = Content::default();
        *lock(&self.view.broken) = false;
        Ok(())
    }
}
