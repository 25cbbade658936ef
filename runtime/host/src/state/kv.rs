//! Key-value inside one delivery.
//!
//! Role: reads see the committed state, what earlier acknowledged deliveries of the chunk wrote, and the delivery's own
//! writes; every read of something that others may change is recorded so that the committer can check it.
//!
//! Invariant: an increment alone records no read, because it commutes; reading its sum afterwards does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use busway_types::{KvRead, KvVersion, KvWrite};
use bytes::Bytes;

/// What acknowledged deliveries of one chunk wrote since its last report.
pub(crate) type Overlay = HashMap<Box<str>, Written>;

/// A key that an earlier delivery of the chunk wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    value: Option<Bytes>,
    /// The committed version below it, when it was only incremented.
    base: Option<KvVersion>,
}

/// What noting one key costs beside its text.
const ENTRY_BYTES: usize = 96;

/// Where a value came from, and so what has to be checked when somebody relied on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Committed(KvVersion),
    /// With the committed version below it, when it was only incremented.
    EarlierDelivery(Option<KvVersion>),
    /// This delivery wrote it, or its reading is recorded.
    Settled,
}

#[derive(Debug)]
struct Seen {
    value: Option<Bytes>,
    source: Source,
    /// Whether the delivery changed it.
    written: bool,
}

/// The key-value part of one delivery's transaction.
#[derive(Debug, Default)]
pub(crate) struct KvTransaction {
    seen: HashMap<Box<str>, Seen>,
    reads: Vec<KvRead>,
    writes: Vec<KvWrite>,
    /// Bytes of keys and values written.
    pub(crate) bytes: usize,
}

/// `increment` on something that is no decimal integer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotANumber;

impl KvTransaction {
    /// Whether nothing was read or written.
    pub(crate) fn is_untouched(&self) -> bool {
        self.seen.is_empty()
    }

    /// Forgets everything.
    pub(crate) fn void(&mut self) {
        if !self.is_untouched() {
            *self = Self::default();
        }
    }

    /// What reading `key` for the first time costs; 0 when it is known.
    pub(crate) fn cost_of_reading(&self, key: &str) -> usize {
        if self.seen.contains_key(key) { 0 } else { key.len() + ENTRY_BYTES }
    }

    /// The value of a key; `committed` is asked for what is not known here.
    pub(crate) fn get(
        &mut self,
        key: &str,
        overlay: &Overlay,
        committed: impl FnOnce() -> (Option<Bytes>, KvVersion),
    ) -> Option<Bytes> {
        let (version, own) = {
            let seen = self.look(key, overlay, committed);
            match std::mem::replace(&mut seen.source, Source::Settled) {
                Source::Settled => return seen.value.clone(),
                Source::EarlierDelivery(base) => (base, true),
                Source::Committed(version) => (Some(version), false),
            }
        };
        self.reads.push(KvRead { key: key.into(), version, own });
        self.seen.get(key).and_then(|seen| seen.value.clone())
    }

    /// Sets or removes a key.
    pub(crate) fn put(&mut self, key: &str, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.seen.insert(key.into(), Seen { value: value.clone(), source: Source::Settled, written: true });
        self.writes.push(match value {
            Some(value) => KvWrite::Set { key: key.into(), value },
            None => KvWrite::Delete { key: key.into() },
        });
    }

    /// Adds to a key and gives the sum.
    pub(crate) fn increment(
        &mut self,
        key: &str,
        by: i64,
        overlay: &Overlay,
        committed: impl FnOnce() -> (Option<Bytes>, KvVersion),
    ) -> Result<i64, NotANumber> {
        let seen = self.look(key, overlay, committed);
        let sum = number(seen.value.as_deref())?.saturating_add(by);
        seen.value = Some(Bytes::from(sum.to_string()));
        seen.written = true;
        self.bytes += key.len() + 20;
        match self.writes.last_mut() {
            // A loop that counts one by one should not become a long list.
            Some(KvWrite::Increment { key: last, by: so_far })
                if &**last == key && so_far.checked_add(by).is_some() =>
            {
                *so_far = so_far.saturating_add(by);
            }
            _ => self.writes.push(KvWrite::Increment { key: key.into(), by }),
        }
        Ok(sum)
    }

