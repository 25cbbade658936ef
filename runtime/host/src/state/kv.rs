//! Key-value inside one delivery.
//!
//! Role: reads see the committed state, what earlier acknowledged deliveries of the chunk wrote, and the delivery's own
//! writes; every read of something that others may change is recorded so that the committer can check it.
//!
//! Invariant: an increment alone records no read, because it commutes; reading its sum afterwards does.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use busway_types::{KvRead, KvScan, KvVersion, KvWrite};
use bytes::Bytes;

use crate::capability::Refusal;

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
pub(crate) const ENTRY_BYTES: usize = 96;

/// Keys that one delivery may list.
pub(crate) const LISTED_KEYS: usize = 10_000;

/// Set in the versions of values that are not committed yet, which the committed ones never reach.
const UNCOMMITTED: KvVersion = 1 << 63;

/// A version for a value that is not committed yet. Unique in the process, so that one that a guest kept from another
/// delivery never fits by accident.
fn uncommitted() -> KvVersion {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    UNCOMMITTED | GIVEN.fetch_add(1, Ordering::Relaxed)
}

/// What is committed of a key: its value and version.
pub(crate) type Committed = Result<(Option<Bytes>, KvVersion), Refusal>;

/// A part of a listing: keys, and whether there are more.
pub(crate) type Listed = (Vec<Box<str>>, bool);

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
    /// The version of the value, as far as one is known or was asked for.
    version: Option<KvVersion>,
    /// Whether the delivery changed it.
    written: bool,
}

/// The key-value part of one delivery's transaction.
#[derive(Debug, Default)]
pub(crate) struct KvTransaction {
    seen: HashMap<Box<str>, Seen>,
    reads: Vec<KvRead>,
    scans: Vec<KvScan>,
    /// Keys listed so far.
    listed: usize,
    writes: Vec<KvWrite>,
    /// Bytes of keys and values written.
    pub(crate) bytes: usize,
}

/// What an acknowledged delivery leaves.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) reads: Vec<KvRead>,
    pub(crate) scans: Vec<KvScan>,
    pub(crate) writes: Vec<KvWrite>,
    /// Bytes of the writes.
    pub(crate) bytes: usize,
}

/// Which keys to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Select<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) after: Option<&'a str>,
    pub(crate) limit: usize,
}

/// `increment` on something that is no decimal integer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotANumber;

impl KvTransaction {
    /// Whether nothing was read or written.
    pub(crate) fn is_untouched(&self) -> bool {
        self.seen.is_empty() && self.scans.is_empty()
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
        committed: impl FnOnce() -> Committed,
    ) -> Result<Option<Bytes>, Refusal> {
        let (version, own) = {
            let seen = self.look(key, overlay, committed)?;
            match std::mem::replace(&mut seen.source, Source::Settled) {
                Source::Settled => return Ok(seen.value.clone()),
                Source::EarlierDelivery(base) => (base, true),
                Source::Committed(version) => (Some(version), false),
            }
        };
        self.reads.push(KvRead { key: key.into(), version, own });
        Ok(self.seen.get(key).and_then(|seen| seen.value.clone()))
    }

    /// The version of a value that was just read; none when the key is absent.
    pub(crate) fn version(&mut self, key: &str) -> Option<KvVersion> {
        let seen = self.seen.get_mut(key).filter(|seen| seen.value.is_some())?;
        Some(*seen.version.get_or_insert_with(uncommitted))
    }

    /// The keys that a delivery sees in a range; `committed` gives that many committed ones.
    pub(crate) fn list(
        &mut self,
        select: Select<'_>,
        overlay: &Overlay,
        committed: impl FnOnce(usize) -> Result<Vec<Box<str>>, Refusal>,
    ) -> Result<Listed, Refusal> {
        let Select { prefix, after, limit } = select;
        if self.listed.saturating_add(limit) > LISTED_KEYS {
            return Err(Refusal::TooLarge(format!("one delivery may list at most {LISTED_KEYS} keys")));
        }
        let mut scan = KvScan { prefix: prefix.into(), after: after.map(Box::from), ..KvScan::default() };
        let earlier = overlay.iter().map(|(key, written)| (key, written.value.is_some()));
        let own = self.seen.iter().filter(|(_, seen)| seen.written).map(|(key, seen)| (key, seen.value.is_some()));
        let mut changed: HashMap<&str, bool> = HashMap::new();
        changed.extend(earlier.chain(own).filter(|(key, _)| scan.covers(key)).map(|(key, there)| (&**key, there)));
        // So many that the page can be filled however many of them are gone, and one more to know whether there is more.
        let asked = limit + 1 + changed.values().filter(|there| !**there).count();
        let found = committed(asked)?;
        let mut keys: BTreeSet<&str> = found.iter().map(|key| &**key).collect();
        for (key, there) in changed {
            if there {
                keys.insert(key);
            } else {
                keys.remove(key);
            }
        }
        let more = keys.len() > limit;
        let page: Vec<Box<str>> = keys.into_iter().take(limit).map(Box::from).collect();
        scan.until = page.last().filter(|_| more).cloned();
        let covered: Vec<&str> = found.iter().map(|key| &**key).take_while(|key| scan.covers(key)).collect();
        scan.count = covered.len();
        scan.digest = KvScan::digest_of(covered);
        scan.own = overlay.keys().filter(|key| scan.covers(key)).cloned().collect();
        scan.own.sort_unstable();
        self.listed += page.len().max(1);
        self.scans.push(scan);
        Ok((page, more))
    }

