//! Token buckets, one per client, in bounded memory.
//!
//! A bucket is one number: the moment at which it will be full again (the generic cell rate algorithm). A full bucket
//! and no bucket are the same, so that full ones can be forgotten and nothing else ever is: nobody can win a new bucket
//! by making the table forget the old one. When the table is full of buckets that are in use, clients that are not in
//! it share a fixed number of common buckets, chosen by a keyed hash, until there is room again; those who are in it
//! do not notice. Invariants: memory is bounded by the number of clients given; time never goes back in a bucket.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Rate;

/// Tables, each with its own lock.
const SHARDS: usize = 16;
/// Common buckets of each table.
const COMMON: usize = 64;
/// The least time between two searches for full buckets in a full table, so that a flood of new clients does not make
/// each request look at all of them.
const SEARCH_EVERY_NS: u64 = 100_000_000;

/// What a bucket says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether it may pass.
    pub(crate) is_allowed: bool,
    /// How many more could follow at once.
    pub(crate) remaining: u64,
    /// How long until there is one more.
    pub(crate) wait: Duration,
}

/// Buckets of one rate.
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    most: usize,
}

#[derive(Debug)]
struct Shard {
    full_at: HashMap<u64, u64>,
    common: Box<[u64]>,
    search_at: u64,
}

impl Buckets {
    /// Buckets for about `clients` clients.
    pub(crate) fn new(rate: Rate, clients: usize) -> Self {
        let shard =
            || Mutex::new(Shard { full_at: HashMap::new(), common: vec![0; COMMON].into_boxed_slice(), search_at: 0 });
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self { rate, hasher: RandomState::new(), shards, most: clients.div_ceil(SHARDS).max(1) }
    }

    /// The rate.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one from the bucket of a client, if there is one.
    pub(crate) fn take(&self, client: &impl Hash, now_ns: u64) -> Verdict {
        self.with(client, now_ns, |full_at, rate| {
            let after = (*full_at).max(now_ns).saturating_add(rate.interval_ns());
            let is_allowed = after - now_ns <= rate.fill_ns();
            if is_allowed {
                *full_at = after;
            }
            verdict(rate, *full_at, now_ns, is_allowed)
        })
    }

    /// What [`Self::take`] would say, without taking.
    pub(crate) fn look(&self, client: &impl Hash, now_ns: u64) -> Verdict {
        let hash = self.hasher.hash_one(client);
        let shard = self.shard(hash);
        let full_at = match shard.full_at.get(&hash) {
            Some(full_at) => *full_at,
            None if shard.full_at.len() < self.most => 0,
            None => shard.common[common(hash)],
        };
        let is_allowed = full_at.max(now_ns).saturating_add(self.rate.interval_ns()) - now_ns <= self.rate.fill_ns();
        verdict(self.rate, full_at, now_ns, is_allowed)
    }

    fn with<T>(&self, client: &impl Hash, now_ns: u64, act: impl FnOnce(&mut u64, Rate) -> T) -> T {
        let hash = self.hasher.hash_one(client);
        let mut shard = self.shard(hash);
        if shard.full_at.len() >= self.most && !shard.full_at.contains_key(&hash) && now_ns >= shard.search_at {
            shard.full_at.retain(|_, full_at| *full_at > now_ns);
            shard.search_at = now_ns.saturating_add(SEARCH_EVERY_NS);
        }
        let has_room = shard.full_at.len() < self.most;
        match shard.full_at.get_mut(&hash) {
            Some(full_at) => act(full_at, self.rate),
            None if has_room => act(shard.full_at.entry(hash).or_insert(0), self.rate),
            None => act(&mut shard.common[common(hash)], self.rate),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // A panic elsewhere cannot leave half a number behind.
        self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("a lock").full_at.len()).sum()
    }
}

fn common(hash: u64) -> usize {
    (hash >> 32) as usize % COMMON
}

