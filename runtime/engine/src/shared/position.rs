//! Where in the journal events are: a coarse index in memory, and what of it may be released.
//!
//! Role: [`Marks`] has the beginning of a record about every mebibyte. It is made while records are written and read; of
//! what lies further back a few places are looked at when the journal is opened.

use std::collections::VecDeque;

use busway_log::SegmentInfo;
use busway_types::{Offset, Timestamp};

/// A new mark is made after this many bytes.
const EVERY: u64 = 1024 * 1024;
/// What a message takes beside its payload.
pub(crate) const MESSAGE_BYTES: u64 = 64;

/// The beginning of a record, and what follows up to the next mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The number of the record's first message.
    pub(crate) at: u64,
    /// The next offset before it.
    pub(crate) offset: Offset,
    /// Bytes up to the next mark.
    pub(crate) bytes: u64,
    /// The latest time of any event up to the next mark.
    pub(crate) latest: Timestamp,
}

/// The marks of a journal, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    marks: VecDeque<Mark>,
    bytes: u64,
}

impl Marks {
    /// Notes a part of the journal; together with the one before it when that is small.
    pub(crate) fn add(&mut self, part: Mark) {
        self.bytes += part.bytes;
        match self.marks.back_mut() {
            Some(last) if last.bytes < EVERY => {
                last.bytes += part.bytes;
                last.latest = last.latest.max(part.latest);
            }
            _ => self.marks.push_back(part),
        }
    }

    /// Notes a part as one of its own.
    pub(crate) fn add_apart(&mut self, part: Mark) {
        self.bytes += part.bytes;
        self.marks.push_back(part);
    }

    /// The marks of what lies up to and with a message.
    pub(crate) fn up_to(&self, at: u64) -> Vec<Mark> {
        self.marks.iter().take_while(|mark| mark.at <= at).copied().collect()
    }

    /// Bytes of everything.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The oldest offset; none when there is no record.
    pub(crate) fn oldest(&self) -> Option<Offset> {
        self.marks.front().map(|mark| mark.offset)
    }

    /// Between which messages the last record with an offset of at most `offset` begins: from the first to before the second.
    pub(crate) fn around(&self, offset: Offset) -> Option<(u64, Option<u64>)> {
        let behind = self.marks.partition_point(|mark| mark.offset <= offset);
        let from = self.marks.get(behind.saturating_sub(1))?;
        Some((from.at, self.marks.get(behind).map(|mark| mark.at)))
    }

    /// The part in which the first event at or after `time` is, if one is.
    pub(crate) fn at_time(&self, time: Timestamp) -> Option<u64> {
        let before = self.marks.partition_point(|mark| mark.latest < time);
        self.marks.get(before).map(|mark| mark.at)
    }

    /// The parts as segments of a log that ends at `head`.
    pub(crate) fn segments(&self, head: Offset) -> Vec<SegmentInfo> {
        let ends = self.marks.iter().skip(1).map(|mark| (mark.offset, true)).chain([(head, false)]);
        let info = |(mark, (next_offset, full)): (&Mark, (Offset, bool))| SegmentInfo {
            first_offset: mark.offset,
            next_offset,
            bytes: mark.bytes,
            latest: full.then_some(mark.latest),
        };
        self.marks.iter().zip(ends).map(info).collect()
    }

    /// The message up to which all may go when nothing below `offset` is needed and what stands in front of `covered` is in
    /// a snapshot; none when nothing may.
    pub(crate) fn releasable(&self, offset: Offset, covered: u64) -> Option<u64> {
        let fits = |mark: &&Mark| mark.offset <= offset && mark.at <= covered;
        let keep = self.marks.iter().take_while(fits).last()?;
        self.marks.front().is_some_and(|first| first.at < keep.at).then_some(keep.at)
    }

    /// Forgets what stands in front of a message.
    pub(crate) fn release(&mut self, at: u64) {
        while let Some(gone) = self.marks.pop_front_if(|mark| mark.at < at) {
            self.bytes -= gone.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten parts of a mebibyte each, ten events apart, five messages each.
    fn marks() -> Marks {
        let mut marks = Marks::default();
        for n in 0..20 {
            marks.add(Mark { at: 1 + n * 5, offset: n * 5, bytes: EVERY / 2, latest: Timestamp(n) });
        }
        marks
    }

    #[test]
    fn marks_tell_where_an_offset_and_a_time_are() {
        let marks = marks();
        assert_eq!((marks.oldest(), marks.bytes()), (Some(0), 10 * EVERY));
        assert_eq!(marks.around(0), Some((1, Some(11))));
        assert_eq!(marks.around(10), Some((11, Some(21))));
        assert_eq!(marks.around(1_000), Some((91, None)));
        assert_eq!((marks.at_time(Timestamp(0)), marks.at_time(Timestamp(2))), (Some(1), Some(11)));
        assert_eq!(marks.at_time(Timestamp(20)), None);
    }

    #[test]
    fn only_whole_parts_that_a_snapshot_covers_are_released() {
        let mut marks = marks();
        assert_eq!(marks.releasable(9, u64::MAX), None);
        assert_eq!(marks.releasable(35, 25), Some(21));
        assert_eq!(marks.releasable(35, u64::MAX), Some(31));
        marks.release(31);
        assert_eq!((marks.oldest(), marks.bytes()), (Some(30), 7 * EVERY));
        let segments = marks.segments(107);
        let last = segments.last().expect("segments");
        assert_eq!((segments.len(), segments[0].next_offset, last.next_offset, last.latest), (7, 40, 107, None));
    }
}
