//! A node to be measured, in this process, with copies of one component as its services.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use busway_node::manifest::EngineUrl;
use busway_node::{Node, NodeOptions};
use busway_types::{Clock, Draft, Offset, Outcome, Report, SystemClock, Topic};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::case::Place;

/// Events published at one time.
pub(crate) const BATCH: usize = 256;

/// What the tap counts.
pub(crate) struct Counts {
    pub(crate) clock: SystemClock,
    /// Deliveries acknowledged.
    pub(crate) acked: AtomicU64,
    /// Deliveries that ended otherwise.
    pub(crate) other: AtomicU64,
    /// Only while latency is measured.
    pub(crate) timing: Mutex<Option<Timing>>,
    /// Acknowledgements to wait for.
    pub(crate) wanted: AtomicU64,
    pub(crate) reached: tokio::sync::Notify,
}

/// What is needed to tell how long an event took.
pub(crate) struct Timing {
    /// The offset of the first timed event; none when events are timed in the order of their handling instead.
    pub(crate) first: Option<Offset>,
    /// How many were timed in order.
    pub(crate) seen: usize,
    /// When each should have been published, in nanoseconds of the clock.
    pub(crate) due: Vec<u64>,
    /// From then to the report of its lane, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Counts {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: SystemClock::new(),
            acked: AtomicU64::new(0),
            other: AtomicU64::new(0),
            timing: Mutex::new(None),
            wanted: AtomicU64::new(u64::MAX),
            reached: tokio::sync::Notify::new(),
        })
    }

    fn see(&self, report: &Report) {
        let acked = report.results.iter().filter(|result| result.outcome == Outcome::Acked).count() as u64;
        self.other.fetch_add(report.results.len() as u64 - acked, Ordering::Relaxed);
        if let Ok(mut timing) = self.timing.lock()
            && let Some(timing) = timing.as_mut()
        {
            let now = self.clock.monotonic_ns();
            for result in &report.results {
                let index = match timing.first {
                    Some(first) => result.offset.checked_sub(first).and_then(|i| usize::try_from(i).ok()),
                    None => Some(timing.seen),
                };
                timing.seen += 1;
                if let Some(due) = index.and_then(|index| timing.due.get(index)) {
                    timing.latency.saturating_record(now.saturating_sub(*due));
                }
            }
        }
        let total = self.acked.fetch_add(acked, Ordering::AcqRel) + acked;
        if total >= self.wanted.load(Ordering::Acquire) {
            self.reached.notify_one();
        }
    }

    /// Times what is handled from now on: the n-th delivery was due at `due[n]`.
    pub(crate) fn time(&self, first: Option<Offset>, due: Vec<u64>) -> Result<()> {
        let timing = Timing { first, seen: 0, due, latency: Histogram::new_with_bounds(1, 600_000_000_000, 3)? };
        *self.timing.lock().unwrap_or_else(PoisonError::into_inner) = Some(timing);
        Ok(())
    }

    /// Ends the timing.
    pub(crate) fn timed(&self) -> Result<Histogram<u64>> {
        let timing = self.timing.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(timing.context("nothing was timed")?.latency)
    }

    /// Waits until `total` acknowledgements have come since the start.
    pub(crate) async fn wait_for(&self, total: u64, patience: Duration) -> Result<()> {
        self.wanted.store(total, Ordering::Release);
        let all = async {
            while self.acked.load(Ordering::Acquire) < total {
                self.reached.notified().await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            let (acked, other) = (self.acked.load(Ordering::Acquire), self.other.load(Ordering::Acquire));
            bail!("only {acked} of {total} events were handled after {patience:?} ({other} deliveries failed)");
        }
        Ok(())
    }
}

/// One service of a rig.
#[derive(Clone, Debug)]
pub(crate) struct RigService {
    pub(crate) name: String,
    pub(crate) component: PathBuf,
    /// What it subscribes to.
    pub(crate) topic: String,
    /// Further lines of its manifest table.
    pub(crate) settings: String,
}

/// A running node with its counts.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) counts: Arc<Counts>,
    _folder: Option<Scratch>,
}

/// A folder of this process, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(format!("busway-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be created", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Rig {
    /// Starts a node with `services` in a folder of its own that goes with it.
    pub(crate) async fn start(scratch: &Path, place: Place, services: &[RigService]) -> Result<Self> {
        Self::start_with(scratch, place, services, "").await
    }

    /// The same with further tables of the manifest.
    pub(crate) async fn start_with(scratch: &Path, place: Place, services: &[RigService], more: &str) -> Result<Self> {
        let folder = Scratch::new(scratch, "node")?;
        let rig = Self::open_with(folder.path(), place, services, more).await?;
        Ok(Self { _folder: Some(folder), ..rig })
    }

    /// Starts a node with `services` over what the folder holds. When there are services whose name begins with `noisy`,
    /// only the deliveries of the first service by name are counted (services are numbered by name).
    pub(crate) async fn open(folder: &Path, place: Place, services: &[RigService]) -> Result<Self> {
        Self::open_with(folder, place, services, "").await
    }

    async fn open_with(folder: &Path, place: Place, services: &[RigService], more: &str) -> Result<Self> {
        let mut manifest = String::new();
        for RigService { name, component, topic, settings } in services {
            let component = component.display().to_string();
            let _ = writeln!(
                manifest,
                "[services.{name}]\ncomponent = {component:?}\nsubscribe = [{topic:?}]\n{settings}\n"
            );
        }
        manifest.push_str(more);
        let app = folder.join("busway.toml");
        std::fs::write(&app, manifest).with_context(|| format!("{} cannot be written", app.display()))?;
        let counts = Counts::new();
        let mut options = NodeOptions::new(&app, "bench");
        options.engine = Some(match place {
            Place::Memory => EngineUrl::Memory,
            Place::Disk => EngineUrl::File(folder.join("data")),
        });
        options.watch = false;
        let tap = Arc::clone(&counts);
        let everything = services.iter().all(|service| !service.name.starts_with("noisy"));
        options.tap = Some(Arc::new(move |report: &Report| {
            if everything || report.sub.0 == 0 {
                tap.see(report);
            }
        }));
        let node = Node::start(options).await?;
        let status = node.status().await;
        if let Some(refused) = status.refused.first() {
            bail!("{} cannot be measured: {}", refused.path, refused.reason);
        }
        Ok(Self { node, counts, _folder: None })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.node.stop().await?;
        Ok(())
    }
}

/// A batch of events of `bytes` bytes, spread over `topics` in turn.
pub(crate) fn drafts(topics: &[Topic], payload: &Bytes, count: usize) -> Vec<Draft> {
    (0..count).map(|i| Draft::new(topics[i % topics.len()].clone(), payload.clone())).collect()
}
