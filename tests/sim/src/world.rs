//! Who acts next, what fails, and when the node dies: all from one seed.

use std::hash::{Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use busway_dispatch::Input;
use busway_engine::{Answer, Embedded, Engine as _, EngineError, Room, Storage};
use busway_log::testing::{ManualClock, MemFs};
use busway_log::{Durability, LogOptions, RealFs, Stage};
use busway_types::{
    Clock as _, Draft, Entropy as _, Event, EventId, Key, Limits, Offset, Receipt, Replay, Retention, SplitMix, SubId,
    Timestamp, TopicExpiry,
};
use bytes::Bytes;
use rustc_hash::FxHasher;

use crate::coverage::Coverage;
use crate::guests::{self, POISON};
use crate::lanes::{Around, word};
use crate::model::Model;
use crate::node::Node;

/// At most this many rounds until all has come to rest.
const REST: usize = 20_000;
/// In a calm run everything is worked off after so many steps, so that the log can be given back.
const CATCH_UP_EVERY: usize = 200;
/// How much the power may take where the disk is synced now and then.
const INTERVAL: Duration = Duration::from_millis(500);
/// How late the log's thread may be with what is due.
const LATE: Duration = Duration::from_millis(50);
/// At most this many rounds for it.
const CATCH_UP: usize = 2_000;

type Publishing = Answer<Result<Vec<Receipt>, EngineError>>;
/// A move whose operator is told once it is safe.
type Moving = (SubId, u32, Answer<Result<(), EngineError>>);

/// Everything of one run.
pub(crate) struct World<'c> {
    random: SplitMix,
    clock: ManualClock,
    /// None: the bus is in memory and dies with the node, so the node does not die.
    disk: Option<MemFs>,
    segment_bytes: u64,
    durability: Durability,
    limits: Limits,
    node: Node,
    model: Model,
    publishing: Vec<Publishing>,
    moving: Vec<Moving>,
    /// Drafts whose ids their publishers chose.
    chosen: Vec<Draft>,
    /// Little fails, and for longer.
    calm: bool,
    /// Nothing fails any more.
    kind: bool,
    /// The oldest offset that was kept when it was looked at last.
    oldest: Offset,
    coverage: &'c mut Coverage,
}

fn dir() -> PathBuf {
    PathBuf::from("/data")
}

fn limits(random: &mut SplitMix) -> Limits {
    let mut below = |n: u64| (random.next_u64() % n) as usize;
    Limits {
        chunk_events: 1 + below(8),
        window_events: 2 + below(24),
        backlog_bytes: 40_000,
        parked: 2 + below(12),
        dead_letters: 5 + below(20),
        hops: 4,
        delayed_events: 2 + below(10),
        recent_bytes: [2_000, 20_000, 1_000_000][below(3)],
        disk_bytes: [40_000, 100_000, 1 << 30][below(3)],
        dedup_window: Duration::from_hours(24),
        // Where little is kept, segments go all the time.
        retention: Retention { bytes: [None, Some(0), Some(20_000)][below(3)], time: None },
        topic_expiry: ["in.c", "out.keyed"][..below(3)].iter().map(|topic| expiry(topic)).collect(),
        ..Limits::default()
    }
}

fn expiry(topics: &str) -> TopicExpiry {
    TopicExpiry { topics: topics.parse().expect("a pattern"), after: Duration::from_secs(2) }
}

