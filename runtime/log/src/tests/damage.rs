//! Damage is refused where something safe is lost, and cut off where nothing is.

use std::time::Duration;

use super::*;

/// A log of `count` transactions in one segment, and where each of its records begins in the file.
fn one_segment(count: usize, durability: Durability) -> (MemFs, Vec<Txn>, PathBuf, Vec<u64>) {
    let mut source = Source::new(3);
    let fs = MemFs::new();
    let options = LogOptions { segment_bytes: 256 * 1024, first_segment_bytes: 256 * 1024, ..small(durability) };
    let (log, _) = open(&fs, options);
    let mut starts = Vec::new();
    for _ in 0..count {
        starts.push(log.bytes());
        commit(&log, source.next()).expect("commits");
    }
    starts.push(log.bytes());
    log.close().expect("closes");
    let path = segments(&fs).pop().expect("a segment");
    (fs, source.txns, path, starts)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_at_the_last_whole_record() {
    let (fs, txns, path, starts) = one_segment(12, Durability::Memory);
    let (first, end) = (starts[8], starts[12]);
    for cut in first..end {
        let torn = fs.killed();
        assert!(torn.edit(&path, |bytes| bytes[cut as usize..].fill(0)));
        let (log, recovered) = open(&torn, small(Durability::Sync));
        let kept = starts.iter().filter(|start| **start <= cut).count() - 1;
        assert_eq!(recovered.state, state_after(&txns[..kept]), "cut at {cut}");
        assert_eq!(read_all(&log, 0), events_of(&txns[..kept]));
        // And it can go on from there.
        let mut source = Source { random: SplitMix(cut), state: recovered.state, txns: txns[..kept].to_vec() };
        commit(&log, source.next()).expect("commits");
        drop(log);
        let (_, recovered) = open(&torn, small(Durability::Sync));
        assert_eq!(recovered.state, source.state, "cut at {cut}");
    }
}

#[test]
fn a_file_that_ends_anywhere_in_its_last_records_is_read_up_to_there() {
    let (fs, txns, path, starts) = one_segment(6, Durability::Memory);
    for cut in starts[4]..starts[6] {
        let torn = fs.killed();
        assert!(torn.edit(&path, |bytes| bytes.truncate(cut as usize)));
        let (_, recovered) = open(&torn, small(Durability::Sync));
        let kept = starts.iter().filter(|start| **start <= cut).count() - 1;
        assert_eq!(recovered.state, state_after(&txns[..kept]), "cut at {cut}");
    }
}

#[test]
fn an_unproven_record_with_a_flipped_bit_is_cut_off_with_all_behind_it() {
    let (fs, txns, path, starts) = one_segment(6, Durability::Memory);
    for at in starts[3]..starts[4] {
        let bad = fs.killed();
        assert!(bad.edit(&path, |bytes| bytes[at as usize] ^= 0x10));
        let (log, recovered) = open(&bad, small(Durability::Sync));
        assert_eq!(recovered.state, state_after(&txns[..3]), "flipped at {at}");
        let cut = recovered.report.truncated.expect("something was cut off");
        assert_eq!((cut.file, cut.at), (path.clone(), starts[3]));
        assert_eq!(cut.bytes, starts[6] - starts[3]);
        drop(log);
        // What was cut off does not come back, whatever is written in its place.
        let (_, recovered) = open(&bad, small(Durability::Sync));
        assert_eq!((recovered.state.next_seq, recovered.report.truncated), (4, None));
    }
}

#[test]
fn damage_below_what_was_synced_is_refused_and_nothing_is_changed() {
    let (fs, _, path, starts) = one_segment(6, Durability::Sync);
    for at in starts[0]..starts[6] {
        let bad = fs.killed();
        assert!(bad.edit(&path, |bytes| bytes[at as usize] ^= 0x10));
        let before = bad.files();
        let place = *starts.iter().rfind(|start| **start <= at).expect("a record");
        match try_open(&bad, small(Durability::Sync)).expect_err("refused") {
            LogError::Damaged { file, at, .. } => assert_eq!((file, at), (path.clone(), place)),
            other => panic!("{other}"),
        }
        assert_eq!(bad.files(), before);
    }
}

#[test]
fn synced_records_cut_off_are_refused_as_long_as_a_seal_behind_them_is_left() {
    let (fs, txns, path, starts) = one_segment(6, Durability::Sync);
    let bad = fs.killed();
    assert!(bad.edit(&path, |bytes| bytes[starts[2] as usize..starts[4] as usize].fill(0)));
    let error = try_open(&bad, small(Durability::Sync)).expect_err("refused");
    assert!(error.to_string().contains(&format!("is damaged at byte {}: record 3 is missing", starts[2])), "{error}");
    // Without anything behind it there is nothing to tell it from a log that ends there.
    let end = fs.killed();
    assert!(end.edit(&path, |bytes| bytes[starts[5] as usize..].fill(0)));
    let (_, recovered) = open(&end, small(Durability::Sync));
    assert_eq!(recovered.state, state_after(&txns[..5]));
}

#[test]
fn a_missing_segment_is_refused() {
    let mut source = Source::new(4);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    while segments(&fs).len() < 4 {
        commit(&log, source.next()).expect("commits");
    }
    log.close().expect("closes");
    for (missing, path) in segments(&fs).iter().enumerate().take(3) {
        let bad = fs.killed();
        crate::Fs::remove(&bad, path).expect("removed");
        let error = try_open(&bad, small(Durability::Sync)).map(|(_, r)| r.report);
        // The first may be missing when a checkpoint makes it needless; never one in the middle.
        assert!(missing == 0 || matches!(error, Err(LogError::Damaged { .. })), "{missing}: {error:?}");
    }
}

#[test]
fn a_record_of_a_newer_version_is_refused_by_file_and_place() {
    let (fs, _, path, starts) = one_segment(3, Durability::Memory);
    let newer = fs.killed();
    assert!(newer.edit(&path, |bytes| {
        // A whole record as a newer version might write it: a section with a tag that this one does not know.
        let salt = u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        let (start, end) = (starts[2] as usize, starts[3] as usize);
        bytes[start + 33] = 99;
        let crc = crc32c::crc32c_append(salt, &bytes[start + 4..end]);
        bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }));
    let error = try_open(&newer, small(Durability::Sync)).expect_err("refused");
    let start = format!("{} has section 99 at byte {} that", path.display(), starts[2]);
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn a_record_that_follows_another_than_the_one_before_it_is_cut_off() {
    let (fs, txns, path, starts) = one_segment(6, Durability::Memory);
    let other = fs.killed();
    assert!(other.edit(&path, |bytes| {
        // Record 3 is written again with another content of the same length, in front of what was behind the first.
        let salt = u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        let (start, end) = (starts[2] as usize, starts[3] as usize);
        bytes[start + 24] += 1;
        let crc = crc32c::crc32c_append(salt, &bytes[start + 4..end]);
        bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }));
    let (_, recovered) = open(&other, small(Durability::Sync));
    assert_eq!(recovered.state, state_after(&txns[..3]));
    assert_eq!(recovered.report.truncated.map(|cut| cut.at), Some(starts[3]));
}

#[test]
fn what_imitates_a_record_in_a_payload_proves_nothing() {
    // The payload of the last record is a whole segment of another log, with its proofs of what was synced.
    let (other, _, path, _) = one_segment(10, Durability::Sync);
    let mut stolen = Vec::new();
    assert!(other.edit(&path, |bytes| stolen.clone_from(bytes)));
    let fs = MemFs::new();
    let options = LogOptions { seed: 8, segment_bytes: 512 * 1024, ..small(Durability::Memory) };
    let options = LogOptions { first_segment_bytes: 512 * 1024, ..options };
    let (log, _) = open(&fs, options.clone());
    let imitation = Event { data: stolen.into(), ..event(0, 0) };
    commit(&log, Txn { seq: 1, events: vec![Arc::new(imitation)], ..Txn::default() }).expect("commits");
    log.close().expect("closes");
    let path = segments(&fs).pop().expect("a segment");
    assert!(fs.edit(&path, |bytes| bytes[70] ^= 1));
    let (_, recovered) = open(&fs, options);
    assert_eq!(recovered.state.next_seq, 1, "the torn record is cut off, and its content is no reason to refuse");
}

#[test]
fn a_seal_follows_the_last_group_within_50_ms() {
    let mut source = Source::new(3);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    commit(&log, source.next()).expect("commits");
    let before = log.bytes();
    std::thread::sleep(Duration::from_millis(150));
    assert!(log.bytes() > before);
    let (_, recovered) = open(&fs.killed(), small(Durability::Sync));
    assert!(recovered.report.rewritten < 64, "only the seal itself is unproven");
}
