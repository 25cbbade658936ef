//! The way out: from the bus to a broker.
//!
//! Role: takes chunks of deliveries, sends their events, and reports what became of each. It is to a subscription what a
//! lane is to that of a service.
//!
//! ```text
//!   chunk --> waves: events that may be on their way together --> Target --confirmed--> outcomes
//! ```
//!
//! Invariants: a chunk that was taken is reported, or lost, exactly one of the two; events of one key (all, if strict) are
//! never on their way together, and after one that failed the later ones of its key come back skipped; while the broker is
//! away nothing counts as an attempt, and what is held is sent when it is back, unless it expired meanwhile.

use std::sync::Arc;

use busway_types::{Chunk, Clock, DeliveryResult, Event, Ordering, Outcome, Report};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::inward::{pause, reaches};
use crate::link::Link;
use crate::place::Place;
use crate::target::Target;
use crate::{Broken, Phase};

/// A bridge from the bus to a broker.
#[derive(Clone, Debug)]
pub struct Outward {
    /// Its name.
    pub name: String,
    /// Where events go.
    pub to: Place,
    /// The header with their key.
    pub key_header: String,
    /// For what has expired.
    pub clock: Arc<dyn Clock>,
}

/// What becomes of a chunk.
#[derive(Debug)]
pub enum Work {
    /// What became of each of its deliveries.
    Done(Report),
    /// Nothing was done with it; it is to come again.
    Lost(Chunk),
}

impl Outward {
    /// Runs until nobody sends chunks any more, or the phase says [`Phase::End`].
    pub async fn run(
        self,
        mut chunks: mpsc::Receiver<Chunk>,
        tell: impl Fn(Work),
        link: Arc<Link>,
        mut phase: watch::Receiver<Phase>,
    ) {
        let mut tries = 0;
        let mut waits: Option<Chunk> = None;
        // One at a time: the broker closed a channel because of one of several.
        let mut alone = false;
        while let Some(mut target) = self.connect(&link, &mut phase, &mut tries).await {
            let broken = loop {
                let chunk = match waits.take() {
                    Some(chunk) => Next::Chunk(chunk),
                    None => next(&target, &mut chunks, &mut phase).await,
                };
                let chunk = match chunk {
                    Next::Chunk(chunk) => chunk,
                    Next::Lost(broken) => break Some(broken),
                    Next::End => break None,
                };
                let now = self.clock.now();
                if chunk.deliveries.iter().any(|delivery| delivery.logged.event.is_expired(now)) {
                    // The dispatcher looks again: nothing was done with any of them.
                    tell(Work::Done(report(&chunk, vec![None; chunk.deliveries.len()], Instant::now())));
                    continue;
                }
                let since = Instant::now();
                let Delivered { outcomes, broken, accused } = deliver(&mut target, &chunk, alone).await;
                alone = accused;
                count(&link, &outcomes);
                if broken.is_none() || outcomes.iter().any(Option::is_some) {
                    tries = 0;
                    tell(Work::Done(report(&chunk, outcomes, since)));
                } else {
                    waits = Some(chunk);
                }
                if broken.is_some() {
                    break broken;
                }
            };
            match broken {
                Some(Broken(reason)) => link.waiting(&reason),
                None => break,
            }
        }
        // The node ends, or cannot send what it has: the dispatcher gives it out again.
        while let Some(chunk) = waits.take().or_else(|| chunks.try_recv().ok()) {
            tell(Work::Lost(chunk));
        }
        give_back(&mut chunks, &tell, &mut phase).await;
    }

    /// Connects, as often as it takes. None when the bridge is to end first.
    async fn connect(&self, link: &Arc<Link>, phase: &mut watch::Receiver<Phase>, tries: &mut u32) -> Option<Target> {
        loop {
            if *tries > 0 {
                tokio::select! {
                    () = tokio::time::sleep(pause(*tries - 1)) => {}
                    () = reaches(phase, Phase::Drain) => return None,
                }
            }
            *tries += 1;
            let opened = tokio::select! {
                opened = Target::open(self, link) => opened,
                () = reaches(phase, Phase::Drain) => return None,
            };
            match opened {
                Ok(target) => {
                    link.connected();
                    return Some(target);
                }
                Err(Broken(reason)) => link.waiting(&reason),
            }
        }
    }
}