impl<'c> World<'c> {
    pub(crate) fn new(seed: u64, coverage: &'c mut Coverage) -> Self {
        let mut random = SplitMix(seed);
        let clock = ManualClock::default();
        let limits = limits(&mut random);
        let disk = (!random.next_u64().is_multiple_of(5)).then(MemFs::new);
        let segment_bytes = [4_096, 8_192, 16_384][(random.next_u64() % 3) as usize];
        let durability = match random.next_u64() % 6 {
            0 => Durability::Interval(INTERVAL),
            1 => Durability::Memory,
            _ => Durability::Sync,
        };
        let calm = random.next_u64().is_multiple_of(5);
        coverage.seeds += 1;
        let engine = match durability {
            _ if disk.is_none() => "memory",
            Durability::Sync => "disk, sync",
            Durability::Interval(_) => "disk, interval",
            Durability::Memory => "disk, never",
        };
        coverage.count("engines", engine);
        let mut model = Model::new(guests::all());
        let engine = open(disk.as_ref(), (segment_bytes, durability), &limits, &clock).expect("a new folder opens");
        let guests = model.guests.clone();
        let node = Node::start(engine, &guests, &limits, seed, &clock, &mut model);
        model.know(&node.subs);
        Self {
            random,
            clock,
            disk,
            segment_bytes,
            durability,
            limits,
            node,
            model,
            publishing: Vec::new(),
            moving: Vec::new(),
            chosen: Vec::new(),
            calm,
            kind: false,
            oldest: 0,
            coverage,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random.next_u64() % n.max(1) as u64) as usize
    }

    pub(crate) fn run(mut self, steps: usize) {
        for step in 1..=if self.calm { 3 * steps } else { steps } {
            self.act();
            self.settle_step();
            if self.calm && step % CATCH_UP_EVERY == 0 {
                self.catch_up();
            }
        }
        self.rest();
    }

    /// One random step of somebody.
    fn act(&mut self) {
        // In a calm run the log grows until parts of it can be given back.
        let most = if self.calm { 961 } else { 1_000 };
        match self.below(most) {
            0..120 => self.publish(),
            120..330 => drop(self.hear()),
            330..560 => drop(self.lane()),
            560..760 => self.log_step(),
            760..850 => self.pass_time(),
            850..892 => self.admin(),
            892..900 => self.wish_to_move(),
            900..960 => self.node.after(&mut self.model, self.coverage),
            960..968 => self.fault(),
            968..974 => self.power_cut(),
            974..977 => self.kill(),
            _ => {}
        }
    }

    /// What follows every step.
    fn settle_step(&mut self) {
        self.coverage.steps += 1;
        self.note_appended();
        self.poll_publishers();
        if self.node.failed {
            self.stop_failed();
        }
        self.model.check(&self.node.engine);
        let oldest = self.node.engine.status().oldest;
        if oldest > self.oldest && self.disk.is_some() {
            self.coverage.count("disk", "segments released");
        }
        self.oldest = oldest;
        let state = self.situation();
        self.coverage.visit(state);
    }

    fn publish(&mut self) {
        let count = 1 + self.below(5);
        let mut events = Vec::new();
        for _ in 0..count {
            let topic = ["in.a", "in.a", "in.b", "in.c", "rare.x", "nobody"][self.below(6)];
            let key = [None, Some("k1"), Some("k2"), Some("k3")][self.below(4)];
            let poison = self.below(40) == 0;
            let size = if self.below(30) == 0 { 1_500 } else { self.below(60) };
            let mut data = vec![b'.'; size + 1];
            data[0] = if poison { POISON } else { b'.' };
            let mut draft = Draft::new(topic.parse().expect("a topic"), Bytes::from(data));
            draft.key = key.map(Key::stored);
            draft.id = (self.below(8) == 0).then(|| EventId::new(self.clock.now(), &mut self.random));
            if self.below(25) == 0 {
                let delay = Duration::from_millis(self.random.next_u64() % 3_000);
                draft.not_before = Some(self.clock.now().after(delay));
            }
            if self.below(6) == 0 {
                // What is delayed as well has often expired when its time has come.
                let (from, most) = draft.not_before.map_or((self.clock.now(), 3_000), |due| (due, 50));
                draft.expires = Some(from.after(Duration::from_millis(1 + self.random.next_u64() % most)));
            }
            if self.below(80) == 0 {
                draft.causality.hops = 4;
            }
            // Publishers that chose an id say the same again when they were not answered, or just so.
            if self.below(10) == 0 && !self.chosen.is_empty() {
                let again = self.below(self.chosen.len());
                draft = self.chosen[again].clone();
                self.coverage.count("publishes", "repeated");
            } else if draft.id.is_some() {
                self.chosen.push(draft.clone());
            }
            let id = draft.id.unwrap_or_else(|| EventId::new(self.clock.now(), &mut self.random));
            let late = draft.expires.is_some_and(|at| at <= self.clock.now());
            match draft.admit(id, self.clock.now(), &self.limits) {
                Ok(event) => events.push(Arc::new(event)),
                Err(error) => {
                    assert!(late, "a valid event: {error}");
                    self.coverage.count("publishes", "too late");
                }
            }
        }
        // What the node's publisher does: wait while there is no room, here: leave it.
        let full = |event: &Arc<Event>| {
            self.node.subs.iter().any(|(sub, index)| {
                self.model.guests[*index].selects(event) && self.node.machine.stats(*sub).is_some_and(|s| s.full)
            })
        };
        if self.node.room > Room::Enough || events.iter().any(full) {
            self.coverage.count("publishes", "no room");
            return;
        }
        self.model.offered(&events);
        let answer = self.node.engine.publish(events);
        self.publishing.push(answer);
    }

