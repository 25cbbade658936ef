//! Which subscriptions a topic concerns.
//!
//! Role: topic to slots of subscriptions. Patterns without wildcards are looked up, the others are compared; the result
//! is cached per topic. Any change of a subscription's patterns makes it all start over, lazily.
//! Invariant: the list of a topic names each slot at most once, ascending.

use busway_types::{Pattern, Topic};
use rustc_hash::FxHashMap;

/// Topics whose route is kept. Beyond it the cache starts over.
pub(crate) const CACHED_TOPICS: usize = 16_384;

/// The routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    literal: FxHashMap<Box<str>, Vec<u32>>,
    wildcard: Vec<(Pattern, u32)>,
    cached: FxHashMap<Topic, u32>,
    lists: Vec<Box<[u32]>>,
    stale: bool,
}

impl Routes {
    /// Some subscription's patterns changed.
    pub(crate) fn invalidate(&mut self) {
        self.stale = true;
    }

    /// Builds the index again from `(slot, patterns)` if something changed.
    pub(crate) fn refresh<'a>(&mut self, all: impl Iterator<Item = (u32, &'a [Pattern])>) {
        if !self.stale {
            return;
        }
        *self = Self::default();
        for (slot, patterns) in all {
            for pattern in patterns {
                if pattern.is_literal() {
                    self.literal.entry(pattern.as_str().into()).or_default().push(slot);
                } else {
                    self.wildcard.push((pattern.clone(), slot));
                }
            }
        }
    }

    /// The number of the topic's list.
    pub(crate) fn find(&mut self, topic: &Topic) -> usize {
        if let Some(&list) = self.cached.get(topic) {
            return list as usize;
        }
        if self.lists.len() >= CACHED_TOPICS {
            self.cached.clear();
            self.lists.clear();
        }
        let mut slots = self.literal.get(topic.as_str()).cloned().unwrap_or_default();
        slots.extend(self.wildcard.iter().filter(|(pattern, _)| pattern.matches(topic)).map(|(_, slot)| *slot));
        slots.sort_unstable();
        slots.dedup();
        let list = self.lists.len();
        self.lists.push(slots.into_boxed_slice());
        self.cached.insert(topic.clone(), list as u32);
        list
    }

    /// The slots of a list.
    pub(crate) fn list(&self, list: usize) -> &[u32] {
        self.lists.get(list).map_or(&[], |slots| slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn slots(routes: &mut Routes, topic: &str) -> Vec<u32> {
        let list = routes.find(&topic.parse().expect("a topic"));
        routes.list(list).to_vec()
    }

    #[test]
    fn a_topic_finds_literal_and_wildcard_subscriptions_once_each() {
        let subs = [patterns(&["a.b"]), patterns(&["a.*", "a.>"]), patterns(&["c"])];
        let all = || subs.iter().enumerate().map(|(slot, patterns)| (slot as u32, patterns.as_slice()));
        let mut routes = Routes::default();
        routes.invalidate();
        routes.refresh(all());
        assert_eq!(slots(&mut routes, "a.b"), [0, 1]);
        assert_eq!(slots(&mut routes, "a.b.c"), [1]);
        assert_eq!(slots(&mut routes, "c"), [2]);
        assert_eq!(slots(&mut routes, "nobody"), [0; 0]);
    }

    #[test]
    fn the_cache_is_bounded_and_stays_right_when_it_starts_over() {
        let subs = [patterns(&["t.>"])];
        let mut routes = Routes::default();
        routes.invalidate();
        routes.refresh(subs.iter().map(|patterns| (0, patterns.as_slice())));
        for i in 0..CACHED_TOPICS + 10 {
            assert_eq!(slots(&mut routes, &format!("t.{i}")), [0]);
        }
        assert!(routes.lists.len() <= CACHED_TOPICS);
        assert_eq!(slots(&mut routes, "t.0"), [0]);
    }
}
