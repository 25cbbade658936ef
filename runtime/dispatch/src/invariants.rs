//! What must hold after every step.
//!
//! Role: a checker for tests. Walks everything and panics with what is wrong; never part of a normal build.

use busway_types::{Offset, Ordering};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::feed::Feed;
use crate::parked::Body;
use crate::queue::{Item, Ready};
use crate::subscription::{Bus, Sub};

/// Chunks in flight and settlements not sequenced that may publish.
pub(crate) fn transactions(sub: &Sub) -> usize {
    sub.chunks.iter().filter(|chunk| chunk.publishes).count()
        + sub.unsequenced.iter().filter(|settlement| settlement.publishes).count()
}

fn waiting(sub: &Sub) -> Vec<&Item> {
    let ready = sub.ready.iter().chain(&sub.stalled).chain(&sub.retries);
    let ones = ready.filter_map(|ready| if let Ready::One(item) = ready { Some(item) } else { None });
    let grouped = sub
        .groups
        .iter()
        .flat_map(|(_, group)| group.fresh.iter().chain(group.parked.iter().flat_map(|parked| &parked.bodies)));
    ones.chain(grouped).collect()
}

/// Panics when something is wrong with `sub`.
pub(crate) fn check(sub: &Sub, bus: &Bus) {
    assert!(sub.pending.is_empty(), "verdicts are emitted in the step in which they are made");
    // How many there may be is asserted where a chunk starts: a smaller concurrency takes hold as chunks end.
    assert!(sub.ordering != Ordering::Strict || sub.chunks.len() <= 1, "strict runs one chunk at a time");
    counts(sub);
    places(sub, bus);
    groups(sub);
    parked(sub);
}

fn counts(sub: &Sub) {
    let waiting = waiting(sub);
    let flying: Vec<&Item> = sub.chunks.iter().flat_map(|chunk| &chunk.items).collect();
    let deferred: Vec<&Item> =
        sub.unsequenced.iter().flat_map(|settlement| settlement.deferred.iter().map(|(item, _)| item)).collect();
    let fresh = |items: &[&Item]| items.iter().filter(|item| item.is_fresh()).count();
    assert_eq!(sub.waiting, fresh(&waiting), "waiting");
    assert_eq!(sub.in_flight, flying.len(), "in flight");
    assert_eq!(sub.held, fresh(&waiting) + fresh(&flying) + fresh(&deferred), "held");
    let all = waiting.iter().chain(&flying).chain(&deferred);
    let bytes: usize = all.clone().filter(|item| item.is_fresh()).map(|item| item.cost).sum();
    assert_eq!(sub.held_bytes, bytes, "held bytes");
    let expiring = all.clone().filter(|item| item.is_fresh() && item.event.expires.is_some()).count();
    assert_eq!(sub.expiring, expiring, "events that can expire");
    assert_eq!(sub.parked.held(), all.filter(|item| !item.is_fresh()).count(), "held parked bodies");
}

/// Every open offset is in exactly one place, and the cursor is in front of all of them.
fn places(sub: &Sub, bus: &Bus) {
    let mut seen: FxHashSet<Offset> = FxHashSet::default();
    let mut fresh: FxHashMap<u64, Offset> = FxHashMap::default();
    let chunks = sub.chunks.iter().flat_map(|chunk| &chunk.items);
    let deferred = sub.unsequenced.iter().flat_map(|settlement| settlement.deferred.iter().map(|(item, _)| item));
    for item in waiting(sub).into_iter().chain(chunks).chain(deferred) {
        assert!(seen.insert(item.offset), "offset {} is in two places", item.offset);
        if item.is_fresh() {
            fresh.insert(item.seq, item.offset);
            assert!(sub.cursor_sent <= item.offset, "the cursor passed {}, which is not settled", item.offset);
        }
    }
    let open: FxHashMap<u64, Offset> = sub.outstanding.open_offsets().collect();
    assert_eq!(open, fresh, "open offsets are those in hand");
    if let Feed::Behind { position, .. } = sub.feed {
        assert!(sub.cursor_sent <= position, "the cursor passed the position");
        assert!(sub.later.keys().all(|offset| *offset >= position), "a parked event was left behind");
    }
    assert!(sub.later.is_empty() || matches!(sub.feed, Feed::Behind { .. }), "what is parked waits for nothing");
    assert!(sub.cursor_sent <= sub.cursor(bus.head), "the cursor never goes back");
}

