//! What the gateway counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::problem::Refusal;

/// Figures since the start of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeFigures {
    /// Connections that are open now.
    pub connections: usize,
    /// Requests that are being answered now.
    pub in_flight: usize,
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that were refused by the gateway, by the word of their problem document.
    pub refused: BTreeMap<&'static str, u64>,
    /// Connections that were closed at once because their client had too many.
    pub turned_away: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
    pub(super) requests: AtomicU64,
    pub(super) turned_away: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Counters {
    /// A request was answered, perhaps with a refusal.
    pub(super) fn answered(&self, refusal: Option<Refusal>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = refusal.and_then(|refusal| self.refused.get(refusal as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> EdgeFigures {
        let refused = Refusal::ALL.iter().zip(&self.refused).filter_map(|(refusal, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then(|| (refusal.word(), count))
        });
        EdgeFigures {
            connections: self.connections.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            refused: refused.collect(),
            turned_away: self.turned_away.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place, "{refusal:?}");
        }
        let counters = Counters::default();
        counters.answered(None);
        counters.answered(Some(Refusal::TimedOut));
        let read = counters.read();
        assert_eq!((read.requests, read.refused), (2, BTreeMap::from([("timed-out", 1)])));
    }
}