    fn poll_publishers(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        for mut publishing in std::mem::take(&mut self.publishing) {
            match publishing.as_mut().poll(&mut context) {
                Poll::Pending => waiting.push(publishing),
                Poll::Ready(Ok(receipts)) => {
                    self.coverage.count("publishes", "acknowledged");
                    self.model.acknowledged(&receipts, self.clock.now());
                }
                Poll::Ready(Err(EngineError::Overloaded(_))) => self.coverage.count("publishes", "overloaded"),
                Poll::Ready(Err(_)) => self.coverage.count("publishes", "failed"),
            }
        }
        self.publishing = waiting;
        for (sub, generation) in std::mem::take(&mut self.node.moved) {
            self.moving.push((sub, generation, self.node.engine.flush()));
        }
        for (sub, generation, mut safe) in std::mem::take(&mut self.moving) {
            match safe.as_mut().poll(&mut context) {
                Poll::Pending => self.moving.push((sub, generation, safe)),
                Poll::Ready(Ok(())) => {
                    self.coverage.count("moves", "told");
                    self.model.told_move(sub, generation, self.clock.now());
                }
                Poll::Ready(Err(_)) => self.coverage.count("moves", "not told"),
            }
        }
    }

    fn hear(&mut self) -> bool {
        self.node.hear(&mut self.model, self.coverage)
    }

    /// A lane runs some deliveries.
    fn lane(&mut self) -> bool {
        if self.node.lanes.is_empty() {
            return false;
        }
        let (at, most) = (self.below(self.node.lanes.len()), 1 + self.below(6));
        if self.below(50) == 0 && !self.kind {
            let lost = self.node.lanes.swap_remove(at).chunk;
            self.coverage.count("lanes", "chunks lost");
            self.node.step(Input::ChunkLost { sub: lost.sub, chunk: lost.id }, &mut self.model, self.coverage);
            return true;
        }
        let sub = self.node.lanes[at].chunk.sub;
        let around = Around {
            guest: &self.model.guests[self.node.subs[&sub]],
            engine: &self.node.engine,
            clock: &self.clock,
            limits: &self.limits,
            kind: self.kind,
        };
        let chunk = self.node.lanes[at].chunk.deliveries.iter().map(|delivery| delivery.logged.offset).collect();
        let report = self.node.lanes[at].run(most, &around, &mut self.random);
        for result in &report.results {
            self.coverage.count("outcomes", word(&result.outcome));
        }
        if report.finished {
            self.node.lanes.swap_remove(at);
        }
        self.note_appended();
        self.model.ran(&report, &chunk, &self.node.engine, self.clock.now());
        self.node.step(Input::Report(report), &mut self.model, self.coverage);
        true
    }

    fn log_step(&mut self) {
        let stage = [Stage::Commit, Stage::Commit, Stage::Checkpoint, Stage::Checkpoint, Stage::Prepare, Stage::Upkeep]
            [self.below(6)];
        self.node.engine.step(stage);
    }

