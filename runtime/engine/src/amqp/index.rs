//! Where in its queues a journal's messages are: a coarse index in memory, kept with every snapshot.
//!
//! Role: a [`Place`] is all that a reader needs to go on from there: the queue, the offset in its stream, and how far the
//! journal was read in front of it. There is one at the beginning of each queue and about every half mebibyte; of what was
//! written or read last there are many more, in front of records, with the offset of the first event behind them.

use std::collections::VecDeque;

use busway_types::Offset;
use serde::{Deserialize, Serialize};

use super::envelope::Rule;

/// A new place is noted after this many bytes.
const EVERY: u64 = 512 * 1024;
/// A place of what was read last is noted after this many bytes, and so many are.
const FINE_EVERY: u64 = 8 * 1024;
const FINE: usize = 8_192;
/// Places that were passed by whoever read further back, and may go on there.
const RECENT: usize = 1_024;
/// Places that are kept with a snapshot, beside the beginnings of queues.
const KEPT: usize = 4_096;

/// A place in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The queue.
    pub(super) queue: u64,
    /// The offset of the next message in its stream.
    pub(super) offset: u64,
    /// Bytes of the queue in front of it.
    pub(super) bytes: u64,
    /// What counts in front of it.
    pub(super) rule: Rule,
}

impl Place {
    /// Whether it is worth being noted beside another one.
    fn is_far_from(&self, last: &Self) -> bool {
        self.queue != last.queue || self.bytes.abs_diff(last.bytes) >= FINE_EVERY
    }
}

/// A place as it is kept: queue, offset, bytes, last message, pen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written(u64, u64, u64, u64, u64);

impl From<Place> for Written {
    fn from(place: Place) -> Self {
        Self(place.queue, place.offset, place.bytes, place.rule.last, place.rule.pen)
    }
}

impl From<Written> for Place {
    fn from(Written(queue, offset, bytes, last, pen): Written) -> Self {
        Self { queue, offset, bytes, rule: Rule { last, pen } }
    }
}

/// The places of a journal, in order; never empty.
#[derive(Clone, Debug)]
pub(super) struct Index {
    places: VecDeque<Place>,
    /// How far it was read.
    end: Place,
    /// Places in front of records, with the offset of the next event there.
    fine: VecDeque<(Place, Offset)>,
    /// The same of what was read again, in the order in which it was.
    recent: VecDeque<(Place, Offset)>,
}

impl Default for Index {
    /// An empty journal.
    fn default() -> Self {
        Self::of(VecDeque::from([Place::default()]), Place::default())
    }
}

impl Index {
    fn of(places: VecDeque<Place>, end: Place) -> Self {
        Self { places, end, fine: VecDeque::new(), recent: VecDeque::new() }
    }

    /// The index as it was kept; none when it cannot be one.
    pub(super) fn read(written: &[Written]) -> Option<Self> {
        let places: VecDeque<Place> = written.iter().copied().map(Place::from).collect();
        let follows = |(a, b): (&Place, &Place)| (a.queue, a.offset, a.rule.last) <= (b.queue, b.offset, b.rule.last);
        let in_order = places.iter().zip(places.iter().skip(1)).all(follows);
        let end = *places.back().filter(|_| in_order)?;
        Some(Self::of(places, end))
    }

    /// What is to be kept with a snapshot up to message `at`.
    pub(super) fn write(&self, at: u64) -> Vec<Written> {
        let covered = self.places.partition_point(|place| place.rule.last <= at).max(1);
        let step = covered.div_ceil(KEPT).max(1);
        let mut queue = None;
        let keep = |(n, place): (usize, &Place)| {
            let begins = queue.replace(place.queue) != Some(place.queue);
            (begins || n % step == 0).then(|| Written::from(*place))
        };
        self.places.iter().take(covered).enumerate().filter_map(keep).collect()
    }

    /// How far it was read.
    pub(super) fn end(&self) -> Place {
        self.end
    }

