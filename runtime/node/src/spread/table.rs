//! The nodes that work for this one, while it owns the bus, and what they have of it.
//!
//! Role: gives a chunk to whoever has the least to do for its size, keeps it in a table until it is reported, and takes it back
//! from a node that is gone or does not have it. Decides nothing about redelivery: what comes back, the dispatcher has.
//!
//! Invariants:
//! - **the fence**: what a node reports counts only for a chunk that stands in the table as given to it, and only the results that come
//!   next; everything else is dropped, so a node that was away too long changes nothing;
//! - a chunk that was taken is reported to its end or lost, exactly one of the two;
//! - no lock is held while somebody else is told.
//!
//! Bounds: [`CHUNK_BYTES`] for a chunk that goes to another node, [`NODES`] nodes, and for each of them what `remote` says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use busway_types::{Chunk, Offset, Report, ServiceName, SubId, Timestamp};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::remote::{Remote, Seen};
use super::wire::Hello;

/// The largest chunk that goes to another node; a larger one is run here.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Nodes that are known at a time.
const NODES: usize = 256;

/// A chunk for another node.
pub(super) struct Going {
    pub(super) node: Arc<str>,
    pub(super) subscription: Arc<str>,
    pub(super) chunk: Chunk,
}

/// Where chunks go that come back.
pub(crate) trait Back: Send + Sync {
    /// Results that count.
    fn report(&self, report: Report);
    /// A chunk, or the rest of one, is to be given out again.
    fn lost(&self, sub: SubId, chunk: u64);
    /// How many chunks others take has changed.
    fn resized(&self);
}

/// A chunk that another node has.
#[derive(Debug)]
struct Flight {
    node: Arc<str>,
    subscription: Arc<str>,
    service: ServiceName,
    sub: SubId,
    offsets: Vec<Offset>,
    reported: usize,
    bytes: usize,
    /// The number of the message that carries it; none before it is sent.
    number: Option<u64>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Arc<str>, Remote>,
    flights: FxHashMap<u64, Flight>,
}

/// What is told once the lock is free.
#[derive(Default)]
struct Told {
    lost: Vec<(SubId, u64)>,
    reports: Vec<Report>,
    resized: bool,
}

/// Where the chunks go.
pub(super) struct Table {
    state: Mutex<State>,
    /// Whether any node works for this one, for those who would look in vain.
    any: AtomicBool,
    going: mpsc::Sender<Going>,
    back: Arc<dyn Back>,
    numbers: AtomicU64,
    /// Deliveries that others ran.
    handled: AtomicU64,
}

impl State {
    /// Takes a chunk out of the table.
    fn land(&mut self, chunk: u64) -> Option<Flight> {
        let flight = self.flights.remove(&chunk)?;
        if let Some(node) = self.nodes.get_mut(&flight.node) {
            node.lands(&flight.service, flight.bytes);
        }
        Some(flight)
    }

    /// Takes back what a node has.
    fn take_back(&mut self, node: &str, which: impl Fn(u64, &Flight) -> bool, told: &mut Told) {
        let of = |(id, flight): (&u64, &Flight)| (*flight.node == *node && which(*id, flight)).then_some(*id);
        let chunks: Vec<u64> = self.flights.iter().filter_map(of).collect();
        for chunk in chunks {
            if let Some(flight) = self.land(chunk) {
                told.lost.push((flight.sub, chunk));
            }
        }
    }
}

