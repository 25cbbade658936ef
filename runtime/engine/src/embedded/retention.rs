//! What is kept of a log on disk, and whose fault it is when it is too much.
//!
//! Role: decide which segments may go, and which subscription holds back how much. Pure functions over the segments and
//! the state.
//!
//! Invariants: what an attached subscription needs is never given up; what a detached one needs only by forgetting that
//! subscription, at the limit; history never brings the log near its limit.

use busway_log::{SegmentInfo, State};
use busway_types::{Limits, Offset, Retention, SubId, Timestamp};

/// At this share of `Limits::disk_bytes`, in tenths, publishers stop.
pub(super) const PUBLISHERS_TENTHS: u64 = 8;
/// At this share, in tenths, the space of what is gone from the view is given back.
pub(super) const COMPACTING_TENTHS: u64 = 7;
/// At this share, in tenths, handlers that may publish stop.
pub(super) const TRANSACTIONS_TENTHS: u64 = 9;

/// Bytes of the log at which history goes, whatever the manifest says: before publishers would have to stop for it.
fn most_history(limits: &Limits) -> u64 {
    limits.disk_bytes / 4 * 3
}

/// The offset below which whole segments are given back: those that nobody needs and that the retention does not ask for.
pub(super) fn release_to(segments: &[SegmentInfo], needed: Offset, limits: &Limits, now: Timestamp) -> Offset {
    let Retention { bytes, time } = limits.retention;
    let least = if time.is_some() { u64::MAX } else { limits.disk_bytes / 4 };
    let most = bytes.unwrap_or(least).min(most_history(limits));
    let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut to = 0;
    // The last one is being written.
    for segment in &segments[..segments.len().saturating_sub(1)] {
        let old = time.is_some_and(|time| segment.latest.is_some_and(|latest| latest.after(time) <= now));
        if segment.next_offset > needed || !(old || left > most) {
            break;
        }
        left -= segment.bytes;
        to = segment.next_offset;
    }
    to
}

/// Bytes of the segments that hold something at or behind `needed`.
pub(super) fn held_bytes(segments: &[SegmentInfo], needed: Offset) -> u64 {
    let last = segments.len().saturating_sub(1);
    let held = segments.iter().enumerate().filter(|(i, segment)| *i == last || segment.next_offset > needed);
    held.map(|(_, segment)| segment.bytes).sum()
}

/// The subscription that holds back the most of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) id: SubId,
    pub(super) name: String,
    pub(super) detached: bool,
    pub(super) needs: Offset,
}

/// Who needs the oldest event; none when nobody needs any.
pub(super) fn holder(state: &State) -> Option<Holder> {
    let subs = state
        .subs
        .iter()
        .map(|(id, sub)| (sub.progress.needed_from(state.over.is_some()), sub.detached_since, *id, sub));
    // Of several that need the same an attached one comes first, for then releasing others gives nothing back.
    let first = subs.min_by_key(|(needs, since, ..)| (*needs, since.is_some(), *since));
    let (needs, since, id, sub) = first.filter(|(needs, ..)| *needs < state.next_offset)?;
    Some(Holder { id, name: sub.name.clone(), detached: since.is_some(), needs })
}

/// Whether the log would become smaller without this subscription.
pub(super) fn frees(segments: &[SegmentInfo], state: &State, holder: &Holder) -> bool {
    let others = state
        .subs
        .iter()
        .filter(|(id, _)| **id != holder.id)
        .map(|(_, sub)| sub.progress.needed_from(state.over.is_some()));
    let needed = others.min().unwrap_or(Offset::MAX);
    held_bytes(segments, needed) < held_bytes(segments, holder.needs)
}

/// What an operator is to be told about the space, if anything.
pub(super) fn warning(
    segments: &[SegmentInfo],
    in_view: u64,
    holder: Option<&Holder>,
    limits: &Limits,
) -> Option<String> {
    let in_log: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let used = in_log + in_view;
    if used < limits.disk_bytes / 10 * PUBLISHERS_TENTHS {
        return None;
    }
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let (used, allowed) = (mib(used), mib(limits.disk_bytes));
    let start = format!("the bus has {used} of {allowed} MiB on disk (limits.disk-bytes), and publishers are refused");
    if in_view > in_log {
        let in_view = mib(in_view);
        return Some(format!(
            "{start}: key-value, delayed events, parked events and dead letters have {in_view} MiB; \
             settle dead letters (`busway dead`), delete keys, or raise the limit"
        ));
    }
    Some(match holder {
        Some(Holder { name, needs, detached: false, .. }) => format!(
            "{start}: subscription `{name}` holds back {} MiB; let it catch up, settle its dead letters (`busway dead`), \
             or raise the limit",
            mib(held_bytes(segments, *needs))
        ),
        Some(Holder { name, needs, detached: true, .. }) => format!(
            "{start}: the detached subscription `{name}` holds back {} MiB and is released",
            mib(held_bytes(segments, *needs))
        ),
        None => format!("{start}; space is given back with the next checkpoint"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// Ten segments of ten events and ten bytes each; the n-th was written until n seconds before the last.
    fn segments() -> Vec<SegmentInfo> {
        let info = |n: u64| SegmentInfo {
            first_offset: n * 10,
            next_offset: (n + 1) * 10,
            bytes: 10,
            latest: (n < 9).then(|| Timestamp(NOW.0 - (9 - n) * 1_000)),
        };
        (0..10).map(info).collect()
    }

    fn to(needed: Offset, bytes: Option<u64>, secs: Option<u64>, disk_bytes: u64) -> Offset {
        let retention = Retention { bytes, time: secs.map(Duration::from_secs) };
        let limits = Limits { retention, disk_bytes, ..Limits::default() };
        release_to(&segments(), needed, &limits, NOW)
    }

    #[test]
    fn what_somebody_needs_is_never_released() {
        assert_eq!(to(35, Some(0), Some(0), 10), 30);
        assert_eq!(to(0, Some(0), Some(0), 10), 0);
    }

    #[test]
    fn history_goes_by_size_or_by_age_whichever_is_first() {
        assert_eq!(to(100, None, None, 200), 50, "a quarter of the limit unless something is said");
        assert_eq!(to(100, Some(70), None, 200), 30);
        assert_eq!(to(100, None, Some(5), 200), 50);
        assert_eq!(to(100, Some(90), Some(5), 200), 50);
        assert_eq!(to(100, Some(20), Some(5), 200), 80);
        assert_eq!(to(100, Some(0), None, 200), 90, "what is being written stays");
    }

    #[test]
    fn history_is_never_what_stops_publishers() {
        assert_eq!(to(100, Some(1_000), None, 100), 30);
        assert_eq!(to(100, None, Some(1_000), 100), 30);
    }

    #[test]
    fn a_segment_of_unknown_age_is_young() {
        let mut unknown = segments();
        unknown[0].latest = None;
        let retention = Retention { bytes: None, time: Some(Duration::ZERO) };
        let limits = Limits { retention, disk_bytes: 1_000, ..Limits::default() };
        assert_eq!(release_to(&unknown, 100, &limits, NOW), 0);
    }
}
