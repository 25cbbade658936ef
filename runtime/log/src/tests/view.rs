//! A state over a view is the same as a whole one, whatever stops the log, and what the view holds pins no segment.

use std::time::Duration;

use super::*;
use crate::{Change, DiskViews, Each, MemViews, RealFs, Space, View, Views, verify};

fn viewed(durability: Durability, views: &Arc<MemViews>) -> LogOptions {
    LogOptions { views: Some(Arc::clone(views) as Arc<dyn Views>), cache_bytes: 4 * 1024, ..small(durability) }
}

fn entries(state: &State) -> Vec<(String, Bytes)> {
    let mut all = Vec::new();
    let scanned = state.kv_scan(&service(), "", None, &mut |key, value| {
        all.push((key.to_owned(), value.clone()));
        true
    });
    scanned.expect("the view can be read");
    all
}

/// Whether a state over a view is the same as a whole one.
fn assert_same(state: &State, whole: &State, what: &str) {
    let (mut state, mut whole) = (state.clone(), whole.clone());
    assert_eq!((state.next_seq, state.next_offset), (whole.next_seq, whole.next_offset), "{what}");
    assert_eq!((state.next_sub, state.next_timer), (whole.next_sub, whole.next_timer), "{what}");
    assert_eq!(state.subs, whole.subs, "{what}");
    assert!(state.kv.is_empty() && state.delayed.is_empty(), "{what}: the rest is in the view");
    assert_eq!(entries(&state), entries(&whole), "{what}");
    for n in 0..6 {
        let get = |state: &mut State| state.kv_get(&service(), &format!("n{n}")).expect("read");
        assert_eq!(get(&mut state), get(&mut whole), "{what}");
    }
    let bytes = |state: &mut State| state.kv_bytes(&service()).expect("read");
    assert!(bytes(&mut state) >= bytes(&mut whole), "{what}: never too little");
    let over = state.over.as_mut().expect("a state over a view");
    assert_eq!(over.delayed(), whole.delayed.len() as u64, "{what}");
    let mut expected: Vec<_> = whole.delayed.iter().map(|(timer, event)| (event.not_before, *timer)).collect();
    expected.sort_unstable();
    let next = over.next_due().expect("read");
    assert_eq!(next, expected.first().and_then(|(due, _)| *due), "{what}");
    let due = over.due(Timestamp(1_000)).expect("read");
    assert_eq!(due.iter().map(|(timer, event)| (event.not_before, *timer)).collect::<Vec<_>>(), expected, "{what}");
    assert!(due.iter().all(|(timer, event)| whole.delayed[timer] == *event), "{what}");
}

/// Whether the events of parked deliveries and dead letters can be had.
fn assert_held(log: &Log, state: &State, what: &str) {
    let view = log.view().expect("a view");
    for sub in state.subs.values() {
        for &offset in sub.progress.parked.keys().chain(sub.progress.dead.keys()) {
            let logged = log.fetch(&[offset]).expect("read").pop().map(|logged| logged.event);
            let held = view.held_event(offset).expect("read");
            let expected = offset < state.next_offset;
            assert_eq!(logged.or(held).is_some(), expected, "{what}: event {offset}");
        }
    }
}

