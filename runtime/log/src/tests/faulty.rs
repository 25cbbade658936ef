//! A disk that fails in every way it can, everywhere: what was acknowledged is there, or the log refuses and says where.
//!
//! Each test prints how much it exercised: `cargo test -p busway-log faulty -- --nocapture`.

#![expect(clippy::print_stdout, reason = "how much was exercised is part of the result")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

/// Transactions of one run: enough for some segments, checkpoints, footers and releases.
const TXNS: usize = 200;

/// What is submitted in every run, and when segments are released.
fn script() -> Vec<Txn> {
    let mut source = Source::new(77);
    (0..TXNS).map(|_| source.next()).collect()
}

/// Submits the script until something fails; gives how many transactions were acknowledged.
fn run(fs: &MemFs, txns: &[Txn], acked: &AtomicU64) {
    let Ok((log, _)) = try_open(fs, small(Durability::Sync)) else { return };
    let mut state = State::default();
    for (i, txn) in txns.iter().enumerate() {
        if commit(&log, txn.clone()).is_err() {
            // Nothing is acknowledged after a failure.
            let next = txns.get(i + 1).cloned().unwrap_or_default();
            assert!(commit(&log, next).is_err() && log.flush().is_err());
            return;
        }
        state.apply(txn);
        acked.store(txn.seq, Ordering::SeqCst);
        if i % 40 == 39 {
            // Either may have failed by now, which the next submission tells.
            drop(log.release_before(state.needed_from()));
            log.settle_upkeep();
        }
    }
    drop(log.close());
}

