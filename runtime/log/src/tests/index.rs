//! Footers: they make finding and opening quick, are never needed, and never hide damage.

use busway_types::Pattern;

use super::*;
use crate::LinkTo;

const COUNT: u64 = 6_000;

/// Segments large enough for an index to be of use.
fn medium() -> LogOptions {
    LogOptions { segment_bytes: 256 * 1024, first_segment_bytes: 64 * 1024, ..small(Durability::Memory) }
}

/// Event `i`: on a common topic, or one of fifty rare ones, or one that is in a few places only; times go up and down.
fn sample(i: u64) -> Event {
    let topic = match i {
        i if i % 1_500 == 700 => "seldom.seen".to_owned(),
        i if i % 10 == 3 => format!("rare.n{}", i / 10 % 50),
        _ => "common.topic".to_owned(),
    };
    let causality = Origin {
        cause: (i % 7 == 1).then(|| EventId::from_u128(u128::from(i / 7))),
        correlation: (i % 5 == 2).then(|| format!("c{}", i / 500).into()),
        ..Origin::default()
    };
    let time = Timestamp(1_000_000 + 10 * i - 300 * (i % 3));
    Event { topic: topic.parse().expect("a topic"), time, causality: causality.into(), ..event(i, 100) }
}

/// A log of [`COUNT`] events, a few in each transaction, with footers on all full segments.
fn filled() -> (MemFs, Log, Vec<Event>) {
    let fs = MemFs::new();
    let (log, _) = open(&fs, medium());
    let events: Vec<Event> = (0..COUNT).map(sample).collect();
    let mut at = 0;
    for (i, batch) in events.chunks(4).enumerate() {
        let events = batch.iter().cloned().map(Arc::new).collect();
        let txn = Txn { seq: i as u64 + 1, first_offset: at, events, ..Txn::default() };
        at += batch.len() as u64;
        log.submit(vec![txn], Box::new(|result| result.expect("commits")));
        if i % 100 == 0 {
            log.flush().expect("flushes");
        }
    }
    log.flush().expect("flushes");
    log.settle_upkeep();
    (fs, log, events)
}

fn footers(fs: &MemFs) -> Vec<PathBuf> {
    fs.files().into_keys().filter(|path| path.extension().is_some_and(|e| e == "idx")).collect()
}

fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

fn read_matching(log: &Log, patterns: &[Pattern], mut at: Offset, step: usize) -> Vec<Offset> {
    let mut found = Vec::new();
    while at < log.written_offset() {
        let (events, next) = log.read(at, patterns, step, usize::MAX).expect("readable");
        assert!(next > at);
        found.extend(events.iter().map(|logged| logged.offset));
        at = next;
    }
    found
}

/// Everything that can be asked gives what looking at every event gives.
fn answers_right(log: &Log, events: &[Event]) {
    for patterns in [
        vec![],
        vec![pattern("rare.n7")],
        vec![pattern("rare.n7"), pattern("seldom.*")],
        vec![pattern("common.topic")],
        vec![pattern("rare.*")],
        vec![pattern(">")],
        vec![pattern("no.such")],
    ] {
        let selected = |event: &Event| patterns.is_empty() || patterns.iter().any(|p| p.matches(&event.topic));
        for from in [0, 1, 2_345, COUNT - 1] {
            let expected: Vec<Offset> = (from..COUNT).filter(|i| selected(&events[*i as usize])).collect();
            assert_eq!(read_matching(log, &patterns, from, 1_000), expected, "{patterns:?} from {from}");
            if expected.len() < 1_000 {
                assert_eq!(read_matching(log, &patterns, from, 1), expected, "{patterns:?} from {from}");
            }
        }
    }
    for at in (0..COUNT).step_by(397) {
        let found = log.find(EventId::from_u128(u128::from(at))).expect("readable").expect("found");
        assert_eq!((found.offset, &*found.event), (at, &events[at as usize]));
        assert_eq!(log.fetch(&[at]).expect("readable")[0].offset, at);
        let time = Timestamp(1_000_000 + 10 * at - 150);
        let expected = events.iter().position(|e| e.time >= time).map_or(COUNT, |i| i as u64);
        assert_eq!(log.offset_at(time).expect("readable"), expected);
    }
    assert_eq!(log.offset_at(Timestamp(u64::MAX)).expect("readable"), COUNT);
    assert_eq!(log.find(EventId::from_u128(77 << 90)).expect("readable"), None);
    let links = [LinkTo::Cause(EventId::from_u128(300)), LinkTo::Correlation("c7")];
    let linked = |e: &Event| {
        e.causality.cause == Some(EventId::from_u128(300)) || e.causality.correlation.as_deref() == Some("c7")
    };
    let expected: Vec<Offset> = (0..COUNT).filter(|i| linked(&events[*i as usize])).collect();
    let mut found = Vec::new();
    while let Some(next) = log.find_linked(&links, found.last().map_or(0, |last| last + 1)).expect("readable") {
        found.push(next.offset);
    }
    assert_eq!(found, expected);
}

