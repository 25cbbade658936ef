//! Arbitrary transactions for property tests.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{
    Attempt, Causality, DeadLetter, DeadReason, Event, EventId, Fingerprint, Key, KvWrite, Ordering, Origin, Parked,
    Replay, RetryPolicy, ServiceName, Settings, SubId, Timestamp,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::txn::{IdRecord, KvRecord, SettleRecord, SubChange, Txn};

fn boxed() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,12}".prop_map(String::into_boxed_str)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn service() -> impl Strategy<Value = ServiceName> {
    "[a-d][a-z.]{0,2}".prop_map(|name| name.parse().expect("a service name"))
}

fn causality() -> impl Strategy<Value = Causality> {
    (of(service()), of(any::<u128>()), of(boxed()), of(boxed()), any::<u8>(), any::<bool>()).prop_map(
        |(source, cause, correlation, traceparent, hops, chosen_id)| {
            let cause = cause.map(EventId::from_u128);
            Origin { source, cause, correlation, traceparent, hops, chosen_id }.into()
        },
    )
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let envelope = (any::<u128>(), "[a-c]{1,3}(\\.[a-c]{1,3}){0,2}", of("[a-z]{1,5}"), time(), of(boxed()));
    let rest = (vec((boxed(), boxed()), 0..3), vec(any::<u8>(), 0..60), of(time()), of(time()), causality());
    (envelope, rest).prop_map(
        |((id, topic, key, time, content_type), (headers, data, not_before, expires, causality))| Event {
            id: EventId::from_u128(id),
            topic: topic.parse().expect("a topic"),
            key: key.map(|key| Key::stored(&key)),
            time,
            content_type,
            headers,
            data: Bytes::from(data),
            not_before,
            expires,
            causality,
        },
    )
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    vec((time(), "\\PC{0,12}").prop_map(|(time, error)| Attempt { time, error }), 0..3)
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..40, 0..u64::from(u32::MAX)]
}

fn parked() -> impl Strategy<Value = Parked> {
    (offset(), of(time()), attempts()).prop_map(|(offset, due, attempts)| Parked { offset, due, attempts })
}

fn dead() -> impl Strategy<Value = DeadLetter> {
    let reason = prop_oneof![
        Just(DeadReason::Rejected),
        Just(DeadReason::Exhausted),
        Just(DeadReason::Trapped),
        Just(DeadReason::TimedOut),
        Just(DeadReason::Loop)
    ];
    (offset(), reason, time(), attempts()).prop_map(|(offset, reason, time, attempts)| DeadLetter {
        offset,
        reason,
        time,
        attempts,
    })
}

fn settlement() -> impl Strategy<Value = SettleRecord> {
    let lists = (vec(offset(), 0..8), vec(parked(), 0..3), vec(dead(), 0..3), vec(offset(), 0..4), vec(offset(), 0..4));
    let at = of((time(), vec(offset(), 0..3)));
    (0_u32..4, offset(), lists, at).prop_map(|(sub, cursor, (acked, parked, dead, revived, dropped), at)| {
        SettleRecord {
            sub: SubId(sub),
            cursor,
            acked,
            parked,
            dead,
            revived,
            dropped,
            time: at.as_ref().map(|(time, _)| *time),
            expired: at.map(|(_, expired)| expired).unwrap_or_default(),
        }
    })
}

fn kv() -> impl Strategy<Value = KvRecord> {
    let key = || "[a-d]{1,2}".prop_map(String::into_boxed_str);
    let op = prop_oneof![
        (key(), vec(any::<u8>(), 0..20)).prop_map(|(key, value)| KvWrite::Set { key, value: value.into() }),
        key().prop_map(|key| KvWrite::Delete { key }),
        (key(), any::<i64>()).prop_map(|(key, by)| KvWrite::Increment { key, by }),
    ];
    (service(), op).prop_map(|(service, op)| KvRecord { service, op })
}

fn settings() -> impl Strategy<Value = Settings> {
    let ordering = prop_oneof![Just(Ordering::Strict), Just(Ordering::Key), Just(Ordering::None)];
    let retry =
        (any::<u32>(), 0_u64..1_000_000, 0_u64..1_000_000, any::<u8>()).prop_map(|(attempts, first, most, jitter)| {
            RetryPolicy {
                attempts,
                backoff: Duration::from_millis(first),
                backoff_max: Duration::from_millis(most),
                jitter_percent: jitter,
            }
        });
    let patterns = vec("[a-c]{1,3}(\\.[*>]){0,1}".prop_map(|text| text.parse().expect("a pattern")), 0..3);
    (any::<u32>(), patterns, ordering, retry, any::<bool>()).prop_map(
        |(generation, patterns, ordering, retry, own_events)| Settings {
            generation,
            patterns,
            ordering,
            retry,
            own_events,
        },
    )
}

fn sub_change() -> impl Strategy<Value = SubChange> {
    let id = || (0_u32..4).prop_map(SubId);
    prop_oneof![
        3 => (id(), "[a-z]{1,4}", service(), offset())
            .prop_map(|(id, name, service, cursor)| SubChange::Created { id, name, service, cursor }),
        1 => (id(), settings()).prop_map(|(id, settings)| SubChange::Set { id, settings: Box::new(settings) }),
        1 => id().prop_map(|id| SubChange::Attached { id }),
        1 => (id(), time()).prop_map(|(id, at)| SubChange::Detached { id, at }),
        1 => id().prop_map(|id| SubChange::Forgotten { id }),
        1 => (id(), any::<u32>(), offset(), offset(), any::<bool>()).prop_map(|(id, generation, from, to, dead)| {
            SubChange::Moved { id, generation, replay: Replay { from, to, dead } }
        }),
    ]
}

fn ids() -> impl Strategy<Value = Box<IdRecord>> {
    let id = (any::<[u8; 16]>().prop_map(Fingerprint::from_bytes), of(offset()));
    (time(), 0_usize..3, any::<bool>(), vec(id, 0..4))
        .prop_map(|(now, forgotten, begins, ids)| Box::new(IdRecord { now, forgotten, begins, ids }))
}

/// One transaction on its own.
pub(crate) fn txn() -> impl Strategy<Value = Txn> {
    let event = || event().prop_map(Arc::new);
    let lists = (vec(event(), 0..4), of(settlement()), vec(kv(), 0..4), vec((0_u64..9, event()), 0..2));
    (
        0..u64::from(u32::MAX),
        offset(),
        lists,
        (vec(0_u64..9, 0..3), vec((0_u64..9, time()), 0..3)),
        (vec(sub_change(), 0..3), of(ids())),
    )
        .prop_map(|(seq, first_offset, (events, settlement, kv, delayed), (fired, lapsed), (subs, ids))| Txn {
            seq,
            first_offset,
            events,
            settlement,
            kv,
            delayed,
            fired,
            lapsed,
            subs,
            ids,
        })
}

/// Transactions that follow one another from the first.
pub(crate) fn history(most: usize) -> impl Strategy<Value = Vec<Txn>> {
    vec(txn(), 1..most).prop_map(|mut txns| {
        let mut offset = 0;
        for (i, txn) in txns.iter_mut().enumerate() {
            txn.seq = i as u64 + 1;
            txn.first_offset = offset;
            offset = txn.end_offset();
        }
        txns
    })
}
