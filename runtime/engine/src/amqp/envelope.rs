//! What stands in front of every message of a journal in stream queues, and the rule by which a message counts.
//!
//! Role: a stream keeps whatever anybody publishes, in one order for all readers, and refuses nobody. So who may write is decided
//! by what is in it: whoever wants to write takes the *pen*, a number nobody else has, behind the last message that counts;
//! from there on only messages under that pen count, each behind the one before. Every reader comes to the same result.
//!
//! Invariants: what counts is numbered from 1 without a gap; of two who take the pen at one place, what the first one writes
//! behind the second one's taking never counts; what is sent a second time counts once.

use busway_types::Offset;

use crate::shared::Head;

const MAGIC: [u8; 3] = *b"bwa";
const VERSION: u8 = 1;
/// Bytes in front of a message's own.
pub(super) const ENVELOPE_BYTES: usize = 24;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its sender takes the pen, if its number is the next one.
    Take,
    /// The journal's message of this number.
    Message,
    /// The journal goes on in the next queue, with this number.
    End,
    /// Nothing: shows its sender how far the stream goes.
    Probe,
}

/// What stands in front of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) pen: u64,
}

impl Envelope {
    /// A message with its body.
    pub(super) fn put(self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENVELOPE_BYTES + body.len());
        out.extend_from_slice(&MAGIC);
        let kind = match self.kind {
            Kind::Take => 1,
            Kind::Message => 2,
            Kind::End => 3,
            Kind::Probe => 4,
        };
        out.extend_from_slice(&[VERSION, kind, 0, 0, 0]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.pen.to_le_bytes());
        out.extend_from_slice(body);
        out
    }

    /// Reads what stands in front of a message; none when it is not busway's.
    pub(super) fn take(message: &[u8]) -> Option<Self> {
        let head = message.get(..ENVELOPE_BYTES)?;
        if head[..3] != MAGIC || head[3] != VERSION {
            return None;
        }
        let kind = match head[4] {
            1 => Kind::Take,
            2 => Kind::Message,
            3 => Kind::End,
            4 => Kind::Probe,
            _ => return None,
        };
        let number = |at: usize| head[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        Some(Self { kind, number: number(8)?, pen: number(16)? })
    }
}

/// The offset of the first event of the record that a message begins, if it begins one.
pub(super) fn begins_record(message: &[u8]) -> Option<Offset> {
    let (head, _) = Head::take(message.get(ENVELOPE_BYTES..)?).ok()?;
    (head.part == 0).then_some(head.offset)
}

/// How far a journal was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// The last message that counts.
    pub(super) last: u64,
    /// Whose turn it is to write.
    pub(super) pen: u64,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing that counts.
    Void,
    /// The pen went to its sender.
    Taken,
    /// The next message.
    Landed,
    /// The end of this queue.
    Ended,
}

impl Rule {
    /// Takes the next message of a stream in.
    pub(super) fn step(&mut self, envelope: &Envelope) -> Step {
        if envelope.number != self.last + 1 {
            return Step::Void;
        }
        match envelope.kind {
            Kind::Take => {
                self.pen = envelope.pen;
                Step::Taken
            }
            Kind::Message if envelope.pen == self.pen => {
                self.last += 1;
                Step::Landed
            }
            Kind::End if envelope.pen == self.pen => Step::Ended,
            Kind::Message | Kind::End | Kind::Probe => Step::Void,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, number: u64, pen: u64) -> Envelope {
        Envelope { kind, number, pen }
    }

    #[test]
    fn an_envelope_survives_its_bytes_and_nothing_else_is_taken_for_one() {
        for kind in [Kind::Take, Kind::Message, Kind::End, Kind::Probe] {
            let envelope = of(kind, 7, u64::MAX);
            let bytes = envelope.put(b"body");
            assert_eq!((Envelope::take(&bytes), &bytes[ENVELOPE_BYTES..]), (Some(envelope), &b"body"[..]));
            assert!((0..ENVELOPE_BYTES).all(|cut| Envelope::take(&bytes[..cut]).is_none()));
        }
        assert_eq!(Envelope::take(&[b'x'; 100]), None);
    }

    /// Two owners, each of which sends more than once, in every order in which a stream may have got it.
    #[test]
    fn whoever_took_the_pen_last_writes_and_everybody_reads_the_same() {
        let mut rule = Rule::default();
        let steps = [
            (of(Kind::Message, 1, 5), Step::Void),
            (of(Kind::Take, 1, 5), Step::Taken),
            (of(Kind::Message, 1, 5), Step::Landed),
            (of(Kind::Message, 1, 5), Step::Void),
            (of(Kind::Message, 3, 5), Step::Void),
            (of(Kind::Message, 2, 5), Step::Landed),
            // Another one was late, and one came at the right time.
            (of(Kind::Take, 2, 6), Step::Void),
            (of(Kind::Take, 3, 7), Step::Taken),
            (of(Kind::Message, 3, 5), Step::Void),
            (of(Kind::End, 3, 5), Step::Void),
            (of(Kind::Probe, 3, 7), Step::Void),
            (of(Kind::Message, 3, 7), Step::Landed),
            (of(Kind::End, 4, 7), Step::Ended),
        ];
        for (envelope, step) in steps {
            assert_eq!(rule.step(&envelope), step, "{envelope:?}");
        }
        assert_eq!(rule, Rule { last: 3, pen: 7 });
    }
}
