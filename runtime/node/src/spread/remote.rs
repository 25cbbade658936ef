//! A node that works for this one, as the owner's table knows it.
//!
//! Role: what the node can do, how much it has, and whether it gets more; the chunks themselves are the table's.
//!
//! Bounds: [`NODE_BYTES`] for all chunks that are on their way to it or there; as many chunks of a service as its lane there takes.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Chunk, ServiceName, Timestamp};
use rustc_hash::FxHashMap;

use super::asking::SILENT;
use super::wire::Hello;

/// What may be on its way to a node, or there, in bytes.
pub(super) const NODE_BYTES: usize = 32 * 1024 * 1024;
/// How long a node gets nothing more of a subscription of which it gave a chunk back; doubled each time.
const REST_FIRST: Duration = Duration::from_millis(250);
const REST_LONGEST: Duration = Duration::from_secs(10);

/// What another node can do of a subscription.
#[derive(Debug)]
struct Hand {
    service: ServiceName,
    concurrency: usize,
    resting_until_ns: u64,
    failures: u32,
}

/// A node that said hello.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) hello: Hello,
    heard_ns: u64,
    since: Timestamp,
    /// Whether it listens to this owner, and so gets work.
    pub(super) works: bool,
    hands: FxHashMap<Arc<str>, Hand>,
    /// Chunks that it has, by service.
    busy: FxHashMap<ServiceName, usize>,
    bytes: usize,
    /// Events that it handled for this owner.
    handled: u64,
}

/// A node, for `status`.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: Arc<str>,
    pub(super) hello: Hello,
    pub(super) since: Timestamp,
    pub(super) works: bool,
    pub(super) in_flight: usize,
    pub(super) handled: u64,
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Remote {
    pub(super) fn new(hello: Hello, works: bool, now_ns: u64, now: Timestamp) -> Self {
        let mut remote = Self {
            hello,
            heard_ns: now_ns,
            since: now,
            works,
            hands: FxHashMap::default(),
            busy: FxHashMap::default(),
            bytes: 0,
            handled: 0,
        };
        remote.take_offers();
        remote
    }

    /// It said hello again; true when it can do something else than before.
    pub(super) fn says(&mut self, hello: Hello, now_ns: u64) -> bool {
        self.heard_ns = now_ns;
        let is_other = self.hello.offers != hello.offers;
        self.hello = hello;
        if is_other {
            self.take_offers();
        }
        is_other
    }

    /// What it can do is what it said last. A subscription that rests goes on resting.
    fn take_offers(&mut self) {
        let mut before = std::mem::take(&mut self.hands);
        for offer in &self.hello.offers {
            let (resting_until_ns, failures) =
                before.remove(&*offer.subscription).map_or((0, 0), |hand| (hand.resting_until_ns, hand.failures));
            let (service, concurrency) = (offer.service.clone(), offer.concurrency.max(1));
            let hand = Hand { service, concurrency, resting_until_ns, failures };
            self.hands.insert(Arc::from(offer.subscription.as_str()), hand);
        }
    }

    pub(super) fn is_silent(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.heard_ns) >= nanoseconds(SILENT)
    }

    /// How many deliveries of a subscription it runs at a time.
    pub(super) fn concurrency(&self, subscription: &str) -> usize {
        self.hands.get(subscription).filter(|_| self.works).map_or(0, |hand| hand.concurrency)
    }

    /// If it takes one more chunk of a subscription: its load with that, and the service that has it.
    pub(super) fn takes(&self, subscription: &str, bytes: usize, now_ns: u64) -> Option<(f64, ServiceName)> {
        let hand = self.hands.get(subscription).filter(|_| self.works)?;
        let busy = self.busy.get(&hand.service).copied().unwrap_or(0);
        let takes = busy < hand.concurrency.saturating_add(Chunk::AHEAD)
            && hand.resting_until_ns <= now_ns
            && self.bytes.saturating_add(bytes) <= NODE_BYTES;
        takes.then(|| ((busy + 1) as f64 / hand.concurrency.max(1) as f64, hand.service.clone()))
    }

    /// It gets a chunk of a service.
    pub(super) fn gets(&mut self, service: ServiceName, bytes: usize) {
        *self.busy.entry(service).or_default() += 1;
        self.bytes += bytes;
    }

    /// It does not have a chunk any more.
    pub(super) fn lands(&mut self, service: &ServiceName, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(busy) = self.busy.get_mut(service) {
            *busy = busy.saturating_sub(1);
        }
    }

    /// It ran deliveries of a subscription.
    pub(super) fn ran(&mut self, subscription: &str, deliveries: usize) {
        self.handled += deliveries as u64;
        if let Some(hand) = self.hands.get_mut(subscription) {
            hand.failures = 0;
        }
    }

    /// It gets nothing more of a subscription for a while, longer each time.
    pub(super) fn rests(&mut self, subscription: &str, now_ns: u64) {
        if let Some(hand) = self.hands.get_mut(subscription) {
            let wait = REST_FIRST.saturating_mul(1 << hand.failures.min(16)).min(REST_LONGEST);
            hand.failures = hand.failures.saturating_add(1);
            hand.resting_until_ns = now_ns.saturating_add(nanoseconds(wait));
        }
    }

    pub(super) fn seen(&self, name: &Arc<str>, in_flight: usize) -> Seen {
        let Self { hello, since, works, handled, .. } = self;
        Seen {
            name: Arc::clone(name),
            hello: hello.clone(),
            since: *since,
            works: *works,
            in_flight,
            handled: *handled,
        }
    }
}
