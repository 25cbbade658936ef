//! How fast the driver's work comes, and so how long it naps.

use std::time::Duration;

/// Batches that follow within this time (nanoseconds) follow closely.
const CLOSE_NS: u64 = 1_000_000;
/// So many events and results in a round are many.
const BUSY: usize = 128;
/// How long the driver naps when many follow closely. What lanes have in flight lasts longer.
const NAP: Duration = Duration::from_micros(250);

/// How closely batches follow one another, and how much is in them.
#[derive(Debug)]
pub(super) struct Pace {
    last_ns: u64,
    /// Moving average of the time between two takes.
    gap_ns: u64,
    /// Events and results since the last take.
    handled: usize,
    /// Moving average of those.
    load: usize,
    /// Moving average of the results of a report.
    report: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { last_ns: 0, gap_ns: 8 * CLOSE_NS, handled: 0, load: 0, report: 0 }
    }

    /// So many events were handled.
    pub(super) fn handled(&mut self, count: usize) {
        self.handled += count;
    }

    /// A report with so many results was handled.
    pub(super) fn reported(&mut self, results: usize) {
        self.handled += results;
        self.report = (self.report * 7 + results) / 8;
    }

    /// Whether reports go ahead of each new batch: a lane that runs large chunks soon waits for the next. Small chunks are
    /// better left to grow while new events are taken in, or a hundred busy services never get out of chunks of two.
    pub(super) fn refills_early(&self) -> bool {
        self.report >= BUSY
    }

    /// The driver took what was there.
    pub(super) fn took(&mut self, now_ns: u64) {
        let gap = now_ns.saturating_sub(self.last_ns).min(8 * CLOSE_NS);
        self.last_ns = now_ns;
        self.gap_ns = (self.gap_ns * 7 + gap) / 8;
        self.load = (self.load * 7 + std::mem::take(&mut self.handled)) / 8;
    }

    /// How long to nap before looking for the next batch: not at all unless many events follow closely, for a nap makes
    /// the few wait that come alone.
    pub(super) fn nap(&self) -> Duration {
        if self.gap_ns < CLOSE_NS && self.load >= BUSY { NAP } else { Duration::ZERO }
    }
}
