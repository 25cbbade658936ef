//! When what nobody needs may go.
//!
//! Role: hold a wish to release back until everything is safe that was decided before it. Whoever asks has counted
//! transactions in that may still be queued: released at once, an event would be gone although the transaction that
//! completed it never came to be, if the machine stops in between.

use busway_types::Offset;

/// The wish that waits. One is enough: it only becomes larger, and whoever asks does so again and again.
#[derive(Debug, Default)]
pub struct Releases {
    /// Everything below the offset, once all up to the transaction is safe.
    waiting: Option<(Offset, u64)>,
}

impl Releases {
    /// Notes that nothing below `offset` is needed once the transaction `submitted` is safe, with all up to `safe` being
    /// so now. Gives the offset below which everything may go at once, if there is one.
    pub fn ask(&mut self, offset: Offset, submitted: u64, safe: u64) -> Option<Offset> {
        let earlier = self.waiting.take_if(|(_, seq)| *seq <= safe).map(|(offset, _)| offset);
        if submitted <= safe {
            self.waiting = None;
            return Some(offset);
        }
        self.waiting.get_or_insert((offset, submitted));
        earlier
    }

    /// Whether a wish waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_waits_until_what_was_decided_before_it_is_safe() {
        let mut releases = Releases::default();
        assert_eq!(releases.ask(10, 5, 5), Some(10), "everything is safe");
        assert_eq!(releases.ask(20, 7, 6), None);
        assert_eq!(releases.ask(30, 8, 6), None, "the first wish stays: it can be granted earlier");
        assert_eq!(releases.ask(40, 9, 7), Some(20));
        assert!(releases.is_waiting());
        assert_eq!(releases.ask(50, 9, 9), Some(50));
        assert!(!releases.is_waiting());
    }
}
