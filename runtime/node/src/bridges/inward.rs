//! What comes in is published as by anybody outside: checked against the contract of its topic, held back when the bus is
//! full, and safe before the broker hears of it.

use std::sync::Arc;

use busway_bridge::{Answer, Bus, Inward, Link, NotPublished, Phase};
use busway_types::Draft;
use tokio::sync::watch;

use crate::inner::Inner;
use crate::manifest::{BridgeConfig, Way};
use crate::publisher::{PublishError, Publisher};
use crate::task_set::TaskSet;

struct NodeBus(Arc<Publisher>);

impl Bus for NodeBus {
    fn publish(&self, drafts: Vec<Draft>) -> Answer<'_, Result<(), NotPublished>> {
        Box::pin(async move { self.0.publish(drafts).await.map(drop).map_err(not_published) })
    }
}

fn not_published(error: PublishError) -> NotPublished {
    match error {
        PublishError::Overloaded(reason) => NotPublished::Later(reason),
        PublishError::Engine(error) => NotPublished::Later(error.to_string()),
        PublishError::Invalid { index, source } => NotPublished::Never { index, reason: source.to_string() },
        PublishError::Unfit { index, source } => NotPublished::Never { index, reason: source.to_string() },
        // Batches of a bridge are far smaller: what is left is one message that is too large by itself.
        error @ (PublishError::BatchTooLarge { .. } | PublishError::BatchBytes { .. }) => {
            NotPublished::Never { index: 0, reason: error.to_string() }
        }
    }
}

/// Starts a bridge that takes messages in.
pub(super) fn start(
    inner: &Arc<Inner>,
    tasks: &TaskSet,
    config: BridgeConfig,
    link: Arc<Link>,
    phase: watch::Receiver<Phase>,
) {
    let Way::In { from, topic, prefetch, deduplicate } = config.way else { return };
    let inward = Inward {
        name: config.name,
        service: config.service,
        from: from.with_environment(|name| std::env::var(name).ok()),
        topic,
        key_header: config.key_header,
        prefetch: prefetch.min(inner.limits.batch_events),
        deduplicate,
        limits: inner.limits.clone(),
    };
    let bus = Arc::new(NodeBus(Arc::clone(&inner.publisher)));
    tasks.spawn(inward.run(bus, link, phase));
}
