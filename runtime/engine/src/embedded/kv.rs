//! Key-value of the embedded engine: what may be committed, and what is there.
//!
//! Role: the conflict rule. A delivery takes effect only if everything that it read or listed is still so, counting what
//! earlier deliveries of the same settlement did.

use busway_log::State;
use busway_types::{Effects, KvRead, KvScan, Offset, ServiceName, mutant};
use rustc_hash::FxHashSet;

use crate::{KvEntries, KvSelect};

/// A page of entries ends after about this many bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Whether what was read of the committed state is still so.
pub(super) fn holds(state: &State, service: &ServiceName, read: &KvRead) -> bool {
    read.version.is_none_or(|seen| state.kv_get(service, &read.key).1 == seen)
}

/// Whether a part of the committed keys is still what it was.
fn same_keys(state: &State, service: &ServiceName, scan: &KvScan) -> bool {
    let mut count = 0;
    let keys = state.kv_range(service, &scan.prefix, scan.after.as_deref()).map(|(key, _)| key);
    let keys = keys.take_while(|key| scan.covers(key)).take(scan.count + 1).inspect(|_| count += 1);
    KvScan::digest_of(keys) == scan.digest && count == scan.count
}

/// Committed keys.
pub(super) fn keys(state: &State, service: &ServiceName, select: &KvSelect<'_>) -> Vec<Box<str>> {
    let range = state.kv_range(service, select.prefix, select.after);
    range.take(select.limit).map(|(key, _)| key.into()).collect()
}

/// Committed entries, and whether there are more.
pub(super) fn entries(state: &State, service: &ServiceName, select: &KvSelect<'_>) -> KvEntries {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for (key, entry) in state.kv_range(service, select.prefix, select.after) {
        if found.len() == select.limit || bytes > PAGE_BYTES {
            return (found, true);
        }
        bytes += key.len() + entry.value.len();
        found.push((key.into(), entry.value.clone()));
    }
    (found, false)
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
        state: &State,
        service: &ServiceName,
        offset: Offset,
        group: Option<u64>,
        effects: &Effects,
    ) -> bool {
        let read = |read: &KvRead| {
            let own = read.own == self.written.contains(&read.key);
            own && holds(state, service, read) || mutant("conflict-ignored")
        };
        let listed = |scan: &KvScan| self.did(scan) && same_keys(state, service, scan);
        if self.is_void(group) || !effects.reads.iter().all(read) || !effects.scans.iter().all(listed) {
            self.conflicts.push(offset);
            self.void_groups.extend(group);
            return false;
        }
        self.written.extend(effects.writes.iter().map(|write| Box::from(write.key())));
        true
    }

    /// Whether earlier deliveries wrote in a range exactly what the one that listed it had seen of them.
    fn did(&self, scan: &KvScan) -> bool {
        let here = self.written.iter().filter(|key| scan.covers(key)).count();
        here == scan.own.len() && scan.own.iter().all(|key| self.written.contains(key))
    }
}