    /// The delivery was acknowledged: gives reads, writes and the bytes of the writes, and shows them to later deliveries.
    pub(crate) fn commit(self, overlay: &mut Overlay) -> (Vec<KvRead>, Vec<KvWrite>, usize) {
        for (key, seen) in self.seen {
            if seen.written {
                let base = match seen.source {
                    Source::Committed(version) => Some(version),
                    Source::EarlierDelivery(base) => base,
                    Source::Settled => None,
                };
                overlay.insert(key, Written { value: seen.value, base });
            }
        }
        (self.reads, self.writes, self.bytes)
    }

    fn look(
        &mut self,
        key: &str,
        overlay: &Overlay,
        committed: impl FnOnce() -> (Option<Bytes>, KvVersion),
    ) -> &mut Seen {
        match self.seen.entry(key.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(if let Some(Written { value, base }) = overlay.get(key) {
                Seen { value: value.clone(), source: Source::EarlierDelivery(*base), written: false }
            } else {
                let (value, version) = committed();
                Seen { value, source: Source::Committed(version), written: false }
            }),
        }
    }
}

/// The decimal integer in a value; absent counts as 0.
pub(crate) fn number(value: Option<&[u8]>) -> Result<i64, NotANumber> {
    let Some(value) = value else { return Ok(0) };
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> (Option<Bytes>, KvVersion) {
        (None, 0)
    }

    fn three() -> (Option<Bytes>, KvVersion) {
        (Some(Bytes::from_static(b"3")), 9)
    }

    #[test]
    fn reads_are_recorded_once_with_the_version_seen() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        assert_eq!(kv.get("a", &overlay, three), Some(Bytes::from_static(b"3")));
        assert_eq!(kv.get("a", &overlay, absent), Some(Bytes::from_static(b"3")));
        assert_eq!(kv.reads, [KvRead { key: "a".into(), version: Some(9), own: false }]);
    }

    #[test]
    fn own_writes_are_visible_and_need_no_check() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        kv.put("a", Some(Bytes::from_static(b"x")));
        assert_eq!(kv.get("a", &overlay, three), Some(Bytes::from_static(b"x")));
        kv.put("a", None);
        assert_eq!(kv.get("a", &overlay, three), None);
        assert!(kv.reads.is_empty());
    }

    #[test]
    fn increments_record_no_read_until_somebody_reads_the_sum() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        assert_eq!(kv.increment("n", 2, &overlay, three), Ok(5));
        assert_eq!(kv.increment("n", 1, &overlay, three), Ok(6));
        assert!(kv.reads.is_empty());
        assert_eq!(kv.writes, [KvWrite::Increment { key: "n".into(), by: 3 }]);
        assert_eq!(kv.get("n", &overlay, absent), Some(Bytes::from_static(b"6")));
        assert_eq!(kv.reads, [KvRead { key: "n".into(), version: Some(9), own: false }]);
    }

    #[test]
    fn a_later_delivery_reads_what_an_earlier_one_wrote() {
        let mut overlay = Overlay::default();
        let mut first = KvTransaction::default();
        first.put("a", Some(Bytes::from_static(b"1")));
        first.commit(&mut overlay);
        let mut second = KvTransaction::default();
        assert_eq!(second.get("a", &overlay, absent), Some(Bytes::from_static(b"1")));
        assert_eq!(second.increment("a", 1, &overlay, absent), Ok(2));
        let (reads, writes, _) = second.commit(&mut overlay);
        assert_eq!(reads, [KvRead { key: "a".into(), version: None, own: true }]);
        assert_eq!(writes, [KvWrite::Increment { key: "a".into(), by: 1 }]);
        assert_eq!(overlay["a"].value, Some(Bytes::from_static(b"2")));
    }

    #[test]
    fn a_sum_over_a_committed_value_rests_on_its_version() {
        let mut overlay = Overlay::default();
        let mut first = KvTransaction::default();
        assert_eq!(first.increment("n", 1, &overlay, three), Ok(4));
        let (reads, ..) = first.commit(&mut overlay);
        assert!(reads.is_empty());
        let mut second = KvTransaction::default();
        assert_eq!(second.get("n", &overlay, absent), Some(Bytes::from_static(b"4")));
        assert_eq!(second.reads, [KvRead { key: "n".into(), version: Some(9), own: true }]);
    }

    #[test]
    fn incrementing_text_is_refused_and_sums_saturate() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        assert_eq!(kv.increment("t", 1, &overlay, || (Some(Bytes::from_static(b"x")), 1)), Err(NotANumber));
        assert_eq!(kv.increment("n", i64::MAX, &overlay, three), Ok(i64::MAX));
    }
}