/// What there is to do next.
enum Next {
    Chunk(Chunk),
    Lost(Broken),
    End,
}

async fn next(target: &Target, chunks: &mut mpsc::Receiver<Chunk>, phase: &mut watch::Receiver<Phase>) -> Next {
    tokio::select! {
        chunk = chunks.recv() => chunk.map_or(Next::End, Next::Chunk),
        broken = target.lost() => Next::Lost(broken),
        () = reaches(phase, Phase::End) => Next::End,
    }
}

/// A node that drains waits for what is in flight: what still comes goes back at once.
async fn give_back(chunks: &mut mpsc::Receiver<Chunk>, tell: &impl Fn(Work), phase: &mut watch::Receiver<Phase>) {
    loop {
        tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => tell(Work::Lost(chunk)),
                None => return,
            },
            () = reaches(phase, Phase::End) => return,
        }
    }
}

fn count(link: &Link, outcomes: &[Option<Outcome>]) {
    let number = |is: fn(&Outcome) -> bool| outcomes.iter().flatten().filter(|outcome| is(outcome)).count();
    link.copied(number(|outcome| *outcome == Outcome::Acked));
    link.retried(number(|outcome| matches!(outcome, Outcome::Retry { .. })));
    for outcome in outcomes.iter().flatten() {
        if let Outcome::Rejected { reason } = outcome {
            link.refused("of the bus", reason, "kept as a dead letter");
        }
    }
}

/// What nobody knows comes back uncharged.
fn report(chunk: &Chunk, outcomes: Vec<Option<Outcome>>, since: Instant) -> Report {
    let took = since.elapsed().as_nanos() / (chunk.deliveries.len().max(1) as u128);
    let busy_ns = u64::try_from(took).unwrap_or(u64::MAX);
    let results = chunk.deliveries.iter().zip(outcomes).map(|(delivery, outcome)| DeliveryResult {
        offset: delivery.logged.offset,
        outcome: outcome.unwrap_or(Outcome::Skipped),
        effects: None,
        busy_ns,
    });
    Report { chunk: chunk.id, sub: chunk.sub, results: results.collect(), finished: true }
}

/// What became of a chunk.
struct Delivered {
    /// None: nobody knows.
    outcomes: Vec<Option<Outcome>>,
    broken: Option<Broken>,
    /// Whether one of several made the broker end the connection, and it is not known which.
    accused: bool,
}

/// Sends the events of a chunk in waves, or one at a time.
async fn deliver(target: &mut Target, chunk: &Chunk, alone: bool) -> Delivered {
    let mut waves = Waves::new(chunk);
    loop {
        let mut wave = waves.next();
        if wave.is_empty() {
            return Delivered { outcomes: waves.outcomes, broken: None, accused: false };
        }
        if alone {
            wave.truncate(1);
        }
        let events: Vec<&Arc<Event>> = wave.iter().map(|at| &chunk.deliveries[*at].logged.event).collect();
        let sent = target.send(&events).await;
        waves.take(&wave, sent.outcomes);
        if sent.broken.is_some() {
            if let ([one], Some(outcome)) = (&wave[..], &sent.verdict) {
                waves.outcomes[*one] = Some(outcome.clone());
            }
            let accused = sent.verdict.is_some() && wave.len() > 1;
            return Delivered { outcomes: waves.outcomes, broken: sent.broken, accused };
        }
    }
}

/// Which events of a chunk may be on their way together.
struct Waves<'c> {
    chunk: &'c Chunk,
    outcomes: Vec<Option<Outcome>>,
}

impl<'c> Waves<'c> {
    fn new(chunk: &'c Chunk) -> Self {
        Self { chunk, outcomes: vec![None; chunk.deliveries.len()] }
    }

