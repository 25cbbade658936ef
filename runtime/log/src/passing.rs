//! Chunks and reports as bytes, for those who have them run on another node.
//!
//! Role: the encoding of events and key-value that the log has as well, around what a lane is given and gives back. Not kept
//! anywhere: nodes that speak to each other read it. Reading never panics and never guesses: what is unknown is refused.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Chunk, Delivery, DeliveryResult, Effects, KvRead, KvScan, KvWrite, Logged, Outcome, Report, SubId};
use bytes::Bytes;

use crate::codec::{TopicCache, put_event, put_op, put_ordering, take_event, take_op, take_ordering};
use crate::portable::Unreadable;
use crate::wire::{Malformed, Reader, put_bytes, put_u64};

/// Appends a chunk.
pub fn put_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    let Chunk { id, sub, ordering, generation, deliveries } = chunk;
    put_u64(out, *id);
    put_u64(out, u64::from(sub.0));
    put_ordering(out, *ordering);
    put_u64(out, u64::from(*generation));
    put_u64(out, deliveries.len() as u64);
    for Delivery { logged, attempt } in deliveries {
        put_u64(out, logged.offset);
        put_u64(out, u64::from(*attempt));
        put_event(out, &logged.event);
    }
}

/// Reads a chunk, which is all of `bytes`. Large payloads share its memory.
pub fn take_chunk(bytes: &Bytes) -> Result<Chunk, Unreadable> {
    let mut r = Reader::sharing(bytes, bytes);
    let (id, sub) = (r.u64()?, SubId(r.u32()?));
    let ordering = take_ordering(&mut r)?;
    let generation = r.u32()?;
    let mut deliveries = Vec::new();
    let mut topics = TopicCache::default();
    for _ in 0..r.count(2)? {
        let (offset, attempt) = (r.u64()?, r.u32()?);
        let event = Arc::new(take_event(&mut r, &mut topics)?);
        deliveries.push(Delivery { logged: Logged { offset, event }, attempt });
    }
    ended(&r)?;
    Ok(Chunk { id, sub, ordering, generation, deliveries })
}

/// Appends reports.
pub fn put_reports(out: &mut Vec<u8>, reports: &[Report]) {
    put_u64(out, reports.len() as u64);
    for Report { chunk, sub, results, finished } in reports {
        put_u64(out, *chunk);
        put_u64(out, u64::from(sub.0));
        out.push(u8::from(*finished));
        put_u64(out, results.len() as u64);
        for result in results {
            put_result(out, result);
        }
    }
}

/// Reads reports, which are all of `bytes`. Large payloads share its memory.
pub fn take_reports(bytes: &Bytes) -> Result<Vec<Report>, Unreadable> {
    let mut r = Reader::sharing(bytes, bytes);
    let mut topics = TopicCache::default();
    let mut reports = Vec::new();
    for _ in 0..r.count(4)? {
        let (chunk, sub, finished) = (r.u64()?, SubId(r.u32()?), r.u8()? != 0);
        let mut results = Vec::new();
        for _ in 0..r.count(4)? {
            results.push(take_result(&mut r, &mut topics)?);
        }
        reports.push(Report { chunk, sub, results, finished });
    }
    ended(&r)?;
    Ok(reports)
}

fn ended(r: &Reader<'_>) -> Result<(), Malformed> {
    if r.is_empty() { Ok(()) } else { Err(Malformed::Invalid("it is longer than its parts")) }
}

const ACKED: u8 = 0;
const RETRY: u8 = 1;
const RETRY_AFTER: u8 = 2;
const REJECTED: u8 = 3;
const TRAPPED: u8 = 4;
const TIMED_OUT: u8 = 5;
const SKIPPED: u8 = 6;

