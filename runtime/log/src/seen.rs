//! Client-supplied event ids that were seen lately, and the receipts they got.
//!
//! Role: what deduplication looks into. A pure value in buckets by time, oldest first, each with the span in which its ids
//! came. What is forgotten, and where a bucket begins, is written in the transaction ([`IdRecord`]), so that replay forgets
//! the same.
//!
//! Invariant: no bucket is empty. Bounds are kept by whoever makes the records.

use std::collections::VecDeque;
use std::time::Duration;

use busway_types::{Fingerprint, Offset, Timestamp};
use rustc_hash::FxHashMap;

use crate::txn::IdRecord;

/// The offset of an event that was delayed when its receipt was given.
const DELAYED: u64 = u64::MAX;

/// What is remembered of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstSeen {
    /// The offset it got; none when it was delayed.
    pub offset: Option<Offset>,
}

/// Ids by age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenIds {
    pub(crate) buckets: VecDeque<Bucket>,
}

/// Ids that came about the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// When the first came.
    pub(crate) since: Timestamp,
    /// When the last came.
    pub(crate) until: Timestamp,
    /// The offset each got.
    ids: FxHashMap<Fingerprint, u64>,
}

impl Bucket {
    pub(crate) fn new(since: Timestamp, until: Timestamp) -> Self {
        Self { since, until, ids: FxHashMap::default() }
    }

    pub(crate) fn insert(&mut self, id: Fingerprint, offset: Option<Offset>) {
        self.ids.entry(id).or_insert(offset.unwrap_or(DELAYED));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Fingerprint, Option<Offset>)> + '_ {
        self.ids.iter().map(|(id, offset)| (*id, Some(*offset).filter(|offset| *offset != DELAYED)))
    }
}

impl SeenIds {
    /// What is remembered of the event with this id; nothing when it was seen longer ago than `window`.
    pub fn find(&self, id: &Fingerprint, now: Timestamp, window: Duration) -> Option<FirstSeen> {
        let mut young = self.buckets.iter().rev().take_while(|bucket| bucket.until.after(window) > now);
        let offset = young.find_map(|bucket| bucket.ids.get(id))?;
        Some(FirstSeen { offset: Some(*offset).filter(|offset| *offset != DELAYED) })
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.ids.len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The record that remembers `ids`, seen `now`, and forgets what is older than `window` or, oldest first, more than
    /// `most`.
    pub fn record(
        &self,
        ids: Vec<(Fingerprint, Option<Offset>)>,
        now: Timestamp,
        (window, most): (Duration, usize),
    ) -> IdRecord {
        // An eighth each, so that what is kept is the window and the bound to within that much.
        let (span, share) = (window / 8, most / 8);
        let mut left = self.len() + ids.len();
        let mut forgotten = 0;
        for bucket in &self.buckets {
            if bucket.until.after(window) > now && left <= most {
                break;
            }
            left -= bucket.ids.len();
            forgotten += 1;
        }
        let begins = self
            .buckets
            .back()
            .is_none_or(|last| now.since(last.since) >= span || last.ids.len() + ids.len() > share.max(1));
        IdRecord { now, forgotten, begins: begins || forgotten == self.buckets.len(), ids }
    }

    pub(crate) fn apply(&mut self, record: &IdRecord) {
        let IdRecord { now, forgotten, begins, ids } = record;
        self.buckets.drain(..(*forgotten).min(self.buckets.len()));
        if ids.is_empty() {
            return;
        }
        if *begins || self.buckets.is_empty() {
            self.buckets.push_back(Bucket::new(*now, *now));
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.until = bucket.until.max(*now);
            for (id, offset) in ids {
                bucket.insert(*id, *offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(80);

    fn id(n: u64) -> Fingerprint {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        Fingerprint::from_bytes(bytes)
    }

    fn at(offset: Offset) -> FirstSeen {
        FirstSeen { offset: Some(offset) }
    }

    fn see(seen: &mut SeenIds, n: u64, at: u64, most: usize) {
        let record = seen.record(vec![(id(n), Some(n))], Timestamp(at), (WINDOW, most));
        seen.apply(&record);
    }

    #[test]
    fn an_id_is_known_for_the_window_and_not_longer_than_an_eighth_more() {
        let mut seen = SeenIds::default();
        see(&mut seen, 1, 1_000, 1_000);
        see(&mut seen, 2, 10_000, 1_000);
        let known = |seen: &SeenIds, n, at| seen.find(&id(n), Timestamp(at), WINDOW);
        assert_eq!(known(&seen, 1, 1_000), Some(at(1)));
        assert_eq!(known(&seen, 1, 80_999), Some(at(1)));
        assert_eq!(known(&seen, 1, 91_000), None, "also when nothing came since");
        assert_eq!(known(&seen, 3, 1_000), None);
        see(&mut seen, 4, 91_000, 1_000);
        assert_eq!(seen.len(), 1, "what is too old is given back");
    }

    #[test]
    fn what_is_too_many_is_forgotten_oldest_first() {
        let mut seen = SeenIds::default();
        for n in 0..1_000 {
            see(&mut seen, n, 1_000, 80);
            assert!(seen.len() <= 80);
        }
        assert!(seen.len() >= 70, "at most an eighth is forgotten early: {}", seen.len());
        assert_eq!(seen.find(&id(999), Timestamp(1_000), WINDOW), Some(at(999)));
        assert_eq!(seen.find(&id(930), Timestamp(1_000), WINDOW), Some(at(930)));
        assert_eq!(seen.find(&id(0), Timestamp(1_000), WINDOW), None);
    }

    #[test]
    fn a_delayed_event_has_a_receipt_without_an_offset() {
        let mut seen = SeenIds::default();
        let record = seen.record(vec![(id(1), None)], Timestamp(5), (WINDOW, 10));
        seen.apply(&record);
        assert_eq!(seen.find(&id(1), Timestamp(6), WINDOW), Some(FirstSeen { offset: None }));
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing_early() {
        let mut seen = SeenIds::default();
        see(&mut seen, 1, 500_000, 1_000);
        see(&mut seen, 2, 1_000, 1_000);
        assert_eq!(seen.find(&id(1), Timestamp(1_000), WINDOW), Some(at(1)));
        assert_eq!(seen.find(&id(2), Timestamp(1_000), WINDOW), Some(at(2)));
    }
}
