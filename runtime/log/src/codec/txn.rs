//! One transaction.

use busway_types::{KvWrite, Offset, Replay, ServiceName, SubId};

use super::event::take_service;
use super::ids::{put_ids, take_ids};
use super::{
    EventReader, TopicCache, begin_section, end_section, kind, next_section, put_dead, put_event, put_parked, put_run,
    put_settings, put_time, tag, take_dead, take_event, take_parked, take_run, take_settings, take_time,
};
use crate::txn::{KvRecord, SettleRecord, SubChange, Txn};
use crate::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// Appends the body of a transaction.
pub(crate) fn encode_txn(out: &mut Vec<u8>, txn: &Txn) {
    let Txn { seq: _, first_offset, events, settlement, kv, delayed, fired, lapsed, subs, ids } = txn;
    out.push(kind::TXN);
    if !events.is_empty() {
        let start = begin_section(out, tag::EVENTS);
        put_u64(out, *first_offset);
        put_u64(out, events.len() as u64);
        for event in events {
            put_event(out, event);
        }
        end_section(out, start);
    }
    if let Some(settlement) = settlement {
        let start = begin_section(out, tag::SETTLEMENT);
        put_settlement(out, settlement);
        end_section(out, start);
        if let Some(time) = settlement.time {
            let start = begin_section(out, tag::SETTLED_AT);
            put_time(out, time);
            put_offsets(out, &settlement.expired);
            end_section(out, start);
        }
    }
    if !kv.is_empty() {
        let start = begin_section(out, tag::KV);
        put_kv(out, kv);
        end_section(out, start);
    }
    if !delayed.is_empty() {
        let start = begin_section(out, tag::DELAYED);
        for (timer, event) in delayed {
            put_u64(out, *timer);
            put_event(out, event);
        }
        end_section(out, start);
    }
    if !fired.is_empty() {
        let start = begin_section(out, tag::FIRED);
        for timer in fired {
            put_u64(out, *timer);
        }
        end_section(out, start);
    }
    if !lapsed.is_empty() {
        let start = begin_section(out, tag::LAPSED);
        for (timer, due) in lapsed {
            put_u64(out, *timer);
            put_time(out, *due);
        }
        end_section(out, start);
    }
    if !subs.is_empty() {
        let start = begin_section(out, tag::SUBS);
        for change in subs {
            put_sub_change(out, change);
        }
        end_section(out, start);
    }
    if let Some(ids) = ids {
        let start = begin_section(out, tag::IDS);
        put_ids(out, ids);
        end_section(out, start);
    }
}

/// The offsets of the events in a transaction's body (without its kind): the first and the one after the last. Looks
/// at the tags of all sections, and at the content of none but the events'.
pub(crate) fn events_in(body: &[u8]) -> Result<Option<(Offset, Offset)>, Malformed> {
    let mut body = Reader::new(body);
    let mut found = None;
    while let Some((tag, content)) = next_section(&mut body)? {
        match tag {
            tag::EVENTS => found = Some(EventReader::new(content)?.range()),
            tag::SETTLEMENT..=tag::LAPSED => {}
            other => return Err(Malformed::Unknown("section", u64::from(other))),
        }
    }
    Ok(found)
}

/// The settlement in a transaction's body (without its kind). Looks at the content of no other section.
pub(crate) fn settlement_in(body: &[u8]) -> Result<Option<SettleRecord>, Malformed> {
    let mut body = Reader::new(body);
    let mut found = None;
    while let Some((tag, mut content)) = next_section(&mut body)? {
        match tag {
            tag::SETTLEMENT => found = Some(take_settlement(&mut content)?),
            tag::SETTLED_AT => take_settled_at(&mut content, &mut found)?,
            _ => {}
        }
    }
    Ok(found)
}

/// Reads the body of a transaction (without its kind). `next_offset` is what `first_offset` is without events.
pub(crate) fn decode_txn(body: &[u8], seq: u64, next_offset: Offset) -> Result<Txn, Malformed> {
    let mut body = Reader::new(body);
    let mut txn = Txn { seq, first_offset: next_offset, ..Txn::default() };
    let mut topics = TopicCache::default();
    while let Some((tag, mut content)) = next_section(&mut body)? {
        match tag {
            tag::EVENTS => {
                let mut events = EventReader::new(content)?;
                txn.first_offset = events.range().0;
                while let Some((_, event)) = events.next(&mut topics)? {
                    txn.events.push(event);
                }
            }
            tag::SETTLEMENT => txn.settlement = Some(take_settlement(&mut content)?),
            tag::SETTLED_AT => take_settled_at(&mut content, &mut txn.settlement)?,
            tag::KV => take_kv(&mut content, &mut txn.kv)?,
            tag::DELAYED => {
                while !content.is_empty() {
                    let timer = content.u64()?;
                    txn.delayed.push((timer, take_event(&mut content, &mut topics)?.into()));
                }
            }
            tag::FIRED => {
                while !content.is_empty() {
                    txn.fired.push(content.u64()?);
                }
            }
            tag::LAPSED => {
                while !content.is_empty() {
                    txn.lapsed.push((content.u64()?, take_time(&mut content)?));
                }
            }
            tag::SUBS => {
                while !content.is_empty() {
                    txn.subs.push(take_sub_change(&mut content)?);
                }
            }
            tag::IDS => txn.ids = Some(Box::new(take_ids(&mut content)?)),
            other => return Err(Malformed::Unknown("section", u64::from(other))),
        }
    }
    Ok(txn)
}