fn survives(seed: u64, durability: Durability, power: bool) {
    let mut source = Source::new(seed);
    let (mut fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    for round in 0..4 {
        let what = format!("seed {seed} round {round} {durability:?}");
        let (log, recovered) = open(&fs, viewed(durability, &views));
        let mut state = recovered.state;
        assert_same(&state, &source.state, &what);
        let acked = Acked::default();
        for _ in 0..source.below(150) {
            let txn = source.next();
            state.load(&txn).expect("read");
            state.apply(&txn);
            submit(&log, txn, &acked);
            if source.below(20) == 0 {
                log.flush().expect("flushes");
            }
            if source.below(10) == 0 {
                log.release_before(state.needed_from()).expect("releases");
            }
            if source.below(30) == 0 {
                assert_same(&state, &source.state, &what);
            }
        }
        if source.below(2) == 0 {
            std::thread::sleep(Duration::from_millis(120));
        }
        assert_same(&state, &source.state, &what);
        let safe = lock(&acked).last().map_or(0, |(seq, _)| *seq);
        // From here on the view takes nothing more, so that it stops at the same moment as the files.
        views.view.set_broken(true);
        let stopped = if power { fs.crash(&mut SplitMix(seed * 1_000 + round)) } else { fs.killed() };
        drop(log);
        views.view.set_broken(false);
        if power {
            views.view.power_cut();
        }
        fs = stopped.killed();
        let (log, recovered) = open(&fs, viewed(durability, &views));
        let kept = recovered.state.next_seq - 1;
        assert!(
            (power && durability != Durability::Sync) || kept >= safe,
            "{what}: {safe} was acknowledged, {kept} left"
        );
        source.back_to(usize::try_from(kept).expect("small"));
        assert_same(&recovered.state, &source.state, &what);
        assert_held(&log, &recovered.state, &what);
        views.view.set_broken(true);
        fs = fs.killed();
        drop(log);
        views.view.set_broken(false);
    }
}

#[test]
fn a_state_over_a_view_survives_what_a_whole_one_does() {
    let interval = Durability::Interval(Duration::from_millis(5));
    for seed in 0..25 {
        for durability in [Durability::Sync, interval, Durability::Memory] {
            survives(seed, durability, seed % 2 == 0);
        }
    }
}

/// Events that everybody has, except for one that is a dead letter.
fn fill(log: &Log, state: &mut State, from: u64, count: u64, dead: Option<Offset>) {
    for number in from..from + count {
        let (seq, first_offset) = (state.next_seq, state.next_offset);
        let mut record = SettleRecord { cursor: first_offset, ..SettleRecord::of(SubId(0)) };
        if dead == Some(first_offset.saturating_sub(1)) && first_offset > 0 {
            let letter = DeadLetter {
                offset: first_offset - 1,
                reason: DeadReason::Rejected,
                time: Timestamp(1),
                attempts: vec![],
            };
            record.dead.push(letter);
        }
        let key = format!("key-{number}").into();
        let op = KvWrite::Set { key, value: Bytes::from(vec![b'v'; 100]) };
        let txn = Txn {
            seq,
            first_offset,
            events: vec![Arc::new(event(number, 500))],
            settlement: Some(record),
            kv: vec![KvRecord { service: service(), op }],
            ..Txn::default()
        };
        state.load(&txn).expect("read");
        state.apply(&txn);
        commit(log, txn).expect("commits");
    }
}

fn begin(log: &Log, state: &mut State) {
    let created = SubChange::Created { id: SubId(0), name: "s".into(), service: service(), cursor: 0 };
    let txn = Txn { seq: 1, subs: vec![created], ..Txn::default() };
    state.apply(&txn);
    commit(log, txn).expect("commits");
}

#[test]
fn a_dead_letter_pins_no_segment_and_keeps_its_event() {
    let (fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    let (log, mut recovered) = open(&fs, viewed(Durability::Sync, &views));
    let state = &mut recovered.state;
    begin(&log, state);
    for round in 0..40 {
        fill(&log, state, 1_000 + round * 10, 10, Some(3));
        log.release_before(state.needed_from()).expect("releases");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(log.oldest() > 3, "the segment of the dead letter is gone: {}", log.oldest());
    assert!(log.fetch(&[3]).expect("read").is_empty());
    let held = log.view().expect("a view").held_event(3).expect("read").expect("the view has it");
    assert_eq!(*held, event(1_003, 500));
    assert!(entries(state).len() == 400 && state.waiting_bytes() < 100_000, "{}", state.waiting_bytes());
    let seq = state.next_seq;
    let record = SettleRecord { dropped: vec![3], ..SettleRecord::of(SubId(0)) };
    let txn = Txn { seq, first_offset: state.next_offset, settlement: Some(record), ..Txn::default() };
    state.apply(&txn);
    commit(&log, txn).expect("commits");
    let view = log.view().expect("a view").clone();
    log.close().expect("closes");
    assert_eq!(view.held_event(3).expect("read"), None, "nobody holds it any more");
}

#[test]
fn a_view_that_lacks_what_the_log_no_longer_has_is_refused() {
    let (fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    let (log, mut recovered) = open(&fs, viewed(Durability::Sync, &views));
    begin(&log, &mut recovered.state);
    for round in 0..40 {
        fill(&log, &mut recovered.state, 1_000 + round * 10, 10, None);
        log.release_before(recovered.state.needed_from()).expect("releases");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(log.oldest() > 0);
    log.close().expect("closes");
    drop(log);
    views.wipe(&dir()).expect("wiped");
    let refused = try_open(&fs, viewed(Durability::Sync, &views)).expect_err("it lacks what was released");
    assert!(matches!(refused, LogError::View { .. }), "{refused}");
    assert!(refused.to_string().contains("restore the data folder"), "{refused}");
}

#[test]
fn a_view_is_made_again_while_the_log_has_everything() {
    let (fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    let (log, mut recovered) = open(&fs, viewed(Durability::Sync, &views));
    begin(&log, &mut recovered.state);
    fill(&log, &mut recovered.state, 0, 200, Some(3));
    log.close().expect("closes");
    drop(log);
    views.wipe(&dir()).expect("wiped");
    let (log, recovered) = open(&fs, viewed(Durability::Sync, &views));
    assert_eq!(entries(&recovered.state).len(), 200);
    assert_held(&log, &recovered.state, "made again");
    log.close().expect("closes");
    drop(log);
    views.view.set_broken(true);
    let (_, recovered) = open(&fs, viewed(Durability::Sync, &views));
    assert_eq!(entries(&recovered.state).len(), 200, "one that cannot be opened is made again");
}

#[test]
fn a_view_that_is_ahead_of_its_log_is_refused() {
    let (fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    let (log, mut recovered) = open(&fs, viewed(Durability::Sync, &views));
    begin(&log, &mut recovered.state);
    drop(log);
    views.view.apply(Vec::new(), 99).expect("applied");
    let refused = try_open(&fs, viewed(Durability::Sync, &views)).expect_err("a part of the log is missing");
    assert!(refused.to_string().contains("99"), "{refused}");
}

#[test]
fn a_view_that_fails_fails_the_log() {
    let (fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    let (log, mut recovered) = open(&fs, viewed(Durability::Sync, &views));
    begin(&log, &mut recovered.state);
    views.view.set_broken(true);
    let op = KvWrite::Set { key: "k".into(), value: Bytes::from_static(b"v") };
    let kv = vec![KvRecord { service: service(), op }];
    commit(&log, Txn { seq: 2, kv, ..Txn::default() }).expect("it is in the log");
    std::thread::sleep(Duration::from_millis(300));
    assert!(matches!(log.failure(), Some(LogError::View { .. })), "{:?}", log.failure());
}

#[test]
fn a_disk_that_is_full_for_the_view_stops_publishers_only_and_is_over_when_there_is_room() {
    let (fs, views) = (MemFs::new(), Arc::new(MemViews::default()));
    let (log, mut recovered) = open(&fs, viewed(Durability::Sync, &views));
    let state = &mut recovered.state;
    begin(&log, state);
    views.view.set_full(true);
    fill(&log, state, 0, 100, Some(3));
    let full_soon = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        log.space() == Space::Low
    });
    assert!(full_soon && log.failure().is_none());
    fill(&log, state, 100, 100, None);
    assert_eq!((entries(state).len(), views.view.applied()), (200, 0), "it goes on without the view");
    views.view.set_full(false);
    let over_soon = (0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        log.space() == Space::Enough && views.view.applied() == state.next_seq - 1
    });
    assert!(over_soon, "{:?}, {}", log.space(), views.view.applied());
    assert_held(&log, state, "after there was no room");
    log.close().expect("closes");
}

fn on_disk(dir: &Path) -> Result<(Log, Recovered), LogError> {
    let views: Arc<dyn Views> = Arc::new(DiskViews { cache_bytes: 1024 * 1024, ..DiskViews::default() });
    Log::open(Arc::new(RealFs), dir, LogOptions { views: Some(views), ..small(Durability::Sync) })
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("created");
        std::fs::copy(&file, target).expect("copied");
    }
}

/// A bit that flipped in a file of the view is harmless or refused; what is read is never something else.
#[test]
fn a_flipped_bit_in_the_view_on_disk_gives_no_garbage() {
    let root = tempfile::tempdir().expect("a folder");
    let good = root.path().join("good");
    let (log, mut recovered) = on_disk(&good).expect("opens");
    begin(&log, &mut recovered.state);
    for round in 0..30 {
        fill(&log, &mut recovered.state, 1_000 + round * 10, 10, Some(3));
        log.release_before(recovered.state.needed_from()).expect("releases");
        std::thread::sleep(Duration::from_millis(5));
    }
    let expected = entries(&recovered.state);
    log.close().expect("closes");
    drop(log);
    let (log, recovered) = on_disk(&good).expect("opens");
    assert_eq!(entries(&recovered.state), expected);
    let oldest = log.oldest();
    assert!(oldest > 3);
    drop((log, recovered));
    let (mut refused, mut harmless) = (0, 0);
    let mut random = SplitMix(3);
    for round in 0..60 {
        let bad = root.path().join(format!("bad-{round}"));
        copy(&good, &bad);
        let files: Vec<_> =
            files(&bad.join("view")).into_iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).collect();
        let file = &files[(random.next_u64() % files.len() as u64) as usize];
        let mut bytes = std::fs::read(file).expect("read");
        // Journals are written ahead with nothing in them.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = (random.next_u64() % used as u64) as usize;
        bytes[at] ^= 1 << (random.next_u64() % 8);
        std::fs::write(file, bytes).expect("written");
        let read = on_disk(&bad).and_then(|(log, recovered)| {
            let mut all = Vec::new();
            recovered.state.kv_scan(&service(), "", None, &mut |key, value| {
                all.push((key.to_owned(), value.clone()));
                true
            })?;
            let held = log.view().expect("a view").held_event(3)?;
            Ok((all, held))
        });
        match read {
            Ok((all, held)) => {
                assert_eq!(all, expected, "{} at {at}", file.display());
                assert_eq!(held.as_deref(), Some(&event(1_003, 500)), "{} at {at}", file.display());
                harmless += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("view"), "{error}");
                refused += 1;
            }
        }
        std::fs::remove_dir_all(&bad).expect("removed");
    }
    assert!(refused > 5, "{refused} refused, {harmless} harmless");
}

/// Does something to a file.
type Spoil = fn(&Path);

/// A file that is gone, empty or names another that is not there is damage of the view and no failure of the disk.
#[test]
fn a_view_on_disk_without_one_of_its_files_is_made_again_from_a_whole_log() {
    let root = tempfile::tempdir().expect("a folder");
    let good = root.path().join("good");
    let (log, mut recovered) = on_disk(&good).expect("opens");
    begin(&log, &mut recovered.state);
    fill(&log, &mut recovered.state, 1_000, 100, Some(3));
    let expected = entries(&recovered.state);
    log.close().expect("closes");
    drop((log, recovered));
    drop(on_disk(&good).expect("opens once more, so that the entries are in tables"));
    let view = good.join("view");
    let spoils: [(&str, Spoil); 3] = [
        ("without", |file| std::fs::remove_file(file).expect("removed")),
        ("nothing in", |file| std::fs::write(file, []).expect("written")),
        ("another name in", |file| {
            let mut bytes = std::fs::read(file).expect("read");
            bytes[0] = bytes[0].wrapping_add(1);
            std::fs::write(file, bytes).expect("written");
        }),
    ];
    let mut spoilt = 0;
    for file in files(&view).into_iter().filter(|file| file.metadata().is_ok_and(|m| m.len() > 0)) {
        for (what, spoil) in spoils {
            let name = file.strip_prefix(&good).expect("below it");
            let bad = root.path().join("bad");
            copy(&good, &bad);
            spoil(&bad.join(name));
            let (log, recovered) = on_disk(&bad).unwrap_or_else(|error| panic!("{what} {}: {error}", name.display()));
            assert_eq!(entries(&recovered.state), expected, "{what} {}", name.display());
            assert_held(&log, &recovered.state, what);
            log.close().expect("closes");
            drop((log, recovered));
            std::fs::remove_dir_all(&bad).expect("removed");
            spoilt += 1;
        }
    }
    assert!(spoilt >= 9, "{spoilt}");
}

/// A view on disk that has its folder copied around some of its changes, as a kill at that moment would leave it.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn View>,
    shots: Arc<Shots>,
}

#[derive(Debug)]
struct Shots {
    data: PathBuf,
    to: PathBuf,
    /// Taken by whoever submits, so that the log stands still while it is copied.
    still: Mutex<()>,
    random: Mutex<SplitMix>,
    taken: Mutex<Vec<PathBuf>>,
}

impl Shots {
    fn maybe(&self) {
        if !lock(&self.random).next_u64().is_multiple_of(8) {
            return;
        }
        let _still = lock(&self.still);
        let mut taken = lock(&self.taken);
        let to = self.to.join(taken.len().to_string());
        // fjall's own thread may be writing a table: then the copy is not what any one moment looked like.
        for _ in 0..50 {
            let sizes = || -> Vec<_> {
                files(&self.data)
                    .into_iter()
                    .map(|path| (std::fs::metadata(&path).map(|m| m.len()).ok(), path))
                    .collect()
            };
            let before = sizes();
            let copied = std::panic::catch_unwind(|| copy(&self.data, &to));
            std::thread::sleep(Duration::from_millis(2));
            if copied.is_ok() && sizes() == before {
                taken.push(to);
                return;
            }
            std::fs::remove_dir_all(&to).expect("removed");
        }
    }
}

impl View for Watched {
    fn applied(&self) -> u64 {
        self.inner.applied()
    }
    fn persisted(&self) -> u64 {
        self.inner.persisted()
    }
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        self.inner.get(key)
    }
    fn scan(&self, from: &[u8], until: &[u8], each: &mut Each<'_>) -> Result<(), LogError> {
        self.inner.scan(from, until, each)
    }
    fn apply(&self, changes: Vec<Change>, applied: u64) -> Result<(), LogError> {
        self.shots.maybe();
        self.inner.apply(changes, applied)?;
        self.shots.maybe();
        Ok(())
    }
    fn persist(&self) -> Result<(), LogError> {
        self.shots.maybe();
        self.inner.persist()?;
        self.shots.maybe();
        Ok(())
    }
    fn close(&self) {
        self.inner.close();
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
    fn damaged(&self, what: &str) -> LogError {
        self.inner.damaged(what)
    }
}

#[derive(Debug)]
struct WatchedViews(DiskViews, Arc<Shots>);

impl Views for WatchedViews {
    fn open(&self, dir: &Path) -> Result<Arc<dyn View>, LogError> {
        Ok(Arc::new(Watched { inner: self.0.open(dir)?, shots: Arc::clone(&self.1) }))
    }
    fn exists(&self, dir: &Path) -> bool {
        self.0.exists(dir)
    }
    fn wipe(&self, dir: &Path) -> Result<(), LogError> {
        self.0.wipe(dir)
    }
}

#[test]
fn a_node_killed_around_changes_of_the_view_on_disk_has_the_same_state() {
    let root = tempfile::tempdir().expect("a folder");
    let tables = DiskViews { cache_bytes: 1024 * 1024, memtable_bytes: 16 * 1024 };
    let set =
        |views: Arc<dyn Views>| LogOptions { views: Some(views), cache_bytes: 4 * 1024, ..small(Durability::Sync) };
    let (mut checked, mut cut) = (0, 0);
    for seed in 0..4 {
        let (data, to) = (root.path().join(format!("data-{seed}")), root.path().join(format!("shots-{seed}")));
        let (random, still) = (Mutex::new(SplitMix(seed)), Mutex::default());
        let shots = Arc::new(Shots { data: data.clone(), to, still, random, taken: Mutex::default() });
        let watched = Arc::new(WatchedViews(tables, Arc::clone(&shots)));
        let (log, recovered) = Log::open(Arc::new(RealFs), &data, set(watched)).expect("opens");
        let (mut state, mut source) = (recovered.state, Source::new(seed));
        for number in 0..400 {
            let still = lock(&shots.still);
            let txn = source.next();
            state.load(&txn).expect("read");
            state.apply(&txn);
            commit(&log, txn).expect("commits");
            if number % 20 == 19 {
                log.release_before(state.needed_from()).expect("releases");
                log.settle_upkeep();
                // Long enough for what was collected to be written.
                drop(still);
                std::thread::sleep(Duration::from_millis(80));
            }
        }
        log.close().expect("closes");
        drop(log);
        for shot in std::mem::take(&mut *lock(&shots.taken)) {
            let what = shot.display().to_string();
            let opened = Log::open(Arc::new(RealFs), &shot, set(Arc::new(tables)));
            let (log, recovered) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            let kept = recovered.state.next_seq - 1;
            cut += u64::from(log.view().expect("a view").applied() < kept);
            assert_same(&recovered.state, &state_after(&source.txns[..kept as usize]), &what);
            assert_held(&log, &recovered.state, &what);
            log.close().expect("closes");
            checked += 1;
            std::fs::remove_dir_all(&shot).expect("removed");
        }
    }
    assert!(checked > 10 && cut > 5, "{checked} stops, {cut} with a view behind its log");
}

#[test]
fn verify_says_what_the_view_is_and_whether_it_can_be_made_again() {
    let root = tempfile::tempdir().expect("a folder");
    let data = root.path().join("data");
    let (log, mut recovered) = on_disk(&data).expect("opens");
    begin(&log, &mut recovered.state);
    fill(&log, &mut recovered.state, 0, 100, Some(3));
    log.close().expect("closes");
    drop(log);
    let look = || verify(&RealFs, &data).expect("verifies");
    let found = look();
    let view = found.view.as_ref().expect("a view");
    assert!(!found.is_damaged() && view.log_is_whole, "{found:?}");
    let (applied, values) = view.found.clone().expect("it can be read").expect("it is there");
    assert_eq!(applied, 101);
    assert!(values >= 101, "a hundred keys and a held event: {values}");
    for file in files(&data.join("view")) {
        std::fs::write(&file, b"not what it was").expect("written");
    }
    let found = look();
    let view = found.view.as_ref().expect("a view");
    let refused = view.found.as_ref().expect_err("it cannot be used").to_string();
    assert!(refused.contains(&data.join("view").display().to_string()) && refused.contains("remove that folder"));
    assert!(found.is_damaged() && found.start.is_ok(), "a start makes it again");
    let (log, recovered) = on_disk(&data).expect("opens");
    assert_eq!(entries(&recovered.state).len(), 100);
    log.close().expect("closes");
}
