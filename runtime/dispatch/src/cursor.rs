//! Which selected events are not done yet.
//!
//! Role: a ring of one word per selected event, from the oldest that is not done to the newest. Every event gets a
//! sequence number when it is selected; its place in the ring follows from it, so nothing is searched.
//! Invariants: the front is never done; offsets ascend; a closed event is never opened again.

use std::collections::VecDeque;

use busway_types::Offset;

/// How many selected events may lie between the oldest outstanding one and the newest delivered one. Bounds this ring and
/// what engines keep of settled offsets above the cursor.
pub(crate) const SPREAD: u64 = 65_536;

/// The outstanding events of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    /// The sequence number of the front.
    base: u64,
    /// `offset << 1 | done`.
    slots: VecDeque<u64>,
}

impl Outstanding {
    /// Notes a newly selected event and gives its sequence number.
    pub(crate) fn open(&mut self, offset: Offset) -> u64 {
        debug_assert!(self.slots.back().is_none_or(|last| last >> 1 < offset), "offsets ascend");
        self.slots.push_back(offset << 1);
        self.base + self.slots.len() as u64 - 1
    }

    /// The event is done.
    pub(crate) fn close(&mut self, seq: u64) {
        let Some(slot) = usize::try_from(seq.wrapping_sub(self.base)).ok().and_then(|at| self.slots.get_mut(at)) else {
            debug_assert!(false, "sequence number {seq} was closed before");
            return;
        };
        debug_assert_eq!(*slot & 1, 0, "each event is closed once");
        *slot |= 1;
        while self.slots.front().is_some_and(|slot| slot & 1 == 1) {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    /// The oldest offset that is not done.
    pub(crate) fn oldest(&self) -> Option<Offset> {
        self.slots.front().map(|slot| slot >> 1)
    }

    /// The first sequence number that is too far from the oldest one to be delivered now.
    pub(crate) fn horizon(&self, spread: u64) -> u64 {
        self.base + spread
    }

    /// Offsets that are not done, for the invariants.
    #[cfg(any(test, feature = "invariants"))]
    pub(crate) fn open_offsets(&self) -> impl Iterator<Item = (u64, Offset)> + '_ {
        self.slots.iter().zip(self.base..).filter(|(slot, _)| *slot & 1 == 0).map(|(slot, seq)| (seq, slot >> 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_that_is_not_closed_whatever_the_order() {
        let mut ring = Outstanding::default();
        let seqs: Vec<u64> = [3, 5, 9, 10].into_iter().map(|offset| ring.open(offset)).collect();
        assert_eq!(ring.oldest(), Some(3));
        ring.close(seqs[1]);
        assert_eq!(ring.oldest(), Some(3));
        ring.close(seqs[0]);
        assert_eq!(ring.oldest(), Some(9));
        ring.close(seqs[3]);
        ring.close(seqs[2]);
        assert_eq!(ring.oldest(), None);
        let next = ring.open(20);
        assert_eq!((next, ring.oldest()), (4, Some(20)));
    }
}
