//! The newest messages of a journal, in memory.
//!
//! Role: whoever has the lease reads the end of the journal anyhow; what is asked for again is mostly there. To begin to read a
//! stream costs the server the more the longer it is.
//!
//! Bound: [`BYTES`].

use std::collections::VecDeque;

use bytes::Bytes;

use crate::shared::Piece;

/// Bytes of messages that are kept.
const BYTES: usize = 64 * 1024 * 1024;
/// What a message takes beside its bytes.
const EACH: usize = 64;

/// Messages that follow one another up to the last one.
#[derive(Debug, Default)]
pub(super) struct Recent {
    first: u64,
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Recent {
    /// The journal has another message.
    pub(super) fn push(&mut self, number: u64, message: Bytes) {
        if self.first + self.messages.len() as u64 != number {
            *self = Self { first: number, ..Self::default() };
        }
        self.bytes += EACH + message.len();
        self.messages.push_back(message);
        while self.bytes > BYTES
            && let Some(gone) = self.messages.pop_front()
        {
            self.bytes -= EACH + gone.len();
            self.first += 1;
        }
    }

    /// Messages from `from` to `last`, as [`Broker::read`](crate::shared::Broker::read) gives them; none if they are not here.
    pub(super) fn read(&self, from: u64, last: u64, bytes: usize) -> Option<Piece> {
        let skip = usize::try_from(from.checked_sub(self.first)?).ok()?;
        let here = self.messages.iter().skip(skip).zip(from..=last);
        let mut piece = Piece { messages: Vec::new(), next: from };
        let mut taken = 0;
        for (message, number) in here {
            taken += message.len();
            piece.messages.push((number, message.clone()));
            piece.next = number + 1;
            if taken >= bytes {
                break;
            }
        }
        (!piece.messages.is_empty()).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_are_here_up_to_the_bound() {
        let mut recent = Recent::default();
        assert_eq!(recent.read(1, 5, 1), None);
        let message = Bytes::from(vec![7; 1024 * 1024]);
        for number in 5..105 {
            recent.push(number, message.clone());
        }
        assert!(recent.bytes <= BYTES && recent.messages.len() >= 60);
        assert_eq!((recent.read(5, 104, 1), recent.read(105, 105, 1)), (None, None));
        let piece = recent.read(100, 104, 2 * 1024 * 1024).expect("it is here");
        assert_eq!((piece.messages.len(), piece.messages[0].0, piece.next), (2, 100, 102));
        assert_eq!(recent.read(103, 104, usize::MAX).map(|piece| piece.next), Some(105));
        recent.push(7, message);
        assert_eq!((recent.messages.len(), recent.read(104, 104, 1)), (1, None));
    }
}
