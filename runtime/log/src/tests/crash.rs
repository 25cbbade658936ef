//! Whatever stops the log, what it acknowledged is there afterwards, and nothing but a prefix of what was submitted.

use std::time::Duration;

use super::*;

/// Runs, stops in a way given by `stop`, opens again and checks, several times over.
fn survives(
    seed: u64,
    durability: Durability,
    rounds: u64,
    stop: impl Fn(&MemFs, &mut SplitMix) -> MemFs,
    loses: bool,
) {
    let mut source = Source::new(seed);
    let mut fs = MemFs::new();
    for round in 0..rounds {
        let (log, recovered) = open(&fs, small(durability));
        assert_eq!(recovered.state, source.state, "seed {seed} round {round}");
        let acked = Acked::default();
        let count = source.below(120);
        for _ in 0..count {
            let txn = source.next();
            submit(&log, txn, &acked);
            if source.below(20) == 0 {
                log.flush().expect("flushes");
            }
            if source.below(30) == 0 {
                log.release_before(source.state.needed_from()).expect("releases");
            }
        }
        if source.below(3) == 0 {
            // Long enough for a seal.
            std::thread::sleep(Duration::from_millis(60));
        }
        // First what was acknowledged, then the disk: the other way round would miss what was written in between.
        let safe = lock(&acked).last().map_or(0, |(seq, _)| *seq);
        let mut random = SplitMix(seed * 1_000 + round);
        let stopped = stop(&fs, &mut random);
        drop(log);
        let again = stopped.killed();
        let (log, recovered) = open(&again, small(durability));
        let kept = recovered.state.next_seq - 1;
        assert!(loses || kept >= safe, "seed {seed} round {round}: {safe} was acknowledged and {kept} is left");
        source.back_to(usize::try_from(kept).expect("small"));
        assert_eq!(recovered.state, source.state, "seed {seed} round {round}: state after {kept}");
        let oldest = log.oldest();
        assert!(oldest <= source.state.needed_from());
        let mut expected = events_of(&source.txns);
        expected.retain(|(offset, _)| *offset >= oldest);
        assert_eq!(read_all(&log, 0), expected, "seed {seed} round {round}");
        drop(log);
        fs = again.killed();
    }
}

#[test]
fn nothing_synced_is_lost_when_the_power_goes() {
    for seed in 0..40 {
        survives(seed, Durability::Sync, 4, |fs, random| fs.crash(random), false);
    }
}

#[test]
fn nothing_written_is_lost_when_the_process_is_killed() {
    for seed in 0..10 {
        for durability in [Durability::Memory, Durability::Interval(Duration::from_millis(5)), Durability::Sync] {
            survives(seed, durability, 3, |fs, _| fs.killed(), false);
        }
    }
}

#[test]
fn a_prefix_is_left_when_the_power_goes_before_a_sync() {
    for seed in 100..125 {
        for durability in [Durability::Memory, Durability::Interval(Duration::from_millis(5))] {
            survives(seed, durability, 3, |fs, random| fs.crash(random), true);
        }
    }
}

#[test]
fn what_was_flushed_survives_the_power_with_interval_durability() {
    let mut source = Source::new(5);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Interval(Duration::from_hours(1))));
    for _ in 0..30 {
        commit(&log, source.next()).expect("commits");
    }
    log.flush().expect("flushes");
    let (_, recovered) = open(&fs.crash(&mut SplitMix(0)), small(Durability::Sync));
    assert_eq!(recovered.state, source.state);
}

#[test]
fn interval_durability_syncs_by_itself() {
    let mut source = Source::new(6);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Interval(Duration::from_millis(5))));
    commit(&log, source.next()).expect("commits");
    std::thread::sleep(Duration::from_millis(200));
    let (_, recovered) = open(&fs.crash(&mut SplitMix(0)), small(Durability::Sync));
    assert_eq!(recovered.state.next_seq, 2);
}

#[test]
fn what_only_the_cache_had_is_written_again_before_it_is_served() {
    let mut source = Source::new(9);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    commit(&log, source.next()).expect("commits");
    fs.fail_syncs_after(0);
    commit(&log, source.next()).expect_err("the sync failed");
    drop(log);
    // The process starts again: reads still show the record, although the disk never got it.
    let again = fs.killed();
    let (log, recovered) = open(&again, small(Durability::Sync));
    assert_eq!(recovered.state.next_seq, 3);
    assert!(recovered.report.rewritten > 0);
    drop(log);
    let (_, recovered) = open(&again.crash(&mut SplitMix(0)), small(Durability::Sync));
    assert_eq!(recovered.state.next_seq, 3, "what was served once is there for good");
}
