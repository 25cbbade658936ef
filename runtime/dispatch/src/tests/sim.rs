//! A seeded simulation: random life first, with invariants after every step, then a quiet phase in which all must drain.

use std::collections::VecDeque;
use std::sync::Arc;

use busway_types::{Batch, Entropy, Event, Limits, Logged, Offset, Ordering, Replay, SplitMix, SubId, Timestamp};

use super::rig::{event, spec};
use super::world::{Asked, Durable, Running};
use crate::{Action, Input, Machine, MachineOptions, PauseReason, Warning};

/// Small enough to be met.
const SPREAD: u64 = 40;

struct Sim {
    random: SplitMix,
    machine: Machine,
    limits: Limits,
    replayable: bool,
    now: u64,
    log: Vec<Arc<Event>>,
    tail: VecDeque<Batch>,
    subs: Vec<Durable>,
    detached: Vec<bool>,
    lanes: Vec<Running>,
    reads: Vec<Asked>,
    fetches: Vec<(SubId, Vec<Offset>)>,
    out: Vec<Action>,
    /// Whether everything is acknowledged and nothing fails any more.
    kind: bool,
}

fn limits(random: &mut SplitMix) -> Limits {
    Limits {
        chunk_events: 1 + random.next_u64() as usize % 8,
        window_events: 1 + random.next_u64() as usize % 24,
        backlog_bytes: 20_000,
        parked: 1 + random.next_u64() as usize % 12,
        dead_letters: 5 + random.next_u64() as usize % 20,
        hops: 4,
        ..Limits::default()
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let limits = limits(&mut random);
        let replayable = random.next_u64().is_multiple_of(2);
        let options = MachineOptions { limits: limits.clone(), seed, replayable };
        let mut subs = Vec::new();
        for (i, (ordering, patterns, ordered)) in [
            (Ordering::Key, "a.*", true),
            (Ordering::Strict, "a.x", true),
            (Ordering::None, "a.>", true),
            (Ordering::Key, "b", true),
            (Ordering::Key, "a.y", false),
        ]
        .into_iter()
        .enumerate()
        {
            let mut spec = spec(&format!("s{i}"), patterns, ordering);
            spec.concurrency = 1 + random.next_u64() as usize % 3;
            spec.may_publish = i % 2 == 0;
            subs.push(Durable::new(spec, ordered));
        }
        let mut sim = Self {
            random,
            machine: Machine::new(options),
            limits,
            replayable,
            now: 1_000,
            log: Vec::new(),
            tail: VecDeque::new(),
            detached: vec![false; subs.len()],
            subs,
            lanes: Vec::new(),
            reads: Vec::new(),
            fetches: Vec::new(),
            out: Vec::new(),
            kind: false,
        };
        sim.machine.set_spread(SPREAD);
        sim.attach_all();
        sim
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random.next_u64() % n.max(1) as u64) as usize
    }

    fn attach_all(&mut self) {
        for i in 0..self.subs.len() {
            self.attach(i);
        }
    }

    fn attach(&mut self, i: usize) {
        self.detached[i] = false;
        let (spec, state) = (self.subs[i].spec.clone(), self.subs[i].state());
        let head = self.log.len() as u64;
        self.step(Input::Attach { sub: SubId(i as u32), spec, state, head });
    }

    fn step(&mut self, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.machine.step(Timestamp(self.now), input, &mut out);
        self.machine.check_invariants();
        for action in out.drain(..) {
            self.act(action);
        }
        self.out = out;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver(chunk) => self.start(Running::new(chunk)),
            Action::Settle(settlement) => self.subs[settlement.sub.0 as usize].queue.push_back(settlement),
            Action::Read { sub, from, max_events, max_bytes: _ } => {
                assert!(self.reads.iter().all(|asked| asked.sub != sub), "two reads at a time");
                self.reads.push(Asked { sub, from, max_events });
            }
            Action::Fetch { sub, offsets } => {
                assert!(self.fetches.iter().all(|asked| asked.0 != sub), "two fetches at a time");
                assert!(offsets.len() <= self.limits.chunk_events);
                let durable = &self.subs[sub.0 as usize];
                let kept = |offset: &Offset| durable.parked.contains_key(offset) || durable.is_being_parked(*offset);
                assert!(offsets.iter().all(kept), "fetched before the engine was told to keep them: {offsets:?}");
                self.fetches.push((sub, offsets));
            }
            Action::Advance { sub, cursor } => self.subs[sub.0 as usize].advance(cursor, &self.log),
            Action::Move { sub, replay } => self.move_back(sub, &replay),
            Action::Warn(Warning::BodyGone { sub, offset }) => {
                self.subs[sub.0 as usize].loose.insert(offset);
            }
            Action::Warn(_) => {}
        }
    }

    fn move_back(&mut self, sub: SubId, replay: &Replay) {
        if self.below(8) == 0 {
            return self.step(Input::Stays { sub });
        }
        let idle = |groups: &Running| groups.chunk.sub != sub;
        assert!(self.lanes.iter().all(idle), "moved with a delivery in flight");
        let durable = &mut self.subs[sub.0 as usize];
        durable.reopen(replay);
        let state = durable.state();
        let selected = (replay.from..replay.to).filter(|offset| durable.selects(&self.log[*offset as usize]));
        let events = selected.map(|offset| Logged { offset, event: Arc::clone(&self.log[offset as usize]) });
        let events = if self.replayable { Vec::new() } else { events.collect() };
        self.step(Input::Moved { sub, state, events });
    }

    fn seek(&mut self, sub: SubId) {
        // As far as it has looked: a machine may not have seen the end of the log yet.
        let head = self.machine.head();
        let from = self.random.next_u64() % (head + 1);
        let to = from + self.random.next_u64() % (head - from + 1);
        let dead = self.below(2) == 0;
        self.step(Input::Seek { sub, replay: Replay { from, to, dead } });
    }

    fn start(&mut self, running: Running) {
        let chunk = &running.chunk;
        let durable = &self.subs[chunk.sub.0 as usize];
        assert_eq!(chunk.generation, durable.generation, "the generation travels with the chunk");
        assert!(!chunk.deliveries.is_empty() && chunk.deliveries.len() <= self.limits.chunk_events);
        assert!(!self.detached[chunk.sub.0 as usize], "a detached subscription got something");
        for delivery in &chunk.deliveries {
            let offset = delivery.logged.offset;
            assert!(durable.selects(&delivery.logged.event), "{offset} was not selected");
            assert!(!delivery.logged.event.is_expired(Timestamp(self.now)), "{offset} was delivered after it expired");
            assert!(!durable.acked.contains(&offset), "{offset} was delivered after it was done");
            assert!(delivery.attempt <= durable.spec.retry.attempts, "too many attempts");
        }
        let groups = running.groups();
        for other in self.lanes.iter().filter(|other| other.chunk.sub == chunk.sub) {
            assert!(groups.is_disjoint(&other.groups()), "a key is in two chunks");
        }
        for settlement in &durable.queue {
            for settle in settlement.settles.iter().filter(|settle| durable.ordered && settle.group.is_some()) {
                // What was only parked behind was not delivered; it may follow at once.
                let ran =
                    !matches!(&settle.verdict, busway_types::Verdict::Parked(parked) if parked.attempts.is_empty());
                let clash = settle.group.is_some_and(|group| groups.contains(&group));
                assert!(!(ran && clash), "a key started before its last settlement was sequenced");
            }
        }
        self.lanes.push(running);
    }

    fn publish(&mut self) {
        let n = 1 + self.below(9);
        let first = self.log.len() as u64;
        let mut events = Vec::new();
        for i in 0..n {
            let topic = ["a.x", "a.y", "b", "c"][self.below(4)];
            let key = [None, Some("k1"), Some("k2"), Some("k3")][self.below(4)];
            let mut event = event(first + i as u64, topic, key);
            if self.below(10) == 0 {
                event.causality.source = Some("s0".parse().expect("a name"));
            }
            event.expires = (self.below(8) == 0).then(|| Timestamp(self.now + self.random.next_u64() % 400));
            event.causality.hops = if self.below(60) == 0 { 9 } else { 0 };
            events.push(Arc::new(event));
        }
        self.log.extend(events.iter().cloned());
        self.tail.push_back(Batch { first, events: Arc::new(events) });
    }

    fn report(&mut self) -> bool {
        if self.lanes.is_empty() {
            return false;
        }
        let at = self.below(self.lanes.len());
        let most = 1 + self.below(8);
        let kind = self.kind;
        let report = self.lanes[at].run(most, kind, &mut self.random);
        if report.finished {
            self.lanes.swap_remove(at);
        }
        self.step(Input::Report(report));
        true
    }

    fn sequence(&mut self) -> bool {
        let i = self.below(self.subs.len());
        let i = if self.subs[i].queue.is_empty() {
            self.subs.iter().position(|durable| !durable.queue.is_empty())
        } else {
            Some(i)
        };
        let Some(i) = i else { return false };
        let random = if self.kind { None } else { Some(&mut self.random) };
        let Some((token, conflicts)) = self.subs[i].sequence(&self.log, random) else { return false };
        self.step(Input::Settled { sub: SubId(i as u32), token, conflicts });
        true
    }

    fn answer(&mut self) -> bool {
        if !self.reads.is_empty() {
            let at = self.below(self.reads.len());
            let asked = self.reads.swap_remove(at);
            let (result, next) = asked.answer(&self.subs[asked.sub.0 as usize], &self.log);
            self.step(Input::Read { sub: asked.sub, result, next });
            return true;
        }
        if self.fetches.is_empty() {
            return false;
        }
        let at = self.below(self.fetches.len());
        let (sub, asked) = self.fetches.swap_remove(at);
        let mut events: Vec<Logged> =
            asked.iter().map(|&offset| Logged { offset, event: Arc::clone(&self.log[offset as usize]) }).collect();
        if self.below(20) == 0 && !self.kind {
            let gone = self.below(events.len());
            events.swap_remove(gone);
        }
        self.step(Input::Fetched { sub, events, asked });
        true
    }

    fn tail(&mut self) -> bool {
        let Some(batch) = self.tail.pop_front() else { return false };
        self.step(Input::Appended(batch));
        true
    }

    fn tick(&mut self) {
        self.now += self.random.next_u64() % 200;
        self.step(Input::Tick);
    }

    /// Everything that is not durable is gone.
    fn crash(&mut self) {
        let options =
            MachineOptions { limits: self.limits.clone(), seed: self.random.next_u64(), replayable: self.replayable };
        self.machine = Machine::new(options);
        self.machine.set_spread(SPREAD);
        self.lanes.clear();
        self.reads.clear();
        self.fetches.clear();
        self.tail.clear();
        for durable in &mut self.subs {
            durable.queue.clear();
        }
        self.attach_all();
    }

    fn admin(&mut self) {
        let i = self.below(self.subs.len());
        let sub = SubId(i as u32);
        match self.below(10) {
            0 => {
                let room = self.below(2) == 0;
                self.step(Input::Room(room));
            }
            1 | 2 => {
                let paused = self.below(2) == 0;
                self.step(Input::Paused { sub, paused });
            }
            3 if !self.lanes.is_empty() => {
                let at = self.below(self.lanes.len());
                let lost = self.lanes.swap_remove(at).chunk;
                self.step(Input::ChunkLost { sub: lost.sub, chunk: lost.id });
            }
            4 => {
                let offsets: Vec<Offset> = self.subs[i].dead.keys().copied().take(3).collect();
                self.step(Input::Revive { sub, offsets });
            }
            5 => {
                let offsets: Vec<Offset> = self.subs[i].dead.keys().copied().take(3).collect();
                self.step(Input::Drop { sub, offsets });
            }
            6 => {
                self.detached[i] = true;
                self.step(Input::Detach { sub });
            }
            7 => self.attach(i),
            8 => self.seek(sub),
            _ if !self.detached[i] => {
                self.subs[i].spec.concurrency = 1 + self.below(3);
                if !self.subs[i].ordered {
                    let all = [Ordering::Key, Ordering::None, Ordering::Strict];
                    self.subs[i].spec.ordering = all[self.below(3)];
                }
                let spec = self.subs[i].spec.clone();
                self.step(Input::Reconfigure { sub, spec });
            }
            _ => {}
        }
    }

    fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.below(100) {
                0..10 => self.publish(),
                10..25 => drop(self.tail()),
                25..55 => drop(self.report()),
                55..75 => drop(self.sequence()),
                75..87 => drop(self.answer()),
                87..93 => self.tick(),
                93..99 => self.admin(),
                _ if self.below(4) == 0 => self.crash(),
                _ => {}
            }
        }
    }

    fn drain(&mut self) {
        self.kind = true;
        self.step(Input::Room(true));
        for i in 0..self.subs.len() {
            self.attach(i);
            self.step(Input::Paused { sub: SubId(i as u32), paused: false });
        }
        for _ in 0..200_000 {
            for i in 0..self.subs.len() {
                let sub = SubId(i as u32);
                let stats = self.machine.stats(sub).expect("it is attached");
                if stats.paused == Some(PauseReason::DeadFull) {
                    let offsets = self.subs[i].dead.keys().copied().take(3).collect();
                    self.step(Input::Drop { sub, offsets });
                }
            }
            if self.tail() | self.report() | self.sequence() | self.answer() {
                continue;
            }
            match self.machine.next_due() {
                Some(due) => {
                    self.now = self.now.max(due.0);
                    self.step(Input::Tick);
                }
                None => break,
            }
        }
        let stats: Vec<_> = (0..self.subs.len()).map(|i| self.machine.stats(SubId(i as u32))).collect();
        assert!(self.machine.is_idle(), "not idle after all was answered: {stats:#?}");
        for durable in &self.subs {
            durable.check_complete(&self.log);
        }
    }
}

fn simulate(seed: u64) {
    let mut sim = Sim::new(seed);
    sim.live(600);
    sim.drain();
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("BUSWAY_SEED");
    let count = number("BUSWAY_SEEDS").unwrap_or(if first.is_some() { 1 } else { 300 });
    let first = first.unwrap_or_default();
    let seeds = first..first + count;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "seed {seed} failed; run again with BUSWAY_SEED={seed}");
    }
}
