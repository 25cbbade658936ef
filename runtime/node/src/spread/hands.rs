//! What a node that waits does for the one that owns the bus.
//!
//! Role: has a lane for each service that this node has as well, gives it the chunks that the owner sends, and what comes back to whoever
//! sends that to the owner. Decides nothing about an event.
//!
//! Invariants: everything here is of one owner and its epoch; when another one is heard, or this one falls silent, what runs
//! is ended and forgotten, before the owner gives it to somebody else. A lane knows chunks by numbers of this node, since
//! those of two owners may be the same.
//!
//! Bounds: what the owner sends, which is what the lanes have room for, a chunk beyond that is given back; [`SAID`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use busway_host::{Binding, Lane, LaneSettings, LaneSink, Linked};
use busway_types::{Chunk, Report, ServiceName, SubId};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::asking::Owner;
use super::wire::Offer;

/// What lanes have said and was not sent yet; what comes beyond that is forgotten, and its chunks are given to others.
const SAID: usize = 16_384;

/// What a lane says, with its own number of the chunk.
pub(super) enum Said {
    Report(Report),
    Lost(u64),
}

/// A service that this node has.
pub(crate) struct Skill {
    pub(crate) service: ServiceName,
    pub(crate) linked: Linked,
    pub(crate) concurrency: usize,
    /// Hash of the component's bytes.
    pub(crate) hash: [u8; 32],
    /// Another number for each change of the manifest.
    pub(crate) revision: u64,
    /// Its subscriptions.
    pub(crate) bindings: Vec<Binding>,
}

/// A service with its lane.
struct Hand {
    skill: Skill,
    lane: Arc<Lane>,
}

impl Hand {
    fn lane(skill: &Skill, sink: &Arc<Ends>) -> Arc<Lane> {
        let settings = LaneSettings::for_subscriptions(skill.concurrency, skill.bindings.len());
        Arc::new(skill.linked.lane(settings, Arc::clone(sink) as Arc<dyn LaneSink>))
    }
}

#[derive(Default)]
struct State {
    owner: Option<Owner>,
    /// The number of the newest message with a chunk of that owner.
    seen: u64,
    hands: BTreeMap<ServiceName, Hand>,
    /// Whether it was said what this node can do.
    ready: bool,
    /// The owner's numbers of the chunks that are here, by this node's.
    held: FxHashMap<u64, u64>,
    next: u64,
}

/// Where lanes report to.
struct Ends {
    said: mpsc::Sender<Said>,
    /// Chunks of which something could not be said: the owner takes them back.
    unsaid: Mutex<Vec<u64>>,
}

impl Ends {
    fn say(&self, chunk: u64, said: Said) {
        if self.said.try_send(said).is_err() {
            self.unsaid.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        }
    }
}

impl LaneSink for Ends {
    fn report(&self, report: Report) {
        self.say(report.chunk, Said::Report(report));
    }

    fn lost(&self, _sub: SubId, chunk: u64) {
        self.say(chunk, Said::Lost(chunk));
    }

    fn instance_failed(&self, service: &ServiceName, reason: &str) {
        tracing::error!(%service, reason, "no instance could be made for the owner of the bus; it gives the events to others");
    }
}

/// The lanes of a node that waits.
pub(super) struct Hands {
    state: Mutex<State>,
    ends: Arc<Ends>,
}

/// What is to be said of this node.
pub(super) struct Holding {
    pub(super) epoch: u64,
    pub(super) seen: u64,
    pub(super) holds: Vec<u64>,
    pub(super) offers: Vec<Offer>,
    pub(super) ready: bool,
}

