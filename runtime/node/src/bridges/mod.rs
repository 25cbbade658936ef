//! Bridges: links between the bus and queues of brokers, as `[bridges.NAME]` says.
//!
//! Role: gives `busway-bridge` what it has to know of this node: the publisher for what comes in, and for what goes out a
//! subscription `bridge.NAME`, whose chunks a task takes instead of a lane. They run where services run: on an engine that
//! several nodes share on the node that owns the bus.
//!
//! Invariants: the subscriptions exist before any handler of this node runs, so that no reply is missed; nothing comes in
//! before every service of the app is there. When the node drains, what is in flight outward is sent or given back, and
//! nothing more comes in.

mod inward;
mod outward;

use std::sync::{Arc, OnceLock};

use busway_bridge::{Link, Phase};
use busway_gateway::api::{BridgeDirection, BridgeStatus};
use busway_types::{Pattern, ServiceName, Topic};
use tokio::sync::watch;

use crate::inner::{Inner, Stop};
use crate::manifest::{BridgeConfig, Way};
use crate::task_set::TaskSet;

/// A bridge that runs.
struct Bridge {
    config: BridgeConfig,
    link: Arc<Link>,
}

/// The bridges of the node; empty until they are started.
#[derive(Default)]
pub(crate) struct Bridges(OnceLock<Vec<Bridge>>);

/// The bridges of an app that are about to start.
pub(crate) struct Staged {
    bridges: Vec<(BridgeConfig, Arc<Link>)>,
    phase: watch::Receiver<Phase>,
}

impl Bridges {
    fn all(&self) -> &[Bridge] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Whether a subscription belongs to a bridge.
    pub(crate) fn has(&self, service: &ServiceName) -> bool {
        self.all().iter().any(|bridge| bridge.config.service == *service)
    }

    /// What a bridge gives out, by what it is called where services have their name.
    pub(crate) fn patterns(&self, service: &ServiceName) -> Option<Vec<Pattern>> {
        let bridge = self.all().iter().find(|bridge| bridge.config.service == *service)?;
        match &bridge.config.way {
            Way::Out { topics, .. } => Some(topics.clone()),
            Way::In { .. } => None,
        }
    }

    /// How many give a topic out.
    pub(crate) fn subscribers(&self, topic: &Topic) -> usize {
        let selects = |bridge: &&Bridge| match &bridge.config.way {
            Way::Out { topics, .. } => topics.iter().any(|pattern| pattern.matches(topic)),
            Way::In { .. } => false,
        };
        self.all().iter().filter(selects).count()
    }

    /// What `status` says of each.
    pub(crate) fn status(&self) -> Vec<BridgeStatus> {
        let status = |bridge: &Bridge| {
            let (figures, (from, to)) = (bridge.link.figures(), bridge.config.sides());
            BridgeStatus {
                name: bridge.config.name.clone(),
                direction: match bridge.config.way {
                    Way::In { .. } => BridgeDirection::In,
                    Way::Out { .. } => BridgeDirection::Out,
                },
                from,
                to,
                state: figures.state.as_str().to_owned(),
                reason: figures.reason,
                copied: figures.copied,
                retried: figures.retried,
                refused: figures.refused,
            }
        };
        self.all().iter().map(status).collect()
    }
}

/// Makes the subscriptions of the bridges and has them work. Nothing comes in yet.
pub(crate) fn stage<'a>(
    inner: &Arc<Inner>,
    tasks: &TaskSet,
    bridges: impl Iterator<Item = &'a BridgeConfig>,
) -> Staged {
    let bridges: Vec<(BridgeConfig, Arc<Link>)> =
        bridges.map(|config| (config.clone(), Arc::new(Link::new(&config.name)))).collect();
    let running = bridges.iter().map(|(config, link)| Bridge { config: config.clone(), link: Arc::clone(link) });
    // Once, when the services of the node are started.
    let _ = inner.bridges.0.set(running.collect());
    let (tell, phase) = watch::channel(Phase::Run);
    let staged = Staged { bridges, phase };
    if staged.bridges.is_empty() {
        return staged;
    }
    tasks.spawn(follow(inner.stop.subscribe(), tell));
    for (config, link) in &staged.bridges {
        outward::start(inner, tasks, config, link, &staged.phase);
    }
    staged
}

impl Staged {
    /// Lets messages in.
    pub(crate) fn open(self, inner: &Arc<Inner>, tasks: &TaskSet) {
        for (config, link) in self.bridges {
            inward::start(inner, tasks, config, link, self.phase.clone());
        }
    }
}

/// Tells the bridges how far the node is on its way to the end.
async fn follow(mut stop: watch::Receiver<Stop>, tell: watch::Sender<Phase>) {
    for (stopping, phase) in [(Stop::Drain, Phase::Drain), (Stop::Now, Phase::End)] {
        let _ = stop.wait_for(|stop| *stop >= stopping).await;
        tell.send_replace(phase);
    }
}