#[test]
fn what_an_index_answers_is_what_reading_everything_answers() {
    let (fs, log, events) = filled();
    assert!(footers(&fs).len() >= 3, "{:?}", footers(&fs));
    answers_right(&log, &events);
    drop(log);
    let (log, recovered) = open(&fs, medium());
    assert_eq!(recovered.report.trusted, footers(&fs).len());
    answers_right(&log, &events);
    drop(log);
    // Without footers everything is read, and they are there again afterwards.
    let kept = footers(&fs);
    for path in &kept {
        crate::Fs::remove(&fs, path).expect("removed");
    }
    let (log, recovered) = open(&fs, medium());
    assert_eq!(recovered.report.trusted, 0);
    answers_right(&log, &events);
    log.settle_upkeep();
    assert_eq!(footers(&fs), kept);
    answers_right(&log, &events);
}

#[test]
fn a_damaged_footer_costs_time_and_nothing_else() {
    let (fs, log, events) = filled();
    drop(log);
    let path = footers(&fs).remove(1);
    let size = fs.files()[&path];
    for at in (0..size).step_by(size / 12).chain([0, 8, 20, 30, size - 1]) {
        let bad = fs.killed();
        assert!(bad.edit(&path, |bytes| bytes[at] ^= 4));
        let (log, _) = open(&bad, medium());
        let rare = [pattern("rare.n7"), pattern("seldom.seen")];
        let expected: Vec<Offset> =
            (0..COUNT).filter(|i| rare.iter().any(|p| p.matches(&events[*i as usize].topic))).collect();
        assert_eq!(read_matching(&log, &rare, 0, 100), expected, "flipped at {at}");
        for id in (0..COUNT).step_by(501) {
            assert_eq!(log.find(EventId::from_u128(u128::from(id))).expect("readable").expect("found").offset, id);
        }
    }
    for cut in [0, 10, 100, size - 1] {
        let bad = fs.killed();
        assert!(bad.edit(&path, |bytes| bytes.truncate(cut)));
        let (log, _) = open(&bad, medium());
        answers_right(&log, &events);
    }
}

#[test]
fn finding_something_rare_reads_little() {
    let (fs, log, _) = filled();
    drop(log);
    let whole = fs.files().values().sum::<usize>() as u64;
    let (log, _) = open(&fs, medium());
    log.settle_upkeep();
    // Once for what is being written, which has no footer yet.
    read_matching(&log, &[pattern("no.such")], 0, 100);
    fs.bytes_read();
    assert_eq!(read_matching(&log, &[pattern("seldom.seen")], 0, 100).len(), 4);
    let read = fs.bytes_read();
    assert!(read < whole / 8, "{read} of {whole} bytes for four events");
    log.find(EventId::from_u128(4_000)).expect("readable").expect("found");
    let read = fs.bytes_read();
    assert!(read < whole / 2, "{read} of {whole} bytes to find one event");
    read_matching(&log, &[pattern("no.such")], 0, 100);
    assert_eq!(fs.bytes_read(), 0, "what is nowhere needs no reading");
}

#[test]
fn a_thousand_readers_of_rare_topics_do_not_read_the_log_a_thousand_times() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, LogOptions { segment_bytes: 2 << 20, first_segment_bytes: 2 << 20, ..medium() });
    for i in 0..60_000_u64 {
        let topic = if i % 20 == 0 { format!("rare.n{}", i / 20 % 1_000) } else { "common".to_owned() };
        let events = vec![Arc::new(Event { topic: topic.parse().expect("a topic"), ..event(i, 100) })];
        let txn = Txn { seq: i + 1, first_offset: i, events, ..Txn::default() };
        log.submit(vec![txn], Box::new(|result| result.expect("commits")));
    }
    log.flush().expect("flushes");
    log.settle_upkeep();
    let whole = log.bytes();
    fs.bytes_read();
    for n in 0..1_000 {
        let found = read_matching(&log, &[pattern(&format!("rare.n{n}"))], 0, 100);
        assert_eq!(found, [n * 20, n * 20 + 20_000, n * 20 + 40_000], "topic {n}");
    }
    let read = fs.bytes_read();
    assert!(read < 5 * whole, "{read} bytes for 1,000 readers of a log of {whole}");
}