    /// Sets or removes a key.
    pub(crate) fn put(&mut self, key: &str, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.seen
            .insert(key.into(), Seen { value: value.clone(), source: Source::Settled, version: None, written: true });
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
        committed: impl FnOnce() -> Committed,
    ) -> Result<Result<i64, NotANumber>, Refusal> {
        let seen = self.look(key, overlay, committed)?;
        let sum = match number(seen.value.as_deref()) {
            Ok(before) => before.saturating_add(by),
            Err(error) => return Ok(Err(error)),
        };
        seen.value = Some(Bytes::from(sum.to_string()));
        seen.version = None;
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
        Ok(Ok(sum))
    }

    /// The delivery was acknowledged: gives what is left of it, and shows its writes to later deliveries.
    pub(crate) fn commit(self, overlay: &mut Overlay) -> Left {
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
        Left { reads: self.reads, scans: self.scans, writes: self.writes, bytes: self.bytes }
    }

    fn look(
        &mut self,
        key: &str,
        overlay: &Overlay,
        committed: impl FnOnce() -> Committed,
    ) -> Result<&mut Seen, Refusal> {
        Ok(match self.seen.entry(key.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(if let Some(Written { value, base }) = overlay.get(key) {
                Seen { value: value.clone(), source: Source::EarlierDelivery(*base), version: None, written: false }
            } else {
                let (value, version) = committed()?;
                Seen { value, source: Source::Committed(version), version: Some(version), written: false }
            }),
        })
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

    #[expect(clippy::unnecessary_wraps, reason = "it stands for what may fail")]
    fn absent() -> Committed {
        Ok((None, 0))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands for what may fail")]
    fn three() -> Committed {
        Ok((Some(Bytes::from_static(b"3")), 9))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands for what may be absent")]
    fn text(value: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(value.as_bytes()))
    }

    fn page(kv: &mut KvTransaction, overlay: &Overlay, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
        let there = ["x.a", "x.b", "x.c", "x.d"].into_iter().filter(|key| after.is_none_or(|after| *key > after));
        let listed =
            kv.list(Select { prefix: "x.", after, limit }, overlay, |n| Ok(there.take(n).map(Box::from).collect()));
        let (keys, more) = listed.expect("few keys");
        (keys.into_iter().map(String::from).collect(), more)
    }

    #[test]
    fn reads_are_recorded_once_with_the_version_seen() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        assert_eq!(kv.get("a", &overlay, three), Ok(Some(Bytes::from_static(b"3"))));
        assert_eq!(kv.get("a", &overlay, absent), Ok(Some(Bytes::from_static(b"3"))));
        assert_eq!(kv.reads, [KvRead { key: "a".into(), version: Some(9), own: false }]);
    }

    #[test]
    fn own_writes_are_visible_and_need_no_check() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        kv.put("a", Some(Bytes::from_static(b"x")));
        assert_eq!(kv.get("a", &overlay, three), Ok(Some(Bytes::from_static(b"x"))));
        kv.put("a", None);
        assert_eq!(kv.get("a", &overlay, three), Ok(None));
        assert!(kv.reads.is_empty());
    }

