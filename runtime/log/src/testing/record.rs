//! The codec of records, as fuzzing sees it.

use crate::State;
use crate::checkpoint::{Assembly, SliceHeader};
use crate::codec::{decode_txn, encode_txn};
use crate::txn::Txn;
use crate::wire::Reader;

/// The body of a transaction's record.
pub fn write_record(txn: &Txn) -> Vec<u8> {
    let mut body = Vec::new();
    encode_txn(&mut body, txn);
    body
}

/// Reads any bytes as the body of a record; whether they are one.
///
/// # Panics
/// When what was read is written to another meaning: that would be a bug.
pub fn read_record(bytes: &[u8]) -> bool {
    let mut slice = Reader::new(bytes);
    if let Ok(header) = SliceHeader::take(&mut slice) {
        let _ = Assembly::new(header.covers).add(slice);
    }
    let Some(body) = bytes.get(1..) else { return false };
    let Ok(txn) = decode_txn(body, 1, 0) else { return false };
    let again = write_record(&txn);
    assert_eq!(decode_txn(&again[1..], 1, 0).ok().as_ref(), Some(&txn), "what was read is written as it was");
    State::default().apply(&txn);
    true
}