fn put_result(out: &mut Vec<u8>, result: &DeliveryResult) {
    let DeliveryResult { offset, outcome, effects, busy_ns } = result;
    put_u64(out, *offset);
    put_u64(out, *busy_ns);
    let reason = match outcome {
        Outcome::Acked => {
            out.push(ACKED);
            None
        }
        Outcome::Skipped => {
            out.push(SKIPPED);
            None
        }
        Outcome::Retry { reason, after: None } => {
            out.push(RETRY);
            Some(reason)
        }
        Outcome::Retry { reason, after: Some(after) } => {
            out.push(RETRY_AFTER);
            put_u64(out, u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            Some(reason)
        }
        Outcome::Rejected { reason } => {
            out.push(REJECTED);
            Some(reason)
        }
        Outcome::Trapped { reason } => {
            out.push(TRAPPED);
            Some(reason)
        }
        Outcome::TimedOut { reason } => {
            out.push(TIMED_OUT);
            Some(reason)
        }
    };
    if let Some(reason) = reason {
        put_bytes(out, reason.as_bytes());
    }
    out.push(u8::from(effects.is_some()));
    if let Some(effects) = effects {
        put_effects(out, effects);
    }
}

fn take_result(r: &mut Reader<'_>, topics: &mut TopicCache) -> Result<DeliveryResult, Malformed> {
    let (offset, busy_ns, what) = (r.u64()?, r.u64()?, r.u8()?);
    let outcome = match what {
        ACKED => Outcome::Acked,
        SKIPPED => Outcome::Skipped,
        RETRY => Outcome::Retry { reason: r.text()?.to_owned(), after: None },
        RETRY_AFTER => {
            let after = Some(Duration::from_millis(r.u64()?));
            Outcome::Retry { reason: r.text()?.to_owned(), after }
        }
        REJECTED => Outcome::Rejected { reason: r.text()?.to_owned() },
        TRAPPED => Outcome::Trapped { reason: r.text()?.to_owned() },
        TIMED_OUT => Outcome::TimedOut { reason: r.text()?.to_owned() },
        other => return Err(Malformed::Unknown("outcome", u64::from(other))),
    };
    let effects = if r.u8()? == 0 { None } else { Some(Box::new(take_effects(r, topics)?)) };
    if effects.is_some() && outcome != Outcome::Acked {
        return Err(Malformed::Invalid("effects of what was not acknowledged"));
    }
    Ok(DeliveryResult { offset, outcome, effects, busy_ns })
}

fn put_effects(out: &mut Vec<u8>, effects: &Effects) {
    let Effects { reads, scans, writes, publishes } = effects;
    put_u64(out, reads.len() as u64);
    for KvRead { key, version, own } in reads {
        put_bytes(out, key.as_bytes());
        out.push(u8::from(*own) | u8::from(version.is_some()) << 1);
        if let Some(version) = version {
            put_u64(out, *version);
        }
    }
    put_u64(out, scans.len() as u64);
    for KvScan { prefix, after, until, count, digest, own } in scans {
        put_bytes(out, prefix.as_bytes());
        out.push(u8::from(after.is_some()) | u8::from(until.is_some()) << 1);
        for key in [after, until].into_iter().flatten() {
            put_bytes(out, key.as_bytes());
        }
        put_u64(out, *count as u64);
        out.extend_from_slice(&digest.to_le_bytes());
        put_u64(out, own.len() as u64);
        for key in own {
            put_bytes(out, key.as_bytes());
        }
    }
    put_u64(out, writes.len() as u64);
    for write in writes {
        put_op(out, write, 0, None);
    }
    put_u64(out, publishes.len() as u64);
    for event in publishes {
        put_event(out, event);
    }
}

fn take_effects(r: &mut Reader<'_>, topics: &mut TopicCache) -> Result<Effects, Malformed> {
    let mut effects = Effects::default();
    for _ in 0..r.count(2)? {
        let (key, flags) = (r.text()?.into(), r.u8()?);
        let version = if flags & 2 == 0 { None } else { Some(r.u64()?) };
        effects.reads.push(KvRead { key, version, own: flags & 1 != 0 });
    }
    for _ in 0..r.count(12)? {
        let (prefix, flags) = (r.text()?.into(), r.u8()?);
        let after = if flags & 1 == 0 { None } else { Some(r.text()?.into()) };
        let until = if flags & 2 == 0 { None } else { Some(r.text()?.into()) };
        let count = usize::try_from(r.u64()?).map_err(|_| Malformed::Invalid("a count is too large"))?;
        let digest = u64::from_le_bytes(r.array()?);
        let mut own = Vec::new();
        for _ in 0..r.count(1)? {
            own.push(r.text()?.into());
        }
        effects.scans.push(KvScan { prefix, after, until, count, digest, own });
    }
    for _ in 0..r.count(2)? {
        let op = r.u8()?;
        let write: KvWrite = take_op(r, op)?;
        effects.writes.push(write);
    }
    for _ in 0..r.count(1)? {
        effects.publishes.push(Arc::new(take_event(r, topics)?));
    }
    Ok(effects)
}

#[cfg(test)]
mod tests {
    use busway_types::Ordering;

    use super::*;
    use crate::testing::arbitrary;
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Box<str>> {
        "\\PC{0,8}".prop_map(String::into_boxed_str)
    }

    fn chunk() -> impl Strategy<Value = Chunk> {
        let delivery = (any::<u64>(), any::<u32>(), arbitrary::event())
            .prop_map(|(offset, attempt, event)| Delivery { logged: Logged { offset, event: event.into() }, attempt });
        let ordering = prop_oneof![Just(Ordering::Strict), Just(Ordering::Key), Just(Ordering::None)];
        (any::<u64>(), any::<u32>(), ordering, any::<u32>(), vec(delivery, 0..4)).prop_map(
            |(id, sub, ordering, generation, deliveries)| Chunk {
                id,
                sub: SubId(sub),
                ordering,
                generation,
                deliveries,
            },
        )
    }

    fn effects() -> impl Strategy<Value = Effects> {
        let read = (text(), of(any::<u64>()), any::<bool>());
        let read = read.prop_map(|(key, version, own)| KvRead { key, version, own });
        let scan = (text(), of(text()), of(text()), any::<usize>(), any::<u64>(), vec(text(), 0..3));
        let scan = scan.prop_map(|(prefix, after, until, count, digest, own)| KvScan {
            prefix,
            after,
            until,
            count,
            digest,
            own,
        });
        let write = prop_oneof![
            (text(), vec(any::<u8>(), 0..9)).prop_map(|(key, value)| KvWrite::Set { key, value: value.into() }),
            text().prop_map(|key| KvWrite::Delete { key }),
            (text(), any::<i64>()).prop_map(|(key, by)| KvWrite::Increment { key, by }),
        ];
        let event = arbitrary::event().prop_map(Arc::new);
        (vec(read, 0..3), vec(scan, 0..3), vec(write, 0..3), vec(event, 0..3))
            .prop_map(|(reads, scans, writes, publishes)| Effects { reads, scans, writes, publishes })
    }

    fn result() -> impl Strategy<Value = DeliveryResult> {
        let reason = || "\\PC{0,8}";
        let outcome = prop_oneof![
            3 => Just(Outcome::Acked),
            1 => Just(Outcome::Skipped),
            1 => (reason(), of(any::<u64>()))
                .prop_map(|(reason, after)| Outcome::Retry { reason, after: after.map(Duration::from_millis) }),
            1 => reason().prop_map(|reason| Outcome::Rejected { reason }),
            1 => reason().prop_map(|reason| Outcome::Trapped { reason }),
            1 => reason().prop_map(|reason| Outcome::TimedOut { reason }),
        ];
        (any::<u64>(), outcome, of(effects()), any::<u64>()).prop_map(|(offset, outcome, effects, busy_ns)| {
            let effects = effects.filter(|_| outcome == Outcome::Acked).map(Box::new);
            DeliveryResult { offset, outcome, effects, busy_ns }
        })
    }

    fn reports() -> impl Strategy<Value = Vec<Report>> {
        let report = (any::<u64>(), any::<u32>(), vec(result(), 0..4), any::<bool>());
        let report =
            report.prop_map(|(chunk, sub, results, finished)| Report { chunk, sub: SubId(sub), results, finished });
        vec(report, 0..4)
    }

    fn same(a: &[Report], b: &[Report]) -> bool {
        format!("{a:?}") == format!("{b:?}")
    }

    proptest! {
        #[test]
        fn chunks_survive_their_bytes(chunk in chunk(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut out = Vec::new();
            put_chunk(&mut out, &chunk);
            let read = take_chunk(&out.clone().into()).expect("a chunk");
            prop_assert_eq!(format!("{read:?}"), format!("{chunk:?}"));
            let at = at.index(out.len());
            prop_assert!(take_chunk(&Bytes::copy_from_slice(&out[..at])).is_err());
            out[at] ^= 1 << bit;
            let _ = take_chunk(&out.into());
        }

        #[test]
        fn reports_survive_their_bytes(reports in reports(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut out = Vec::new();
            put_reports(&mut out, &reports);
            prop_assert!(same(&take_reports(&out.clone().into()).expect("reports"), &reports));
            let at = at.index(out.len());
            prop_assert!(take_reports(&Bytes::copy_from_slice(&out[..at])).is_err());
            out[at] ^= 1 << bit;
            let _ = take_reports(&out.into());
        }

        #[test]
        fn reading_garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = (take_chunk(&bytes), take_reports(&bytes));
        }
    }
}
