//! Figures per service.
//!
//! Role: count what happened, once per report or settlement, not per event; read by `status`. Counts start at zero with
//! the process.

use std::sync::{Mutex, PoisonError};

use busway_types::{DeadReason, DeliveryResult, Outcome, Settlement, Verdict};
use hdrhistogram::Histogram;

/// What one service did since the node started.
#[derive(Clone, Debug)]
pub struct ServiceFigures {
    /// Deliveries that ran, however they ended.
    pub handled: u64,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Events published by acknowledged deliveries and by tasks.
    pub published: u64,
    /// Failed deliveries that are tried again.
    pub retried: u64,
    /// Events given up.
    pub dead_lettered: u64,
    /// Deliveries that trapped.
    pub trapped: u64,
    /// Deliveries that took too long.
    pub timed_out: u64,
    /// Deliveries that came back without having run.
    pub skipped: u64,
    /// Deliveries run again because what they read had changed.
    pub conflicts: u64,
    /// Requests answered, with an error of the contract or without.
    pub answered: u64,
    /// Requests that it was asked and that got no answer: it failed, or nobody waited any more.
    pub unanswered: u64,
    /// Time per delivery, in nanoseconds.
    pub time_ns: Histogram<u64>,
}

/// Events of one settlement that became dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Died<'a> {
    pub(crate) count: u64,
    /// Why the last one did.
    pub(crate) reason: &'a str,
}

/// Longer deliveries are counted as this long: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

#[derive(Debug)]
pub(crate) struct Metrics {
    figures: Mutex<ServiceFigures>,
}

impl Metrics {
    #[expect(clippy::expect_used, reason = "the bounds and two significant digits are always accepted")]
    pub(crate) fn new() -> Self {
        let time_ns = Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("a histogram of two digits");
        Self {
            figures: Mutex::new(ServiceFigures {
                handled: 0,
                acked: 0,
                published: 0,
                retried: 0,
                dead_lettered: 0,
                trapped: 0,
                timed_out: 0,
                skipped: 0,
                conflicts: 0,
                answered: 0,
                unanswered: 0,
                time_ns,
            }),
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut ServiceFigures) -> R) -> R {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn record(&self, results: &[DeliveryResult]) {
        self.with(|f| {
            for result in results {
                match &result.outcome {
                    Outcome::Skipped => {
                        f.skipped += 1;
                        continue;
                    }
                    Outcome::Acked => {
                        f.acked += 1;
                        f.published += result.effects.as_ref().map_or(0, |e| e.publishes.len() as u64);
                    }
                    Outcome::Trapped { .. } => f.trapped += 1,
                    Outcome::TimedOut { .. } => f.timed_out += 1,
                    Outcome::Retry { .. } | Outcome::Rejected { .. } => {}
                }
                f.handled += 1;
                f.time_ns.saturating_record(result.busy_ns);
            }
        });
    }

    /// Counts a settlement; gives what it gave up, if anything.
    pub(crate) fn settled<'a>(&self, settlement: &'a Settlement) -> Option<Died<'a>> {
        let (mut retried, mut dead, mut why) = (0, 0, "");
        for settle in &settlement.settles {
            match &settle.verdict {
                Verdict::Parked(parked) if !parked.attempts.is_empty() => retried += 1,
                Verdict::Dead { reason, attempts, .. } => {
                    dead += 1;
                    why = attempts.last().map_or(in_words(*reason), |attempt| attempt.error.as_str());
                }
                _ => {}
            }
        }
        if retried + dead > 0 {
            self.with(|f| {
                f.retried += retried;
                f.dead_lettered += dead;
            });
        }
        (dead > 0).then_some(Died { count: dead, reason: why })
    }

    pub(crate) fn conflicts(&self, count: u64) {
        self.with(|f| {
            f.conflicts += count;
            f.acked -= count.min(f.acked);
        });
    }

    /// Counts a request that it was asked.
    pub(crate) fn asked(&self, is_answered: bool) {
        self.with(|f| *(if is_answered { &mut f.answered } else { &mut f.unanswered }) += 1);
    }

    pub(crate) fn published(&self, count: u64) {
        self.with(|f| f.published += count);
    }

    pub(crate) fn snapshot(&self) -> ServiceFigures {
        self.with(|f| f.clone())
    }
}

/// Why an event was given up that was never tried.
fn in_words(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Rejected => "rejected",
        DeadReason::Exhausted => "its attempts are used up",
        DeadReason::Trapped => "trapped",
        DeadReason::TimedOut => "timed out",
        DeadReason::Loop => "more hops than allowed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_counted_by_outcome_and_timed() {
        let metrics = Metrics::new();
        let result = |outcome, busy_ns| DeliveryResult { offset: 0, outcome, effects: None, busy_ns };
        let reason = String::new;
        metrics.record(&[
            result(Outcome::Acked, 5_000),
            result(Outcome::Trapped { reason: reason() }, 9_000),
            result(Outcome::TimedOut { reason: reason() }, 2_000_000_000),
            result(Outcome::Skipped, 0),
        ]);
        let figures = metrics.snapshot();
        assert_eq!((figures.handled, figures.acked, figures.trapped), (3, 1, 1));
        assert_eq!((figures.timed_out, figures.skipped), (1, 1));
        let p50 = figures.time_ns.value_at_quantile(0.5);
        assert!((8_900..=9_100).contains(&p50), "{p50}");
        assert!(figures.time_ns.max() > 1_900_000_000, "long deliveries are not cut short");
    }
}