/// Splits ascending neighbours into runs, keeping the order.
fn runs(offsets: &[Offset]) -> impl Iterator<Item = (Offset, Offset)> {
    offsets.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|run| (run[0], run[0].saturating_add(run.len() as u64)))
}

fn put_offsets(out: &mut Vec<u8>, offsets: &[Offset]) {
    put_u64(out, runs(offsets).count() as u64);
    let mut after = 0;
    for run in runs(offsets) {
        put_run(out, after, run);
        after = run.1;
    }
}

fn take_offsets(r: &mut Reader<'_>) -> Result<Vec<Offset>, Malformed> {
    let count = r.count(2)?;
    let mut offsets = Vec::new();
    let mut after = 0;
    for _ in 0..count {
        let (start, end) = take_run(r, after)?;
        if end - start > (SettleRecord::MAX_ACKED - offsets.len()) as u64 {
            return Err(Malformed::Invalid("a settlement has too many offsets"));
        }
        offsets.extend(start..end);
        after = end;
    }
    Ok(offsets)
}

fn put_settlement(out: &mut Vec<u8>, settlement: &SettleRecord) {
    let SettleRecord { sub, cursor, acked, parked, dead, revived, dropped, time: _, expired: _ } = settlement;
    put_u64(out, u64::from(sub.0));
    put_u64(out, *cursor);
    put_offsets(out, acked);
    put_u64(out, parked.len() as u64);
    for p in parked {
        put_parked(out, p);
    }
    put_u64(out, dead.len() as u64);
    for d in dead {
        put_dead(out, d);
    }
    put_offsets(out, revived);
    put_offsets(out, dropped);
}

fn take_settlement(r: &mut Reader<'_>) -> Result<SettleRecord, Malformed> {
    let (sub, cursor, acked) = (SubId(r.u32()?), r.u64()?, take_offsets(r)?);
    let mut parked = Vec::new();
    for _ in 0..r.count(3)? {
        parked.push(take_parked(r)?);
    }
    let mut dead = Vec::new();
    for _ in 0..r.count(4)? {
        dead.push(take_dead(r)?);
    }
    let (revived, dropped) = (take_offsets(r)?, take_offsets(r)?);
    if !r.is_empty() {
        return Err(Malformed::Invalid("a settlement is longer than its parts"));
    }
    Ok(SettleRecord { sub, cursor, acked, parked, dead, revived, dropped, time: None, expired: Vec::new() })
}

fn take_settled_at(r: &mut Reader<'_>, settlement: &mut Option<SettleRecord>) -> Result<(), Malformed> {
    let settlement = settlement.as_mut().ok_or(Malformed::Invalid("a time stands in front of its settlement"))?;
    (settlement.time, settlement.expired) = (Some(take_time(r)?), take_offsets(r)?);
    Ok(())
}

const KV_SET: u8 = 0;
const KV_DELETE: u8 = 1;
const KV_INCREMENT: u8 = 2;
/// Added to the operation when the service is the one of the write before.
const KV_SAME_SERVICE: u8 = 0x80;

fn put_kv(out: &mut Vec<u8>, writes: &[KvRecord]) {
    let mut last = None;
    for KvRecord { service, op } in writes {
        if last == Some(service) {
            put_op(out, op, KV_SAME_SERVICE, None);
        } else {
            put_op(out, op, 0, Some(service));
        }
        last = Some(service);
    }
}

/// Appends one change to key-value, with flags beside its kind and a service behind that.
pub(crate) fn put_op(out: &mut Vec<u8>, op: &KvWrite, flags: u8, service: Option<&ServiceName>) {
    out.push(
        flags
            | match op {
                KvWrite::Set { .. } => KV_SET,
                KvWrite::Delete { .. } => KV_DELETE,
                KvWrite::Increment { .. } => KV_INCREMENT,
            },
    );
    if let Some(service) = service {
        put_bytes(out, service.as_str().as_bytes());
    }
    put_bytes(out, op.key().as_bytes());
    match op {
        KvWrite::Set { value, .. } => put_bytes(out, value),
        KvWrite::Delete { .. } => {}
        KvWrite::Increment { by, .. } => put_i64(out, *by),
    }
}

fn take_kv(r: &mut Reader<'_>, writes: &mut Vec<KvRecord>) -> Result<(), Malformed> {
    let mut last = None;
    while !r.is_empty() {
        let op = r.u8()?;
        if op & KV_SAME_SERVICE == 0 {
            last = Some(take_service(r)?);
        }
        let service = last.clone().ok_or(Malformed::Invalid("a key-value write has no service"))?;
        writes.push(KvRecord { service, op: take_op(r, op & !KV_SAME_SERVICE)? });
    }
    Ok(())
}

