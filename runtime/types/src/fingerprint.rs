//! Fingerprints of client-supplied event ids.
//!
//! Role: what deduplication remembers of an event instead of its topic and id.

use sha2::{Digest, Sha256};

use crate::{EventId, Topic};

/// The first 128 bits of a SHA-256 over a topic and an event id.
///
/// Among a million remembered ids the odds that a new one is taken for another are below 1 in 10^32, and nobody can make
/// it happen on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// The fingerprint of `id` on `topic`.
    pub fn of(topic: &Topic, id: EventId) -> Self {
        let mut hash = Sha256::new();
        hash.update(id.as_u128().to_be_bytes());
        hash.update(topic.as_str().as_bytes());
        let digest = hash.finalize();
        let mut first = [0_u8; 16];
        first.copy_from_slice(&digest[..16]);
        Self::from_bytes(first)
    }

    /// The fingerprint as it is stored.
    pub fn to_bytes(self) -> [u8; 16] {
        let [high, low] = self.0;
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// A stored fingerprint.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self([(bits >> 64) as u64, bits as u64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_depends_on_topic_and_id_and_survives_its_bytes() {
        let topic = |text: &str| text.parse::<Topic>().expect("a topic");
        let base = Fingerprint::of(&topic("a.b"), EventId::from_u128(7));
        assert_eq!(base, Fingerprint::of(&topic("a.b"), EventId::from_u128(7)));
        assert_ne!(base, Fingerprint::of(&topic("a.c"), EventId::from_u128(7)));
        assert_ne!(base, Fingerprint::of(&topic("a.b"), EventId::from_u128(8)));
        assert_eq!(Fingerprint::from_bytes(base.to_bytes()), base);
    }
}
