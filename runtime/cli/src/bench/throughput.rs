//! Events per second beside the floor, and latency at half of that.
//!
//! Method: at least five interleaved pairs of {floor, bus}, each in the same process with the same component, event and
//! engine settings; medians are printed. The floor is a bare loop of typed wasmtime calls. The bus has one host-side
//! publisher that sends batches of 256 and counts what lanes acknowledge. Latency is open loop: events are due at fixed
//! times whatever the bus does, and are counted from when they were due.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use busway_host::{Compiled, Host};
use busway_node::PublishError;
use busway_types::{Clock as _, Draft, EventId, Limits, Timestamp, Topic};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::case::{Case, Throughput};
use super::report::Figures;
use super::rig::{BATCH, Rig, RigService, drafts};

/// How long one throughput run should last.
const RUN: Duration = Duration::from_millis(700);
/// How long latency is measured.
const LATENCY: Duration = Duration::from_secs(3);
/// Bytes that one run may put on the disk.
const RUN_BYTES: usize = 512 * 1024 * 1024;
/// The longest wait for a run to end.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// What all cases share.
pub(super) struct Bench<'a> {
    pub(super) host: &'a Host,
    pub(super) compiled: &'a Compiled,
    pub(super) component: &'a Path,
    pub(super) scratch: &'a Path,
    pub(super) pairs: usize,
    pub(super) events: usize,
}

/// Measures one throughput case.
pub(super) async fn measure(bench: &Bench<'_>, case: Throughput, say: &dyn Fn(String)) -> Result<Figures> {
    let payload = Bytes::from(vec![b'x'; case.bytes]);
    let topics: Vec<Topic> = (0..case.services).map(|i| format!("bench.{i}").parse()).collect::<Result<_, _>>()?;
    let settings = format!("concurrency = 1\ninstances = {:?}", if case.per_event { "per-event" } else { "reused" });
    let service = |i: usize| RigService {
        name: format!("bench-{i:03}"),
        component: bench.component.to_owned(),
        topic: format!("bench.{i}"),
        settings: settings.clone(),
    };
    let services: Vec<_> = (0..case.services).map(service).collect();
    let rig = Rig::start(bench.scratch, case.place, &services).await?;
    let sample = Draft::new(topics[0].clone(), payload.clone());
    let sample = sample.admit(EventId::from_u128(1), Timestamp(0), &Limits::default()).context("a bad sample")?;
    let sample = Arc::new(sample);

    // A first, short round warms both sides and tells how much fits into a run.
    let warm = floor(bench, &sample, if case.per_event { 200 } else { 20_000 }, case.per_event).await?;
    run(&rig, &topics, &payload, BATCH * 4 * case.services.min(8)).await?;
    let fitting = (RUN.as_secs_f64() * warm) as usize;
    let events = fitting.clamp(BATCH * 4, 1_000_000).min(RUN_BYTES / case.bytes.max(1)).next_multiple_of(BATCH);
    let (mut floors, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=bench.pairs {
        let floor = floor(bench, &sample, events as u64, case.per_event).await?;
        let rate = run(&rig, &topics, &payload, events).await?;
        say(format!("pair {pair} of {}: {:.0} events/s, {:.2} of the floor", bench.pairs, rate, rate / floor));
        floors.push(floor);
        rates.push(rate);
        ratios.push(rate / floor);
    }
    let rate = median(&mut rates);
    say(format!("latency at {:.0} events/s", rate / 2.0));
    let latency = latency(&rig, &topics, &payload, rate / 2.0, LATENCY).await?;
    rig.stop().await?;
    Ok(Figures::throughput(Case::Throughput(case), rate, median(&mut floors), median(&mut ratios), &latency))
}

/// Bare calls per second.
async fn floor(bench: &Bench<'_>, event: &Arc<busway_types::Event>, calls: u64, per_event: bool) -> Result<f64> {
    let (host, compiled, event) = (bench.host.clone(), bench.compiled.clone(), Arc::clone(event));
    let took = tokio::task::spawn_blocking(move || host.floor(&compiled, event, calls, per_event)).await??;
    Ok(calls as f64 / took.as_secs_f64())
}

/// Publishes `events` events as fast as they are taken; gives events handled per second.
async fn run(rig: &Rig, topics: &[Topic], payload: &Bytes, events: usize) -> Result<f64> {
    let before = rig.counts.acked.load(std::sync::atomic::Ordering::Acquire);
    let began = rig.counts.clock.monotonic_ns();
    for _ in 0..events / BATCH {
        publish(rig, || drafts(topics, payload, BATCH)).await?;
    }
    rig.counts.wait_for(before + (events / BATCH * BATCH) as u64, PATIENCE).await?;
    let took = rig.counts.clock.monotonic_ns() - began;
    Ok((events / BATCH * BATCH) as f64 * 1e9 / took as f64)
}

/// Publishes a batch; waits on when the bus has no room, as long as it may be expected to have some again.
pub(super) async fn publish(rig: &Rig, batch: impl Fn() -> Vec<Draft>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match rig.node.publisher().publish(batch()).await {
            Ok(_) => return Ok(()),
            Err(PublishError::Overloaded(_)) if tokio::time::Instant::now() < deadline => {
                // Some refusals come at once.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Publishes at a fixed rate for a while, whatever the bus does; gives the time from when each event was due.
pub(super) async fn latency(
    rig: &Rig,
    topics: &[Topic],
    payload: &Bytes,
    per_second: f64,
    time: Duration,
) -> Result<Histogram<u64>> {
    let total = ((per_second * time.as_secs_f64()) as usize).max(100);
    let step = 1e9 / per_second;
    let status = rig.node.status().await;
    let start = rig.counts.clock.monotonic_ns() + 20_000_000;
    let due: Vec<u64> = (0..total).map(|i| start + (i as f64 * step) as u64).collect();
    rig.counts.time(Some(status.bus.head), due.clone())?;
    let before = rig.counts.acked.load(std::sync::atomic::Ordering::Acquire);
    let mut sent = 0;
    while sent < total {
        let now = rig.counts.clock.monotonic_ns();
        let ready = due[sent..].iter().take_while(|due| **due <= now).count().min(BATCH);
        if ready == 0 {
            // Shorter than the time between batches, without holding a core that the bus needs.
            let wait = Duration::from_nanos(due[sent] - now).min(Duration::from_millis(1));
            tokio::time::sleep(wait).await;
            continue;
        }
        publish(rig, || drafts(topics, payload, ready)).await?;
        sent += ready;
    }
    rig.counts.wait_for(before + total as u64, PATIENCE).await?;
    rig.counts.timed()
}

/// The middle one.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
