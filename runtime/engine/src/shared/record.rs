//! Records: transactions as messages of a journal.
//!
//! Role: the format of a message. A record is the transactions of one group; it lies in one message or, when it is large, in
//! several that follow one another. Each message begins with a head of fixed length, so that a place in the journal
//! is found without reading what is around it.
//!
//! Invariant: a record counts only with its last part. One without it is what a stopped owner left; the claim of the next one
//! stands behind it.

use busway_log::Txn;
use busway_log::portable::{Unreadable, put_txns, take_txns};
use busway_types::{Offset, Timestamp};
use bytes::Bytes;

/// The first bytes of every message: so that nothing else is taken for one.
const MAGIC: [u8; 3] = *b"bwj";
const VERSION: u8 = 1;
const KIND_CLAIM: u8 = 1;
const KIND_TXNS: u8 = 2;

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = 40;
/// Parts of one record at most.
const MOST_PARTS: usize = u16::MAX as usize;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new owner; the body is its name.
    Claim,
    /// Transactions.
    Txns,
}

/// What stands before each part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// The part's place in its record, from 0.
    pub(crate) part: u16,
    /// Whether it is the last one.
    pub(crate) last: bool,
    /// The owner's epoch: the journal's sequence of its claim.
    pub(crate) epoch: u64,
    /// The number of the record's first transaction; of a claim, of the next one.
    pub(crate) seq: u64,
    /// The next offset before the record.
    pub(crate) offset: Offset,
    /// The latest time of any event in the journal up to and with this record.
    pub(crate) latest: Timestamp,
}

impl Head {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(if self.kind == Kind::Claim { KIND_CLAIM } else { KIND_TXNS });
        out.push(u8::from(self.last));
        out.extend_from_slice(&self.part.to_le_bytes());
        for number in [self.epoch, self.seq, self.offset, self.latest.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads the head of a message, and leaves its body.
    pub(crate) fn take(message: &[u8]) -> Result<(Self, &[u8]), Unreadable> {
        let short = Unreadable::Damaged("a message of the journal ends too early");
        let (head, body) = message.split_first_chunk::<HEAD_BYTES>().ok_or_else(|| short.clone())?;
        if head[..3] != MAGIC {
            return Err(Unreadable::Damaged("a message of the journal is not busway's"));
        }
        if head[3] != VERSION {
            return Err(Unreadable::Unknown { what: "journal version", kind: u64::from(head[3]) });
        }
        let kind = match head[4] {
            KIND_CLAIM => Kind::Claim,
            KIND_TXNS => Kind::Txns,
            other => return Err(Unreadable::Unknown { what: "journal record", kind: u64::from(other) }),
        };
        let number = |at: usize| -> Result<u64, Unreadable> {
            let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or_else(|| short.clone())
        };
        let head = Self {
            kind,
            part: u16::from_le_bytes([head[6], head[7]]),
            last: head[5] != 0,
            epoch: number(8)?,
            seq: number(16)?,
            offset: number(24)?,
            latest: Timestamp(number(32)?),
        };
        Ok((head, body))
    }
}

/// A record as messages of at most `most` bytes.
pub(crate) fn messages(head: Head, body: &[u8], most: usize) -> Result<Vec<Bytes>, Unreadable> {
    let room = most.saturating_sub(HEAD_BYTES).max(1);
    let count = body.len().div_ceil(room).max(1);
    if count > MOST_PARTS {
        return Err(Unreadable::Damaged("a transaction is larger than the journal takes"));
    }
    let part = |number: usize| {
        let start = number * room;
        let content = &body[start..(start + room).min(body.len())];
        let mut out = Vec::with_capacity(HEAD_BYTES + content.len());
        Head { part: number as u16, last: number + 1 == count, ..head }.put(&mut out);
        out.extend_from_slice(content);
        Bytes::from(out)
    };
    Ok((0..count).map(part).collect())
}

/// The body of a record of transactions.
pub(crate) fn body_of(txns: &[Txn]) -> Vec<u8> {
    let mut out = Vec::new();
    put_txns(&mut out, txns);
    out
}

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The head of its first part.
    pub(crate) head: Head,
    /// The journal's sequence of its first part.
    pub(crate) at: u64,
    pub(crate) body: Vec<u8>,
}

