//! A Bloom filter: which of many keys a segment may hold.
//!
//! Role: answer "certainly not here" for most segments, so that finding one event does not read them all. A key that was
//! added is always found; one that was not is found by mistake in about one of a hundred cases at the size that
//! [`Filter::sized_for`] chooses. The hash is part of the format on disk and must never change.

/// Bits set for one key.
const PROBES: u64 = 6;

/// Bits that a filter should have for each key.
const BITS_PER_KEY: u64 = 10;

/// The smallest filter, and the largest, in bytes.
const LEAST_BYTES: u64 = 64;
const MOST_BYTES: u64 = 1024 * 1024;

/// Mixes 64 bits so that every bit of the input changes about half of the output.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The hash of a key; `domain` keeps keys of different meaning apart.
pub(crate) fn hash(domain: u8, key: &[u8]) -> u64 {
    let mut hash = mix(u64::from(domain) + 0x9e37_79b9_7f4a_7c15 + key.len() as u64);
    for part in key.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        hash = mix(hash ^ u64::from_le_bytes(bytes));
    }
    hash
}

/// A set of hashes that may answer yes too often, and never no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// As many bytes as a power of two.
    bytes: Vec<u8>,
    /// Keys added.
    keys: u64,
}

impl Filter {
    /// A filter for about this many keys.
    pub(crate) fn sized_for(keys: u64) -> Self {
        let bytes = (keys.saturating_mul(BITS_PER_KEY) / 8).clamp(LEAST_BYTES, MOST_BYTES).next_power_of_two();
        Self { bytes: vec![0; usize::try_from(bytes).unwrap_or_default()], keys: 0 }
    }

    fn probes(hash: u64, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
        let (first, step) = (hash, (hash >> 32) | 1);
        (0..PROBES).map(move |i| {
            let bit = first.wrapping_add(i.wrapping_mul(step)) & (bytes as u64 * 8 - 1);
            ((bit / 8) as usize, 1 << (bit % 8))
        })
    }

    pub(crate) fn add(&mut self, hash: u64) {
        let size = self.bytes.len();
        for (byte, bit) in Self::probes(hash, size) {
            self.bytes[byte] |= bit;
        }
        self.keys += 1;
    }

    /// Whether the key may have been added.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        Self::probes(hash, self.bytes.len()).all(|(byte, bit)| self.bytes[byte] & bit != 0)
    }

    /// The filter as bytes, halved as often as its keys still fit; empty when it has none.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        if self.keys == 0 {
            return Vec::new();
        }
        let mut bytes = self.bytes.clone();
        // Probes are taken modulo the size, so laying one half over the other gives the filter of half the size.
        while bytes.len() as u64 > LEAST_BYTES && bytes.len() as u64 * 4 >= self.keys.saturating_mul(BITS_PER_KEY) {
            let upper = bytes.split_off(bytes.len() / 2);
            bytes.iter_mut().zip(upper).for_each(|(low, high)| *low |= high);
        }
        bytes
    }

    /// Reads what [`Filter::to_bytes`] gave; none when it cannot be one.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::sized_for(0));
        }
        bytes.len().is_power_of_two().then_some(Self { bytes, keys: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u64) -> u64 {
        hash(1, &i.to_le_bytes())
    }

    #[test]
    fn what_was_added_is_found_and_little_else_at_any_size() {
        for (expected, added) in [(1_000_u64, 1_000_u64), (100_000, 500), (100_000, 100_000), (0, 50), (10, 0)] {
            let mut filter = Filter::sized_for(expected);
            (0..added).for_each(|i| filter.add(key(i)));
            let stored = filter.to_bytes();
            assert!(stored.len() as u64 <= (added * BITS_PER_KEY / 4).max(LEAST_BYTES), "{} bytes", stored.len());
            let filter = Filter::from_bytes(stored).expect("a filter");
            assert!((0..added).all(|i| filter.may_hold(key(i))));
            let wrong = (1 << 40..(1 << 40) + 10_000).filter(|i| filter.may_hold(key(*i))).count();
            assert!(wrong < 300, "{wrong} of 10,000 at {added} keys");
        }
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(1, b"abc"), hash(1, b"abc"));
        assert_ne!(hash(1, b"abc"), hash(2, b"abc"));
        assert_ne!(hash(1, b"abc"), hash(1, b"abc\0"));
        assert_eq!(hash(1, b"busway"), 6_504_604_698_900_917_986);
    }

    #[test]
    fn bytes_that_are_no_filter_are_not_taken_for_one() {
        assert_eq!(Filter::from_bytes(vec![0; 3]), None);
    }
}
