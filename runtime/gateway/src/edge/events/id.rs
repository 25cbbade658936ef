//! Ids of events that a client names itself, so that sending one again is recognised.
//!
//! Invariant: the id is a pure function of who sends and of the name that they give. Two clients never meet in one id, so
//! that nobody can suppress what somebody else sends.

use busway_types::{EventId, Topic};
use sha2::{Digest, Sha256};

/// The id (`UUIDv8`) of what a client sends to a topic under names of its own: the first 122 bits of a SHA-256 over the kind
/// of name, the client, the topic and the names, each with its length (64 bits, big-endian) before it.
pub(super) fn derived(kind: &str, caller: Option<&str>, topic: &Topic, names: &[&str]) -> EventId {
    let mut hash = Sha256::new();
    for part in [kind, caller.unwrap_or_default(), topic.as_str()].iter().chain(names) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut first = [0_u8; 16];
    first.copy_from_slice(&digest[..16]);
    let kept = u128::from_be_bytes(first) & 0xffff_ffff_ffff_0fff_3fff_ffff_ffff_ffff;
    EventId::from_u128(kept | (0x8 << 76) | (0b10 << 62))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_kind_client_and_place() {
        let (t, u): (Topic, Topic) = ("t".parse().expect("a topic"), "u".parse().expect("a topic"));
        let ids = [
            derived("idempotency-key", None, &t, &["a"]),
            derived("cloudevent", None, &t, &["a"]),
            derived("idempotency-key", Some("a"), &t, &[]),
            derived("idempotency-key", Some("a"), &t, &["a"]),
            derived("idempotency-key", Some("a"), &u, &["a"]),
            derived("idempotency-key", Some("a"), &t, &["a", "1"]),
            derived("idempotency-key", Some("a"), &t, &["a1"]),
            derived("idempotency-key", Some("aa"), &t, &["1"]),
        ];
        for (place, id) in ids.iter().enumerate() {
            assert!(!ids[..place].contains(id), "{place}");
        }
        let again = derived("idempotency-key", Some("a"), &t, &["a"]);
        assert_eq!((again, uuid_version(again)), (ids[3], 8));
        assert_eq!(again.to_string(), "b47ab0c3-05e9-88c3-9885-fdec17792692", "on the wire for ever");
    }

    fn uuid_version(id: EventId) -> u128 {
        (id.as_u128() >> 76) & 0xf
    }
}
