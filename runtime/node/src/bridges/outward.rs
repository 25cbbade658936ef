//! What goes out is delivered as to a service: the dispatcher decides when, how often and when no more, and what it gives up
//! is a dead letter of the subscription `bridge.NAME`.

use std::sync::Arc;
use std::time::Duration;

use busway_bridge::{Link, Outward, Phase, Work};
use busway_engine::EngineError;
use busway_host::{LaneSink as _, NotTaken};
use busway_types::{Chunk, StartAt, SubscriptionSpec};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use crate::driver::executor::Executor;
use crate::driver::{Event, PARTITION, Target};
use crate::inner::Inner;
use crate::manifest::{BridgeConfig, Way};
use crate::metrics::Metrics;
use crate::task_set::TaskSet;

/// Chunks that wait at most: as many as the dispatcher has in flight for one task.
const CHUNKS: usize = 1 + Chunk::AHEAD;
/// How long to wait before a subscription that could not be made is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Gives chunks to the task of a bridge.
struct BridgeExecutor(mpsc::Sender<Chunk>);

impl Executor for BridgeExecutor {
    fn submit(&self, chunk: Chunk) -> Result<(), NotTaken> {
        self.0.try_send(chunk).map_err(|error| match error {
            TrySendError::Full(chunk) => NotTaken::Full(chunk),
            TrySendError::Closed(chunk) => NotTaken::Closed(chunk),
        })
    }
}

/// Starts a bridge that gives events out.
pub(super) fn start(
    inner: &Arc<Inner>,
    tasks: &TaskSet,
    config: &BridgeConfig,
    link: &Arc<Link>,
    phase: &watch::Receiver<Phase>,
) {
    let Way::Out { topics, to, ordering, retry } = &config.way else { return };
    let spec = SubscriptionSpec {
        name: config.service.to_string(),
        service: config.service.clone(),
        patterns: topics.clone(),
        ordering: *ordering,
        retry: retry.clone(),
        concurrency: 1,
        start: StartAt::Now,
        own_events: false,
        may_publish: false,
    };
    let (give, chunks) = mpsc::channel(CHUNKS);
    let outward = Outward {
        name: config.name.clone(),
        to: to.clone().with_environment(|name| std::env::var(name).ok()),
        key_header: config.key_header.clone(),
        clock: Arc::clone(&inner.clock),
    };
    let driver = Arc::clone(&inner.driver);
    let tell = move |work| match work {
        Work::Done(report) => driver.report(report),
        Work::Lost(chunk) => driver.lost(chunk.sub, chunk.id),
    };
    tasks.spawn(outward.run(chunks, tell, Arc::clone(link), phase.clone()));
    if let Err(error) = attach(inner, &spec, &give) {
        link.waiting(&format!("its subscription could not be made: {error}"));
        tasks.spawn(attach_later(Arc::clone(inner), spec, give, phase.clone()));
    }
}

fn attach(inner: &Inner, spec: &SubscriptionSpec, give: &mpsc::Sender<Chunk>) -> Result<(), EngineError> {
    let (sub, state) = inner.patiently(|| inner.engine.subscribe(PARTITION, inner.epoch(), spec))?;
    let executor = Arc::new(BridgeExecutor(give.clone()));
    let target = Target { spec: spec.clone(), executor, metrics: Arc::new(Metrics::new()), grants: Vec::new() };
    let head = *inner.driver.head.borrow();
    inner.driver.inbox.push(Event::Attach { sub, target: Box::new(target), state, head });
    Ok(())
}

async fn attach_later(
    inner: Arc<Inner>,
    spec: SubscriptionSpec,
    give: mpsc::Sender<Chunk>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            _ = phase.wait_for(|phase| *phase > Phase::Run) => return,
        }
        match attach(&inner, &spec, &give) {
            Ok(()) => return tracing::info!(subscription = spec.name, "the subscription of the bridge is made"),
            Err(error) => tracing::debug!(subscription = spec.name, %error, "still no subscription"),
        }
    }
}
