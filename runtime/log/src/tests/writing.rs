//! Committing: in groups, in order, never after a failure; and giving room back.

use std::io::ErrorKind;
use std::time::Duration;

use super::*;
use crate::Space;

#[test]
fn many_submissions_share_few_syncs_and_are_answered_in_order() {
    let fs = MemFs::new();
    let (log, _) =
        open(&fs, LogOptions { segment_bytes: 1 << 20, first_segment_bytes: 1 << 20, ..small(Durability::Sync) });
    fs.set_sync_time(Duration::from_millis(2));
    let acked = Acked::default();
    (1..=1_000).for_each(|seq| submit(&log, bare(seq), &acked));
    log.flush().expect("flushes");
    let (groups, syncs) = log.groups_and_syncs();
    assert!(syncs < 200 && groups < 200, "{groups} groups and {syncs} syncs for 1,000 submissions");
    let acked = lock(&acked);
    assert!(acked.iter().map(|(seq, _)| *seq).eq(1..=1_000) && acked.iter().all(|(_, result)| result.is_ok()));
    assert_eq!((log.queued_bytes(), log.synced_offset(), log.written_offset()), (0, 1_000, 1_000));
}

#[test]
fn a_failed_sync_is_not_tried_again_and_everything_after_it_is_refused() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    commit(&log, bare(1)).expect("commits");
    fs.fail_syncs_after(0);
    let first = commit(&log, bare(2)).expect_err("the sync failed").to_string();
    assert!(first.starts_with("syncing /data/bus/00000000000000000001.seg failed: "), "{first}");
    fs.fail_syncs_after(1_000);
    assert_eq!(commit(&log, bare(3)).expect_err("poisoned").to_string(), first);
    assert_eq!(log.flush().expect_err("poisoned").to_string(), first);
    assert_eq!(log.close().expect_err("poisoned").to_string(), first);
}

#[test]
fn a_write_that_found_the_disk_full_waits_for_room_and_goes_through() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    commit(&log, bare(1)).expect("commits");
    log.settle_upkeep();
    fs.fail_writes_after(0, ErrorKind::StorageFull);
    let acked = Acked::default();
    submit(&log, bare(2), &acked);
    wait_until("it waits", || log.space() == Space::Last);
    std::thread::sleep(Duration::from_millis(50));
    assert!(lock(&acked).is_empty() && log.failure().is_none(), "nothing is acknowledged, nothing has failed");
    fs.fail_writes_after(u64::MAX, ErrorKind::StorageFull);
    log.flush().expect("there is room again");
    assert!(lock(&acked)[0].1.is_ok());
    wait_until("it is over", || log.space() == Space::Enough);
    drop(log);
    let (_, recovered) = open(&fs.crash(&mut SplitMix(4)), small(Durability::Sync));
    assert_eq!(recovered.state.next_seq, 3);
}

#[test]
fn a_full_disk_is_known_before_it_stops_anything_and_over_when_there_is_room() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    log.settle_upkeep();
    wait_until("the reserve is there", || fs.files().values().filter(|size| **size >= 4096).count() == 2);
    fs.set_capacity(Some(fs.files().values().sum::<usize>() as u64));
    let mut seq = 0;
    let mut write_while = |least: u64, space: &dyn Fn(Space) -> bool| {
        let before = seq;
        while space(log.space()) {
            seq += 1;
            commit(&log, bare(seq)).expect("commits");
            if seq % 5 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(seq >= before + least, "only {} fitted", seq - before);
    };
    // Everybody, then transactions, then what must fit.
    write_while(5, &|space| space == Space::Enough);
    write_while(3, &|space| space == Space::Low);
    assert_eq!(log.space(), Space::Last);
    let acked = Acked::default();
    for i in 1..=200 {
        let settlement = Some(SettleRecord { cursor: i, ..SettleRecord::of(SubId(0)) });
        submit(&log, Txn { seq: seq + i, first_offset: seq, settlement, ..Txn::default() }, &acked);
        if i < 30 {
            wait_until("what must fit fits", || lock(&acked).len() as u64 == i);
        }
    }
    assert!(lock(&acked).iter().all(|(_, result)| result.is_ok()) && log.failure().is_none());
    fs.set_capacity(None);
    log.flush().expect("there is room again");
    assert_eq!(lock(&acked).len(), 200);
    wait_until("it is over", || log.space() == Space::Enough);
    log.close().expect("closes");
    let (log, recovered) = open(&fs.crash(&mut SplitMix(5)), small(Durability::Sync));
    assert_eq!((recovered.state.next_seq, log.written_offset()), (seq + 201, seq));
}

#[test]
fn a_log_that_waits_for_room_can_be_closed_and_loses_nothing_acknowledged() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    fs.set_capacity(Some(1_000));
    let acked = Acked::default();
    (1..=500).for_each(|seq| submit(&log, bare(seq), &acked));
    wait_until("it waits", || log.space() == Space::Last);
    let error = log.close().expect_err("not all is written");
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert_eq!(lock(&acked).len(), 500, "everybody is told");
    let safe = lock(&acked).iter().filter(|(_, result)| result.is_ok()).count() as u64;
    drop(log);
    fs.set_capacity(None);
    let (log, _) = open(&fs.killed(), small(Durability::Sync));
    assert!(read_all(&log, 0).len() as u64 >= safe);
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let found = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        is_so()
    });
    assert!(found, "{what}");
}

