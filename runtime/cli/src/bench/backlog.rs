//! What the bus on disk does when there is much of something: events, subscriptions, topics, delayed events.
//!
//! Method: a node in this process with everything synced to disk; it is stopped and started between filling and draining, so
//! that what is measured comes from the disk. Rates of the first and the last tenth of a run stand beside each other;
//! memory is the most that this process had.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use busway_types::{Clock as _, Draft, SystemClock, Topic};
use bytes::Bytes;

use super::case::{Case, Place, Scale};
use super::many::{MANY, copies, resident_bytes};
use super::report::Figures;
use super::rig::{BATCH, Rig, RigService, Scratch};
use super::throughput::{Bench, publish};

/// What a backlog may cost: resident memory, the time of a start, and how much slower its end may be than its beginning.
const MOST_BYTES: u64 = 512 * 1024 * 1024;
const MOST_START_MS: f64 = 5_000.0;
const LEAST_RATIO: f64 = 0.8;
/// The longest wait without any progress.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often progress and memory are looked at.
const LOOK: Duration = Duration::from_millis(20);
const PAYLOAD: [u8; 100] = [b'x'; 100];
/// Topics of the case that has many.
const TOPICS: usize = 100_000;

/// Measures one case.
pub(super) async fn measure(bench: &Bench<'_>, scale: Scale, say: &dyn Fn(String)) -> Result<Figures> {
    let folder = Scratch::new(bench.scratch, "backlog")?;
    let dir = folder.path();
    let small = (bench.events / 10).max(BATCH * 100).next_multiple_of(BATCH);
    let figures = Figures::named(Case::Scale(scale));
    match scale {
        Scale::Backlog => backlog(bench, dir, say, figures).await,
        Scale::SharedTopic => shared_topic(bench, dir, (small / 1_000).next_multiple_of(BATCH), say, figures).await,
        Scale::RareTopics => rare_topics(bench, dir, small, say, figures).await,
        Scale::ManyTopics => many_topics(bench, dir, small, say, figures).await,
        Scale::Delayed => delayed(bench, dir, small, say, figures).await,
    }
}

/// Ten million events that wait for a service that comes back.
async fn backlog(bench: &Bench<'_>, dir: &Path, say: &dyn Fn(String), figures: Figures) -> Result<Figures> {
    let events = bench.events.next_multiple_of(BATCH);
    let reader = service(bench, "reader", "bench.>");
    Rig::open(dir, Place::Disk, std::slice::from_ref(&reader)).await?.stop().await?;
    let rig = Rig::open(dir, Place::Disk, &[service(bench, "other", "other.>")]).await?;
    let filled = fill(&rig, events, &["bench.0".parse()?], say).await?;
    rig.stop().await?;
    let clock = SystemClock::new();
    let rig = Rig::open(dir, Place::Disk, &[reader]).await?;
    let start_ms = clock.monotonic_ns() as f64 / 1e6;
    say(format!("started over {events} events in {start_ms:.0} ms"));
    let drained = drain(&rig, events as u64, say).await?;
    rig.stop().await?;
    let peak = filled.peak.max(drained.peak);
    let ok = peak <= MOST_BYTES && start_ms <= MOST_START_MS && drained.last / drained.first >= LEAST_RATIO;
    Ok(figures
        .with("events", events as f64)
        .with("publish_per_s_first_tenth", filled.first.round())
        .with("publish_per_s_last_tenth", filled.last.round())
        .with("start_ms", start_ms.round())
        .with("handle_per_s_first_tenth", drained.first.round())
        .with("handle_per_s_last_tenth", drained.last.round())
        .with("end_to_start", two_digits(drained.last / drained.first))
        .with("peak_resident_mib", mib(peak))
        .judged(ok))
}

/// A thousand subscriptions on one topic.
async fn shared_topic(
    bench: &Bench<'_>,
    dir: &Path,
    events: usize,
    say: &dyn Fn(String),
    figures: Figures,
) -> Result<Figures> {
    let copied = Scratch::new(bench.scratch, "copies")?;
    let services = copies(bench, copied.path(), |_| "bench.0".to_owned())?;
    let rig = Rig::open(dir, Place::Disk, &services).await?;
    let clock = SystemClock::new();
    let filled = fill(&rig, events, &["bench.0".parse()?], say).await?;
    let drained = drain(&rig, (events * MANY) as u64, say).await?;
    let took = clock.monotonic_ns() as f64 / 1e9;
    rig.stop().await?;
    Ok(figures
        .with("events", events as f64)
        .with("subscriptions", MANY as f64)
        .with("deliveries_per_s", ((events * MANY) as f64 / took).round())
        .with("peak_resident_mib", mib(filled.peak.max(drained.peak))))
}

