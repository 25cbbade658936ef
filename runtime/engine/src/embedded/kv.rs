//! Key-value of the embedded engine: what may be committed, and what is there.
//!
//! Role: the conflict rule. A delivery takes effect only if everything that it read or listed is still so, counting what
//! earlier deliveries of the same settlement did.

use busway_log::{LogError, State};
use busway_types::{Effects, KvRead, KvScan, Offset, ServiceName, mutant};
use rustc_hash::FxHashSet;

use crate::{KvEntries, KvSelect};

/// A page of entries ends after about this many bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Whether what was read of the committed state is still so.
pub(super) fn holds(state: &mut State, service: &ServiceName, read: &KvRead) -> Result<bool, LogError> {
    match read.version {
        Some(seen) => Ok(state.kv_get(service, &read.key)?.1 == seen),
        None => Ok(true),
    }
}

/// Whether a part of the committed keys is still what it was.
fn same_keys(state: &State, service: &ServiceName, scan: &KvScan) -> Result<bool, LogError> {
    let mut keys: Vec<Box<str>> = Vec::with_capacity(scan.count);
    state.kv_scan(service, &scan.prefix, scan.after.as_deref(), &mut |key, _| {
        let covered = scan.covers(key);
        if covered {
            keys.push(key.into());
        }
        covered && keys.len() <= scan.count
    })?;
    Ok(keys.len() == scan.count && KvScan::digest_of(keys.iter().map(|key| &**key)) == scan.digest)
}

/// Committed keys.
pub(super) fn keys(state: &State, service: &ServiceName, select: &KvSelect<'_>) -> Result<Vec<Box<str>>, LogError> {
    let mut keys: Vec<Box<str>> = Vec::new();
    state.kv_scan(service, select.prefix, select.after, &mut |key, _| {
        let wanted = keys.len() < select.limit;
        if wanted {
            keys.push(key.into());
        }
        wanted
    })?;
    Ok(keys)
}

/// Committed entries, and whether there are more.
pub(super) fn entries(state: &State, service: &ServiceName, select: &KvSelect<'_>) -> Result<KvEntries, LogError> {
    let (mut found, mut bytes, mut more) = (Vec::new(), 0, false);
    state.kv_scan(service, select.prefix, select.after, &mut |key, value| {
        more = found.len() == select.limit || bytes > PAGE_BYTES;
        if !more {
            bytes += key.len() + value.len();
            found.push((key.into(), value.clone()));
        }
        !more
    })?;
    Ok((found, more))
}

/// Optimistic concurrency control within one settlement: a delivery takes effect only if all that it read is still so.
#[derive(Default)]
pub(super) struct ConflictGuard {
    /// What was left out.
    pub(super) conflicts: Vec<Offset>,
    void_groups: FxHashSet<u64>,
    written: FxHashSet<Box<str>>,
}

impl ConflictGuard {
    pub(super) fn is_void(&self, group: Option<u64>) -> bool {
        group.is_some_and(|g| self.void_groups.contains(&g))
    }

    /// Whether a delivery with these effects may be committed; notes its writes if so and its conflict if not.
    pub(super) fn admits(
        &mut self,
        state: &mut State,
        service: &ServiceName,
        offset: Offset,
        group: Option<u64>,
        effects: &Effects,
    ) -> Result<bool, LogError> {
        if self.is_void(group) || !self.rests_on_truth(state, service, effects)? {
            self.conflicts.push(offset);
            self.void_groups.extend(group);
            return Ok(false);
        }
        self.written.extend(effects.writes.iter().map(|write| Box::from(write.key())));
        Ok(true)
    }

    pub(super) fn rests_on_truth(
        &self,
        state: &mut State,
        service: &ServiceName,
        effects: &Effects,
    ) -> Result<bool, LogError> {
        for read in &effects.reads {
            let own = read.own == self.written.contains(&read.key);
            let holds = own && holds(state, service, read)?;
            if !(holds || mutant("conflict-ignored")) {
                return Ok(false);
            }
        }
        for scan in &effects.scans {
            if !self.did(scan) || !same_keys(state, service, scan)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether earlier deliveries wrote in a range exactly what the one that listed it had seen of them.
    fn did(&self, scan: &KvScan) -> bool {
        let here = self.written.iter().filter(|key| scan.covers(key)).count();
        here == scan.own.len() && scan.own.iter().all(|key| self.written.contains(key))
    }
}
