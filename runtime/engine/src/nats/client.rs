//! Connecting to NATS for whoever is no bus: any server, of any age.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};

use super::remote::{ASK_FOR, connect_with};
use super::url::NatsUrl;
use crate::EngineError;
use crate::shared::pause;

/// How long the first connection may take.
const CONNECT_FOR: Duration = Duration::from_secs(5);

/// Connects; `name` is what the server shows of the connection, `seen` hears what happens to it. A connection that is lost
/// mends itself. `held` messages of a subscription are kept for whoever reads them; what comes beyond that is dropped.
pub async fn nats_connect(
    url: &NatsUrl,
    name: &str,
    held: usize,
    seen: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, EngineError> {
    let options = ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_FOR)
        .request_timeout(Some(ASK_FOR))
        .subscription_capacity(held)
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            seen(event);
            std::future::ready(())
        });
    connect_with(options, url).await
}