    #[test]
    fn increments_record_no_read_until_somebody_reads_the_sum() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        assert_eq!(kv.increment("n", 2, &overlay, three), Ok(Ok(5)));
        assert_eq!(kv.increment("n", 1, &overlay, three), Ok(Ok(6)));
        assert!(kv.reads.is_empty());
        assert_eq!(kv.writes, [KvWrite::Increment { key: "n".into(), by: 3 }]);
        assert_eq!(kv.get("n", &overlay, absent), Ok(Some(Bytes::from_static(b"6"))));
        assert_eq!(kv.reads, [KvRead { key: "n".into(), version: Some(9), own: false }]);
    }

    #[test]
    fn a_later_delivery_reads_what_an_earlier_one_wrote() {
        let mut overlay = Overlay::default();
        let mut first = KvTransaction::default();
        first.put("a", Some(Bytes::from_static(b"1")));
        first.commit(&mut overlay);
        let mut second = KvTransaction::default();
        assert_eq!(second.get("a", &overlay, absent), Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(second.increment("a", 1, &overlay, absent), Ok(Ok(2)));
        let Left { reads, writes, .. } = second.commit(&mut overlay);
        assert_eq!(reads, [KvRead { key: "a".into(), version: None, own: true }]);
        assert_eq!(writes, [KvWrite::Increment { key: "a".into(), by: 1 }]);
        assert_eq!(overlay["a"].value, Some(Bytes::from_static(b"2")));
    }

    #[test]
    fn a_sum_over_a_committed_value_rests_on_its_version() {
        let mut overlay = Overlay::default();
        let mut first = KvTransaction::default();
        assert_eq!(first.increment("n", 1, &overlay, three), Ok(Ok(4)));
        let Left { reads, .. } = first.commit(&mut overlay);
        assert!(reads.is_empty());
        let mut second = KvTransaction::default();
        assert_eq!(second.get("n", &overlay, absent), Ok(Some(Bytes::from_static(b"4"))));
        assert_eq!(second.reads, [KvRead { key: "n".into(), version: Some(9), own: true }]);
    }

    #[test]
    fn incrementing_text_is_refused_and_sums_saturate() {
        let mut kv = KvTransaction::default();
        let overlay = Overlay::default();
        assert_eq!(kv.increment("t", 1, &overlay, || Ok((text("x"), 1))), Ok(Err(NotANumber)));
        assert_eq!(kv.increment("n", i64::MAX, &overlay, three), Ok(Ok(i64::MAX)));
    }

    #[test]
    fn each_value_has_a_version_of_its_own() {
        let (mut kv, overlay) = (KvTransaction::default(), Overlay::default());
        assert_eq!((kv.get("a", &overlay, three), kv.version("a")), (Ok(text("3")), Some(9)));
        kv.put("a", text("4"));
        let own = kv.version("a");
        assert!(own.is_some_and(|version| version != 9) && own == kv.version("a"), "{own:?}");
        kv.put("a", text("5"));
        assert_ne!(kv.version("a"), own);
        let before = kv.version("a");
        assert_eq!(kv.increment("a", 1, &overlay, absent), Ok(Ok(6)));
        assert_ne!(kv.version("a"), before);
        kv.put("a", None);
        assert_eq!(kv.version("a"), None);
        assert_eq!((kv.get("b", &overlay, absent), kv.version("b")), (Ok(None), None));
    }

    #[test]
    fn a_listing_shows_what_the_delivery_sees_and_rests_on_what_is_committed() {
        let (mut kv, mut overlay) = (KvTransaction::default(), Overlay::default());
        let mut earlier = KvTransaction::default();
        earlier.put("x.bb", text("1"));
        earlier.put("x.c", None);
        earlier.put("y", text("1"));
        earlier.commit(&mut overlay);
        kv.put("x.a", None);
        kv.put("x.e", text("1"));
        assert_eq!(kv.get("x.zz", &overlay, absent), Ok(None), "what was only read is not there");
        assert_eq!(page(&mut kv, &overlay, None, 2), (vec!["x.b".into(), "x.bb".into()], true));
        assert_eq!(page(&mut kv, &overlay, Some("x.bb"), 2), (vec!["x.d".into(), "x.e".into()], false));
        let Left { scans, .. } = kv.commit(&mut overlay);
        let expected = [
            (None, Some("x.bb"), 2, KvScan::digest_of(["x.a", "x.b"]), vec!["x.bb".into()]),
            (Some("x.bb"), None, 2, KvScan::digest_of(["x.c", "x.d"]), vec!["x.c".into()]),
        ];
        for (scan, (after, until, count, digest, own)) in scans.into_iter().zip(expected) {
            assert_eq!((scan.after.as_deref(), scan.until.as_deref()), (after, until));
            assert_eq!((scan.count, scan.digest, scan.own), (count, digest, own));
        }
    }

    #[test]
    fn listing_is_bounded() {
        let (mut kv, overlay) = (KvTransaction::default(), Overlay::default());
        let many = Select { prefix: "", after: None, limit: LISTED_KEYS + 1 };
        assert!(matches!(kv.list(many, &overlay, |_| Ok(Vec::new())), Err(Refusal::TooLarge(_))));
    }
}