/// No group is in two chunks, and `busy` counts what is in flight or not sequenced.
fn groups(sub: &Sub) {
    let mut chunk_of: FxHashMap<u64, u64> = FxHashMap::default();
    let mut busy: FxHashMap<u64, u32> = FxHashMap::default();
    for chunk in &sub.chunks {
        for group in chunk.items.iter().filter_map(|item| item.group) {
            *busy.entry(group).or_default() += 1;
            assert_eq!(*chunk_of.entry(group).or_insert(chunk.id), chunk.id, "group {group} is in two chunks");
        }
    }
    for settlement in &sub.unsequenced {
        for (group, n) in &settlement.groups {
            *busy.entry(*group).or_default() += n;
            if let Some(chunk) = settlement.chunk {
                assert_eq!(*chunk_of.entry(*group).or_insert(chunk), chunk, "group {group} started before it was free");
            }
        }
    }
    let mut tokens: FxHashSet<u64> = FxHashSet::default();
    for ready in sub.ready.iter().chain(&sub.stalled).chain(&sub.retries) {
        if let Ready::Group(key) = ready {
            tokens.insert(*key);
        }
    }
    for (key, group) in sub.groups.iter() {
        assert_eq!(group.busy, busy.remove(&key).unwrap_or_default(), "busy of group {key}");
        assert!(!(group.queued && group.busy > 0), "group {key} is ready and busy");
        assert!(!group.queued || tokens.contains(&key), "group {key} says queued and is not");
        assert!(group.fresh.iter().is_sorted_by_key(|item| item.offset), "group {key} is in order");
        let startable = group.fresh_is_next() || group.body_is_next();
        assert!(group.busy > 0 || group.queued || !startable, "group {key} was forgotten");
        let known = group.queued || group.busy > 0 || !group.fresh.is_empty() || group.parked.is_some();
        assert!(known, "group {key} has no reason to exist");
    }
    assert!(busy.is_empty(), "busy groups are known: {busy:?}");
}

/// Each parked event is known to its group, and one that may go on is on its way.
fn parked(sub: &Sub) {
    let mut of_groups: FxHashMap<Offset, u64> = FxHashMap::default();
    let mut heads: FxHashSet<Offset> = FxHashSet::default();
    for (key, group) in sub.groups.iter() {
        if let Some(parked) = &group.parked {
            assert!(parked.offsets.iter().is_sorted(), "parked of group {key} are in order");
            assert!(!parked.offsets.is_empty(), "group {key} keeps no empty list");
            heads.extend(group.head().filter(|_| group.busy == 0 && !group.queued && !group.fresh_is_next()));
            of_groups.extend(parked.offsets.iter().map(|offset| (*offset, key)));
        }
    }
    for (offset, entry) in sub.parked.iter() {
        assert!(!sub.dead.contains(&offset), "{offset} is parked and dead");
        if entry.body != Body::Unknown {
            assert_eq!(of_groups.remove(&offset), entry.group, "group of parked {offset}");
        }
        let first = entry.group.is_none() || heads.contains(&offset);
        // Until a move is answered nothing is driven, so no timer is needed.
        if entry.body == Body::Away && first && !sub.detached && !sub.is_asked_to_move() {
            assert!(entry.due.is_some_and(|due| sub.armed.is_some_and(|armed| armed <= due)), "{offset} was forgotten");
        }
    }
    assert!(of_groups.is_empty(), "groups know only parked events: {of_groups:?}");
}
