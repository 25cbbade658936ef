//! What a server says of itself and of a bus, for `busway engine show`. Nothing is made and nothing is changed.

use super::between::{Owner, who};
use super::broker::words;
use super::link::Link;
use super::names::Names;
use super::url::AmqpUrl;
use crate::EngineError;
use crate::shared::{Fact, Trouble};

/// Asks a server. To be called on a thread that is no task's.
pub(super) fn ask(url: &AmqpUrl) -> Result<Vec<Fact>, EngineError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| EngineError::Refused(format!("no threads for the network: {error}")))?;
    let facts = runtime.block_on(found(url));
    runtime.shutdown_background();
    facts
}

async fn found(url: &AmqpUrl) -> Result<Vec<Fact>, EngineError> {
    let link = Link::new(url.server.clone(), format!("busway {}", url.name), false);
    let connection = link.connection().await.map_err(|error| EngineError::Refused(error.to_string()))?;
    let settings = connection.configuration();
    let mut facts = vec![
        ("server", format!("{}, virtual host `{}`", url.server, connection.status().vhost())),
        ("longest frame", format!("{} bytes", settings.frame_max())),
        ("signs of life", format!("every {} s", settings.heartbeat())),
    ];
    let names = Names::new(&url.name);
    let refused = |trouble: Trouble| {
        EngineError::Refused(format!("the queues of the bus at {url} cannot be looked at: {}", words(&trouble)))
    };
    if !link.exists(&names.snapshots()).await.map_err(refused)? {
        facts.push(("bus", format!("`{}` is not there yet; the first node makes it", url.name)));
        return Ok(facts);
    }
    let owner = match who(&link, &names).await.map_err(refused)? {
        Owner::Nobody => "nobody owns it now".to_owned(),
        Owner::Somebody(name) if name.is_empty() => "a node that does not answer owns it".to_owned(),
        Owner::Somebody(name) => format!("node {name} owns it"),
    };
    facts.push(("bus", format!("`{}`: {owner}", url.name)));
    Ok(facts)
}
