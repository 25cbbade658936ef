//! Fake lanes: chunks in flight, run by the lane's rule with outcomes from the seed.
//!
//! The rule is the host's: each delivery is a transaction of its own; after one that fails, later ones of its key (all
//! when strict) are skipped, after a trap or a timeout the whole rest. What a chunk wrote is seen by its later deliveries
//! until a part of the report is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use busway_engine::{Embedded, Engine as _};
use busway_log::testing::ManualClock;
use busway_types::{
    Chunk, Clock as _, Delivery, DeliveryResult, Effects, Entropy, Event, KvRead, KvWrite, Limits, Ordering, Outcome,
    Report, SplitMix,
};
use bytes::Bytes;

use crate::guests::{Guest, POISON};

/// The value that rewriting guests read and write back.
pub(crate) const REWRITTEN: &str = "rewritten";
/// The value that every guest increments.
pub(crate) const COUNTED: &str = "counted";

/// A chunk on a lane.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) chunk: Chunk,
    done: usize,
    failed: Vec<String>,
    rest: bool,
}

/// What a guest needs of its surroundings.
pub(crate) struct Around<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) engine: &'a Embedded,
    pub(crate) clock: &'a ManualClock,
    pub(crate) limits: &'a Limits,
    /// Whether guests do their best: only poison fails.
    pub(crate) kind: bool,
}

impl Running {
    pub(crate) fn new(chunk: Chunk) -> Self {
        Self { chunk, done: 0, failed: Vec::new(), rest: false }
    }

    /// The deliveries that are not reported yet.
    pub(crate) fn left(&self) -> &[Delivery] {
        &self.chunk.deliveries[self.done..]
    }

    /// Runs up to `most` deliveries and reports them.
    pub(crate) fn run(&mut self, most: usize, around: &Around<'_>, random: &mut SplitMix) -> Report {
        let mut written = BTreeMap::new();
        let mut results = Vec::new();
        while results.len() < most && self.done < self.chunk.deliveries.len() {
            let delivery = self.chunk.deliveries[self.done].clone();
            self.done += 1;
            results.push(self.run_one(&delivery, around, &mut written, random));
        }
        let finished = self.done == self.chunk.deliveries.len();
        Report { chunk: self.chunk.id, sub: self.chunk.sub, results, finished }
    }

    fn run_one(
        &mut self,
        delivery: &Delivery,
        around: &Around<'_>,
        written: &mut BTreeMap<&'static str, u64>,
        random: &mut SplitMix,
    ) -> DeliveryResult {
        let event = &delivery.logged.event;
        let key = event.key.as_ref().map(|key| key.as_str().to_owned());
        let void = self.rest || key.as_ref().is_some_and(|key| self.failed.contains(key));
        let outcome = if void { Outcome::Skipped } else { outcome(event, around.kind, random) };
        if !void && outcome != Outcome::Acked {
            match (self.chunk.ordering, key) {
                (Ordering::Strict, _) => self.rest = true,
                (Ordering::Key, Some(key)) => self.failed.push(key),
                _ => {}
            }
            self.rest |= matches!(outcome, Outcome::Trapped { .. } | Outcome::TimedOut { .. });
        }
        let effects =
            (outcome == Outcome::Acked).then(|| effects(event, self.chunk.generation, around, written)).flatten();
        DeliveryResult { offset: delivery.logged.offset, outcome, effects, busy_ns: 1 + random.next_u64() % 1_000_000 }
    }
}

fn effects(
    event: &Event,
    generation: u32,
    around: &Around<'_>,
    written: &mut BTreeMap<&'static str, u64>,
) -> Option<Box<Effects>> {
    let guest = around.guest;
    if !guest.publishes {
        return None;
    }
    let mut effects = Effects {
        publishes: guest.outputs(event, generation, around.clock.now(), around.limits),
        writes: vec![KvWrite::Increment { key: COUNTED.into(), by: 1 }],
        ..Effects::default()
    };
    if guest.rewrites {
        let (before, read) = if let Some(own) = written.get(REWRITTEN) {
            (*own, KvRead { key: REWRITTEN.into(), version: None, own: true })
        } else {
            let (value, version) = around.engine.kv_get(&guest.spec.service, REWRITTEN).expect("readable");
            (number(value.as_ref()), KvRead { key: REWRITTEN.into(), version: Some(version), own: false })
        };
        written.insert(REWRITTEN, before + 1);
        effects.reads.push(read);
        let value = Bytes::from((before + 1).to_string());
        effects.writes.push(KvWrite::Set { key: REWRITTEN.into(), value });
    }
    Some(Box::new(effects))
}

/// A value of key-value as a number; absent is 0.
pub(crate) fn number(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("a number"))
}

fn outcome(event: &Event, kind: bool, random: &mut SplitMix) -> Outcome {
    let reason = || "why".to_owned();
    let poison = event.data.first() == Some(&POISON);
    let after = Duration::from_millis(random.next_u64() % 100);
    match random.next_u64() % if poison { 5 } else { 16 } {
        _ if kind && !poison => Outcome::Acked,
        0 => Outcome::Retry { reason: reason(), after: None },
        1 => Outcome::Retry { reason: reason(), after: Some(after) },
        2 if random.next_u64().is_multiple_of(3) => Outcome::Rejected { reason: reason() },
        3 => Outcome::Trapped { reason: reason() },
        2 | 4 => Outcome::TimedOut { reason: reason() },
        _ => Outcome::Acked,
    }
}

/// The word for an outcome in figures.
pub(crate) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Acked => "acked",
        Outcome::Retry { .. } => "retry",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Trapped { .. } => "trapped",
        Outcome::TimedOut { .. } => "timed out",
        Outcome::Skipped => "skipped",
    }
}