    /// The group of an event; events without one wait for none.
    fn group(&self, at: usize) -> Option<&'c str> {
        match self.chunk.ordering {
            Ordering::Strict => Some(""),
            Ordering::Key => self.chunk.deliveries[at].logged.event.key.as_ref().map(busway_types::Key::as_str),
            Ordering::None => None,
        }
    }

    /// The next wave; later events of a group in which one failed are skipped.
    fn next(&mut self) -> Vec<usize> {
        let mut closed: std::collections::HashMap<&str, bool> = std::collections::HashMap::new();
        let mut wave = Vec::new();
        for at in 0..self.outcomes.len() {
            let group = self.group(at);
            let failed = group.and_then(|group| closed.get(group).copied());
            match (&self.outcomes[at], failed) {
                (None, Some(true)) => self.outcomes[at] = Some(Outcome::Skipped),
                (None, Some(false)) | (Some(Outcome::Acked), _) => {}
                (None, None) => {
                    wave.push(at);
                    closed.extend(group.map(|group| (group, false)));
                }
                (Some(_), _) => closed.extend(group.map(|group| (group, true))),
            }
        }
        wave
    }

    fn take(&mut self, wave: &[usize], outcomes: Vec<Option<Outcome>>) {
        for (at, outcome) in wave.iter().zip(outcomes) {
            self.outcomes[*at] = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::event;
    use busway_types::{Delivery, Key, Limits, Logged, SubId};

    fn chunk(ordering: Ordering, keys: &[&str]) -> Chunk {
        let delivery = |(offset, key): (usize, &&str)| {
            let key = Key::new(key, &Limits::default()).ok();
            let event = Arc::new(event(|draft| draft.key = key));
            Delivery { logged: Logged { offset: offset as u64, event }, attempt: 1 }
        };
        let deliveries = keys.iter().enumerate().map(delivery).collect();
        Chunk { id: 1, sub: SubId(1), ordering, generation: 0, deliveries }
    }

    fn acked(count: usize) -> Vec<Option<Outcome>> {
        vec![Some(Outcome::Acked); count]
    }

    #[test]
    fn events_of_one_key_are_never_on_their_way_together() {
        let by_key = chunk(Ordering::Key, &["a", "b", "a", "", "", "a"]);
        let mut waves = Waves::new(&by_key);
        for wanted in [&[0, 1, 3, 4][..], &[2], &[5], &[]] {
            let wave = waves.next();
            assert_eq!(wave, wanted);
            waves.take(&wave, acked(wave.len()));
        }
        let strict = chunk(Ordering::Strict, &["a", "b"]);
        assert_eq!(Waves::new(&strict).next(), [0]);
        let none = chunk(Ordering::None, &["a", "a"]);
        assert_eq!(Waves::new(&none).next(), [0, 1]);
    }

    #[test]
    fn what_follows_a_failed_one_of_its_key_is_skipped() {
        let by_key = chunk(Ordering::Key, &["a", "b", "a", "b"]);
        let mut waves = Waves::new(&by_key);
        let wave = waves.next();
        let failed = Outcome::Retry { reason: "unroutable".to_owned(), after: None };
        waves.take(&wave, vec![Some(failed.clone()), Some(Outcome::Acked)]);
        let wave = waves.next();
        assert_eq!(wave, [3]);
        waves.take(&wave, acked(1));
        assert!(waves.next().is_empty());
        let report = report(&by_key, waves.outcomes, Instant::now());
        let outcomes: Vec<Outcome> = report.results.into_iter().map(|result| result.outcome).collect();
        assert_eq!(outcomes, [failed, Outcome::Acked, Outcome::Skipped, Outcome::Acked]);
    }

    #[test]
    fn what_nobody_knows_holds_back_its_key_in_the_next_wave() {
        let by_key = chunk(Ordering::Key, &["a", "a"]);
        let mut waves = Waves::new(&by_key);
        let wave = waves.next();
        waves.take(&wave, vec![None]);
        assert_eq!(waves.next(), [0], "it is sent again before the other one");
    }
}