    fn pass_time(&mut self) {
        let by = Duration::from_millis(self.random.next_u64() % 300);
        self.advance(by);
        self.node.after(&mut self.model, self.coverage);
    }

    /// Time passes; a log that syncs by the clock is not left alone for long, and a node whose log failed is not up for
    /// long: what it did not sync any more is not bounded by the clock.
    fn advance(&mut self, by: Duration) {
        let step = if matches!(self.durability, Durability::Interval(_)) { LATE } else { by };
        let mut left = by;
        while !left.is_zero() && !self.node.failed {
            let next = left.min(step);
            self.clock.advance(next);
            left -= next;
            if matches!(self.durability, Durability::Interval(_)) {
                while self.node.engine.step(Stage::Commit) {}
                self.node.failed |= self.node.engine.tick(self.clock.now()).is_err();
            }
        }
    }

    /// What an operator does.
    fn admin(&mut self) {
        let index = self.below(self.model.guests.len());
        let Some(sub) = self.model.sub_of(index) else { return };
        // Dead letters keep the log: where there is no room, they have to go.
        let what = if self.node.room > Room::Enough { 3 } else { self.below(6) };
        match what {
            0 | 1 => {
                let paused = self.below(3) == 0 && !self.calm;
                self.coverage.count("admin", "pauses");
                self.node.step(Input::Paused { sub, paused }, &mut self.model, self.coverage);
            }
            2 => self.on_dead(sub, "revived", |sub, offsets| Input::Revive { sub, offsets }),
            3 => self.drop_dead(),
            4 => {
                let room = self.below(2) == 0 || self.calm;
                self.node.step(Input::Room(room), &mut self.model, self.coverage);
            }
            _ => {}
        }
    }

    /// An operator has a part of the log delivered again, or gives up waiting for that.
    fn wish_to_move(&mut self) {
        let index = self.below(self.model.guests.len());
        let Some(sub) = self.model.sub_of(index).filter(|sub| self.node.subs.contains_key(sub)) else { return };
        if self.below(10) == 0 {
            self.node.wishes.clear();
            return;
        }
        let (oldest, head) = {
            let status = self.node.engine.status();
            (status.oldest, status.head)
        };
        let from = match self.below(4) {
            0 => {
                self.coverage.count("moves", "to the start");
                oldest
            }
            1 => {
                self.coverage.count("moves", "to a time");
                let time = Timestamp(self.random.next_u64() % (self.clock.now().0 + 1));
                match self.node.engine.offset_at(0, time) {
                    Ok(offset) => offset,
                    Err(_) => return,
                }
            }
            _ => {
                self.coverage.count("moves", "to an offset");
                self.random.next_u64() % (head + 1)
            }
        };
        let to = if self.below(2) == 0 { head } else { from + self.random.next_u64() % (head + 1) };
        let replay = Replay { from, to, dead: self.below(3) == 0 };
        self.node.wish_to_move(sub, replay, &mut self.model, self.coverage);
    }

    fn on_dead(&mut self, sub: SubId, what: &'static str, input: impl Fn(SubId, Vec<Offset>) -> Input) {
        let known = self.node.engine.subscriptions().into_iter().find(|known| known.id == sub);
        let dead = known.map(|known| known.state.dead).unwrap_or_default();
        let offsets: Vec<Offset> = dead.iter().map(|letter| letter.offset).take(20).collect();
        if !offsets.is_empty() {
            self.coverage.count("admin", what);
            self.node.step(input(sub, offsets), &mut self.model, self.coverage);
        }
    }

    /// The disk begins to fail.
    fn fault(&mut self) {
        let after = self.random.next_u64() % 6;
        let which = self.below(4);
        let Some(disk) = &self.disk else { return };
        match which {
            0 => {
                self.coverage.count("faults", "EIO on write");
                disk.fail_writes_after(after, ErrorKind::Other);
            }
            1 => {
                self.coverage.count("faults", "EIO on sync");
                disk.fail_syncs_after(after);
            }
            2 => {
                self.coverage.count("faults", "ENOSPC");
                disk.fail_writes_after(after, ErrorKind::StorageFull);
            }
            _ => {
                self.coverage.count("faults", "disk full");
                let used: usize = disk.files().values().sum();
                disk.set_capacity(Some(used as u64 + after * 2_000));
            }
        }
    }