/// A thousand subscriptions that come back after many events, of which each wants a few on its own topic.
async fn rare_topics(
    bench: &Bench<'_>,
    dir: &Path,
    events: usize,
    say: &dyn Fn(String),
    figures: Figures,
) -> Result<Figures> {
    let copied = Scratch::new(bench.scratch, "copies")?;
    let services = copies(bench, copied.path(), |i| format!("rare.{i}"))?;
    Rig::open(dir, Place::Disk, &services).await?.stop().await?;
    let rig = Rig::open(dir, Place::Disk, &[service(bench, "other", "other.>")]).await?;
    let common: Topic = "bench.0".parse()?;
    let mut rare = 0;
    for batch in 0..events / BATCH {
        // Each batch has one event for one of them.
        let topic: Topic = format!("rare.{}", batch % MANY).parse()?;
        publish(&rig, || {
            let drafts = (0..BATCH).map(|i| if i == 0 { &topic } else { &common });
            drafts.map(|topic| Draft::new(topic.clone(), Bytes::from_static(&PAYLOAD))).collect()
        })
        .await?;
        rare += 1;
    }
    rig.stop().await?;
    let clock = SystemClock::new();
    let rig = Rig::open(dir, Place::Disk, &services).await?;
    let started = clock.monotonic_ns() as f64 / 1e6;
    let drained = drain(&rig, rare, say).await?;
    let took = clock.monotonic_ns() as f64 / 1e6;
    rig.stop().await?;
    Ok(figures
        .with("events", events as f64)
        .with("subscriptions", MANY as f64)
        .with("start_ms", started.round())
        .with("caught_up_ms", took.round())
        .with("peak_resident_mib", mib(drained.peak)))
}

/// One topic, then a hundred thousand, through one subscription.
async fn many_topics(
    bench: &Bench<'_>,
    dir: &Path,
    events: usize,
    say: &dyn Fn(String),
    figures: Figures,
) -> Result<Figures> {
    let rig = Rig::open(dir, Place::Disk, &[service(bench, "reader", "bench.>")]).await?;
    let topics: Vec<Topic> = (0..TOPICS).map(|i| format!("bench.{i}").parse()).collect::<Result<_, _>>()?;
    let (mut rates, mut peak) = (Vec::new(), 0);
    // A first round makes the log's files, so that neither of the two pays for them.
    for used in [1, 1, TOPICS] {
        let clock = SystemClock::new();
        let before = rig.counts.acked.load(Ordering::Acquire);
        let filled = fill(&rig, events, &topics[..used], say).await?;
        let drained = drain_from(&rig, before, events as u64, say).await?;
        rates.push(events as f64 * 1e9 / clock.monotonic_ns() as f64);
        peak = peak.max(filled.peak).max(drained.peak);
    }
    rig.stop().await?;
    Ok(figures
        .with("events", events as f64)
        .with("topics", TOPICS as f64)
        .with("events_per_s_one_topic", rates[1].round())
        .with("events_per_s_many_topics", rates[2].round())
        .with("many_to_one", two_digits(rates[2] / rates[1]))
        .with("peak_resident_mib", mib(peak)))
}

/// A million events that are to be delivered at one moment later on.
async fn delayed(
    bench: &Bench<'_>,
    dir: &Path,
    events: usize,
    say: &dyn Fn(String),
    figures: Figures,
) -> Result<Figures> {
    let rig = Rig::open(dir, Place::Disk, &[service(bench, "reader", "bench.>")]).await?;
    let clock = SystemClock::new();
    // Long enough for all of them to be waiting before the first is due.
    let wait = Duration::from_secs(5 + events as u64 / 40_000);
    let due = clock.now().after(wait);
    let topic: Topic = "bench.0".parse()?;
    let mut peak = 0;
    for batch in 0..events / BATCH {
        publish(&rig, || {
            let draft = || Draft { not_before: Some(due), ..Draft::new(topic.clone(), Bytes::from_static(&PAYLOAD)) };
            (0..BATCH).map(|_| draft()).collect()
        })
        .await?;
        if batch % 256 == 0 {
            peak = peak.max(resident_bytes()?);
        }
    }
    let publishing = clock.monotonic_ns() as f64 / 1e9;
    let waiting = resident_bytes()?;
    say(format!("{events} events wait, after {publishing:.1} s"));
    let left = due.since(clock.now());
    if left.is_zero() || rig.counts.acked.load(Ordering::Acquire) > 0 {
        bail!("publishing took longer than the delay of {wait:?}; the figures would say nothing");
    }
    tokio::time::sleep(left).await;
    let fired = SystemClock::new();
    let drained = drain(&rig, events as u64, say).await?;
    let took = fired.monotonic_ns() as f64 / 1e9;
    rig.stop().await?;
    Ok(figures
        .with("events", events as f64)
        .with("publish_per_s", (events as f64 / publishing).round())
        .with("handled_per_s_once_due", (events as f64 / took).round())
        .with("resident_mib_while_waiting", mib(waiting))
        .with("peak_resident_mib", mib(peak.max(drained.peak))))
}

