//! The newest events, in memory.
//!
//! Role: what both embedded engines read first: the tail of the log as batches that were appended. Bounded by bytes; the
//! oldest batches go first. Never the only copy of something a subscription needs: a bus on disk reads older events from
//! its log, a bus in memory hands events to the dispatcher when they are appended and keeps parked ones in `kept`.

use std::collections::VecDeque;
use std::sync::Arc;

use busway_types::{Batch, EventId, Logged, Offset};

use crate::{ReadRequest, ReadResult};

#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
    max_bytes: usize,
}

impl Recent {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Adds the newest batch, whose events cost `bytes` in memory. What has to go for it is moved to `evicted`.
    pub(super) fn push(&mut self, batch: Batch, bytes: usize, evicted: &mut Vec<Batch>) {
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        while self.bytes > self.max_bytes && self.batches.len() > 1 {
            if let Some((batch, freed)) = self.batches.pop_front() {
                self.bytes -= freed;
                evicted.push(batch);
            }
        }
    }

    /// The oldest offset that is held; none when nothing is.
    pub(super) fn oldest(&self) -> Option<Offset> {
        self.batches.front().map(|(batch, _)| batch.first)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads what `request` selects; starts at the oldest held event when asked for an older one.
    pub(super) fn read(&self, request: &ReadRequest, end: Offset) -> ReadResult {
        let from = request.from.max(self.oldest().unwrap_or(end));
        let start = self.batches.partition_point(|(batch, _)| batch.end() <= from);
        let mut result = ReadResult { events: Vec::new(), next: from };
        let mut bytes = 0;
        for (batch, _) in self.batches.range(start..) {
            let skip = from.saturating_sub(batch.first) as usize;
            for (index, event) in batch.events.iter().enumerate().skip(skip) {
                let offset = batch.first + index as u64;
                if offset >= end {
                    return result;
                }
                let wanted = request.patterns.is_empty() || request.patterns.iter().any(|p| p.matches(&event.topic));
                if wanted {
                    if result.events.len() >= request.max_events
                        || (bytes > 0 && bytes + event.cost() > request.max_bytes)
                    {
                        return result;
                    }
                    bytes += event.cost();
                    result.events.push(Logged { offset, event: Arc::clone(event) });
                }
                result.next = offset + 1;
            }
        }
        result
    }

    /// The event at `offset`, if it is held.
    pub(super) fn get(&self, offset: Offset) -> Option<Logged> {
        let at = self.batches.partition_point(|(batch, _)| batch.end() <= offset);
        let (batch, _) = self.batches.get(at)?;
        let index = usize::try_from(offset.checked_sub(batch.first)?).ok()?;
        batch.events.get(index).map(|event| Logged { offset, event: Arc::clone(event) })
    }

    /// The event with `id`, if it is held; looks at every event.
    pub(super) fn find(&self, id: EventId) -> Option<Logged> {
        self.batches.iter().find_map(|(batch, _)| {
            let index = batch.events.iter().position(|event| event.id == id)?;
            Some(Logged { offset: batch.first + index as u64, event: Arc::clone(&batch.events[index]) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use busway_types::{Draft, Limits, Timestamp};

    fn batch(first: Offset, topics: &[&str]) -> (Batch, usize) {
        let events: Vec<_> = topics
            .iter()
            .map(|topic| {
                let draft = Draft::new(topic.parse().expect("a topic"), bytes::Bytes::from_static(b"x"));
                Arc::new(draft.admit(EventId::from_u128(1), Timestamp(0), &Limits::default()).expect("a valid event"))
            })
            .collect();
        let cost = events.iter().map(|e| e.cost()).sum();
        (Batch { first, events: Arc::new(events) }, cost)
    }

    fn request(from: Offset, patterns: &[&str], max_events: usize) -> ReadRequest {
        let patterns = patterns.iter().map(|p| p.parse().expect("a pattern")).collect();
        ReadRequest { from, patterns, max_events, max_bytes: usize::MAX }
    }

    fn offsets(result: &ReadResult) -> Vec<Offset> {
        result.events.iter().map(|e| e.offset).collect()
    }

    #[test]
    fn reads_select_by_pattern_and_go_on_where_they_stopped() {
        let mut recent = Recent::new(usize::MAX);
        for (first, topics) in [(0, ["a", "b"]), (2, ["a", "a"])] {
            let (batch, cost) = batch(first, &topics);
            recent.push(batch, cost, &mut Vec::new());
        }
        let first = recent.read(&request(0, &["a"], 2), 4);
        assert_eq!((offsets(&first), first.next), (vec![0, 2], 3));
        let rest = recent.read(&request(first.next, &["a"], 2), 4);
        assert_eq!((offsets(&rest), rest.next), (vec![3], 4));
        let unsynced = recent.read(&request(0, &[], 10), 3);
        assert_eq!((offsets(&unsynced), unsynced.next), (vec![0, 1, 2], 3));
    }

    #[test]
    fn the_oldest_batches_go_when_the_budget_is_spent() {
        let (one, cost) = batch(0, &["a"]);
        let mut recent = Recent::new(2 * cost);
        let mut evicted = Vec::new();
        recent.push(one, cost, &mut evicted);
        for first in 1..5 {
            let (next, cost) = batch(first, &["a"]);
            recent.push(next, cost, &mut evicted);
        }
        assert_eq!(evicted.iter().map(|batch| batch.first).collect::<Vec<_>>(), vec![0, 1, 2]);
        assert_eq!(recent.oldest(), Some(3));
        assert_eq!(offsets(&recent.read(&request(0, &[], 10), 5)), vec![3, 4]);
        assert!(recent.get(2).is_none());
        assert_eq!(recent.get(4).map(|e| e.offset), Some(4));
    }
}