    /// The process ends and another one starts; what was written is still there.
    fn kill(&mut self) {
        if let Some(disk) = &self.disk {
            self.coverage.count("crashes", "process killed");
            let disk = disk.killed();
            self.restart(disk, false);
        }
    }

    /// The power goes: what was not synced may be gone.
    fn power_cut(&mut self) {
        if let Some(disk) = &self.disk {
            self.coverage.count("crashes", "power cut");
            let disk = disk.crash(&mut self.random);
            self.restart(disk, true);
        }
    }

    /// The engine failed: the node ends and is started again.
    fn stop_failed(&mut self) {
        assert!(self.disk.is_some(), "a bus in memory has no disk that fails");
        self.coverage.count("crashes", "after a failure");
        if self.below(2) == 0 { self.power_cut() } else { self.kill() }
    }

    fn note_appended(&mut self) {
        for batch in self.node.inbox.take_appended() {
            self.model.appended(&batch);
        }
    }

    /// `power`: not only the process ended.
    fn restart(&mut self, disk: MemFs, mut power: bool) {
        self.note_appended();
        self.publishing.clear();
        self.moving.clear();
        self.node.lanes.clear();
        let mut disk = disk;
        if self.below(4) == 0 && !self.kind {
            (disk, power) = self.failing_start(disk, power);
        }
        let engine = open(Some(&disk), (self.segment_bytes, self.durability), &self.limits, &self.clock);
        let engine = engine.unwrap_or_else(|error| panic!("what a crash left is refused: {error}"));
        self.disk = Some(disk);
        let now = self.clock.now();
        let since = match self.durability {
            Durability::Interval(every) if power => {
                Some(Timestamp(now.0.saturating_sub((every + LATE).as_millis() as u64)))
            }
            Durability::Memory if power => Some(Timestamp(0)),
            _ => None,
        };
        self.model.restarted(&engine, since);
        let (seed, guests) = (self.random.next_u64(), self.model.guests.clone());
        self.node = Node::start(engine, &guests, &self.limits, seed, &self.clock, &mut self.model);
        self.model.know(&self.node.subs);
    }

    /// A start during which the disk fails; the next one finds what that left.
    fn failing_start(&mut self, disk: MemFs, power: bool) -> (MemFs, bool) {
        let after = self.random.next_u64() % 4;
        if self.below(2) == 0 {
            disk.fail_writes_after(after, ErrorKind::Other);
        } else {
            disk.fail_syncs_after(after);
        }
        let opened = open(Some(&disk), (self.segment_bytes, self.durability), &self.limits, &self.clock);
        self.coverage.count("crashes", if opened.is_ok() { "after a start" } else { "while starting" });
        // Where nothing is synced soon, zeros that a failed sync lost and that are still read hide what is on the disk: then
        // a later power cut may bring back what an earlier one had cut off. That promises nothing, and is not judged here.
        let hidden = opened.is_err() && self.durability != Durability::Sync;
        if hidden || self.below(2) == 0 { (disk.crash(&mut self.random), true) } else { (disk.killed(), power) }
    }

    /// Everything works again: all has to come to rest.
    fn rest(&mut self) {
        self.kind = true;
        if let Some(disk) = self.disk.clone() {
            self.coverage.count("crashes", "power cut");
            let disk = disk.crash(&mut self.random);
            self.restart(disk, true);
        }
        for sub in self.node.subs.keys().copied().collect::<Vec<_>>() {
            self.node.step(Input::Paused { sub, paused: false }, &mut self.model, self.coverage);
        }
        self.node.step(Input::Room(true), &mut self.model, self.coverage);
        self.work_off(REST);
        let stats: Vec<_> = self.node.subs.keys().map(|sub| self.node.machine.stats(*sub)).collect();
        assert!(self.node.machine.is_idle(), "the backlog never reaches zero: {stats:#?}");
        assert!(self.publishing.is_empty(), "a publisher was never answered");
        assert!(self.moving.is_empty() && self.node.wishes.is_empty(), "an operator was never answered");
        assert_eq!(self.node.engine.status().delayed, 0, "delayed events are left");
        if self.node.engine.status().expired > 0 {
            self.coverage.count("settlements", "expired while delayed");
        }
        self.model.at_rest(&self.node.engine, self.clock.now());
    }

