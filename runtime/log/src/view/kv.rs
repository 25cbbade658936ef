//! Key-value over a view.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use busway_types::{KvVersion, KvWrite, ServiceName};
use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{View, kv_key, kv_key_start, take_kv_value, take_pair, total_key};
use crate::error::LogError;
use crate::state::decimal;
use crate::txn::{KvRecord, Txn};

/// What keeping an entry costs beside its bytes.
const ENTRY_BYTES: usize = 96;

/// An entry's value and version; version 0 for absent ones.
type Entry = (Option<Bytes>, KvVersion);

/// What one write costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Bytes that wait for the view.
    bytes: usize,
    /// By how much it makes the service's entries larger; too much when it is not known what was there before.
    growth: i64,
}

/// Entries that changed, and a cache of others.
#[derive(Clone, Debug)]
pub(super) struct KvOverlay {
    /// What changed and is not known to be in the view.
    pub(super) dirty: BTreeMap<Arc<[u8]>, Entry>,
    /// Each write with its transaction's number, oldest first.
    order: VecDeque<(u64, Arc<[u8]>, Cost)>,
    /// Bytes of the writes.
    bytes: usize,
    /// By how much they make a service's entries larger.
    growth: FxHashMap<ServiceName, i64>,
    /// What the transaction that comes next needs.
    loaded: FxHashMap<Vec<u8>, Entry>,
    cache: Cache,
}

/// Only what changed counts: the rest is in the view.
impl PartialEq for KvOverlay {
    fn eq(&self, other: &Self) -> bool {
        self.dirty == other.dirty
    }
}

/// The service that a key of an entry belongs to.
fn service_of(key: &[u8]) -> Option<ServiceName> {
    let name = key.get(1..)?.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok()?.parse().ok()
}

