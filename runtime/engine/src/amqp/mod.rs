//! The engine of `amqp:`: the journal is in stream queues of RabbitMQ.
//!
//! Role: what [`Broker`](crate::shared::Broker) asks for, on RabbitMQ. The modules: `url` (where), `connect` and `link`
//! (connections), `envelope` (which messages of a stream count), `index` (where they are), `recent` (the newest ones), `session` (the lease and the end of the
//! journal), `snapshot` (the state beside it), `between` (what nodes send one another), `names` (of queues), `broker` (all
//! that for the engine), `facts` (what the server says of itself).

mod between;
mod broker;
mod connect;
mod envelope;
mod facts;
mod index;
mod link;
mod names;
mod recent;
mod session;
mod snapshot;
mod url;

use std::sync::Arc;

use busway_types::{Clock, Limits};

use self::broker::RabbitMq;
pub use self::connect::amqp_connect;
pub use self::url::{AmqpServer, AmqpUrl, InvalidAmqpUrl};
use crate::EngineError;
use crate::shared::{Broker, Fact, Opening, SharedEngine};

/// The engine of `amqp:`.
#[derive(Clone, Copy, Debug)]
pub struct Amqp;

impl Amqp {
    /// Connects to the server, and makes or checks what the bus has there. `node` is the name of this node, which no other one
    /// has. To be called on a thread that is no task's.
    pub fn open(
        url: AmqpUrl,
        node: String,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<SharedEngine, EngineError> {
        SharedEngine::open(Opening { node, clock, limits }, "busway-amqp", async {
            Ok(Arc::new(RabbitMq::open(url).await?) as Arc<dyn Broker>)
        })
    }

    /// What the server says of itself and of the bus; nothing is made or changed. To be called on a thread that is no task's.
    pub fn facts(url: &AmqpUrl) -> Result<Vec<Fact>, EngineError> {
        facts::ask(url)
    }
}
