//! Event ids.
//!
//! Role: identify an event for ever, across nodes and replays. An event published from outside gets a `UUIDv7` (RFC 9562,
//! time-ordered); an event published by a handler gets a `UUIDv8` derived from what caused it, so that running the same
//! delivery again yields the same ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{Entropy, Timestamp};

/// The id of one event: 128 bits, written as a hyphenated UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

impl EventId {
    /// A new time-ordered id (`UUIDv7`) for an event that arrived from outside at `now`.
    pub fn new(now: Timestamp, entropy: &mut dyn Entropy) -> Self {
        let random = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
        let time = u128::from(now.0 & 0xffff_ffff_ffff) << 80;
        let low = random & 0x0000_0000_0000_0fff_3fff_ffff_ffff_ffff;
        Self(time | low | (0x7 << 76) | (0b10 << 62))
    }

    /// The id (`UUIDv8`) of the `index`-th event that `subscription` publishes while it handles `input`.
    ///
    /// A pure function of its arguments: a redelivery yields the same ids, and two subscriptions handling one event, or
    /// another replay `generation`, yield others. The first 122 bits of a SHA-256 over the arguments.
    pub fn derived(input: Self, subscription: &str, generation: u32, index: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(input.0.to_be_bytes());
        hash.update(generation.to_be_bytes());
        hash.update(if crate::mutant("derived-id-without-index") { 0 } else { index }.to_be_bytes());
        hash.update(subscription.as_bytes());
        let digest = hash.finalize();
        let mut first = [0_u8; 16];
        first.copy_from_slice(&digest[..16]);
        let bits = u128::from_be_bytes(first);
        let kept = bits & 0xffff_ffff_ffff_0fff_3fff_ffff_ffff_ffff;
        Self(kept | (0x8 << 76) | (0b10 << 62))
    }

    /// The id with exactly these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits, most significant first as in the textual form.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The hyphenated lower-case form, as ASCII.
    pub fn encoded(self) -> [u8; 36] {
        let mut buffer = [0; 36];
        self.encode(&mut buffer);
        buffer
    }

    /// The hyphenated lower-case form, written into `buffer` without allocating.
    pub fn encode(self, buffer: &mut [u8; 36]) -> &str {
        uuid::Uuid::from_u128(self.0).as_hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 36]))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event id; expected a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct InvalidEventId(String);

impl FromStr for EventId {
    type Err = InvalidEventId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) => Ok(Self(id.as_u128())),
            Err(_) => Err(InvalidEventId(text.chars().take(80).collect())),
        }
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; 36]))
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SplitMix;

    #[test]
    fn new_ids_are_version_7_and_ordered_by_time() {
        let mut entropy = SplitMix(1);
        let early = EventId::new(Timestamp(1_000), &mut entropy);
        let late = EventId::new(Timestamp(1_001), &mut entropy);
        assert!(early < late);
        assert_eq!(uuid::Uuid::from_u128(early.0).get_version_num(), 7);
        assert_eq!(uuid::Uuid::from_u128(early.0).get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn derived_ids_depend_on_every_argument_and_on_nothing_else() {
        let input = EventId::from_u128(7);
        let base = EventId::derived(input, "a", 0, 0);
        assert_eq!(base, EventId::derived(input, "a", 0, 0));
        assert_ne!(base, EventId::derived(input, "b", 0, 0));
        assert_ne!(base, EventId::derived(input, "a", 1, 0));
        assert_ne!(base, EventId::derived(input, "a", 0, 1));
        assert_ne!(base, EventId::derived(EventId::from_u128(8), "a", 0, 0));
        assert_eq!(uuid::Uuid::from_u128(base.0).get_version_num(), 8);
    }

    #[test]
    fn ids_survive_their_text() {
        let id = EventId::derived(EventId::from_u128(1), "s", 2, 3);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("nonsense".parse::<EventId>().is_err());
    }
}
