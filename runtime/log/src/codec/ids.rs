//! Client-supplied ids: in transactions, and as buckets in checkpoints.

use busway_types::{Fingerprint, Offset};

use super::parts::{put_time, take_time};
use crate::txn::IdRecord;
use crate::wire::{Malformed, Reader, put_u64};

/// The fewest bytes of an id: fingerprint and offset.
const LEAST: usize = 16 + 1;

/// Appends one id: its fingerprint, then 0 for a delayed event or its offset and one.
pub(crate) fn put_id(out: &mut Vec<u8>, (id, offset): (Fingerprint, Option<Offset>)) {
    out.extend_from_slice(&id.to_bytes());
    put_u64(out, offset.map_or(0, |offset| offset.saturating_add(1)));
}

/// Reads what [`put_id`] wrote.
pub(crate) fn take_id(r: &mut Reader<'_>) -> Result<(Fingerprint, Option<Offset>), Malformed> {
    let id = Fingerprint::from_bytes(r.array()?);
    Ok((id, r.u64()?.checked_sub(1)))
}

pub(super) fn put_ids(out: &mut Vec<u8>, record: &IdRecord) {
    let IdRecord { now, forgotten, begins, ids } = record;
    put_time(out, *now);
    put_u64(out, *forgotten as u64);
    out.push(u8::from(*begins));
    put_u64(out, ids.len() as u64);
    for id in ids {
        put_id(out, *id);
    }
}

pub(super) fn take_ids(r: &mut Reader<'_>) -> Result<IdRecord, Malformed> {
    let now = take_time(r)?;
    let forgotten = usize::try_from(r.u64()?).map_err(|_| Malformed::Invalid("too many buckets of ids"))?;
    let begins = match r.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed::Invalid("a bucket of ids neither begins nor goes on")),
    };
    let mut ids = Vec::new();
    for _ in 0..r.count(LEAST)? {
        ids.push(take_id(r)?);
    }
    if !r.is_empty() {
        return Err(Malformed::Invalid("a record of ids is longer than its parts"));
    }
    Ok(IdRecord { now, forgotten, begins, ids })
}
