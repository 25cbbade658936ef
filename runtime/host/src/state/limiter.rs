//! The memory limit of one instance.
//!
//! Role: adds up all memories and tables of a store and what the host holds for the guest (outbox, key-value writes).
//! wasmtime asks once per memory; the limit is for the sum.

use wasmtime::ResourceLimiter;

/// What one table element costs the host.
const ELEMENT_BYTES: usize = size_of::<usize>();

/// Core instances, memories and tables that one component may have; a Python component has about 25.
const ITEMS: usize = 1_000;

/// Counts and bounds the memory of one store.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: usize,
    /// Bytes of memories and tables.
    guest: usize,
    /// Bytes that the host holds for the delivery in hand.
    held: usize,
    /// Bytes that the host keeps for the instance from one delivery to the next.
    kept: usize,
    /// The most that `guest` has been.
    pub(crate) peak: usize,
    /// Whether something was refused since the last call of `begin`.
    pub(crate) refused: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, guest: 0, held: 0, kept: 0, peak: 0, refused: false }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A delivery begins: nothing is held for it and nothing was refused.
    pub(crate) fn begin(&mut self) {
        self.held = 0;
        self.refused = false;
    }

    /// Notes that the host holds `bytes` more. False when that is over the limit; then nothing is noted.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        if bytes > self.room() {
            self.refused = true;
            return false;
        }
        self.held += bytes;
        true
    }

    /// How many bytes there is still room for.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.guest).saturating_sub(self.held).saturating_sub(self.kept)
    }

    /// Notes that the host keeps `now` bytes for the instance where it kept `before`.
    pub(crate) fn keep(&mut self, before: usize, now: usize) {
        self.kept = self.kept.saturating_sub(before).saturating_add(now);
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let guest = self.guest.saturating_sub(current).saturating_add(desired);
        if guest.saturating_add(self.held).saturating_add(self.kept) > self.limit {
            self.refused = true;
            return false;
        }
        self.guest = guest;
        self.peak = self.peak.max(guest);
        true
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current.saturating_mul(ELEMENT_BYTES), desired.saturating_mul(ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        ITEMS
    }

    fn tables(&self) -> usize {
        ITEMS
    }

    fn memories(&self) -> usize {
        ITEMS
    }
}

/// A number of bytes for people.
pub(crate) fn mib(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if bytes.is_multiple_of(MIB) { format!("{} MiB", bytes / MIB) } else { format!("{bytes} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_for_the_sum_of_all_memories_tables_and_what_is_held() {
        let mut limiter = MemoryLimiter::new(1_000);
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(!limiter.memory_growing(400, 700, None).unwrap());
        assert!(limiter.refused);
        assert!(limiter.table_growing(0, 20, None).unwrap());
        assert!(limiter.hold(40));
        assert!(!limiter.hold(1));
        limiter.begin();
        assert!(!limiter.refused);
        assert!(limiter.hold(40));
        assert_eq!(limiter.peak, 960);
        limiter.begin();
        limiter.keep(0, 30);
        limiter.begin();
        assert_eq!(limiter.room(), 10);
        assert!(!limiter.table_growing(20, 22, None).unwrap());
        limiter.keep(30, 0);
        assert_eq!(limiter.room(), 40);
    }
}
