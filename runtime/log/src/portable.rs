//! Transactions and states as bytes, for those who keep them somewhere else than in the log's own files.
//!
//! Role: the same encoding as in the log, without frames, checksums and files, which whoever keeps the bytes has in a way of
//! their own. Reading never panics and never guesses: what is unknown is refused.

use busway_types::Offset;

use crate::checkpoint::{Assembly, SliceHeader, slices};
use crate::codec::{decode_txn, encode_txn, kind};
use crate::state::State;
use crate::txn::Txn;
use crate::wire::{Malformed, Reader, put_bytes, put_u64};

/// Why bytes are neither transactions nor a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They contradict the format or end too early.
    #[error("{0}")]
    Damaged(&'static str),
    /// They are of a newer version.
    #[error(
        "it has a {what} of kind {kind}, which this version of busway does not know; use the version that wrote it"
    )]
    Unknown {
        /// What.
        what: &'static str,
        /// Its number.
        kind: u64,
    },
}

impl From<Malformed> for Unreadable {
    fn from(why: Malformed) -> Self {
        match why {
            Malformed::Short => Self::Damaged("it ends too early"),
            Malformed::Invalid(why) => Self::Damaged(why),
            Malformed::Unknown(what, kind) => Self::Unknown { what, kind },
        }
    }
}

/// Appends transactions that follow one another.
pub fn put_txns(out: &mut Vec<u8>, txns: &[Txn]) {
    let mut body = Vec::new();
    for txn in txns {
        body.clear();
        encode_txn(&mut body, txn);
        put_bytes(out, &body);
    }
}

/// Reads transactions, of which the first has the number `seq` and finds `offset` as the next one.
pub fn take_txns(bytes: &[u8], seq: u64, offset: Offset) -> Result<Vec<Txn>, Unreadable> {
    let mut reader = Reader::new(bytes);
    let mut txns: Vec<Txn> = Vec::new();
    while !reader.is_empty() {
        let seq = seq.checked_add(txns.len() as u64).ok_or(Unreadable::Damaged("a number is too large"))?;
        let offset = txns.last().map_or(offset, Txn::end_offset);
        match reader.bytes()?.split_first() {
            Some((&kind::TXN, body)) => txns.push(decode_txn(body, seq, offset)?),
            Some((&other, _)) => return Err(Unreadable::Unknown { what: "record", kind: u64::from(other) }),
            None => return Err(Unreadable::Damaged("a transaction is empty")),
        }
    }
    Ok(txns)
}

/// A whole state, which must not lie over a view.
pub fn put_state(out: &mut Vec<u8>, state: &State) {
    let slices = slices(state);
    put_u64(out, slices.covers);
    for slice in slices.left {
        put_bytes(out, &slice);
    }
}

/// Reads a state.
pub fn take_state(bytes: &[u8]) -> Result<State, Unreadable> {
    let mut reader = Reader::new(bytes);
    let covers = reader.u64()?;
    let mut assembly = Assembly::new(covers);
    let (mut index, mut complete) = (0, false);
    while !reader.is_empty() {
        let Some((&kind::CHECKPOINT, slice)) = reader.bytes()?.split_first() else {
            return Err(Unreadable::Damaged("a part of a state is something else"));
        };
        let mut slice = Reader::new(slice);
        let header = SliceHeader::take(&mut slice)?;
        if complete || header.index != index || header.covers != covers {
            return Err(Unreadable::Damaged("the parts of a state do not follow one another"));
        }
        (index, complete) = (index + 1, header.last);
        assembly.add(slice)?;
    }
    if complete { Ok(assembly.finish()) } else { Err(Unreadable::Damaged("the end of a state is missing")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn histories_survive_their_bytes(txns in arbitrary::history(20)) {
            let mut out = Vec::new();
            put_txns(&mut out, &txns);
            prop_assert_eq!(take_txns(&out, txns.first().map_or(1, |t| t.seq), 0), Ok(txns.clone()));
            let mut state = State::default();
            for txn in &txns {
                state.apply(txn);
            }
            let mut out = Vec::new();
            put_state(&mut out, &state);
            prop_assert_eq!(take_state(&out), Ok(state));
            out.pop();
            prop_assert!(take_state(&out).is_err(), "a part of a state is no state");
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = take_txns(&bytes, u64::MAX - 1, 0);
            let _ = take_state(&bytes);
        }
    }
}
