//! Live push over real sockets.

mod locked;
mod socketio;
mod sse;
mod websocket;

use std::time::Duration;

use busway_gateway::edge::{EdgeBackend as _, EdgeConfig, LiveConfig, RouteConfig, Target};
use busway_types::Draft;
use serde_json::Value;

use crate::client::PATIENCE;
use crate::served::Served;

/// A configuration with these bounds of live push.
fn config(live: LiveConfig) -> EdgeConfig {
    EdgeConfig { live, ..EdgeConfig::default() }
}

/// A route to a target.
fn route(path: &str, target: Target) -> RouteConfig {
    RouteConfig { target, ..crate::served::route(path, "none") }
}

/// Publishes events of one topic, as a handler would.
async fn publish(served: &Served, topic: &str, data: impl IntoIterator<Item = Value>) {
    let draft = |data: Value| Draft::new(topic.parse().expect("a topic"), data.to_string().into());
    let drafts: Vec<_> = data.into_iter().map(draft).collect();
    served.fake.publish(drafts).await.expect("published");
}

/// What a future gives in time.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Long enough for what must not come.
const A_WHILE: Duration = Duration::from_millis(200);
