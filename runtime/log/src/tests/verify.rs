//! `verify` tells what is wrong, where, and what a start would do; and changes nothing.

use super::*;
use crate::{IndexState, verify};

/// A closed log of several segments with footers.
fn closed(durability: Durability) -> MemFs {
    let mut source = Source::new(31);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(durability));
    for _ in 0..600 {
        commit(&log, source.next()).expect("commits");
    }
    log.settle_upkeep();
    log.close().expect("closes");
    drop(log);
    fs.killed()
}

#[test]
fn an_intact_log_is_said_to_be_intact_and_is_not_changed() {
    let fs = closed(Durability::Sync);
    let before = fs.files();
    let found = verify(&fs, &dir()).expect("verifies");
    assert_eq!(fs.files(), before);
    assert!(!found.is_damaged() && found.problems.is_empty(), "{found:?}");
    assert_eq!((found.transactions(), found.proven), (600, 600));
    assert!(found.segments.iter().rev().skip(1).all(|s| s.intact && s.index == IndexState::Good));
    let start = found.start.expect("opens");
    let (_, recovered) = open(&fs, small(Durability::Sync));
    assert_eq!((start.checkpoint, start.replayed), (recovered.report.checkpoint, recovered.report.replayed));
    assert!(start.checkpoint.is_some());
}

#[test]
fn a_folder_in_use_or_of_others_is_not_looked_at() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    assert!(matches!(verify(&fs, &dir()), Err(LogError::Locked { .. })));
    drop(log);
    assert!(!verify(&fs, &dir()).expect("verifies").is_damaged());
    assert!(matches!(verify(&fs, Path::new("/elsewhere")), Err(LogError::NotADataFolder { .. })));
}

#[test]
fn every_damage_is_told_with_its_file_and_place() {
    let fs = closed(Durability::Sync);
    let files = fs.files();
    let mut checked = 0;
    for (path, size) in &files {
        let Some(kind) = path.extension().and_then(|e| e.to_str()).filter(|e| ["seg", "idx"].contains(e)) else {
            continue;
        };
        let intact = verify(&fs.killed(), &dir()).expect("verifies");
        let used = intact.segments.iter().find(|s| s.file == *path).map_or(*size, |s| s.bytes as usize);
        for at in (0..used).step_by(used / 10) {
            let bad = fs.killed();
            assert!(bad.edit(path, |bytes| bytes[at] ^= 0x20));
            let found = verify(&bad, &dir()).expect("verifies");
            let told = found.problems.iter().find(|p| p.file == *path);
            let told = told.unwrap_or_else(|| panic!("{} at {at}: {:?}", path.display(), found.problems));
            assert!(told.at <= at as u64, "{told:?} for {at}");
            // The last seal stands for itself alone: without it nothing is lost.
            let seal = intact.segments.last().is_some_and(|s| s.file == *path && told.at + 33 == s.bytes);
            assert_eq!(told.stored, kind == "seg" && !seal, "{told:?}");
            assert_eq!(found.is_damaged(), !seal);
            // What it says of a start is what a start does.
            let started = try_open(&bad, small(Durability::Sync)).map(|(_, recovered)| recovered.report.replayed);
            match (found.start, started) {
                (Ok(said), Ok(replayed)) => assert_eq!(said.replayed, replayed),
                (Err(said), Err(error)) => assert_eq!(said.to_string(), error.to_string()),
                (said, done) => panic!("{} at {at}: said {said:?}, did {done:?}", path.display()),
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} places");
}

#[test]
fn an_interrupted_write_is_no_damage() {
    let mut source = Source::new(33);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Memory));
    for _ in 0..10 {
        commit(&log, source.next()).expect("commits");
    }
    log.close().expect("closes");
    drop(log);
    let path = segments(&fs).pop().expect("a segment");
    let intact = verify(&fs, &dir()).expect("verifies");
    let end = intact.segments.last().expect("a segment").bytes as usize;
    assert!(fs.edit(&path, |bytes| bytes[end - 3..].fill(0)));
    let found = verify(&fs, &dir()).expect("verifies");
    assert!(!found.is_damaged(), "{found:?}");
    let told = &found.problems[0];
    assert!(told.file == path && !told.stored, "{told:?}");
    let cut = found.start.expect("opens").truncated.expect("something is cut off");
    assert_eq!((cut.file, cut.at), (path, told.at));
}
