//! What a simulation really exercised.

use std::collections::BTreeMap;
use std::fmt;

use rustc_hash::FxHashSet;

/// Counts of what happened, over any number of runs.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Runs.
    pub seeds: u64,
    /// Steps, all runs together.
    pub steps: u64,
    /// Different situations of the node, coarsely: what its queues, windows and lanes were doing.
    states: FxHashSet<u64>,
    counts: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// A number that depends on everything that happened.
    pub fingerprint: u64,
}

impl Coverage {
    pub(crate) fn count(&mut self, kind: &'static str, what: &'static str) {
        *self.counts.entry(kind).or_default().entry(what).or_default() += 1;
        self.mix(what.len() as u64);
    }

    pub(crate) fn visit(&mut self, state: u64) {
        self.states.insert(state);
        self.mix(state);
    }

    fn mix(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// How often something of a kind happened.
    pub fn of(&self, kind: &str) -> u64 {
        self.counts.get(kind).map_or(0, |counts| counts.values().sum())
    }

    /// How often one thing happened.
    pub fn times(&self, kind: &str, what: &str) -> u64 {
        self.counts.get(kind).and_then(|counts| counts.get(what)).copied().unwrap_or(0)
    }

    /// How many different situations there were.
    pub fn states(&self) -> usize {
        self.states.len()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} steps, {} states visited", self.seeds, self.steps, self.states.len())?;
        for (kind, counts) in &self.counts {
            let each: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            writeln!(f, "  {kind}: {}", each.join(", "))?;
        }
        Ok(())
    }
}
