//! Many services: bad neighbours, and a thousand of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use busway_types::{Clock as _, Draft, SystemClock, Topic};
use bytes::Bytes;

use super::case::Place;
use super::report::Figures;
use super::rig::{Rig, RigService, Scratch};
use super::throughput::{Bench, latency};

/// The open-loop rate through the healthy service.
const RATE: f64 = 1_000.0;
const TIME: Duration = Duration::from_secs(6);
/// How many services the second case loads.
const MANY: usize = 1_000;

/// A healthy service alone, then beside spinning, allocating, flooding and trapping ones that are kept busy.
pub(super) async fn noisy(bench: &Bench<'_>, say: &dyn Fn(String)) -> Result<Figures> {
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
    let healthy = RigService {
        name: "healthy".to_owned(),
        component: bench.component.to_owned(),
        topic: "bench.0".to_owned(),
        settings: "concurrency = 1".to_owned(),
    };
    let neighbours = [
        (noisy("noisy-spin-a", "spin")?, "spin"),
        (noisy("noisy-spin-b", "spin")?, "spin"),
        (noisy("noisy-bomb", "memory_bomb")?, "bomb"),
        (noisy("noisy-flood", "flood")?, "keep"),
    ];
    let topics: Vec<Topic> = vec!["bench.0".parse()?];
    let payload = Bytes::from_static(&[b'x'; 100]);

    say("the healthy service alone".to_owned());
    let rig = Rig::start(bench.scratch, Place::Memory, std::slice::from_ref(&healthy)).await?;
    let alone = latency(&rig, &topics, &payload, RATE, TIME).await?;
    rig.stop().await?;

    say("beside four bad neighbours".to_owned());
    let mut services = vec![healthy];
    services.extend(neighbours.iter().map(|(service, _)| service.clone()));
    let rig = Rig::start(bench.scratch, Place::Memory, &services).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = Arc::clone(rig.node.publisher());
    let inputs: Vec<(Topic, Bytes)> = neighbours
        .iter()
        .map(|(service, data)| Ok((service.topic.parse()?, Bytes::from_static(data.as_bytes()))))
        .collect::<Result<_>>()?;
    let stopped = Arc::clone(&stop);
    // Its own batches shift offsets: the healthy service's events are matched by what it alone receives.
    let feeding = async move {
        while !stopped.load(Ordering::Relaxed) {
            for (topic, data) in &inputs {
                let _ = publisher.publish(vec![Draft::new(topic.clone(), data.clone())]).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let measuring = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let measured = latency_by_order(&rig, &topics[0], &payload).await;
        stop.store(true, Ordering::Relaxed);
        measured
    };
    let (beside, ()) = tokio::join!(measuring, feeding);
    let beside = beside?;
    check_neighbours(&rig, say).await?;
    rig.stop().await?;
    Ok(Figures::noisy(&alone, &beside))
}

/// A measurement beside neighbours that did nothing says nothing.
async fn check_neighbours(rig: &Rig, say: &dyn Fn(String)) -> Result<()> {
    let status = rig.node.status().await;
    for service in status.services.iter().filter(|service| service.name.as_str().starts_with("noisy")) {
        say(format!(
            "{}: {} handled, {} timed out, {} trapped, {} dead letters",
            service.name, service.handled, service.timed_out, service.trapped, service.dead_lettered
        ));
        if service.handled == 0 {
            bail!("the neighbour {} did nothing; the measurement says nothing", service.name);
        }
    }
    Ok(())
}

/// As [`latency`], for a log that others write to as well: one lane with one instance handles events
/// without a key in the order of their publication.
async fn latency_by_order(rig: &Rig, topic: &Topic, payload: &Bytes) -> Result<hdrhistogram::Histogram<u64>> {
    let total = (RATE * TIME.as_secs_f64()) as usize;
    let step_ns = (1e9 / RATE) as u64;
    let start = rig.counts.clock.monotonic_ns() + 20_000_000;
    let due: Vec<u64> = (0..total as u64).map(|i| start + i * step_ns).collect();
    rig.counts.time(None, due.clone())?;
    let before = rig.counts.acked.load(Ordering::Acquire);
    for due in due {
        let now = rig.counts.clock.monotonic_ns();
        if due > now {
            tokio::time::sleep(Duration::from_nanos(due - now)).await;
        }
        super::throughput::publish(rig, || vec![Draft::new(topic.clone(), payload.clone())]).await?;
    }
    rig.counts.wait_for(before + total as u64, Duration::from_mins(1)).await?;
    rig.counts.timed()
}

/// A thousand services from copies of one component: time to start and memory, each.
pub(super) async fn thousand(bench: &Bench<'_>, say: &dyn Fn(String)) -> Result<Figures> {
    let copies = Scratch::new(bench.scratch, "copies")?;
    let mut services = Vec::with_capacity(MANY);
    for i in 0..MANY {
        let component: PathBuf = copies.path().join(format!("copy-{i:04}.wasm"));
        std::fs::copy(bench.component, &component)
            .with_context(|| format!("cannot copy to {}", component.display()))?;
        services.push(RigService {
            name: format!("copy-{i:04}"),
            component,
            topic: format!("bench.{i}"),
            settings: "concurrency = 1".to_owned(),
        });
    }
    let clock = SystemClock::new();
    let before = resident_bytes()?;
    let began = clock.monotonic_ns();
    let rig = Rig::start(bench.scratch, Place::Memory, &services).await?;
    let start_ms = (clock.monotonic_ns() - began) as f64 / 1e6;
    say(format!("{MANY} services started in {start_ms:.0} ms"));
    let loaded = resident_bytes()?;
    let payload = Bytes::from_static(&[b'x'; 100]);
    for chunk in services.chunks(250) {
        let topics: Vec<Topic> = chunk.iter().map(|service| service.topic.parse()).collect::<Result<_, _>>()?;
        let drafts = || topics.iter().map(|topic| Draft::new(topic.clone(), payload.clone())).collect();
        super::throughput::publish(&rig, drafts).await?;
    }
    rig.counts.wait_for(MANY as u64, Duration::from_mins(2)).await?;
    let active = resident_bytes()?;
    rig.stop().await?;
    let each = |bytes: u64| bytes as f64 / MANY as f64;
    Ok(Figures::thousand(
        start_ms / MANY as f64,
        each(loaded.saturating_sub(before)),
        each(active.saturating_sub(before)),
    ))
}

/// Resident memory of this process, as the kernel says.
fn resident_bytes() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let status = std::fs::read_to_string(path).context("memory can only be measured on Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel does not tell VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")?;
    Ok(kib * 1024)
}
