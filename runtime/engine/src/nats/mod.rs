//! The engine of `nats:`: the journal is in NATS JetStream.
//!
//! Role: what [`Broker`](crate::shared::broker::Broker) asks for, on a JetStream server. The modules: `url` (where), `remote`
//! (what is asked of the server), `lease` (whose the bus is), `snapshot` (the state beside the journal), `between` (what nodes
//! ask one another), `facts` (what the server says of itself).

mod between;
mod broker;
mod client;
mod facts;
mod lease;
mod remote;
mod snapshot;
mod url;

use std::sync::Arc;

use busway_types::{Clock, Limits};

use self::broker::JetStream;
pub use self::client::nats_connect;
use self::remote::{Streams, connect};
pub use self::url::{InvalidNatsUrl, NatsUrl};
use crate::shared::{Broker, Opening, SharedEngine};
use crate::{EngineError, Fact};

/// The engine of `nats:`.
#[derive(Clone, Copy, Debug)]
pub struct Nats;

impl Nats {
    /// Connects to the server, and makes or checks the streams of the bus. `node` is the name of this node, which no other one
    /// has. To be called on a thread that is no task's.
    pub fn open(
        url: NatsUrl,
        node: String,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<SharedEngine, EngineError> {
        SharedEngine::open(Opening { node, clock, limits }, "busway-nats", async {
            let client = connect(&url).await?;
            let streams = Streams::open(&url, client).await?;
            Ok(Arc::new(JetStream::new(url, streams)) as Arc<dyn Broker>)
        })
    }

    /// What the server says of itself and of the bus; nothing is made or changed. To be called on a thread that is no task's.
    pub fn facts(url: &NatsUrl) -> Result<Vec<Fact>, EngineError> {
        facts::ask(url)
    }
}
