//! Without threads: the caller decides when the log goes on.

use super::*;
use crate::Stage;
use crate::testing::ManualClock;

fn stepped(fs: &MemFs) -> (Log, Recovered) {
    let options = LogOptions { clock: Arc::new(ManualClock::default()), ..small(Durability::Sync) };
    Log::open_stepped(Arc::new(fs.clone()), &dir(), options).expect("the log opens")
}

#[test]
fn nothing_is_written_or_acknowledged_without_a_step() {
    let (fs, acked, mut source) = (MemFs::new(), Acked::default(), Source::new(1));
    let (log, _) = stepped(&fs);
    for _ in 0..3 {
        submit(&log, source.next(), &acked);
    }
    assert!(lock(&acked).is_empty() && log.groups_and_syncs() == (0, 0));
    assert!(log.step(Stage::Commit));
    assert_eq!((lock(&acked).len(), log.groups_and_syncs()), (3, (1, 1)), "all that waited is one group");
    submit(&log, source.next(), &acked);
    log.flush().expect("a flush steps by itself");
    submit(&log, source.next(), &acked);
    log.close().expect("and so does a close");
    assert_eq!(lock(&acked).len(), 5);
    assert!(!log.step(Stage::Commit));
    let (_, recovered) = open(&fs.crash(&mut SplitMix(0)), small(Durability::Sync));
    assert_eq!(recovered.state, source.state);
}

#[test]
fn the_same_steps_leave_the_same_files() {
    let run = |seed: u64| {
        let (fs, acked, mut source, mut random) = (MemFs::new(), Acked::default(), Source::new(3), SplitMix(seed));
        let (log, _) = stepped(&fs);
        for _ in 0..600 {
            match random.next_u64() % 6 {
                0..3 => submit(&log, source.next(), &acked),
                3 => drop(log.step(Stage::Checkpoint)),
                4 => drop(log.step(Stage::Prepare)),
                _ => drop(log.step(Stage::Commit)),
            }
        }
        assert!(segments(&fs).len() > 3, "it rotated: {:?}", segments(&fs));
        let mut contents = Vec::new();
        for path in fs.files().into_keys().filter(|path| path.extension().is_some_and(|e| e == "seg")) {
            fs.edit(&path, |bytes| contents.push((path.clone(), bytes.clone())));
        }
        drop(log);
        let (_, recovered) = open(&fs.killed(), small(Durability::Sync));
        assert_eq!(recovered.state, source.state);
        (contents, lock(&acked).iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
    };
    assert!(run(5) == run(5), "a seed gives the same files");
    assert!(run(5) != run(6));
}

#[test]
fn nothing_is_released_before_what_made_it_needless_is_safe() {
    let fs = MemFs::new();
    let (log, _) = stepped(&fs);
    let acked = Acked::default();
    for seq in 1..=400 {
        submit(&log, bare(seq), &acked);
        while [Stage::Commit, Stage::Checkpoint, Stage::Prepare].map(|stage| log.step(stage)).contains(&true) {}
    }
    assert!(segments(&fs).len() > 2, "it rotated: {:?}", segments(&fs));
    // Decided, and not written: a node that is killed now starts without it.
    submit(&log, bare(401), &acked);
    log.release_before(400).expect("it is noted");
    while log.step(Stage::Upkeep) {}
    assert_eq!(log.oldest(), 0, "the events may be needed again");
    let (before, _) = open(&fs.killed(), small(Durability::Sync));
    assert_eq!(before.fetch(&[0]).expect("readable").len(), 1);
    assert!(log.step(Stage::Commit));
    log.release_before(400).expect("releases");
    assert!(log.oldest() > 0, "now they are not");
}
