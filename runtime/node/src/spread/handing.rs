//! Giving the bus to a node of a newer deployment.
//!
//! Role: the owner of an older generation has its handlers finish, and gives the bus to the node that said hello with a higher
//! one; then its own time is over, and another node in its place waits for its turn.
//!
//! Bound: [`DRAIN_FOR`] for what is in flight; the rest is run again by the next owner.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::Event;
use crate::inner::Inner;

/// How long the handlers may go on.
const DRAIN_FOR: Duration = Duration::from_secs(10);
/// How long the engine may take to give the bus away.
const GIVE_FOR: Duration = Duration::from_secs(5);

/// Gives the bus to `node`.
pub(super) async fn hand_over(inner: Arc<Inner>, node: Arc<str>, generation: u32) {
    tracing::info!(%node, generation, "a newer deployment is there; this node finishes what is in flight and gives it the bus");
    inner.driver.inbox.push(Event::PauseAll);
    let quiet = async {
        while inner.driver.stats().await.values().any(|stats| stats.in_flight > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(DRAIN_FOR, quiet).await.is_err() {
        tracing::warn!("still busy after {DRAIN_FOR:?}; the next owner runs the rest again");
    }
    inner.engine.hand_over(&node);
    let mut revoked = inner.driver.revoked.subscribe();
    let given = tokio::time::timeout(GIVE_FOR, revoked.wait_for(|revoked| *revoked)).await;
    if given.is_err() {
        // It stands still, so its time is over in any case.
        inner.driver.revoked.send_replace(true);
        inner.driver.inbox.push(Event::Stop);
    }
}