/// The disk, opened again without faults, has a prefix of the script with all that was acknowledged.
fn check(fs: &MemFs, txns: &[Txn], acked: u64, what: &str) {
    let (log, recovered) = try_open(fs, small(Durability::Sync)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let kept = recovered.state.next_seq - 1;
    assert!(kept >= acked, "{what}: {acked} were acknowledged and {kept} are left");
    assert_eq!(recovered.state, state_after(&txns[..kept as usize]), "{what}");
    let oldest = log.oldest();
    assert!(oldest <= recovered.state.needed_from(), "{what}");
    let mut expected = events_of(&txns[..kept as usize]);
    expected.retain(|(offset, _)| *offset >= oldest);
    assert_eq!(read_all(&log, 0), expected, "{what}");
}

#[test]
fn power_cuts_and_kills_before_any_change_of_the_disk_lose_nothing_acknowledged() {
    let txns = script();
    let mut stops: BTreeMap<&str, u64> = BTreeMap::new();
    for step in 0..3_u64 {
        let fs = MemFs::new();
        let acked = Arc::new(AtomicU64::new(0));
        let seen: Arc<Mutex<Vec<(u64, u64, MemFs)>>> = Arc::default();
        let (count, disks) = (acked.clone(), seen.clone());
        fs.watch(move |number, disk| {
            if number % 3 == step {
                // First what was acknowledged, then the disk: it has at least that.
                let safe = count.load(Ordering::SeqCst);
                let mut random = SplitMix(number);
                let lost = [disk.crash(&mut random), disk.crash(&mut random)];
                let killed = disk.killed();
                let mut disks = lock(&disks);
                disks.extend(lost.map(|disk| (number, safe, disk)));
                disks.push((u64::MAX, safe, killed));
            }
            // The disks are checked as they come, so that they do not pile up.
            if lock(&disks).len() > 40 {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        std::thread::scope(|scope| {
            let runner = scope.spawn(|| run(&fs, &txns, &acked));
            loop {
                let ended = runner.is_finished();
                for (number, safe, disk) in std::mem::take(&mut *lock(&seen)) {
                    check(&disk, &txns, safe, &format!("stopped before change {number}"));
                    *stops.entry(if number == u64::MAX { "kills" } else { "power cuts" }).or_default() += 1;
                }
                if ended {
                    break;
                }
            }
        });
        assert_eq!(acked.load(Ordering::SeqCst), TXNS as u64);
    }
    println!("stopped before a change of the disk: {stops:?}");
    assert!(stops.values().all(|n| *n > 400), "{stops:?}");
}

/// Lets this many operations succeed and those after them fail.
type Inject = fn(&MemFs, u64);

#[test]
fn writes_and_syncs_that_fail_anywhere_lose_nothing_acknowledged() {
    let txns = script();
    let faults: [(&str, Inject); 3] = [
        ("failed writes", |fs, n| fs.fail_writes_after(n, std::io::ErrorKind::Other)),
        ("short writes", MemFs::tear_writes_after),
        ("failed syncs", MemFs::fail_syncs_after),
    ];
    let mut injected: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, inject) in faults {
        for n in (0..400).step_by(3) {
            let fs = MemFs::new();
            inject(&fs, n);
            let acked = AtomicU64::new(0);
            run(&fs, &txns, &acked);
            let safe = acked.load(Ordering::SeqCst);
            if safe == TXNS as u64 {
                break;
            }
            let what = format!("{name} from the {n}th on");
            check(&fs.crash(&mut SplitMix(n)), &txns, safe, &what);
            check(&fs.killed(), &txns, safe, &what);
            *injected.entry(name).or_default() += 1;
        }
    }
    println!("runs with a fault: {injected:?}");
    assert!(injected.len() == 3 && injected.values().all(|n| *n > 40), "{injected:?}");
}

#[test]
fn a_disk_that_is_full_anywhere_and_has_room_again_loses_and_fails_nothing() {
    let txns = script();
    let mut waited = 0;
    for n in (0..250).step_by(7) {
        let fs = MemFs::new();
        let (log, _) = open(&fs, small(Durability::Sync));
        fs.fail_writes_after(n, std::io::ErrorKind::StorageFull);
        std::thread::scope(|scope| {
            let all = || txns.iter().try_for_each(|txn| commit(&log, txn.clone()));
            let writer = scope.spawn(all);
            while !writer.is_finished() && log.space() != crate::Space::Last {
                std::thread::sleep(Duration::from_millis(1));
            }
            waited += u64::from(!writer.is_finished());
            fs.fail_writes_after(u64::MAX, std::io::ErrorKind::Other);
            let written = writer.join().expect("the writer ends");
            written.unwrap_or_else(|error| panic!("full from the {n}th write on: {error}"));
        });
        log.close().expect("closes");
        drop(log);
        check(&fs.crash(&mut SplitMix(n)), &txns, TXNS as u64, "full for a while");
    }
    println!("disks that were full for a while: {waited}");
    assert!(waited > 20, "{waited}");
}

/// What became of one flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flip {
    /// Nothing was lost.
    Intact,
    /// Refused at the start.
    RefusedAtStart,
    /// Refused when what is damaged was read.
    RefusedWhenRead,
    /// The last, unsealed group was cut off.
    LastGroup,
}

fn flipped(fs: &MemFs, (path, place): (&Path, usize), txns: &[Txn], unsealed: u64) -> Flip {
    let names = |error: &LogError| match error {
        LogError::Damaged { file, at, .. } => {
            assert!(file == path && *at <= place as u64, "flipped at {place}: {error}");
        }
        LogError::Version { file, .. } => assert_eq!(file, path, "{error}"),
        other => panic!("{}: {other}", path.display()),
    };
    let (log, recovered) = match try_open(fs, small(Durability::Sync)) {
        Ok(opened) => opened,
        Err(error) => {
            names(&error);
            return Flip::RefusedAtStart;
        }
    };
    let kept = recovered.state.next_seq - 1;
    assert!(kept == txns.len() as u64 || kept >= unsealed, "{}: only {kept} are left", path.display());
    assert_eq!(recovered.state, state_after(&txns[..kept as usize]), "{}", path.display());
    let expected = events_of(&txns[..kept as usize]);
    let mut at = log.oldest();
    while at < log.written_offset() {
        match log.read(at, &[], 50, usize::MAX) {
            Ok((events, next)) => {
                for logged in events {
                    assert_eq!(expected[logged.offset as usize], (logged.offset, logged.event), "{}", path.display());
                }
                at = next;
            }
            Err(error) => {
                names(&error);
                return Flip::RefusedWhenRead;
            }
        }
    }
    assert_eq!(at, log.written_offset());
    if kept == txns.len() as u64 { Flip::Intact } else { Flip::LastGroup }
}

#[test]
fn a_flipped_bit_in_any_file_is_harmless_or_refused_with_its_file() {
    let mut source = Source::new(78);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    for i in 0..400 {
        commit(&log, source.next()).expect("commits");
        if i % 100 == 99 {
            log.settle_upkeep();
        }
    }
    // Sealed but for the last transaction.
    std::thread::sleep(Duration::from_millis(100));
    let unsealed = source.txns.len() as u64;
    commit(&log, source.next()).expect("commits");
    let stopped = fs.killed();
    let mut outcomes: BTreeMap<(String, Flip), u64> = BTreeMap::new();
    for (path, size) in stopped.files() {
        let kind = path.extension().map_or_else(|| "other".to_owned(), |e| e.to_string_lossy().into_owned());
        for i in 0..(size.min(60)) {
            let at = i * size / size.min(60);
            let bad = stopped.killed();
            assert!(bad.edit(&path, |bytes| bytes[at] ^= 1 << (i % 8)));
            let outcome = flipped(&bad, (&path, at), &source.txns, unsealed);
            *outcomes.entry((kind.clone(), outcome)).or_default() += 1;
        }
    }
    println!("flipped bits, by kind of file and outcome: {outcomes:#?}");
    let of = |outcome: Flip| outcomes.iter().filter(|((_, o), _)| *o == outcome).map(|(_, n)| n).sum::<u64>();
    assert!(of(Flip::Intact) > 100 && of(Flip::RefusedAtStart) > 50 && of(Flip::RefusedWhenRead) > 50, "{outcomes:?}");
    assert!(outcomes.contains_key(&("idx".to_owned(), Flip::Intact)), "{outcomes:?}");
    assert!(outcomes.keys().all(|(kind, outcome)| kind != "idx" || *outcome == Flip::Intact), "{outcomes:?}");
}