impl Record {
    /// Its transactions; none of a claim.
    pub(crate) fn txns(&self) -> Result<Vec<Txn>, Unreadable> {
        match self.head.kind {
            Kind::Claim => Ok(Vec::new()),
            Kind::Txns => take_txns(&self.body, self.head.seq, self.head.offset),
        }
    }
}

/// Puts records together from messages in order.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: Option<Record>,
    parts: u16,
}

impl Assembler {
    /// Takes the message at `at` in; gives a record when it is whole. Parts without their beginning are passed over.
    pub(crate) fn take(&mut self, at: u64, message: &[u8]) -> Result<Option<Record>, Unreadable> {
        let (head, body) = Head::take(message)?;
        if head.part == 0 {
            (self.open, self.parts) = (Some(Record { head, at, body: body.to_vec() }), 1);
        } else {
            let goes_on = |open: &Record| self.parts == head.part && open.head.seq == head.seq;
            match self.open.take_if(|open| !goes_on(open)) {
                Some(_) => return Err(Unreadable::Damaged("a part of a record is missing")),
                None => match &mut self.open {
                    Some(open) => {
                        open.body.extend_from_slice(body);
                        self.parts += 1;
                    }
                    None => return Ok(None),
                },
            }
        }
        Ok(if head.last { self.open.take() } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use busway_types::ServiceName;

    fn head() -> Head {
        Head { kind: Kind::Txns, part: 0, last: true, epoch: 7, seq: 3, offset: 9, latest: Timestamp(5) }
    }

    fn txns() -> Vec<Txn> {
        let service: ServiceName = "s".parse().expect("a name");
        let created = busway_log::SubChange::Created {
            id: busway_types::SubId(1),
            name: "a name of some length".to_owned(),
            service,
            cursor: 9,
        };
        vec![Txn { seq: 3, first_offset: 9, subs: vec![created], ..Txn::default() }]
    }

    #[test]
    fn a_record_survives_its_messages_whatever_their_size() {
        for most in [HEAD_BYTES + 1, HEAD_BYTES + 7, 10_000] {
            let messages = messages(head(), &body_of(&txns()), most).expect("it fits");
            assert!(messages.iter().all(|message| message.len() <= most));
            let mut assembler = Assembler::default();
            for (at, message) in messages.iter().enumerate() {
                let taken = assembler.take(at as u64, message).expect("a good message");
                assert_eq!(taken.is_some(), at + 1 == messages.len());
                if let Some(record) = taken {
                    assert_eq!((record.at, record.head.epoch, record.txns()), (0, 7, Ok(txns())));
                }
            }
        }
    }

    #[test]
    fn a_record_without_its_end_is_void_and_one_without_its_beginning_is_passed_over() {
        let parts = messages(head(), &body_of(&txns()), HEAD_BYTES + 7).expect("it fits");
        let claim = Head { kind: Kind::Claim, epoch: 8, ..head() };
        let claim = &messages(claim, b"somebody", 1_000).expect("it fits")[0];
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(1, &parts[1]), Ok(None));
        assert_eq!(assembler.take(2, &parts[0]), Ok(None));
        let record = assembler.take(3, claim).expect("a good message").expect("a whole record");
        assert_eq!((record.head.kind, record.txns()), (Kind::Claim, Ok(Vec::new())));
        assert_eq!(assembler.take(4, &parts[0]), Ok(None));
        assert!(assembler.take(5, &parts[2]).is_err(), "a gap is damage");
    }

    #[test]
    fn what_is_no_message_of_the_journal_is_refused() {
        assert!(Head::take(b"hello").is_err());
        let mut newer = messages(head(), b"", 100).expect("it fits")[0].to_vec();
        newer[3] = 9;
        assert!(matches!(Head::take(&newer), Err(Unreadable::Unknown { kind: 9, .. })));
    }
}