/// Reads a change to key-value behind its kind.
pub(crate) fn take_op(r: &mut Reader<'_>, op: u8) -> Result<KvWrite, Malformed> {
    let key = r.text()?.into();
    Ok(match op {
        KV_SET => KvWrite::Set { key, value: r.payload()? },
        KV_DELETE => KvWrite::Delete { key },
        KV_INCREMENT => KvWrite::Increment { key, by: r.i64()? },
        other => return Err(Malformed::Unknown("key-value operation", u64::from(other))),
    })
}

const SUB_CREATED: u8 = 0;
const SUB_ATTACHED: u8 = 1;
const SUB_DETACHED: u8 = 2;
const SUB_FORGOTTEN: u8 = 3;
const SUB_MOVED: u8 = 4;
const SUB_SET: u8 = 5;

fn put_sub_change(out: &mut Vec<u8>, change: &SubChange) {
    let (what, id) = match change {
        SubChange::Created { id, .. } => (SUB_CREATED, id),
        SubChange::Attached { id } => (SUB_ATTACHED, id),
        SubChange::Detached { id, .. } => (SUB_DETACHED, id),
        SubChange::Forgotten { id } => (SUB_FORGOTTEN, id),
        SubChange::Moved { id, .. } => (SUB_MOVED, id),
        SubChange::Set { id, .. } => (SUB_SET, id),
    };
    out.push(what);
    put_u64(out, u64::from(id.0));
    match change {
        SubChange::Created { id: _, name, service, cursor } => {
            put_bytes(out, name.as_bytes());
            put_bytes(out, service.as_str().as_bytes());
            put_u64(out, *cursor);
        }
        SubChange::Detached { id: _, at } => put_time(out, *at),
        SubChange::Moved { id: _, generation, replay: Replay { from, to, dead } } => {
            put_u64(out, u64::from(*generation));
            put_u64(out, *from);
            put_u64(out, *to);
            out.push(u8::from(*dead));
        }
        SubChange::Set { id: _, settings } => put_settings(out, settings),
        SubChange::Attached { .. } | SubChange::Forgotten { .. } => {}
    }
}

fn take_sub_change(r: &mut Reader<'_>) -> Result<SubChange, Malformed> {
    let what = r.u8()?;
    let id = SubId(r.u32()?);
    match what {
        SUB_CREATED => {
            Ok(SubChange::Created { id, name: r.text()?.to_owned(), service: take_service(r)?, cursor: r.u64()? })
        }
        SUB_ATTACHED => Ok(SubChange::Attached { id }),
        SUB_DETACHED => Ok(SubChange::Detached { id, at: take_time(r)? }),
        SUB_FORGOTTEN => Ok(SubChange::Forgotten { id }),
        SUB_MOVED => {
            let generation = r.u32()?;
            let replay = Replay { from: r.u64()?, to: r.u64()?, dead: r.u8()? != 0 };
            Ok(SubChange::Moved { id, generation, replay })
        }
        SUB_SET => Ok(SubChange::Set { id, settings: Box::new(take_settings(r)?) }),
        other => Err(Malformed::Unknown("subscription change", u64::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arbitrary;
    use proptest::prelude::*;

    fn body(txn: &Txn) -> Vec<u8> {
        let mut out = Vec::new();
        encode_txn(&mut out, txn);
        out
    }

    proptest! {
        #[test]
        fn transactions_survive_their_bytes(txn in arbitrary::txn()) {
            let body = body(&txn);
            prop_assert_eq!(body[0], kind::TXN);
            prop_assert_eq!(decode_txn(&body[1..], txn.seq, txn.first_offset), Ok(txn.clone()));
            let expected = (!txn.events.is_empty()).then(|| (txn.first_offset, txn.end_offset()));
            prop_assert_eq!(events_in(&body[1..]), Ok(expected));
            prop_assert_eq!(settlement_in(&body[1..]), Ok(txn.settlement.clone()));
        }

        #[test]
        fn decoding_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_txn(&bytes, 1, 0);
            let _ = events_in(&bytes);
            let _ = settlement_in(&bytes);
        }

        #[test]
        fn decoding_cut_or_flipped_records_never_panics(txn in arbitrary::txn(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let body = body(&txn);
            let at = at.index(body.len());
            let _ = decode_txn(&body[1..at.max(1)], 1, 0);
            let mut flipped = body;
            flipped[at] ^= 1_u8 << bit;
            let _ = decode_txn(&flipped[1..], 1, 0);
        }
    }

    #[test]
    fn unknown_sections_and_flags_are_named() {
        assert_eq!(decode_txn(&[200, 0, 0, 0, 0], 1, 0), Err(Malformed::Unknown("section", 200)));
        assert_eq!(events_in(&[200, 0, 0, 0, 0]), Err(Malformed::Unknown("section", 200)));
    }

    #[test]
    fn a_count_cannot_promise_more_than_is_there() {
        let mut bytes = vec![tag::EVENTS, 11, 0, 0, 0, 0];
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(decode_txn(&bytes, 1, 0), Err(Malformed::Short));
    }
}
