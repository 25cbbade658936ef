//! All five stages of an event's life on one thread: publish, append, drive, deliver, settle.
//!
//! Role: the product's own dispatcher, embedded engine and log, with fake guests, over a file system that forgets what was
//! not synced, under a virtual clock. A seed decides everything: who acts next, what guests do, which writes fail, when
//! the node dies and what the disk then holds, how durable the bus is, what expires, and which part of the log is delivered
//! again. After every step the `model` says what must hold; at the end all must
//! come to rest.
//!
//! ```text
//!   world: who acts next --> node (driver's glue, engine, machine) --> lanes (fake guests)
//!                 \--> faults: power cuts, kills, EIO, ENOSPC, failing starts
//!   model: what publishers were told, what was seen, what must never be
//! ```
//!
//! A violation is a panic; its message and the seed are all that is needed to see it again.

mod coverage;
mod guests;
mod lanes;
mod model;
mod node;
mod ran;
mod world;

pub use coverage::Coverage;

/// How many steps a run has before it comes to rest.
pub const STEPS: usize = 500;

/// Runs one seed.
///
/// # Panics
/// When something that must hold does not.
pub fn run(seed: u64, steps: usize, coverage: &mut Coverage) {
    world::World::new(seed, coverage).run(steps);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acknowledged_is_lost_nothing_happens_twice_and_all_comes_to_rest() {
        let mut coverage = Coverage::default();
        for seed in 0..60 {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, STEPS, &mut coverage)));
            assert!(ran.is_ok(), "seed {seed} failed; again: cargo xtask sim --first {seed} --seeds 1");
        }
        for kind in ["crashes", "faults", "outcomes", "settlements", "admin", "disk", "moves"] {
            assert!(coverage.of(kind) > 0, "no {kind}: {coverage}");
        }
        for (kind, what) in [("moves", "told"), ("settlements", "expired"), ("disk", "segments released")] {
            assert!(coverage.times(kind, what) > 20, "too few {what}: {coverage}");
        }
        assert!(coverage.states() > 5_000, "{coverage}");
    }

    #[test]
    fn a_seed_gives_the_same_run() {
        let fingerprint = |seed| {
            let mut coverage = Coverage::default();
            run(seed, STEPS, &mut coverage);
            coverage.fingerprint
        };
        for seed in [3, 4, 11, 25] {
            assert_eq!(fingerprint(seed), fingerprint(seed), "seed {seed}");
        }
    }
}