impl Table {
    pub(super) fn new(going: mpsc::Sender<Going>, back: Arc<dyn Back>) -> Self {
        Self {
            state: Mutex::default(),
            any: AtomicBool::new(false),
            going,
            back,
            numbers: AtomicU64::new(1),
            handled: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, told: Told) {
        for report in told.reports {
            self.back.report(report);
        }
        for (sub, chunk) in told.lost {
            self.back.lost(sub, chunk);
        }
        if told.resized {
            self.back.resized();
        }
    }

    /// Whether any node works for this one.
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// How many deliveries of a subscription other nodes run at a time.
    pub(super) fn concurrency(&self, subscription: &str) -> usize {
        let state = self.lock();
        state.nodes.values().map(|node| node.concurrency(subscription)).fold(0, usize::saturating_add)
    }

    /// Gives a chunk to another node if one has less to do than `load`, the own lane's chunks for each of its `concurrency`
    /// threads; else gives it back.
    pub(super) fn offer(
        &self,
        subscription: &Arc<str>,
        chunk: Chunk,
        load: f64,
        concurrency: usize,
        now_ns: u64,
    ) -> Option<Chunk> {
        let bytes: usize = chunk.deliveries.iter().map(|delivery| delivery.logged.event.cost()).sum();
        if bytes > CHUNK_BYTES {
            return Some(chunk);
        }
        let (sub, id) = (chunk.sub, chunk.id);
        let node = {
            let mut state = self.lock();
            let free = |(name, node): (&Arc<str>, &Remote)| {
                let (load, service) = node.takes(subscription, bytes, now_ns)?;
                Some((load, Arc::clone(name), service))
            };
            let least = state.nodes.iter().filter_map(free).min_by(|a, b| a.0.total_cmp(&b.0));
            let own = load + 1.0 / concurrency.max(1) as f64;
            let Some((_, node, service)) = least.filter(|(load, ..)| *load < own) else { return Some(chunk) };
            if let Some(remote) = state.nodes.get_mut(&node) {
                remote.gets(service.clone(), bytes);
            }
            let offsets = chunk.deliveries.iter().map(|delivery| delivery.logged.offset).collect();
            let flight = Flight {
                node: Arc::clone(&node),
                subscription: Arc::clone(subscription),
                service,
                sub,
                offsets,
                reported: 0,
                bytes,
                number: None,
            };
            state.flights.insert(id, flight);
            node
        };
        let going = Going { node, subscription: Arc::clone(subscription), chunk };
        match self.going.try_send(going) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(going) | mpsc::error::TrySendError::Closed(going)) => {
                self.lock().land(id);
                Some(going.chunk)
            }
        }
    }

    /// The number of the message that is about to carry a chunk; none when it was taken back meanwhile.
    pub(super) fn sending(&self, chunk: u64) -> Option<u64> {
        let mut state = self.lock();
        let flight = state.flights.get_mut(&chunk)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        flight.number = Some(number);
        Some(number)
    }

    /// A chunk could not be sent.
    pub(super) fn not_sent(&self, chunk: u64, now_ns: u64) {
        let mut told = Told::default();
        let mut state = self.lock();
        if let Some(flight) = state.land(chunk) {
            rest(&mut state, &flight, now_ns);
            told.lost.push((flight.sub, chunk));
        }
        drop(state);
        self.tell(told);
    }

    /// A node said hello; `listens` when it is to this owner that it listens. True when it begins to work for this one.
    pub(super) fn hello(&self, from: &Arc<str>, hello: Hello, listens: bool, now_ns: u64, now: Timestamp) -> bool {
        let mut told = Told::default();
        let mut state = self.lock();
        let known = state.nodes.get(from).map(|node| (node.hello.session, node.works));
        if known.is_none() && state.nodes.len() >= NODES {
            return false;
        }
        let is_same = known.is_some_and(|(session, works)| session == hello.session && works == listens);
        if is_same {
            // What was sent before it said that, and it does not have, and has not reported before, never arrived.
            let has = |id: u64, flight: &Flight| {
                flight.number.is_none_or(|number| number > hello.seen) || hello.holds.contains(&id)
            };
            state.take_back(from, |id, flight| !has(id, flight), &mut told);
        } else {
            state.take_back(from, |_, _| true, &mut told);
            state.nodes.remove(from);
        }
        if let Some(remote) = state.nodes.get_mut(from) {
            told.resized |= remote.says(hello, now_ns);
        } else {
            state.nodes.insert(Arc::clone(from), Remote::new(hello, listens, now_ns, now));
            told.resized = true;
        }
        self.note_any(&state);
        drop(state);
        self.tell(told);
        listens && !is_same
    }

    fn note_any(&self, state: &State) {
        self.any.store(state.nodes.values().any(|node| node.works), Ordering::Release);
    }

    /// Nodes that said nothing for too long are gone; gives their names.
    pub(super) fn sweep(&self, now_ns: u64) -> Vec<Arc<str>> {
        let mut told = Told::default();
        let mut state = self.lock();
        let gone: Vec<Arc<str>> =
            state.nodes.iter().filter(|(_, node)| node.is_silent(now_ns)).map(|(name, _)| Arc::clone(name)).collect();
        for name in &gone {
            state.take_back(name, |_, _| true, &mut told);
            told.resized |= state.nodes.remove(name).is_some();
        }
        self.note_any(&state);
        drop(state);
        self.tell(told);
        gone
    }

    /// What a node reports. Gives how many reports did not count.
    pub(super) fn reported(&self, from: &str, reports: Vec<Report>) -> usize {
        let (mut told, mut void) = (Told::default(), 0);
        let mut state = self.lock();
        for report in reports {
            let id = report.chunk;
            let Some(flight) = state.flights.get_mut(&id).filter(|flight| *flight.node == *from) else {
                void += 1;
                continue;
            };
            let due = flight.offsets.iter().skip(flight.reported);
            let follows = flight.sub == report.sub
                && report.results.len() <= flight.offsets.len() - flight.reported
                && report.results.iter().zip(due).all(|(result, offset)| result.offset == *offset);
            if !follows {
                // A part of it got lost on its way: what was not reported is run again.
                void += 1;
                if let Some(flight) = state.land(id) {
                    told.lost.push((flight.sub, id));
                }
                continue;
            }
            let results = report.results.len();
            flight.reported += results;
            self.handled.fetch_add(results as u64, Ordering::Relaxed);
            let subscription = Arc::clone(&flight.subscription);
            if let Some(node) = state.nodes.get_mut(from) {
                node.ran(&subscription, results);
            }
            if report.finished {
                state.land(id);
            }
            told.reports.push(report);
        }
        drop(state);
        self.tell(told);
        void
    }

    /// A node gives chunks back that it could not run to their end.
    pub(super) fn gave_back(&self, from: &str, chunks: &[u64], now_ns: u64) {
        let mut told = Told::default();
        let mut state = self.lock();
        for chunk in chunks {
            if state.flights.get(chunk).is_none_or(|flight| *flight.node != *from) {
                continue;
            }
            if let Some(flight) = state.land(*chunk) {
                rest(&mut state, &flight, now_ns);
                told.lost.push((flight.sub, *chunk));
            }
        }
        drop(state);
        self.tell(told);
    }

    /// Deliveries that others ran.
    pub(super) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// The nodes that said hello lately.
    pub(super) fn nodes(&self) -> Vec<Seen> {
        let state = self.lock();
        let seen = |(name, node): (&Arc<str>, &Remote)| {
            let of = |flight: &&Flight| flight.node == *name;
            let left = |flight: &Flight| flight.offsets.len() - flight.reported;
            node.seen(name, state.flights.values().filter(of).map(left).sum())
        };
        state.nodes.iter().map(seen).collect()
    }
}

/// The node that had a chunk gets nothing more of its subscription for a while.
fn rest(state: &mut State, flight: &Flight, now_ns: u64) {
    if let Some(node) = state.nodes.get_mut(&flight.node) {
        node.rests(&flight.subscription, now_ns);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