impl Hands {
    /// Hands without skills, and what their lanes will say.
    pub(super) fn new() -> (Self, mpsc::Receiver<Said>) {
        let (said, hear) = mpsc::channel(SAID);
        (Self { state: Mutex::default(), ends: Arc::new(Ends { said, unsaid: Mutex::default() }) }, hear)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node can do from now on. A service whose component is the same goes on with what it has.
    pub(super) fn set(&self, skills: Vec<Skill>) {
        let mut state = self.lock();
        state.ready = true;
        let mut before = std::mem::take(&mut state.hands);
        for skill in skills {
            let same = |hand: &Hand| {
                let known = &hand.skill;
                (known.hash, known.revision, &known.bindings) == (skill.hash, skill.revision, &skill.bindings)
            };
            let hand = match before.remove(&skill.service) {
                Some(hand) if same(&hand) => hand,
                // Its lane ends with what it has taken.
                _ => Hand { lane: Hand::lane(&skill, &self.ends), skill },
            };
            state.hands.insert(hand.skill.service.clone(), hand);
        }
        drop(state);
        for hand in before.values() {
            hand.lane.close();
        }
    }

    /// From now on this node works for this owner; for none until the next one is heard.
    pub(super) fn follow(&self, owner: Option<Owner>) {
        let stopped: Vec<Arc<Lane>> = {
            let mut state = self.lock();
            if state.owner == owner {
                return;
            }
            (state.owner, state.seen) = (owner, 0);
            if std::mem::take(&mut state.held).is_empty() {
                return;
            }
            let renew = |hand: &mut Hand| std::mem::replace(&mut hand.lane, Hand::lane(&hand.skill, &self.ends));
            state.hands.values_mut().map(renew).collect()
        };
        // Without the lock: the lanes report while they end.
        for lane in stopped {
            lane.stop();
        }
    }

    /// Ends everything for good.
    pub(super) fn stop(&self) {
        let hands = {
            let mut state = self.lock();
            (state.owner, state.held) = (None, FxHashMap::default());
            std::mem::take(&mut state.hands)
        };
        for hand in hands.values() {
            hand.lane.stop();
        }
    }

    /// Takes a chunk of the owner's, or says no.
    pub(super) fn take(&self, from: &str, epoch: u64, number: u64, subscription: &str, mut chunk: Chunk) -> bool {
        let (lane, id) = {
            let mut state = self.lock();
            if state.owner.as_ref().is_none_or(|owner| *owner.name != *from || owner.epoch != epoch) {
                // Of an owner that this node does not listen to: it takes back what this one does not have.
                return true;
            }
            state.seen = state.seen.max(number);
            let binding = |hand: &Hand| {
                let binding = hand.skill.bindings.iter().find(|binding| *binding.subscription == *subscription)?;
                hand.lane.bind(chunk.sub, binding.clone());
                Some(Arc::clone(&hand.lane))
            };
            let Some(lane) = state.hands.values().find_map(binding) else { return false };
            state.next += 1;
            let id = state.next;
            state.held.insert(id, chunk.id);
            (lane, id)
        };
        chunk.id = id;
        let taken = lane.submit(chunk).is_ok();
        if !taken {
            self.lock().held.remove(&id);
        }
        taken
    }

    /// The owner's number of a chunk; none when it is of an owner that is none any more.
    pub(super) fn of_owner(&self, chunk: u64) -> Option<u64> {
        self.lock().held.get(&chunk).copied()
    }

    /// These chunks were told to the end.
    pub(super) fn told(&self, chunks: &[u64]) {
        let mut state = self.lock();
        for chunk in chunks {
            state.held.remove(chunk);
        }
    }

    /// Whom this node works for.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.lock().owner.clone()
    }

    pub(super) fn holding(&self) -> Holding {
        let unsaid = std::mem::take(&mut *self.ends.unsaid.lock().unwrap_or_else(PoisonError::into_inner));
        self.told(&unsaid);
        let state = self.lock();
        let offers = state.hands.values().flat_map(|hand| {
            let skill = &hand.skill;
            let version = skill.hash[..6].iter().fold(String::new(), |mut text, byte| {
                use std::fmt::Write as _;
                // Writing to a String does not fail.
                let _ = write!(text, "{byte:02x}");
                text
            });
            skill.bindings.iter().map(move |binding| Offer {
                subscription: binding.subscription.to_string(),
                service: skill.service.clone(),
                version: version.clone(),
                concurrency: skill.concurrency,
            })
        });
        Holding {
            epoch: state.owner.as_ref().map_or(0, |owner| owner.epoch),
            seen: state.seen,
            holds: state.held.values().copied().collect(),
            offers: offers.collect(),
            ready: state.ready,
        }
    }
}