fn verdict(rate: Rate, full_at: u64, now_ns: u64, is_allowed: bool) -> Verdict {
    let missing = full_at.saturating_sub(now_ns);
    let left = rate.fill_ns().saturating_sub(missing);
    let remaining = left / rate.interval_ns();
    let wait = rate.interval_ns() - left % rate.interval_ns();
    Verdict { is_allowed, remaining, wait: Duration::from_nanos(wait) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn buckets(rate: &str, burst: u32, clients: usize) -> Buckets {
        let rate: Rate = rate.parse().expect("a rate");
        Buckets::new(rate.with_burst(burst), clients)
    }

    #[test]
    fn a_burst_passes_then_the_rate_and_what_remains_is_told() {
        let buckets = buckets("10/s", 3, 100);
        for remaining in [2, 1, 0] {
            let verdict = buckets.take(&"a", SECOND);
            assert!(verdict.is_allowed && verdict.remaining == remaining, "{verdict:?}");
        }
        let refused = buckets.take(&"a", SECOND);
        assert!(!refused.is_allowed && refused.remaining == 0);
        assert_eq!(refused.wait, Duration::from_millis(100));
        assert!(!buckets.take(&"a", SECOND + 99_999_999).is_allowed, "not a moment too early");
        assert!(buckets.take(&"a", SECOND + 100_000_000).is_allowed, "and not later than told");
        assert!(buckets.take(&"b", SECOND).is_allowed, "others have their own");
    }

    #[test]
    fn over_a_long_time_no_more_than_the_rate_passes() {
        let buckets = buckets("100/s", 20, 10);
        let passed = (0..10_000).filter(|i| buckets.take(&"a", i * 1_000_000).is_allowed).count();
        assert!((1_015..=1_021).contains(&passed), "{passed} of 10 s at 100/s with a burst of 20");
    }

    #[test]
    fn looking_takes_nothing() {
        let buckets = buckets("1/s", 1, 10);
        assert!(buckets.look(&"a", 0).is_allowed && buckets.look(&"a", 0).is_allowed);
        assert!(buckets.take(&"a", 0).is_allowed);
        assert!(!buckets.look(&"a", 0).is_allowed && buckets.look(&"a", SECOND).is_allowed);
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_clients_wins_nobody_a_new_bucket() {
        let buckets = buckets("1/m", 1, 160);
        assert!(buckets.take(&"me", 0).is_allowed);
        let passed = (0..100_000_u32).filter(|i| buckets.take(i, u64::from(*i) * 1_000).is_allowed).count();
        assert!(buckets.len() <= 160, "{}", buckets.len());
        assert!(passed <= 160 + SHARDS * COMMON, "{passed} strangers passed");
        assert!(!buckets.take(&"me", 2 * SECOND).is_allowed, "the flood did not reset my bucket");
        assert!(buckets.take(&"me", 60 * SECOND).is_allowed);
    }

    #[test]
    fn who_is_in_the_table_does_not_notice_a_flood() {
        let buckets = buckets("10/s", 2, 160);
        let mut now = 0;
        assert!(buckets.take(&"me", now).is_allowed);
        for i in 0..50_000_u32 {
            let _ = buckets.take(&i, now);
            if i % 1_000 == 0 {
                now += SECOND / 10;
                assert!(buckets.take(&"me", now).is_allowed, "at {i}");
            }
        }
    }

    #[test]
    fn room_comes_back_when_buckets_are_full_again() {
        let buckets = buckets("1/s", 1, 1_600);
        for i in 0..20_000_u32 {
            let _ = buckets.take(&i, 0);
        }
        assert_eq!(buckets.len(), 1_600);
        // Wherever they fall, a table has room for all of them once it has let go of what is full.
        let passed = (20_000..20_016_u32).filter(|i| buckets.take(i, 3 * SECOND).is_allowed).count();
        assert_eq!(passed, 16);
        assert!(buckets.len() < 1_600, "{}", buckets.len());
    }

    #[test]
    fn a_clock_that_stands_still_or_begins_at_its_end_is_no_panic() {
        let buckets = buckets("1/s", 5, 16);
        for _ in 0..20 {
            let _ = buckets.take(&"a", u64::MAX);
            let _ = buckets.take(&"b", 0);
        }
    }
}