#[test]
fn a_gap_in_the_numbers_is_refused() {
    let (log, _) = open(&MemFs::new(), small(Durability::Sync));
    commit(&log, bare(1)).expect("commits");
    let error = commit(&log, bare(3)).expect_err("a gap");
    assert_eq!(
        error.to_string(),
        "transaction 3 (offset 2) was submitted where 2 (offset 1) was due; restart the node and report this"
    );
}

#[test]
fn a_closed_log_answers_at_once() {
    let (log, _) = open(&MemFs::new(), small(Durability::Sync));
    log.close().expect("closes");
    assert!(matches!(commit(&log, bare(1)), Err(LogError::Closed)));
    assert!(matches!(log.flush(), Err(LogError::Closed)));
}

#[test]
fn closing_waits_for_what_is_queued() {
    let fs = MemFs::new();
    fs.set_sync_time(Duration::from_millis(1));
    let (log, _) = open(&fs, small(Durability::Sync));
    let acked = Acked::default();
    (1..=300).for_each(|seq| submit(&log, bare(seq), &acked));
    log.close().expect("closes");
    assert_eq!(lock(&acked).iter().filter(|(_, result)| result.is_ok()).count(), 300);
    let (_, recovered) = open(&fs.crash(&mut SplitMix(1)), small(Durability::Sync));
    assert_eq!(recovered.state.next_seq, 301);
}

#[test]
fn released_segments_are_used_again_and_the_log_stays_small() {
    for durability in [Durability::Sync, Durability::Memory] {
        let fs = MemFs::new();
        let (log, _) = open(&fs, small(durability));
        let mut most = 0;
        for seq in 1..=3_000 {
            commit(&log, bare(seq)).expect("commits");
            log.release_before(seq - 1).expect("releases");
            if seq % 10 == 0 {
                log.settle_upkeep();
            }
            most = most.max(fs.files().len());
        }
        assert!(most <= 16, "{most} files");
        let oldest = log.oldest();
        assert!(oldest > 2_500, "the oldest is {oldest}");
        assert_eq!(read_all(&log, 0).first().map(|(offset, _)| *offset), Some(oldest));
        assert_eq!(log.fetch(&[0, 2_999]).expect("readable").len(), 1);
        drop(log);
        let (log, recovered) = open(&fs.killed(), small(durability));
        assert_eq!((recovered.state.next_seq, log.oldest()), (3_001, oldest));
        assert!(recovered.report.checkpoint.is_some());
        assert!(recovered.report.replayed < 500, "{:?}", recovered.report);
    }
}

#[test]
fn nothing_that_is_needed_is_released() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    (1..=1_000).for_each(|seq| submit(&log, bare(seq), &Acked::default()));
    log.flush().expect("flushes");
    log.release_before(400).expect("releases");
    assert!(log.oldest() <= 400);
    assert_eq!(log.fetch(&[400]).expect("readable").len(), 1);
    // A log whose every event may go still keeps the segment that is being written, and what a replay needs.
    log.release_before(u64::MAX).expect("releases");
    drop(log);
    let (_, recovered) = open(&fs.killed(), small(Durability::Sync));
    assert_eq!((recovered.state.next_seq, recovered.state.next_offset), (1_001, 1_000));
}

#[test]
fn a_checkpoint_and_the_records_after_it_give_the_live_state() {
    let mut source = Source::new(11);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    for i in 0..2_000 {
        let txn = source.next();
        submit(&log, txn, &Acked::default());
        if i % 50 == 0 {
            log.flush().expect("flushes");
        }
    }
    log.settle_checkpoint();
    log.close().expect("closes");
    let (_, recovered) = open(&fs, small(Durability::Sync));
    assert_eq!(recovered.state, source.state);
    let covers = recovered.report.checkpoint.expect("a checkpoint");
    assert_eq!(recovered.report.replayed, 2_000 - covers);
}

#[test]
fn a_checkpoint_larger_than_a_segment_is_written_between_groups_and_read_back() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    let mut state = State::default();
    let acked = Acked::default();
    for seq in 1..=6_000 {
        let op = KvWrite::Set { key: format!("key-{seq}").into(), value: Bytes::from(vec![b'v'; 200]) };
        let txn = Txn { seq, kv: vec![KvRecord { service: service(), op }], ..Txn::default() };
        state.apply(&txn);
        submit(&log, txn, &acked);
    }
    log.settle_checkpoint();
    log.close().expect("closes");
    assert!(state.kv_bytes(&service()).expect("in memory") > 1_000_000);
    let (_, recovered) = open(&fs, small(Durability::Sync));
    assert_eq!(recovered.state, state);
    assert!(recovered.report.checkpoint.is_some());
}