impl KvOverlay {
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            dirty: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            growth: FxHashMap::default(),
            loaded: FxHashMap::default(),
            cache: Cache::new(cache_bytes),
        }
    }

    pub(super) fn uncached(&self) -> Self {
        Self { cache: Cache::new(0), ..self.clone() }
    }

    pub(super) fn waiting(&self) -> usize {
        self.bytes
    }

    /// Only an increment depends on what was there.
    pub(super) fn load(&mut self, view: &dyn View, txn: &Txn) -> Result<(), LogError> {
        for KvRecord { service, op } in &txn.kv {
            if let KvWrite::Increment { key, .. } = op {
                let key = kv_key(service, key);
                if !self.dirty.contains_key(&*key) {
                    let entry = self.look(view, &key)?;
                    self.loaded.insert(key, entry);
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, txn: &Txn) {
        for KvRecord { service, op } in &txn.kv {
            let key = kv_key(service, op.key());
            let value = match op {
                KvWrite::Set { value, .. } => Some(value.clone()),
                KvWrite::Delete { .. } => None,
                KvWrite::Increment { by, .. } => {
                    let now = self.dirty.get(&*key).or_else(|| self.loaded.get(&key));
                    let now = now.and_then(|(value, _)| decimal(value.as_deref()?)).unwrap_or(0);
                    Some(Bytes::from(now.saturating_add(*by).to_string()))
                }
            };
            let own = key.len() - kv_key_start(service);
            let size = |value: Option<&Bytes>| value.map_or(0, |value| own + value.len());
            let signed = |value: Option<&Bytes>| (size(value) as u64).cast_signed();
            let known = self.dirty.get(&*key).or_else(|| self.loaded.get(&key)).or_else(|| self.cache.peek(&key));
            let growth = signed(value.as_ref()) - known.map_or(0, |(value, _)| signed(value.as_ref()));
            let cost = Cost { bytes: key.len() + size(value.as_ref()) + ENTRY_BYTES, growth };
            *self.growth.entry(service.clone()).or_default() += growth;
            self.bytes += cost.bytes;
            let key: Arc<[u8]> = key.into();
            self.order.push_back((txn.seq, Arc::clone(&key), cost));
            let version = if value.is_some() { txn.seq } else { 0 };
            self.dirty.insert(key, (value, version));
        }
        self.loaded.clear();
    }

    /// The view has all up to `applied`.
    pub(super) fn prune(&mut self, applied: u64) {
        let mut last: FxHashSet<Arc<[u8]>> = FxHashSet::default();
        while let Some((_, key, cost)) = self.order.pop_front_if(|(seq, ..)| *seq <= applied) {
            self.bytes -= cost.bytes;
            if let Some(growth) = service_of(&key).and_then(|service| self.growth.get_mut(&service)) {
                *growth -= cost.growth;
            }
            last.insert(key);
        }
        if self.order.is_empty() {
            self.growth.clear();
            for (key, entry) in std::mem::take(&mut self.dirty) {
                self.cache.insert(&key, entry);
            }
            return;
        }
        // What was written again since is still here for that.
        for (_, key, _) in &self.order {
            last.remove(key);
        }
        for key in last {
            if let Some(entry) = self.dirty.remove(&key) {
                self.cache.insert(&key, entry);
            }
        }
    }

    /// An entry that did not change lately.
    fn look(&mut self, view: &dyn View, key: &[u8]) -> Result<Entry, LogError> {
        if let Some(entry) = self.cache.get(key) {
            return Ok(entry);
        }
        let entry = match view.get(key)? {
            Some(value) => {
                let (value, version) = take_kv_value(view, &value)?;
                (Some(value), version)
            }
            None => (None, 0),
        };
        self.cache.insert(key, entry.clone());
        Ok(entry)
    }

    pub(super) fn get(&mut self, view: &dyn View, service: &ServiceName, key: &str) -> Result<Entry, LogError> {
        let key = kv_key(service, key);
        match self.dirty.get(&*key) {
            Some(entry) => Ok(entry.clone()),
            None => self.look(view, &key),
        }
    }

    pub(super) fn scan(
        &self,
        view: &dyn View,
        service: &ServiceName,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(&str, &Bytes) -> bool,
    ) -> Result<(), LogError> {
        let (from, until) = range(service, prefix, after);
        let start = kv_key_start(service);
        let bounds = (Bound::Included(&*from), Bound::Excluded(&*until));
        let mut changed = self.dirty.range::<[u8], _>(bounds).peekable();
        let mut ended = false;
        let mut give = |key: &[u8], value: &Bytes| match key.get(start..).map(std::str::from_utf8) {
            Some(Ok(key)) => Ok(each(key, value)),
            _ => Err(view.damaged("a key of key-value is no text")),
        };
        view.scan(&from, &until, &mut |key, value| {
            while let Some((changed_key, (changed_value, _))) = changed.next_if(|(changed, _)| ***changed < *key) {
                if let Some(value) = changed_value
                    && !give(changed_key, value)?
                {
                    ended = true;
                    return Ok(false);
                }
            }
            let go_on = match changed.next_if(|(changed, _)| ***changed == *key) {
                Some((key, (Some(value), _))) => give(key, value)?,
                Some((_, (None, _))) => true,
                None => give(key, &take_kv_value(view, &value)?.0)?,
            };
            ended = !go_on;
            Ok(go_on)
        })?;
        for (key, (value, _)) in changed.filter(|_| !ended) {
            if let Some(value) = value
                && !give(key, value)?
            {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self, view: &dyn View, service: &ServiceName) -> Result<usize, LogError> {
        let (stored, _) = take_pair(view, &total_key(service))?;
        let total = stored.saturating_add_signed(self.growth.get(service).copied().unwrap_or_default());
        Ok(usize::try_from(total).unwrap_or(usize::MAX))
    }
}

/// The keys of a service that begin with a prefix, after a key.
fn range(service: &ServiceName, prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let from = match after {
        Some(after) if after >= prefix => {
            let mut key = kv_key(service, after);
            key.push(0);
            key
        }
        _ => kv_key(service, prefix),
    };
    // Keys are UTF-8, which never has this byte; without a prefix the service's NUL is what counts.
    let mut until = kv_key(service, prefix);
    until.push(0xff);
    (from, until)
}

/// A cache in two halves: what is used moves to the young one, and when that is full the old one is dropped.
#[derive(Clone, Debug)]
struct Cache {
    young: FxHashMap<Box<[u8]>, Entry>,
    old: FxHashMap<Box<[u8]>, Entry>,
    young_bytes: usize,
    half: usize,
}

impl Cache {
    fn new(bytes: usize) -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), young_bytes: 0, half: bytes / 2 }
    }

    fn insert(&mut self, key: &[u8], entry: Entry) {
        let cost = 2 * ENTRY_BYTES + key.len() + entry.0.as_ref().map_or(0, Bytes::len);
        if cost > self.half {
            self.young.remove(key);
            self.old.remove(key);
            return;
        }
        self.young_bytes += cost;
        // A copy: the value may be a part of a much larger block.
        let entry = (entry.0.map(|value| Bytes::copy_from_slice(&value)), entry.1);
        self.old.remove(key);
        self.young.insert(key.into(), entry);
        if self.young_bytes > self.half {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    fn peek(&self, key: &[u8]) -> Option<&Entry> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn get(&mut self, key: &[u8]) -> Option<Entry> {
        if let Some(entry) = self.young.get(key) {
            return Some(entry.clone());
        }
        let entry = self.old.remove(key)?;
        self.insert(key, entry.clone());
        Some(entry)
    }
}