    /// Guests do their best for a while, operators drop what nobody handles, and a second passes.
    fn catch_up(&mut self) {
        self.kind = true;
        for _ in 0..2 {
            self.work_off(CATCH_UP);
            self.drop_dead();
        }
        self.advance(Duration::from_secs(2));
        self.node.after(&mut self.model, self.coverage);
        self.work_off(CATCH_UP);
        self.kind = false;
    }

    fn drop_dead(&mut self) {
        for sub in self.node.subs.keys().copied().collect::<Vec<_>>() {
            self.on_dead(sub, "dropped", |sub, offsets| Input::Drop { sub, offsets });
        }
    }

    /// Goes on until nothing is left to do, for at most `most` rounds.
    fn work_off(&mut self, most: usize) {
        for _ in 0..most {
            self.node.after(&mut self.model, self.coverage);
            self.make_room();
            let mut moved = self.hear() | self.lane();
            for stage in [Stage::Commit, Stage::Checkpoint, Stage::Prepare, Stage::Upkeep] {
                moved |= self.node.engine.step(stage);
            }
            self.settle_step();
            if moved {
                continue;
            }
            let Some(due) = self.node.next_due() else {
                let answered = self.publishing.is_empty() && self.moving.is_empty();
                if self.node.machine.is_idle() && answered && self.node.inbox.is_empty() {
                    break;
                }
                // What the engine does once a second, if nothing else.
                self.advance(Duration::from_secs(1));
                self.node.after(&mut self.model, self.coverage);
                continue;
            };
            self.advance(due.since(self.clock.now()).max(Duration::from_millis(1)));
            self.node.after(&mut self.model, self.coverage);
        }
    }

    /// An operator drops dead letters where there are too many.
    fn make_room(&mut self) {
        let full = |stats: busway_dispatch::SubStats| stats.paused == Some(busway_dispatch::PauseReason::DeadFull);
        let subs: Vec<SubId> = self.node.subs.keys().copied().collect();
        for sub in subs {
            if self.node.machine.stats(sub).is_some_and(full) {
                self.on_dead(sub, "dropped", |sub, offsets| Input::Drop { sub, offsets });
            }
        }
    }

    /// The situation of the node, coarsely.
    fn situation(&self) -> u64 {
        let some = |n: usize| n.min(3);
        let mut hasher = FxHasher::default();
        for sub in self.node.subs.keys() {
            let Some(stats) = self.node.machine.stats(*sub) else { continue };
            let counts = [stats.ready, stats.in_flight, stats.parked, stats.dead].map(some);
            (counts, stats.lagging, stats.paused.map(|reason| format!("{reason:?}")), stats.full).hash(&mut hasher);
        }
        (some(self.publishing.len()), self.node.room as u8, self.disk.is_some()).hash(&mut hasher);
        hasher.finish()
    }
}

fn open(
    disk: Option<&MemFs>,
    (segment_bytes, durability): (u64, Durability),
    limits: &Limits,
    clock: &ManualClock,
) -> Result<Embedded, EngineError> {
    let shared = Arc::new(clock.clone());
    let Some(disk) = disk else {
        return Embedded::open(&Storage::Memory, Arc::new(RealFs), shared, limits.clone());
    };
    let options = LogOptions {
        segment_bytes,
        first_segment_bytes: 4_096,
        durability,
        clock: shared.clone(),
        seed: 7,
        views: None,
        cache_bytes: 0,
    };
    Embedded::open_stepped(Arc::new(disk.clone()), Path::new(&dir()), options, shared, limits.clone())
}
