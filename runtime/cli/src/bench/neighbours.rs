//! A healthy service beside bad neighbours.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use busway_types::{Clock as _, Draft, Topic};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::case::Place;
use super::report::Figures;
use super::rig::{Rig, RigService};
use super::throughput::Bench;

/// The open-loop rate through the healthy service.
const RATE: f64 = 1_000.0;
/// How long both sides of all pairs are measured together, and the least and most of one side.
const ALTOGETHER: Duration = Duration::from_secs(40);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(4);
/// How long events that are still under way at the end may take before they count as lost.
const LATEST: Duration = Duration::from_secs(10);

/// What one side of a pair showed.
struct Side {
    latency: Histogram<u64>,
    lost: u64,
}

/// A healthy service alone, then beside spinning, allocating and flooding ones that are kept busy; in turns.
pub(super) async fn noisy(bench: &Bench<'_>, say: &dyn Fn(String)) -> Result<Figures> {
    let neighbours = neighbours(bench)?;
    let healthy = RigService {
        name: "healthy".to_owned(),
        component: bench.component.to_owned(),
        topic: "bench.0".to_owned(),
        settings: "concurrency = 1".to_owned(),
    };
    let pairs = u32::try_from(bench.pairs).unwrap_or(u32::MAX).max(1);
    let time = (ALTOGETHER / pairs / 2).clamp(SHORTEST, LONGEST);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for pair in 1..=pairs {
        let rig = Rig::start(bench.scratch, Place::Memory, std::slice::from_ref(&healthy)).await?;
        let own = latency_by_order(&rig, time).await?;
        rig.stop().await?;
        let with = beside_neighbours(bench, &healthy, &neighbours, time).await?;
        let p99 = |side: &Side| side.latency.value_at_quantile(0.99) as f64 / 1e6;
        say(format!(
            "pair {pair} of {pairs}: p99 {:.1} ms alone, {:.1} ms beside four bad neighbours, {} lost",
            p99(&own),
            p99(&with),
            own.lost + with.lost
        ));
        alone.push(own);
        beside.push(with);
    }
    let lost = alone.iter().chain(&beside).map(|side| side.lost).sum();
    let latencies = |sides: Vec<Side>| sides.into_iter().map(|side| side.latency).collect::<Vec<_>>();
    Ok(Figures::noisy(&latencies(alone), &latencies(beside), lost))
}

/// The bad neighbours, each with the data that makes it bad.
fn neighbours(bench: &Bench<'_>) -> Result<[(RigService, &'static str); 4]> {
    let folder = bench.component.parent().context("the component lies in no folder")?;
    let noisy = |name: &str, program: &str| -> Result<RigService> {
        let component = folder.join(program).with_extension("wasm");
        if !component.exists() {
            bail!("{} is missing; build the test programs with `cargo xtask guests`", component.display());
        }
        let topic = format!("{name}.in");
        let settings =
            "publish = [\"public.>\"]\ntimeout = \"500ms\"\nconcurrency = 1\nretry = { attempts = 1 }".into();
        Ok(RigService { name: name.to_owned(), component, topic, settings })
    };
    Ok([
        (noisy("noisy-spin-a", "spin")?, "spin"),
        (noisy("noisy-spin-b", "spin")?, "spin"),
        (noisy("noisy-bomb", "memory_bomb")?, "bomb"),
        (noisy("noisy-flood", "flood")?, "keep"),
    ])
}

async fn beside_neighbours(
    bench: &Bench<'_>,
    healthy: &RigService,
    neighbours: &[(RigService, &'static str)],
    time: Duration,
) -> Result<Side> {
    let mut services = vec![healthy.clone()];
    services.extend(neighbours.iter().map(|(service, _)| service.clone()));
    let rig = Rig::start(bench.scratch, Place::Memory, &services).await?;
    let stop = AtomicBool::new(false);
    let inputs: Vec<(Topic, Bytes)> = neighbours
        .iter()
        .map(|(service, data)| Ok((service.topic.parse()?, Bytes::from_static(data.as_bytes()))))
        .collect::<Result<_>>()?;
    // Their events shift offsets: the healthy service's events are matched by the order in which it handles them.
    let feeding = async {
        while !stop.load(Ordering::Relaxed) {
            for (topic, data) in &inputs {
                let _ = rig.node.publisher().publish(vec![Draft::new(topic.clone(), data.clone())]).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let measuring = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let measured = latency_by_order(&rig, time).await;
        stop.store(true, Ordering::Relaxed);
        measured
    };
    let (measured, ()) = tokio::join!(measuring, feeding);
    check_neighbours(&rig).await?;
    rig.stop().await?;
    measured
}

/// A measurement beside neighbours that did nothing says nothing.
async fn check_neighbours(rig: &Rig) -> Result<()> {
    let status = rig.node.status().await;
    for service in status.services.iter().filter(|service| service.name.as_str().starts_with("noisy")) {
        if service.handled == 0 {
            bail!("the neighbour {} did nothing; the measurement says nothing", service.name);
        }
    }
    Ok(())
}

/// Publishes one event at a time at a fixed rate, whatever the bus does, and gives the time of each from when it was due.
/// For a log that others write to as well: one lane with one instance handles events without a key in the order of their
/// publication.
async fn latency_by_order(rig: &Rig, time: Duration) -> Result<Side> {
    let topic: Topic = "bench.0".parse()?;
    let total = (RATE * time.as_secs_f64()) as u64;
    let step_ns = (1e9 / RATE) as u64;
    let start = rig.counts.clock.monotonic_ns() + 20_000_000;
    let due: Vec<u64> = (0..total).map(|i| start + i * step_ns).collect();
    rig.counts.time(None, due.clone())?;
    let before = rig.counts.acked.load(Ordering::Acquire);
    for due in due {
        let now = rig.counts.clock.monotonic_ns();
        if due > now {
            tokio::time::sleep(Duration::from_nanos(due - now)).await;
        }
        super::throughput::publish(rig, || vec![Draft::new(topic.clone(), Bytes::from_static(&[b'x'; 100]))]).await?;
    }
    // What has not come by then is told as lost, not as an error.
    let _ = rig.counts.wait_for(before + total, LATEST).await;
    let lost = (before + total).saturating_sub(rig.counts.acked.load(Ordering::Acquire));
    Ok(Side { latency: rig.counts.timed()?, lost })
}
