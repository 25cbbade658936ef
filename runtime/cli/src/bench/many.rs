//! A thousand services, and how much memory this process has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use busway_types::{Clock as _, Draft, SystemClock, Topic};
use bytes::Bytes;

use super::case::Place;
use super::report::Figures;
use super::rig::{Rig, RigService, Scratch};
use super::throughput::Bench;

/// How many services are loaded.
pub(super) const MANY: usize = 1_000;

/// A thousand services from copies of one component: time to start and memory, each.
pub(super) async fn thousand(bench: &Bench<'_>, say: &dyn Fn(String)) -> Result<Figures> {
    let copied = Scratch::new(bench.scratch, "copies")?;
    let services = copies(bench, copied.path(), |i| format!("bench.{i}"))?;
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

/// A thousand services from copies of one component, each on the topic that is named for it.
pub(super) fn copies(bench: &Bench<'_>, folder: &Path, topic: impl Fn(usize) -> String) -> Result<Vec<RigService>> {
    let copy = |i: usize| {
        let component: PathBuf = folder.join(format!("copy-{i:04}.wasm"));
        std::fs::copy(bench.component, &component)
            .with_context(|| format!("cannot copy to {}", component.display()))?;
        let (name, settings) = (format!("copy-{i:04}"), "concurrency = 1".to_owned());
        Ok(RigService { name, component, topic: topic(i), settings })
    };
    (0..MANY).map(copy).collect()
}

/// Resident memory of this process, as the kernel says.
pub(super) fn resident_bytes() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let status = std::fs::read_to_string(path).context("memory can only be measured on Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel does not tell VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")?;
    Ok(kib * 1024)
}
