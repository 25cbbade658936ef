//! What is known of one subscription's events: what ran, how it ended, and what was to be delivered again.
//!
//! Role: the part of the model that knows generations. An end counts from the last move whose part covers the event: what
//! was handled before it has to be handled again. Knows no engine.

use std::collections::{BTreeMap, BTreeSet};

use busway_engine::Replayed;
use busway_types::{Offset, Replay, SubId, SubscriptionState, Timestamp};

/// How an event came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// A guest handled it; whether that was committed is another question.
    Acked,
    /// An operator dropped its dead letter.
    Dropped,
    /// Nobody handled it in time.
    Expired,
}

/// What is known of one subscription's events.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Ends, with the generation in which they came.
    ends: BTreeSet<(Offset, u32, End)>,
    /// How many attempts failed.
    pub(crate) failures: BTreeMap<Offset, u32>,
    /// Reported and not yet settled.
    pub(crate) open: BTreeSet<Offset>,
    /// Dead letters that were called back.
    pub(crate) revived: BTreeSet<Offset>,
    /// Where the cursor was seen last.
    pub(crate) cursor: Offset,
    /// What was seen as settled above the cursor last.
    pub(crate) settled: Vec<(Offset, Offset)>,
    /// How often it was moved.
    pub(crate) generation: u32,
    /// By the generation that began with it.
    moves: BTreeMap<u32, Replay>,
    /// The generations that operators were told, and when.
    told: BTreeMap<u32, Timestamp>,
}

impl Ran {
    /// The generation since which an event has to be brought to an end.
    pub(crate) fn since(&self, offset: Offset) -> u32 {
        let covers = |replay: &Replay| (replay.from..replay.to).contains(&offset);
        self.moves.iter().rev().find(|(_, replay)| covers(replay)).map_or(0, |(generation, _)| *generation)
    }

    /// Whether an event was to be delivered again after generation `from` and up to generation `to`.
    pub(crate) fn again(&self, offset: Offset, from: u32, to: u32) -> bool {
        self.moves.range(from + 1..=to).any(|(_, replay)| (replay.from..replay.to).contains(&offset))
    }

    /// An event ended now.
    pub(crate) fn end(&mut self, offset: Offset, end: End) {
        self.ends.insert((offset, self.generation, end));
    }

    /// It ran, and its effects were left out.
    pub(crate) fn void(&mut self, offset: Offset) {
        self.open.remove(&offset);
        self.ends.remove(&(offset, self.generation, End::Acked));
    }

    /// Whether an event ended so since it was to be delivered last.
    pub(crate) fn ended(&self, offset: Offset, how: End) -> bool {
        self.ends_of(offset).any(|(_, _, end)| *end == how)
    }

    /// Whether an event ended at all since it was to be delivered last.
    pub(crate) fn is_over(&self, offset: Offset) -> bool {
        self.ends_of(offset).next().is_some()
    }

    fn ends_of(&self, offset: Offset) -> impl Iterator<Item = &(Offset, u32, End)> {
        self.ends.range((offset, self.since(offset), End::Acked)..=(offset, u32::MAX, End::Expired))
    }

    /// A part of the log was opened again: exactly what was settled in it, and nothing else.
    pub(crate) fn moved(&mut self, name: &str, before: &SubscriptionState, after: &Replayed, end: Offset) {
        let Replayed { replay, state } = after;
        assert!(self.open.is_empty(), "{name} was moved while {:?} were not settled", self.open);
        assert_eq!(state.generation, self.generation + 1, "each move of {name} begins a generation");
        assert_eq!(state.parked, before.parked, "what waits in {name} goes on waiting");
        for offset in 0..end {
            let inside = (replay.from..replay.to).contains(&offset);
            let kept = is_kept(state, offset);
            let was = before.dead.iter().any(|letter| letter.offset == offset);
            assert!(!was || kept || inside && replay.dead, "the dead letter {offset} of {name} is gone");
            let over = if inside && !kept { false } else { before.is_over(offset) };
            assert_eq!(state.is_over(offset), over, "{offset} in {name} after a move to {replay:?}");
        }
        self.generation = state.generation;
        self.moves.insert(state.generation, *replay);
        (self.cursor, self.settled) = (state.cursor, state.settled.clone());
    }

    /// An operator was told that it was moved.
    pub(crate) fn told(&mut self, generation: u32, now: Timestamp) {
        self.told.entry(generation).or_insert(now);
    }

    /// Forgets what a crash took: of what was said only what was said at or after `since`, if that is given.
    pub(crate) fn truncate(&mut self, sub: SubId, head: Offset, state: &SubscriptionState, since: Option<Timestamp>) {
        let generation = state.generation;
        self.told.retain(|number, at| *number <= generation || since.is_none_or(|since| *at < since));
        let told = self.told.last_key_value().map_or(0, |(number, _)| *number);
        assert!(generation >= told, "{sub:?} was moved {told} times and knows of {generation}");
        assert!(generation <= self.generation, "{sub:?} knows of {generation} moves, there were {}", self.generation);
        self.generation = generation;
        self.moves.retain(|number, _| *number <= generation);
        let ended = |offset: Offset| state.is_over(offset) && !is_kept(state, offset);
        self.ends.retain(|(offset, number, _)| *offset < head && *number <= generation && ended(*offset));
        self.revived.split_off(&head);
        self.failures.split_off(&head);
        self.open.clear();
        self.settled.clear();
        self.cursor = 0;
    }

    /// Offsets that came to be over since the last look, by cursor and runs.
    pub(crate) fn passed(&mut self, state: &SubscriptionState) -> Vec<Offset> {
        let before = (0, self.cursor);
        let mut passed = Vec::new();
        for run in std::iter::once(&(self.cursor, state.cursor)).chain(&state.settled) {
            let mut offset = run.0;
            while offset < run.1 {
                let at = self.settled.partition_point(|known| known.1 <= offset);
                let known = self.settled.get(at).filter(|known| known.0 <= offset);
                if let Some(known) = known.or((offset < before.1).then_some(&before)) {
                    offset = known.1;
                } else {
                    passed.push(offset);
                    offset += 1;
                }
            }
        }
        self.cursor = state.cursor;
        self.settled.clone_from(&state.settled);
        passed
    }
}

/// Whether an event waits or was given up.
pub(crate) fn is_kept(state: &SubscriptionState, offset: Offset) -> bool {
    state.parked.iter().any(|parked| parked.offset == offset) || state.dead.iter().any(|dead| dead.offset == offset)
}