fn service(bench: &Bench<'_>, name: &str, topic: &str) -> RigService {
    RigService {
        name: name.to_owned(),
        component: bench.component.to_owned(),
        topic: topic.to_owned(),
        settings: "concurrency = 1".to_owned(),
    }
}

/// Rates of the first and the last tenth, and the most memory.
struct Course {
    first: f64,
    last: f64,
    peak: u64,
}

/// Publishes as fast as the bus takes it.
async fn fill(rig: &Rig, events: usize, topics: &[Topic], say: &dyn Fn(String)) -> Result<Course> {
    let clock = SystemClock::new();
    let batches = events / BATCH;
    let mut marks = Marks::new(batches as u64);
    let mut next = 0;
    for batch in 0..batches {
        publish(rig, || {
            let topic = |i: usize| topics[(next + i) % topics.len()].clone();
            (0..BATCH).map(|i| Draft::new(topic(i), Bytes::from_static(&PAYLOAD))).collect()
        })
        .await?;
        next += BATCH;
        if marks.reached(batch as u64 + 1, clock.monotonic_ns())? {
            say(format!("published {} of {events}", (batch + 1) * BATCH));
        }
    }
    Ok(marks.course(BATCH as f64))
}

/// Waits until so many events are handled since the start of the node.
async fn drain(rig: &Rig, events: u64, say: &dyn Fn(String)) -> Result<Course> {
    drain_from(rig, 0, events, say).await
}

async fn drain_from(rig: &Rig, before: u64, events: u64, say: &dyn Fn(String)) -> Result<Course> {
    let clock = SystemClock::new();
    let mut marks = Marks::new(events);
    let (mut last, mut since) = (0, 0);
    loop {
        let done = rig.counts.acked.load(Ordering::Acquire) - before;
        let now = clock.monotonic_ns();
        if marks.reached(done, now)? {
            say(format!("handled {done} of {events}"));
        }
        if done >= events {
            return Ok(marks.course(1.0));
        }
        if done > last {
            (last, since) = (done, now);
        } else if Duration::from_nanos(now - since) > PATIENCE {
            bail!("only {done} of {events} events were handled; nothing more came for {PATIENCE:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// When each tenth of a run was reached.
struct Marks {
    total: u64,
    /// Count and time (ns).
    at: Vec<(u64, u64)>,
    peak: u64,
}

impl Marks {
    fn new(total: u64) -> Self {
        Self { total: total.max(1), at: vec![(0, 0)], peak: 0 }
    }

    /// Notes how far it is; says whether a further tenth is done.
    fn reached(&mut self, done: u64, now_ns: u64) -> Result<bool> {
        let next = self.total * self.at.len() as u64 / 10;
        if done < next.max(1) || self.at.len() > 10 {
            return Ok(false);
        }
        self.peak = self.peak.max(resident_bytes()?);
        // A slow look may find more than one tenth done; all of them then count as done now.
        while self.at.len() <= 10 && done >= self.total * self.at.len() as u64 / 10 {
            self.at.push((done, now_ns));
        }
        Ok(true)
    }

    fn course(&self, each: f64) -> Course {
        let rate = |from: usize, to: usize| {
            let (Some(a), Some(b)) = (self.at.get(from), self.at.get(to)) else { return 0.0 };
            (b.0 - a.0) as f64 * each * 1e9 / (b.1 - a.1).max(1) as f64
        };
        // The very first tenth has the start in it, so the second one stands for the beginning.
        Course { first: rate(1, 2), last: rate(9, 10), peak: self.peak }
    }
}

fn mib(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0)).round()
}

fn two_digits(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_and_the_last_tenth_are_compared() {
        let mut marks = Marks::new(100);
        for tenth in 1..=10_u64 {
            let now = if tenth == 10 { 11_000_000_000 } else { tenth * 1_000_000_000 };
            assert!(marks.reached(tenth * 10, now).expect("memory is known"));
        }
        let course = marks.course(1.0);
        assert!((course.first - 10.0).abs() < 1e-9 && (course.last - 5.0).abs() < 1e-9);
    }
}
