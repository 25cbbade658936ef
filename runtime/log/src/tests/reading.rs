//! Events come back by offset, over any number of segments, while more are written.

use std::ops::ControlFlow;

use super::*;

/// A log of `count` events of 100 bytes over several segments, one event in a transaction.
fn filled(count: u64) -> (MemFs, Log) {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Memory));
    for offset in 0..count {
        let txn =
            Txn { seq: offset + 1, first_offset: offset, events: vec![Arc::new(event(offset, 100))], ..Txn::default() };
        log.submit(vec![txn], Box::new(|result| result.expect("commits")));
    }
    log.flush().expect("flushes");
    (fs, log)
}

fn offsets(events: &[busway_types::Logged]) -> Vec<Offset> {
    events.iter().map(|logged| logged.offset).collect()
}

#[test]
fn settlements_are_found_behind_their_event() {
    let (_fs, log) = filled(300);
    let settled = |offset: u64| {
        let record = SettleRecord { acked: vec![offset], time: Some(Timestamp(offset)), ..SettleRecord::of(SubId(1)) };
        Txn { seq: 301 + offset, first_offset: 300, settlement: Some(record), ..Txn::default() }
    };
    log.submit((0..3).map(settled).collect(), Box::new(|result| result.expect("commits")));
    log.flush().expect("flushes");
    let mut seen = Vec::new();
    let ended = log.settlements(250, &mut |record| {
        seen.extend(record.map(|record| (record.acked[0], record.time)));
        ControlFlow::Continue(())
    });
    assert!(ended.expect("readable").is_continue());
    assert_eq!(seen, [0, 1, 2].map(|offset| (offset, Some(Timestamp(offset)))));
    let mut frames = 0;
    let ended = log.settlements(0, &mut |_| {
        frames += 1;
        if frames < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert!(ended.expect("readable").is_break() && frames == 100);
}

#[test]
fn reads_go_on_across_segments() {
    let (fs, log) = filled(500);
    assert!(segments(&fs).len() > 4);
    let (events, next) = log.read(0, &[], usize::MAX, usize::MAX).expect("readable");
    assert_eq!(next, 500);
    assert_eq!(offsets(&events), (0..500).collect::<Vec<_>>());
    assert!(events.iter().all(|logged| *logged.event == event(logged.offset, 100)));
    for from in 0..500 {
        let (events, next) = log.read(from, &[], 3, usize::MAX).expect("readable");
        assert_eq!((offsets(&events), next), ((from..500.min(from + 3)).collect(), 500.min(from + 3)));
    }
}

#[test]
fn a_read_gives_what_is_selected_and_where_to_go_on() {
    let (_fs, log) = filled(100);
    let placed = ["shop.orders.placed".parse().expect("a pattern")];
    let nothing = ["shop.*".parse().expect("a pattern"), "other.>".parse().expect("a pattern")];
    let (events, next) = log.read(10, &placed, 4, usize::MAX).expect("readable");
    assert_eq!((offsets(&events), next), (vec![12, 15, 18, 21], 22));
    let (events, next) = log.read(10, &nothing, 4, usize::MAX).expect("readable");
    assert_eq!((offsets(&events), next), (vec![], 100));
    let (events, next) = log.read(100, &[], 4, usize::MAX).expect("readable");
    assert_eq!((offsets(&events), next), (vec![], 100));
    let (events, next) = log.read(1_000, &[], 4, usize::MAX).expect("readable");
    assert_eq!((offsets(&events), next), (vec![], 1_000));
}

#[test]
fn a_read_stops_at_its_bytes_and_gives_at_least_one_event() {
    let (_fs, log) = filled(100);
    let one = event(0, 100).cost();
    let (events, next) = log.read(0, &[], usize::MAX, 1).expect("readable");
    assert_eq!((offsets(&events), next), (vec![0], 1));
    let (events, next) = log.read(0, &[], usize::MAX, 4 * one + 20).expect("readable");
    assert_eq!((offsets(&events), next), (vec![0, 1, 2, 3], 4));
}

#[test]
fn single_events_are_fetched_and_unknown_ones_left_out() {
    let (_fs, log) = filled(300);
    let found = log.fetch(&[299, 7, 8, 150, 300, 5_000, 0]).expect("readable");
    assert_eq!(offsets(&found), vec![299, 7, 8, 150, 0]);
    assert!(found.iter().all(|logged| *logged.event == event(logged.offset, 100)));
}

#[test]
fn an_event_is_found_by_its_id() {
    let (_fs, log) = filled(300);
    let found = log.find(EventId::from_u128(222)).expect("readable").expect("found");
    assert_eq!(found.offset, 222);
    assert_eq!(log.find(EventId::from_u128(999)).expect("readable"), None);
}

#[test]
fn large_payloads_and_large_batches_come_back_whole() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, LogOptions { segment_bytes: 1 << 20, ..small(Durability::Sync) });
    let large: Vec<Arc<Event>> = (0..3).map(|i| Arc::new(event(i, 700_000))).collect();
    commit(&log, Txn { seq: 1, events: large.clone(), ..Txn::default() }).expect("commits");
    let many: Vec<Arc<Event>> = (3..1_003).map(|i| Arc::new(event(i, 64))).collect();
    commit(&log, Txn { seq: 2, first_offset: 3, events: many.clone(), ..Txn::default() }).expect("commits");
    let expected: Vec<_> = (0..).zip(large.into_iter().chain(many)).collect();
    assert_eq!(read_all(&log, 0), expected);
    drop(log);
    let (log, _) = open(&fs, small(Durability::Sync));
    assert_eq!(read_all(&log, 0), expected);
    assert_eq!(offsets(&log.fetch(&[1_002, 1, 500]).expect("readable")), vec![1_002, 1, 500]);
}

#[test]
fn a_record_that_went_bad_while_the_log_is_open_is_reported() {
    let (fs, log) = filled(20);
    let path = segments(&fs).remove(0);
    assert!(fs.edit(&path, |bytes| bytes[200] ^= 1));
    assert!(matches!(log.read(0, &[], 10, usize::MAX), Err(LogError::Damaged { file, .. }) if file == path));
}

#[test]
fn readers_see_only_whole_records_while_they_are_written() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut at = 0;
            while at < 2_000 {
                let (events, next) = log.read(at, &[], 100, usize::MAX).expect("readable");
                assert_eq!(offsets(&events), (at..next).collect::<Vec<_>>());
                at = next;
            }
        });
        for offset in 0..2_000 {
            let events = vec![Arc::new(event(offset, 40))];
            let txn = Txn { seq: offset + 1, first_offset: offset, events, ..Txn::default() };
            log.submit(vec![txn], Box::new(|result| result.expect("commits")));
        }
        reader.join().expect("the reader saw all");
    });
}