    /// A record begins behind what was read, and its first event has this offset.
    pub(super) fn record(&mut self, offset: Offset) {
        let place = self.end;
        if self.fine.back().is_none_or(|(last, _)| place.is_far_from(last)) {
            if self.fine.len() == FINE {
                self.fine.pop_front();
            }
            self.fine.push_back((place, offset));
        }
    }

    /// The last message that is known to begin a record, and not behind the one that has the event at `offset`.
    pub(super) fn near(&self, offset: Offset) -> Option<u64> {
        let behind = self.fine.partition_point(|(_, first)| *first <= offset);
        let fine = behind.checked_sub(1).and_then(|last| self.fine.get(last));
        let recent = self.recent.iter().filter(|(_, first)| *first <= offset);
        recent.chain(fine).map(|(place, _)| place.rule.last + 1).max()
    }

    /// It was read up to a place.
    pub(super) fn read_to(&mut self, place: Place) {
        self.end = place;
        let last = self.places.back().copied().unwrap_or_default();
        if place.queue != last.queue || place.bytes >= last.bytes + EVERY {
            self.places.push_back(place);
        }
    }

    /// Somebody read a record behind this place, whose first event has this offset.
    pub(super) fn passed(&mut self, place: Place, offset: Offset) {
        if self.recent.back().is_none_or(|(last, _)| place.is_far_from(last)) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((place, offset));
        }
    }

    /// Forgets what is known of the last queue but its beginning: it has to be read again.
    pub(super) fn doubt(&mut self) {
        let queue = self.end.queue;
        let begins = self.places.partition_point(|place| place.queue < queue);
        self.places.truncate(begins + 1);
        self.recent.retain(|(place, _)| place.queue < queue);
        self.fine.retain(|(place, _)| place.queue < queue);
        self.end = self.places.back().copied().unwrap_or_default();
    }

    /// Where to read from to come to a message.
    pub(super) fn before(&self, number: u64) -> Place {
        let in_front = self.places.partition_point(|place| place.rule.last < number);
        let known = self.places.get(in_front.saturating_sub(1)).or(self.places.front()).copied().unwrap_or_default();
        let fine = self.fine.partition_point(|(place, _)| place.rule.last < number);
        let fine = fine.checked_sub(1).and_then(|last| self.fine.get(last)).map(|(place, _)| place);
        let fits = |place: &&Place| place.rule.last < number && place.rule.last > known.rule.last;
        let recent = self.recent.iter().map(|(place, _)| place);
        recent.chain(fine).filter(fits).max_by_key(|place| place.rule.last).copied().unwrap_or(known)
    }

    /// Where the queue behind this one begins, if there is one.
    pub(super) fn behind(&self, queue: u64) -> Option<Place> {
        self.places.get(self.places.partition_point(|place| place.queue <= queue)).copied()
    }

    /// The first message that is kept.
    pub(super) fn first(&self) -> u64 {
        self.places.front().map_or(1, |place| place.rule.last + 1)
    }

    /// Bytes of all queues.
    pub(super) fn bytes(&self) -> u64 {
        let next = self.places.iter().skip(1).chain([&self.end]);
        self.places.iter().zip(next).filter(|(a, b)| a.queue == b.queue).map(|(a, b)| b.bytes - a.bytes).sum()
    }

    /// The first queue, when nothing in it is message `at` or behind it.
    pub(super) fn releasable(&self, at: u64) -> Option<u64> {
        let first = self.places.front()?.queue;
        self.behind(first).is_some_and(|next| next.rule.last < at).then_some(first)
    }

    /// A queue is gone, with those in front of it.
    pub(super) fn release(&mut self, queue: u64) {
        self.fine.retain(|(place, _)| place.queue > queue);
        self.recent.retain(|(place, _)| place.queue > queue);
        while self.places.len() > 1 && self.places.pop_front_if(|place| place.queue <= queue).is_some() {}
    }

    /// The queues in front of the one that is written to.
    pub(super) fn full(&self) -> std::ops::Range<u64> {
        self.first_queue()..self.end.queue
    }

    /// The first queue.
    pub(super) fn first_queue(&self) -> u64 {
        self.places.front().map_or(0, |place| place.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three queues of four mebibytes, two messages to a mebibyte.
    fn index() -> Index {
        let mut index = Index::default();
        for n in 0..24_u64 {
            let (queue, place) = (n / 8, n % 8);
            if place == 0 && n > 0 {
                index.read_to(Place { queue, offset: 0, bytes: 0, rule: Rule { last: n, pen: 1 } });
            }
            let rule = Rule { last: n + 1, pen: 1 };
            index.read_to(Place { queue, offset: place + 1, bytes: (place + 1) * EVERY, rule });
        }
        index
    }

    #[test]
    fn a_message_is_found_from_the_place_in_front_of_it() {
        let mut index = index();
        assert_eq!((index.first(), index.bytes(), index.end().rule.last), (1, 24 * EVERY, 24));
        assert_eq!(index.before(1), Place::default());
        let place = index.before(12);
        assert_eq!((place.queue, place.offset, place.rule.last), (1, 3, 11));
        let passed = Place { queue: 1, offset: 4, bytes: 5 * EVERY / 2, rule: Rule { last: 12, pen: 1 } };
        index.passed(Place { offset: 99, ..passed }, 77);
        assert_eq!((index.before(12).offset, index.before(13).offset), (3, 4));
        let between = Place { offset: 77, rule: Rule { last: 20, pen: 1 }, queue: 2, bytes: 0 };
        index.passed(Place { rule: Rule { last: 23, pen: 1 }, ..between }, 99);
        assert_eq!((index.near(76), index.near(77), index.near(99)), (None, Some(13), Some(24)));
        assert_eq!(index.behind(1).map(|place| (place.queue, place.offset, place.rule.last)), Some((2, 0, 16)));
        assert_eq!(index.behind(2), None);
    }

    #[test]
    fn an_event_is_found_from_the_record_in_front_of_it() {
        let mut index = Index::default();
        assert_eq!(index.near(5), None);
        // A hundred events to a record of four kibibytes: every second one is known.
        for n in 0..10_u64 {
            index.record(n * 100);
            let rule = Rule { last: n + 1, pen: 1 };
            index.read_to(Place { queue: 0, offset: n + 1, bytes: (n + 1) * FINE_EVERY / 2, rule });
        }
        assert_eq!(
            (index.near(0), index.near(199), index.near(200), index.near(9_999)),
            (Some(1), Some(1), Some(3), Some(9))
        );
        let place = index.before(4);
        assert_eq!((place.rule.last, place.offset), (2, 2));
        index.release(0);
        assert_eq!(index.near(5), None);
    }

    #[test]
    fn only_whole_queues_are_released() {
        let mut index = index();
        assert_eq!((index.releasable(8), index.releasable(9), index.releasable(24)), (None, Some(0), Some(0)));
        index.release(0);
        assert_eq!((index.first(), index.first_queue(), index.bytes()), (9, 1, 16 * EVERY));
        index.release(1);
        assert_eq!((index.releasable(u64::MAX), index.first()), (None, 17));
    }

    #[test]
    fn what_is_kept_of_an_index_leads_to_the_same_messages() {
        let index = index();
        let kept = Index::read(&index.write(14)).expect("an index");
        assert_eq!((kept.end().rule.last, kept.before(12)), (14, index.before(12)));
        assert_eq!(Index::read(&index.write(0)).expect("an index").end(), Place::default());
        assert!(Index::read(&[]).is_none());
        let mut doubted = index.clone();
        doubted.doubt();
        assert_eq!((doubted.end().queue, doubted.end().rule.last, doubted.before(20).offset), (2, 16, 0));
    }
}