#[test]
fn damage_in_a_segment_that_is_not_read_at_the_start_is_refused_when_it_is_read() {
    let (fs, log, events) = filled();
    let oldest = segments(&fs).remove(0);
    drop(log);
    for at in [100, 5_000, 30_000] {
        let bad = fs.killed();
        assert!(bad.edit(&oldest, |bytes| bytes[at] ^= 1));
        let (log, _) = open(&bad, medium());
        let mut next = 0;
        let error = loop {
            match log.read(next, &[], 100, usize::MAX) {
                Ok((found, after)) => {
                    assert!(found.iter().all(|l| *l.event == events[l.offset as usize]));
                    next = after;
                }
                Err(error) => break error,
            }
            assert!(next < COUNT, "the damage at {at} was not noticed");
        };
        let LogError::Damaged { file, at: told, .. } = &error else { panic!("{error}") };
        assert!(*file == oldest && *told <= at as u64 && *told + 2_000 > at as u64, "{error}");
        // What lies elsewhere is not harmed.
        assert_eq!(log.fetch(&[COUNT - 1]).expect("readable").len(), 1);
    }
}

#[test]
fn damage_in_what_the_state_is_made_from_is_refused_at_the_start() {
    let mut source = Source::new(21);
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    for _ in 0..800 {
        commit(&log, source.next()).expect("commits");
    }
    log.settle_upkeep();
    log.close().expect("closes");
    let (refused, opened) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for path in segments(&fs) {
        for at in [90, 1_500, 3_000] {
            let bad = fs.killed();
            assert!(bad.edit(&path, |bytes| bytes[at] ^= 1));
            match try_open(&bad, small(Durability::Sync)) {
                Err(LogError::Damaged { file, .. }) => {
                    assert_eq!(file, path);
                    refused.set(refused.get() + 1);
                }
                Err(other) => panic!("{other}"),
                Ok((_, recovered)) => {
                    assert_eq!(recovered.state, source.state, "{} at {at}", path.display());
                    opened.set(opened.get() + 1);
                }
            }
        }
    }
    assert!(refused.get() > 0 && opened.get() > 0, "{refused:?} refused, {opened:?} opened");
}

#[test]
fn a_segment_missing_behind_a_full_one_is_refused_by_its_name() {
    let (fs, log, _) = filled();
    drop(log);
    let all = segments(&fs);
    for missing in &all[1..] {
        let bad = fs.killed();
        crate::Fs::remove(&bad, missing).expect("removed");
        let LogError::Damaged { file, .. } = try_open(&bad, medium()).expect_err("refused") else { panic!() };
        assert_eq!(&file, missing);
    }
}

#[test]
fn footers_go_with_their_segments_and_strays_are_removed() {
    let (fs, log, _) = filled();
    let before = log.segments();
    assert!(before.iter().rev().skip(1).all(|s| s.latest.is_some()), "{before:?}");
    assert!(before.windows(2).all(|pair| pair[0].next_offset == pair[1].first_offset));
    log.release_before(u64::MAX).expect("releases");
    log.settle_upkeep();
    let left = log.segments();
    assert!(left.len() < before.len());
    assert_eq!(footers(&fs).len(), left.len() - 1);
    drop(log);
    let stray = dir().join("00000000000000000001.idx");
    let file = crate::Fs::open(&fs, &stray, crate::OpenMode::Create).expect("created");
    file.write_all_at(b"left over", 0).expect("written");
    drop(open(&fs, medium()));
    assert!(!fs.files().contains_key(&stray));
}

/// Whoever waits for room writes nothing, so that no further segment brings a checkpoint along.
#[test]
fn where_space_is_short_a_checkpoint_is_made_without_a_further_segment() {
    let (_, log, _) = filled();
    for _ in 0..500 {
        log.make_room_before(u64::MAX).expect("asked");
        log.settle_upkeep();
        if log.segments().len() == 1 {
            return;
        }
        // The checkpoint is made behind the committer.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("still there: {:?}", log.segments());
}
