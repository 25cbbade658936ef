//! A set of offsets kept as runs: small when neighbours are in it, as they are above a cursor.

use std::collections::BTreeMap;

use busway_types::Offset;

/// A set of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetSet {
    /// First offset of a run to the one after its last; runs neither touch nor overlap.
    runs: BTreeMap<Offset, Offset>,
}

impl OffsetSet {
    /// Whether `offset` is in it.
    pub fn contains(&self, offset: Offset) -> bool {
        self.runs.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The offsets, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Offset> {
        self.runs.iter().flat_map(|(start, end)| *start..*end)
    }

    /// The runs, ascending: first offset and the one after the last.
    pub fn runs(&self) -> impl Iterator<Item = (Offset, Offset)> {
        self.runs.iter().map(|(start, end)| (*start, *end))
    }

    /// Puts one offset in.
    pub fn insert(&mut self, offset: Offset) {
        self.insert_run(offset, offset.saturating_add(1));
    }

    /// Puts the offsets from `start` to before `end` in.
    pub fn insert_run(&mut self, mut start: Offset, mut end: Offset) {
        if start >= end {
            return;
        }
        while let Some((s, e)) = self.runs.range(..=end).next_back().map(|(s, e)| (*s, *e))
            && e >= start
        {
            self.runs.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.runs.insert(start, end);
    }

    /// Takes everything below `offset` out, and a run that begins there; gives where that run ended, or `offset`.
    pub fn advance(&mut self, offset: Offset) -> Offset {
        let mut cursor = offset;
        while let Some(first) = self.runs.first_entry()
            && *first.key() <= cursor
        {
            cursor = cursor.max(first.remove());
        }
        cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(inserts in proptest::collection::vec((0_u64..60, 1_u64..5), 0..40), cut in 0_u64..70) {
            let (mut set, mut model) = (OffsetSet::default(), BTreeSet::new());
            for (start, length) in inserts {
                set.insert_run(start, start + length);
                model.extend(start..start + length);
                prop_assert!(set.runs().zip(set.runs().skip(1)).all(|(a, b)| a.1 < b.0));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert!((0..70).all(|o| set.contains(o) == model.contains(&o)));
            let cursor = set.advance(cut);
            prop_assert_eq!(cursor, (cut..100).find(|o| !model.contains(o)).expect("an end"));
            prop_assert!(set.iter().eq(model.range(cursor..).copied()));
        }
    }
}
